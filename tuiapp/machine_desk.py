"""Looks at the machine for the app: cards, who uses them, who waits. Everything here may block."""

import contextlib
import datetime
import itertools
import math
import os
import shutil
import socket
import time
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path

import psutil

from engine import hardware, leases, tickets, waiting
from engine.errors import TuneDeckError
from engine.hardware import CardFacts, Gpu, GpuProcess, GpuSample
from engine.leases import CPU
from engine.store import machine as stored
from engine.store.connection import Connection, DatabaseError, ReadOnly, Say, open_database
from engine.tickets import Lease, Ticket
from tuiapp.detail import _ends_at, number
from tuiapp.machine_snapshot import DayLine, HappenedLine, LeaseLine, ProcessLine, QueueLine
from tuiapp.snapshot import GpuLine, Machine, RunLine

HISTORY_SECONDS = 30.0
HISTORY_LENGTH = 20
"""Means of 30 s for 10 minutes."""
SLOW_SECONDS = 3.0
"""How often processes, clocks, progress and the disk are looked at."""
DAYS = 3
HAPPENED = 30
BUSY_SECONDS = 60.0
PATIENCE = 1.0
"""Seconds that another program may hold the database: the next look is not far."""


class History:
    """Means over whole spans of HISTORY_SECONDS, so that what is drawn changes no more often."""

    def __init__(self) -> None:
        self._means: deque[tuple[int, float]] = deque(maxlen=HISTORY_LENGTH)
        self._span, self._sum, self._count = -1, 0.0, 0

    def add(self, now: float, value: float | None) -> None:
        """A value of now, seconds of any clock that goes forward."""
        span = int(now // HISTORY_SECONDS)
        if span != self._span:
            if self._count:
                self._means.append((self._span, self._sum / self._count))
            self._span, self._sum, self._count = span, 0.0, 0
        if value is not None:
            self._sum, self._count = self._sum + value, self._count + 1

    def values(self) -> tuple[float, ...]:
        """The means of the last HISTORY_LENGTH whole spans, NaN for those without a value."""
        known = dict(self._means)
        return tuple(known.get(self._span - i, math.nan) for i in range(HISTORY_LENGTH, 0, -1))


class MachineDesk:
    """Belongs to one thread, which looks about once a second."""

    def __init__(
        self, machine: hardware.Hardware, sampler: hardware.Sampler, database: Path, say: Say | None = None
    ) -> None:
        """`say` as in `open_database`."""
        self._say = say
        self._hardware, self._sampler, self._database = machine, sampler, database
        self._histories = {gpu.uuid: History() for gpu in machine.gpus}
        self._db: Connection | None = None
        self._slow_at = self._busy_at = -math.inf
        self._processes: dict[str, tuple[GpuProcess, ...] | None] = {}
        self._facts: dict[str, CardFacts] = {}
        self._disk: tuple[float, float] | None = None
        self._progress: dict[str, tuple[RunLine, float | None]] = {}
        self._days: tuple[DayLine, ...] = ()
        self._happened: tuple[HappenedLine, ...] = ()

    def forget(self) -> None:
        """Another file lies in the database's place."""
        self._db = None

    def look(self) -> Machine:
        """The machine now."""
        now = time.time()
        samples = self._sampler.sample()
        for sample in samples:
            if sample.uuid in self._histories:
                self._histories[sample.uuid].add(time.monotonic(), sample.utilization)
        held = tickets.read_leases()
        self._look_slowly(held, now)
        places = waiting.look_at(self._hardware.gpus, samples, self._processes, held)
        queue = tickets.read_tickets()
        lines = {lease.run: self._lease(lease) for lease in held}
        by_uuid = {sample.uuid: sample for sample in samples}
        return Machine(
            host=socket.gethostname(),
            gpus=tuple(
                self._card(gpu, by_uuid.get(gpu.uuid), place, held, lines, now)
                for gpu, place in zip(self._hardware.gpus, places, strict=False)
            ),
            gpu_problem=self._hardware.problem, cpu_name=self._hardware.cpu, cpu_percent=psutil.cpu_percent(),
            ram_used=hardware.ram_used(), ram_total=self._hardware.ram_total, user=leases.user_name(os.getuid()),
            cores=self._hardware.cores, driver=self._hardware.driver, cuda=self._hardware.cuda,
            disk=_short(self._database.parent), disk_free=self._disk[0] if self._disk else None,
            disk_total=self._disk[1] if self._disk else None,
            on_cpu=tuple(lines[lease.run] for lease in held if CPU in lease.cards), cpu_held=places[-1].held,
            queue=self._queue(queue, places, held, lines, now), days=self._days, happened=self._happened,
        )  # fmt: skip

    def _look_slowly(self, held: Sequence[Lease], now: float) -> None:
        """What costs more than a moment, every few seconds, and at once when other runs have cards."""
        here = [lease.run for lease in held if self._is_here(lease)]
        if time.monotonic() - self._slow_at < SLOW_SECONDS and set(here) <= self._progress.keys():
            return
        self._slow_at = time.monotonic()
        self._processes, self._facts = self._sampler.processes(), self._sampler.facts()
        self._disk = _disk(self._database.parent)
        try:
            self._read(here, now)
        except (TuneDeckError, DatabaseError):  # the runs' own part of the snapshot says so
            self._db = None
            self._progress = {run: self._progress.get(run, (_line(run), None)) for run in here}

    def _read(self, here: Sequence[str], now: float) -> None:
        if not self._database.exists():
            return
        if self._db is None or isinstance(self._db, ReadOnly):  # which does not see what others write
            self._db = open_database(self._database, create=False, patience=PATIENCE, say=self._say)
        found = stored.progress_of(self._db, here)
        self._progress = {run: (_line(run), None) for run in here}
        for run, row in found.items():
            line = RunLine(
                run, row["name"], row["status"], "", "", "", 0.0, step=row["step"], total_steps=row["total"],
                best_eval=number(row["best_eval"]),
            )  # fmt: skip
            self._progress[run] = line, _ends_at(line, stored.last_steps(self._db, run))
        if self._hardware.gpus and time.monotonic() - self._busy_at >= BUSY_SECONDS:
            self._busy_at = time.monotonic()
            starts = midnights(now, DAYS)
            self._days = days_of(stored.busy(self._db, starts[-1], now), starts, now)
        day = stored.happened(self._db, now - 86400, HAPPENED)
        self._happened = tuple(HappenedLine(row["time"], row["name"], row["text"]) for row in day)

    def _is_here(self, one: Lease | Ticket) -> bool:
        return one.mine and one.database == str(self._database)

    def _lease(self, lease: Lease) -> LeaseLine:
        predicted = lease.since + lease.seconds if lease.seconds is not None else None
        if not self._is_here(lease) or lease.run not in self._progress:
            return LeaseLine(lease.run, lease.name, lease.user, lease.mine, self._is_here(lease), ends_at=predicted)
        line, ends = self._progress[lease.run]
        return LeaseLine(
            lease.run, lease.name, lease.user, lease.mine, True, line.status, ends if ends is not None else predicted,
            line.step, line.total_steps, line.best_eval,
        )  # fmt: skip

    def _card(
        self, gpu: Gpu, sample: GpuSample | None, place: waiting.Place, held: Sequence[Lease],
        lines: dict[str, LeaseLine], now: float,
    ) -> GpuLine:  # fmt: skip
        facts = self._facts.get(gpu.uuid) or CardFacts()
        found = self._processes.get(gpu.uuid)
        asked = sample or GpuSample(gpu.index, None, None, None, None)
        return GpuLine(
            gpu.index, gpu.name, asked.memory_used, gpu.memory_total, asked.utilization, asked.power, asked.temperature,
            uuid=gpu.uuid, lost=_is_lost(gpu, asked), throttle=asked.throttle, power_limit=facts.power_limit,
            leased=place.leased, leases=tuple(lines[one.run] for one in held if gpu.uuid in one.cards), held=place.held,
            processes=None if found is None else tuple(_process(one, now) for one in found),
            facts=tuple(facts_of(gpu, facts, asked)),
            history=self._histories[gpu.uuid].values(),
        )  # fmt: skip

    def _queue(
        self, queue: Sequence[Ticket], places: Sequence[waiting.Place], held: Sequence[Lease],
        lines: dict[str, LeaseLine], now: float,
    ) -> tuple[QueueLine, ...]:  # fmt: skip
        from engine.cli_queue import needs  # with all that draws tables

        ends = {uuid: lines[lease.run].ends_at for lease in held for uuid in lease.cards}
        awaited = waiting.expected(queue, places, ends, now)
        labels = {place.uuid: place.label for place in places}
        return tuple(
            QueueLine(
                one.key, one.run, one.name, one.user, one.mine, self._is_here(one), needs(one),
                waiting.reason(one, queue, places), joined([labels[uuid] for uuid in awaited[one.key].cards]),
                awaited[one.key].starts, one.seconds,
            )
            for one in queue
        )  # fmt: skip


def joined(labels: list[str]) -> str:
    """`GPU 4 and 6`, from the labels of cards."""
    if not labels:
        return ""
    return " and ".join([labels[0], *(label.removeprefix("GPU ") for label in labels[1:])])


def midnights(now: float, count: int) -> list[float]:
    """The beginnings of today and the days before it, here."""
    today = datetime.datetime.fromtimestamp(now).replace(hour=0, minute=0, second=0, microsecond=0)
    return [(today - datetime.timedelta(days=i)).timestamp() for i in range(count)]


def days_of(busy: Iterable[tuple[float, float, int]], starts: Sequence[float], now: float) -> tuple[DayLine, ...]:
    """Card hours a day: `starts` are midnights, the newest first."""
    ends = [now, *starts[:-1]]
    spans = list(busy)
    return tuple(
        DayLine(start, sum(max(0.0, min(b, end) - max(a, start)) * cards for a, b, cards in spans) / 3600)
        for start, end in zip(starts, ends, strict=True)
    )


def _line(run: str) -> RunLine:
    return RunLine(run, run, "running", "", "", "", 0.0)


def _short(place: Path) -> str:
    """A path as people write it: `~/ft`."""
    home = str(Path.home())
    return f"~{str(place)[len(home) :]}" if place == Path(home) or Path(home) in place.parents else str(place)


def _disk(place: Path) -> tuple[float, float] | None:
    """GiB free and in all, where the runs are kept or will be."""
    there = next((one for one in itertools.chain([place], place.parents) if one.exists()), Path("/"))
    with contextlib.suppress(OSError):
        usage = shutil.disk_usage(there)
        return usage.free / hardware.GIB, usage.total / hardware.GIB
    return None


def _is_lost(gpu: Gpu, sample: GpuSample) -> bool:
    return gpu.name.startswith("lost:") or (gpu.memory_total is not None and sample.memory_used is None)


def _process(one: GpuProcess, now: float) -> ProcessLine:
    seconds = now - one.started if one.started is not None else None
    mine = one.user == leases.user_name(os.getuid())
    return ProcessLine(one.pid, one.command, one.user, one.gib, seconds, one.kind == "graphics", mine)


def facts_of(gpu: Gpu, facts: CardFacts, sample: GpuSample) -> Iterable[tuple[str, str]]:
    """What is known of a card besides its figures, in words; nothing for what it does not tell."""
    throttle = {None: "", "": "none"}.get(sample.throttle, sample.throttle or "")
    links = f"{facts.nvlinks[0]} of {facts.nvlinks[1]} up" if facts.nvlinks else ""
    told = [
        ("UUID", gpu.uuid),
        ("throttling", throttle),
        ("SM clock", _of(facts.sm_clock, facts.sm_clock_max)),
        ("memory clock", _of(facts.memory_clock, facts.memory_clock_max)),
        ("PCIe", _pcie(facts)),
        ("ECC errors", "" if facts.ecc_errors is None else f"{facts.ecc_errors:,}"),
        ("NVLink", links),
        ("power limit", "" if facts.power_limit is None else f"{facts.power_limit:.0f} W"),
        ("fan", "" if facts.fan is None else f"{facts.fan} %"),
        ("slows down at", "" if facts.slows_at is None else f"{facts.slows_at} °C"),
        ("state", "" if facts.state is None else f"P{facts.state}"),
        ("compute capability", ".".join(map(str, gpu.compute_capability or ()))),
        ("VBIOS", facts.vbios or ""),
    ]
    return [(name, text) for name, text in told if text]


def _of(now: int | None, most: int | None) -> str:
    if now is None:
        return ""
    return f"{now:,} MHz" + (f" of {most:,}" if most is not None else "")


def _pcie(facts: CardFacts) -> str:
    """As it runs now; a card that rests slows its link down, so the most it can is told too."""
    if facts.pcie is None:
        return ""
    text = f"{facts.pcie[0]}.0 x{facts.pcie[1]}"
    best = f"{facts.pcie_max[0]}.0 x{facts.pcie_max[1]}" if facts.pcie_max else text
    return text if best == text else f"{text} of {best}"
