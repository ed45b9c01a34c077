"""`tunedeck judge` as a user has it: real processes, a real server, keys that are nowhere, jobs that are killed and go on."""

import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from engine import cli
from engine.after import job as jobs
from engine.judging.endpoint import KEYS, URLS
from engine.spec import parse
from engine.store import afterwards, runs
from engine.store.connection import open_database
from tests.engine.judge_server import Asked, JudgeServer, Raw, sensible, serving, verdict
from tests.engine.test_judge import evaluated
from tests.helpers import Deck, wait_for

KEY = "sk-hidden-0123456789abcdef"
SPEC = {"model": {"path": "/m"}, "data": {"path": "/d.jsonl"}, "compute": {"devices": "cpu"}, "run": {"name": "one"}}


@pytest.fixture
def judged(deck: Deck, monkeypatch: pytest.MonkeyPatch) -> Deck:
    """A deck with one finished run of the name `one`, and a key in the environment."""
    for name in (*KEYS, *URLS, "HTTP_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TUNEDECK_JUDGE_KEY", KEY)
    run_dir = deck.database.parent / "runs" / "r1"
    (run_dir / "model").mkdir(parents=True)
    (run_dir / "spec.yaml").write_text(json.dumps(SPEC))
    db = open_database(deck.database)
    runs.insert(db, "r1", parse(SPEC), {}, "here", 1.0)
    runs.set_fields(db, "r1", status="finished")
    db.close()
    return deck


@dataclass(frozen=True)
class Said:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def here(judged: Deck, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Said]:
    """A verb in this process: what needs no other one is quicker so. Nobody sits at a terminal."""
    monkeypatch.setattr("sys.stdin", io.StringIO())

    def run(*arguments: str) -> Said:
        code = cli.main(["--db", str(judged.database), *arguments])
        return Said(code, *capsys.readouterr())

    return run


def add_evaluation(deck: Deck, rows: list[dict[str, Any]]) -> str:
    """A finished evaluation, as the job leaves it."""
    job = jobs.create(deck.database, "r1", "eval", {})
    file = jobs.directory(deck.database, "r1", job) / jobs.ROWS
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    db = open_database(deck.database)
    afterwards.put_rows(db, "r1", job, rows)
    afterwards.change(db, "r1", job, status="finished")
    db.close()
    return job


def job_row(deck: Deck, job: str = "judge-1") -> dict[str, Any]:
    db = open_database(deck.database)
    try:
        return afterwards.find(db, "r1", job)
    finally:
        db.close()


def ends(deck: Deck, status: str) -> dict[str, Any]:
    log = jobs.directory(deck.database, "r1", "judge-1") / "output.log"
    wait_for(lambda: job_row(deck)["status"] == status, 60, f"{status}: {job_row(deck)} {log.read_text()}")
    return job_row(deck)


def processes(deck: Deck, word: str) -> list[psutil.Process]:
    """Of the job: its runner has --db, the process that does it --attempt."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        command = " ".join(process.info["cmdline"] or [])
        if (
            "judge-1" in command
            and str(deck.database.parent) in command
            and word in command
            and process.info["status"] != "zombie"
        ):
            found.append(process)
    return found


def holds(folder: Path, secret: str) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]


def test_from_the_verb_to_the_page_and_the_key_is_nowhere(judged: Deck) -> None:
    def echoing(asked: Asked) -> str:
        said = json.loads(sensible(asked))
        return json.dumps(
            said | {"reason": f"{said['reason']}; you sent {asked.headers['Authorization']} {KEY[:4]}\u200b{KEY[4:]}"}
        )

    add_evaluation(judged, evaluated(12, worse=(5,)))
    seen: list[str] = []
    with serving(echoing, KEY) as server:

        def look(asked: Asked) -> str:
            if asked.number == 4:
                seen.extend(" ".join(p.cmdline()) for p in processes(judged, "judge-1"))
                seen.extend("TUNEDECK_JUDGE_KEY" for p in processes(judged, "--attempt") if KEY in p.environ().values())
            return echoing(asked)

        server.judge = look
        done = judged(
            "judge", "one", "--url", server.url, "--model", "judge-1", "--price-in", "2", "--price-out", "10", "--yes"
        )
    assert done.returncode == 0, done.stderr
    assert "The judge prefers the tuned model: 11 wins, 1 loss, 0 ties" in done.stdout
    assert "row 5 (line 5)" in done.stdout
    assert "you sent Bearer [key] [key]" in done.stdout
    assert "24 calls" in done.stderr
    assert "A trial call took" in done.stderr
    assert len(server.calls) == 25  # with the trial
    assert [word for word in seen if word == "TUNEDECK_JUDGE_KEY"]  # it reached the job, and only so
    assert not [line for line in seen if KEY in line]
    assert KEY not in done.stdout + done.stderr
    assert not holds(judged.database.parent, KEY)
    row = job_row(judged)
    assert row["ask"]["keyed"] is True
    assert row["summary"]["cost"] == pytest.approx((2400 * 2 + 480 * 10) / 1e6)
    shown = judged("judge", "one", "--show")
    assert shown.stdout.strip() == done.stdout.strip()


def test_a_key_that_is_refused_is_not_repeated(judged: Deck, here: Callable[..., Said]) -> None:
    add_evaluation(judged, evaluated(2))
    with serving(sensible, "sk-another") as server:
        done = here("judge", "one", "--url", server.url, "--model", "judge-1", "--yes")
    assert done.returncode == 2
    assert "does not let us in" in done.stderr
    assert "Incorrect API key provided: Bearer [key]" in done.stderr
    assert KEY not in done.stderr
    assert not (judged.database.parent / "runs" / "r1" / "jobs" / "judge-1").exists()


def test_nobody_is_asked_without_consent(judged: Deck, here: Callable[..., Said]) -> None:
    add_evaluation(judged, evaluated(3))
    with serving(sensible) as server:
        done = here("judge", "one", "--url", server.url, "--model", "judge-1")
        assert done.returncode == 2
        assert "Say --yes" in done.stderr
        assert "6 calls" in done.stderr
        assert "tokens" in done.stderr
        assert here("judge", "one", "--url", server.url, "--json").returncode == 2
        assert not server.calls


@pytest.mark.parametrize(("said", "status"), [("n", 1), ("y", 0)])
def test_in_a_terminal_it_asks(judged: Deck, said: str, status: int) -> None:
    add_evaluation(judged, evaluated(2))
    with serving(sensible) as server:
        ours, theirs = pty.openpty()
        command = [sys.executable, "-m", "tuiapp", "--db", str(judged.database), "judge", "one", "--url", server.url]
        child = subprocess.Popen(command, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        os.close(theirs)
        os.write(ours, f"{said}\n".encode())
        text, _ = child.communicate(timeout=60)
        os.close(ours)
    assert child.returncode == status, text
    assert "Judge judge-1 at" in text  # the only model that it has
    assert "4 calls, about" in text
    assert "[y/N]" in text
    assert len(server.calls) == (5 if said == "y" else 1)


def test_what_is_missing_is_said(judged: Deck, here: Callable[..., Said], monkeypatch: pytest.MonkeyPatch) -> None:
    done = here("judge", "one", "--url", "http://127.0.0.1:9/v1", "--model", "m", "--yes")
    assert done.returncode == 2
    assert "tunedeck eval r1" in done.stderr
    add_evaluation(judged, evaluated(1))
    assert "TUNEDECK_JUDGE_URL" in here("judge", "one", "--yes").stderr
    done = here("judge", "one", "--url", f"http://me:{KEY}@host/v1", "--model", "m", "--yes")
    assert (done.returncode, KEY in done.stderr) == (2, False)
    assert "TUNEDECK_JUDGE_KEY" in done.stderr
    monkeypatch.setenv("TUNEDECK_JUDGE_URL", "http://127.0.0.1:9/v1")  # nobody listens at the port `discard`
    done = here("judge", "one", "--model", "m", "--yes")
    assert "Nobody answers at the judge's address" in done.stderr
    assert not (judged.database.parent / "runs" / "r1" / "jobs" / "judge-1").exists()
    assert "no finished" in here("judge", "one", "--show").stderr


def test_one_that_is_killed_goes_on_and_asks_no_row_twice(judged: Deck, monkeypatch: pytest.MonkeyPatch) -> None:
    add_evaluation(judged, evaluated(6))
    held = threading.Event()
    with serving(sensible, KEY) as server:

        def hold(asked: Asked) -> str:
            if asked.number >= 8:  # the trial, then three rows
                held.wait(60)
            return sensible(asked)

        server.judge = hold
        started = judged.json("judge", "one", "--url", server.url, "--yes", "--detach", "--concurrency", "1")
        assert started["job"] == "judge-1"
        wait_for(lambda: len(server.calls) >= 8, 30, "the fourth row")
        for process in processes(judged, "--attempt"):
            process.send_signal(signal.SIGKILL)
        ends(judged, "crashed")
        held.set()
        asked = [call.parts["question"] for call in server.calls[1:]]
        server.calls.clear()
        server.judge = sensible
        monkeypatch.delenv("TUNEDECK_JUDGE_KEY")
        refused = judged("jobs", "one", "--resume", "judge-1")
        assert refused.returncode == 1
        assert "Keys are not stored" in refused.stderr
        assert not server.calls
        monkeypatch.setenv("TUNEDECK_JUDGE_KEY", KEY)
        assert judged("jobs", "one", "--resume", "judge-1").returncode == 0
        again = [call.parts["question"] for call in server.calls]
    assert set(asked[:6]).isdisjoint(again)
    assert set(asked) | set(again) == {f"Say {i}" for i in range(1, 7)}
    assert len(again) == 6
    summary = job_row(judged)["summary"]
    assert (summary["wins"], summary["rows"], summary["calls"]) == (6, 6, 12)
    assert not holds(judged.database.parent, KEY)


def test_one_is_stopped_while_the_endpoint_hangs(judged: Deck) -> None:
    add_evaluation(judged, evaluated(6))
    with serving(sensible) as server:
        server.judge = lambda asked: sensible(asked) if asked.number < 4 else Raw(waits=True)
        judged.json("judge", "one", "--url", server.url, "--yes", "--detach", "--concurrency", "2")
        wait_for(lambda: len(server.calls) >= 5, 30, "calls that hang")
        assert judged("jobs", "one", "--stop", "judge-1").returncode == 0
        ends(judged, "stopped")
        server.judge = sensible
        assert judged("jobs", "one", "--resume", "judge-1").returncode == 0
    assert job_row(judged)["summary"]["wins"] == 6


def test_an_endpoint_that_goes_down_is_said(judged: Deck) -> None:
    add_evaluation(judged, evaluated(3))
    with serving(
        lambda asked: sensible(asked) if asked.number == 1 else Raw(401, f'{{"error": "{KEY} expired"}}')
    ) as server:
        done = judged("judge", "one", "--url", server.url, "--yes")
    assert done.returncode == 1
    assert "[key] expired" in done.stderr
    assert "--resume judge-1" in done.stderr
    assert KEY not in done.stderr
    assert not holds(judged.database.parent, KEY)


def test_a_judge_that_fails_the_trial_is_warned_of(judged: Deck) -> None:
    add_evaluation(judged, evaluated(2))
    with serving(lambda _: verdict("B")) as server:
        done = judged("judge", "one", "--url", server.url, "--yes", "--json")
    assert done.returncode == 0
    assert "its verdict was WRONG" in done.stderr
    document = json.loads(done.stdout)
    assert document["summary"]["disagreed"] == 2
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/v1", document["ask"]["url"])


def test_the_server_of_these_tests_masks_nothing() -> None:
    with serving(sensible, KEY) as server:
        assert isinstance(server, JudgeServer)
        assert server.key == KEY
