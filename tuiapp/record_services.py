"""What the keys that change records ask of the engine: names, tags, notes, stars, the archive, the bin."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from engine.store import changes, fields, query
from engine.store.connection import Connection, open_database
from tuiapp.list_snapshot import FieldNames

ASPECTS = ("", ".best", ".smooth", ".min", ".max")
"""Of a metric: its last value, and others."""
Tags = Mapping[str, Sequence[str]]
"""By run its tags."""


class RecordServices(Protocol):
    """All of it may block and raises TuneDeckError."""

    def rename(self, run_id: str, name: str) -> str:
        """Give a run another name; the one it had."""

    def set_tags(self, tags: Tags) -> None:
        """Give runs exactly these tags."""

    def set_notes(self, notes: Mapping[str, str]) -> None:
        """Give runs these notes."""

    def star(self, run_ids: Sequence[str], on: bool) -> None:
        """Star runs, or take the star away."""

    def archive(self, run_ids: Sequence[str], on: bool) -> None:
        """Take runs out of the list, or put them back."""

    def bin(self, run_ids: Sequence[str]) -> list[str]:
        """Put runs into the bin; those that were not there."""

    def unbin(self, run_ids: Sequence[str]) -> None:
        """Take runs out of the bin."""

    def purge(self, run_ids: Sequence[str]) -> int:
        """Delete runs for good; the bytes freed."""

    def disk(self, run_ids: Sequence[str]) -> int:
        """Bytes that runs take on the disk."""

    def names(self, run_id: str | None) -> FieldNames:
        """The fields that runs here have, and what one run has of them."""


class Records:
    """The engine's. `changed` is called after every change, from the thread that made it."""

    def __init__(self, database: Path, changed: Callable[[], None]) -> None:
        self._database = database
        self._changed = changed

    @contextmanager
    def _db(self) -> Iterator[Connection]:
        db = open_database(self._database, create=False)
        try:
            yield db
        finally:
            db.close()
            self._changed()

    def rename(self, run_id: str, name: str) -> str:
        """See RecordServices."""
        with self._db() as db:
            return changes.rename(db, run_id, name)

    def set_tags(self, tags: Tags) -> None:
        """See RecordServices."""
        with self._db() as db:
            for run_id, of_run in tags.items():
                changes.set_tags(db, run_id, of_run)

    def set_notes(self, notes: Mapping[str, str]) -> None:
        """See RecordServices."""
        with self._db() as db:
            for run_id, note in notes.items():
                changes.set_note(db, run_id, note)

    def star(self, run_ids: Sequence[str], on: bool) -> None:
        """See RecordServices."""
        with self._db() as db:
            for run_id in run_ids:
                changes.star(db, run_id, on)

    def archive(self, run_ids: Sequence[str], on: bool) -> None:
        """See RecordServices."""
        with self._db() as db:
            for run_id in run_ids:
                changes.archive(db, run_id, on)

    def bin(self, run_ids: Sequence[str]) -> list[str]:
        """See RecordServices."""
        with self._db() as db:
            return changes.bin(db, run_ids)

    def unbin(self, run_ids: Sequence[str]) -> None:
        """See RecordServices."""
        with self._db() as db:
            changes.unbin(db, run_ids)

    def purge(self, run_ids: Sequence[str]) -> int:
        """See RecordServices."""
        with self._db() as db:
            return changes.purge(db, self._database, run_ids)

    def disk(self, run_ids: Sequence[str]) -> int:
        """See RecordServices."""
        return sum(changes.disk(self._database, run_id) for run_id in run_ids)

    def names(self, run_id: str | None) -> FieldNames:
        """See RecordServices."""
        if not self._database.exists():
            return FieldNames()
        db = open_database(self._database)
        try:
            metrics, parameters = fields.metric_keys(db), fields.parameters(db)
            columns = (*fields.COLUMNS, *fields.ALIASES)
            asked = [*columns, *(f"{key}{which}" for key in metrics for which in ASPECTS), *parameters]
            found = query.values(db, asked, [run_id]).get(run_id, ()) if run_id is not None else ()
            return FieldNames(columns, tuple(metrics), tuple(parameters), dict(zip(asked, found, strict=False)))
        finally:
            db.close()
