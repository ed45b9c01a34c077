"""Everything that is known of something, as names and values in a box over the screen."""

from collections.abc import Sequence

from textual.content import Content

from tuiapp import format as f
from tuiapp.screens.words import WordsScreen
from tuiapp.widgets.rows import line

WIDTH = 84


def facts_screen(heading: str, facts: Sequence[tuple[str, str]]) -> WordsScreen:
    """`facts` are (name, value), in the order shown."""
    return WordsScreen(heading, lambda room: _rows(facts, room), width=WIDTH)


def _rows(facts: Sequence[tuple[str, str]], room: int) -> list[Content]:
    facts = [(f.clean(name), f.clean(value)) for name, value in facts]
    wide = min(max((len(name) for name, _ in facts), default=0), room // 2)
    return [line((f"{f.left(name, wide)}  ", "$dim"), f.clip(value, max(1, room - wide - 2))) for name, value in facts]
