"""What a person asked of a run, a card or the queue, as a call of the services and the words that say it was asked."""

from collections.abc import Callable
from typing import TypeVar

from textual import on
from textual.message import Message

from tuiapp.app_services import Services
from tuiapp.messages import (
    CheckpointAsked,
    EvaluateAsked,
    HoldAsked,
    MoveAsked,
    RemoveAsked,
    ResumeAsked,
    StopAsked,
)

M = TypeVar("M", bound=Message)
F = TypeVar("F", bound=Callable[..., object])
CALLS = (CheckpointAsked, EvaluateAsked, HoldAsked, MoveAsked, RemoveAsked, ResumeAsked, StopAsked)
"""Messages that are carried out by one call."""
ENDS = (StopAsked, RemoveAsked)
"""Those after which a run ends as it was asked to: that is no news."""


def on_any(kinds: tuple[type[Message], ...]) -> Callable[[F], F]:
    """The handler of several kinds of messages."""

    def decorate(handler: F) -> F:
        for kind in kinds:
            handler = on(kind)(handler)
        return handler

    return decorate


def carried_out(message: Message, services: Services) -> tuple[Callable[[], object], str]:
    """The call, which may block, and what is said when it is done."""
    match message:
        case StopAsked(run_id, now):
            words = "asked to stop now" if now else "asked to stop; it saves a checkpoint first"
            return lambda: services.stop(run_id, now), words
        case CheckpointAsked(run_id):
            return lambda: services.checkpoint(run_id), "asked for a checkpoint at the end of this step"
        case EvaluateAsked(run_id):
            return lambda: services.evaluate(run_id), "asked for an evaluation at the end of this step"
        case ResumeAsked(run_id):
            return lambda: services.resume(run_id), "asked to go on from the last checkpoint"
        case HoldAsked(card, held):
            words = "held back: no queued run is put on it" if held else "given free: queued runs may have it"
            return lambda: services.hold(card, held), words
        case MoveAsked(key, by):
            return lambda: services.move(key, by), f"its turn is one {'later' if by > 0 else 'earlier'}"
        case RemoveAsked(key, _):
            return lambda: services.unqueue(key), "taken out of the queue"
    raise TypeError(f"{message} is not carried out by one call")
