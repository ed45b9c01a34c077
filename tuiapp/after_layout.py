"""Where the panes of the screen "After training" stand: pure functions from the size of the terminal to rectangles."""

from collections.abc import Mapping

from textual.geometry import Region

from tuiapp.layout import WIDE, Places, is_narrow, stack

NUMBERED = ("result", "rows", "answers", "jobs", "next")
"""The panes by their digit."""


def is_wide(width: int, height: int) -> bool:
    """Whether jobs and what can be done stand at the right."""
    return width >= WIDE and height >= 24


def after_places(
    width: int, height: int, lines: Mapping[str, int], zoom: str | None = None, measured: bool = True
) -> Places:
    """`lines`: how much each pane has to say, its title apart. `measured`: there is an evaluation, so that there are rows."""
    if is_narrow(width, height):
        if height < 6 or width < 24:
            return {"narrow": Region(0, 0, width, height)}
        rows = {"status": Region(0, height - 2, width, 1), "keys": Region(0, height - 1, width, 1)}
        return {zoom or "narrow": Region(0, 0, width, height - 2)} | rows
    places = {
        "head": Region(0, 0, width, 3),
        "status": Region(0, height - 2, width, 1),
        "keys": Region(0, height - 1, width, 1),
    }
    body = Region(0, 4, width, height - 7)
    if zoom is not None:
        return places | {zoom: body}
    if is_wide(width, height):
        return places | _wide(body, lines, measured)
    return places | _stacked(body, lines, measured)


def _main(lines: Mapping[str, int], room: int, measured: bool) -> list[tuple[str, int, int]]:
    """What came of an evaluation, in order of priority: (name, least, most)."""
    if not measured:
        needed = min(lines["result"] + 1, room - 3)
        return [("result", needed, needed)]
    result = max(6, min(lines["result"] + 1, room * 4 // 10))
    return [("result", 4, result), ("rows", 4, max(4, min(lines["rows"] + 1, room // 3))), ("answers", 5, room)]


def _stacked(body: Region, lines: Mapping[str, int], measured: bool) -> Places:
    jobs, beside = ("jobs", 2, body.height), ("next", lines["next"] + 1, lines["next"] + 1)
    panes = [*_main(lines, body.height, measured), *([("jobs", 2, lines["jobs"] + 1)] if measured else [jobs, beside])]
    return _placed(body, panes, NUMBERED if measured else ("result", "next", "jobs"))


def _wide(body: Region, lines: Mapping[str, int], measured: bool) -> Places:
    side = max(44, min(60, body.width * 36 // 100))
    main = Region(0, body.y, body.width - side - 3, body.height)
    at = Region(body.width - side, body.y, side, body.height)
    right = [("next", lines["next"] + 1, lines["next"] + 1), ("jobs", 3, body.height)]
    places = _placed(main, _main(lines, body.height, measured), NUMBERED) | _placed(at, right, ("next", "jobs"))
    return places | {"rule": Region(at.x - 2, body.y, 1, body.height)}


def _placed(body: Region, panes: list[tuple[str, int, int]], order: tuple[str, ...]) -> Places:
    found = stack(body.height, panes, order)
    return {name: Region(body.x, body.y + y, body.width, height) for name, (y, height) in found.items()}
