"""The worker's voice: appends events to `events.jsonl`, on rank 0 only."""

import contextlib
import errno
import time
from collections import deque
from pathlib import Path

from engine.events import Event, Failed, Phase, Progress
from engine.files import EventFile

PROGRESS_SECONDS = 0.25
RESERVE = 1 << 20
"""Bytes kept on the disk, so that even on a full one the end of the run can be told and recorded: the run's row in the
database is written anew, with all that it holds of spec, plan and environment."""
KEPT = 100_000
"""Events that wait at most until there is room again; beyond that the oldest are lost."""


class Reporter:
    """Says what happens. On other ranks than 0 it says nothing. On a full disk it goes on, and says it later."""

    def __init__(self, run_dir: Path, attempt: int, rank: int = 0) -> None:
        self.run_dir = run_dir
        self.rank = rank
        self._phase = ("", "")
        self._next_progress = 0.0
        self._attempt = attempt
        self._waiting: deque[tuple[float, Event]] = deque(maxlen=KEPT)
        self._file = EventFile(run_dir / "events.jsonl", attempt) if rank == 0 else None
        if self._file:
            with contextlib.suppress(OSError):  # no room for it: then the run will soon tell
                (run_dir / "reserve").write_bytes(b"\0" * RESERVE)

    def say(self, event: Event) -> None:
        """Append one event, or with the next ones if there is no room for it now. Raises OSError for anything else."""
        if self._file:
            self._waiting.append((time.time(), event))
            self._write(self._file)

    def _write(self, file: EventFile) -> None:
        try:
            while self._waiting:
                moment, event = self._waiting[0]
                file.append(event, moment)
                self._waiting.popleft()
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise

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
