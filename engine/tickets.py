"""Tickets and leases as small files: which runs wait for what, in which order, and which runs have which cards.

They are notes (see `engine.leases`), so those of a run whose processes are gone are in force no more. All users' and
databases' are read alike; only one's own can be moved.
"""

import contextlib
import math
import os
import re
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine import paths
from engine.errors import RunError
from engine.leases import Note, read_notes, write_note
from engine.text import clean

MARGIN = 1.02
"""On the predicted peak: what must be free."""
_NAME = re.compile(r"wait-(\d{1,12}\.\d{6})-(.+)")


@dataclass(frozen=True)
class Ticket:
    """A run that waits: for `count` of the cards named by UUID, with `gib` GiB free on each (None: not known).

    `turn` orders the tickets (unix seconds of the day it joined, unless it was moved); `seconds` is how long it will
    take, as predicted; `key` is its name wherever it stands in the queue.
    """

    key: str
    turn: float
    run: str
    name: str
    database: str
    cards: tuple[str, ...]
    count: int = 1
    gib: float | None = None
    seconds: float | None = None
    since: float = 0.0
    user: str = ""
    mine: bool = True

    @property
    def needs(self) -> float | None:
        """GiB that must be free on each card."""
        return None if self.gib is None else self.gib * MARGIN


@dataclass(frozen=True)
class Lease:
    """A run that has cards, by UUID; `seconds` is how long it was predicted to take from `since` on."""

    run: str
    name: str
    database: str
    cards: tuple[str, ...]
    seconds: float | None = None
    since: float = 0.0
    user: str = ""
    mine: bool = True


def read_tickets() -> list[Ticket]:
    """Everybody's tickets in force, in order."""
    found = [_ticket(note) for note in read_notes("wait")]
    return sorted((ticket for ticket in found if ticket is not None), key=lambda t: (t.turn, t.key))


def read_leases() -> list[Lease]:
    """Every run on this machine that has a card or trains on the CPU."""
    found = []
    for note in read_notes("runs"):
        with contextlib.suppress(TypeError, ValueError, KeyError):  # another version's, or nonsense
            found.append(Lease(**_common(note), cards=_texts(note.fields["cards"])))
    return found


def _ticket(note: Note) -> Ticket | None:
    parts = _NAME.fullmatch(note.path.name)
    try:
        count = int(note.fields["count"])
        gib = _number(note.fields["gib"])
        if parts is None or count < 1:
            return None
        return Ticket(
            parts[2], float(parts[1]), cards=_texts(note.fields["cards"]), count=count, gib=gib, **_common(note)
        )
    except (TypeError, ValueError, KeyError):
        return None


def _common(note: Note) -> dict[str, Any]:
    fields = note.fields
    texts = {name: clean(str(fields[name]), False)[:200] for name in ("run", "name", "database")}
    return {**texts, "seconds": _number(fields.get("seconds")), "since": _number(fields["since"]) or 0.0, "user": note.user,
            "mine": note.mine}  # fmt: skip


def _texts(value: object) -> tuple[str, ...]:
    return tuple(str(one)[:100] for one in value) if isinstance(value, list) else ()


def _number(value: object) -> float | None:
    if not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def move(key: str, by: int) -> int:
    """Change the ticket's place with the one of ours `by` places before (negative) or behind it; its new place, from 1.

    Only among our own: their turns are exchanged, so nobody else is passed. Raises RunError.
    """
    mine = [ticket for ticket in read_tickets() if ticket.mine]
    at = next((i for i, ticket in enumerate(mine) if ticket.key == key), None)
    if at is None:
        raise RunError("The run is not in the queue", "It has started or was taken out, or it is another user's.", "")
    to = at + by
    if not 0 <= to < len(mine):
        raise RunError("It stays where it is", f"{mine[at].name} is the {'first' if by < 0 else 'last'} of yours.", "")
    step = 1 if to > at else -1
    for i in range(at + step, to + step, step):
        here = next((ticket for ticket in read_tickets() if ticket.key == key), mine[at])
        _exchange(here, mine[i])
    return next((i + 1 for i, ticket in enumerate(read_tickets()) if ticket.key == key), 1)


def _exchange(one: Ticket, other: Ticket) -> None:
    """A file keeps its lock when it is renamed, so the turn is in the name."""
    folder = paths.locks_directory()
    try:
        for ticket, turn in ((one, other.turn), (other, one.turn)):
            os.rename(folder / _file(ticket.turn, ticket.key), folder / _file(turn, ticket.key))
    except FileNotFoundError:  # one of them has just left the queue
        raise RunError("The queue has just changed", f"{one.name} or {other.name} is no longer in it.", "") from None


def remove(ticket: Ticket) -> None:
    """Take a run out of the queue: it is asked to stop, whatever database it is in. Raises RunError."""
    folder = paths.run_directory(Path(ticket.database), ticket.run)
    try:
        (folder / "STOP").touch(mode=0o600)
    except OSError as error:
        raise RunError("It stays in the queue", f"{folder}: {error.strerror}.", "") from None


def _file(turn: float, key: str) -> str:
    return f"wait-{turn:.6f}-{key}"


def join(ticket: Ticket) -> tuple[Ticket, int]:
    """Leave a ticket, at the end of the queue unless it has a turn: as it stands there, and what keeps it in force.

    Raises OSError.
    """
    last = max((one.turn for one in read_tickets()), default=0.0)
    turn = ticket.turn or round(max(time.time(), last + 1e-3), 6)
    ticket = replace(ticket, key=f"{ticket.run}-{os.getpid()}", turn=turn)
    fields = {"run": ticket.run, "name": ticket.name, "database": ticket.database, "cards": list(ticket.cards),
              "count": ticket.count, "gib": ticket.gib, "seconds": ticket.seconds, "since": ticket.since}  # fmt: skip
    return ticket, write_note(_file(ticket.turn, ticket.key), fields)


def leave(ticket: Ticket, fd: int) -> None:
    """Take our own ticket away, wherever it was moved to."""
    for path in paths.locks_directory().glob(f"wait-*-{ticket.key}"):
        path.unlink(missing_ok=True)
    os.close(fd)


def take(ticket: Ticket, cards: list[str]) -> int:
    """Note that this run has these cards, by UUID, as long as the descriptor or a child's copy is open. Raises OSError."""
    fields = {"run": ticket.run, "name": ticket.name, "database": ticket.database, "cards": cards,
              "seconds": ticket.seconds, "since": time.time()}  # fmt: skip
    return write_note(f"runs-{ticket.run}-{os.getpid()}", fields)
