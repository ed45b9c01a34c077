"""What is stored about where a run came from: git state, machine, no secret; both ends of it in one record."""

import os
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.environment import DIFF_BYTES, REDACTED, capture, git_state, redacted
from engine.events import Started
from engine.files import EventFile
from engine.hardware import Gpu, Hardware
from engine.ingest import ingest
from engine.report_environment import environment_table
from engine.spec import parse
from engine.store import runs
from engine.store.connection import open_database
from tests.engine.conftest import SECRET
from tests.helpers import Run

CARD = Gpu(0, "GPU-aa", "RTX 4090", 24.0, (8, 9))
BOX = Hardware("gpubox", (CARD,), None, "580.1", "A CPU", 16, 62.7, "13.0")
Git = Callable[..., str]


@pytest.fixture
def git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Git:
    """Git in a fresh repository with one commit, of nobody's configuration."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    repository = tmp_path / "repository"
    repository.mkdir()

    def run(*arguments: str) -> str:
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", "-C", str(repository), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    run("init", "-q", "-b", "topic")
    (repository / "code.py").write_text("x = 1\n")
    run("add", ".")
    run("commit", "-q", "-m", "first")
    monkeypatch.chdir(repository)
    return run


@pytest.mark.parametrize(
    ("text", "gone"),
    [
        (f"login({SECRET!r})", SECRET),
        ("OPENAI_API_KEY=sk-proj-abcd1234efgh5678", "abcd1234"),
        ("+aws = AKIAABCDEFGHIJKLMNOP", "AKIAABCD"),
        ("WANDB_API_KEY=0123456789abcdef0123456789abcdef01234567", "0123456789abcdef"),
        ("password: 'hunter2!!'", "hunter2"),
        ("https://me:secret@host/data", "secret"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----", "MIIE"),
    ],
)
def test_what_looks_like_a_secret_is_left_out(text: str, gone: str) -> None:
    assert gone not in redacted(text)
    assert REDACTED in redacted(text)


@pytest.mark.parametrize(
    "text",
    ["eos_token = '<|endoftext|>'", "token_id = 128009", "key = default_key_name", "task-specific-instructions-2024",
     "learning_rate: 2e-4", "sha = 0e2eadbf874e78456e16315ffe2433c1b65b6201"],
)  # fmt: skip
def test_what_is_none_stays(text: str) -> None:
    assert redacted(text) == text


def test_redaction_takes_no_time_on_a_long_line() -> None:
    for text in ("key=" + "a1" * 130_000 + ";", "eyJ" * 90_000, "key=" * 60_000):
        redacted(text)  # the time limit of the suite is the assertion: a careless pattern takes hours here


def test_a_clean_and_a_changed_repository(git: Git) -> None:
    clean = git_state(Path.cwd())
    assert clean is not None
    assert (clean["commit"], clean["branch"]) == (git("rev-parse", "HEAD"), "topic")
    assert (clean["dirty"], clean["diff"], clean["diff_cut"]) == (False, "", False)
    Path("code.py").write_text(f"x = 2\nlogin('{SECRET}')\n")
    Path("untracked.env").write_text("SECRET=1")
    below = Path("below")
    below.mkdir()
    changed = git_state(below)
    assert changed is not None
    assert (changed["root"], changed["dirty"]) == (str(Path.cwd()), True)
    assert "+x = 2" in changed["diff"]
    assert SECRET not in changed["diff"]
    assert "untracked" not in changed["diff"]


def test_a_long_diff_is_cut_and_says_so(git: Git) -> None:
    Path("code.py").write_text("y = 'é'\n" * DIFF_BYTES)
    state = git_state(Path.cwd())
    assert state is not None
    assert (state["dirty"], state["diff_cut"]) == (True, True)
    assert DIFF_BYTES - 20 < len(state["diff"].encode()) <= DIFF_BYTES
    assert state["diff"].endswith("y = 'é'")


def test_no_repository_no_commit_and_no_git(git: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert git_state(tmp_path) is None
    empty = tmp_path / "empty"
    empty.mkdir()
    subprocess.run(["git", "init", "-q", str(empty)], check=True)
    state = git_state(empty)
    assert state is not None
    assert (state["commit"], state["diff"]) == (None, "")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state(Path.cwd()) is None


def test_a_program_that_the_repository_names_is_not_run(git: Git, tmp_path: Path) -> None:
    trap = tmp_path / "trap.sh"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path / 'sprung'}\n")
    trap.chmod(0o700)
    for name in ("core.fsmonitor", "diff.external", "diff.mine.textconv", "diff.mine.command"):
        git("config", name, str(trap))
    Path(".gitattributes").write_text("*.py diff=mine\n")
    Path("code.py").write_text("x = 3\n")
    state = git_state(Path.cwd())
    assert state is not None
    assert "+x = 3" in state["diff"]
    assert not (tmp_path / "sprung").exists()


def test_capture_has_command_machine_data_and_seed(git: Git, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["tunedeck", "train", f"--token={SECRET}", "\udcff"])
    found = capture("ab" * 32, 7, BOX)
    assert found["command"] == ["tunedeck", "train", f"--token={REDACTED}", "?"]
    assert (found["data_sha256"], found["seed"], found["directory"]) == ("ab" * 32, 7, str(Path.cwd()))
    machine = found["machine"]
    assert (machine["host"], machine["driver"], machine["cuda"], machine["cores"]) == ("gpubox", "580.1", "13.0", 16)
    assert machine["cards"] == [{"index": 0, "uuid": "GPU-aa", "name": "RTX 4090", "memory_gib": 24.0}]


@pytest.fixture
def db(tmp_path: Path) -> sqlite3.Connection:
    return open_database(tmp_path / "experiments.db")


def started(db: sqlite3.Connection, tmp_path: Path, **versions: str) -> None:
    """A worker's first event, ingested."""
    tmp_path.joinpath("run").mkdir(exist_ok=True)
    log = EventFile(tmp_path / "run" / "events.jsonl")
    log.append(Started(1, 1.0, "gpubox", ["GPU-aa"], dict(versions), {}))
    log.close()
    ingest(db, "run", tmp_path / "run")


def test_what_was_captured_and_what_the_worker_says_are_one_record(db: sqlite3.Connection, tmp_path: Path) -> None:
    spec = parse({"model": {"path": "m"}, "data": {"path": "d"}, "run": {"name": "n"}})
    runs.insert(db, "run", spec, {}, "h", 1.0)
    started(db, tmp_path, torch="2.12", trl="1")
    runs.add_environment(db, "run", capture("ab", 7, BOX))
    started(db, tmp_path, torch="2.13")
    found: dict[str, Any] = runs.find(db, "run")["environment"]
    assert found["versions"] == {"torch": "2.13", "trl": "1"}
    assert (found["gpus"], found["seed"], found["machine"]["host"]) == (["GPU-aa"], 7, "gpubox")


def test_the_page_tells_it_in_a_few_lines() -> None:
    git = {
        "commit": "0e2eadbf874e7845",
        "branch": "topic",
        "dirty": True,
        "diff": "--- a\n+++ b\n-x\n+y\n",
        "diff_cut": False,
    }
    shown = environment_table(capture("ab" * 32, 7, BOX) | {"git": git, "versions": {"torch": "2.13"}})
    assert "0e2eadbf874e on topic, with 2 changed lines" in shown
    assert all(part in shown for part in ("RTX 4090 24.0 GiB", "driver 580.1, CUDA 13.0", "torch 2.13", "sha256 abab"))
    assert environment_table(None) == environment_table({}) == ""


def test_a_run_has_it_from_the_moment_it_is_created(reported_run: Run) -> None:
    found = reported_run.shown()["environment"]
    repository = Path(found["git"]["root"])
    head = subprocess.run(
        ["git", "-C", str(repository), "rev-parse", "HEAD"], check=True, capture_output=True, text=True
    )
    assert found["git"]["commit"] == head.stdout.strip()
    assert "+x = 2" in found["git"]["diff"]
    assert REDACTED in found["git"]["diff"]
    assert found["command"][1:5] == ["--db", str(reported_run.deck.database), "train", "--model"]
    assert found["versions"]["torch"].startswith("2.")
    assert found["seed"] == 42
    assert len(found["data_sha256"]) == 64
    page = reported_run.deck("show", reported_run.id).stdout
    assert "on topic, with 3 changed lines" in page
    stored = reported_run.deck.database.read_bytes() + (reported_run.directory / "environment.json").read_bytes()
    assert SECRET.encode() not in stored
