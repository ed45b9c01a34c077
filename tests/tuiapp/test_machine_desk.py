"""What the app sees of a machine: invented cards, real notes in the directory of the locks, a real database."""

import math
import os
import time
from pathlib import Path

import pytest

from engine import leases, tickets
from engine.errors import RunError
from engine.events import Attempt, Exit, Metric, Progress, Started, Waiting
from engine.files import EventFile
from engine.hardware import Gpu, Sampler, probe
from engine.ingest import ingest
from engine.leases import CPU, user_name
from engine.spec import parse
from engine.store import machine as stored
from engine.store import runs
from engine.store.connection import Connection, open_database
from engine.tickets import Ticket, join, read_tickets, take
from tests.engine.fake_nvml import LOST, Card, FakeNvml, memory, process
from tuiapp.machine_desk import (
    HISTORY_LENGTH,
    HISTORY_SECONDS,
    History,
    MachineDesk,
    days_of,
    facts_of,
    joined,
    midnights,
)
from tuiapp.machine_snapshot import DayLine
from tuiapp.services import Services

ME = user_name(os.getuid())


def card(uuid: str, used: int = 300, *processes: int, **answers: object) -> Card:
    """A card of 24 GiB with what runs on it: pids, of 21,000 MiB each."""
    known = {"UUID": uuid, "Name": "NVIDIA GeForce RTX 4090", "MemoryInfo": memory(24564, used),
             "ComputeRunningProcesses": [process(pid, 21000) for pid in processes]}  # fmt: skip
    return Card(known | answers)


def desk(database: Path, *cards: Card) -> MachineDesk:
    nvml = FakeNvml(*cards)
    return MachineDesk(probe(nvml), Sampler(nvml), database)


@pytest.fixture(autouse=True)
def locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TUNEDECK_LOCKS", str(tmp_path / "locks"))
    return tmp_path / "locks"


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "home" / "experiments.db"


def a_run(database: Path, run_id: str, began: float, **more: object) -> tuple[Connection, EventFile, EventFile]:
    """A run that exists, and its two event files."""
    db = open_database(database)
    spec = parse({"model": {"path": "/m"}, "data": {"path": "/d.jsonl"}, "run": {"name": f"name-{run_id}"}})
    runs.insert(db, run_id, spec, None, "here", began)
    directory = database.parent / "runs" / run_id
    directory.mkdir(parents=True)
    return db, EventFile(directory / "events.jsonl", 1), EventFile(directory / "supervisor.jsonl", 1)


def ticket(run: str, database: Path, *cards: str, gib: float | None = 20.0) -> Ticket:
    return Ticket("", 0.0, run, f"name-{run}", str(database), cards, 1, gib, 60.0, time.time())


class TestHistory:
    def test_only_whole_spans_are_shown(self) -> None:
        one = History()
        for second in range(int(2 * HISTORY_SECONDS) + 5):
            one.add(1000 * HISTORY_SECONDS + second, 50.0 if second < HISTORY_SECONDS else 100.0)
        assert len(one.values()) == HISTORY_LENGTH
        assert one.values()[-2:] == (50.0, 100.0)
        assert all(math.isnan(value) for value in one.values()[:-2])

    def test_what_lies_between_two_looks_is_a_gap(self) -> None:
        one = History()
        for span in (10, 11, 14):
            one.add(span * HISTORY_SECONDS, float(span))
        assert one.values()[-4:-2] == (10.0, 11.0)
        assert all(math.isnan(value) for value in one.values()[-2:])

    def test_it_ends_after_ten_minutes(self) -> None:
        one = History()
        for span in range(100):
            one.add(span * HISTORY_SECONDS, float(span))
        assert one.values() == tuple(float(i) for i in range(79, 99))

    def test_a_card_that_does_not_tell(self) -> None:
        one = History()
        one.add(0.0, None)
        one.add(HISTORY_SECONDS, None)
        assert all(math.isnan(value) for value in one.values())


def test_a_machine_without_a_gpu(database: Path) -> None:
    machine = Services(database).snapshot(None).machine
    assert machine.gpu_problem or machine.gpus
    assert machine.user == ME
    assert machine.cores
    assert machine.disk_free
    assert machine.disk_total


def test_cards_and_who_uses_them(database: Path) -> None:
    throttled = card("B", 21500, os.getpid(), CurrentClocksEventReasons=0x20, EnforcedPowerLimit=450_000)
    machine = desk(database, card("A"), throttled, LOST).look()
    free, busy, lost = machine.gpus
    assert (free.uuid, free.processes, free.leased, free.lost) == ("A", (), False, False)
    [one] = busy.processes or ()
    assert (one.pid, one.user, one.mine, round(one.gib or 0, 1)) == (os.getpid(), ME, True, 20.5)
    assert (one.seconds or -1) >= 0
    assert (busy.throttle, busy.power_limit) == ("thermal", 450.0)
    assert dict(busy.facts)["throttling"] == "thermal"
    assert (lost.lost, lost.processes, lost.memory_used) == (True, None, None)
    assert len(free.history) == HISTORY_LENGTH


def test_a_card_that_is_lost_while_one_looks(database: Path) -> None:
    one = card("A")
    watching = desk(database, one)
    assert not watching.look().gpus[0].lost
    one.lost = True
    assert watching.look().gpus[0].lost


def test_a_run_of_this_database_is_known_by_its_progress(database: Path) -> None:
    now = time.time()
    db, worker, supervisor = a_run(database, "mbx1", now - 100)
    supervisor.append(Attempt(os.getpid(), 0.0, gpus=[0]))
    worker.append(Started(1, 0.0, "here"))
    for step in range(1, 11):
        worker.append(Metric(step, {"loss": 2.0 - step / 10}))
        worker.append(Progress(step, 30, 0.1))
    worker.append(Metric(10, {"eval_loss": 1.25}))
    ingest(db, "mbx1", database.parent / "runs" / "mbx1")
    fd = take(ticket("mbx1", database), ["A"])
    [gpu] = desk(database, card("A", 19000)).look().gpus
    [lease] = gpu.leases
    assert (lease.run, lease.name, lease.here, lease.mine, lease.status) == ("mbx1", "name-mbx1", True, True, "running")
    assert (lease.step, lease.total_steps, lease.best_eval) == (10, 30, 1.25)
    assert lease.ends_at is not None
    os.close(fd)


def test_a_run_of_another_database_is_known_by_its_note(database: Path, tmp_path: Path) -> None:
    fd = take(ticket("mbx2", tmp_path / "other" / "experiments.db"), ["A"])
    [gpu] = desk(database, card("A")).look().gpus
    [lease] = gpu.leases
    assert (lease.name, lease.here, lease.step) == ("name-mbx2", False, None)
    assert lease.ends_at == pytest.approx(time.time() + 60, abs=5)
    os.close(fd)
    assert desk(database, card("A")).look().gpus[0].leases == ()


def test_a_database_that_cannot_be_read_hides_no_card(database: Path) -> None:
    database.parent.mkdir(parents=True)
    database.write_text("no database at all, and long enough not to be taken for an empty file")
    fd = take(ticket("mbx1", database), ["A"])
    machine = desk(database, card("A")).look()
    assert machine.gpus[0].leases[0].name == "name-mbx1"
    os.close(fd)


def test_the_queue_with_its_reasons_and_times(database: Path) -> None:
    lease = take(ticket("mbx0", database), ["A"])
    held = [join(ticket(run, database, "A")) for run in ("mbx1", "mbx2")]
    cpu = join(ticket("mbx3", database, CPU, gib=None))
    first, second, third = desk(database, card("A", 19000)).look().queue
    assert (first.name, first.needs, first.waits_for, first.would_get) == (
        "name-mbx1",
        "1 x 20.4 GiB",
        "name-mbx0 to end",
        "GPU 0",
    )
    assert first.starts == pytest.approx(time.time() + 60, abs=5)
    assert second.starts == pytest.approx(time.time() + 120, abs=5)
    assert (third.needs, third.would_get) == ("the CPU", "CPU")
    os.close(lease)
    for _, fd in (*held, cpu):
        os.close(fd)


def test_hold_move_and_remove(database: Path) -> None:
    services = Services(database)
    services.hold("A", True)
    assert desk(database, card("A")).look().gpus[0].held == ME
    services.hold("A", False)
    assert leases.holder("A") == ""
    (first, one), (second, two) = (join(ticket(run, database, "A")) for run in ("mbx1", "mbx2"))
    services.move(second.key, -1)
    assert [each.run for each in read_tickets()] == ["mbx2", "mbx1"]
    (database.parent / "runs" / "mbx1").mkdir(parents=True)
    services.unqueue(first.key)
    assert (database.parent / "runs" / "mbx1" / "STOP").exists()
    tickets.leave(first, one)
    with pytest.raises(RunError, match="not in the queue"):
        services.unqueue(first.key)
    with pytest.raises(RunError, match="stays in the queue"):
        services.unqueue(second.key)  # whose directory is not there
    tickets.leave(second, two)


class TestDays:
    def test_hours_of_cards_by_day(self) -> None:
        today = 1_790_000_000.0
        yesterday = today - 86400
        spans = [(today - 3600, today + 1800, 4), (yesterday - 100, yesterday, 1)]
        found = days_of(spans, [today, yesterday], today + 7200)
        assert found == (DayLine(today, 2.0), DayLine(yesterday, 4.0))

    def test_days_begin_at_midnight_here(self) -> None:
        now = time.time()
        first, second = midnights(now, 2)
        assert time.localtime(first)[3:6] == time.localtime(second)[3:6] == (0, 0, 0)
        assert first <= now < first + 25 * 3600
        assert second < first

    def test_attempts_with_cards_are_counted_and_said(self, database: Path) -> None:
        now = time.time()
        db, _, supervisor = a_run(database, "mbx1", now)
        supervisor.append(Waiting("waits for other to end"))
        supervisor.append(Attempt(1, 0.0, gpus=[0, 1]))
        supervisor.append(Attempt(1, 0.0, gpus=[0]))
        ingest(db, "mbx1", database.parent / "runs" / "mbx1")
        two, one = stored.busy(db, now - 60, now + 7200)
        assert (two[2], one[2]) == (2, 1)
        assert two[1] == one[0]
        assert one[1] == now + 7200, "it still runs"
        supervisor.append(Exit("finished", "done"))
        ingest(db, "mbx1", database.parent / "runs" / "mbx1")
        assert stored.busy(db, now - 60, now + 7200)[1][1] < now + 3600
        said = stored.happened(db, now - 60, 10)
        assert [row["text"] for row in said][-1] == "waits for other to end"
        assert said[0]["name"] == "name-mbx1"
        assert stored.happened(db, now + 3600, 10) == []
        machine = desk(database, card("A")).look()
        assert machine.happened[0].text == "done"
        assert len(machine.days) == 3


def test_facts_are_words_and_what_is_not_told_is_left_out() -> None:
    sampler = Sampler(FakeNvml(card("A", ClockInfo=210, MaxClockInfo=3120, CurrPcieLinkGeneration=1, CurrPcieLinkWidth=16,
                                    MaxPcieLinkGeneration=4, MaxPcieLinkWidth=16, FanSpeed=0)))  # fmt: skip
    told = dict(facts_of(Gpu(0, "A", "RTX 4090", 24.0, (8, 9)), sampler.facts()["A"], sampler.sample()[0]))
    assert told == {
        "UUID": "A", "SM clock": "210 MHz of 3,120", "memory clock": "210 MHz of 3,120", "PCIe": "1.0 x16 of 4.0 x16",
        "fan": "0 %", "compute capability": "8.9",
    }  # fmt: skip


def test_labels_of_several_cards() -> None:
    assert [joined(labels) for labels in ([], ["CPU"], ["GPU 6", "GPU 4"])] == ["", "CPU", "GPU 6 and 4"]
