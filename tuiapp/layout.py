"""Where the panes of a screen stand: pure functions from the size of the terminal to rectangles."""

from collections.abc import Iterable, Mapping, Sequence

from textual.geometry import Region

Places = dict[str, Region]

NARROW = (60, 20)
WIDE = 120


def is_narrow(width: int, height: int) -> bool:
    """Whether only the small form of a screen has room."""
    return width < NARROW[0] or height < NARROW[1]


def stack(height: int, panes: Iterable[tuple[str, int, int]], order: Sequence[str] = ()) -> dict[str, tuple[int, int]]:
    """Panes above each other with a blank line between: (name, least, most) in order of priority.

    Those without room for their least height are left out, the rest share what is over up to their most
    height, and the first takes what nobody wants. They stand in the order given, or as `order` has them.
    Returns (y, height) by name.
    """
    kept: dict[str, int] = {}
    most: dict[str, int] = {}
    room = height
    for name, least, wanted in panes:
        need = least + (1 if kept else 0)
        if need <= room:
            kept[name], most[name] = least, wanted
            room -= need
    for name in kept:
        more = min(room, most[name] - kept[name])
        kept[name] += more
        room -= more
    if kept:
        kept[next(iter(kept))] += room
    places, y = {}, 0
    for name in sorted(kept, key=order.index) if order else kept:
        places[name] = (y, kept[name])
        y += kept[name] + 1
    return places


def home_places(width: int, height: int, empty: bool = False) -> Places:
    """The list, the preview under it or at its right, the status and the keys."""
    places = {
        "keys": Region(0, height - 1, width, 1),
        "status": Region(0, height - 2, width, 1),
        "head": Region(0, 0, width, 2),
    }
    if is_narrow(width, height):
        places["head"] = Region(0, 0, width, 1)
        if height < 5:
            return {"table": Region(0, 0, width, height)} if not empty else {"head": places["head"]}
        places["empty" if empty else "table"] = Region(0, 1, width, max(0, height - 3))
        return places
    body = height - 6
    if empty:
        return places | {"empty": Region(0, 3, width, body)}
    if width >= WIDE:
        side = max(40, min(56, width // 4))
        return places | {
            "table": Region(0, 3, width - side - 2, body),
            "rule": Region(width - side - 2, 3, 1, body),
            "preview": Region(width - side, 3, side, body),
        }
    low = 6
    return places | {
        "table": Region(0, 3, width, body - low - 1),
        "preview": Region(0, 3 + body - low, width, low),
    }


def live_places(
    width: int,
    height: int,
    *,
    zoom: str | None = None,
    error: bool = False,
    lines: Mapping[str, int] | None = None,
) -> Places:
    """The panes of a live run; with `zoom` one of them has all the room.

    `lines`: how many lines a pane has to say at most, its title apart; one with nothing to say may be left out.
    """
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
    if width >= WIDE and height >= 30:
        return places | _wide(body, error, lines or {})
    if error:
        return places | {"error": body}
    return places | _normal(body, lines or {})


Wanted = tuple[str, int, int]


def _wanted(lines: Mapping[str, int], panes: Iterable[Wanted]) -> list[Wanted]:
    """No pane higher than what it has to say; samples only where there are some."""
    found = []
    for name, least, most in panes:
        says = lines.get(name, most)
        if name != "samples" or says:
            found.append((name, least, max(least, min(most, says + 1))))
    return found


def _normal(body: Region, lines: Mapping[str, int]) -> Places:
    """Loss and memory beside each other, the texts below, as many as there is room for."""
    side = max(28, body.width // 3)
    panes = [("loss", 10, max(11, body.height // 2)), ("health", 2, 6), ("samples", 2, 4), ("checkpoints", 3, 4),
             ("log", 3, max(3, body.height // 4)), ("events", 3, 6)]  # fmt: skip
    rows = stack(body.height, _wanted(lines, panes))
    places = {name: Region(0, body.y + y, body.width, height) for name, (y, height) in rows.items()}
    top = places["loss"]
    places["loss"] = Region(0, top.y, body.width - side - 1, top.height)
    places["memory"] = Region(body.width - side, top.y, side, top.height)
    return places


def _wide(body: Region, error: bool, lines: Mapping[str, int]) -> Places:
    """Everything: curves and texts at the left; memory, health, checkpoints and facts at the right."""
    side = max(44, min(72, body.width * 34 // 100))
    main = body.width - side - 2
    first, tall = "error" if error else "loss", body.height >= 48
    left = [(first, 10, body.height * 4 // 10), ("samples", 4, 8), ("curves", 6, 13 if tall else 6),
            ("log", 4, 10 if tall else 5), ("events", 4, 10)]  # fmt: skip
    right = [("memory", 6, 20 if tall else 15), ("health", 6, 14), ("checkpoints", 3, 6), ("facts", 5, 40)]
    at_left = stack(body.height, _wanted(lines, left), (first, "curves", "samples", "log", "events"))
    at_right = stack(body.height, _wanted(lines, right))
    places = {name: Region(0, body.y + y, main - 1, rows) for name, (y, rows) in at_left.items()}
    places |= {name: Region(main + 2, body.y + y, side, rows) for name, (y, rows) in at_right.items()}
    return places | {"rule": Region(main, body.y, 1, body.height)}
