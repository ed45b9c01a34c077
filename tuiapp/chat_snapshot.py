"""What the chat screen draws: a conversation as a frozen value, and what becomes of it as the engine tells more."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from engine.errors import NoFit, TuneDeckError


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn. A temperature of 0 always takes the likeliest token; `most` is the tokens of an answer."""

    temperature: float = 0.7
    top_p: float = 0.9
    most: int = 128
    seed: int = 42


@dataclass(frozen=True)
class Voice:
    """Who answers: `key` is the engine's word for it, `name` the base model or the run, `step` what it was saved at."""

    key: str
    name: str
    run_id: str = ""
    step: int | None = None

    @property
    def is_base(self) -> bool:
        """Whether it is the model as it was before training."""
        return not self.run_id


@dataclass(frozen=True)
class Problem:
    """Why there is no answer, and what helps."""

    title: str
    message: str = ""
    hint: str = ""
    no_room: bool = False
    """No card has room; the processor may."""


@dataclass(frozen=True)
class Answer:
    """What one voice says; the text as it came, not yet safe to draw. `end` is how it ended, empty while it goes on."""

    text: str = ""
    tokens: int | None = None
    seconds: float | None = None
    repetition: float | None = None
    """The share of it that was said before, 0 to 1."""
    end: str = ""
    problem: Problem | None = None
    """Why it could not be given, where others could."""


@dataclass(frozen=True)
class Turn:
    """A question and what the voices say to it, in the order of the voices."""

    question: str
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class ChatSnapshot:
    """`state` is loading, ready, answering, stopping or failed; `phase` what is done while it loads."""

    voices: tuple[Voice, ...] = ()
    turns: tuple[Turn, ...] = ()
    state: str = "loading"
    phase: str = ""
    device: str = ""
    problem: Problem | None = None
    loads: int = 1
    """How many models are in memory."""
    notes: tuple[str, ...] = ()
    """What one should know when one compares the voices."""

    @property
    def is_answering(self) -> bool:
        """Whether a question is open."""
        return self.state in ("answering", "stopping")

    @property
    def questions(self) -> tuple[str, ...]:
        """What was asked, the oldest first."""
        return tuple(turn.question for turn in self.turns)


def problem_of(error: Exception) -> Problem:
    """Ours are written for people, others at least say what they are."""
    if isinstance(error, TuneDeckError):
        no_room = isinstance(error, NoFit)
        return Problem(error.title, error.message, "" if no_room else error.hint, no_room)
    return Problem("The chat has ended", f"{type(error).__name__}: {error}", "r tries again.")


BROKEN, HALTED = "broken off", "stopped by you"
ENDS = {
    "end": "stopped by itself",
    "limit": "cut at the limit",
    "context": "the model takes no more",
    "asked": HALTED,
}
"""How an answer ended, by the engine's word for it."""


def asked(chat: ChatSnapshot, question: str) -> ChatSnapshot:
    """A question was put; nobody has said anything yet."""
    turn = Turn(question, tuple(Answer() for _ in chat.voices))
    return replace(chat, turns=(*chat.turns, turn), state="answering", problem=None)


def halted(chat: ChatSnapshot) -> ChatSnapshot:
    """The person wants no more of this answer."""
    return replace(chat, state="stopping") if chat.is_answering else chat


def undone(chat: ChatSnapshot) -> ChatSnapshot:
    """The last question was taken back."""
    return replace(chat, turns=chat.turns[:-1])


def lost(chat: ChatSnapshot, problem: Problem) -> ChatSnapshot:
    """There is no engine any more: what was said stays."""
    return replace(_broken_off(chat), state="failed", problem=problem)


def _broken_off(chat: ChatSnapshot) -> ChatSnapshot:
    if not chat.is_answering or not chat.turns:
        return chat
    last = chat.turns[-1]
    answers = tuple(one if one.end else replace(one, end=BROKEN) for one in last.answers)
    return replace(chat, turns=(*chat.turns[:-1], replace(last, answers=answers)))


def heard(chat: ChatSnapshot, event: Mapping[str, Any]) -> ChatSnapshot:
    """What the engine told. Of an unknown voice or kind of event nothing is known: it changes nothing."""
    match event.get("type"):
        case "phase":
            return replace(chat, phase=str(event.get("text", "")))
        case "ready":
            notes, device = tuple(map(str, event.get("notes", ()))), str(event.get("device", ""))
            return replace(chat, state="ready", phase="", device=device, loads=int(event.get("loads", 1)), notes=notes)
        case "token":
            return _said(chat, event, lambda one: replace(one, text=one.text + str(event.get("text", ""))))
        case "answer":
            return _said(chat, event, lambda one: _ended(one, event))
        case "failed":
            title, message, hint = (str(event.get(name) or "") for name in ("title", "message", "hint"))
            problem = Problem(title or "No answer", message, hint)
            if event.get("voice") is None:
                return lost(chat, problem)
            return _said(chat, event, lambda one: replace(one, end=BROKEN, problem=problem))
        case "turn":
            return replace(_broken_off(chat), state="ready") if chat.is_answering else chat
    return chat


def _said(chat: ChatSnapshot, event: Mapping[str, Any], change: Callable[[Answer], Answer]) -> ChatSnapshot:
    """One answer of the last turn is another."""
    index = next((i for i, one in enumerate(chat.voices) if one.key == event.get("voice")), None)
    if index is None or not chat.turns:
        return chat
    last = chat.turns[-1]
    answers = tuple(change(one) if i == index else one for i, one in enumerate(last.answers))
    return replace(chat, turns=(*chat.turns[:-1], replace(last, answers=answers)))


def _ended(answer: Answer, event: Mapping[str, Any]) -> Answer:
    reason = str(event.get("reason", ""))
    return Answer(
        str(event.get("text", answer.text)), event.get("tokens"), event.get("seconds"), event.get("repetition"),
        ENDS.get(reason, reason or "ended"),
    )  # fmt: skip
