"""Where the panes of the last step stand: a pure function from the size of the terminal to rectangles."""

from textual.geometry import Region

from tuiapp.layout import WIDE, Places, is_narrow

FACTS = 5
NAME_AT = 9
"""Column of the name, and of the path under it while one types them."""
SAVE_AT = 11


def review_places(
    width: int, height: int, *, command: int = 0, peak: int = 0, problem: bool = False, whole: bool = False,
    naming: bool = False, saving: bool = False,
) -> Places:  # fmt: skip
    """The step's own panes. `command` and `peak` are rows wanted with their titles; `whole`: the specification in the place of the rest."""
    if is_narrow(width, height):
        return _narrow(width, height, problem, naming, saving)
    bottom = height - 4
    if problem:
        return {"problem": Region(0, 3, width, bottom - 3)}
    wide = width >= WIDE
    side = max(46, min(76, width * 44 // 100)) if wide else 0
    main = width - side - (1 if wide else 0)
    places = {"facts": Region(0, 3, main, FACTS), "choices": Region(0, bottom - 1, main, 1)}
    if naming:
        places["name"] = Region(NAME_AT, 3, min(main - NAME_AT - 1, 60), 1)
    if saving:
        places["path"] = Region(SAVE_AT, bottom - 1, main - SAVE_AT - 1, 1)
    if wide:
        places |= _side(main, side, bottom, peak)
    elif whole:
        return places | {"yaml": Region(0, 9, width, bottom - 11)}
    command = min(command, (bottom - 10) // 2)  # the rest keeps as much
    top = bottom - 1 - command
    places["details"] = Region(0, 9, main, top - 10 if command else top - 9)
    if command:
        places["command"] = Region(0, top, main, command)
    return places


def _side(main: int, side: int, bottom: int, peak: int) -> Places:
    """How the memory adds up where there is a card, and the whole specification."""
    rows = peak if peak and bottom - 3 - peak >= 14 else 0
    top = 4 + rows if rows else 3
    found = {"rule": Region(main, 3, 1, bottom - 3), "yaml": Region(main + 1, top, side, bottom - top)}
    return found | ({"peak": Region(main + 1, 3, side, rows)} if rows else {})


def _narrow(width: int, height: int, problem: bool, naming: bool, saving: bool) -> Places:
    if height < 6 or width < 24:
        return {"problem" if problem else "facts": Region(0, 0, width, height)}
    if problem:
        return {"problem": Region(0, 1, width, height - 3)}
    places = {"facts": Region(0, 1, width, height - 4), "choices": Region(0, height - 3, width, 1)}
    if naming or saving:
        places["name" if naming else "path"] = Region(1, height - 3, width - 2, 1)
        del places["choices"]
    return places
