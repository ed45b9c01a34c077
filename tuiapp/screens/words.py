"""A page of words over a screen: what a finding means, everything known of a run."""

from collections.abc import Callable
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content

from tuiapp import format as f
from tuiapp.screens.box import BoxScreen
from tuiapp.widgets.rows import line

WIDTH = 110


class WordsScreen(BoxScreen[str]):
    """`build` makes the lines for a width. A key of `keys` (with its word) closes the page and is its answer."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,i,enter", "close", "close"),
        Binding("down,j", "scroll(1)", "down"),
        Binding("up,k", "scroll(-1)", "up"),
        Binding("pagedown,space", "scroll(10)", "page down"),
        Binding("pageup", "scroll(-10)", "page up"),
        Binding("g,home", "scroll(-1000000)", "first"),
        Binding("G,end", "scroll(1000000)", "last"),
    ]

    def __init__(
        self,
        title: str,
        build: Callable[[int], list[Content]],
        keys: tuple[tuple[str, str], ...] = (),
        width: int = WIDTH,
    ) -> None:
        super().__init__()
        self._title = f.clean(title)
        self._build = build
        self._keys = keys
        self._wide = width
        self._top = 0

    def on_key(self, event: events.Key) -> None:
        """A key that means something here."""
        if event.key in dict(self._keys):
            event.stop()
            self.dismiss(event.key)

    def action_close(self) -> None:
        """Back to the screen."""
        self.dismiss("")

    def action_scroll(self, by: int) -> None:
        """Where there is more than fits."""
        self._top = max(0, self._top + by)
        self.draw()

    def draw(self) -> None:
        """Fill the box."""
        room = self.room(self._wide)
        head = [line((text, "bold")) for text in f.wrap(self._title, room, 2)]
        rows = self._build(room)
        fitting = max(1, self.size.height - 4 - len(head))
        self._top = min(self._top, max(0, len(rows) - fitting))
        lines = [*head, line(""), *rows[self._top : self._top + fitting]]
        more = "↑↓ more  " if len(rows) > fitting else ""
        keys = "".join(f"{key} {word}  " for key, word in self._keys)
        self.show_box(lines, room, line((f" {keys}{more}Esc close", "$dim")))


def paragraph(head: str, text: str, room: int) -> list[Content]:
    """A heading and its text, wrapped; nothing where there is no text."""
    if not text:
        return []
    return [line((head, "$dim")), *(line(part) for part in f.wrap(f.clean(text), room, 40)), line("")]
