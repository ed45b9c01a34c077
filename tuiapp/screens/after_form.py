"""A dialog with a few fields, and below them what would start and what it takes: for jobs on a trained run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from textual import events, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Input

from tuiapp import format as f
from tuiapp.after_values import FieldAsked, Prepared
from tuiapp.background import sentence, settle
from tuiapp.glyphs import CURSOR
from tuiapp.widgets.fields import Complete, Completions
from tuiapp.widgets.rows import Rows, fit, line

WIDTH = 84
PAUSE = 0.25
"""Seconds without a key after which what is typed is looked at."""


class FormField(Input):
    """A line that is typed; → and Tab take the completion."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "screen.start", show=False, priority=True),
        Binding("tab", "complete", show=False, priority=True),
        Binding("up", "screen.field(-1)", show=False),
        Binding("down", "screen.field(1)", show=False),
    ]

    def __init__(self, one: FieldAsked, complete: Complete) -> None:
        suggester = Completions(complete, lambda _: None) if one.path else None
        super().__init__(one.value, placeholder=one.hint, id=f"field-{one.name}", classes="placed", compact=True,
                         select_on_focus=False, suggester=suggester)  # fmt: skip
        self.cursor_blink = False

    def action_complete(self) -> None:
        """Take what is suggested; without a suggestion go on."""
        if self._suggestion and self._suggestion != self.value:
            self.value = self._suggestion
            self.cursor_position = len(self.value)
        else:
            self.screen.focus_next()


class ChoiceField(Rows, can_focus=True):
    """One of a few: ←→."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "screen.start", show=False),
        Binding("left,h", "turn(-1)", show=False),
        Binding("right,l,space", "turn(1)", show=False),
        Binding("up,k", "screen.field(-1)", show=False),
        Binding("down,j", "screen.field(1)", show=False),
    ]

    @dataclass
    class Turned(Message):
        """Another one was chosen."""

    def __init__(self, one: FieldAsked) -> None:
        super().__init__(id=f"field-{one.name}", classes="placed")
        self._choices = one.choices
        self.value = one.value

    def action_turn(self, by: int) -> None:
        """To another one."""
        values = [value for value, _ in self._choices]
        at = values.index(self.value) if self.value in values else 0
        self.value = values[(at + by) % len(values)]
        self.redraw()
        self.post_message(self.Turned())

    def redraw(self) -> None:
        """Marked where the focus is."""
        words = dict(self._choices).get(self.value, self.value)
        style = "reverse" if self.has_focus else ""
        self.show([line(("‹ ", "$accent"), (words, style), (" ›", "$accent"))])

    def on_mount(self) -> None:
        """Draw the first time."""
        self.redraw()

    def on_focus(self, _: events.Focus) -> None:
        """Mark it."""
        self.call_later(self.redraw)

    def on_blur(self, _: events.Blur) -> None:
        """No longer."""
        self.call_later(self.redraw)


class FormScreen(ModalScreen[Prepared | None]):
    """What was prepared, when it is to start; None if not. `prepare` may block, and says what the values come to."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "leave"),
        Binding("tab", "field(1)", "next"),
        Binding("shift+tab", "field(-1)", "previous"),
        Binding("enter", "start", "start"),
    ]

    def __init__(
        self,
        heading: str,
        verb: str,
        fields: tuple[FieldAsked, ...],
        prepare: Callable[[Mapping[str, str]], Prepared],
        complete: Complete,
    ) -> None:
        super().__init__()
        self._heading, self._verb = f.clean(heading), verb
        self._fields = fields
        self._prepare, self._complete = prepare, complete
        self._found: Prepared | None = None
        self._failed = ""
        self._asking = False
        self._tall = 5

    def compose(self) -> ComposeResult:
        """The box, the fields over it, and the keys."""
        yield Rows(id="dialog")
        for one in self._fields:
            yield ChoiceField(one) if one.choices else FormField(one, self._complete)
        yield Rows(id="dialog-keys")

    def on_mount(self) -> None:
        """One can type at once."""
        self._widget(self._fields[0]).focus()
        self._look()

    def _widget(self, one: FieldAsked) -> Widget:
        return self.query_one(f"#field-{one.name}")

    @property
    def values(self) -> dict[str, str]:
        """What the fields hold."""
        widgets = [(one.name, self._widget(one)) for one in self._fields]
        return {name: w.value.strip() if isinstance(w, FormField) else w.value for name, w in widgets
                if isinstance(w, FormField | ChoiceField)}  # fmt: skip

    def on_input_changed(self, _: Input.Changed) -> None:
        """What it comes to follows."""
        self._look()

    def on_choice_field_turned(self, _: ChoiceField.Turned) -> None:
        """So it does here."""
        self._look()

    def _open(self) -> dict[str, str] | None:
        """Values of which it is not known what they come to."""
        values = self.values
        return None if self._found is not None and self._found.values == values else values

    def _look(self) -> None:
        self.draw()
        if not self._asking and self._open() is not None:
            self._asking = True
            self._settle()

    @work(group="prepare", exit_on_error=False)
    async def _settle(self) -> None:
        try:
            await settle(self._open, self._prepare, self._take, PAUSE if self._found is not None else 0.0)
        except Exception as error:  # shown in words, whatever it was
            self._failed = sentence(error)
        self._asking = False
        if self.is_attached:
            self.draw()

    def _take(self, _: Mapping[str, str], found: Prepared) -> None:
        self._found = found
        if self.is_attached:
            self.draw()

    def action_field(self, by: int) -> None:
        """Another field."""
        widgets = [self._widget(one) for one in self._fields]
        at = widgets.index(self.focused) if self.focused in widgets else 0
        widgets[(at + by) % len(widgets)].focus()
        self.call_later(self.draw)

    def action_start(self) -> None:
        """Only what was seen starts: where it is still being looked at, or cannot be, nothing happens."""
        if self._found is not None and self._open() is None and not self._found.problem:
            self.dismiss(self._found)

    def action_leave(self) -> None:
        """Nothing starts."""
        self.dismiss(None)

    def on_resize(self, _: events.Resize) -> None:
        """Draw for the room there is."""
        self.draw()

    def on_descendant_focus(self, _: events.DescendantFocus) -> None:
        """The mark is before the field that is typed."""
        self.call_later(self.draw)

    def draw(self) -> None:
        """The box is as high as what it says; the fields lie over their labels' ends."""
        width = min(WIDTH, self.size.width - 2)
        room = max(10, width - 6)
        wide = max(len(one.label) for one in self._fields) + 4
        most = max(1, self.size.height - len(self._fields) - 7)
        said = self._steady(self._said(room, most), most)
        low = self.size.height < 14
        gap = [] if low else [line("")]
        labels = [self._label(one, wide) for one in self._fields]
        lines = [line((f.clip(self._heading, room), "bold")), *gap, *labels, *gap, *said]
        height = len(lines) + 2
        x, y = max(0, (self.size.width - width) // 2), max(0, (self.size.height - 1 - height) // 2)
        box = self.query_one("#dialog", Rows)
        box.styles.offset, box.styles.width, box.styles.height = (x, y), width, height
        box.show([fit(content, room) for content in lines])
        for i, one in enumerate(self._fields):
            widget = self._widget(one)
            widget.styles.offset = (x + 3 + wide, y + 2 + len(gap) + i)
            widget.styles.width, widget.styles.height = max(4, room - wide), 1
        parts = [("Enter", self._verb), ("↑↓", "field")]
        parts += [("←→", "choose")] if any(one.choices for one in self._fields) else []
        parts += [("Esc", "leave")]
        keys = line(" ", *(piece for key, word in parts for piece in ((key, "$accent"), (f" {word}  ", "$dim"))))
        self.query_one("#dialog-keys", Rows).show([keys])

    def _label(self, one: FieldAsked, wide: int) -> Content:
        here = self.focused is not None and self.focused.id == f"field-{one.name}"
        return line((CURSOR if here else " ", "$accent"), " ", (f.left(one.label, wide - 2), "$dim"))

    def _said(self, room: int, most: int) -> list[Content]:
        """What would start; until that is known, that it is looked at."""
        found = self._found
        if self._failed:
            return [line((text, "$bad")) for text in f.wrap(f.clean(self._failed), room, most)]
        if found is None or self._open() is not None:
            return [line(("looking …", "$dim"))]
        if found.problem:
            return [line((text, "$warn")) for text in f.wrap(f.clean(found.problem), room, most)]
        rows = [line(text) for part in found.lines for text in f.wrap(f.clean(part), room, most)]
        return rows[:most]

    def _steady(self, said: list[Content], most: int) -> list[Content]:
        """The box does not grow smaller while one types."""
        self._tall = min(most, max(self._tall, len(said)))
        return [*said, *[line("")] * (self._tall - len(said))]
