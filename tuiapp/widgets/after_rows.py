"""The rows of an evaluation: a list of any length, of which only a window is at hand, and the row under the cursor."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message

from tuiapp import format as f
from tuiapp.after_values import ORDER_WORDS, AfterState, AnswerLine
from tuiapp.glyphs import CURSOR
from tuiapp.widgets.cursor_pane import MovingPane
from tuiapp.widgets.keys import named
from tuiapp.widgets.pane import Look, title
from tuiapp.widgets.rows import fit, line, spread

NUMBER, JUDGE = 9, 6


@dataclass
class RowTurned(Message):
    """The cursor is on another row: its place among all of them."""

    at: int


class RowList(MovingPane, can_focus=True):
    """Draws what is in view; rows that are not at hand are drawn as dashes until they have been read."""

    help_name = "Rows"
    help_text = (
        "The rows of the evaluation, the worst answer of the tuned model first; o orders them by what it lost or won against the "
        "base. The number is the score that decides, of base and tuned. Enter shows the row over the whole screen."
    )

    BINDINGS: ClassVar[list[BindingType]] = named([
        Binding("up,k", "move(-1)", "up", show=False, tooltip="up"),
        Binding("down,j", "move(1)", "down", show=False, tooltip="down"),
        Binding("pageup", "page(-1)", "page up", show=False, tooltip="page up"),
        Binding("pagedown", "page(1)", "page down", show=False, tooltip="page down"),
        Binding("g,home", "move(-1000000000)", "first", show=False, tooltip="first"),
        Binding("G,end", "move(1000000000)", "last", show=False, tooltip="last"),
    ])  # fmt: skip

    def __init__(self, *, id: str) -> None:  # noqa: A002
        super().__init__(id=id, classes="placed")
        self._state: AfterState | None = None
        self._top = 0

    def feed(self, state: AfterState) -> None:
        """Draw a new state."""
        self._state = state
        self.redraw()

    def redraw(self) -> None:
        """What is in view."""
        if self._state is None or not self.size.area or not self.is_attached:
            return
        look = Look(self.size.width, self.size.height, self.has_focus, self.deck.charts, self._scrolled(self._state))
        lines = rows_pane(self._state, look)
        here = 1 + self._state.at - look.scroll
        if self.has_focus and 0 < here < len(lines):
            lines[here] = lines[here].stylize(self.deck.row_style)
        self.show(lines)

    def _scrolled(self, state: AfterState) -> int:
        room = max(1, self.size.height - 1)
        self._top = max(0, min(self._top, state.at, state.page.total - room), state.at - room + 1)
        return self._top

    def action_move(self, by: int) -> None:
        """Move the cursor."""
        if self._state is not None and self._state.page.total:
            at = max(0, min(self._state.page.total - 1, self._state.at + by))
            if at != self._state.at:
                self.post_message(RowTurned(at))

    def action_page(self, direction: int) -> None:
        """By what is in view."""
        self.action_move(direction * max(1, self.size.height - 2))

    def on_click(self, event: events.Click) -> None:
        """A click chooses."""
        if event.y > 0 and self._state is not None and self._top + event.y - 1 < self._state.page.total:
            self.action_move(self._top + event.y - 1 - self._state.at)


def rows_pane(state: AfterState, look: Look) -> list[Content]:
    """The title and the rows from `look.scroll` on: where it is from, the question, the score of both, the judge's word."""
    page, room = state.page, max(0, look.height - 1)
    judged = any(row.opinion for row in page.rows)
    last = min(page.total, look.scroll + room)
    shown = range(look.scroll, last)
    rows = [_at(page.rows, place - page.first) for place in shown]
    wide = max((len(row.place) for row in rows if row is not None), default=4)
    wide = max(4, min(wide, look.width // 4))
    span = f"{look.scroll + 1:,}–{last:,} of {page.total:,}" if page.total else "none yet"
    heads = f.right("base", NUMBER) + f.right("tuned", NUMBER) + (f"  {'judge':<{JUDGE}}" if judged else "")
    name = page.evaluation.main if page.evaluation is not None else ""
    start = title("Rows", look, (f"{span}, {ORDER_WORDS[state.order]}", "$dim"))
    heads = f"{name}{heads}" if look.width >= 90 else heads
    lines = [spread(start, line((f"{heads} ", "$dim")), look.width)]
    for place, row in zip(shown, rows, strict=True):
        mark = line(" ", (CURSOR if place == state.at else " ", "$accent"), " ")
        lines.append(_line(row, mark, wide, judged, look.width))
    return lines


def _at(rows: Sequence[AnswerLine], place: int) -> AnswerLine | None:
    return rows[place] if 0 <= place < len(rows) else None


def _line(row: AnswerLine | None, mark: Content, wide: int, judged: bool, width: int) -> Content:
    if row is None:
        return fit(line(mark, (f.DASH, "$dim")), width)
    end = line(f.right(row.base.main, NUMBER), f.right(row.tuned.main, NUMBER))
    if judged:
        word = f.clean(row.opinion.winner) if row.opinion is not None else f.DASH
        role = {"tuned": "$good", "base": "$bad"}.get(word, "$dim")
        end = line(end, "  ", (f.left(word, JUDGE), role))
    start = line(mark, (f"{f.left(f.clean(row.place), wide)}  ", "$dim"), f.clean(row.question))
    return spread(start, line(end, " "), width)
