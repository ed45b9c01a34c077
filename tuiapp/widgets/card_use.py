"""Who uses a card, in a word and in a line."""

from collections.abc import Sequence

from tuiapp import format as f
from tuiapp.glyphs import state_glyph, state_role
from tuiapp.machine_snapshot import LeaseLine, ProcessLine
from tuiapp.snapshot import GpuLine
from tuiapp.widgets.rows import Part

IDLE = 0.1
"""Share of its memory up to which a card whose processes are not told counts as free."""
USES = ("ours", "other", "free", "held", "lost")


def use_of(card: GpuLine) -> str:
    """One of USES: what the card is to us."""
    if card.lost:
        return "lost"
    if card.leased or card.leases:
        return "ours" if any(lease.mine for lease in card.leases) else "other"
    if card.held:
        return "held"
    if working := workers(card):
        return "ours" if all(one.mine for one in working) else "other"
    unnamed = card.processes is None and (card.memory_used or 0.0) > IDLE * (card.memory_total or 0.0)
    return "other" if unnamed else "free"


def counts(cards: Sequence[GpuLine], held: str = "held") -> list[tuple[str, str]]:
    """`5 ours`, `1 free`, ... with the word they are about; those of which there are none are left out."""
    found = [use_of(card) for card in cards]
    return [(f"{found.count(use)} {held if use == 'held' else use}", use) for use in USES if use in found]


def workers(card: GpuLine) -> list[ProcessLine]:
    """The processes that compute; a desktop does not."""
    return [one for one in card.processes or () if not one.graphics]


def spare(card: GpuLine) -> float | None:
    """GiB that nobody uses."""
    if card.memory_used is None or card.memory_total is None:
        return None
    return max(0.0, card.memory_total - card.memory_used)


def who(user: str | None, mine: bool) -> str:
    """A user as the person at the keyboard says it."""
    return "you" if mine else f.clean(user) if user else f.DASH


def lease_words(lease: LeaseLine) -> tuple[str, str]:
    """A run with its state, in the state's colour."""
    return (f"{state_glyph(lease.status)} {f.clean(lease.name)}", state_role(lease.status))


def ends(lease: LeaseLine, now: float) -> str:
    """`ends 14:52`, if anybody can say."""
    return f"ends {f.clock(lease.ends_at)}" if lease.ends_at is not None and lease.ends_at > now else ""


def use_parts(card: GpuLine, now: float, me: str) -> list[Part]:
    """The line below a card: its run, its processes, or what is free. `me` is this user's name."""
    if card.lost:
        return [("lost", "$bad"), "   the driver no longer reaches it"]
    working, parts = workers(card), list[Part]()
    for lease in card.leases:
        own = [one for one in working if one.user == lease.user] if lease.user else working
        parts += _lease_parts(lease, own, now)
        working = [one for one in working if one not in own]
    if card.leased and not card.leases:
        parts.append("leased to a program that does not say which")
    if card.held and not card.leases:
        spared = "" if working else f"   {f.gib(spare(card))} GiB"
        parts.append((f"held back by {'you' if card.held == me else f.clean(card.held)}{spared}", "$warn"))
    parts += _process_parts(working, bool(parts))
    if not parts and use_of(card) == "other":
        parts.append(f"used   {f.gib(card.memory_used)} GiB, by whom the driver does not tell")
    return [*(parts or [("free", "$good"), f"   {f.gib(spare(card))} GiB"]), *hot(card)]


def _lease_parts(lease: LeaseLine, own: Sequence[ProcessLine], now: float) -> list[Part]:
    """A run, its user, its processes on this card and its end."""
    pid = f"pid {own[0].pid}" if len(own) == 1 else f"{len(own)} processes" if own else ""
    memory = f"{f.gib(sum(one.gib or 0.0 for one in own))} GiB" if any(one.gib for one in own) else ""
    words = [who(lease.user, lease.mine), pid, memory, ends(lease, now)]
    return [lease_words(lease), "".join(f"   {word}" for word in words if word)]


def _process_parts(working: Sequence[ProcessLine], after: bool) -> list[Part]:
    """The largest process that belongs to no run of ours, and how many more."""
    if not working:
        return []
    one = working[0]
    more = f"   and {len(working) - 1} more" if len(working) > 1 else ""
    if after:
        return [f"   {process_name(one)}   {who(one.user, one.mine)}{more}"]
    since = f"   {f.age(one.seconds)}" if one.seconds is not None else ""
    return [f"{process_name(one)}   {who(one.user, one.mine)}   pid {one.pid}   {f.gib(one.gib)} GiB{since}{more}"]


def process_name(one: ProcessLine) -> str:
    """A process as people call it."""
    return f.clean(one.name) if one.name else f"pid {one.pid}, which is hidden from here"


def hot(card: GpuLine) -> list[Part]:
    """What a person should see to: heat or a fault. That a card reaches its power limit is how it works."""
    words = {"thermal": "hot", "hw slowdown": "slowed down"}
    found = [text for reason, text in words.items() if reason in (card.throttle or "").split(", ")]
    return [(f"   ! {' and '.join(found)}", "$warn")] if found else []
