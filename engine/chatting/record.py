"""The chat as a job of its first run: its directory, made with the first question, and its rows in the database."""

import contextlib
import os
import sqlite3
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from engine.after import job as jobs
from engine.after.ingest import ingest
from engine.after.trained import Trained
from engine.chatting import transcript
from engine.errors import SpaceError, TuneDeckError
from engine.events import Attempt, Done, Exit
from engine.files import EventFile
from engine.launch import try_lock
from engine.processes import start_time
from engine.store.connection import open_database
from engine.text import tail

WORDS = 200
"""Lines of the process's standard error that are kept before there is a file for them."""
Row = dict[str, Any]
TOLD = ("tokens", "seconds", "stopped", "reason", "repetition")
"""What a row keeps of an answer beside its text."""


class Words:
    """What the process writes to its standard error: in memory until there is a file for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lines: deque[str] = deque(maxlen=WORDS)
        self._path: Path | None = None

    def add(self, line: str) -> None:
        with self._lock:
            self._lines.append(line)
            if self._path:
                self._write([line])

    def into(self, path: Path) -> None:
        """From now on they are kept in this file, with those that came before."""
        with self._lock:
            self._path = path
            self._write(list(self._lines))

    def _write(self, lines: list[str]) -> None:
        with contextlib.suppress(OSError), open(self._path or os.devnull, "ab", opener=transcript.private) as file:
            file.write("".join(lines).encode(errors="replace"))

    def last(self, lines: int = 5) -> list[str]:
        with self._lock:
            return tail("".join(self._lines), lines)


class Record:
    """Holds the lock of the job's directory. `failure` is why the chat could not go on, `lost` why an answer is not kept.

    Raises SpaceError where a question cannot be written; answers that cannot be are only told of.
    """

    def __init__(self, database: Path, trained: Sequence[Trained], voices: Sequence[str], words: Words) -> None:
        self._database, self._run_id = database, trained[0].run_id
        self._runs = [{"run": one.run_id, "name": one.name, "step": one.step} for one in trained]
        self.job = jobs.create(database, self._run_id, "chat", {"voices": list(voices), "runs": self._runs})
        self.folder = jobs.directory(database, self._run_id, self.job)
        self.failure = self.lost = self._system = ""
        self._rows = transcript.Transcript(self.folder / transcript.ROWS)
        with _written(self.folder):
            self._guard = try_lock(self.folder, patience=2.0)
            self._log = EventFile(self.folder / jobs.RUNNER_EVENTS)
            self._log.append(Attempt(os.getpid(), start_time(os.getpid())))
        words.into(self.folder / "output.log")
        self.into_database()

    def question(self, turn: int, text: str, system: str, **more: Any) -> list[Row]:
        """The rows of a question: the system prompt, where it is another than before, and what was asked."""
        with _written(self.folder):
            found = [self._rows.add("system", "", system, turn)] if system != self._system else []
            self._system = system
            return [*found, self._rows.add("user", "", text, turn, **more)]

    def answer(self, turn: int, event: Row, settings: Row) -> Row | None:
        """The row of what one voice said, or that it failed; None if it cannot be kept."""
        kept = {"failed": event["message"]} if event["type"] == "failed" else {key: event.get(key) for key in TOLD}
        try:
            return self._rows.add("assistant", event["voice"], event.get("text", ""), turn, **kept, settings=settings)
        except OSError as error:
            self.lost = f"The transcript cannot be written: {error.strerror}."
            return None

    def undo(self, rows: Sequence[Row]) -> None:
        with _written(self.folder):
            self._rows.undo(row for row in rows if row["role"] != "system")

    def into_database(self) -> None:
        """What stands in the files; a database that cannot be had now is caught up with by whoever opens it next."""
        with contextlib.suppress(sqlite3.Error, OSError, TuneDeckError):
            db = open_database(self._database, create=False)
            try:
                ingest(db, self._run_id, self.folder)
            finally:
                db.close()

    def close(self) -> None:
        """Say how it ended, and let the directory go."""
        found = transcript.summary(transcript.read(self._rows.path))
        text = transcript.sentence(found["turns"])
        told = f"{', '.join(found['voices']) or 'nobody'} answered with {found['tokens']} tokens"
        with contextlib.suppress(OSError):  # its directory may be gone by now
            done = EventFile(self.folder / jobs.EVENTS)
            done.append(Done(found | {"runs": self._runs, "artifacts": []}, told))
            done.close()
            self._log.append(Exit("failed", f"{text}; {self.failure}") if self.failure else Exit("finished", text))
        self._log.close()
        self.into_database()
        if self._guard is not None:
            os.close(self._guard)


@contextlib.contextmanager
def _written(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SpaceError("The chat cannot be recorded", f"{folder}: {error.strerror}.", "Free some space.") from None
