"""What one types in the chat: the question, the system prompt, and how answers are drawn."""

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.widgets import Input

QUESTION_HELP = "What both are asked. It is put as in training: with the same template, and the turns before it."
SYSTEM_HELP = "Stands before the conversation, as a system prompt. Empty: none, or what the template has."


class ChatField(Input):
    """One line of text. Nothing of it is a key of the screen but what is named here."""

    def __init__(self, *, id: str, help_text: str, value: str = "", placeholder: str = "") -> None:  # noqa: A002
        super().__init__(value, placeholder=placeholder, id=id, classes="placed", compact=True, select_on_focus=False)
        self.help_text = help_text
        self.cursor_blink = False


class QuestionField(ChatField):
    """Enter sends it; up and down go through what was asked before."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "screen.send", show=False, priority=True),
        Binding("up", "screen.recall(-1)", show=False, tooltip="the question before"),
        Binding("down", "screen.recall(1)", show=False, tooltip="the question after"),
    ]


class SettingField(ChatField):
    """Enter takes it and goes back to the question."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "enter,escape", "screen.to_question", show=False, priority=True, tooltip="take it, back to the question"
        ),
        Binding("up", "app.focus_previous", show=False, tooltip="the field before"),
        Binding("down", "app.focus_next", show=False, tooltip="the next field"),
    ]
