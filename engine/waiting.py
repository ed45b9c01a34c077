"""The queue: runs that wait for a card, in turn.

There is no daemon. Each waiting run is a supervisor with a ticket (a note in the directory of the locks, see
`engine.leases`) that says what it needs; each decides alone, from the same tickets and the same cards, and so all decide
alike. A run starts when as many cards as it needs have been free for SETTLE seconds: not leased to another run, not held
back, and with the predicted peak and MARGIN to spare, other people's memory counted as taken.

The order: the tickets choose in turn (`claims`). Each takes the cards that it could use now, even if they are not yet
all that it needs, and keeps them from those behind it. So a later run starts before an earlier one only on cards that
the earlier one could not use (too little memory, or not among those it may use), and a run that needs two cards is not
starved by runs that need one. What two runs see may differ for a moment: then the locks decide, and the order may be
the other way round; a card never has two runs.
"""

import contextlib
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engine import leases
from engine.hardware import Gpu, GpuProcess, GpuSample, Sampler
from engine.leases import CPU
from engine.text import clean
from engine.tickets import Lease, Ticket, join, leave, read_leases, read_tickets, take

SETTLE = 10.0
"""Seconds that a card which was seen taken must stay free: a program may only be between two of its processes."""
IDLE = 0.1
"""Share of its memory up to which a card that nobody computes on counts as empty: what a desktop takes."""
QUEUE = "QUEUE"
"""A file of this name in a run's directory makes a run that trains on the CPU wait until no other does; a run on GPUs
waits for its cards in any case. It stays for a later resume."""
PROCESSOR = Gpu(-1, CPU, "CPU", None)


@dataclass(frozen=True)
class Place:
    """A card as the queue sees it (or, with the UUID `cpu`, the processor). Memory in GiB, None where it is not told.

    `label` is how people call it, `runs` the names of the runs that have it, `held` who holds it back, `others` users
    and the memory of their processes.
    """

    uuid: str
    label: str
    total: float | None = None
    used: float | None = None
    leased: bool = False
    runs: tuple[str, ...] = ()
    held: str = ""
    others: tuple[tuple[str, float], ...] = ()

    @property
    def spare(self) -> float | None:
        """GiB that nobody uses."""
        return None if self.total is None or self.used is None else self.total - self.used

    @property
    def open(self) -> bool:
        """Whether a queued run may be put on it, memory aside; a card that no longer answers is not."""
        return not self.leased and not self.held and (self.uuid == CPU or self.used is not None)


def has_room(place: Place, needs: float | None) -> bool:
    """Whether so many GiB are free, or none is in use: then waiting would not make it more."""
    if needs is None or place.spare is None or place.spare >= needs:
        return True
    return not place.others and (place.used or 0.0) <= IDLE * (place.total or 0.0)


def usable(ticket: Ticket, places: Sequence[Place]) -> list[Place]:
    """The places where this run could be now if it were the first, the best first: where the least is in use, then the
    smallest card."""
    fitting = [p for p in places if p.uuid in ticket.cards and p.open and has_room(p, ticket.needs)]
    return sorted(fitting, key=lambda p: (round(p.used or 0.0), p.total or 0.0))


def claims(tickets: Sequence[Ticket], places: Sequence[Place]) -> dict[str, tuple[str, ...]]:
    """The UUIDs that each ticket, by key, takes or keeps for itself, at most as many as it needs."""
    left, found = list(places), {}
    for ticket in sorted(tickets, key=lambda t: (t.turn, t.key)):
        mine = usable(ticket, left)[: ticket.count]
        found[ticket.key] = tuple(place.uuid for place in mine)
        left = [place for place in left if place not in mine]
    return found


def reason(ticket: Ticket, tickets: Sequence[Ticket], places: Sequence[Place], by_name: bool = False) -> str:
    """What the run waits for, as it reads after "waits for"; those before it by their place in the queue or by name."""
    taken = claims(tickets, places)
    mine, alone = taken.get(ticket.key, ()), usable(ticket, places)
    if len(mine) >= ticket.count:
        what = "the CPU" if ticket.cards == (CPU,) else "its cards" if ticket.count > 1 else "its card"
        return f"{what} to stay free for {SETTLE:.0f} s"
    if len(alone) >= ticket.count:
        wanted = {place.uuid for place in alone}
        order = sorted(tickets, key=lambda t: (t.turn, t.key))
        ahead = next((i for i, t in enumerate(order) if wanted & {*taken[t.key]} and t.key != ticket.key), 0)
        return f"its turn behind {clean(order[ahead].name, False) if by_name else ahead + 1}"
    if alone:
        missing = ticket.count - len(alone)
        return "a second free card" if ticket.count == 2 else f"{missing} more free card{'s' if missing > 1 else ''}"
    return _nothing_usable(ticket, [place for place in places if place.uuid in ticket.cards])


def _nothing_usable(ticket: Ticket, places: Sequence[Place]) -> str:
    """Why none of its cards can be used: too little memory on one that is open, or who has them."""
    tight = [place for place in places if place.open]
    if tight and ticket.needs is not None:
        users = [(gib, user, place) for place in tight for user, gib in place.others]
        gib, user, place = max(users, key=lambda one: one[0], default=(0.0, "", tight[0]))
        text = f"{ticket.needs:.1f} GiB free on {'one card' if ticket.count == 1 else f'{ticket.count} cards'}"
        return f"{text}; {user} uses {gib:.1f} GiB of {place.label}" if user else text
    holders = {place.held for place in places if place.held}
    if holders and len([p for p in places if p.held]) == len(places):
        what = "the CPU" if ticket.cards == (CPU,) else places[0].label if len(places) == 1 else "a card"
        return f"{what}, held back by {', '.join(sorted(holders))}"
    names = list(dict.fromkeys(clean(name, False) for place in places for name in place.runs))
    if len(names) == 1 and ticket.count == 1:
        return f"{names[0]} to end"
    if ticket.cards == (CPU,):
        return f"{len(names)} runs on the CPU to end" if names else "the CPU"
    return "a free card" if ticket.count == 1 else f"{ticket.count} free cards"


@dataclass(frozen=True)
class Expected:
    """When a ticket's run may start (unix seconds; None: nobody can say), and on which cards."""

    starts: float | None
    cards: tuple[str, ...] = ()


def expected(
    tickets: Sequence[Ticket], places: Sequence[Place], ends: Mapping[str, float | None], now: float
) -> dict[str, Expected]:
    """An estimate for each ticket, by key. `ends`: when the run on a card, by UUID, will end."""
    free_at: dict[str, float | None] = {}
    for place in places:
        end = None if place.held else ends.get(place.uuid)
        late = end is not None and end < now  # it should have ended: nobody can say when it will
        free_at[place.uuid] = now if place.open else None if late else end
    found = {}
    for ticket in sorted(tickets, key=lambda t: (t.turn, t.key)):
        able = [p for p in places if p.uuid in ticket.cards and _will_fit(p, ticket.needs)]
        known = sorted(
            (at, round(p.used or 0.0) if p.open else 0, p.total or 0.0, p.uuid) for p in able
             if (at := free_at[p.uuid]) is not None
        )[: ticket.count]  # fmt: skip
        if len(known) < ticket.count:
            found[ticket.key] = Expected(None)
            for *_, uuid in known:  # it keeps them for a time that nobody knows
                free_at[uuid] = None
            continue
        starts = known[-1][0]
        found[ticket.key] = Expected(starts, tuple(uuid for *_, uuid in known))
        for *_, uuid in known:
            free_at[uuid] = starts + ticket.seconds if ticket.seconds is not None else None
    return found


def _will_fit(place: Place, needs: float | None) -> bool:
    """Whether it fits there now, or will when the run that is there now has ended."""
    return has_room(place, needs) if place.open else needs is None or place.total is None or needs <= place.total


def ends_of(held: Sequence[Lease]) -> dict[str, float | None]:
    """When the run on each card, by UUID, will end, as predicted before it began; the latest where several share the CPU."""
    found: dict[str, float | None] = {}
    for lease in held:
        end = lease.since + lease.seconds if lease.seconds is not None else None
        for uuid in lease.cards:
            before = found.get(uuid, end)
            found[uuid] = None if before is None or end is None else max(before, end)
    return found


def look_at(
    gpus: Sequence[Gpu],
    samples: Sequence[GpuSample],
    processes: Mapping[str, tuple[GpuProcess, ...] | None],
    held: Sequence[Lease],
) -> list[Place]:
    """Every card and the CPU as the queue sees them. `held` are the leases: their runs' names."""
    used = {sample.uuid: sample.memory_used for sample in samples}
    names = {uuid: tuple(lease.name for lease in held if uuid in lease.cards) for lease in held for uuid in lease.cards}
    cards = [
        Place(
            gpu.uuid, f"GPU {gpu.index}", gpu.memory_total, used.get(gpu.uuid),
            gpu.uuid in names or leases.is_leased(gpu.uuid), names.get(gpu.uuid, ()), leases.holder(gpu.uuid), _by_user(processes.get(gpu.uuid) or ()),
        )
        for gpu in gpus
    ]  # fmt: skip
    on_cpu = names.get(CPU, ())
    return [
        *cards,
        Place(CPU, "CPU", leased=bool(on_cpu) or leases.is_leased(CPU), runs=on_cpu, held=leases.holder(CPU)),
    ]


def _by_user(processes: Sequence[GpuProcess]) -> tuple[tuple[str, float], ...]:
    """Memory of those who compute on a card, the most first."""
    total: dict[str, float] = {}
    for one in processes:
        if one.kind == "compute":
            name = one.user or "somebody"
            total[name] = total.get(name, 0.0) + (one.gib or 0.0)
    return tuple(sorted(total.items(), key=lambda pair: (-pair[1], pair[0])))


class Turn:
    """This process's place in the queue, until it has its cards or leaves.

    `gpus` are all cards of the machine (others may wait for those that we may not use); `sampler` gives their numbers.
    """

    def __init__(self, ticket: Ticket, gpus: Sequence[Gpu], sampler: Sampler) -> None:
        self._ticket = ticket
        self._gpus = {gpu.uuid: gpu for gpu in gpus}
        self._sampler = sampler
        self._fd: int | None = None
        self._free_since: dict[str, float] | None = None

    def look(self) -> tuple[list[Gpu], list[int]] | str:
        """The cards with the descriptors that hold them (locks and note), or what we wait for."""
        tickets = self._tickets()
        places = look_at([*self._gpus.values()], self._sampler.sample(), self._sampler.processes(), read_leases())
        wanted = claims(tickets, places)[self._ticket.key]
        settled = self._settled([place.uuid for place in usable(self._ticket, places)])
        if len(wanted) == self._ticket.count and settled.issuperset(wanted):
            cards = [self._gpus.get(uuid, PROCESSOR) for uuid in wanted]
            leased = leases.try_lease(cards, len(cards))
            if leased is not None:
                fds = leased[1] + note_of(self._ticket, wanted)
                self.leave()
                return [gpu for gpu in cards if gpu is not PROCESSOR], fds
        return reason(self._ticket, tickets, places, by_name=True)

    def leave(self) -> None:
        """Give the place up."""
        if self._fd is not None:
            with contextlib.suppress(OSError):
                leave(self._ticket, self._fd)
            self._fd = None

    def _tickets(self) -> list[Ticket]:
        """All tickets, ours among them with the turn that somebody may have given it."""
        found = read_tickets()
        here = next((ticket for ticket in found if ticket.mine and ticket.key == self._ticket.key), None)
        if here is not None:
            self._ticket = here
            return found
        if self._fd is None or not os.fstat(self._fd).st_nlink:  # not yet there, or cleaned away as an old file
            self.leave()
            with contextlib.suppress(OSError):  # without a ticket the locks still keep two runs apart
                self._ticket, self._fd = join(self._ticket)
        return [*found, self._ticket]

    def _settled(self, free: list[str]) -> set[str]:
        """Which of the cards that could be used now have been so long enough; those that were free when we came are."""
        now = time.monotonic()
        if self._free_since is None:
            self._free_since = dict.fromkeys(free, -math.inf)
        self._free_since = {uuid: self._free_since.get(uuid, now) for uuid in free}
        return {uuid for uuid, since in self._free_since.items() if now - since >= SETTLE}


def note_of(ticket: Ticket, cards: Sequence[str]) -> list[int]:
    """The descriptor of the note that says who has these cards, by UUID; none where it cannot be written."""
    try:
        return [take(ticket, list(cards))]
    except OSError:
        return []


def take_cpu(ticket: Ticket) -> list[int]:
    """Train on the CPU at once, beside whatever else does: queued runs see it and wait. The descriptors to keep."""
    try:
        leased = leases.try_lease([PROCESSOR], 1)
    except OSError:  # the directory of the locks cannot be written: nobody is kept from training by that
        return []
    return (leased[1] if leased else []) + note_of(ticket, [CPU])
