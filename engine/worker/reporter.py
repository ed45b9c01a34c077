"""The worker's voice: appends events to `events.jsonl`, on rank 0 only."""

import contextlib
import time
from pathlib import Path

from engine.events import Event, Failed, Phase, Progress
from engine.files import EventFile

PROGRESS_SECONDS = 0.25
RESERVE = 1 << 20
"""Bytes kept on the disk, so that even on a full one the end of the run can be told and recorded: the run's row in the
database is written anew, with all that it holds of spec, plan and environment."""


class Reporter:
    """Says what happens. On other ranks than 0 it says nothing."""

    def __init__(self, run_dir: Path, attempt: int, rank: int = 0) -> None:
        self.run_dir = run_dir
        self.rank = rank
        self._phase = ("", "")
        self._next_progress = 0.0
        self._attempt = attempt
        self._file = EventFile(run_dir / "events.jsonl", attempt) if rank == 0 else None
        if self._file:
            with contextlib.suppress(OSError):  # no room for it: then the run will soon tell
                (run_dir / "reserve").write_bytes(b"\0" * RESERVE)

    def say(self, event: Event) -> None:
        """Append one event. Raises OSError if there is no space."""
        if self._file:
            self._file.append(event)

    def say_last(self, event: Event) -> None:
        """Say how it ended, with the space that was kept for that. A failure is told by every rank, in a file each."""
        if self._file:
            (self.run_dir / "reserve").unlink(missing_ok=True)
        elif isinstance(event, Failed):
            EventFile(self.run_dir / f"failed.{self.rank}.jsonl", self._attempt).append(event)
        self.say(event)

    def phase(self, name: str, text: str = "") -> None:
        """Say that another phase begins; the same phase again is not repeated."""
        if (name, text) != self._phase:
            self._phase = name, text
            self.say(Phase(name, text))

    @property
    def doing(self) -> str:
        """The phase that this rank is in."""
        return self._phase[0]

    def progress(self, step: int, total: int, epoch: float) -> None:
        """Say how far training is: at most four times a second, and always the last step."""
        now = time.monotonic()
        if now >= self._next_progress or step >= total:
            self._next_progress = now + PROGRESS_SECONDS
            self.say(Progress(step, total, round(epoch, 4)))
