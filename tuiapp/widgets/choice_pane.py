"""A pane that draws itself whole around a cursor: findings in two lines or in a list, choices in the midst of a text."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, TypeVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message

from tuiapp.widgets.keys import named
from tuiapp.widgets.pane import FocusPane, Look

S = TypeVar("S")


class ChoicePane(FocusPane[S]):
    """`count` says how many things there are; `Look.scroll` is the place of the cursor among them."""

    BINDINGS: ClassVar[list[BindingType]] = named([
        *FocusPane.SCROLL,
        Binding("enter", "choose", "choose", show=False, tooltip="do it, or all about it"),
    ])  # fmt: skip

    @dataclass
    class Chosen(Message):
        """Enter was pressed on the thing at this place."""

        pane_id: str
        place: int

    def __init__(
        self,
        build: Callable[[S, Look], list[Content]],
        count: Callable[[S], int],
        *,
        id: str,  # noqa: A002
        help_text: str = "",
    ) -> None:
        super().__init__(build, id=id, help_text=help_text, length=count)

    @property
    def place(self) -> int:
        """Where the cursor is, among the things that there are now."""
        return max(0, min(self._scroll, self._count() - 1))

    def look(self) -> Look:
        """With the cursor."""
        return Look(self.size.width, self.size.height, self.has_focus, self.deck.charts, self.place)

    def to_first(self) -> None:
        """Another run has other things."""
        self._scroll = 0

    def action_scroll_by(self, lines: int) -> None:
        """Move the cursor."""
        self._scroll = max(0, min(self._count() - 1, self.place + lines))
        self.redraw()

    def action_choose(self) -> None:
        """This one."""
        if self._count():
            self.post_message(self.Chosen(self.id or "", self.place))

    def _count(self) -> int:
        return self._length(self._state) if self._length is not None and self._state is not None else 0
