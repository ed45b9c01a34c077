"""A pane with a list of things, each of one or more lines, and a cursor that stays on its thing."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message

from tuiapp.widgets.keys import named
from tuiapp.widgets.pane import Look
from tuiapp.widgets.rows import Rows

S = TypeVar("S")
Line = tuple[str, Content]
"""The key of the thing that a line belongs to ("" for none), and the line."""


@dataclass
class CursorMoved(Message):
    """The cursor of a list is on another thing."""

    pane: str
    key: str


class MovingPane(Rows):
    """A pane with a cursor: the wheel moves it, and it is drawn anew for new room and where the focus comes or goes."""

    def action_move(self, by: int) -> None:
        """Move the cursor."""
        raise NotImplementedError

    def redraw(self) -> None:
        """Draw what is in view."""
        raise NotImplementedError

    def on_mouse_scroll_down(self) -> None:
        """The wheel moves the cursor."""
        self.action_move(1)

    def on_mouse_scroll_up(self) -> None:
        """The wheel moves the cursor."""
        self.action_move(-1)

    def on_resize(self) -> None:
        """New room."""
        self.redraw()

    def on_focus(self, _: events.Focus) -> None:
        """The title and the row show the focus."""
        self.call_later(self.redraw)

    def on_blur(self, _: events.Blur) -> None:
        """Neither shows it any longer."""
        self.call_later(self.redraw)


class CursorPane(MovingPane, Generic[S], can_focus=True):
    """`build` makes the lines of a state for a room with the cursor on a key; the first line is the title and stays."""

    BINDINGS: ClassVar[list[BindingType]] = named([
        Binding("up,k", "move(-1)", "up", show=False, tooltip="up"),
        Binding("down,j", "move(1)", "down", show=False, tooltip="down"),
        Binding("pageup", "move(-8)", "page up", show=False, tooltip="page up"),
        Binding("pagedown", "move(8)", "page down", show=False, tooltip="page down"),
        Binding("g,home", "move(-1000000)", "first", show=False, tooltip="first"),
        Binding("G,end", "move(1000000)", "last", show=False, tooltip="last"),
    ])  # fmt: skip

    def __init__(self, build: Callable[[S, Look, str], list[Line]], *, id: str, help_text: str = "") -> None:  # noqa: A002
        super().__init__(id=id, classes="placed")
        self.help_text = help_text
        self.selected = ""
        self._build = build
        self._state: S | None = None
        self._keys: list[str] = []
        self._top = 0
        self._shown: list[Line] = []

    def feed(self, state: S) -> None:
        """Draw a new state."""
        self._state = state
        self.redraw()

    def redraw(self) -> None:
        """Draw what is in view, all lines of the thing under the cursor among it."""
        if self._state is None or not self.size.area or not self.is_attached:
            return
        look = Look(self.size.width, self.size.height, self.has_focus, self.deck.charts)
        lines = self._build(self._state, look, self.selected)
        keys = list(dict.fromkeys(key for key, _ in lines if key))
        chosen = self._nearest(keys)
        if chosen != self.selected:
            self.selected = chosen
            lines = self._build(self._state, look, self.selected)
            self.post_message(CursorMoved(self.id or "", self.selected))
        self._keys = keys
        self._shown = [lines[0], *self._in_view(lines[1:])]
        style = self.deck.row_style
        first = next((i for i, (key, _) in enumerate(self._shown) if key and key == self.selected), -1)
        self.show([content.stylize(style) if i == first and self.has_focus else content
                   for i, (_, content) in enumerate(self._shown)])  # fmt: skip

    def _nearest(self, keys: list[str]) -> str:
        """What the cursor is on now: where its thing is gone, what stands in its place."""
        if self.selected in keys or not keys:
            return self.selected if keys else ""
        at = self._keys.index(self.selected) if self.selected in self._keys else 0
        return keys[min(at, len(keys) - 1)]

    def _in_view(self, lines: list[Line]) -> list[Line]:
        room = self.size.height - 1
        mine = [i for i, (key, _) in enumerate(lines) if key and key == self.selected] or [0]
        self._top = max(0, min(self._top, mine[0], len(lines) - room), mine[-1] - room + 1)
        return lines[self._top : self._top + max(0, room)]

    def action_move(self, by: int) -> None:
        """Move the cursor by things."""
        if not self._keys:
            return
        at = self._keys.index(self.selected) if self.selected in self._keys else 0
        self._choose(self._keys[max(0, min(len(self._keys) - 1, at + by))])

    def _choose(self, key: str) -> None:
        if key != self.selected:
            self.selected = key
            self.redraw()
            self.post_message(CursorMoved(self.id or "", key))

    def on_click(self, event: events.Click) -> None:
        """A click chooses."""
        if 0 < event.y < len(self._shown) and self._shown[event.y][0]:
            self._choose(self._shown[event.y][0])
