"""A comparison on a very small terminal: a row a run."""

from textual.content import Content

from engine.report_compare import ranking
from tuiapp import format as f
from tuiapp.compare_values import CompareState
from tuiapp.glyphs import CURSOR, state_glyph
from tuiapp.widgets.compare_table import style_of
from tuiapp.widgets.cursor_pane import Line
from tuiapp.widgets.pane import Look
from tuiapp.widgets.rows import line, spread


def narrow_pane(state: CompareState, look: Look, selected: str) -> list[Line]:
    """The runs, the best first, with what decides and how far that is from the baseline; then the sentence."""
    c = state.comparison
    name = c.measures[0].name if c.measures else ""
    head = spread(line(("Compare", "$accent"), f" {len(c.runs)}"), line((f"{name}   to B ", "$dim")), look.width)
    rows: list[Line] = [("", head)]
    for place in ranking(c):
        run = c.runs[place]
        cell = c.measures[0].cells[place] if c.measures else None
        mark = "*" if cell is not None and cell.best else "!" if cell is not None and not cell.like else " "
        text = (
            f"{f.right(cell.text, 7)}{mark}{f.right(cell.difference_text, 8)} "
            if cell is not None
            else f"{run.status} "
        )
        start = line(
            (CURSOR if run.id == selected else " ", "$accent"),
            (run.letter, style_of(place)),
            f" {state_glyph(run.status)} ",
            run.name,
        )
        rows.append((run.id, spread(start, line(text), look.width)))
    said: list[Content] = [line(""), *(line(f" {text}") for text in f.wrap(c.sentence, look.width - 2, 4))]
    return [*rows, *(("", text) for text in said)]
