"""Full disks, places that can only be read, many writers, long runs, odd names: what must not go wrong."""

import asyncio
import contextlib
import itertools
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine import cli, supervisor
from engine.errors import SpaceError, StoreError
from engine.events import Metric, Progress
from engine.files import EventFile
from engine.ingest import ingest
from engine.spec import parse, to_yaml
from engine.store import metrics, records, runs
from engine.store.connection import ReadOnly, explained, open_database, transaction
from engine.store.copies import BESIDE
from engine.worker.reporter import Reporter
from tests.helpers import Deck, wait_for
from tuiapp.looking import DAMAGED, NO_ROOM, Look

SPEC = parse({"model": {"path": "m"}, "data": {"path": "d"}, "run": {"name": "n"}})
WRITER = """
import sys
from pathlib import Path
from engine.files import EventFile
from engine.events import Metric
from engine.ingest import ingest
from engine.store.connection import open_database
path, run_id, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
folder = path.parent / "runs" / run_id
file, db = EventFile(folder / "events.jsonl"), open_database(path, create=False)
print("ready", flush=True)
sys.stdin.readline()
for step in range(1, count + 1):
    file.append(Metric(step, {"loss": float(step), "grad_norm": 1.0 / step}))
    ingest(db, run_id, folder)
"""
READER = """
import sys
from pathlib import Path
from tuiapp.looking import Look
look = Look(Path(sys.argv[1]))
print("ready", flush=True)
worst = 0
while True:
    found = look.snapshot("r0", None)
    if found.problem:
        print(found.problem, file=sys.stderr)
        sys.exit(1)
    worst = max(worst, len(found.runs))
    if Path(sys.argv[2]).exists():
        break
print(worst, flush=True)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "experiments.db"


def mounted(place: Path, size: str) -> None:
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], capture_output=True, check=False
    )
    if done.returncode:
        place.rmdir()
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.decode().strip()}")


def remounted(place: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(place)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MiB of its own."""
    yield from _disk(tmp_path, "4m")


@pytest.fixture
def large_disk(tmp_path: Path) -> Iterator[Path]:
    """One on which a small model is trained."""
    yield from _disk(tmp_path, "300m")


def _disk(root: Path, size: str) -> Iterator[Path]:
    place = root / "disk"
    mounted(place, size)
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill_up(place: Path) -> Path:
    """Not a byte is free any more."""
    filler = place / "filler"
    with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
        while True:
            file.write(b"\0" * 4096)
    assert shutil.disk_usage(place).free == 0
    return filler


def begun(path: Path, run_id: str = "r0") -> Path:
    """A run's row and directory."""
    folder = path.parent / "runs" / run_id
    folder.mkdir(parents=True)
    (folder / "spec.yaml").write_text(to_yaml(SPEC))
    with contextlib.closing(open_database(path)) as db:
        runs.insert(db, run_id, SPEC, None, "elsewhere", 1000.0)
    return folder


def losses(path: Path, run_id: str = "r0") -> list[float]:
    with contextlib.closing(open_database(path, create=False)) as db:
        return [value for _, _, value in metrics.curves(db, run_id, ["loss"])["loss"]]


class TestFullDisk:
    def test_ingestion_catches_up_when_there_is_room(self, disk: Path, tmp_path: Path) -> None:
        """The events lie on another disk: the database alone has no room."""
        path = disk / "experiments.db"
        folder = begun(path)
        file = EventFile(tmp_path / "events.jsonl")
        (folder / "events.jsonl").symlink_to(tmp_path / "events.jsonl")
        with contextlib.closing(open_database(path)) as db:
            for step in range(1, 50):
                file.append(Metric(step, {"loss": float(step)}))
            ingest(db, "r0", folder)
            filler = fill_up(disk)
            for step in range(50, 20_000):
                file.append(Metric(step, {"loss": float(step)}))
            for _ in range(3):
                with pytest.raises(sqlite3.OperationalError):
                    ingest(db, "r0", folder)
                assert not db.in_transaction
                assert len(metrics.curves(db, "r0", ["loss"])["loss"]) == 49  # what was there can be read
            filler.unlink()
            assert ingest(db, "r0", folder) > 10_000
        assert losses(path) == [float(step) for step in range(1, 20_000)]

    def test_a_supervisor_goes_on_waits_longer_each_time_and_says_it_once(
        self, disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = disk / "experiments.db"
        folder = begun(path)
        file = EventFile(tmp_path / "events.jsonl")
        (folder / "events.jsonl").symlink_to(tmp_path / "events.jsonl")
        file.append(Metric(1, {"loss": 1.0}))
        one, now, tried = supervisor.Supervisor(folder, path), [0.0], list[float]()
        monkeypatch.setattr(time, "monotonic", lambda: now[0])

        def counted(*arguments: Any) -> int:
            tried.append(now[0])
            return ingest(*arguments)

        monkeypatch.setattr(supervisor, "ingest", counted)
        one._ingest()
        filler = fill_up(disk)
        for step in range(2, 6_000):
            file.append(Metric(step, {"loss": float(step)}))
        while now[0] < 120:
            now[0] += 0.2
            one._ingest()
        waits = [after - before for before, after in itertools.pairwise(tried[2:])]
        assert len(tried) < 25  # not 600
        assert max(waits) == pytest.approx(supervisor.LONGEST_WAIT, abs=0.4)
        assert 1 <= len(capsys.readouterr().err.strip().split("\n")) <= 2
        filler.unlink()
        now[0] += 20
        one._ingest()
        assert losses(path) == [float(step) for step in range(1, 6_000)]
        before = len(tried)
        one._ingest()
        assert len(tried) == before + 1  # as often as before

    def test_the_app_shows_what_there_is(self, disk: Path) -> None:
        path = disk / "experiments.db"
        begun(path)
        filler = fill_up(disk)
        look = Look(path)
        found = look.snapshot("r0", None)
        assert [run.id for run in found.runs] == ["r0"]
        assert found.problem in (None, NO_ROOM)
        filler.unlink()
        look._opened = (-1e9, None)
        found = look.snapshot("r0", None)
        assert (found.problem, found.read_only) == (None, False)

    def test_verbs_that_read_work_and_those_that_write_say_why_not(
        self, disk: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = disk / "experiments.db"
        begun(path)
        fill_up(disk)
        assert cli.main(["--db", str(path), "runs", "--json"]) == 0
        assert [row["id"] for row in json.loads(capsys.readouterr().out)] == ["r0"]
        assert cli.main(["--db", str(path), "db", "backup"]) == 2
        assert "not enough disk space" in capsys.readouterr().err
        with contextlib.closing(open_database(path)) as db:
            with pytest.raises(sqlite3.OperationalError) as caught, transaction(db):
                db.executemany("INSERT INTO params VALUES ('r', ?, ?)", [(str(i), "x" * 1000) for i in range(5000)])
            found = explained(path, caught.value)
            assert isinstance(found, SpaceError)
            assert "Free some space" in found.hint

    def test_the_worker_says_later_what_it_has_no_room_for(self, disk: Path) -> None:
        """In order, with the time at which it was so; the numbers of the lines go on."""
        reporter = Reporter(disk, 1)
        reporter.say(Progress(1, 9, 0.1))
        with open(disk / "events.jsonl", "ab") as file:  # to the end of the block that the file has
            file.write(b"x" * (4096 - file.tell() - 1) + b"\n")
        filler = fill_up(disk)
        for step in range(2, 2000):
            reporter.say(Progress(step, 9, 0.1))
        moment = time.time()
        filler.unlink()
        reporter.say(Progress(2000, 9, 0.2))
        lines = [
            json.loads(line) for line in (disk / "events.jsonl").read_bytes().split(b"\n") if line.startswith(b'{"')
        ]
        assert [line["step"] for line in lines] == list(range(1, 2001))
        assert [line["seq"] for line in lines] == sorted(line["seq"] for line in lines)
        assert sum(line["t"] < moment for line in lines) == 1999

    def test_anything_else_that_is_wrong_ends_it(self, tmp_path: Path) -> None:
        reporter = Reporter(tmp_path, 1)
        assert reporter._file is not None
        os.close(reporter._file._fd)
        with pytest.raises(OSError, match="Bad file descriptor"):
            reporter.say(Progress(1, 9, 0.1))

    @pytest.mark.slow
    def test_training_goes_on_and_everything_is_there_in_the_end(
        self, large_disk: Path, tiny_model: Path, rows: Path, deck: Deck
    ) -> None:
        deck = Deck(large_disk / "home" / "experiments.db")
        deck.database.parent.mkdir()
        sets = ["training.max_steps=240", "saving.every=0", "evaluation.every=0", "evaluation.prompts=[]", "data.validation=0",
                "training.epochs=20", "compute.devices=cpu", "method.kind=lora", "training.micro_batch=4"]  # fmt: skip
        run = deck.start(tiny_model, rows, *sets)
        try:
            wait_for(lambda: run.step() > 10)
            filler = fill_up(large_disk)
            (worker,) = run.processes("engine.worker")
            before = worker.cpu_times().user
            wait_for(lambda: worker.cpu_times().user > before + 1.0, what="training without room")
            assert run.row()["status"] == "running"
            filler.unlink()
            assert run.wait("finished", seconds=120)["exit_code"] == 0
            assert set(run.losses()) == set(range(1, 241))
            assert run.stored() == run.reported()
        finally:
            run.kill("engine.supervisor", "engine.worker")


class TestReadOnly:
    def looked_at(self, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Verbs that read work, those that write are refused in a sentence, the app says it, nothing is left behind."""
        before = sorted(one.name for one in path.parent.iterdir())
        for words in (["runs"], ["show", "r0"], ["doctor"], ["db", "check"]):
            code = cli.main(["--db", str(path), *words, "--json"])
            told = capsys.readouterr()
            assert code in ((0, 1) if words == ["doctor"] else (0,)), (words, told)
            assert "r0" in told.out or words[0] in ("doctor", "db")
        for words in (["stop", "r0"], ["db", "vacuum"], ["db", "rebuild"], ["tag", "r0", "+x"], ["note", "r0", "x"],
                      ["rename", "r0", "x"], ["star", "r0"], ["archive", "r0"]):  # fmt: skip
            assert cli.main(["--db", str(path), *words]) != 0
            told = capsys.readouterr().err
            assert "read only" in told or "Read-only" in told, (words, told)
        found = Look(path).snapshot("r0", None)
        assert found.read_only
        assert [run.id for run in found.runs] == ["r0"]
        assert sorted(one.name for one in path.parent.iterdir()) == before

    def test_a_disk_that_is_mounted_so(self, disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = disk / "experiments.db"
        begun(path)
        remounted(disk, "ro")
        self.looked_at(path, capsys)

    def test_with_a_log_that_nobody_has_brought_in(self, disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """A copy of a database in use, or the disk of a machine that went down: what is only in the log is seen too."""
        begun(disk / "in-use.db")
        with contextlib.closing(open_database(disk / "in-use.db")) as db:
            db.execute("PRAGMA wal_autocheckpoint = 0")
            runs.set_fields(db, "r0", name="only in the log")
            for suffix in ("", "-wal"):
                shutil.copy(f"{disk / 'in-use.db'}{suffix}", f"{disk / 'experiments.db'}{suffix}")
        for suffix in BESIDE:
            Path(f"{disk / 'in-use.db'}{suffix}").unlink(missing_ok=True)
        (disk / "in-use.db").unlink()
        remounted(disk, "ro")
        with contextlib.closing(open_database(disk / "experiments.db")) as db:
            assert isinstance(db, ReadOnly)
            assert runs.find(db, "r0")["name"] == "only in the log"
        self.looked_at(disk / "experiments.db", capsys)

    def test_the_app_sees_what_the_one_who_may_write_has_written(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        begun(path)
        monkeypatch.setattr("engine.store.connection.writable", lambda _: False)
        monkeypatch.setattr("tuiapp.looking.writable", lambda _: False)
        look = Look(path)
        assert len(look.snapshot(None, None).runs) == 1
        monkeypatch.undo()
        with contextlib.closing(open_database(path)) as db:
            runs.insert(db, "r1", SPEC, None, "elsewhere", 1001.0)
        monkeypatch.setattr("engine.store.connection.writable", lambda _: False)
        monkeypatch.setattr("tuiapp.looking.writable", lambda _: False)
        assert len(look.snapshot(None, None).runs) == 2


class TestDamaged:
    def test_the_app_says_what_to_do_and_goes_on(self, path: Path) -> None:
        begun(path)
        look = Look(path)
        assert look.snapshot(None, None).problem is None
        whole = path.read_bytes()
        path.with_name("broken").write_bytes(bytes(100) + whole[100:])
        path.with_name("broken").replace(path)
        assert look.snapshot(None, None).problem == DAMAGED
        path.with_name("whole").write_bytes(whole)
        path.with_name("whole").replace(path)
        assert len(look.snapshot(None, None).runs) == 1

    def test_it_is_made_anew_beneath_the_app(self, path: Path) -> None:
        begun(path)
        look = Look(path)
        look.snapshot(None, None)
        assert cli.main(["--db", str(path), "db", "rebuild"]) == 0
        found = look.snapshot(None, None)
        assert (found.problem, len(found.runs)) == (None, 1)

    def test_what_was_done_to_it_is_told(self, path: Path) -> None:
        from tests.engine.test_upkeep import make_old

        make_old(path, 1)
        assert "v1-backup" in Look(path).snapshot(None, None).notice


@pytest.mark.parametrize("writers", [8])
def test_writers_and_readers_at_once(path: Path, tmp_path: Path, writers: int) -> None:
    """As many runs and two apps: nothing is lost, and nobody meets an error."""
    count, done = 40, tmp_path / "done"
    for i in range(writers):
        begun(path, f"r{i}")
    pipes: dict[str, Any] = {
        "stdin": subprocess.PIPE,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
    }
    python = [sys.executable, "-c"]
    readers = [subprocess.Popen([*python, READER, str(path), str(done)], **pipes) for _ in range(2)]
    working = [subprocess.Popen([*python, WRITER, str(path), f"r{i}", str(count)], **pipes) for i in range(writers)]
    for process in (*readers, *working):
        assert process.stdout.readline() == "ready\n"
    for process in working:
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [(process.communicate(timeout=120)[1], process.returncode) for process in working] == [("", 0)] * writers
    done.touch()
    assert [process.communicate(timeout=60)[:2] for process in readers] == [(f"{writers}\n", "")] * 2
    for i in range(writers):
        assert losses(path, f"r{i}") == [float(step) for step in range(1, count + 1)]


def test_a_long_run(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A hundred thousand points of two curves: brought in, listed, shown, and opened in the app."""
    folder, count = begun(path), 50_000
    lines = (f'{{"v":1,"seq":{n},"t":{1000 + n}.5,"type":"metric","attempt":1,"step":{n},"values":{{"loss":{1 / n},"grad_norm":1.5}}}}\n'
             for n in range(1, count + 1))  # fmt: skip
    (folder / "events.jsonl").write_text("".join(lines))
    with contextlib.closing(open_database(path)) as db:
        assert ingest(db, "r0", folder) == count
    assert cli.main(["--db", str(path), "runs"]) == 0
    assert cli.main(["--db", str(path), "show", "r0"]) == 0
    capsys.readouterr()
    found = Look(path).snapshot("r0", None)
    assert found.detail is not None
    assert found.detail.stored["loss"] == count
    assert len(found.detail.curves["loss"]) < count / 5
    assert found.detail.curves["loss"][-1] == (count, 1 / count)


ODD = {
    "control characters": "a\x1b[31mb\x07\x00c\u202ed",
    "very long": "n" * 100_000,
    "half of a pair": "x\ud800y",
    "lines": "one\ntwo\r\nthree",
    "nothing that is seen": "\u200b\u2060",
    "wide": "模型\U0001f600" * 40,
    "markup": "[bold]x[/]{y}%s",
}


@pytest.mark.parametrize("text", ODD.values(), ids=ODD)
def test_odd_names_from_outside(path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever a file of events says is stored, found again, and never sent to the terminal as it is."""
    folder = begun(path)
    event = {"v": 1, "seq": 1, "t": 1.0, "attempt": 1}
    said = [event | {"type": "metric", "step": 1, "values": {text: 1.5, "loss": 2.0}},
            event | {"seq": 2, "type": "sample", "step": 1, "prompt": text, "text": text},
            event | {"seq": 3, "type": "notice", "level": "warning", "text": text, "hint": text}]  # fmt: skip
    (folder / "events.jsonl").write_text("".join(json.dumps(one) + "\n" for one in said))
    stored = text.encode(errors="replace").decode()
    with contextlib.closing(open_database(path)) as db:
        assert ingest(db, "r0", folder) == 3
        assert set(metrics.keys(db, "r0")) == {stored, "loss"}
        assert records.samples(db, "r0")[0]["text"] == stored
        db.execute("UPDATE runs SET name = ?, note = ?, dataset = ?", (stored, stored, stored))
    capsys.readouterr()
    for words in (["runs"], ["show", "r0"], ["db", "check"]):
        assert cli.main(["--db", str(path), *words]) == 0
        shown = capsys.readouterr().out
        assert all(one.isprintable() or one in "\n\t" for one in shown), words
    assert cli.main(["--db", str(path), "show", "r0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == stored
    found = Look(path).snapshot("r0", None)
    assert found.detail is not None
    assert [run.id for run in found.runs] == ["r0"]


async def test_odd_names_in_the_app(path: Path) -> None:
    from tests.tuiapp.conftest import running
    from tuiapp.services import Services

    for i, text in enumerate(ODD.values()):
        begun(path, f"r{i}")
        with contextlib.closing(open_database(path)) as db:
            name = text.encode(errors="replace").decode()
            db.execute(
                "UPDATE runs SET name = ?, model = ?, tags = ? WHERE id = ?", (name, name, json.dumps([name]), f"r{i}")
            )
    async with running(Services(path)) as deck:  # type: ignore[arg-type]
        await deck.until(lambda: deck.app.last is not None and len(deck.app.last.runs) == len(ODD))
        for _ in ODD:
            await deck.press("down")
            await asyncio.sleep(0)
            shown = deck.screen()
            assert all(one.isprintable() or one == "\n" for one in shown)
            assert all(len(one) <= 80 for one in shown.split("\n"))


def test_errors_of_other_kinds_keep_their_words(path: Path) -> None:
    path.parent.mkdir()
    path.touch()
    error = sqlite3.OperationalError("no such table: x")
    assert "no such table" in explained(path, error).message
    locked = sqlite3.OperationalError("database is locked")
    assert "Another program" in explained(path, locked).hint
    assert explained(path, StoreError("a", "b")).title == "a"
