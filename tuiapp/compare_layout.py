"""Where the panes of a comparison stand."""

from collections.abc import Mapping

from textual.geometry import Region

from tuiapp.layout import WIDE, Places, is_narrow, stack

SIDE = ("curves", "hints", "memory", "reached", "lineage", "said")


def is_wide(width: int, height: int) -> bool:
    """Whether there is a column of panes at the right."""
    return width >= WIDE and height >= 30


def compare_places(width: int, height: int, lines: Mapping[str, int], zoom: str | None = None) -> Places:
    """`lines`: how much each pane has to say, its title apart; at the right one without anything is left out."""
    if is_narrow(width, height):
        if height < 6 or width < 24:
            return {"narrow": Region(0, 0, width, height)}
        rows = {"status": Region(0, height - 2, width, 1), "keys": Region(0, height - 1, width, 1)}
        return {zoom or "narrow": Region(0, 0, width, height - 2)} | rows
    wide = is_wide(width, height)
    places = {
        "head": Region(0, 0, width, 2 if wide else 3),
        "status": Region(0, height - 2, width, 1),
        "keys": Region(0, height - 1, width, 1),
    }
    body = Region(0, 2, width, height - 5) if wide else Region(0, 3, width, height - 5)
    if zoom is not None:
        return places | {zoom: body}
    return places | (_wide(body, lines) if wide else _below_each_other(body, lines))


def _below_each_other(body: Region, lines: Mapping[str, int]) -> Places:
    """The two tables share what the chart leaves; samples where there is room for them too."""
    chart = max(7, body.height * 3 // 10)
    room = body.height - chart - 2
    samples = min(lines["samples"] + 1, 9) if lines["samples"] and room >= 18 else 0
    room -= samples + 1 if samples else 0
    differs, result = lines["differs"] + 1, lines["result"] + 1
    if differs + result > room:
        differs = min(differs, max(room // 2, room - result))
        result = min(result, room - differs)
    chart += room - differs - result
    heights = [("differs", differs), ("result", result), ("chart", chart), *([("samples", samples)] if samples else [])]
    places, y = {}, body.y
    for name, height in heights:
        places[name] = Region(body.x, y, body.width, height)
        y += height + 1
    return places


def _wide(body: Region, lines: Mapping[str, int]) -> Places:
    side = max(38, min(52, body.width // 4))
    at = body.width - side
    most = {"curves": 9, "hints": 9}
    order = ("said", "curves", "hints", "reached", "memory", "lineage")
    panes = [(name, min(4, lines[name] + 1), min(most.get(name, 14), lines[name] + 1)) for name in order if lines[name]]
    rows = stack(body.height, panes, SIDE)
    right = {name: Region(at, body.y + y, side, height) for name, (y, height) in rows.items()}
    main = Region(0, body.y, body.width - side - 3, body.height)
    return _below_each_other(main, lines) | right | {"rule": Region(at - 2, body.y, 1, body.height)}
