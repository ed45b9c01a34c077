"""What the snapshots show of the runs, read from the database only where something has changed."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine import paths
from engine.outcome import last_words
from engine.store.connection import Connection
from tuiapp.after_values import AfterPage, AfterQuestion
from tuiapp.detail import baseline_detail, run_detail
from tuiapp.list_snapshot import Asked, Listing
from tuiapp.listing import Lister
from tuiapp.snapshot import RunDetail, RunLine
from tuiapp.streams import Streams
from tuiapp.table import Table

if TYPE_CHECKING:
    from tuiapp.after_reading import Desk as AfterDesk

LOG_LINES, LOG_BYTES = 1000, 256 << 10
"""Of the end of output.log."""
KEPT = 8
"""Runs of which what was read stays at hand, so that going through runs with [ and ] reads nothing twice."""

Lines = tuple[RunLine, ...]


@dataclass(frozen=True)
class Seen:
    """What a snapshot has of the runs."""

    runs: Lines
    put_away: Lines
    listing: Listing
    detail: RunDetail | None
    baseline: RunDetail | None
    after: AfterPage | None = None


class Reader:
    """Belongs to the one thread that collects."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._table = Table()
        self._lister = Lister()
        self._lines: tuple[Any, Lines] | None = None
        self._details: dict[tuple[str, bool], tuple[Any, RunDetail]] = {}
        self._streams: dict[str, Streams] = {}
        self._after: AfterDesk | None = None

    def rescan(self) -> None:
        """This program changed a run: what is seldom looked at is looked at again."""
        self._table.rescan()
        self._lister.rescan()

    def read(
        self,
        db: Connection,
        selected: str | None,
        baseline: str | None,
        asked: Asked,
        after: AfterQuestion | None = None,
    ) -> Seen:
        """All runs, what the list asks for, the selected run in detail, the baseline as others are compared with it, and what
        was done with a run after its training."""
        version = (db, db.execute("PRAGMA data_version").fetchone()[0], db.total_changes)
        if self._lines is None or self._lines[0] != version or not self._table.complete:
            self._lines = version, self._table.read(db)
        line, other = self._table.line(selected), self._table.line(baseline)
        listing = self._lister.read(db, version, self._table, asked, selected)
        detail = self._detail(db, version, line, True) if line else None
        pinned = self._detail(db, version, other, False) if other else None
        page = self._desk().page(db, version, after) if after is not None else None
        return Seen(self._lines[1], self._table.put_away, listing, detail, pinned, page)

    def _desk(self) -> "AfterDesk":
        if self._after is None:
            from tuiapp.after_reading import Desk  # not needed for the first paint

            self._after = Desk(self._database)
        return self._after

    def _detail(self, db: Connection, version: Any, line: RunLine, whole: bool) -> RunDetail:
        """`whole`: with everything, not only what others are compared with."""
        directory = paths.run_directory(self._database, line.id)
        key = version, line, _log_size(directory) if whole else 0
        known = self._details.pop((line.id, whole), None)
        streams = self._streams.pop(line.id, None) or Streams(line.id)
        if known is None or known[0] != key or not streams.complete:
            log = last_words(directory, LOG_LINES, LOG_BYTES) if whole else []
            detail = run_detail(db, line, directory, log, streams) if whole else baseline_detail(db, line, streams)
            known = key, detail
        self._details[line.id, whole] = known
        self._streams[line.id] = streams
        _forget(self._details)
        _forget(self._streams)
        return known[1]


def _forget(kept: dict[Any, Any]) -> None:
    """What was not asked for the longest time."""
    while len(kept) > KEPT:
        kept.pop(next(iter(kept)))


def _log_size(directory: Path) -> int:
    try:
        return (directory / "output.log").stat().st_size
    except OSError:
        return 0
