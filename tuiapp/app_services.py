"""Everything the app asks of the engine, whoever answers."""

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tuiapp.background import Source
from tuiapp.draft import RunDraft
from tuiapp.screens.wizard import WizardServices

if TYPE_CHECKING:
    from engine.lineage import Node
    from tuiapp.after_services import AfterServices
    from tuiapp.chat_services import Chat
    from tuiapp.compare_values import ComparePage, CompareQuestion
    from tuiapp.record_services import RecordServices


class Services(Source, WizardServices, Protocol):
    """Everything the app asks of the engine. All of it may block; none of it runs on the event loop."""

    database: Path
    drafts: Path
    """Where the drafts of new runs are kept."""
    records: "RecordServices"
    """Asked for in a thread: what it needs is imported then."""
    after: "AfterServices"
    """The same."""

    def fork(self, run_id: str) -> RunDraft:
        """What the wizard begins with for a run like this one."""

    def compare(self, asked: "CompareQuestion") -> "ComparePage":
        """Runs side by side, with the curves that are drawn of them."""

    def export_compared(self, ids: tuple[str, ...], form: str) -> str:
        """Write the comparison, or every point, to a new file of the working directory; its path."""

    def lineage(self, run_id: str) -> "Node":
        """Everything that a run is related to."""

    def chat(self, run_ids: tuple[str, ...], cpu: bool = False) -> "Chat":
        """Begin a conversation with runs of one base model, and with that."""

    def stop(self, run_id: str, now: bool = False) -> None:
        """Ask a run to stop; `now` without a checkpoint."""

    def resume(self, run_id: str) -> None:
        """Let a run go on."""

    def checkpoint(self, run_id: str) -> None:
        """Ask a run to save a checkpoint and go on."""

    def evaluate(self, run_id: str) -> None:
        """Ask a run to evaluate and go on."""

    def hold(self, card: str, held: bool) -> None:
        """Hold a card back from queued runs, or give it free."""

    def move(self, key: str, by: int) -> None:
        """Give a run of the queue another turn."""

    def unqueue(self, key: str) -> None:
        """Take a run out of the queue."""
