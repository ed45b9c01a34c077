"""Databases of other programs, read and never written: Trackio's."""

import contextlib
import json
import sqlite3
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import SourceError

HEADER = b"SQLite format 3\0"
LARGEST_ROW = 1 << 20
"""Bytes of one log call; larger ones hold tables and media, no numbers."""
_COLUMNS = {"run_name", "timestamp", "step", "metrics"}


def is_sqlite(path: Path) -> bool:
    """By its first bytes. Raises OSError."""
    with path.open("rb") as file:
        return file.read(len(HEADER)) == HEADER


@contextlib.contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """A database to read, without leaving anything beside it. Raises SourceError, also for what fails while it is read."""
    # A -wal file means that somebody may be writing; without one nothing is passed over by looking at the file alone
    immutable = "" if path.with_name(path.name + "-wal").exists() else "&immutable=1"
    try:
        connection = sqlite3.connect(f"file:{urllib.parse.quote(str(path))}?mode=ro{immutable}", uri=True, timeout=10.0)
        try:
            yield connection
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise SourceError(
            "The database cannot be read", f"{path}: {error}.", "Is it complete? Is it still written?"
        ) from None


def program(db: sqlite3.Connection) -> str:
    """Whose database it is: trackio, tunedeck, or "" for any other."""
    tables = {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if "_sqlite_migrations" in tables and "runs" in tables:
        return "tunedeck"
    return "trackio" if "metrics" in tables and columns(db, "metrics") >= _COLUMNS else ""


def columns(db: sqlite3.Connection, table: str) -> set[str]:
    """The names of a table's columns; none if there is no such table."""
    return {row[1] for row in db.execute(f"PRAGMA table_info({table})")}


@dataclass(frozen=True)
class TrackioRun:
    """A run in a Trackio database. Before version 0.24 a run was known by its name alone: `id` is then that."""

    id: str
    name: str
    began: str
    """As Trackio writes times: ISO 8601."""
    rows: int
    last: int
    """The greatest id of its rows."""


def _by(db: sqlite3.Connection, table: str = "metrics") -> str:
    return "run_id" if "run_id" in columns(db, table) else "run_name"


def trackio_runs(db: sqlite3.Connection) -> list[TrackioRun]:
    """The oldest first. A run that was renamed has the name that it got last."""
    by = _by(db)
    rows = db.execute(
        f"SELECT {by}, run_name, min(timestamp), count(*), max(id) FROM metrics WHERE {by} IS NOT NULL"
        f" GROUP BY {by} ORDER BY min(timestamp), {by}")  # fmt: skip
    return [TrackioRun(str(r[0]), str(r[1] or r[0]), str(r[2] or ""), int(r[3]), int(r[4])) for r in rows]


def trackio_rows(db: sqlite3.Connection, run: str) -> Iterator[tuple[str, int, dict[str, Any] | None]]:
    """Time, step and values of each log call, in order; None for one that is too large or no JSON."""
    rows = db.execute(
        f"SELECT timestamp, step, CASE WHEN length(metrics) <= ? THEN metrics END FROM metrics WHERE {_by(db)} = ? ORDER BY id",
        (LARGEST_ROW, run))  # fmt: skip
    for time, step, text in rows:
        yield str(time), step, _object(text)


def trackio_config(db: sqlite3.Connection, run: str) -> dict[str, Any]:
    """What the run was configured with; empty if that is not known."""
    if not columns(db, "configs"):
        return {}
    row = db.execute(
        f"SELECT config FROM configs WHERE {_by(db, 'configs')} = ? AND length(config) <= ? ORDER BY id DESC LIMIT 1",
        (run, LARGEST_ROW),
    ).fetchone()
    return (_object(row[0]) if row else None) or {}


def trackio_others(db: sqlite3.Connection, run: str) -> dict[str, int]:
    """How many rows there are of what we do not take: system metrics, traces, alerts."""
    found = {}
    for table in ("system_metrics", "traces", "alerts"):
        if columns(db, table):
            count = db.execute(f"SELECT count(*) FROM {table} WHERE {_by(db, table)} = ?", (run,)).fetchone()[0]
            if count:
                found[table.replace("_", " ")] = int(count)
    return found


def _object(text: Any) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
