"""Where the panes of the machine screen stand: pure functions from the size and what there is to rectangles."""

from dataclasses import dataclass

from textual.geometry import Region

from tuiapp.layout import WIDE, Places, is_narrow

TALL = 30
FEWEST = 3
"""Rows of the queue that cards give way to."""


@dataclass(frozen=True)
class There:
    """How many of each there are to show. `notes` are lines that the cards have besides: why there is no GPU."""

    cards: int
    queued: int
    facts: int = 0
    processes: int = 0
    days: int = 0
    happened: int = 0
    notes: int = 0


def is_wide(width: int, height: int) -> bool:
    """Whether a card is one line with all its columns, and what is known of it stands below."""
    return width >= WIDE and height >= TALL


def lines_of_a_card(room: int, cards: int) -> int:
    """3 (two and a blank one), 2 or 1: as many as there is room for in a pane of that height, title included."""
    return next((n for n in (3, 2) if cards * n - (n == 3) <= room - 1), 1)


def machine_places(width: int, height: int, there: There) -> Places:
    """The cards, who uses the one under the cursor, the queue, and the rest of the machine."""
    if height < 6 or width < 24:
        return {"cards": Region(0, 0, width, height)}
    ends = {"status": Region(0, height - 2, width, 1), "keys": Region(0, height - 1, width, 1)}
    if is_narrow(width, height):
        return ends | {"head": Region(0, 0, width, 1)} | _stacked(_small(height - 4, there), 1, width)
    if is_wide(width, height):
        return ends | {"head": Region(0, 0, width, 2)} | _stacked(_wide(height - 6, there), 3, width)
    rows = _normal(height - 7, there, one_line=width >= WIDE)
    return ends | {"head": Region(0, 0, width, 1), "host": Region(0, height - 4, width, 1)} | _stacked(rows, 2, width)


def _stacked(rows: dict[str, int], top: int, width: int) -> Places:
    places, y = {}, top
    for name, height in rows.items():
        places[name] = Region(0, y, width, height)
        y += height + 1
    return places


def _small(room: int, there: There) -> dict[str, int]:
    """One line a card; the queue as far as it goes."""
    cards = 1 + there.cards + there.notes
    queue = min(1 + max(1, there.queued), max(0, room - min(cards, room // 2) - 1))
    rows = {"cards": min(cards, room - queue - 1 if queue > 1 else room)}
    return rows | ({"queue": queue} if queue > 1 else {})


def _normal(room: int, there: There, one_line: bool) -> dict[str, int]:
    """The queue keeps a few rows; the cards are as roomy as they can be; processes if there is room over."""
    queue = 1 + max(1, min(there.queued, FEWEST))
    each = 1 if one_line else lines_of_a_card(room - queue - 1 - there.notes, there.cards)
    whole = 1 + there.cards * each - (each == 3) + there.notes
    cards = min(whole, room - queue - 1)
    over = room - cards - queue - 1
    more = min(over, max(0, there.queued - FEWEST))
    over -= more
    processes = 1 + min(there.processes, over - 2) if there.processes and over >= 3 else 0
    over -= processes + 1
    card = min(there.facts, over - 1) if processes and over >= 3 else 0
    found = {"cards": cards, "card": card, "processes": processes, "queue": queue + more}
    return {name: rows for name, rows in found.items() if rows}


def _wide(room: int, there: There) -> dict[str, int]:
    """In the order shown; what has no room is left out from the last in order of importance."""
    shown = ("cards", "card", "processes", "queue", "days", "happened")
    wanted = {
        "cards": (2, 1 + there.cards + there.notes),
        "queue": (2, 3 + there.queued if there.queued else 1),
        "processes": (2, 1 + max(1, there.processes)) if there.processes else (0, 0),
        "card": (1, there.facts),
        "days": (1 + there.days, 1 + there.days) if there.days else (0, 0),
        "happened": (3, 1 + there.happened) if there.happened else (0, 0),
    }
    kept: dict[str, int] = {}
    for name, (least, most) in wanted.items():
        left = room - sum(kept.values()) - len(kept)
        if most and left >= min(least, most):
            kept[name] = min(most, left)
    return {name: kept[name] for name in shown if name in kept}
