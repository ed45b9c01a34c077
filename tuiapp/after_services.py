"""What the screen "After training" asks of the engine: a job prepared, started, stopped, continued, read. All of it may block."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

from engine.after import asking
from engine.after import job as jobs
from engine.errors import TuneDeckError
from engine.store import afterwards, runs
from engine.store.connection import Connection, open_database
from tuiapp.after_values import FieldAsked, Prepared


class AfterServices(Protocol):
    """Whoever answers; `kind` is eval, judge, merge or export."""

    def fields(self, run_id: str, kind: str) -> tuple[FieldAsked, ...]:
        """What can be said of a job before it starts. Raises TuneDeckError."""

    def prepare(self, run_id: str, kind: str, values: Mapping[str, str]) -> Prepared:
        """A job as it would start; what is in its way is in it."""

    def begin(self, run_id: str, prepared: Prepared) -> str:
        """Start it; its name. Raises TuneDeckError."""

    def stop(self, run_id: str, job: str) -> None:
        """Ask a job to stop. Raises TuneDeckError."""

    def go_on(self, run_id: str, job: str) -> None:
        """Let a job go on that has stopped. Raises TuneDeckError."""

    def story(self, run_id: str, job: str) -> tuple[tuple[str, str], ...]:
        """Everything about a job, as names and values. Raises TuneDeckError."""


class After:
    """The engine's. `changed` is called after every change, from the thread that made it."""

    def __init__(self, database: Path, changed: Callable[[], None]) -> None:
        self._database = database
        self._changed = changed

    @contextlib.contextmanager
    def _db(self) -> Iterator[Connection]:
        with contextlib.closing(open_database(self._database, create=False)) as db:
            yield db

    def fields(self, run_id: str, kind: str) -> tuple[FieldAsked, ...]:
        """See AfterServices."""
        with self._db() as db:
            asked = asking.fields(db, self._database, runs.find(db, run_id), kind)
        return tuple(FieldAsked(one.name, one.label, one.value, one.choices, one.path, one.hint) for one in asked)

    def prepare(self, run_id: str, kind: str, values: Mapping[str, str]) -> Prepared:
        """See AfterServices."""
        try:
            with self._db() as db:
                found = asking.prepare(db, self._database, runs.find(db, run_id), kind, values)
        except TuneDeckError as error:
            words = " ".join(part for part in (f"{error.title}: {error.message}", error.hint) if part)
            return Prepared(kind, dict(values), problem=words)
        except OSError as error:
            return Prepared(kind, dict(values), problem=str(error))
        return Prepared(kind, dict(values), found.lines, ask=found.ask)

    def begin(self, run_id: str, prepared: Prepared) -> str:
        """See AfterServices."""
        try:
            with self._db() as db:
                return asking.begin(db, self._database, runs.find(db, run_id), prepared.kind, dict(prepared.ask))
        finally:
            self._changed()

    def stop(self, run_id: str, job: str) -> None:
        """See AfterServices."""
        with self._db() as db:
            jobs.stop(self._database, afterwards.find(db, run_id, job))

    def go_on(self, run_id: str, job: str) -> None:
        """See AfterServices."""
        jobs.start(self._database, run_id, job)
        self._changed()

    def story(self, run_id: str, job: str) -> tuple[tuple[str, str], ...]:
        """See AfterServices."""
        with self._db() as db:
            return tuple(asking.story(self._database, afterwards.find(db, run_id, job)))
