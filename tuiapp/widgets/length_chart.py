"""How long the rows are: bars over an axis of lengths, with the limit as a line across them."""

from collections.abc import Sequence

from textual.content import Content

from tuiapp import format as f
from tuiapp.data_values import columns, scale_end
from tuiapp.glyphs import SPARK
from tuiapp.widgets.data_panes import DataState
from tuiapp.widgets.pane import Look
from tuiapp.widgets.rows import Part, fit, line, spread

LIMIT = "│"
WIDE = 56
SIDE = 7
"""Cells for the numbers at the left of a wide chart."""


def lengths_pane(state: DataState, look: Look) -> list[Content]:
    """The title with the limit, the bars, their axis, and in a narrow one the main numbers."""
    page, limit = state.page, state.counts.max_length
    if not page.lengths:
        return [line((" No row is left to be measured.", "$dim"))]
    side = SIDE if look.width >= WIDE else 1
    cells = max(4, look.width - side - (2 if limit else 1))
    end = scale_end(page, limit)
    counts = columns(page.lengths, end, cells)
    at = round(limit / end * cells) if limit else None
    numbers = [] if look.width >= WIDE else [_numbers(state, look.width)]
    height = max(1, look.height - 2 - len(numbers))
    rows = [_title(state, look.width)]
    for y, text in enumerate(bars(counts, height)):
        label = f"{max(counts):,}" if y == 0 else "0" if y == height - 1 else ""
        start = line((f"{label:>{side - 1}} " if side > 1 else " ", "$dim"))
        rows.append(start + _with_limit(text, at, "$train" if state.counts.long_rows == "split" else "$warn"))
    rows.append(line(" " * side) + axis(end, limit, cells, page.lengths[-1]))
    return [fit(row, look.width) for row in [*rows, *numbers][: look.height]]


def _title(state: DataState, width: int) -> Content:
    page, limit = state.page, state.counts.max_length
    start = line((f" {page.unit.capitalize()}{' per row' if width >= 30 else ''}", "bold"))
    if width >= WIDE and page.tokenized:
        sample = f", of {page.tokenized:,} rows" if page.tokenized < page.kept else ""
        start = start + line((f"   template included{sample}", "$dim"))
    if limit is None:
        return spread(start, line(("no model ", "$dim")) if not page.form.model else line(""), width)
    return spread(start, line(("max ", "$dim"), ("‹ ", "$accent"), f"{limit:,}", (" › ", "$accent")), width)


def bars(counts: Sequence[int], height: int) -> list[str]:
    """Columns of eighths of a cell, the top row first; what is there is never invisible."""
    most = max(counts) or 1
    eighths = [max(1, round(count / most * height * 8)) if count else 0 for count in counts]
    signs = " " + SPARK
    return ["".join(signs[max(0, min(8, n - 8 * y))] for n in eighths) for y in reversed(range(height))]


def _with_limit(text: str, at: int | None, beyond: str) -> Content:
    """What is longer than the limit stands right of a line, in another colour where something of it is lost."""
    if at is None:
        return line((text, "$train"))
    return line((text[:at], "$train"), LIMIT, (text[at:], beyond))


def axis(end: int, limit: int | None, cells: int, longest: int) -> Content:
    """Zero, the limit under its line, and the end, as far as they do not touch."""
    room = cells + (1 if limit else 0)
    last = f"{end:,}" if longest <= end else f"{end:,}›"
    if limit is None:
        return spread(line(("0", "$dim")), line((last, "$dim")), room)
    text = f"{limit:,}"
    x = max(2, min(room - len(text), round(limit / end * cells) - len(text) // 2))
    gap = room - x - len(text)
    tail = last if gap > len(last) else ""
    parts: list[Part] = [("0", "$dim"), " " * (x - 1), text, (f"{tail:>{max(0, gap)}}", "$dim")]
    return line(*parts)


def _numbers(state: DataState, width: int) -> Content:
    """The half, nearly all and the longest; where there is not room for all, the last ones."""
    one = state.page.quantiles[0]
    values = (("half", one.half), ("95 %", one.high), ("max", one.most))
    named = [(name, f"{value:,}" if value < 10**5 else f.short(value)) for name, value in values]
    for shown, gap in ((named, "  "), (named, " "), (named[1:], "  "), (named[2:], "")):
        parts = [line((f"{gap if i else ' '}{name} ", "$dim"), text) for i, (name, text) in enumerate(shown)]
        if sum(part.cell_length for part in parts) <= width:
            return line(*parts)
    return line("")
