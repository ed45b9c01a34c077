"""Bars of one line: a share, a progress."""

from textual.content import Content

from tuiapp.glyphs import FULL, REST
from tuiapp.widgets.rows import line


def share(part: float | None, total: float | None, width: int, role: str = "$accent") -> Content:
    """`part` of `total` as a bar; an empty one where either is unknown. Never full before it is full."""
    cells = 0
    if part is not None and total and part > 0:
        ratio = min(1.0, part / total)
        cells = max(1, int(ratio * width + 1e-9) if ratio >= 1 else min(width - 1, round(ratio * width)))
    return line((FULL * cells, role), (REST * max(0, width - cells), "$dim"))
