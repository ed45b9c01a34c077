"""What is said between the collector, the screens and the app."""

from dataclasses import dataclass
from typing import Any

from textual.message import Message

from tuiapp.snapshot import Snapshot


@dataclass
class SnapshotArrived(Message):
    """The collector has seen everything once more; only the newest counts."""

    snapshot: Snapshot

    def can_replace(self, message: Message) -> bool:
        """A newer snapshot makes one that still waits pointless."""
        return isinstance(message, SnapshotArrived)


@dataclass
class CollectFailed(Message):
    """The collector could not see anything this time."""

    sentence: str

    def can_replace(self, message: Message) -> bool:
        """The newest failure is enough."""
        return isinstance(message, CollectFailed)


@dataclass
class RunSelected(Message):
    """The screen needs this run in detail from now on."""

    run_id: str | None


@dataclass
class FoldAsked(Message):
    """A group of the list is to be folded, or opened, by its key."""

    key: str
    is_open: bool


@dataclass
class OpenRun(Message):
    """Show this run live."""

    run_id: str


@dataclass
class OpenForm(Message):
    """Show the form of a new run."""


@dataclass
class StopAsked(Message):
    """The person confirmed stopping this run."""

    run_id: str
    now: bool


@dataclass
class ResumeAsked(Message):
    """The person wants this run to go on."""

    run_id: str


@dataclass
class RunStarted(Message):
    """The form started this run."""

    run_id: str


@dataclass
class CheckpointAsked(Message):
    """The person wants this run to save a checkpoint now and go on."""

    run_id: str


@dataclass
class EvaluateAsked(Message):
    """The person wants this run to evaluate now and go on."""

    run_id: str


@dataclass
class ForkAsked(Message):
    """The person wants a run like this one, with these fields of the specification changed."""

    run_id: str
    changes: tuple[tuple[str, Any], ...] = ()


@dataclass
class AfterAsked(Message):
    """Show what was done with this run after its training, and what can be."""

    run_id: str


@dataclass
class PinAsked(Message):
    """The person wants other runs to be compared with this one; None with none."""

    run_id: str | None


@dataclass
class CompareAsked(Message):
    """The person wants these runs side by side, by id; the pinned one, else the first, is what the others are held against."""

    run_ids: tuple[str, ...]


@dataclass
class ChatAsked(Message):
    """The person wants to chat with these runs, of one base model, by id, and with that base."""

    run_ids: tuple[str, ...]


@dataclass
class OpenMachine(Message):
    """Show every card, who uses it, and the queue."""


@dataclass
class HoldAsked(Message):
    """The person wants a card, by UUID, held back from queued runs, or given free."""

    card: str
    held: bool


@dataclass
class MoveAsked(Message):
    """The person wants a run of the queue, by its ticket's key, to have its turn later (1) or earlier (-1)."""

    key: str
    by: int


@dataclass
class RemoveAsked(Message):
    """The person confirmed taking this run out of the queue, by its ticket's key."""

    key: str
    run_id: str
