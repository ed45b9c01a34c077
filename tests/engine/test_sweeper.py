"""The controller of a sweep: real processes, real files, a real database; only what the workers do is invented."""

import contextlib
import itertools
import os
import random
import shutil
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from engine import launch, sweep, sweep_log, sweep_plan, sweeping
from engine.errors import DataError, ModelError, NoFit, RunError, SpaceError, SpecError
from engine.events import Attempt, Exit
from engine.files import EventFile, read_records
from engine.reconcile import reconcile
from engine.store import runs, sweeps
from engine.store.connection import open_database
from engine.sweep_plan import Asked
from engine.sweeper import interrupted
from tests.helpers import Deck, kill_everything, wait_for

ROOT = Path(__file__).parent.parent.parent
OVER = ("training.learning_rate=1e-3,2e-3", "method.rank=4,8")


@dataclass
class Place:
    """A database and its sweeps."""

    home: Path
    model: Path
    rows: Path

    @property
    def database(self) -> Path:
        return self.home / "experiments.db"

    def asked(self, *over: str, seeds: Sequence[int] = (), **more: Any) -> Asked:
        raw = {"model": {"path": str(self.model)}, "data": {"path": str(self.rows)}, "method": {"kind": "lora"},
               "training": {"max_steps": 2}, "compute": {"devices": "cpu"}}  # fmt: skip
        return Asked(raw, tuple(sweep.axis(one) for one in over), tuple(seeds), **more)

    def plan(self, *over: str, seeds: Sequence[int] = (), **more: Any) -> sweep_plan.Planned:
        return sweep_plan.plan(self.asked(*over, seeds=seeds, **more), lambda _: set())

    def start(self, *over: str, seeds: Sequence[int] = (), **more: Any) -> "Sweep":
        return Sweep(self, sweeping.start(self.database, self.plan(*over, seeds=seeds, **more)))

    @contextlib.contextmanager
    def db(self) -> Iterator[sqlite3.Connection]:
        with contextlib.closing(open_database(self.database)) as db:
            yield db


@dataclass
class Sweep:
    """A sweep that was started."""

    place: Place
    id: str

    @property
    def directory(self) -> Path:
        return self.place.home / "sweeps" / self.id

    def row(self) -> dict[str, Any]:
        with self.place.db() as db:
            return sweeps.find(db, self.id)

    def runs(self) -> list[dict[str, Any]]:
        with self.place.db() as db:
            return sweeps.runs(db, self.id)

    def look(self) -> None:
        """What whoever opens the database does first."""
        with self.place.db() as db:
            reconcile(db, self.place.database)

    def ends(self, status: str, seconds: float = 60) -> None:
        """Wait for it; looks are needed only where the controller was killed."""
        wait_for(lambda: self.row()["status"] == status, seconds, f"the sweep is {status}: {self.told()}")

    def told(self) -> str:
        log = self.directory / "output.log"
        return f"{self.row()}\n{[dict(one) for one in sweep_log.read(self.directory)]}\n{log.read_text() if log.exists() else ''}"

    def controllers(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter(["cmdline", "status"]):
            command = process.info["cmdline"] or []
            if str(self.directory) in command and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(process)
        return found

    def kill(self) -> bool:
        """Kill -9 the controller; whether there was one."""
        found = self.controllers()
        for process in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        wait_for(lambda: not self.controllers(), 20, "its end")
        return bool(found)

    def each_once(self, statuses: Sequence[str] = ("finished",)) -> None:
        """Every point has one run that has ended so, and there is no other run and no other directory."""
        found = self.runs()
        names = Counter(run["name"] for run in found)
        assert set(names) == {one["name"] for one in self.row()["plan"]["points"]}
        assert set(names.values()) == {1}, names
        assert all(run["status"] in statuses for run in found), found
        assert {one.name for one in (self.place.home / "runs").iterdir()} == {run["id"] for run in found}
        for run in found:
            records = read_records(self.place.home / "runs" / run["id"] / "supervisor.jsonl")
            assert sum(isinstance(record.event, Exit) for record in records) == 1, "it ended once"


@pytest.fixture
def place(tmp_path: Path, tiny_model: Path, rows: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setenv("TUNEDECK_LOCKS", str(tmp_path / "locks"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(sweeping, "MODULE", "tests.engine.fake_sweeper")
    home = tmp_path / "home"
    home.mkdir()
    yield Place(home, tiny_model, rows)
    kill_everything(home)


class TestPlan:
    def test_every_point_is_complete_named_and_tagged(self, place: Place) -> None:
        planned = place.plan(*OVER, seeds=[1, 2], name="support")
        assert planned.name == "support"
        assert (len(planned.points), planned.at_once, planned.cards) == (8, 1, 0)
        third = planned.drafts[2].spec
        assert (third.run.name, third.run.tags) == ("support-lr1e-3-r8-s1", ["support"])
        assert (third.training.learning_rate, third.method.rank, third.training.seed) == (1e-3, 8, 1)
        assert all(draft.spec.training.micro_batch and draft.spec.method.alpha for draft in planned.drafts)
        assert any("alpha 8, 16" in note for note in planned.notes)
        assert any("each seed holds out other rows" in note for note in planned.notes)

    def test_points_that_come_to_the_same_run_are_dropped_and_said(self, place: Place) -> None:
        planned = place.plan("method.alpha=null,8", "method.rank=4,4,8")  # 8 is what is recommended for a rank of 4
        assert len(planned.points) == 3
        assert any("3 points were left out" in note for note in planned.notes)

    def test_a_name_that_another_sweep_has_gets_a_number(self, place: Place) -> None:
        planned = sweep_plan.plan(place.asked("method.rank=4,8", name="x"), lambda _: {"x", "x-2"})
        assert planned.name == "x-3"
        assert planned.drafts[0].spec.run.name == "x-3-r4"

    @pytest.mark.parametrize(
        ("over", "words"),
        [
            (["training.lr=1,2"], "training.lr is not a known key"),
            (["nonsense=1,2"], "nonsense is not a known key"),
            (["method.rank=a,b"], "method.rank"),
            (["method.rank=-1,-2"], "method.rank"),
            (["data.path.x=1,2"], "data.path.x"),
            (["training=1,2"], "training"),
            (["method.rank=8,no,[1]"], "2 of 3 points"),
            (["model.path=/nowhere/a,/nowhere/b"], "/nowhere/a"),
            (["data.path=/nowhere.jsonl,/elsewhere.jsonl"], "/nowhere.jsonl"),
        ],
    )
    def test_what_is_wrong_with_points_is_told_before_anything_is_written(
        self, place: Place, over: list[str], words: str
    ) -> None:
        with pytest.raises((SpecError, ModelError, DataError)) as caught:
            place.start(*over)
        assert words in f"{caught.value.title} {caught.value.message}"
        assert list(place.home.iterdir()) == []

    def test_all_problems_at_once(self, place: Place) -> None:
        with pytest.raises(SpecError) as caught:
            place.plan("method.rank=8,0", "training.learning_rate=1e-3,5")
        assert caught.value.title == "3 of 4 points cannot be started"
        assert "method.rank" in caught.value.message
        assert "training.learning_rate" in caught.value.message

    def test_what_does_not_fit_is_refused_unless_anyway(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        real = launch.prepare

        def prepare(spec: Any, anyway: bool = False, *more: Any) -> Any:
            if spec.method.rank == 8 and not anyway:
                raise NoFit("The run does not fit", "90 GiB are needed.", "less")
            return real(spec, anyway, *more)

        monkeypatch.setattr(sweep_plan, "prepare", prepare)
        with pytest.raises(NoFit) as caught:
            place.plan(*OVER)
        assert (caught.value.title, caught.value.exit_code) == ("2 of 4 points do not fit", 3)
        assert "--anyway" in caught.value.hint
        assert len(place.plan(*OVER, anyway=True).points) == 4

    def test_no_room_for_all_of_them(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        usage = shutil.disk_usage(place.home)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=300 << 20))
        planned = place.plan("training.learning_rate=" + ",".join(f"{i}e-4" for i in range(1, 9)))
        with pytest.raises(SpaceError, match="runs need about"):
            sweeping.start(place.database, planned)
        assert not (place.home / "sweeps").exists()

    def test_a_hub_is_asked_once(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[str] = []

        def prepare(spec: Any, *_: Any) -> Any:
            asked.append(spec.model.path)
            raise ModelError("no", "no", "no")

        monkeypatch.setattr(sweep_plan, "prepare", prepare)
        with pytest.raises(ModelError):
            place.plan("training.learning_rate=1e-3,2e-3,3e-3")
        assert len(asked) == 1


def test_every_point_is_run_once_one_after_the_other(place: Place) -> None:
    made = place.start(*OVER)
    made.ends("finished")
    made.each_once()
    assert made.row()["ended_at"]
    assert made.runs()[0]["name"].endswith("lr1e-3-r4")
    begun = [entry["run"] for entry in sweep_log.read(made.directory) if entry["event"] == "begun"]
    times = {run["id"]: run for run in made.runs()}
    for one, other in itertools.pairwise(begun):
        assert times[one]["ended_at"] <= times[other]["created_at"]
    wait_for(lambda: not made.controllers(), 20, "the controller's end")
    with place.db() as db:
        found = runs.find(db, begun[0])
    assert (found["tags"], found["sweep_id"]) == ([made.row()["name"]], made.id)


@pytest.mark.parametrize("moment", ["begun 2", "inserted 2", "started 2", "made 2"])
def test_killed_at_each_moment_of_starting_a_run(place: Place, moment: str) -> None:
    planned = place.plan("training.learning_rate=1e-3,2e-3,3e-3")
    real = sweeping.start_detached

    def first(module: str, database: Path, directory: Path, lock: int) -> None:
        (directory / "DIE").write_text(moment)
        real(module, database, directory, lock)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweeping, "start_detached", first)
        made = Sweep(place, sweeping.start(place.database, planned))
    wait_for(lambda: not (made.directory / "DIE").exists(), 30, "that moment")
    wait_for(lambda: not made.controllers(), 20, "its end")
    assert made.row()["status"] == "running"
    made.look()
    made.ends("finished")
    found = made.runs()
    assert Counter(run["status"] for run in found) == {"finished": 3}
    assert {run["name"] for run in found} == {one["name"] for one in made.row()["plan"]["points"]}
    assert {one.name for one in (place.home / "runs").iterdir()} == {run["id"] for run in found}


def test_killed_again_and_again_nothing_is_lost_or_done_twice(place: Place) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")  # noqa: T201  named when the test fails
    dice = random.Random(seed)
    made = place.start("training.learning_rate=1e-3,2e-3,3e-3", "method.rank=4,8")
    kills = 0
    end = time.monotonic() + 90
    while made.row()["status"] == "running" and time.monotonic() < end:
        time.sleep(dice.random() * 0.9)
        kills += made.kill()
        made.look()
    made.ends("finished")
    made.each_once()
    assert kills >= 4


def test_killing_the_controller_leaves_the_run_alone(place: Place) -> None:
    made = place.start("training.learning_rate=1e-3,2e-3", seeds=[14])
    wait_for(lambda: [run["status"] for run in made.runs()] == ["starting"], 30, "a run at work")
    made.kill()
    run = made.runs()[0]
    (place.home / "runs" / run["id"] / "END").touch()
    wait_for(lambda: made.runs()[0]["status"] == "finished", 30, "its end without a controller")
    assert len(made.runs()) == 1, "nobody starts the next one"
    made.look()
    wait_for(lambda: len(made.runs()) == 2, 30, "the second run")
    (place.home / "runs" / made.runs()[1]["id"] / "END").touch()
    made.ends("finished")
    made.each_once()


def test_a_failed_point_does_not_stop_the_rest_and_can_be_tried_again(place: Place) -> None:
    made = place.start("training.seed=1,13,2")
    made.ends("finished")
    assert [run["status"] for run in made.runs()] == ["finished", "failed", "finished"]
    failed = made.runs()[1]
    assert failed["exit_reason"] == "it is the thirteenth"
    (place.home / "runs" / failed["id"] / "MENDED").touch()
    with place.db() as db:
        with pytest.raises(RunError, match="nothing to do"):
            sweeping.go_on(db, place.database, made.row(), ("stopped",))
        assert [one.number for one in sweeping.go_on(db, place.database, made.row(), sweeping.AGAIN)] == [2]
    made.ends("finished")
    assert [run["status"] for run in made.runs()] == ["finished"] * 3
    assert len({run["id"] for run in made.runs()}) == 3


def test_stopped_with_its_run_and_gone_on_with(place: Place) -> None:
    made = place.start("training.learning_rate=1e-3,2e-3", seeds=[14])
    wait_for(lambda: [run["status"] for run in made.runs()] == ["starting"], 30, "a run at work")
    sweeping.stop(place.database, made.row())
    made.ends("stopped")
    assert [run["status"] for run in made.runs()] == ["stopped"]
    wait_for(lambda: not made.controllers(), 20, "the controller's end")
    made.look()
    assert not made.controllers(), "what was stopped is not started again by who looks"
    with pytest.raises(RunError, match="not running"):
        sweeping.stop(place.database, made.row())
    with place.db() as db:
        assert [one.number for one in sweeping.go_on(db, place.database, made.row(), ("stopped",))] == [1, 2]
    for number in (0, 1):
        wait_for(lambda n=number: len(made.runs()) > n, 30, "the next run")
        (place.home / "runs" / made.runs()[number]["id"] / "END").touch()
    made.ends("finished")
    assert [run["status"] for run in made.runs()] == ["finished"] * 2


def test_stopped_but_the_run_at_work_finishes(place: Place) -> None:
    made = place.start("training.learning_rate=1e-3,2e-3", seeds=[14])
    wait_for(lambda: [run["status"] for run in made.runs()] == ["starting"], 30, "a run at work")
    sweeping.stop(place.database, made.row(), "finish")
    wait_for(lambda: made.row()["status"] == "stopping", 20, "it stops")
    assert made.runs()[0]["status"] == "starting"
    with place.db() as db, pytest.raises(RunError, match="is stopping"):
        sweeping.go_on(db, place.database, made.row(), ("stopped",))
    (place.home / "runs" / made.runs()[0]["id"] / "END").touch()
    made.ends("stopped")
    assert [run["status"] for run in made.runs()] == ["finished"]


def test_data_that_changed_is_refused_until_it_is_as_it_was(place: Place) -> None:
    made = place.start("training.learning_rate=1e-3,2e-3", seeds=[14])
    wait_for(lambda: [run["status"] for run in made.runs()] == ["starting"], 30, "a run at work")
    before = place.rows.read_text()
    place.rows.write_text(before + '{"instruction": "more", "output": "rows"}\n')
    (place.home / "runs" / made.runs()[0]["id"] / "END").touch()
    made.ends("finished")
    with place.db() as db:
        found = sweeping.standing(db, place.database, made.row())
    assert [one.state for one in found] == ["ended", "refused"]
    assert "data has changed since the sweep began" in found[1].text
    place.rows.write_text(before)
    with place.db() as db:
        sweeping.go_on(db, place.database, made.row(), sweeping.AGAIN)
    wait_for(lambda: len(made.runs()) == 2, 30, "the second run")
    (place.home / "runs" / made.runs()[1]["id"] / "END").touch()
    made.ends("finished")
    made.each_once()


def test_a_waiting_run_whose_supervisor_was_killed_is_started_all_the_same(place: Place) -> None:
    from engine import leases

    leases.hold(leases.CPU)
    made = place.start("training.learning_rate=1e-3,2e-3")
    wait_for(lambda: [run["status"] for run in made.runs()] == ["queued"], 30, "it waits")
    run_dir = place.home / "runs" / made.runs()[0]["id"]
    pid = wait_for(
        lambda: (run_dir / "supervisor.jsonl").exists() and (run_dir / "supervisor.lock").read_text(), 20, "its pid"
    )
    os.kill(int(pid), signal.SIGKILL)
    wait_for(lambda: any(e.get("by") == "controller" for e in sweep_log.read(made.directory)), 30, "it was seen")
    leases.give_free(leases.CPU)
    made.ends("finished")
    assert [run["status"] for run in made.runs()] == ["finished"] * 2


def test_there_is_one_controller_however_many_look(place: Place) -> None:
    made = place.start("training.learning_rate=1e-3,2e-3", seeds=[14])
    made.kill()
    for _ in range(5):
        made.look()
    wait_for(lambda: len(made.controllers()) == 1, 20, "one controller")
    made.look()
    assert len(made.controllers()) == 1


def test_without_its_plan_a_sweep_has_failed_and_nobody_starts_it_again(place: Place) -> None:
    made = place.start("training.learning_rate=1e-3,2e-3", seeds=[14])
    made.kill()
    (made.directory / sweeping.PLAN).write_text("{")
    made.look()
    made.ends("failed")
    shutil.rmtree(made.directory)
    with place.db() as db:
        sweeps.set_fields(db, made.id, status="running")
    made.look()
    assert made.row()["status"] == "failed"


def test_another_host_s_sweep_is_left_alone(place: Place) -> None:
    made = place.start("training.learning_rate=1e-3,2e-3", seeds=[14])
    made.kill()
    with place.db() as db:
        sweeps.set_fields(db, made.id, host="elsewhere")
    made.look()
    assert not made.controllers()
    assert made.row()["status"] == "running"


def test_a_new_database_gets_its_sweeps_back_and_starts_nothing(place: Place) -> None:
    made = place.start("training.learning_rate=1e-3,2e-3")
    made.ends("finished")
    wait_for(lambda: not made.controllers(), 20, "the controller's end")
    before = made.row()
    ids = [run["id"] for run in made.runs()]
    with place.db() as db:
        sweeps.delete(db, made.id)
        for run_id in ids:
            runs.set_fields(db, run_id, sweep_id=None)
        assert sweeping.restore(db, place.database) == 1
        assert sweeping.restore(db, place.database) == 0
    after = made.row()
    assert {**after, "ended_at": 0} == {**before, "ended_at": 0}
    assert [run["id"] for run in made.runs()] == ids
    made.look()
    assert not made.controllers()


def test_a_new_database_keeps_a_sweep_that_is_at_work(place: Place) -> None:
    made = place.start("training.learning_rate=1e-3,2e-3", seeds=[14])
    wait_for(lambda: [run["status"] for run in made.runs()] == ["starting"], 30, "a run at work")
    with place.db() as db:
        sweeps.delete(db, made.id)
        assert sweeping.restore(db, place.database) == 1
    assert made.row()["status"] == "running"
    for number in (0, 1):
        wait_for(lambda n=number: len(made.runs()) > n, 30, "the next run")
        (place.home / "runs" / made.runs()[number]["id"] / "END").touch()
    made.ends("finished")
    made.each_once()


def test_a_controller_whose_directory_is_gone_ends(place: Place) -> None:
    made = place.start("training.learning_rate=1e-3,2e-3", seeds=[14])
    wait_for(lambda: [run["status"] for run in made.runs()] == ["starting"], 30, "a run at work")
    shutil.rmtree(made.directory)
    wait_for(lambda: not made.controllers(), 20, "its end")


def test_a_broken_database_is_waited_for(place: Place) -> None:
    made = place.start("training.learning_rate=1e-3,2e-3", seeds=[14])
    wait_for(lambda: [run["status"] for run in made.runs()] == ["starting"], 30, "a run at work")
    aside = place.database.with_name("aside.db")
    place.database.rename(aside)
    log = made.directory / "output.log"
    wait_for(lambda: "does not exist" in log.read_text(), 20, "it says so")
    aside.rename(place.database)
    for number in (0, 1):
        wait_for(lambda n=number: len(made.runs()) > n, 30, "the next run")
        (place.home / "runs" / made.runs()[number]["id"] / "END").touch()
    made.ends("finished")
    made.each_once()
    assert log.read_text().count("does not exist") == 1, "once, not at every look"


def test_interrupted_is_what_never_began_or_what_the_machine_took_down(tmp_path: Path) -> None:
    assert interrupted(tmp_path, booted=1000.0)
    log = EventFile(tmp_path / "supervisor.jsonl", 1)
    log.append(Attempt(4711, 900.0, "", {}, [], 0))
    log.append(Exit("crashed", "gone"))
    assert interrupted(tmp_path, booted=1000.0)
    assert not interrupted(tmp_path, booted=800.0)


@pytest.mark.slow
def test_a_real_sweep_survives_its_terminal_and_its_controller(deck: Deck, tiny_model: Path, rows: Path) -> None:
    """Real workers, through the verbs."""
    sets = [part for one in ("compute.devices=cpu", "method.kind=lora", "training.max_steps=4", "evaluation.every=2",
                             "data.validation=8") for part in ("--set", one)]  # fmt: skip
    begun = deck.json(
        "sweep", "--model", str(tiny_model), "--data", str(rows), "--over", "method.rank=2,4", "--detach", *sets
    )
    directory = Path(begun["directory"])
    pid = wait_for(lambda: (directory / "supervisor.lock").read_text(), 20, "the controller")
    wait_for(lambda: deck.json("runs"), 60, "a run")
    os.kill(int(pid), signal.SIGKILL)
    wait_for(lambda: deck.json("sweeps", "show", begun["id"])["status"] == "finished", 120, "its end")
    shown = deck.json("sweeps", "show", begun["name"])
    assert [one["status"] for one in shown["points"]] == ["finished"] * 2
    assert shown["metric"] == "eval_loss"
    assert shown["best"] in [one["run"] for one in shown["points"]]
    assert len(deck.json("runs")) == 2
