"""Logs in the full-text search: taken in when a run ends, or later for older runs; clean and without secrets."""

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import events as ev
from engine.files import EventFile
from engine.ingest import ingest
from engine.store import changes, query, searching
from tests.engine.stored import add, database

SECRET = "hf_" + "aB3" * 11


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "experiments.db"


@pytest.fixture
def db(path: Path) -> Iterator[sqlite3.Connection]:
    connection = database(path)
    yield connection
    connection.close()


def logged(path: Path, run_id: str, text: str) -> Path:
    """A run's directory with this log."""
    place = path.parent / "runs" / run_id
    place.mkdir(parents=True, exist_ok=True)
    (place / "output.log").write_text(text)
    return place


def ends(place: Path, status: str = "failed") -> None:
    """The supervisor's last word."""
    log = EventFile(place / "supervisor.jsonl", 1)
    log.append(ev.Exit(status, "it ended", 1))
    log.close()


def kept(db: sqlite3.Connection, run_id: str) -> list[str]:
    return [row[0] for row in db.execute("SELECT text FROM search_texts WHERE run_id = ? AND part = 'log'", (run_id,))]


def test_the_log_of_a_run_is_searched_once_it_has_ended(db: sqlite3.Connection, path: Path) -> None:
    add(db, "run", status="running")
    place = logged(path, "run", "loading\rloaded\n\x1b[31mCUDA error\x1b[0m: device-side assert\n")
    (place / "events.jsonl").write_text("")
    log = EventFile(place / "supervisor.jsonl", 1)
    log.append(ev.Notice("note", "still at work"))
    log.close()
    ingest(db, "run", place)
    assert kept(db, "run") == []
    ends(place)
    ingest(db, "run", place)
    assert kept(db, "run") == ["loaded\nCUDA error: device-side assert"]
    assert query.select(db, 'log:"device side ass" status:failed') == ["run"]
    assert query.select(db, "log:loading") == []
    assert query.select(db, "log:ended") == []  # that is the reason, not the log
    assert query.select(db, "text:ended") == ["run"]


def test_a_run_that_went_on_is_searched_by_its_newest_words(db: sqlite3.Connection, path: Path) -> None:
    add(db, "run", status="running")
    place = logged(path, "run", "first words\n")
    ends(place)
    ingest(db, "run", place)
    with (place / "output.log").open("a") as file:
        file.write("second words\n" * 5000)
    ends(place)
    ingest(db, "run", place)
    assert query.select(db, "log:second") == ["run"]
    assert query.select(db, "log:first") == []  # more than the last 32 KiB ago
    assert len(kept(db, "run")[0]) <= searching.LOG_BYTES


def test_no_secret_is_kept(db: sqlite3.Connection, path: Path) -> None:
    add(db, "run", status="running")
    place = logged(path, "run", f"logged in with {SECRET}\npassword = 'correcthorsebattery'\n")
    ends(place)
    ingest(db, "run", place)
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert "logged in with [redacted]" in kept(db, "run")[0]
    for secret in (SECRET, "correcthorsebattery"):
        assert secret.encode() not in path.read_bytes()


def test_older_runs_are_taken_in_when_somebody_searches(db: sqlite3.Connection, path: Path) -> None:
    for i in range(searching.AT_ONCE + 5):
        add(db, f"run{i}", created_at=float(i))
        logged(path, f"run{i}", f"word{i}x common\n")
    add(db, "alone")  # without a directory
    add(db, "busy", status="running")
    logged(path, "busy", "common\n")
    assert searching.unread(db) == searching.AT_ONCE + 6
    assert searching.catch_up(db, 0) == searching.AT_ONCE + 6  # no time, nothing done
    assert query.select(db, "log:word3x") == ["run3"]
    assert len(query.select(db, "log:common")) == searching.AT_ONCE + 5
    assert searching.unread(db) == 0


def test_a_database_that_cannot_be_written_is_searched_as_it_is(db: sqlite3.Connection, path: Path) -> None:
    add(db, "run")
    logged(path, "run", "common\n")
    with pytest.MonkeyPatch.context() as patch:  # the tests may run as root, who can write everything
        patch.setattr(os, "access", lambda *_: False)
        assert query.select(db, "log:common") == []
    assert query.select(db, "log:common") == ["run"]


def test_a_purged_run_is_not_taken_in_again(db: sqlite3.Connection, path: Path) -> None:
    add(db, "run")
    place = logged(path, "run", "common\n")
    changes.purge(db, path, ["run"])
    searching.keep_log(db, "run", place)
    assert kept(db, "run") == []
