"""What a person changes of runs: cleaned, undone, and, when it is gone, gone everywhere and nowhere else."""

import fcntl
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import RunError
from engine.store import changes, fields, metrics, plans, query, runs
from engine.store.connection import open_database
from tests.engine.stored import NOW, add, database

KILLED = """
import os, signal, sys
from pathlib import Path
from engine.store import changes
from engine.store.connection import open_database
setattr(changes, sys.argv[2], lambda *_: os.kill(os.getpid(), signal.SIGKILL))
changes.purge(open_database(Path(sys.argv[1])), Path(sys.argv[1]), ["gone"])
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "experiments.db"


@pytest.fixture
def db(path: Path) -> Iterator[sqlite3.Connection]:
    connection = database(path)
    yield connection
    connection.close()


def directory(path: Path, run_id: str, size: int = 100_000) -> Path:
    """A run's directory with a checkpoint of so many bytes."""
    place = path.parent / "runs" / run_id
    (place / "checkpoints" / "checkpoint-1").mkdir(parents=True)
    (place / "checkpoints" / "checkpoint-1" / "weights").write_bytes(os.urandom(size))
    (place / "spec.yaml").write_text("run: {}\n")
    (place / "output.log").write_text("hello\n")
    return place


def test_names_tags_and_notes_come_out_clean(db: sqlite3.Connection) -> None:
    add(db, "run", name="old name", tags=["old"], note="old note")
    assert changes.rename(db, "run", "  \x1b[31mred\x1b[0m\n world‮ ") == "old name"
    assert changes.set_note(db, "run", "\x1b]0;title\x07one\r\ntwo\x00\n\n") == "old note"
    assert changes.set_tags(db, "run", ["a\x1b[2J", "two  words", "a", "ü"]) == ["old"]
    row = runs.find(db, "run")
    assert (row["name"], row["note"], row["tags"]) == ("red world", "one\ntwo", ["a", "two words", "ü"])
    assert query.select(db, "text:ü red") == ["run"]  # the full-text search knows at once


def test_tags_are_added_and_removed_whatever_their_case(db: sqlite3.Connection) -> None:
    add(db, "run", tags=["Keep", "x"])
    assert changes.change_tags(db, "run", ["keep", "new", "new"], []) == ["Keep", "x", "new"]
    assert changes.change_tags(db, "run", [], ["X", "nowhere"]) == ["Keep", "new"]
    assert changes.change_tags(db, "run", ["b"], ["KEEP"]) == ["new", "b"]
    assert runs.find(db, "run")["tags"] == ["new", "b"]


def test_what_is_no_name_tag_or_note_changes_nothing(db: sqlite3.Connection) -> None:
    add(db, "run", name="mine", tags=["t"], note="n")
    add(db, "other", name="taken")
    add(db, "binned", name="in the bin", deleted_at=NOW)
    for name in ("", " \n", "\x1b[31m", "x" * 201, "taken"):
        with pytest.raises(RunError):
            changes.rename(db, "run", name)
    for tag in ("", "\x00", "x" * 61):
        with pytest.raises(RunError):
            changes.change_tags(db, "run", ["good", tag], [])
    with pytest.raises(RunError):
        changes.set_note(db, "run", "x" * 20_001)
    row = runs.find(db, "run")
    assert (row["name"], row["tags"], row["note"]) == ("mine", ["t"], "n")
    changes.rename(db, "run", "in the bin")  # nobody sees that one
    changes.rename(db, "run", "in the bin")
    with pytest.raises(RunError, match="no such run"):
        changes.rename(db, "ru", "beginnings of ids are for people")


def test_stars_and_the_archive_go_on_and_off(db: sqlite3.Connection) -> None:
    add(db, "run")
    changes.star(db, "run", True)
    changes.archive(db, "run", True)
    assert query.select(db, "is:starred is:archived") == ["run"]
    assert query.select(db) == []
    changes.star(db, "run", False)
    changes.archive(db, "run", False)
    assert query.select(db, "-is:starred") == ["run"]


def test_what_is_in_the_bin_is_nowhere_else_and_comes_back_whole(db: sqlite3.Connection) -> None:
    plan = json.dumps({"memory": {"peak_gib": 1.0}})
    for run_id in ("one", "two"):
        add(db, run_id, name=f"name-{run_id}", plan=plan)
    before = [tuple(row) for row in db.execute("SELECT * FROM runs")]
    assert changes.bin(db, ["one", "one"]) == ["one"]
    assert changes.bin(db, ["one", "two"]) == ["two"]  # what an undo has to take out
    assert changes.binned(db) == ["two", "one"]
    assert runs.listing(db, archived=True) == plans.history(db) == []
    for name in ("one", "on", "name-one"):
        with pytest.raises(RunError, match="in the bin") as raised:
            runs.find(db, name)
        assert "tunedeck undelete one" in raised.value.hint
        assert runs.find(db, name, True)["id"] == runs.find(db, name, None)["id"] == "one"
    assert runs.one(db, "one")["name"] == "name-one"
    changes.unbin(db, ["one", "two"])
    assert [tuple(row) for row in db.execute("SELECT * FROM runs")] == before
    assert [past.run_id for past in plans.history(db)] == ["two", "one"]
    with pytest.raises(RunError, match="not in the bin"):
        runs.find(db, "one", True)


def test_a_name_means_the_run_that_is_not_in_the_bin(db: sqlite3.Connection) -> None:
    add(db, "old", name="same", deleted_at=NOW)
    add(db, "new", name="same")
    assert runs.find(db, "same")["id"] == "new"
    assert runs.find(db, "same", True)["id"] == "old"
    with pytest.raises(RunError, match="several"):
        runs.find(db, "same", None)


@pytest.mark.parametrize("status", runs.ACTIVE)
def test_a_run_at_work_is_neither_binned_nor_purged(db: sqlite3.Connection, path: Path, status: str) -> None:
    add(db, "idle")
    add(db, "busy", status=status)
    place = directory(path, "busy")
    for change in (lambda ids: changes.bin(db, ids), lambda ids: changes.purge(db, path, ids)):
        with pytest.raises(RunError, match="not over") as raised:
            change(["idle", "busy"])
        assert "tunedeck stop busy" in raised.value.hint
    assert sorted(query.select(db)) == ["busy", "idle"]
    assert (place / "spec.yaml").exists()


def test_a_run_whose_supervisor_lives_is_not_purged(db: sqlite3.Connection, path: Path) -> None:
    add(db, "run")
    place = directory(path, "run")
    with (place / "supervisor.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(RunError, match="still at work"):
            changes.purge(db, path, ["run"])
    assert query.select(db) == ["run"]
    assert not (place / changes.PURGE).exists()
    changes.purge(db, path, ["run"])
    assert not place.exists()


def fill(db: sqlite3.Connection, run_id: str) -> None:
    """A row of this run in every table that has a column for it, a long curve with its sketch, and words to search for."""
    add(db, run_id, {"a.b": 1, f"only.{run_id}": 2}, tags=["t"])
    metrics.add(db, run_id, "loss", [(step, 1, NOW, 1.0) for step in range(metrics.SKETCHED)])
    metrics.add(db, run_id, f"metric_{run_id}", [(1, 1, NOW, 1.0)])
    db.execute("INSERT INTO search_texts (run_id, part, text) VALUES (?, 'log', 'words of the log')", (run_id,))
    for table in tables(db) - {"series", "search_texts", "params", "latest"}:
        columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
        values = [run_id if column == "run_id" else 1 for column in columns]
        db.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(columns))})", values)


def tables(db: sqlite3.Connection) -> set[str]:
    """Those whose rows belong to runs."""
    names = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    return {name for name in names if any(row[1] == "run_id" for row in db.execute(f"PRAGMA table_info({name})"))}


def counts(db: sqlite3.Connection) -> dict[str, int]:
    return {name: db.execute(f"SELECT count(*) FROM {name}").fetchone()[0]
            for name in (*tables(db), "runs", "points", "sketch", "search_texts", "search_names")}  # fmt: skip


def test_a_purge_leaves_nothing_of_the_run_and_all_of_the_others(db: sqlite3.Connection, path: Path) -> None:
    fill(db, "stays")
    kept = directory(path, "stays")
    before = counts(db)
    assert min(before.values()) > 0, before
    fill(db, "gone")
    place = directory(path, "gone", 500_000)
    assert counts(db) != before
    assert "metric_gone" in fields.names(db)
    size = changes.disk(path, "gone")
    assert 500_000 <= size < 600_000
    assert changes.purge(db, path, ["gone"]) == size
    assert counts(db) == before
    assert not place.exists()
    assert (kept / "checkpoints" / "checkpoint-1" / "weights").stat().st_size == 100_000
    assert query.select(db, "text:words") == query.select(db, "text:t") == ["stays"]
    assert not {"metric_gone", "only.gone"} & set(fields.names(db))
    db.execute("INSERT INTO search (search, rank) VALUES ('integrity-check', 1)")  # raises if the index has other words


def test_the_disk_counts_a_file_once_and_nothing_elsewhere(path: Path, tmp_path: Path) -> None:
    place = directory(path, "run", 400_000)
    before = changes.disk(path, "run")
    os.link(place / "checkpoints" / "checkpoint-1" / "weights", place / "again")
    (tmp_path / "elsewhere").write_bytes(os.urandom(900_000))
    (place / "link").symlink_to(tmp_path / "elsewhere")
    assert before <= changes.disk(path, "run") < before + 50_000
    assert changes.disk(path, "nowhere") == 0


def test_a_purge_follows_no_link(db: sqlite3.Connection, path: Path, tmp_path: Path) -> None:
    add(db, "run")
    place = directory(path, "run")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "data").write_text("precious")
    (place / "mine").symlink_to(tmp_path / "mine")
    changes.purge(db, path, ["run"])
    assert not place.exists()
    assert (tmp_path / "mine" / "data").read_text() == "precious"


def test_a_run_without_a_directory_is_purged_too(db: sqlite3.Connection, path: Path) -> None:
    add(db, "run")
    assert changes.purge(db, path, ["run"]) == 0
    assert query.select(db) == []


def test_who_uses_a_run_is_said_and_whose_files_are_read_is_refused(db: sqlite3.Connection, path: Path) -> None:
    add(db, "base", name="base")
    add(db, "fork", name="fork", parent_id="base")
    add(db, "reader", {"model.path": f"{path.parent}/runs/base/model"}, name="reader")
    add(db, "near", {"model.path": f"{path.parent}/runs/base2/model", "run.note": "runs/ base"})
    place = directory(path, "base")
    assert changes.uses(db, ["base"]) == [
        changes.Use("fork", "fork", "base"), changes.Use("reader", "reader", "base", "model.path")]  # fmt: skip
    with pytest.raises(RunError, match="needs its files") as raised:
        changes.purge(db, path, ["base"])
    assert "reader" in raised.value.message
    assert place.exists()
    assert changes.uses(db, ["base", "reader", "fork"]) == []
    changes.purge(db, path, ["base", "reader"])
    assert runs.find(db, "fork")["parent_id"] == "base"  # that is how it was
    assert sorted(query.select(db)) == ["fork", "near"]


def test_anyway_is_anyway(db: sqlite3.Connection, path: Path) -> None:
    add(db, "base")
    add(db, "reader", {"data.path": json.dumps([{"path": f"{path.parent}/runs/base/rows.jsonl"}])})
    changes.purge(db, path, ["base"], anyway=True)
    assert query.select(db) == ["reader"]


@pytest.mark.parametrize(("at", "left"), [("_forget", True), ("_remove", False)])
def test_a_purge_that_is_killed_has_done_all_or_nothing_and_is_finished_later(
    db: sqlite3.Connection, path: Path, at: str, left: bool
) -> None:
    """Killed before the rows are gone the run is there with its files; killed after, the next purge removes these."""
    fill(db, "gone")
    add(db, "stays")
    place, kept = directory(path, "gone"), directory(path, "stays")
    db.close()
    killed = subprocess.run([sys.executable, "-c", KILLED, str(path), at], check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    db = open_database(path)
    assert (place / "checkpoints" / "checkpoint-1" / "weights").exists()
    assert bool(db.execute("SELECT count(*) FROM points").fetchone()[0]) == left
    assert sorted(query.select(db)) == (["gone", "stays"] if left else ["stays"])
    changes.finish(db, path)
    assert place.exists() == left
    assert not (place / changes.PURGE).exists()
    assert kept.exists()
    db.close()


def test_a_directory_that_cannot_be_removed_is_tried_again(
    db: sqlite3.Connection, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(db, "run")
    place = directory(path, "run")

    def full(_: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    with monkeypatch.context() as patch:
        patch.setattr(changes.shutil, "rmtree", full)  # type: ignore[attr-defined]
        with pytest.raises(changes.SpaceError, match="could not be removed"):
            changes.purge(db, path, ["run"])
    assert query.select(db) == []
    assert place.exists()
    assert not (place / "spec.yaml").exists()  # nobody takes it for a run
    changes.purge(db, path, [])
    assert not place.exists()
