"""Where the panes of the data page stand: pure functions from the size of the terminal to rectangles."""

from textual.geometry import Region

from tuiapp.layout import WIDE, Places, is_narrow, stack

LEAST = 6
"""Lines of the findings with their title, and of the lengths beside them."""


def data_places(
    width: int,
    height: int,
    *,
    findings: int = 0,
    reasons: int = 0,
    empty: bool = False,
    zoom: bool = False,
    problem: bool = False,
) -> Places:
    """Where the panes stand. `empty`: no row is left to be shown; `zoom`: one has all the room; `problem`: there is no page."""
    places = {"status": Region(0, height - 2, width, 1), "keys": Region(0, height - 1, width, 1)}
    if is_narrow(width, height):
        return _narrow_places(width, height, problem, places)
    places |= {"head": Region(0, 0, width, 2)}
    body = Region(0, 3, width, height - 6)
    if problem:
        return places | {"problem": body}
    if zoom:
        return places | {"sees": body}
    if width >= WIDE and height >= 30:
        return places | _wide_places(body, findings, reasons, empty)
    return places | _normal_places(body, findings, empty)


def is_wide(width: int, height: int) -> bool:
    """Whether everything stands beside each other."""
    return width >= WIDE and height >= 30


def _narrow_places(width: int, height: int, problem: bool, places: Places) -> Places:
    if height < 6 or width < 24:
        return {"problem" if problem else "narrow": Region(0, 0, width, height)}
    places = places | {"head": Region(0, 0, width, 1)}
    if problem:
        return places | {"problem": Region(0, 1, width, height - 3)}
    about = 2 if height >= 10 else 0
    places |= {"narrow": Region(0, 1, width, 2), "findings": Region(0, 3, width, height - 5 - about)}
    return places | ({"about": Region(0, height - 4, width, about)} if about else {})


def _normal_places(body: Region, findings: int, empty: bool) -> Places:
    """Findings and lengths beside each other, what the model sees below."""
    left = min(47, body.width * 6 // 10)
    more = max(0, body.height - 18)
    rows = LEAST - (body.height < 16) + min(more // 2, max(3, findings - 4), 8)
    about = 2 if more < 6 else 3
    y = body.y + 4
    below = y + rows + (more > 0)
    sees = below + about + 1
    places = {
        "file": Region(0, body.y, body.width, 3),
        "findings": Region(0, y, left, rows if more else rows - 1),
        "lengths": Region(left, y, body.width - left, rows),
        "about": Region(0, below, body.width, about),
        "sees": Region(0, sees, body.width, max(0, body.bottom - sees)),
        "epoch": Region(0, body.bottom, body.width, 1),
    }
    if empty:  # what is in the way is said in full
        places["about"] = Region(0, below, body.width, places.pop("sees").bottom - below)
    return {name: one for name, one in places.items() if one.height}


def _wide_places(body: Region, findings: int, reasons: int, empty: bool) -> Places:
    """What is wrong at the left, how long the rows are at the right, what the model sees below."""
    left = body.width // 2 - 1
    upper = body.height if empty else body.height * 55 // 100
    file = 2 if body.width >= 140 else 3
    panes = [("findings", 4, findings + 1), ("about", 3, 10 if empty else 4), ("rows", 4, reasons + 4)]
    room = upper - file - 1
    at_left = stack(min(room, sum(most + 1 for _, _, most in panes)) if empty else room, panes)
    at_right = stack(upper, [("lengths", 6, 12), ("quantiles", 3, 4), ("epoch", 3, 5)])
    places = {"file": Region(0, body.y, left, file), "rule": Region(left, body.y, 1, upper)}
    places |= {name: Region(0, body.y + file + 1 + y, left, rows) for name, (y, rows) in at_left.items()}
    right = body.width - left - 1
    places |= {name: Region(left + 1, body.y + y, right, rows) for name, (y, rows) in at_right.items()}
    if empty:
        return places
    return places | {"sees": Region(0, body.y + upper + 1, body.width, body.height - upper - 1)}
