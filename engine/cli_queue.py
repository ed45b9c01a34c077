"""The verb `queue`: who waits for a card and why, and what can be done about it."""

import argparse
import json
import time
from collections.abc import Mapping
from typing import Any

from engine import leases, report
from engine.errors import RunError
from engine.hardware import Gpu, Sampler, probe
from engine.leases import CPU
from engine.text import clean
from engine.tickets import Lease, Ticket, move, read_leases, read_tickets, remove
from engine.waiting import Place, ends_of, expected, look_at, reason

ACTIONS = {"up": "one turn earlier", "down": "one turn later", "remove": "out of the queue",
           "hold": "keep a card for yourself: no queued run is put on it", "free": "hold the card back no longer"}  # fmt: skip


def add_verb(verb: Any) -> None:
    """`verb` as in `engine.cli.build_parser`."""
    parser = verb("queue", queue, "the runs that wait for a card, in turn, and cards that are held back")
    parser.add_argument("action", nargs="?", choices=list(ACTIONS), metavar="ACTION",
                        help="; ".join(f"{name} {'GPU' if name in ('hold', 'free') else 'RUN'}: {text}"
                                       for name, text in ACTIONS.items()))  # fmt: skip
    parser.add_argument(
        "what", nargs="?", metavar="RUN|GPU", help="a run's id or name; a card's number or UUID, or cpu"
    )


def queue(options: argparse.Namespace) -> int:
    if options.action and not options.what:
        raise RunError(
            "What is meant?", f"tunedeck queue {options.action} needs a run or a card.", "See: tunedeck queue"
        )
    if options.action in ("hold", "free"):
        uuid = card(options.what, probe().gpus)
        (leases.hold if options.action == "hold" else leases.give_free)(uuid)
    elif options.action:
        ticket = waiting_run(options.what, read_tickets())
        if options.action == "remove":
            remove(ticket)
            _until_gone(ticket)
        else:
            move(ticket.key, -1 if options.action == "up" else 1)
    hardware, sampler = probe(), Sampler()
    held, tickets = read_leases(), read_tickets()
    places = look_at(hardware.gpus, sampler.sample(), sampler.processes(), held)
    print(json.dumps(document(tickets, places, held), ensure_ascii=False, indent=2) if options.json
          else page(tickets, places, held))  # fmt: skip
    return 0


def _until_gone(ticket: Ticket) -> None:
    """Its supervisor obeys within a moment: what is printed next is the queue without it."""
    for _ in range(50):
        if all(one.key != ticket.key for one in read_tickets()):
            return
        time.sleep(0.1)


def card(text: str, gpus: tuple[Gpu, ...]) -> str:
    """The UUID of the card with this number or beginning of a UUID; MIG devices of one card only by UUID. Raises RunError."""
    if text.lower() == CPU:
        return CPU
    found = [gpu.uuid for gpu in gpus if text == str(gpu.index) or (len(text) > 4 and gpu.uuid.startswith(text))]
    if len(found) != 1:
        there = ", ".join([*(f"{gpu.index} ({gpu.uuid})" for gpu in gpus), CPU])
        raise RunError("There is no such card" if not found else "That means several cards", f"Here: {there}.", "")
    return found[0]


def waiting_run(text: str, tickets: list[Ticket]) -> Ticket:
    """The ticket of the run with this id, beginning of an id or name. Raises RunError."""
    found = [t for t in tickets if text in (t.run, t.name)] or [t for t in tickets if t.run.startswith(text)]
    if len(found) != 1:
        names = ", ".join(f"{t.run} {t.name}" for t in found or tickets) or "nobody waits"
        raise RunError(
            "That run does not wait" if not found else "That means several runs", f"In the queue: {names}.", ""
        )
    return found[0]


def document(tickets: list[Ticket], places: list[Place], held: list[Lease]) -> dict[str, Any]:
    """What `queue --json` prints. Memory in GiB, times as unix seconds."""
    labels = {place.uuid: place.label for place in places}
    starts = expected(tickets, places, ends_of(held), time.time())
    return {
        "queue": [
            {
                "place": i + 1, "run": t.run, "name": t.name, "database": t.database, "user": t.user, "mine": t.mine,
                "cards": t.count, "gib": t.needs, "waits_for": reason(t, tickets, places), "since": t.since,
                "starts": starts[t.key].starts, "would_get": [labels[uuid] for uuid in starts[t.key].cards],
            }
            for i, t in enumerate(tickets)
        ],
        "leases": [{**_plain(lease), "cards": list(lease.cards)} for lease in held],
        "held_back": [{"card": p.label, "uuid": p.uuid, "user": p.held} for p in places if p.held],
    }  # fmt: skip


def _plain(lease: Lease) -> Mapping[str, Any]:
    return {name: value for name, value in vars(lease).items() if name != "cards"}


def page(tickets: list[Ticket], places: list[Place], held: list[Lease]) -> str:
    """The queue for people."""
    lines = [report.table(["", "waiting", "run", "needs", "waits for", "starts"], _rows(tickets, places, held))
             if tickets else "No run waits."]  # fmt: skip
    lines += [f"{lease.name}  {lease.run}  has {_names(lease, places)}, {lease.user}" for lease in held]
    lines += [
        f"{place.label} is held back by {place.held}: no queued run is put on it" for place in places if place.held
    ]
    return clean("\n".join(lines))


def _rows(tickets: list[Ticket], places: list[Place], held: list[Lease]) -> list[list[str]]:
    now = time.time()
    starts = expected(tickets, places, ends_of(held), now)
    return [[str(i + 1), t.name if t.mine else f"{t.name} ({t.user})", t.run, needs(t), reason(t, tickets, places),
             when(starts[t.key].starts, now)] for i, t in enumerate(tickets)]  # fmt: skip


def needs(ticket: Ticket) -> str:
    """`2 x 22.8 GiB`, `a card`, `the CPU`."""
    if ticket.cards == (CPU,):
        return "the CPU"
    if ticket.needs is None:
        return "a card" if ticket.count == 1 else f"{ticket.count} cards"
    return f"{ticket.count} x {ticket.needs:.1f} GiB"


def when(starts: float | None, now: float) -> str:
    """`now`, `about 15:02`, or a dash."""
    if starts is None:
        return "–"
    return "now" if starts <= now else f"about {time.strftime('%H:%M', time.localtime(starts))}"


def _names(lease: Lease, places: list[Place]) -> str:
    labels = {place.uuid: place.label for place in places}
    return ", ".join(labels.get(uuid, uuid) for uuid in lease.cards)
