"""The columns of the list of runs: any field of any run, ticked and put into order; and what the list is ordered by."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content

from tuiapp import format as f
from tuiapp.field_values import canonical, greatest_first, text_of, title
from tuiapp.glyphs import CURSOR
from tuiapp.list_snapshot import FieldNames
from tuiapp.screens.box import BoxScreen
from tuiapp.widgets.rows import line, spread

WIDTH = 78
ASPECTS = ("", ".best", ".smooth", ".min", ".max")
FIXED = ("name",)
"""Columns that are always there."""
LEFT_OUT = ("time", "age")
"""Fields whose value is not that of a moment in the list of values."""


@dataclass(frozen=True)
class Chosen:
    """The columns in their order, and what the list is ordered by."""

    columns: tuple[str, ...]
    order: str = "age"
    turned: bool = False
    fresh: int = 0
    """How many were ticked just now: they stand behind the name, where they are seen."""


def all_fields(names: FieldNames, chosen: Chosen, usual: tuple[str, ...]) -> tuple[str, ...]:
    """Every field once, by the name that the table has for it: what is ticked, what is usual, then the rest."""
    metrics = (f"{key}{aspect}" for key in names.metrics for aspect in ASPECTS)
    found = (*chosen.columns, chosen.order, *usual, "curve", *names.columns, *metrics, *names.parameters)
    return tuple(dict.fromkeys(canonical(name) for name in found))


def ticked(chosen: Chosen, name: str) -> Chosen:
    """With this column, or without it."""
    if name in FIXED:
        return chosen
    new = chosen.columns.index("name") + 1 if "name" in chosen.columns else 0
    if name in chosen.columns:
        fresh = chosen.fresh - (new <= chosen.columns.index(name) < new + chosen.fresh)
        return replace(chosen, columns=tuple(one for one in chosen.columns if one != name), fresh=fresh)
    at = new + chosen.fresh
    return replace(chosen, columns=(*chosen.columns[:at], name, *chosen.columns[at:]), fresh=chosen.fresh + 1)


def moved(chosen: Chosen, name: str, by: int) -> Chosen:
    """With the column further to the right (1) or to the left (-1)."""
    if name not in chosen.columns:
        return chosen
    columns = list(chosen.columns)
    at = columns.index(name)
    to = max(0, min(len(columns) - 1, at + by))
    columns.insert(to, columns.pop(at))
    return replace(chosen, columns=tuple(columns))


def ordered_by(chosen: Chosen, name: str) -> Chosen:
    """Ordered by this field; if it is already, the other way round."""
    return replace(chosen, order=name, turned=chosen.order == name and not chosen.turned)


class ColumnsScreen(BoxScreen[Chosen | None]):
    """Small letters search, capitals act. What is ticked stands first, in the order of the table."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "leave"),
        Binding("enter", "take", "take"),
        Binding("space", "tick", "tick"),
        Binding("down,tab", "move(1)", "down"),
        Binding("up,shift+tab", "move(-1)", "up"),
        Binding("pagedown", "move(10)", "page down"),
        Binding("pageup", "move(-10)", "page up"),
        Binding("home", "move(-100000)", "first"),
        Binding("end", "move(100000)", "last"),
        Binding("J,shift+down", "shift(1)", "to the right"),
        Binding("K,shift+up", "shift(-1)", "to the left"),
        Binding("O", "order", "order"),
        Binding("equals_sign", "reset", "usual"),
        Binding("backspace", "shorten", "one letter less"),
    ]

    def __init__(self, names: FieldNames, chosen: Chosen, usual: tuple[str, ...]) -> None:
        super().__init__()
        self._values = names.values
        self._chosen = chosen
        self._usual = usual
        self._fields = all_fields(names, chosen, usual)
        self._typed = ""
        self._at = 0
        self._top = 0

    def on_key(self, event: events.Key) -> None:
        """What is no key here is searched for."""
        if event.is_printable and event.character and event.character not in "JKO= ":
            event.stop()
            self._search(self._typed + event.character)

    def action_shorten(self) -> None:
        """Take the last letter back."""
        self._search(self._typed[:-1])

    def _search(self, text: str) -> None:
        self._typed, self._at = text, 0
        self.draw()

    def action_move(self, by: int) -> None:
        """To another one."""
        self._at = max(0, min(len(self._found()) - 1, self._at + by))
        self.draw()

    def action_tick(self) -> None:
        """With it, or without."""
        if name := self._here():
            self._chosen = ticked(self._chosen, name)
            self._arrange(name)

    def action_shift(self, by: int) -> None:
        """To another place; the cursor goes with it."""
        if name := self._here():
            self._chosen = moved(self._chosen, name, by)
            self._arrange(name)

    def action_order(self) -> None:
        """Order the list by it."""
        if name := self._here():
            self._chosen = ordered_by(self._chosen, name)
            self.draw()

    def action_reset(self) -> None:
        """The columns that are usual for the width."""
        name = self._here()
        self._chosen = replace(self._chosen, columns=self._usual)
        self._arrange(name)

    def action_take(self) -> None:
        """These."""
        self.dismiss(self._chosen)

    def action_leave(self) -> None:
        """As they were."""
        self.dismiss(None)

    def _arrange(self, name: str | None) -> None:
        """What is ticked stands first, in its order."""
        self._fields = tuple(dict.fromkeys((*self._chosen.columns, *self._fields)))
        found = self._found()
        self._at = found.index(name) if name in found else 0
        self.draw()

    def _found(self) -> list[str]:
        words = self._typed.casefold().split()
        return [name for name in self._fields if all(word in f"{name} {title(name)}".casefold() for word in words)]

    def _here(self) -> str | None:
        found = self._found()
        return found[self._at] if found else None

    def draw(self) -> None:
        """Fill the box."""
        room = self.room(WIDTH)
        found = self._found()
        fitting = max(1, min(16, self.size.height - 9))
        self._top = max(0, min(self._top, self._at), self._at - fitting + 1)
        shown = found[self._top : self._top + fitting]
        at = f"{self._at + 1 if found else 0} of {len(found)}"
        count = line((f"{len(self._chosen.columns)} ticked   {at} ", "$dim"))
        lines = [
            spread(line(("Columns", "bold")), count, room),
            line((CURSOR, "$accent"), f" {f.clean(self._typed)}", ("▏", "$accent")),
            line(""),
        ]
        lines += [self._row(name, i == self._at, room) for i, name in enumerate(shown, self._top)]
        lines += [line((" no field has these words", "$dim"))] if not found else []
        height = 3 + max(1, min(fitting, len(self._fields)))
        keys = " letters find  Space tick  J K move  O order by  = usual  Enter take  Esc leave"
        self.show_box([*lines, *[line("")] * height][:height], room, line((keys, "$dim")))

    def _row(self, name: str, here: bool, room: int) -> Content:
        tick = "✓" if name in self._chosen.columns else " "
        arrow = " "
        if name == self._chosen.order:
            arrow = "↓" if greatest_first(name) != self._chosen.turned else "↑"
        value = f.clip(self._value(name), max(4, room // 4))
        dim = "" if here else "$dim"
        name_room = max(8, room - 28 - room // 4)
        start = line(f" {tick} {arrow} {f.left(f.clean(name), name_room)} ", (f.clip(title(name), 20), dim))
        row = spread(start, line((f"{value} ", dim)), room)
        return row.stylize("reverse") if here else row

    def _value(self, name: str) -> str:
        """What the run under the cursor has of it."""
        value: Any = self._values.get(name)
        return text_of(name, value) if value is not None and name not in LEFT_OUT else ""
