"""Where the panes of the lineage screen stand."""

from textual.geometry import Region

from tuiapp.layout import WIDE, Places, is_narrow

LOW = 7
"""Rows of what is known of the run under the cursor, where it stands below the tree."""


def lineage_places(width: int, height: int) -> Places:
    """The tree; what changed, below it or at its right."""
    if height < 6 or width < 24:
        return {"tree": Region(0, 0, width, height)}
    places = {
        "head": Region(0, 0, width, 1 if is_narrow(width, height) else 2),
        "status": Region(0, height - 2, width, 1),
        "keys": Region(0, height - 1, width, 1),
    }
    if is_narrow(width, height):
        return places | {"tree": Region(0, 1, width, height - 3)}
    body = height - 6
    if width >= WIDE:
        side = max(44, min(60, width // 3))
        return places | {
            "tree": Region(0, 3, width - side - 2, body),
            "rule": Region(width - side - 2, 3, 1, body),
            "step": Region(width - side, 3, side, body),
        }
    return places | {
        "tree": Region(0, 3, width, body - LOW - 1),
        "step": Region(0, 3 + body - LOW, width, LOW),
    }
