"""A pane: lines built from a state for the room there is, rebuilt when any of the two changes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content

from tuiapp.glyphs import FOCUS
from tuiapp.widgets.keys import named
from tuiapp.widgets.rows import Part, Rows, line, spread

S = TypeVar("S")


@dataclass(frozen=True)
class Look:
    """The room and the manner in which a pane is drawn."""

    width: int
    height: int
    focused: bool = False
    charts: str = "braille"
    scroll: int = 0
    """Lines that a pane with more text than room is moved by."""


class Pane(Rows, Generic[S]):
    """Lines that `build` makes of the state."""

    def __init__(self, build: Callable[[S, Look], list[Content]], *, id: str) -> None:  # noqa: A002
        super().__init__(id=id, classes="placed")
        self._build = build
        self._state: S | None = None

    def feed(self, state: S) -> None:
        """Draw a new state."""
        self._state = state
        self.redraw()

    def look(self) -> Look:
        """How it is drawn now."""
        return Look(self.size.width, self.size.height, self.has_focus, self.deck.charts)

    def redraw(self) -> None:
        """Draw the same state again, as the room or the focus changed."""
        if self._state is not None and self.size.area and self.is_attached:
            self.show(self._build(self._state, self.look()))

    def on_resize(self) -> None:
        """New room."""
        self.redraw()


class FocusPane(Pane[S], can_focus=True):
    """A pane that can have the focus, and scrolls if its text may be longer than its room.

    `from_end`: what is newest stands last and is followed, as in a log.
    """

    SCROLL: ClassVar[list[BindingType]] = named([
        Binding("up,k", "scroll_by(-1)", "up", show=False, tooltip="up"),
        Binding("down,j", "scroll_by(1)", "down", show=False, tooltip="down"),
        Binding("pageup", "page(-1)", "page up", show=False, tooltip="page up"),
        Binding("pagedown", "page(1)", "page down", show=False, tooltip="page down"),
        Binding("g,home", "edge(-1)", "first", show=False, tooltip="first"),
        Binding("G,end", "edge(1)", "last", show=False, tooltip="last"),
    ])  # fmt: skip
    BINDINGS = SCROLL

    def __init__(
        self,
        build: Callable[[S, Look], list[Content]],
        *,
        id: str,  # noqa: A002
        help_text: str = "",
        length: Callable[[S], int] | None = None,
        from_end: bool = False,
    ) -> None:
        super().__init__(build, id=id)
        self.help_text = help_text
        self._length = length
        self._from_end = from_end
        self._scroll = 0

    def look(self) -> Look:
        """With the scrolling."""
        return Look(self.size.width, self.size.height, self.has_focus, self.deck.charts, self._scroll)

    def on_focus(self, _: events.Focus) -> None:
        """The title shows the focus."""
        self.call_later(self.redraw)

    def on_blur(self, _: events.Blur) -> None:
        """The title no longer shows the focus."""
        self.call_later(self.redraw)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only what is longer than its room scrolls."""
        return self._length is not None if action in ("scroll_by", "page", "edge") else True

    def action_scroll_by(self, lines: int) -> None:
        """Move by lines."""
        if self._length is not None and self._state is not None:
            most = max(0, self._length(self._state) - max(1, self.size.height - 1))
            by = -lines if self._from_end else lines
            self._scroll = max(0, min(most, self._scroll + by))
            self.redraw()

    def action_page(self, direction: int) -> None:
        """Move by a page."""
        self.action_scroll_by(direction * max(1, self.size.height - 2))

    def action_edge(self, direction: int) -> None:
        """Move to the first or the last line."""
        self.action_scroll_by(direction * 10**9)


def title(text: str, look: Look, *parts: Part, end: Content | None = None) -> Content:
    """The first line of a pane: the focus mark, its name and what matters most."""
    mark = (FOCUS, "$accent") if look.focused else " "
    start = line(mark, (text, "bold"), *(("   ", *parts) if parts else ()))
    return spread(start, end, look.width) if end is not None else start
