"""Where the panes of the Training step stand, and the columns of its fields: pure functions from the size of the terminal."""

from typing import NamedTuple

from textual.geometry import Region

from tuiapp.layout import WIDE, Places, is_narrow, stack

MARK = 3
"""Cells before a field's name: where the cursor is."""


MOST = 45
"""Rows that the panes at the right take at most: a higher curve says no more."""


class Columns(NamedTuple):
    """Where the columns of the fields begin; a column without room begins where the pane ends."""

    value: int
    usual: int
    parent: int
    why: int


def columns(width: int, *, whole: bool, fork: bool) -> Columns:
    """`whole`: paths, which are longer than names. The parent has a column of its own only where there is room."""
    value = 27 if whole else 20
    if width < 60:
        value = min(value, max(8, width // 2))
        return Columns(value, width, width, width)
    roomy = width >= 90
    usual = value + (22 if roomy else 19 if whole else 21)
    parent = usual + (16 if roomy else 15)
    return Columns(value, usual, parent, parent + (11 if fork and roomy else 0))


def training_places(width: int, height: int, lines: int) -> Places:
    """The panes between the head and the last three rows, which are the wizard's; `lines` fields and headings are listed."""
    if is_narrow(width, height):
        return {"fields": Region(0, 1, width, height - 3) if height >= 6 else Region(0, 0, width, height)}
    if width >= WIDE and height >= 30:
        return _wide_places(width, height, lines)
    places = {"preset": Region(0, 3, width, 1)}
    body = height - 9  # from row 5 to the blank one above what is settled
    about = 4 if body < 18 else 6
    fields = min(lines + 1, body - about - 1)
    places |= {"fields": Region(0, 5, width, fields), "about": Region(0, 6 + fields, width, about)}
    return places | _below(width, 7 + fields + about, body - about - fields - 2, ("schedule", 8, 14))


def _wide_places(width: int, height: int, lines: int) -> Places:
    """Fields and what one of them means at the left; schedule, time and memory at the right."""
    side = max(46, min(64, width * 40 // 100))
    main = width - side - 2
    body = height - 7
    about = 6
    fields = min(lines + 1, body - about - 3)
    places = {
        "preset": Region(0, 3, main - 1, 1),
        "fields": Region(0, 5, main - 1, fields),
        "about": Region(0, 6 + fields, main - 1, about),
        "rule": Region(main, 3, 1, body),
    }
    places |= _below(main - 1, 7 + fields + about, body - about - fields - 4, ("presets", 6, 10))
    right = stack(min(body, MOST), [("schedule", 8, 14), ("cost", 7, 7), ("peak", 10, 16)])
    return places | {name: Region(main + 1, 3 + y, side, rows) for name, (y, rows) in right.items()}


def _below(width: int, y: int, room: int, pane: tuple[str, int, int]) -> Places:
    """A pane in the rows that are left, if they are enough for it: its name, least and most rows."""
    name, least, most = pane
    return {name: Region(0, y, width, min(room, most))} if room >= least else {}


def room_for_fields(width: int, height: int) -> int:
    """How many fields can be listed."""
    return training_places(width, height, 10**6)["fields"].height - 1


def first_row(count: int, at: int, room: int) -> int:
    """The first of `count` lines that is shown, so that line `at` is among the `room` that fit."""
    return max(0, min(at - room // 2, count - room)) if count > room else 0
