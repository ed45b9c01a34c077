"""Where the panes of the plan page stand: pure functions from the size of the terminal to rectangles."""

from textual.geometry import Region

from tuiapp.layout import WIDE, Places, is_narrow
from tuiapp.plan_values import FIELDS


def plan_places(width: int, height: int, *, table: bool = False, past: bool = False, problem: bool = False) -> Places:
    """Where the panes stand. `table`: the alternatives in the place of the fields; `problem`: there is no page."""
    places = {"status": Region(0, height - 2, width, 1), "keys": Region(0, height - 1, width, 1)}
    if is_narrow(width, height):
        if height < 6 or width < 24:
            return {"problem" if problem else "verdict": Region(0, 0, width, height)}
        places |= {"head": Region(0, 0, width, 1)}
        if problem:
            return places | {"problem": Region(0, 1, width, height - 3)}
        return places | {"verdict": Region(0, 1, width, 2), "choice": Region(0, 3, width, height - 5)}
    places |= {"head": Region(0, 0, width, 2)}
    if problem:
        return places | {"problem": Region(0, 3, width, height - 6)}
    if width >= WIDE and height >= 30:
        return places | _wide_places(width, height, past)
    places |= {"verdict": Region(0, 3, width, 2)}
    if table:
        return places | {"else": Region(0, 6, width, height - 9)}
    fields = len(FIELDS) + 1
    left = min(47, width * 6 // 10)
    places |= {"choice": Region(0, 6, left, fields), "peak": Region(left, 6, width - left, fields)}
    room = height - 2 - (7 + fields)
    why = 2 if room < 8 else 3
    places |= {"why": Region(0, 7 + fields, width, min(why, room))}
    if room - why - 1 > 0:
        places["else"] = Region(0, 8 + fields + why, width, room - why - 1)
    return places


def _wide_places(width: int, height: int, past: bool) -> Places:
    """Fields and alternatives at the left; how the memory adds up and other cards at the right."""
    side = max(46, min(64, width * 40 // 100))
    main = width - side - 2
    bottom = height - 6
    if past and height >= 44:
        bottom -= 7
    fields = len(FIELDS) + (10 if height >= 40 else 1)
    peak = min(16, (bottom - 7) * 6 // 10)
    places = {
        "verdict": Region(0, 3, width, 3),
        "choice": Region(0, 7, main - 1, fields),
        "else": Region(0, 8 + fields, main - 1, max(0, bottom - 8 - fields)),
        "rule": Region(main, 7, 1, bottom - 7),
        "peak": Region(main + 1, 7, side, peak),
        "cards": Region(main + 1, 8 + peak, side, max(0, bottom - 8 - peak)),
        "why": Region(0, height - 5, width, 2),
    }
    return places | ({"past": Region(0, bottom + 1, width, 6)} if past and height >= 44 else {})
