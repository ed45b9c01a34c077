"""A line that is typed where the status stands: a filter, a name, a note, tags."""

from dataclasses import dataclass
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import Input


class LineField(Input):
    """Enter takes it, Esc leaves it (a key of the screen), ↓ takes it too, Tab completes."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "complete", show=False, priority=True, tooltip="complete"),
        Binding("down", "submit", show=False, tooltip="take it, and to the list"),
    ]

    @dataclass
    class Completed(Message):
        """Tab was pressed."""

        field: "LineField"

    def __init__(self, *, id: str) -> None:  # noqa: A002
        super().__init__(id=id, compact=True, select_on_focus=False)
        self.cursor_blink = False

    def action_complete(self) -> None:
        """The screen knows what there is."""
        self.post_message(LineField.Completed(self))

    def open(self, text: str) -> None:
        """Type into this text."""
        self.display = True
        self.value = text
        self.cursor_position = len(text)
        self.focus()
