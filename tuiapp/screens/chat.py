"""Chat: the base model and what was trained answer the same question, side by side."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from threading import Thread
from typing import ClassVar

from textual import events, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.geometry import Region
from textual.widgets import Input

from tuiapp import chat_layout as layout
from tuiapp import chat_snapshot as talk
from tuiapp import format as f
from tuiapp.background import in_thread
from tuiapp.chat_layout import Frame
from tuiapp.chat_services import Chat, ChatServices, Event
from tuiapp.chat_settings import SETTINGS, sampling_of, texts_of
from tuiapp.chat_snapshot import ChatSnapshot, Sampling, Voice
from tuiapp.layout import Places, is_narrow
from tuiapp.screens.base import DeckScreen
from tuiapp.snapshot import RunLine
from tuiapp.widgets.chat_fields import QUESTION_HELP, SYSTEM_HELP, ChatField, QuestionField, SettingField
from tuiapp.widgets.chat_head import PLACE, chat_head
from tuiapp.widgets.rows import Rows, line, spread

PERIOD, IDLE = 0.1, 0.5
"""Seconds between two looks at what the engine told, while it answers and while nothing is asked."""
WHEEL = 3
"""Lines that a turn of the mouse's wheel moves."""
LATE = 1.0
"""Seconds after an answer in which Esc is taken for one that should have stopped it."""
PATIENCE = 3.0
"""Seconds that leaving the app waits for the transcript to be written."""


class ChatScreen(DeckScreen):
    """A conversation with the base and these runs, by id; all of them are of one base model."""

    place = PLACE
    about = (
        "The base model and the tuned one get the same question with the same settings, each with what it said itself before. "
        "Esc stops an answer, and then leaves; what was said is kept with the run."
    )

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "send", "send", tooltip="send the question"),
        Binding("up", "recall(-1)", "last", tooltip="the question before, to be asked again"),
        Binding("tab", "settings", "settings", tooltip="system prompt and sampling: the next field"),
        Binding("shift+tab", "settings(-1)", "settings", show=False, tooltip="the field before"),
        Binding("ctrl+n", "turn(1)", "other adapter", tooltip="the next adapter"),
        Binding("ctrl+o", "turn(-1)", "adapter before", show=False, tooltip="the adapter before"),
        Binding("pageup", "page(-1)", "back", show=False, tooltip="back in the conversation"),
        Binding("pagedown", "page(1)", "on", show=False, tooltip="on in the conversation"),
        Binding("enter", "on_cpu", "on the CPU", tooltip="load it on the processor"),
        Binding("r", "again", "try again", tooltip="load the model again"),
        Binding("u", "undo", "undo", show=False, tooltip="take the last question back; while typing by ctrl+p"),
        Binding("Y", "copy", "copy", show=False, tooltip="copy the last answers; while typing by ctrl+p"),
        Binding("ctrl+g,f1", "help", "help", key_display="ctrl+g", tooltip="help for where you are"),
        Binding("escape", "leave", "back", tooltip="stop the answer; then back"),
        Binding("q", "leave", "back", show=False, tooltip="back"),
    ]

    def __init__(self, run_ids: tuple[str, ...], services: ChatServices) -> None:
        super().__init__()
        self.run_ids = run_ids
        self._cpu = False
        self._services = services
        self.chat = ChatSnapshot()
        self._session: Chat | None = None
        self._sampling = Sampling()
        self._wrong = ""
        """What is wrong with the settings that are typed."""
        self._at = 0
        self._top: int | None = None
        """The first line of the conversation in view; None: the newest is followed."""
        self._followed = 0
        self._below = 0
        """Lines of it below those."""
        self._next = ""
        """A question that waits for the model."""
        self._recalled = 0
        self._over = 0.0
        """When the last answer ended."""
        self._typing = "question"
        """The field with the focus, by id."""
        self._left = False
        self._wake = asyncio.Event()
        self._order = asyncio.Lock()

    def compose(self) -> ComposeResult:
        """The parts; where they stand is decided by size."""
        for name in ("head", "voices", "talk", "form"):
            yield Rows(id=name, classes="placed")
        yield QuestionField(id="question", help_text=QUESTION_HELP)
        yield SettingField(id="system", help_text=SYSTEM_HELP, placeholder="none")
        for one in SETTINGS:
            yield SettingField(id=one.field, help_text=one.about, value=texts_of(self._sampling)[one.field])
        yield Rows(id="status", classes="placed")
        yield Rows(id="keys", classes="placed")

    def on_mount(self) -> None:
        """One can type at once; the model is loaded meanwhile."""
        super().on_mount()
        self._question.focus()
        self._talk()

    async def on_unmount(self) -> None:
        """The process ends with the screen; where something was said, it is waited for that it is kept."""
        self._left = True
        if self.chat.turns:
            await self._close()
        elif self._session is not None:
            Thread(target=self._session.close, daemon=True).start()

    @work(group="chat", exclusive=True, exit_on_error=False)
    async def _talk(self) -> None:
        """Load, then listen for as long as there is somebody to listen to."""
        try:
            session = await in_thread(self._open)
            self._begin(session)
            while self.chat.state != "failed":
                self._hear(await in_thread(session.poll))
                await self._pause(PERIOD if self.chat.is_answering else IDLE)
        except Exception as error:  # whatever it was, it is said in a panel
            self._take(talk.lost(self.chat, talk.problem_of(error)))
        await self._close()

    def _begin(self, session: Chat) -> None:
        field = self.query_one("#system", SettingField)
        field.value = field.value or f.pasted(session.system)
        self._take(replace(self.chat, voices=tuple(map(self._with_step, session.voices))))

    def _with_step(self, voice: Voice) -> Voice:
        """What a run saved at its end was saved at its last step."""
        run = self._run(voice.run_id)
        return replace(voice, step=run.step) if voice.step is None and run is not None else voice

    def _run(self, run_id: str) -> RunLine | None:
        runs = self.snapshot.runs if self.snapshot is not None else ()
        return next((run for run in runs if run.id == run_id), None)

    def _open(self) -> Chat:
        session = self._session = self._services.chat(self.run_ids, self._cpu)
        if self._left:  # meanwhile
            session.close()
        return session

    async def _close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await asyncio.gather(asyncio.wait_for(in_thread(session.close), PATIENCE), return_exceptions=True)

    async def _pause(self, seconds: float) -> None:
        """So long, or until a key asks for something."""
        self._wake.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), seconds)

    def _hear(self, events: Sequence[Event]) -> None:
        """Draw what was told, all of it at once."""
        was, chat = self.chat, self.chat
        for event in events:
            chat = talk.heard(chat, event)
        if was.is_answering and not chat.is_answering:
            self._over = time.monotonic()
        self._take(chat)
        if chat.state == "ready" and self._next:
            self._ask(self._next)

    def _take(self, chat: ChatSnapshot) -> None:
        if chat != self.chat:
            self.chat = chat
            self.refresh_all()

    def places(self, width: int, height: int) -> Places:
        """See `chat_layout`."""
        return layout.chat_places(width, height, self._typing, self.chat.state == "failed")

    @property
    def frame(self) -> Frame:
        """The columns that there is room for."""
        width, height, voices = *self.size, self.chat.voices
        return Frame(width, layout.shown_voices(voices, self._at, layout.columns(width, height, len(voices))))

    def draw(self) -> None:
        """Everything from what was said and the newest snapshot."""
        width, height = self.size
        self.query_one("#head", Rows).show(self._head())
        self.query_one("#form", Rows).show(layout.form_lines(width, height, self._typing))
        self._below = self._draw_talk()
        self.show_status(self._status(self._below))
        self.show_keys()
        if self.focused is None and self.is_current and self.chat.state != "failed":
            self.query_one(f"#{self._typing}").focus()

    def _draw_talk(self) -> int:
        """The conversation; how many of its lines are below what is in view."""
        rows, room = self._rows(), self._stand.get("talk", Region()).height
        if self.chat.voices:
            self.query_one("#voices", Rows).show([layout.voices_line(self.chat, self.frame), layout.blank(self.frame)])
            seen, grows = layout.newest(self.chat, self.frame), self.chat.is_answering
            self._followed = layout.followed(self._followed, room, seen, grows)
        top = self._followed if self._top is None else min(self._top, max(0, len(rows) - room))
        if self.chat.problem is not None and self._top is None:
            top = max(0, len(rows) - room)
        shown = rows[top : top + room]
        if self.chat.voices and self.chat.state != "failed":
            shown += [layout.blank(self.frame)] * (room - len(shown))
        self.query_one("#talk", Rows).show(shown)
        return max(0, len(rows) - top - room)

    def _rows(self) -> list[Content]:
        chat, width = self.chat, self.size.width
        if not chat.voices:
            return layout.problem_lines(chat, width)
        said = layout.talk_lines(chat, self.frame) if chat.turns or not chat.problem else []
        return [*said, *layout.problem_lines(chat, width)]

    def _head(self) -> list[Content]:
        run, more = self._run(self.run_ids[0]), len(self.run_ids) - 1
        name = (run.name if run is not None else self.run_ids[0]) + (f" and {more} more" if more else "")
        return chat_head(self.snapshot, name, self.chat.device, self.size.width, is_narrow(*self.size))

    def _status(self, below: int) -> Content:
        words, role = layout.status_words(self.chat, self._next, self.size.width), "$dim"
        if self._wrong:
            words, role = self._wrong, "$bad"
        more = f"{below} line{'' if below == 1 else 's'} below, PgDn " if below else ""
        room = self.size.width - len(more) - 2
        words = words if len(words) <= room else words.rpartition(". ")[2]
        return spread(line((f" {words}", role)), line((more, "$dim")), self.size.width)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys that would do nothing are not shown and do nothing."""
        if not self.is_mounted:
            return False
        chat = self.chat
        match action:
            case "turn":
                return len(self.frame.shown) < len(chat.voices)
            case "again":
                return chat.state == "failed"
            case "on_cpu":
                return chat.problem is not None and chat.problem.no_room
            case "undo":
                return chat.state == "ready" and bool(chat.turns)
            case "copy":
                return bool(chat.turns)
            case "recall":
                return bool(chat.turns) and chat.state != "failed" and self._typing == "question"
            case "send" | "settings":
                return chat.state != "failed"
        return True

    def deck_bindings(self) -> list[Binding]:
        """Enter and Esc are called what they do now."""
        words = {"out": "stop" if self.chat.is_answering else "back"}
        if self._typing != "question" and self.chat.state != "failed":
            words = {"out": "question", "main": "take it"}
        return [replace(one, description=words.get(one.id or "", one.description)) for one in super().deck_bindings()]

    @property
    def _question(self) -> QuestionField:
        return self.query_one("#question", QuestionField)

    def action_send(self) -> None:
        """Put the question, or as soon as the model is there."""
        text = self._question.value.strip()
        if self._wrong:
            self.say(f"Not yet: {self._wrong}.")
        elif self.chat.is_answering:
            self.say("The answer is still coming. Esc stops it.")
        elif text and self.chat.state == "loading":
            self._next = text
            self.refresh_all()
        elif text:
            self._ask(text)

    def _ask(self, text: str) -> None:
        self._question.value, self._next, self._top, self._recalled = "", "", None, 0
        self._take(talk.asked(self.chat, text))
        system, sampling = self.query_one("#system", SettingField).value.strip(), self._sampling
        self._tell(lambda session: session.ask(text, system, sampling))

    @work(group="chat-ask", exit_on_error=False)
    async def _tell(self, call: Callable[[Chat], None]) -> None:
        """In a thread, one after the other; what cannot be done is said in the panel."""
        session = self._session
        try:
            async with self._order:
                if session is not None:
                    await in_thread(lambda: call(session))
        except Exception as error:  # whatever it was, it is said in a panel
            self._take(talk.lost(self.chat, talk.problem_of(error)))
        self._wake.set()

    def action_recall(self, by: int) -> None:
        """Another question that was asked before, to be asked again or changed."""
        asked = self.chat.questions
        self._recalled = max(0, min(len(asked), self._recalled - by))
        self._question.value = asked[-self._recalled] if self._recalled else ""
        self._question.cursor_position = len(self._question.value)

    def action_turn(self, by: int) -> None:
        """Another adapter beside the base; where there is one column, another voice."""
        self._at += by
        self.refresh_all()

    def action_page(self, direction: int) -> None:
        """Through the conversation by what is in view."""
        self._scroll_talk(direction * max(1, self._stand.get("talk", Region()).height - 2))

    def on_mouse_scroll_up(self, _: events.MouseScrollUp) -> None:
        """Back in the conversation."""
        self._scroll_talk(-WHEEL)

    def on_mouse_scroll_down(self, _: events.MouseScrollDown) -> None:
        """On in the conversation."""
        self._scroll_talk(WHEEL)

    def _scroll_talk(self, lines: int) -> None:
        """At its end what is being said is followed again."""
        rows, room = len(self._rows()), self._stand.get("talk", Region()).height
        most = max(0, rows - room)
        top = self._followed if self._top is None else self._top
        top = max(0, min(most, min(top, most) + lines))
        self._top = None if top >= most and self.chat.is_answering else top
        self.refresh_all()

    def action_settings(self, by: int = 1) -> None:
        """From the question to the system prompt, the sampling, and round."""
        names = ["question", "system", *(one.field for one in SETTINGS)]
        self._go_to(names[(names.index(self._typing) + by) % len(names)])

    def action_to_question(self) -> None:
        """Back to where one asks."""
        self._go_to("question")

    def _go_to(self, name: str) -> None:
        self._typing = name
        self.refresh_all()
        self.query_one(f"#{name}").focus()

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        """Also by the mouse."""
        if isinstance(event.widget, ChatField) and event.widget.id and event.widget.id != self._typing:
            self._typing = event.widget.id
            self.refresh_all()

    def on_input_changed(self, event: Input.Changed) -> None:
        """What is typed of the settings counts from the next question on; one that is changed is not put by itself."""
        if not self.is_mounted:
            return
        if event.input is self._question:
            self._said = ""
            self._next = self._next if event.value.strip() == self._next else ""
            self.show_status(self._status(self._below))
            return
        try:
            self._sampling, self._wrong = (
                sampling_of({one.field: self.query_one(f"#{one.field}", SettingField).value for one in SETTINGS}),
                "",
            )
        except ValueError as error:
            self._wrong = str(error)
        self.refresh_all()

    def action_again(self) -> None:
        """Load the model once more, for a new conversation: nobody would know of this one."""
        self.chat, self._next, self._typing = ChatSnapshot(), "", "question"
        self.refresh_all()
        self._talk()

    def action_on_cpu(self) -> None:
        """Not on a card."""
        self._cpu = True
        self.action_again()

    def action_undo(self) -> None:
        """The last question back into its field, to be put another way."""
        text = self.chat.questions[-1]
        self._take(talk.undone(self.chat))
        self._question.value, self._question.cursor_position = text, len(text)
        self._tell(lambda session: session.undo())

    def action_copy(self) -> None:
        """What was answered last, to the clipboard of the terminal."""
        self.app.copy_to_clipboard(layout.copied(self.chat))
        self.say("copied the last question and its answers, if the terminal takes it (OSC 52)")

    def action_leave(self) -> None:
        """One layer out: the answer, then the screen."""
        if self.chat.state == "answering":
            self._take(talk.halted(self.chat))
            self._tell(lambda session: session.stop())
        elif self.chat.state == "ready" and time.monotonic() - self._over < LATE:
            self.say("The answer had just ended. Esc goes back.")
            self._over = 0.0
        else:
            self.dismiss()
