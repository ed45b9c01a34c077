"""A framed box over the screen, and in the last row its keys."""

from collections.abc import Sequence
from typing import TypeVar

from textual import events
from textual.app import ComposeResult
from textual.content import Content
from textual.screen import ModalScreen

from tuiapp.widgets.rows import Rows, fit

T = TypeVar("T")


class BoxScreen(ModalScreen[T]):
    """What all dialogs are drawn in."""

    def compose(self) -> ComposeResult:
        """The box and its keys; `draw` fills them."""
        yield Rows(id="dialog")
        yield Rows(id="dialog-keys")

    def on_resize(self, _: events.Resize) -> None:
        """Draw for the room there is."""
        self.draw()

    def draw(self) -> None:
        """Fill the box."""
        raise NotImplementedError

    def room(self, width: int) -> int:
        """Cells of a line in a box that is at most so wide."""
        return max(10, min(width, self.size.width - 2) - 6)

    def show_box(self, lines: Sequence[Content], room: int, keys: Content) -> None:
        """As high as its lines are."""
        box = self.query_one("#dialog", Rows)
        box.styles.width, box.styles.height = room + 6, len(lines) + 2
        box.show([fit(content, room) for content in lines])
        self.query_one("#dialog-keys", Rows).show([keys])
