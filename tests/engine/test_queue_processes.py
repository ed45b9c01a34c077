"""Supervisors that wait for cards: real processes, real locks, a real database; only the cards and the work are invented."""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from engine import leases
from engine.events import Waiting
from engine.files import read_records
from engine.launch import try_lock
from engine.spec import parse, to_yaml
from engine.store import runs
from engine.store.connection import open_database
from engine.tickets import move, read_leases, read_tickets, remove
from tests.helpers import Deck, wait_for

ROOT = Path(__file__).parent.parent.parent


@dataclass
class Box:
    """A machine with invented cards, of 24 GiB each, and the runs on it."""

    home: Path
    cards: dict[str, dict[str, object]] = field(default_factory=dict)
    processes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    def card(self, uuid: str, used: int = 300, *processes: tuple[int, int]) -> None:
        """What NVML says of a card from now on, MiB; (pid, MiB) of what runs there."""
        self.cards[uuid] = {"total": 24564, "used": used, "processes": processes}
        new = self.home / "cards.new"
        new.write_text(json.dumps(self.cards))
        new.rename(self.home / "cards.json")

    def start(self, name: str, gib: float | None = 20.0, processes: int = 1, home: str = "one") -> None:
        """A run whose plan predicts so many GiB a card; `home` is the directory of its database."""
        database = self.database(home)
        run_dir = database.parent / "runs" / name
        run_dir.mkdir(parents=True)
        spec = parse({"model": {"path": "/m"}, "data": {"path": "/d.jsonl"}, "run": {"name": name},
                      "compute": {"processes": processes}})  # fmt: skip
        (run_dir / "spec.yaml").write_text(to_yaml(spec))
        db = open_database(database)
        plan = {"memory": {"device_gib": gib}, "speed": {"seconds": 60.0}} if gib else {}
        runs.insert(db, name, spec, plan, "here", time.time())
        db.close()
        lock = try_lock(run_dir)
        assert lock is not None
        command = [sys.executable, "-m", "tests.engine.fake_supervisor", str(self.home / "cards.json"), str(run_dir)]
        self.processes[name] = subprocess.Popen(
            [*command, f"--db={database}", f"--lock-fd={lock}"], cwd=ROOT, pass_fds=[lock], start_new_session=True,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(lock)

    def database(self, home: str = "one") -> Path:
        return self.home / home / "experiments.db"

    def directory(self, name: str, home: str = "one") -> Path:
        return self.home / home / "runs" / name

    def end(self, name: str) -> None:
        """The run's worker is done."""
        (self.directory(name) / "END").touch()

    def said(self, name: str, home: str = "one") -> list[str]:
        """What the run said that it waits for."""
        path = self.directory(name, home) / "supervisor.jsonl"
        records = read_records(path) if path.exists() else []
        return [r.event.text for r in records if isinstance(r.event, Waiting)]

    def waits(self, name: str, words: str, home: str = "one") -> None:
        wait_for(lambda: any(words in text for text in self.said(name, home)), 20, f"{name}: {words}")

    def status(self, name: str) -> str:
        with contextlib.closing(sqlite3.connect(self.database(), timeout=10)) as db:
            return str(db.execute("SELECT status FROM runs WHERE id = ?", (name,)).fetchone()[0])

    def runs(self, name: str) -> None:
        """Wait until it has its cards."""
        wait_for(lambda: name in {lease.name for lease in read_leases()}, 20, f"{name} has a card")

    def queue(self) -> list[str]:
        return [ticket.name for ticket in read_tickets()]

    def cards_of(self, name: str) -> set[str]:
        return {uuid for lease in read_leases() if lease.name == name for uuid in lease.cards}


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Box]:
    """A machine with one free card, A."""
    monkeypatch.setenv("TUNEDECK_LOCKS", str(tmp_path / "locks"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    one = Box(tmp_path)
    one.card("A")
    yield one
    for process in one.processes.values():
        for child in [process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
        process.wait()
    for run_dir in tmp_path.glob("*/runs/*"):
        (run_dir / "STOP").touch()  # a worker whose supervisor was killed


def test_one_card_and_three_runs_in_turn(box: Box) -> None:
    box.start("first")
    box.runs("first")
    box.start("second")
    box.waits("second", "waits for first to end")
    box.start("third", home="other")  # of another database
    wait_for(lambda: box.queue() == ["second", "third"], 20)
    box.end("first")
    box.runs("second")
    assert box.status("first") == "finished"
    box.waits("third", "waits for second to end", "other")
    assert box.queue() == ["third"]
    box.end("second")
    box.runs("third")
    assert box.queue() == []


def test_a_run_that_was_moved_up_starts_first(box: Box) -> None:
    box.start("first")
    box.runs("first")
    for name in ("second", "third"):
        box.start(name)
        box.waits(name, "first to end")
    move(read_tickets()[1].key, -1)
    box.end("first")
    box.runs("third")
    assert box.queue() == ["second"]


def test_somebody_else_s_memory_is_taken(box: Box) -> None:
    mine = os.getpid()
    box.card("A", 22000, (mine, 21500))
    box.start("first")
    box.waits("first", f"20.4 GiB free on one card; {leases.user_name(os.getuid())} uses 21.0 GiB of GPU 0")
    box.start("small", gib=1.0)
    box.runs("small")  # it fits beside that, and the first could not use the card
    box.card("A", 22100, (mine, 21600))
    box.end("small")
    wait_for(lambda: not read_leases(), 20)
    box.card("A", 300)
    box.runs("first")
    assert len(box.said("first")) <= 4, "a little more memory is nothing to say again"


def test_two_cards_are_waited_for_together_and_kept_from_later_runs(box: Box) -> None:
    box.card("B")
    box.start("first")
    box.runs("first")
    box.start("both", processes=2)
    box.waits("both", "a second free card")
    box.start("later")
    box.waits("later", "its turn behind both")
    box.end("first")
    box.runs("both")
    assert box.cards_of("both") == {"A", "B"}
    assert box.queue() == ["later"]


def test_kill_9_of_a_waiting_supervisor_leaves_no_ticket(box: Box) -> None:
    box.start("first")
    box.runs("first")
    box.start("second")
    box.waits("second", "first to end")
    box.start("third")
    box.waits("third", "first to end")
    box.processes["second"].kill()
    box.processes["second"].wait()
    assert box.queue() == ["third"]
    box.end("first")
    box.runs("third")


def test_a_killed_supervisor_s_worker_keeps_the_card_and_its_name(box: Box) -> None:
    box.start("first")
    box.runs("first")
    wait_for(lambda: (box.directory("first") / "output.log").exists(), 20)
    wait_for(lambda: "attempt" in (box.directory("first") / "supervisor.jsonl").read_text(), 20)
    box.processes["first"].kill()
    box.processes["first"].wait()
    assert box.cards_of("first") == {"A"}
    box.start("second")
    box.waits("second", "first to end")
    box.end("first")
    box.runs("second")


def test_stopped_while_it_waits(box: Box) -> None:
    box.start("first")
    box.runs("first")
    box.start("second")
    box.waits("second", "first to end")
    remove(read_tickets()[0])
    wait_for(lambda: box.status("second") == "stopped", 20)
    assert box.queue() == []
    assert box.processes["second"].wait(20) == 0
    assert box.cards_of("first") == {"A"}


def test_a_card_held_back_is_given_to_nobody(box: Box) -> None:
    leases.hold("A")
    box.start("first")
    box.waits("first", "GPU 0, held back by")
    assert read_leases() == []
    leases.give_free("A")
    box.runs("first")


def test_without_a_plan_a_card_without_a_run_will_do(box: Box) -> None:
    box.card("A", 22000, (os.getpid(), 21500))
    box.start("first", gib=None)
    box.runs("first")


def test_a_card_that_is_lost_is_waited_for(box: Box) -> None:
    box.card("B")
    leases.hold("A")
    leases.hold("B")
    box.start("first")
    box.waits("first", "held back")
    del box.cards["A"]
    box.card("B")
    leases.give_free("A")
    leases.give_free("B")
    box.runs("first")
    assert box.cards_of("first") == {"B"}


def test_a_ticket_that_somebody_cleaned_away_is_written_anew_in_its_place(box: Box) -> None:
    box.start("first")
    box.runs("first")
    box.start("second")
    box.waits("second", "first to end")
    box.start("third")
    box.waits("third", "first to end")
    next((box.home / "locks").glob("wait-*-second-*")).unlink()
    wait_for(lambda: box.queue() == ["second", "third"], 20)


def test_runs_on_the_cpu_start_at_once_and_queued_ones_wait_for_them(deck: Deck, tiny_model: Path, rows: Path) -> None:
    sets = [part for item in ("compute.devices=cpu", "training.max_steps=100000", "training.epochs=9000", "method.kind=lora",
                              "evaluation.prompts=[]", "data.validation=0") for part in ("--set", item)]  # fmt: skip
    train = ("train", "--model", str(tiny_model), "--data", str(rows), "--detach", *sets)
    first = deck.json(*train)["id"]
    wait_for(lambda: [lease.run for lease in read_leases()] == [first], 60)
    queued = deck.json(*train, "--queue")["id"]
    wait_for(lambda: [ticket.run for ticket in read_tickets()] == [queued], 60)
    second = deck.json(*train)["id"]
    wait_for(lambda: {lease.run for lease in read_leases()} == {first, second}, 60)
    shown = deck.json("queue")
    assert [(one["run"], one["waits_for"], one["cards"]) for one in shown["queue"]] == [
        (queued, "2 runs on the CPU to end", 1)
    ]
    assert deck("stop", first, second, "--now").returncode == 0
    wait_for(lambda: [lease.run for lease in read_leases()] == [queued], 60)
    assert deck("stop", queued, "--now").returncode == 0
    wait_for(lambda: not read_leases(), 60)
    assert deck("resume", queued, "--detach").returncode == 0, "put back into the queue, where nobody is before it"
    wait_for(lambda: [lease.run for lease in read_leases()] == [queued], 60)
