"""Jobs on trained runs: real runners and processes, killed at any moment; the database made of the directories again."""

import json
import os
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from engine import rebuild
from engine.after import job as jobs
from engine.after.trained import trained
from engine.errors import RunError, SpaceError
from engine.reconcile import reconcile
from engine.spec import parse
from engine.store import afterwards, changes, records, runs
from engine.store.connection import open_database
from tests.engine.test_processes import set_clock
from tests.helpers import kill_everything, wait_for

ROOT = Path(__file__).parent.parent.parent
SPEC = {"model": {"path": "/m"}, "data": {"path": "/d.jsonl"}, "compute": {"devices": "cpu"}, "run": {"name": "one"}}


class Place:
    """A database with one finished run, and the jobs of that run."""

    def __init__(self, home: Path) -> None:
        self.database = home / "experiments.db"
        self.db = open_database(self.database)
        self.run_dir = home / "runs" / "r1"
        (self.run_dir / "model").mkdir(parents=True)
        (self.run_dir / "spec.yaml").write_text(json.dumps(SPEC))
        runs.insert(self.db, "r1", parse(SPEC), {}, "here", 1.0)
        runs.set_fields(self.db, "r1", status="finished")

    def start(self, ends: str = "done", rows: int = 3) -> str:
        job = jobs.create(self.database, "r1", "eval", {"rows": rows, "ends": ends})
        jobs.start(self.database, "r1", job)
        return job

    def row(self, job: str = "eval-1") -> afterwards.Row:
        return afterwards.find(self.db, "r1", job)

    def ends(self, status: str, job: str = "eval-1", look: bool = False) -> afterwards.Row:
        def ended() -> bool:
            if look:
                reconcile(self.db, self.database)
            return bool(self.row(job)["status"] == status)

        log = self.run_dir / "jobs" / job / "output.log"
        wait_for(ended, 90, f"{status}: {self.row(job)} {log.read_text() if log.exists() else ''}")
        return self.row(job)

    def processes(self, *words: str) -> list[psutil.Process]:
        """The runner has --db in its command line, the process that does the job --attempt."""
        found = []
        for process in psutil.process_iter(["cmdline", "status"]):
            command = " ".join(process.info["cmdline"] or [])
            if str(self.run_dir) in command and all(w in command for w in words) and process.info["status"] != "zombie":
                found.append(process)
        return found

    def kill(self, *words: str) -> None:
        for process in (found := self.processes(*words)):
            process.send_signal(signal.SIGKILL)
        assert found
        wait_for(lambda: not self.processes(*words), 20, "their end")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setenv("TUNEDECK_LOCKS", str(tmp_path / "locks"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(jobs, "RUNNER", "tests.engine.fake_job")
    yield Place(tmp_path)
    kill_everything(tmp_path)


def test_a_job_is_done_and_everything_is_recorded(place: Place) -> None:
    row = place.ends("finished", place.start())
    assert (row["summary"]["counted"], row["done"], row["total"], row["phase"]) == (3, 3, 3, "counting")
    assert row["started_at"] <= row["ended_at"]
    assert [r["row"] for r in afterwards.rows(place.db, "r1", "eval-1", "worst")] == [1, 2, 3]
    assert [r["row"] for r in afterwards.rows(place.db, "r1", "eval-1", "won", 1, 1)] == [2]
    (made,) = records.artifacts(place.db, "r1")
    assert (made["kind"], made["sha256"]) == ("count", "ab" * 32)
    history = [event["text"] for event in records.events(place.db, "r1")]
    assert "eval-1: counted them" in history
    assert place.row()["reason"] == "counted them"


def test_each_job_has_a_number_of_its_own(place: Place) -> None:
    assert [place.start(), place.start()] == ["eval-1", "eval-2"]
    place.ends("finished", "eval-1")
    place.ends("finished", "eval-2")
    assert [row["job"] for row in afterwards.of_run(place.db, "r1", "eval")] == ["eval-2", "eval-1"]
    assert afterwards.latest(place.db, "r1", "merge") is None
    with pytest.raises(RunError) as error:
        afterwards.find(place.db, "r1", "eval-3")
    assert "eval-2, eval-1" in error.value.hint


def test_a_failure_says_what_to_do(place: Place) -> None:
    row = place.ends("failed", place.start("failed"))
    assert row["reason"] == "It cannot count. The numbers are used up. Take others."


def test_a_stopped_job_goes_on_where_it_was(place: Place) -> None:
    job = place.start("waiting")
    wait_for(lambda: place.row()["done"] == 3)
    with pytest.raises(RunError, match="at work"):
        jobs.start(place.database, "r1", job)
    jobs.stop(place.database, place.row())
    place.ends("stopped", job)
    with pytest.raises(RunError, match="not at work"):
        jobs.stop(place.database, place.row())
    (place.run_dir / "jobs" / job / "END").touch()
    jobs.start(place.database, "r1", job)
    assert place.row()["status"] == "queued"
    place.ends("finished", job)
    assert len({row["pid"] for row in afterwards.rows(place.db, "r1", job)}) == 1, "nothing was counted twice"


def test_a_killed_process_is_seen(place: Place) -> None:
    row = place.ends("crashed", place.start("killed"))
    assert row["reason"] == "the job's process was killed by SIGKILL"


def test_the_job_goes_on_without_its_runner(place: Place) -> None:
    job = place.start("waiting")
    wait_for(lambda: place.row()["done"] == 3)
    place.kill("--db")
    reconcile(place.db, place.database)
    assert place.row()["status"] == "running"
    (place.run_dir / "jobs" / job / "END").touch()
    assert place.ends("finished", look=True)["summary"]["counted"] == 3


def test_both_killed_is_seen_by_whoever_looks(place: Place) -> None:
    place.start("waiting")
    wait_for(lambda: place.row()["done"] == 3)
    place.kill("--db")
    place.kill("--attempt")
    reconcile(place.db, place.database)
    assert place.row()["status"] == "crashed"
    assert afterwards.count(place.db, "r1", "eval-1") == 3


def test_killed_before_it_began_is_seen(place: Place) -> None:
    job = jobs.create(place.database, "r1", "eval", {"rows": 1, "ends": "done"})
    reconcile(place.db, place.database)
    assert place.row(job)["status"] == "crashed"
    jobs.start(place.database, "r1", job)
    place.ends("finished", job)


def test_a_new_database_has_the_jobs_too(place: Place) -> None:
    place.ends("finished", place.start())
    before = place.row()
    place.db.close()
    place.database.unlink()
    rebuild.rebuild(place.database)
    place.db = open_database(place.database)
    assert place.row() == before
    assert afterwards.count(place.db, "r1", "eval-1") == 3
    assert [made["kind"] for made in records.artifacts(place.db, "r1")] == ["count"]


def test_purging_a_run_takes_its_jobs(place: Place) -> None:
    place.ends("finished", place.start())
    changes.bin(place.db, ["r1"])
    changes.purge(place.db, place.database, ["r1"])
    for table in ("jobs", "job_rows"):
        assert place.db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] == 0
    assert not place.run_dir.exists()


def test_nothing_half_stands_where_the_disk_cannot_be_written(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(afterwards, "insert", full)
    with pytest.raises(SpaceError, match="full"):
        jobs.create(place.database, "r1", "eval", {})


def test_what_is_taken_is_the_model_or_the_last_checkpoint(place: Place) -> None:
    run = runs.one(place.db, "r1")
    with pytest.raises(RunError, match="neither a model nor a checkpoint"):
        trained(place.database, run)
    for step in (8, 16):
        folder = place.run_dir / "checkpoints" / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        (folder / "adapter_model.safetensors").touch()
        (folder / "adapter_config.json").touch()
    assert trained(place.database, run).step == 16
    (place.run_dir / "model" / "model.safetensors").touch()
    whole = trained(place.database, run)
    assert (whole.step, whole.adapter, whole.path.name) == (None, False, "model")
    assert trained(place.database, run, 8).adapter
    with pytest.raises(RunError) as error:
        trained(place.database, run, 9)
    assert error.value.hint == "There are: 8, 16."


def test_what_a_job_leaves_is_the_users_alone(place: Place) -> None:
    place.ends("finished", place.start())
    folder = place.run_dir / "jobs" / "eval-1"
    wait_for(lambda: not place.processes("--db"), 20, "the runner's end")
    modes = {path.name: oct(os.stat(path).st_mode & 0o077) for path in [folder, *folder.iterdir()]}
    assert set(modes.values()) == {"0o0"}, modes
    assert "reserve" not in modes


def test_a_job_lives_whatever_the_clock_does(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.start("waiting")
    wait_for(lambda: place.row()["done"] == 3)
    place.kill("--db")
    set_clock(monkeypatch, 3600.0)
    monkeypatch.setitem(jobs.MODULES, "eval", "tests.engine.fake_job")
    reconcile(place.db, place.database)
    assert place.row()["status"] == "running"
    place.kill("--attempt")
    reconcile(place.db, place.database)
    assert place.row()["status"] == "crashed"
