"""The rows of a finding: their lines and how they begin."""

from collections.abc import Mapping

from textual.content import Content

from tuiapp import format as f
from tuiapp.data_snapshot import FindingLine
from tuiapp.screens.words import WordsScreen
from tuiapp.widgets.rows import line

KEPT = 200
"""Rows of which the engine remembers the text: engine.data.scan.KEPT, which is not imported before the first paint."""


def lines_screen(finding: FindingLine, texts: Mapping[int, str]) -> WordsScreen:
    """`texts` are beginnings of rows by their line."""
    return WordsScreen(finding.message, lambda room: _rows(finding, texts, room))


def _rows(one: FindingLine, texts: Mapping[int, str], room: int) -> list[Content]:
    """The first lines; what is not remembered of them is only numbered."""
    wide = max(len(f"{n:,}") for n in one.lines)
    rows: list[Content] = []
    for number in one.lines:
        text = f.clip(f.clean(texts.get(number, "")), room - wide - 8)
        rows.append(line((f"{one.unit} ", "$dim"), f"{number:>{wide},}   ", (text or f.DASH, "" if text else "$dim")))
    missing = (one.count or 0) - len(one.lines)
    if missing > 0:
        rows.append(line((f"and {missing:,} more", "$dim")))
    if any(number not in texts for number in one.lines):
        words = f"{f.DASH} of the rows that are used the first {KEPT} are remembered"
        rows += [line(""), line((words, "$dim"))]
    return rows
