"""A finished run that several test files look at: it costs a quarter of a minute."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from engine.trackers import MODULES
from tests.helpers import Deck, Run, kill_everything

SECRET = "hf_" + "aB3" * 11
"""Stands in the working directory's changes when the run is started, and must be nowhere afterwards."""


@pytest.fixture(scope="session")
def reported_run(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Six steps of LoRA on 60 Alpaca rows, 4 held out, reported to every tracker installed, begun in a git repository."""
    place = tmp_path_factory.mktemp("reported")
    home, repository = place / "home", place / "repository"
    home.mkdir()
    _repository(repository)
    rows = place / "rows.jsonl"
    lines = [{"instruction": f"Say {i}", "output": f"{i} it is, and {i * 7} comes later."} for i in range(64)]
    rows.write_text("".join(json.dumps(line) + "\n" for line in lines))
    sets = ["run.name=reported", "run.project=tests", "method.kind=lora", "training.max_steps=6", "training.micro_batch=4",
            "training.learning_rate=1e-3", "data.validation=4", "evaluation.every=3", f"report_to={list(trackers())}"]  # fmt: skip
    deck = Deck(home / "experiments.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNEDECK_LOCKS", str(place / "locks"))
        patch.delenv("WANDB_API_KEY", raising=False)
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        flags = [part for one in sets for part in ("--set", one)]
        done = deck("train", "--model", str(tiny_model), "--data", str(rows), *flags, "--json", cwd=repository)
    assert done.returncode == 0, done.stderr + done.stdout
    yield Run(deck, json.loads(done.stdout)["id"])
    kill_everything(home)


def trackers() -> tuple[str, ...]:
    """Those that are installed; tensorboard and trackio are for the tests."""
    return tuple(name for name, modules in MODULES.items() if any(map(find_spec, modules)))


def _repository(path: Path) -> None:
    """A repository with a commit on the branch `topic` and a change after it."""
    path.mkdir()
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", "-C", str(path)]
    for command in (["init", "-q", "-b", "topic"], ["add", "."], ["commit", "-q", "-m", "first"]):
        (path / "code.py").write_text("x = 1\n")
        subprocess.run([*git, *command], check=True, capture_output=True)
    (path / "code.py").write_text(f"x = 2\nlogin('{SECRET}')\n")


@pytest.fixture(scope="session")
def old_runs(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What TRL, TensorBoard and Trackio leave behind (tests.old_runs), made in a process of its own."""
    place = tmp_path_factory.mktemp("old")
    command = [sys.executable, "-m", "tests.old_runs", str(place), str(tiny_model)]
    made = subprocess.run(command, cwd=Path(__file__).parent.parent.parent, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr[-3000:]
    return place
