"""The rows of a finding: their lines and how they begin."""

from collections.abc import Mapping
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.screen import ModalScreen

from tuiapp import format as f
from tuiapp.data_snapshot import FindingLine
from tuiapp.widgets.rows import Rows, fit, line

WIDTH = 110
KEPT = 200
"""Rows of which the engine remembers the text: engine.data.scan.KEPT, which is not imported before the first paint."""


class LinesScreen(ModalScreen[None]):
    """A list over the page."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,i,enter", "close", "close"),
        Binding("down,j", "scroll(1)", "down"),
        Binding("up,k", "scroll(-1)", "up"),
        Binding("pagedown", "scroll(10)", "page down"),
        Binding("pageup", "scroll(-10)", "page up"),
    ]

    def __init__(self, finding: FindingLine, texts: Mapping[int, str]) -> None:
        super().__init__()
        self._finding = finding
        self._texts = texts
        self._top = 0

    def compose(self) -> ComposeResult:
        """The framed box and, in the last row, its keys."""
        yield Rows(id="dialog")
        yield Rows(id="dialog-keys")

    def on_resize(self, _: events.Resize) -> None:
        """Draw for the room there is."""
        self._draw()

    def action_close(self) -> None:
        """Back to the page."""
        self.dismiss()

    def action_scroll(self, by: int) -> None:
        """Where there are more than fit."""
        self._top = max(0, self._top + by)
        self._draw()

    def _draw(self) -> None:
        room = max(10, min(WIDTH, self.size.width - 2) - 6)
        head = [line((text, "bold")) for text in f.wrap(f.clean(self._finding.message), room, 2)]
        rows = self._rows(room)
        fitting = max(1, self.size.height - 6 - len(head))
        self._top = min(self._top, max(0, len(rows) - fitting))
        lines = [*head, line(""), *rows[self._top : self._top + fitting]]
        box = self.query_one("#dialog", Rows)
        box.styles.width, box.styles.height = room + 6, len(lines) + 2
        box.show([fit(content, room) for content in lines])
        more = "↑↓ more  " if len(rows) > fitting else ""
        self.query_one("#dialog-keys", Rows).show([line((f" {more}Esc close", "$dim"))])

    def _rows(self, room: int) -> list[Content]:
        """The first lines; what is not remembered of them is only numbered."""
        one = self._finding
        wide = max(len(f"{n:,}") for n in one.lines)
        rows: list[Content] = []
        for number in one.lines:
            text = f.clip(f.clean(self._texts.get(number, "")), room - wide - 8)
            rows.append(
                line((f"{one.unit} ", "$dim"), f"{number:>{wide},}   ", (text or f.DASH, "" if text else "$dim"))
            )
        missing = (one.count or 0) - len(one.lines)
        if missing > 0:
            rows.append(line((f"and {missing:,} more", "$dim")))
        if any(number not in self._texts for number in one.lines):
            words = f"{f.DASH} of the rows that are used the first {KEPT} are remembered"
            rows += [line(""), line((words, "$dim"))]
        return rows
