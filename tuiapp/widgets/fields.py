"""What one types in a form: a field with completion, and the button that starts."""

from collections.abc import Callable
from dataclasses import dataclass
from os.path import commonprefix
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.suggester import Suggester
from textual.widgets import Input

from tuiapp.background import in_thread
from tuiapp.glyphs import CURSOR
from tuiapp.widgets.rows import Rows, line

Complete = Callable[[str], list[str]]


class Completions(Suggester):
    """What can follow the text, found in a thread: a directory may be far away."""

    def __init__(self, complete: Complete, found: Callable[[list[str]], None]) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self._complete = complete
        self._found = found

    async def get_suggestion(self, value: str) -> str | None:
        """As far as all possibilities agree."""
        if not value:
            return None
        try:
            candidates = await in_thread(lambda: self._complete(value))
        except Exception:  # a directory that cannot be read has nothing to complete
            candidates = []
        candidates = [text for text in candidates if text.startswith(value)]
        self._found(candidates)
        common = commonprefix(candidates)  # noqa: RUF071  by character is what completion means
        return common if len(common) > len(value) else None


class Field(Input):
    """One line of text; Tab and → take the completion, Enter goes on."""

    BINDINGS: ClassVar[list[BindingType]] = [
        # with priority, as otherwise what is typed right after it would still reach this field
        Binding("tab", "complete", "complete", show=False, priority=True, tooltip="complete, then the next field"),
        Binding("enter", "app.focus_next", "next", show=False, priority=True),
        Binding("up", "app.focus_previous", "previous", show=False, tooltip="the field before"),
        Binding("down", "app.focus_next", "next", show=False, tooltip="the next field"),
    ]

    @dataclass
    class Candidates(Message):
        """What the text could become."""

        field: "Field"
        texts: list[str]

    def __init__(
        self,
        *,
        id: str,  # noqa: A002
        help_text: str,
        placeholder: str,
        complete: Complete | None = None,
    ) -> None:
        suggester = Completions(complete, self._candidates) if complete is not None else None
        super().__init__(
            id=id,
            classes="placed",
            placeholder=placeholder,
            compact=True,
            select_on_focus=False,
            suggester=suggester,
        )
        self.help_text = help_text
        self.cursor_blink = False

    def action_complete(self) -> None:
        """Take what is suggested; without a suggestion go on."""
        if self._suggestion and self._suggestion != self.value:
            self.value = self._suggestion
            self.cursor_position = len(self.value)
        else:
            self.screen.focus_next()

    def _candidates(self, texts: list[str]) -> None:
        self.post_message(Field.Candidates(self, texts))


class Go(Rows, can_focus=True):
    """The button: Enter here does what the screen is for."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,space", "press", "start", show=False, tooltip="start"),
        Binding("up,k", "app.focus_previous", "back", show=False, tooltip="the field before"),
    ]

    help_text = "Starts the run. It goes on without this window."

    @dataclass
    class Pressed(Message):
        """Do it."""

    def __init__(self, text: str, *, id: str) -> None:  # noqa: A002
        super().__init__(id=id, classes="placed")
        self._text = text

    def redraw(self) -> None:
        """Marked when it has the focus."""
        mark = CURSOR if self.has_focus else " "
        self.show([line((f"{mark} ", "$accent"), (self._text, "reverse" if self.has_focus else ""))])

    def on_mount(self) -> None:
        """Draw the first time."""
        self.redraw()

    def on_focus(self, _: events.Focus) -> None:
        """Mark it."""
        self.call_later(self.redraw)

    def on_blur(self, _: events.Blur) -> None:
        """No longer."""
        self.call_later(self.redraw)

    def action_press(self) -> None:
        """Enter."""
        self.post_message(Go.Pressed())

    def on_click(self) -> None:
        """A click is Enter."""
        self.action_press()
