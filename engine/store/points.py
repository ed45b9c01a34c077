"""Every stored point, read one after the other: nothing is thinned, and no more is held than a row of each curve."""

import heapq
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

Stored = tuple[str, int, int, float, Any]
"""Key, step, attempt, unix seconds, value: a number, or nan, inf or -inf as a text."""


def keys(db: sqlite3.Connection, run_ids: Sequence[str]) -> list[str]:
    """The metrics of any of these runs, in order of their names."""
    found: set[str] = set()
    for run_id in run_ids:
        found |= {row[0] for row in db.execute("SELECT key FROM series WHERE run_id = ?", (run_id,))}
    return sorted(found)


def every(db: sqlite3.Connection, run_id: str, chosen: Sequence[str] | None = None) -> Iterator[Stored]:
    """The points of a run by key, step and attempt; of these metrics only, if some are chosen."""
    for key, series in _series(db, run_id, chosen):
        yield from _of(db, key, series)


def by_step(db: sqlite3.Connection, run_id: str, chosen: Sequence[str] | None = None) -> Iterator[Stored]:
    """The same by step, attempt and key."""
    curves = [_of(db, key, series) for key, series in _series(db, run_id, chosen)]
    return heapq.merge(*curves, key=lambda point: (point[1], point[2], point[0]))


def _series(db: sqlite3.Connection, run_id: str, chosen: Sequence[str] | None) -> list[tuple[str, int]]:
    rows = db.execute("SELECT key, id FROM series WHERE run_id = ? ORDER BY key", (run_id,)).fetchall()
    return [(row[0], row[1]) for row in rows if chosen is None or row[0] in chosen]


def _of(db: sqlite3.Connection, key: str, series: int) -> Iterator[Stored]:
    cursor = db.cursor()
    cursor.row_factory = None
    rows = cursor.execute(
        "SELECT step, attempt, time, value FROM points WHERE series = ? ORDER BY step, attempt", (series,)
    )
    return ((key, step, attempt, time, value) for step, attempt, time, value in rows)
