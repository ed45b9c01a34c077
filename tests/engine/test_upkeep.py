"""A copy of the database, whether it is in order, its room given back, and a copy before it is migrated."""

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import sqlite_utils
from sqlite_utils.migrations import Migrations

from engine import checkup, cli
from engine.errors import SpaceError, StoreError
from engine.holders import holders
from engine.spec import parse, to_yaml
from engine.store import changes, connection, copies, metrics, migrations, runs, upkeep
from engine.store.connection import Following, open_database, transaction
from engine.store.migrations import MIGRATIONS, VERSION

SPEC = parse({"model": {"path": "m"}, "data": {"path": "d"}, "run": {"name": "n", "tags": ["keep"]}})
WRITER = """
import sys
from pathlib import Path
from engine.store import metrics
from engine.store.connection import open_database, transaction
db = open_database(Path(sys.argv[1]), create=False)
print("ready", flush=True)
for step in range(100_000):
    with transaction(db):
        metrics.add(db, "w", "loss", [(step, 1, 1.0, float(step))])
        metrics.add(db, "w", "other", [(step, 1, 1.0, float(step))])
"""
OPENER = """
import sys
from pathlib import Path
from engine.store.connection import open_database
print("ready", flush=True)
sys.stdin.readline()
said = []
open_database(Path(sys.argv[1]), say=said.append).execute("SELECT count(*) FROM runs").fetchone()
print(len(said))
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "experiments.db"


def fill(path: Path, count: int = 3, points: int = 40, directories: bool = True) -> sqlite3.Connection:
    """A database with runs r0, r1, ... and two curves each."""
    db = open_database(path)
    for i in range(count):
        runs.insert(db, f"r{i}", SPEC, None, "here", 1000.0 + i)
        runs.set_fields(db, f"r{i}", status="finished", ended_at=2000.0)
        with transaction(db):
            metrics.add(db, f"r{i}", "loss", [(n, 1, float(n), 3.0 - n / points) for n in range(points)])
            metrics.add(db, f"r{i}", "accuracy", [(n, 1, float(n), n / points) for n in range(points)])
        if directories:
            folder = path.parent / "runs" / f"r{i}"
            folder.mkdir(parents=True)
            (folder / "spec.yaml").write_text(to_yaml(SPEC))
    return db


def verb(path: Path, *words: str) -> int:
    return cli.main(["--db", str(path), "db", *words])


def document(path: Path, capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> Any:
    capsys.readouterr()
    assert verb(path, *words, "--json") == code
    return json.loads(capsys.readouterr().out)


class TestBackup:
    def test_it_is_private_whole_and_beside_the_database(self, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        db = fill(path)
        told = document(path, capsys, "backup")
        made = Path(told["file"])
        assert made.parent == path.parent
        assert made.name == time.strftime("experiments.db.backup-%Y-%m-%d")
        assert (made.stat().st_mode & 0o777, made.stat().st_size) == (0o600, told["bytes"])
        assert told["runs"] == 3
        with contextlib.closing(sqlite3.connect(f"file:{made}?mode=ro&immutable=1", uri=True)) as copy:
            assert copy.execute("PRAGMA journal_mode").fetchone()[0] == "delete"  # one file alone, to be read anywhere
            assert list(copy.iterdump()) == list(db.iterdump())
        assert not list(path.parent.glob(".*"))

    def test_each_has_a_name_of_its_own(self, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        fill(path).close()
        assert len({document(path, capsys, "backup")["file"] for _ in range(3)}) == 3

    def test_it_writes_over_nothing_unless_told(self, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        fill(path).close()
        target = path.parent / "copy.db"
        target.write_text("mine")
        assert verb(path, "backup", str(target)) == 2
        assert "--force" in capsys.readouterr().err
        assert target.read_text() == "mine"
        assert verb(path, "backup", str(target), "--force") == 0
        assert open_database(target, create=False).execute("SELECT count(*) FROM runs").fetchone()[0] == 3

    def test_never_over_the_database_itself(self, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        fill(path).close()
        before = path.read_bytes()
        assert verb(path, "backup", str(path), "--force") == 2
        assert "database itself" in capsys.readouterr().err
        assert path.read_bytes() == before

    def test_while_a_run_writes(self, path: Path, tmp_path: Path) -> None:
        """Each copy is of one moment: two curves that are written in one transaction are equally long in it."""
        db = fill(path)
        with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True) as writer:
            try:
                assert writer.stdout is not None
                assert writer.stdout.readline() == "ready\n"
                lengths = []
                while len(lengths) < 5:
                    copies.copy(db, tmp_path / f"{len(lengths)}.db")
                    with contextlib.closing(sqlite3.connect(tmp_path / f"{len(lengths)}.db")) as copy:
                        one, two = (copy.execute("SELECT count(*) FROM metrics WHERE run_id = 'w' AND key = ?", (key,))
                                    .fetchone()[0] for key in ("loss", "other"))  # fmt: skip
                        assert one == two
                        assert copy.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
                        lengths.append(one)
                assert lengths == sorted(lengths)
                assert lengths[-1] > lengths[0]
            finally:
                writer.kill()

    def test_no_room(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        db = fill(path)
        monkeypatch.setattr(copies, "ROOM", 1 << 60)
        with pytest.raises(SpaceError, match="not enough disk space"):
            copies.copy(db, path.parent / "copy.db")
        assert not (path.parent / "copy.db").exists()

    def test_nowhere(self, path: Path, tmp_path: Path) -> None:
        with pytest.raises(SpaceError):
            copies.copy(fill(path), tmp_path / "none" / "copy.db")

    def test_a_damaged_one_is_not_copied_as_if_it_were_sound(self, path: Path) -> None:
        fill(path, points=2000).close()
        db = open_database(path)
        block = bytearray(path.read_bytes())
        block[4096 * 40 : 4096 * 41] = os.urandom(4096)
        path.write_bytes(block)
        with pytest.raises((StoreError, sqlite3.DatabaseError)):
            copies.copy(db, path.parent / "copy.db")
        assert [one.name for one in path.parent.iterdir() if one.name.startswith((".", "copy"))] == []


class TestCheck:
    def found(self, path: Path, full: bool = False) -> dict[str, tuple[str, str]]:
        return {one.name: (one.level, one.text) for one in checkup.check(path, full).checks}

    def test_one_in_order(self, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        db = fill(path)
        told = document(path, capsys, "check", "--full")
        assert not told["wrong"]
        assert {one["level"] for one in told["checks"]} <= {"ok", "note"}
        assert told["tables"]["points"] > 0
        assert told["bytes_per_point"] > 1
        assert (told["journal"], told["version"], told["runs"], told["points"]) == ("wal", VERSION, 3, 240)
        assert verb(path, "check") == 0
        assert "every index is sound" not in capsys.readouterr().out
        db.close()

    def test_directories_that_it_does_not_know_and_runs_without_one(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        db = fill(path)
        db.execute("DELETE FROM runs WHERE id = 'r1'")
        (path.parent / "runs" / "r2").rename(path.parent / "elsewhere")
        assert self.found(path)["directories"][0] == "note"  # it has only just been made
        monkeypatch.setattr(checkup, "GRACE", -1.0)
        levels = [(one.level, one.text) for one in checkup.check(path).checks if one.name == "directories"]
        assert [level for level, _ in levels] == ["fatal", "note"]
        assert "r1" in levels[0][1]
        assert "r2" in levels[1][1]
        assert self.found(path)["rows"] == ("note", "rows that belong to no run: 40 in params, 2 in series, 2 in latest") or (
            "in series" in self.found(path)["rows"][1])  # fmt: skip

    def test_an_imported_run_needs_no_directory(self, path: Path) -> None:
        db = fill(path, directories=False)
        db.execute("UPDATE runs SET source = 'tfevents'")
        assert self.found(path)["directories"][0] == "ok"

    def test_a_summary_that_is_not_as_its_points(self, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        db = fill(path)
        db.execute("UPDATE latest SET last = 99 WHERE run_id = 'r1' AND key = 'loss'")
        told = document(path, capsys, "check", code=1)
        assert told["wrong"]
        assert "loss of r1" in self.found(path)["summaries"][1]

    @pytest.mark.parametrize("change", ["step = step + 1", "min = 2.9", "max = 0.0", "min = NULL, max = NULL"])
    def test_whatever_of_it_is_wrong(self, path: Path, change: str) -> None:
        db = fill(path)
        db.execute(f"UPDATE latest SET {change} WHERE run_id = 'r1' AND key = 'loss'")
        assert upkeep.wrong_summaries(db, True) == (6, [("r1", "loss")])

    def test_values_that_are_no_numbers(self, path: Path) -> None:
        db = fill(path)
        with transaction(db):
            metrics.add(db, "r0", "odd", [(1, 1, 0.0, float("nan")), (2, 1, 0.0, float("-inf"))])
            metrics.add(db, "r0", "again", [(1, 1, 0.0, 5.0), (2, 1, 0.0, 4.0)])
            metrics.add(db, "r0", "again", [(1, 2, 0.0, 3.0)])
        assert upkeep.wrong_summaries(db, True) == (8, [])

    def test_a_view_that_is_gone(self, path: Path) -> None:
        fill(path).execute("DROP VIEW metrics")
        with contextlib.closing(open_database(path)) as db:
            assert "view metrics" in upkeep.missing(db)
        assert "view metrics" in self.found(path)["schema"][1]

    def test_a_search_that_does_not_agree(self, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        db = fill(path)
        db.execute("DROP TRIGGER search_text_changed")
        db.execute("UPDATE search_texts SET text = 'other'")
        db.execute("""CREATE TRIGGER search_text_changed AFTER UPDATE ON search_texts BEGIN SELECT 1; END""")
        assert self.found(path)["search"][0] == "fatal"
        assert verb(path, "check") == 1
        assert "tunedeck db rebuild" in capsys.readouterr().out

    def test_who_has_it_open(self, path: Path) -> None:
        fill(path)  # this process does not count itself
        assert holders(path) == []
        command = [
            sys.executable,
            "-c",
            "import sys; f = open(sys.argv[1]); print('ready', flush=True); sys.stdin.read()",
            str(path),
        ]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == "ready\n"
            assert [one.pid for one in holders(path)] == [other.pid]
            assert str(other.pid) in self.found(path)["open in"][1]
        assert holders(path / "none") == []

    def test_gaps_and_copies_are_told(self, path: Path) -> None:
        db = fill(path, points=30_000)
        db.execute("DELETE FROM points")
        db.execute("UPDATE latest SET last = NULL")
        copies.copy(db, copies.free_name(path, "backup-2026-01-01"))
        found = self.found(path)
        assert "are not used" in found["gaps"][1]
        assert "experiments.db.backup-2026-01-01" in found["copies"][1]


class TestVacuum:
    def test_bytes_before_and_after(self, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        db = fill(path, points=20_000)
        db.execute("DELETE FROM points")
        db.close()
        told = document(path, capsys, "vacuum")
        assert told["done"]
        assert told["all_given_back"]
        assert told["after"] < told["before"] / 2
        assert told["after"] == path.stat().st_size

    def test_it_needs_room_and_says_so_before(
        self, path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fill(path).close()
        monkeypatch.setattr(copies, "ROOM", 1 << 60)
        before = path.read_bytes()
        assert verb(path, "vacuum") == 2
        assert "not enough disk space" in capsys.readouterr().err
        assert path.read_bytes() == before

    def test_what_is_old_goes_only_when_told(self, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        db, now = fill(path), time.time()
        rows = [(f"r{i}", moment) for i in range(3) for moment in (now - 100 * 86400, now - 10)]
        db.executemany("INSERT INTO gpu_samples (run_id, time, gpu) VALUES (?, ?, 0)", rows)
        runs.set_fields(db, "r2", status="running")  # what a run at work has stays
        changes.bin(db, ["r0", "r1"])
        runs.set_fields(db, "r0", deleted_at=now - 40 * 86400)
        for _ in range(2):
            told = document(path, capsys, "vacuum", "--gpu-samples-older", "90d", "--bin-older", "4w")
            assert not told["done"]
            assert (told["gpu_samples"]["rows"], told["bin"]["runs"]) == (2, ["r0"])
            assert told["bin"]["bytes"] > 0
        assert (path.parent / "runs" / "r0").exists()
        assert document(path, capsys, "vacuum", "--gpu-samples-older", "90d", "--bin-older", "4w", "--yes")["done"]
        assert not (path.parent / "runs" / "r0").exists()
        left = db.execute("SELECT run_id, count(*) FROM gpu_samples GROUP BY run_id").fetchall()
        assert [tuple(row) for row in left] == [("r1", 1), ("r2", 2)]
        assert sorted(upkeep.ids(db)) == ["r1", "r2"]

    def test_rows_of_no_run_go(self, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        db = fill(path)
        db.execute("DELETE FROM runs WHERE id = 'r1'")
        document(path, capsys, "vacuum")
        assert upkeep.strays(db) == {}
        assert db.execute("SELECT count(*) FROM points").fetchone()[0] == 160
        assert db.execute("SELECT count(*) FROM metrics WHERE run_id = 'r0'").fetchone()[0] == 80

    @pytest.mark.parametrize(
        ("text", "days"), [("90d", 90), ("12h", 0.5), ("2w", 14), ("1y", 365), ("3", 3), ("1.5d", 1.5)]
    )
    def test_ages(self, text: str, days: float) -> None:
        from engine.cli_db import age

        assert age(text) == days * 86400

    def test_no_age(self, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            verb(path, "vacuum", "--bin-older", "soon")
        assert "is no age" in capsys.readouterr().err


@pytest.fixture(params=range(1, VERSION))
def old(request: pytest.FixtureRequest, path: Path) -> int:
    """The database in an older schema, with a run."""
    version: int = request.param
    make_old(path, version)
    return version


def make_old(path: Path, version: int) -> None:
    path.parent.mkdir(parents=True)
    db = sqlite_utils.Database(sqlite3.connect(path))
    steps = Migrations("tunedeck")
    for name, function in MIGRATIONS[:version]:
        steps(name=name)(function)
    steps.apply(db)
    db.execute(f"PRAGMA user_version = {version}")
    db.execute(
        "INSERT INTO runs (id, name, project, status, created_at, spec) VALUES ('r', 'mine', 'p', 'finished', 1.0, '{}')"
    )
    db.execute(
        "INSERT INTO series VALUES (1, 'r', 'loss')"
        if version < 3
        else "INSERT INTO series (id, run_id, key) VALUES (1, 'r', 'loss')"
    )
    db.execute("INSERT INTO points VALUES (1, 1, 1, 1.0, 2.5)")
    db.conn.commit()
    db.conn.close()


class TestOlder:
    def test_it_is_copied_then_brought_up_to_date_and_that_is_said_once(self, path: Path, old: int) -> None:
        before, said = path.read_bytes(), list[str]()
        for _ in range(2):
            db = open_database(path, say=said.append)
            assert db.execute("PRAGMA user_version").fetchone()[0] == VERSION
            assert db.execute("SELECT value FROM metrics WHERE run_id = 'r'").fetchone()["value"] == 2.5
            assert upkeep.missing(db) == []
            db.close()
        kept = path.with_name(f"experiments.db.v{old}-backup")
        assert [one.name for one in path.parent.glob("*backup*")] == [kept.name]
        assert kept.stat().st_mode & 0o777 == 0o600
        assert len(said) == 1
        assert kept.name in said[0]
        with contextlib.closing(sqlite3.connect(kept)) as copy:
            assert copy.execute("PRAGMA user_version").fetchone()[0] == old
            assert copy.execute("SELECT name FROM runs").fetchall() == [("mine",)]
        path.write_bytes(before)
        assert open_database(kept).execute("PRAGMA user_version").fetchone()[0] == VERSION  # it can be used itself

    def test_without_runs_there_is_nothing_to_keep(self, path: Path) -> None:
        make_old(path, 1)
        with contextlib.closing(sqlite3.connect(path)) as db:
            db.execute("DELETE FROM runs")
            db.commit()
        open_database(path).close()
        assert [one.name for one in path.parent.iterdir()] == ["experiments.db"]

    def test_without_room_for_the_copy_nothing_is_changed(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        make_old(path, 1)
        before = path.read_bytes()
        monkeypatch.setattr(copies, "ROOM", 1 << 60)
        with pytest.raises(SpaceError, match="not changed without a copy") as caught:
            open_database(path)
        assert "Make room" in caught.value.hint
        with contextlib.closing(sqlite3.connect(path)) as db:
            assert db.execute("PRAGMA user_version").fetchone()[0] == 1
        monkeypatch.undo()
        assert len(before) <= path.stat().st_size
        open_database(path).close()
        assert path.with_name("experiments.db.v1-backup").exists()

    def test_a_disk_that_is_full_in_the_middle_leaves_it_as_it_was(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        make_old(path, 1)

        def fill_up(db: sqlite3.Connection) -> None:
            db.execute(f"PRAGMA max_page_count = {db.execute('PRAGMA page_count').fetchone()[0]}")
            db.execute("CREATE TABLE large AS SELECT zeroblob(100000) AS x")

        monkeypatch.setattr(connection, "migrate", fill_up)
        for _ in range(2):
            with pytest.raises(SpaceError, match="full"):
                open_database(path)
        assert not list(path.parent.glob("*backup*"))  # or each try would leave one
        monkeypatch.undo()
        assert open_database(path).execute("SELECT name FROM runs").fetchone()["name"] == "mine"

    def test_a_step_that_fails_is_not_half_done_and_the_copy_stays(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        make_old(path, 1)

        def failing(db: Any) -> None:
            db.execute("ALTER TABLE runs ADD COLUMN half")
            db.execute("no SQL")

        monkeypatch.setattr(migrations, "MIGRATIONS", [*MIGRATIONS[:-1], ("failing", failing)])
        for _ in range(3):
            with pytest.raises(StoreError):
                open_database(path)
        with contextlib.closing(sqlite3.connect(path)) as db:
            assert "half" not in [row[1] for row in db.execute("PRAGMA table_info(runs)")]
        assert [one.name for one in path.parent.glob("*backup*")] == ["experiments.db.v1-backup"]

    def test_one_copy_when_several_open_it_at_once(self, path: Path) -> None:
        make_old(path, 1)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        processes = [subprocess.Popen([sys.executable, "-c", OPENER, str(path)], text=True, **pipes) for _ in range(3)]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        outs = []
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        for process in processes:
            out, error = process.communicate(timeout=60)
            assert error == ""
            outs.append(int(out))
        assert sorted(outs) == [0, 0, 1]
        assert len(list(path.parent.glob("*backup*"))) == 1

    def test_a_name_that_is_taken_is_left_alone(self, path: Path) -> None:
        make_old(path, 1)
        path.with_name("experiments.db.v1-backup").write_text("mine")
        open_database(path).close()
        assert path.with_name("experiments.db.v1-backup").read_text() == "mine"
        assert path.with_name("experiments.db.v1-backup-2").exists()

    def test_a_newer_one_is_refused(self, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        fill(path).execute(f"PRAGMA user_version = {VERSION + 1}")
        for words in (["check"], ["backup"], ["rebuild"], ["vacuum"]):
            assert verb(path, *words) == 2
            assert "newer version" in capsys.readouterr().err

    def test_the_steps_in_between(self, path: Path) -> None:
        """A new database can be made in an older schema, to take in what such a one had."""
        path.parent.mkdir()
        db = sqlite3.connect(path)
        migrations.migrate(db, 2)
        assert db.execute("PRAGMA user_version").fetchone()[0] == 2
        migrations.migrate(db)
        assert db.execute("PRAGMA user_version").fetchone()[0] == VERSION
        assert upkeep.missing(db) == []


class TestFollowing:
    def test_it_goes_to_the_database_that_lies_there_now(self, path: Path) -> None:
        fill(path, 1).close()
        db = Following(path)
        first = db.get()
        assert db.get() is first
        fill(path.with_name("other.db"), 2, directories=False).close()
        path.with_name("other.db").replace(path)
        assert db.get().execute("SELECT count(*) FROM runs").fetchone()[0] == 2
        path.unlink()
        with pytest.raises(StoreError):
            db.get()


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (1023, "1,023 B"), (1024, "1.0 KiB"), (5 << 20, "5.0 MiB"), (3 << 30, "3.0 GiB")]
)
def test_sizes_for_people(size: int, text: str) -> None:
    assert copies.mib(size) == text
