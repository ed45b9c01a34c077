"""Where the panes of a screen stand: pure functions from the size of the terminal to rectangles."""

from collections.abc import Iterable

from textual.geometry import Region

Places = dict[str, Region]

NARROW = (60, 20)
WIDE = 120


def is_narrow(width: int, height: int) -> bool:
    """Whether only the small form of a screen has room."""
    return width < NARROW[0] or height < NARROW[1]


def stack(height: int, panes: Iterable[tuple[str, int, int]]) -> dict[str, tuple[int, int]]:
    """Panes above each other with a blank line between: (name, least, most) in order of priority.

    Those without room for their least height are left out, the rest share what is over up to their most
    height, and the first takes what nobody wants. Returns (y, height) by name, in the order given.
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
    for name, rows in kept.items():
        places[name] = (y, rows)
        y += rows + 1
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
    low = 5
    return places | {
        "table": Region(0, 3, width, body - low - 1),
        "preview": Region(0, 3 + body - low, width, low),
    }


def live_places(
    width: int, height: int, *, zoom: str | None = None, error: bool = False, samples: bool = True
) -> Places:
    """The panes of a live run; with `zoom` one of them has all the room."""
    if is_narrow(width, height):
        if height < 6 or width < 24:
            return {"narrow": Region(0, 0, width, height)}
        places = {"narrow": Region(0, 0, width, height - 2), "status": Region(0, height - 2, width, 1)}
        return places | {"keys": Region(0, height - 1, width, 1)}
    places = {
        "head": Region(0, 0, width, 3),
        "status": Region(0, height - 2, width, 1),
        "keys": Region(0, height - 1, width, 1),
    }
    body = Region(0, 4, width, height - 7)
    if zoom is not None:
        return places | {zoom: body}
    if width >= WIDE and height >= 30:
        return places | _wide(body, error, samples)
    if error:
        return places | {"error": body}
    return places | _normal(body, samples)


def _normal(body: Region, samples: bool) -> Places:
    """Loss and memory beside each other, the texts below."""
    side = 28
    texts = [("samples", 2, 3)] if samples else []
    most = max(10, body.height // 2), max(3, body.height // 4)
    more = [("checkpoints", 3, 5), ("events", 3, 6)]
    rows = stack(body.height, [("loss", 10, most[0]), *texts, ("log", 3, most[1]), *more])
    places = {name: Region(0, body.y + y, body.width, rows) for name, (y, rows) in rows.items()}
    top = places["loss"]
    places["loss"] = Region(0, top.y, body.width - side - 1, top.height)
    places["memory"] = Region(body.width - side, top.y, side, top.height)
    return places


def _wide(body: Region, error: bool, samples: bool) -> Places:
    """Everything: curves and texts at the left; memory, checkpoints and facts at the right."""
    side = max(44, min(72, body.width * 34 // 100))
    main = body.width - side - 2
    first = "error" if error else "loss"
    texts = [("samples", 4, 7)] if samples else []
    left = stack(
        body.height,
        [(first, 12, body.height * 4 // 10), ("curves", 6, 7), *texts, ("log", 4, 8), ("events", 4, 8)],
    )
    right = stack(body.height, [("facts", 7, 14), ("memory", 3, 12), ("checkpoints", 3, 6)])
    order = ("memory", "checkpoints", "facts")
    places = {name: Region(0, body.y + y, main - 1, rows) for name, (y, rows) in left.items()}
    y = body.y
    for name in order:
        if name in right:
            places[name] = Region(main + 2, y, side, right[name][1])
            y += right[name][1] + 1
    return places | {"rule": Region(main, body.y, 1, body.height)}
