"""What the chat asks of the engine: the base model and the adapters of some runs, loaded once and asked the same."""

from typing import Any, Protocol

from tuiapp.chat_snapshot import Sampling, Voice

Event = dict[str, Any]


class Chat(Protocol):
    """A conversation under way. All of it may block, is asked for in a thread, and raises TuneDeckError."""

    voices: tuple[Voice, ...]
    """The base first."""
    system: str
    """The system prompt of training; empty if there was none."""

    def ask(self, question: str, system: str, sampling: Sampling) -> None:
        """Put a question to all voices; each knows what it said itself before."""

    def poll(self) -> list[Event]:
        """What was told since the last time."""

    def stop(self) -> None:
        """Break the answer off; what was said is kept."""

    def undo(self) -> None:
        """Take the last question and its answers back."""

    def close(self) -> None:
        """End the process; the transcript is kept with the run."""


class ChatServices(Protocol):
    """What the chat screen is given."""

    def chat(self, run_ids: tuple[str, ...], cpu: bool = False) -> Chat:
        """Begin one with these runs of one base model; `cpu`: not on a card. May block and raises TuneDeckError."""
