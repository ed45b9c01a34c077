"""The chat as the engine does it: a session with the process that answers, behind what the screen asks for."""

import contextlib
import threading
from pathlib import Path

from engine.after.trained import trained
from engine.chatting.session import Session
from engine.chatting.settings import Settings
from engine.store import runs
from engine.store.connection import open_database
from tuiapp import format as f
from tuiapp.chat_services import Event
from tuiapp.chat_snapshot import Sampling, Voice


class Talk:
    """A conversation with runs of one base model, and with that. Raises TuneDeckError where there can be none."""

    def __init__(self, database: Path, run_ids: tuple[str, ...], cpu: bool = False) -> None:
        with contextlib.closing(open_database(database, create=False)) as db:
            rows = [runs.find(db, run_id) for run_id in run_ids]
        found = [trained(database, row) for row in rows]
        self._lock = threading.Lock()  # a key may ask while another thread closes
        self._session = Session(database, found, cpu=cpu)
        base, *tuned = self._session.voices
        self.system = self._session.system
        self.voices = (
            Voice(base, f.model_name(rows[0]["model"])),
            *(Voice(key, one.name, one.run_id, one.step) for key, one in zip(tuned, found, strict=True)),
        )

    def ask(self, question: str, system: str, sampling: Sampling) -> None:
        """Put a question to all voices."""
        settings = Settings(sampling.temperature, sampling.top_p, sampling.most, sampling.seed)
        with self._lock:
            self._session.ask(question, system=system, settings=settings)

    def poll(self) -> list[Event]:
        """What was told since the last time."""
        return self._session.poll()

    def stop(self) -> None:
        """No more of the answers."""
        self._session.stop()

    def undo(self) -> None:
        """As if the last question had not been put."""
        with self._lock:
            self._session.undo()

    def close(self) -> None:
        """End the process and the job."""
        with self._lock:
            self._session.close()
