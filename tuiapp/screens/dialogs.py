"""Small dialogs: a question with its answers, and an error with its way out."""

from dataclasses import dataclass
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content

from engine.errors import TuneDeckError
from tuiapp import format as f
from tuiapp.glyphs import CURSOR
from tuiapp.screens.box import BoxScreen
from tuiapp.widgets.rows import line

WIDTH = 66


@dataclass(frozen=True)
class Answer:
    """What can be answered: the value given back, the words, and the key that answers at once."""

    value: str
    text: str
    key: str = ""


class AskScreen(BoxScreen[str]):
    """A question; the first answer changes nothing and is what Esc means."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h,up,k,shift+tab", "move(-1)", "previous"),
        Binding("right,l,down,j,tab", "move(1)", "next"),
        Binding("enter", "choose", "do it"),
        Binding("escape,q", "leave", "leave"),
    ]

    def __init__(self, question: str, text: str, answers: tuple[Answer, ...]) -> None:
        super().__init__()
        self._question = f.clean(question)
        self._text = f.clean(text)
        self._answers = answers
        self._at = 0

    def on_key(self, event: events.Key) -> None:
        """The key of an answer answers."""
        for answer in self._answers:
            if answer.key and event.key == answer.key:
                event.stop()
                self.dismiss(answer.value)

    def action_move(self, by: int) -> None:
        """To the next or previous answer."""
        self._at = max(0, min(len(self._answers) - 1, self._at + by))
        self.draw()

    def action_choose(self) -> None:
        """This answer."""
        self.dismiss(self._answers[self._at].value)

    def action_leave(self) -> None:
        """The answer that changes nothing."""
        self.dismiss(self._answers[0].value)

    def draw(self) -> None:
        """Fill the box."""
        room = self.room(WIDTH)
        lines = [line((f.clip(self._question, room), "bold")), line("")]
        lines += [line(text) for text in f.wrap(self._text, room, 6)]
        lines += [line(""), *self._choices(room)]
        keys = "  ".join(f"{one.key} {one.text.lower()}" for one in self._answers if one.key)
        last = self._answers[0].text.lower()
        row = line((f" ←→ choose  Enter do it  {keys}{'  ' if keys else ''}Esc {last}", "$dim"))
        self.show_box(lines, room, row)

    def _choices(self, room: int) -> list[Content]:
        """Beside each other, or below each other where there is no room."""
        parts = [
            line(
                (CURSOR if i == self._at else " ", "$accent"),
                " ",
                (one.text, "reverse" if i == self._at else ""),
            )
            for i, one in enumerate(self._answers)
        ]
        if sum(part.cell_length + 2 for part in parts) > room + 2:
            return parts
        joined = parts[0]
        for part in parts[1:]:
            joined = joined + "  " + part
        return [joined]


def error_dialog(error: Exception) -> AskScreen:
    """What went wrong, in the words of the error."""
    if isinstance(error, TuneDeckError):
        text = " ".join(part for part in (error.message, error.hint) if part)
        return AskScreen(error.title, text, (Answer("", "Close"),))
    return AskScreen("That did not work", f"{type(error).__name__}: {error}", (Answer("", "Close"),))
