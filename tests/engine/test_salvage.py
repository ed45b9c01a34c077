"""Databases that are really broken: what can be had of them, and a new one made of it."""

import contextlib
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import cli, rebuild
from engine.errors import SpaceError, StoreError
from engine.events import Exit, Metric, Progress, Started
from engine.files import EventFile
from engine.ingest import ingest
from engine.spec import parse, to_yaml
from engine.store import changes, copies, metrics, pages, refill, runs, salvage
from engine.store.connection import open_database, transaction
from engine.store.mending import LOST, mended
from engine.store.salvage import Broken, Sound, source
from tests.engine.test_upkeep import make_old

PAGE = 4096
POINTS = 3000
LONG = "x" * 20_000
"""A note that takes several pages."""
HOLDER = """
import sys, time
from pathlib import Path
from engine.events import Metric
from engine.files import EventFile
from engine.ingest import ingest
from engine.store.connection import Following
run_dir, path = Path(sys.argv[1]), Path(sys.argv[2])
file, db = EventFile(run_dir / "events.jsonl"), Following(path)
print("ready", flush=True)
for step in range(1, 100_000):
    file.append(Metric(step, {"loss": float(step)}))
    ingest(db.get(), run_dir.name, run_dir)
    print(step, flush=True)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "experiments.db"


def spec(name: str) -> Any:
    return parse(
        {"model": {"path": "m"}, "data": {"path": "d"}, "run": {"name": name}, "method": {"kind": "lora", "rank": 8}}
    )


def trained(path: Path, run_id: str, steps: int = 20) -> None:
    """A run as training leaves it: its directory, and what it says in the database."""
    folder = path.parent / "runs" / run_id
    folder.mkdir(parents=True)
    (folder / "spec.yaml").write_text(to_yaml(spec(run_id)))
    (folder / "plan.json").write_text('{"memory": {"peak_gib": 1.0}}')
    file = EventFile(folder / "events.jsonl")
    file.append(Started(1, 1.0, "there", [], {"torch": "2"}))
    for step in range(1, steps + 1):
        file.append(Metric(step, {"loss": 3.0 - step / steps, "eval_loss": 1.0 + 1 / step}))
    file.append(Progress(steps, steps, 1.0))
    file.close()
    file = EventFile(folder / "supervisor.jsonl")
    file.append(Exit("finished", "finished", 0))
    file.close()
    with contextlib.closing(open_database(path)) as db:
        runs.insert(db, run_id, spec(run_id), {"memory": {"peak_gib": 1.0}}, "there", 1000.0)
        ingest(db, run_id, folder)


def imported(path: Path, run_id: str, points: int = POINTS) -> None:
    """A run of which there is nothing but what the database has."""
    with contextlib.closing(open_database(path)) as db:
        runs.insert(db, run_id, spec(run_id), None, "there", 2000.0)
        runs.set_fields(db, run_id, status="finished", source="tfevents", note=f"{run_id} {LONG}")
        with transaction(db):
            metrics.add(db, run_id, "loss", [(n, 1, float(n), 1 / (n + 1)) for n in range(points)])
            metrics.add(
                db,
                run_id,
                "grad_norm",
                [(n, 1, float(n), float("nan") if n % 7 == 0 else float(n)) for n in range(points)],
            )


@pytest.fixture
def whole(path: Path) -> Path:
    """A database with three trained and three imported runs, with what a person has done to them, in one file."""
    for i in range(3):
        trained(path, f"t{i}")
        imported(path, f"i{i}")
    with contextlib.closing(open_database(path)) as db:
        changes.rename(db, "t1", "my best")
        changes.set_tags(db, "t1", ["keep", "ü"])
        changes.set_note(db, "t0", "a note")
        changes.star(db, "t2", True)
        changes.archive(db, "t0", True)
        changes.bin(db, ["i2"])
        db.execute("INSERT INTO sweeps (id, name, status, created_at, plan) VALUES ('s1', 'lr', 'finished', 1.0, '{}')")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path


TABLES = ("runs", "params", "metrics", "latest", "sketch", "events", "sweeps", "progress", "search_texts")


def content(path: Path) -> dict[str, Any]:
    """Everything that a person can see of a database."""
    with contextlib.closing(open_database(path, create=False)) as db:
        found = {}
        for table in TABLES:
            columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})") if row[1] not in ("id", "series")]
            columns += ["id"] if table == "runs" else []
            if table == "sketch":
                found[table] = sorted(
                    tuple(row)
                    for row in db.execute(
                        "SELECT run_id, key, step, value FROM sketch JOIN series ON series.id = series"
                    )
                )
            elif table == "search_texts":  # logs are taken in when somebody searches
                texts = db.execute("SELECT run_id, text FROM search_texts WHERE part = 'run'")
                found[table] = sorted(tuple(row) for row in texts)
            else:
                found[table] = sorted(
                    (tuple(row) for row in db.execute(f"SELECT {', '.join(columns)} FROM {table}")), key=repr
                )
        return found


def damage(path: Path, *numbers: int, seed: int = 0) -> None:
    """Pages overwritten with noise, counted from 1."""
    block, dice = bytearray(path.read_bytes()), random.Random(seed)
    for number in numbers:
        block[(number - 1) * PAGE : number * PAGE] = dice.randbytes(PAGE)
    path.write_bytes(block)


def roots(path: Path) -> dict[str, int]:
    with contextlib.closing(sqlite3.connect(path)) as db:
        return dict(db.execute("SELECT name, rootpage FROM sqlite_master WHERE rootpage > 1"))


class TestPages:
    @given(st.integers(-(2**63), 2**63 - 1))
    def test_varints(self, number: int) -> None:
        value = number & (2**64 - 1)
        if value >> 56:
            tail = [(value >> 8 >> 7 * i & 0x7F) | 0x80 for i in range(7, -1, -1)]
            data = bytes([*tail, value & 0xFF])
        else:
            groups = [value >> 7 * i & 0x7F for i in range(8)]
            count = max([i for i, group in enumerate(groups) if group], default=0) + 1
            data = bytes([groups[i] | (0x80 if i else 0) for i in range(count - 1, -1, -1)])
        assert pages.varint(data, 0) == (number, len(data))

    @given(st.binary(max_size=200))
    def test_noise_is_no_row_or_one_to_the_byte(self, noise: bytes) -> None:
        with contextlib.suppress(ValueError):
            assert isinstance(pages.values(noise), tuple)

    def test_every_kind_of_value(self, tmp_path: Path) -> None:
        found = [0, 1, -1, 127, -128, 32767, -8388608, 2**31, -(2**47), 2**62, -(2**63), 0.0, 1.5, -2.25e300, "", "ü\0x", b"", b"\xff" * 9,
                 None, "y" * 5000, LONG * 3]  # fmt: skip
        with contextlib.closing(sqlite3.connect(tmp_path / "x.db")) as db:
            db.execute("CREATE TABLE t (a, b)")
            db.executemany("INSERT INTO t VALUES (?, ?)", [(value, i) for i, value in enumerate(found)])
            db.commit()
        one = pages.Pages(tmp_path / "x.db")
        tree = pages.Tree(one)
        rows = [pages.values(payload) for number in tree.pages_with_rows(2) for _, payload in tree.cells_on(number)]
        assert [row[0] for row in rows] == found
        assert tree.broken == 0
        one.close()

    def test_what_the_log_has_is_newer(self, path: Path) -> None:
        db = open_database(path)
        db.execute("PRAGMA wal_autocheckpoint = 0")
        db.executemany("INSERT INTO params VALUES ('r', ?, 'v')", [(f"p{i}",) for i in range(500)])
        with transaction(db):
            db.execute("DELETE FROM params WHERE path > 'p5'")
        copy = path.with_name("copy.db")
        shutil.copy(path, copy)
        shutil.copy(f"{path}-wal", f"{copy}-wal")
        found = Broken(copy, "")
        assert found.count("params") == db.execute("SELECT count(*) FROM params").fetchone()[0] > 100
        found.close()


class TestWhole:
    def test_page_by_page_it_is_what_sql_says(self, whole: Path) -> None:
        sound, raw = source(whole), Broken(whole, "")
        assert isinstance(sound, Sound)
        for table in sound.shapes:
            assert sorted(raw.rows(table), key=repr) == sorted((tuple(row) for row in sound.rows(table)), key=repr), (
                table
            )
            assert (raw.broken.get(table, 0), raw._lost[table]) == (0, []), table
        sound.close()
        raw.close()

    def test_a_healthy_one_made_anew_is_the_same(self, whole: Path) -> None:
        before, file = content(whole), whole.read_bytes()
        prospect = rebuild.examine(whole)
        assert (prospect.state, prospect.from_files, set(prospect.from_old)) == (
            "sound",
            ("t0", "t1", "t2"),
            {"i0", "i1", "i2"},
        )
        kept = rebuild.rebuild(whole)
        assert kept is not None
        assert kept.name == time.strftime("experiments.db.broken-%Y-%m-%d")
        assert kept.read_bytes() == file
        assert content(whole) == before
        assert whole.stat().st_mode & 0o777 == 0o600
        assert sorted(one.name for one in whole.parent.iterdir()) == ["experiments.db", kept.name, "runs"]

    def test_a_missing_one_is_made_of_the_directories(self, whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
        before = content(whole)
        whole.unlink()
        assert cli.main(["--db", str(whole), "db", "rebuild"]) == 0
        assert "3 runs from their directories alone" in capsys.readouterr().out
        after = content(whole)
        with contextlib.closing(open_database(whole)) as db:
            assert runs.find(db, "t0")["plan"] == {"memory": {"peak_gib": 1.0}}
        assert after["metrics"] == [row for row in before["metrics"] if row[0].startswith("t")]
        assert after["events"] == before["events"]
        with contextlib.closing(open_database(whole)) as db:
            rows = {row["id"]: row for row in runs.listing(db)}
        assert {name: (row["status"], row["name"], row["host"]) for name, row in rows.items()} == {
            f"t{i}": ("finished", f"t{i}", "there") for i in range(3)
        }

    def test_an_empty_file_is_as_good_as_none(self, whole: Path) -> None:
        whole.write_bytes(b"")
        assert rebuild.examine(whole).state == "missing"
        assert rebuild.rebuild(whole) is not None
        assert len(content(whole)["runs"]) == 3

    def test_one_of_an_older_schema(self, path: Path) -> None:
        make_old(path, 1)
        before = path.read_bytes()
        prospect = rebuild.examine(path)
        assert prospect.from_old == ("r",)
        kept = rebuild.rebuild(path)
        assert kept is not None
        assert kept.read_bytes() == before
        assert content(path)["metrics"] == [("r", "loss", 1, 1.0, 2.5)]
        assert content(path)["latest"][0][:4] == ("r", "loss", 1, 2.5)

    def test_nothing_to_make_one_of(self, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path.parent.mkdir()
        path.write_text("name,loss\n" * 500)
        assert cli.main(["--db", str(path), "db", "rebuild"]) == 2
        assert "nothing to make a database of" in capsys.readouterr().err
        assert [one.name for one in path.parent.iterdir()] == ["experiments.db"]

    def test_another_programs_is_left_alone(self, path: Path) -> None:
        trained(path, "t0")
        path.unlink()
        with contextlib.closing(sqlite3.connect(path)) as db:
            db.execute("CREATE TABLE bookmarks (url)")
        with pytest.raises(StoreError, match="another program"):
            rebuild.examine(path)

    def test_a_directory_whose_specification_cannot_be_read_is_told(
        self, whole: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        whole.unlink()
        (whole.parent / "runs" / "t1" / "spec.yaml").write_text("model: [")
        assert cli.main(["--db", str(whole), "db", "rebuild"]) == 0
        assert "not t1" in capsys.readouterr().out
        assert len(content(whole)["runs"]) == 2

    def test_no_room_for_it(self, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        before = whole.read_bytes()
        monkeypatch.setattr(copies, "ROOM", 1 << 60)
        with pytest.raises(SpaceError):
            rebuild.rebuild(whole)
        assert whole.read_bytes() == before

    def test_only_said(self, whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
        before = whole.read_bytes()
        assert cli.main(["--db", str(whole), "db", "rebuild", "--dry-run", "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert (told["done"], told["kept"], len(told["from_old"])) == (False, None, 3)
        assert whole.read_bytes() == before

    def test_files_that_have_less_than_the_database_do_not_replace_it(self, whole: Path) -> None:
        before = content(whole)
        events = whole.parent / "runs" / "t1" / "events.jsonl"
        events.write_bytes(events.read_bytes()[:500])
        assert "t1" in rebuild.examine(whole).from_old
        rebuild.rebuild(whole)
        assert content(whole) == before


class TestDamaged:
    def saved(self, path: Path) -> dict[str, Any]:
        """The content after it was made anew."""
        rebuild.rebuild(path)
        found = content(path)
        with contextlib.closing(open_database(path)) as db:
            assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        assert cli.main(["--db", str(path), "db", "check"]) == 0
        return found

    @pytest.mark.parametrize("what", ["header", "magic", "page 1 but the header"])
    def test_the_beginning(self, whole: Path, what: str) -> None:
        before = content(whole)
        block = bytearray(whole.read_bytes())
        start, end = {"header": (0, 100), "magic": (0, 16), "page 1 but the header": (100, PAGE)}[what]
        block[start:end] = bytes(end - start)
        whole.write_bytes(block)
        assert self.saved(whole) == before  # all of it: nothing of the user's lies there

    def test_roots_of_tables(self, whole: Path) -> None:
        before = content(whole)
        found = roots(whole)
        damage(whole, found["points"], found["sketch"], found["latest"])
        raw = Broken(whole, "")
        assert len(raw._of["points"]) == 0  # nothing leads to the rows any more
        assert len(raw._lost["points"]) > 10
        raw.close()
        after = self.saved(whole)
        assert set(after["metrics"]) <= set(before["metrics"])
        assert len(after["metrics"]) > 0.98 * len(before["metrics"])  # a root has rows of its own
        assert all(after[table] == before[table] for table in ("runs", "params", "sweeps", "events", "progress"))

    def test_some_pages_of_the_points(self, whole: Path) -> None:
        before = content(whole)
        raw = Broken(whole, "")
        some = raw._of["points"][5:25:4]
        raw.close()
        damage(whole, *some)
        prospect = rebuild.examine(whole)
        assert prospect.state == "damaged"
        assert prospect.rows["points"][1] >= len(some)
        after = self.saved(whole)
        assert after["runs"] == before["runs"]
        assert set(after["metrics"]) < set(before["metrics"])
        assert len(after["metrics"]) > 0.8 * len(before["metrics"])
        assert {row[:2] for row in after["latest"]} == {row[:2] for row in before["latest"]}

    @pytest.mark.parametrize("seed", range(8))
    def test_noise_anywhere(self, whole: Path, seed: int) -> None:
        """A tenth of the pages: nothing is invented, what the directories have is all there, and the rest as far as it can be."""
        before = content(whole)
        dice = random.Random(seed)
        count = whole.stat().st_size // PAGE
        damage(whole, *dice.sample(range(1, count + 1), count // 10), seed=seed)
        after = self.saved(whole)
        assert set(after["metrics"]) <= set(before["metrics"])
        of_files = [row for row in before["metrics"] if row[0].startswith("t")]
        assert set(of_files) <= set(after["metrics"])
        assert {row[-1] for row in after["runs"]} >= {"t0", "t1", "t2"}
        assert len(after["metrics"]) > 0.5 * len(before["metrics"])

    @pytest.mark.parametrize("part", [0.9, 0.5, 0.1])
    def test_cut_short(self, whole: Path, part: float) -> None:
        before = content(whole)
        os.truncate(whole, int(whole.stat().st_size * part))
        after = self.saved(whole)
        assert {row[-1] for row in after["runs"]} >= {"t0", "t1", "t2"}
        assert set(after["metrics"]) <= set(before["metrics"])

    def test_single_bits(self, whole: Path) -> None:
        before = content(whole)
        block, dice = bytearray(whole.read_bytes()), random.Random(5)
        for _ in range(300):
            block[dice.randrange(100, len(block))] ^= 1 << dice.randrange(8)
        whole.write_bytes(block)
        with contextlib.suppress(StoreError):
            assert rebuild.examine(whole).state in ("damaged", "sound")
        rebuild.rebuild(whole)
        after = content(whole)
        assert {row[-1] for row in after["runs"]} >= {"t0", "t1", "t2"}
        assert len(after["metrics"]) > 0.5 * len(before["metrics"])

    def test_nothing_but_zeros(self, whole: Path) -> None:
        whole.write_bytes(bytes(whole.stat().st_size))
        assert len(self.saved(whole)["runs"]) == 3

    def test_a_list_of_free_pages_that_leads_in_a_circle(self, whole: Path) -> None:
        with contextlib.closing(open_database(whole)) as db:
            db.execute("DELETE FROM events")
            db.execute("DELETE FROM points WHERE series = (SELECT id FROM series WHERE run_id = 'i1' LIMIT 1)")
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        block = bytearray(whole.read_bytes())
        trunk = int.from_bytes(block[32:36], "big")
        assert trunk
        block[(trunk - 1) * PAGE : (trunk - 1) * PAGE + 4] = trunk.to_bytes(4, "big")
        whole.write_bytes(block)
        with contextlib.closing(pages.Pages(whole)) as one:
            assert trunk in pages.free_pages(one)
        self.saved(whole)

    def test_a_log_that_is_cut_off(self, whole: Path) -> None:
        """What was committed before the cut is there."""
        db = open_database(whole)
        db.execute("PRAGMA wal_autocheckpoint = 0")
        for i in range(40):
            changes.set_note(db, "t0", f"note {i}")
        copy = whole.parent.parent / "copied" / "experiments.db"
        copy.parent.mkdir()
        shutil.copy(whole, copy)
        log = Path(f"{whole}-wal").read_bytes()
        Path(f"{copy}-wal").write_bytes(log[: len(log) // 2 + 1000])
        with contextlib.closing(Broken(copy, "")) as found:
            note = refill.saved_runs(found)["t0"]["note"]
        assert 5 < int(note.removeprefix("note ")) < 39
        sound = source(copy)
        assert sound is not None
        assert refill.saved_runs(sound)["t0"]["note"] == note
        sound.close()
        db.close()

    def test_a_log_that_is_noise_is_passed_over(self, whole: Path) -> None:
        before = content(whole)
        Path(f"{whole}-wal").write_bytes(os.urandom(50_000))
        block = bytearray(whole.read_bytes())
        block[:16] = bytes(16)
        whole.write_bytes(block)
        assert self.saved(whole) == before

    def test_the_rows_of_all_runs(self, whole: Path) -> None:
        """Their names, notes, tags and specifications lie elsewhere too."""
        with contextlib.closing(open_database(whole)) as db:
            changes.set_note(db, "i1", "two\nlines")
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        before = content(whole)
        raw = Broken(whole, "")
        damage(whole, *raw._of["runs"])
        raw.close()
        after = self.saved(whole)
        assert after["metrics"] == before["metrics"]
        with contextlib.closing(open_database(whole)) as db:
            rows = {row["id"]: row for row in runs.listing(db, archived=True)}
        assert {name: row["name"] for name, row in rows.items()} == {
            "t0": "t0", "t1": "my best", "t2": "t2", "i0": "i0", "i1": "i1", "i2": "i2"}  # fmt: skip
        assert rows["i1"]["note"] == "two\nlines"
        assert rows["t1"]["tags"] == ["keep", "ü"]
        assert rows["i1"]["spec"] == spec("i1").model_dump(mode="json")
        assert rows["t0"]["status"] == "finished"
        assert "lost" in rows["i1"]["exit_reason"]

    def test_a_row_whose_end_is_lost(self, whole: Path) -> None:
        """A long note that lies on many pages, one of them broken."""
        raw = Broken(whole, "")
        tree, number = pages.Tree(raw._pages), raw._of["runs"][0]
        starts = [int.from_bytes(payload[-4:], "big") for _, payload in tree.cells_on(number)]
        assert starts
        found = refill.saved_runs(raw)
        raw.close()
        assert found["i0"]["note"].endswith(LONG)
        block = whole.read_bytes()
        middle = next(
            i for i in range(2, len(block) // PAGE) if block[(i - 1) * PAGE + 100 : i * PAGE] == b"x" * (PAGE - 100)
        )
        damage(whole, middle)
        with contextlib.closing(Broken(whole, "broken")) as raw:
            after = refill.saved_runs(raw)
        assert after.keys() == found.keys()
        assert {name: (row["name"], row["spec"]) for name, row in after.items()} == {
            name: (row["name"], row["spec"]) for name, row in found.items()}  # fmt: skip

    def test_rows_that_make_no_sense(self) -> None:
        row = {
            "id": "a",
            "name": "n",
            "project": "p",
            "created_at": 1.0,
            "archived": 0,
            "spec": "{}",
            "status": "finished",
            "tags": "[]",
            "note": "",
            "plan": None,
            "environment": "{}",
        }
        assert mended(row) == row
        assert mended(row | {"spec": "{"}) is None
        assert mended(row | {"spec": None}, {"method.rank": "8", "run.name": "7", "a.b": None, "c": "[1]"})["spec"] == (
            '{"a": {"b": null}, "c": [1], "method": {"rank": 8}, "run": {"name": 7}}')  # type: ignore[index]  # fmt: skip
        assert mended(row | {"status": "fin\0shed"}) == row | {"status": "crashed", "exit_reason": LOST}
        assert mended(row | {"tags": "{", "plan": "x"}) == row
        assert mended(row | {"tags": None, "note": None, "name": None}, None, 'x\ny\nz\n["t"]\nended') == row | {
            "tags": '["t"]', "note": "y\nz", "name": "x"}  # fmt: skip

    def test_a_table_that_is_not_there(self, whole: Path) -> None:
        with contextlib.closing(sqlite3.connect(whole)) as db:
            db.execute("DROP TABLE latest")
        before = len(content_of(whole, "metrics"))
        assert rebuild.examine(whole).state == "damaged"
        rebuild.rebuild(whole)
        assert len(content_of(whole, "metrics")) == before
        assert len(content_of(whole, "latest")) == 12


def content_of(path: Path, table: str) -> list[Any]:
    with contextlib.closing(sqlite3.connect(path)) as db:
        return db.execute(f"SELECT * FROM {table}").fetchall()


class TestWords:
    def test_a_verb_says_what_happened_and_what_to_do(self, whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
        block = bytearray(whole.read_bytes())
        block[:16] = bytes(16)
        whole.write_bytes(block)
        for words in (["runs"], ["show", "t0"], ["db", "backup"], ["db", "vacuum"]):
            assert cli.main(["--db", str(whole), *words]) == 2
            told = capsys.readouterr().err
            assert "The database is damaged" in told
            assert "tunedeck db check" in told
            assert "tunedeck db rebuild" in told

    def test_damage_that_is_met_only_later(self, whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
        damage(whole, roots(whole)["runs"])
        assert cli.main(["--db", str(whole), "runs"]) == 1
        assert "tunedeck db rebuild" in capsys.readouterr().err

    def test_check_says_what_can_be_saved(self, whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
        damage(whole, roots(whole)["points"])
        assert cli.main(["--db", str(whole), "db", "check", "--json"]) == 1
        told = json.loads(capsys.readouterr().out)
        assert told["wrong"]
        assert told["can_be_saved"]["from_files"] == ["t0", "t1", "t2"]
        assert cli.main(["--db", str(whole), "db", "check"]) == 1
        shown = capsys.readouterr().out
        assert "3 runs with everything, from their directories" in shown
        assert "3 runs from the database alone" in shown


class TestAtWork:
    def test_a_run_at_work_goes_on_into_the_new_one(self, whole: Path) -> None:
        """Its supervisor has the old one open, and sees that another lies in its place: nothing is lost, nothing twice."""
        folder = whole.parent / "runs" / "w"
        folder.mkdir()
        (folder / "spec.yaml").write_text(to_yaml(spec("w")))
        with contextlib.closing(open_database(whole)) as db:
            runs.insert(db, "w", spec("w"), None, "there", 3000.0)
        command = [sys.executable, "-c", HOLDER, str(folder), str(whole)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
            try:
                assert holder.stdout is not None
                assert holder.stdout.readline() == "ready\n"
                assert holder.stdout.readline() == "1\n"
                kept = rebuild.rebuild(whole)
                seen = int(holder.stdout.readline())
                while int(holder.stdout.readline()) < seen + 20:
                    pass
            finally:
                holder.kill()
        assert kept is not None
        with contextlib.closing(open_database(whole)) as db:
            ingest(db, "w", folder)
            steps = [step for step, _, _ in metrics.curves(db, "w", ["loss"])["loss"]]
            assert steps == list(range(1, len(steps) + 1))
            assert len(steps) > seen + 19
            assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        with contextlib.closing(open_database(kept)) as db:
            assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"

    def test_what_changes_meanwhile_is_in_the_new_one(self, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A run that is begun, and a note that is written, after the old one was read for the first time."""
        begun = rebuild._begun

        def slow(database: Path, made: Path) -> sqlite3.Connection:
            db = begun(database, made)
            trained(database, "late")
            with contextlib.closing(open_database(database)) as other:
                changes.set_note(other, "t2", "in between")
            return db

        monkeypatch.setattr(rebuild, "_begun", slow)
        rebuild.rebuild(whole)
        with contextlib.closing(open_database(whole)) as db:
            assert runs.find(db, "t2")["note"] == "in between"
            assert runs.find(db, "late")["status"] == "finished"
            assert len(metrics.curves(db, "late", ["loss"])["loss"]) == 20

    def test_a_connection_to_the_old_one_harms_the_new_one_not(self, whole: Path) -> None:
        holder = open_database(whole)
        holder.execute("SELECT count(*) FROM runs").fetchone()
        kept = rebuild.rebuild(whole)
        fresh = open_database(whole)
        changes.set_note(fresh, "t0", "new")
        changes.set_note(holder, "t0", "old")
        holder.close()  # checkpoints, and would take the log away that lies under its name
        changes.set_note(fresh, "t1", "new too")
        fresh.close()
        assert kept is not None
        for path, notes in ((whole, ["new", "new too"]), (kept, ["old", ""])):
            with contextlib.closing(open_database(path)) as db:
                assert [runs.find(db, name)["note"] for name in ("t0", "t1")] == notes
                assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"

    def test_one_that_is_deleted_while_it_is_open_leaves_a_log_that_is_not_taken_for_the_new_ones(
        self, whole: Path
    ) -> None:
        before = content(whole)
        holder = open_database(whole)
        holder.execute("PRAGMA wal_autocheckpoint = 0")
        for i in range(30):
            changes.set_note(holder, "t0", f"{i} {LONG[:9000]}")
        whole.unlink()
        assert Path(f"{whole}-wal").stat().st_size > 10 * PAGE
        assert rebuild.rebuild(whole) is None
        with contextlib.closing(open_database(whole)) as db:
            assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
            changes.set_note(db, "t1", "new")
        holder.close()
        after = content(whole)
        assert after["events"] == before["events"]
        assert len(after["runs"]) == 3


def test_the_shapes_of_every_schema_are_known() -> None:
    first, now = salvage.known_shapes(1), salvage.known_shapes(salvage.VERSION)
    assert set(first) < set(now)
    assert first["runs"].columns == now["runs"].columns[: len(first["runs"].columns)]
    assert first["gpu_samples"].stored[:3] == (0, 2, 1)  # the key comes first
