"""Opening a database: made, brought up to date, refused, or only read."""

import contextlib
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import sqlite_utils
from sqlite_utils.migrations import Migrations

from engine.errors import SpaceError, StoreError
from engine.store import records
from engine.store.connection import open_database, transaction
from engine.store.migrations import MIGRATIONS, VERSION

# From DESIGN.md, literally; where it names a table only, the columns are ours to choose
DESIGN = {
    "runs": "id, name, project, status, method, model, dataset, created_at, started_at, ended_at, exit_code, exit_reason, spec, plan,"
    " environment, parent_id, host, pid, tags, note, archived",
    "params": "run_id, path, value",
    "metrics": "run_id, key, step, time, value",
    "latest": "run_id, key, step, last, min, max, best",
    "gpu_samples": "run_id, time, gpu, memory_used, utilization, power, temperature",
    "events": "run_id, seq, time, type, level, text, data",
    "checkpoints": "run_id",
    "evaluations": "run_id",
    "samples": "run_id",
    "artifacts": "run_id",
}
MIGRATE = """
import sys
from pathlib import Path
import sqlite_utils.migrations
from engine.store.connection import open_database
print("ready", flush=True)
sys.stdin.readline()
open_database(Path(sys.argv[1])).execute("SELECT count(*) FROM runs").fetchone()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "experiments.db"


def read_only(path: Path, monkeypatch: pytest.MonkeyPatch) -> sqlite3.Connection:
    """Open as who may only read the place (root may write anywhere, so the answer is given here)."""
    monkeypatch.setattr("engine.store.connection.writable", lambda _: False)
    return open_database(path)


class TestNew:
    def test_it_is_private_and_in_wal_mode(self, path: Path) -> None:
        before = os.umask(0)
        try:
            db = open_database(path)
        finally:
            os.umask(before)
        with transaction(db):
            db.execute("INSERT INTO params VALUES ('r', 'p', 'v')")
        modes = {p.name: p.stat().st_mode & 0o777 for p in path.parent.iterdir()}
        assert modes == dict.fromkeys(("experiments.db", "experiments.db-wal", "experiments.db-shm"), 0o600)
        assert path.parent.stat().st_mode & 0o777 == 0o700
        assert db.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
        assert db.execute("PRAGMA synchronous").fetchone()[0] == 1
        assert db.execute("PRAGMA busy_timeout").fetchone()[0] == 10_000
        assert db.execute("PRAGMA user_version").fetchone()[0] == VERSION
        db.close()

    @pytest.mark.parametrize("table", DESIGN)
    def test_the_tables_and_columns_of_the_contract(self, table: str, path: Path) -> None:
        found = {row["name"] for row in open_database(path).execute(f"PRAGMA table_xinfo({table})")}
        assert set(DESIGN[table].split(", ")) <= found

    def test_not_unless_wanted(self, path: Path) -> None:
        with pytest.raises(StoreError, match="no database yet"):
            open_database(path, create=False)
        assert not path.parent.exists()

    def test_where_it_cannot_be(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(SpaceError):
            open_database(tmp_path / "file" / "experiments.db")
        with pytest.raises(SpaceError):
            open_database(tmp_path)

    def test_opened_again_it_is_the_same(self, path: Path) -> None:
        first = open_database(path)
        first.execute("INSERT INTO params VALUES ('r', 'p', 'v')")
        first.close()
        again = open_database(path, create=False)
        assert again.execute("SELECT value FROM params").fetchone()["value"] == "v"

    def test_processes_that_migrate_at_once(self, path: Path) -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        processes = [subprocess.Popen([sys.executable, "-c", MIGRATE, str(path)], text=True, **pipes) for _ in range(3)]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        assert [(p.communicate(timeout=60)[1], p.returncode) for p in processes] == [("", 0)] * 3
        assert open_database(path, create=False).execute("PRAGMA user_version").fetchone()[0] == VERSION


class TestRefused:
    def foreign(self, path: Path, *statements: str) -> bytes:
        path.parent.mkdir()
        db = sqlite3.connect(path)
        for statement in statements:
            db.execute(statement)
        db.commit()
        db.close()
        return path.read_bytes()

    def refused(self, path: Path, words: str) -> None:
        before = path.read_bytes()
        with pytest.raises(StoreError, match=words):
            open_database(path)
        assert path.read_bytes() == before
        assert [p.name for p in path.parent.iterdir()] == [path.name]

    def test_a_newer_version(self, path: Path) -> None:
        self.foreign(path, "CREATE TABLE runs (id)", f"PRAGMA user_version = {VERSION + 1}")
        self.refused(path, "newer version")

    def test_another_programs_database(self, path: Path) -> None:
        self.foreign(path, "CREATE TABLE bookmarks (url)")
        self.refused(path, "another program")

    def test_another_programs_database_with_a_version_of_its_own(self, path: Path) -> None:
        self.foreign(path, "CREATE TABLE bookmarks (url)", f"PRAGMA user_version = {VERSION}")
        self.refused(path, "another program")

    def test_no_database(self, path: Path) -> None:
        path.parent.mkdir()
        path.write_text("name,loss\n" * 200)
        self.refused(path, "not a database")

    def test_a_damaged_one(self, path: Path) -> None:
        whole = self.foreign(path, "CREATE TABLE t (x)")
        path.write_bytes(whole[:100] + b"\xff" * (len(whole) - 100))
        self.refused(path, "malformed")


class TestReadOnly:
    def test_it_is_read_and_nothing_is_left_beside_it(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        db = open_database(path)
        db.execute("INSERT INTO params VALUES ('r', 'p', 'v')")
        db.close()
        before = path.read_bytes()
        db = read_only(path, monkeypatch)
        assert [row["value"] for row in db.execute("SELECT value FROM params")] == ["v"]
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            db.execute("DELETE FROM params")
        assert [p.name for p in path.parent.iterdir()] == [path.name]
        assert path.read_bytes() == before

    def test_odd_characters_in_the_path(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "a #?%20 b" / "é.db"
        open_database(path).close()
        assert read_only(path, monkeypatch).execute("SELECT count(*) FROM runs").fetchone()[0] == 0

    def test_an_older_version_is_refused(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path.parent.mkdir()
        path.touch()
        with pytest.raises(StoreError, match="older version"):
            read_only(path, monkeypatch)
        assert path.read_bytes() == b""

    def test_what_a_running_run_has_written_is_seen(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        writer = open_database(path)
        writer.execute("INSERT INTO params VALUES ('r', 'p', 'v')")
        assert read_only(path, monkeypatch).execute("SELECT count(*) FROM params").fetchone()[0] == 1

    def test_one_that_cannot_even_be_read(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(StoreError):
            read_only(tmp_path, monkeypatch)


def test_a_transaction_is_all_or_nothing(path: Path) -> None:
    db = open_database(path)
    with contextlib.suppress(KeyboardInterrupt), transaction(db):
        db.execute("INSERT INTO params VALUES ('r', 'p', 'v')")
        raise KeyboardInterrupt
    assert db.execute("SELECT count(*) FROM params").fetchone()[0] == 0
    assert not db.in_transaction


def test_a_database_from_before_the_throttling_was_noted(path: Path) -> None:
    """What it had stays, and what is noted from now on has a place."""
    first = MIGRATIONS[0][1]
    path.parent.mkdir(parents=True)
    old = sqlite_utils.Database(sqlite3.connect(path))
    steps = Migrations("tunedeck")
    steps(name=MIGRATIONS[0][0])(first)
    steps.apply(old)
    old.execute("INSERT INTO gpu_samples VALUES ('r', 1.0, 0, 19.5, 98.0, 402.0, 71.0)")
    old.execute("PRAGMA user_version = 1")
    old.conn.commit()
    old.conn.close()
    db = open_database(path)
    records.add_gpu_samples(db, "r", 2.0, [{"gpu": 0, "memory_used": 19.6, "throttle": "thermal"}])
    rows = db.execute("SELECT time, memory_used, throttle FROM gpu_samples ORDER BY time").fetchall()
    assert [tuple(row) for row in rows] == [(1.0, 19.5, None), (2.0, 19.6, "thermal")]
