"""One of many: a list that grows shorter as one types."""

from dataclasses import dataclass
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content

from tuiapp import format as f
from tuiapp.glyphs import CURSOR
from tuiapp.screens.box import BoxScreen
from tuiapp.snapshot import RunLine
from tuiapp.widgets.curves import loss_text
from tuiapp.widgets.rows import line, spread

WIDTH = 72


@dataclass(frozen=True)
class Option:
    """What can be picked: its value, its words, and what stands at the right."""

    value: str
    text: str
    about: str = ""


def baselines(runs: tuple[RunLine, ...], run_id: str, pinned: str | None) -> tuple[Option, ...]:
    """The runs that one can be compared with, and none, where one is pinned."""
    others = [run for run in runs if run.spark and run.id != run_id]
    none = (Option("", "none", "no baseline"),) if pinned else ()
    return (*none, *(Option(run.id, run.name, f"{run.id}   {loss_text(run.best_eval)}") for run in others))


def matching(options: tuple[Option, ...], words: str) -> list[Option]:
    """Those with every word somewhere in what they say."""
    wanted = words.casefold().split()
    return [one for one in options if all(word in f"{one.text} {one.about} {one.value}".casefold() for word in wanted)]


class PickScreen(BoxScreen[str | None]):
    """The value that was picked; None if none was."""

    more_keys = ""
    """Keys of a class that has more."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "leave"),
        Binding("enter", "pick", "pick"),
        Binding("down,tab", "move(1)", "down"),
        Binding("up,shift+tab", "move(-1)", "up"),
        Binding("pagedown", "move(10)", "page down"),
        Binding("pageup", "move(-10)", "page up"),
        Binding("backspace", "shorten", "one letter less"),
    ]

    def __init__(self, title: str, options: tuple[Option, ...]) -> None:
        super().__init__()
        self._title = f.clean(title)
        self._options = options
        self._typed = ""
        self._at = 0
        self._top = 0

    def on_key(self, event: events.Key) -> None:
        """Letters are typed."""
        if event.is_printable and event.character:
            event.stop()
            self._type(self._typed + event.character)

    def on_paste(self, event: events.Paste) -> None:
        """So is what is pasted."""
        event.stop()
        self._type(self._typed + f.clean(event.text))

    def action_shorten(self) -> None:
        """Take the last letter back."""
        self._type(self._typed[:-1])

    def action_move(self, by: int) -> None:
        """To another one."""
        self._at = max(0, min(len(self._found()) - 1, self._at + by))
        self.draw()

    def action_pick(self) -> None:
        """This one."""
        if found := self._found():
            self.dismiss(found[self._at].value)

    def action_leave(self) -> None:
        """None."""
        self.dismiss(None)

    def _found(self) -> list[Option]:
        return matching(self._options, self._typed)

    def _type(self, text: str) -> None:
        self._typed, self._at = text, 0
        self.draw()

    def draw(self) -> None:
        """Fill the box."""
        room = self.room(WIDTH)
        found = self._found()
        fitting = max(1, min(12, self.size.height - 8))
        self._top = max(0, min(self._top, self._at), self._at - fitting + 1)
        shown = found[self._top : self._top + fitting]
        lines = [
            line((self._title, "bold")),
            line((CURSOR, "$accent"), f" {f.clean(self._typed)}", ("▏", "$accent")),
            line(""),
        ]
        lines += [_option(one, i == self._at, room) for i, one in enumerate(shown, self._top)]
        lines += [line((" nothing has these words", "$dim"))] if not found else []
        height = 3 + max(1, min(fitting, len(self._options)))
        count = f"{len(found)} of {len(self._options)}"
        keys = line((f" type to find  ↑↓ choose  Enter pick  {self.more_keys}Esc leave", "$dim"))
        keys = spread(keys, line((f"{count} ", "$dim")), self.size.width)
        self.show_box([*lines, *[line("")] * height][:height], room, keys)


def _option(one: Option, here: bool, room: int) -> Content:
    text = spread(line(f" {f.clean(one.text)}"), line((f"{f.clean(one.about)} ", "" if here else "$dim")), room)
    return text.stylize("reverse") if here else text
