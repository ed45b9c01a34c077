"""What reports and the Python package ask: means of long curves, the overview, every point of some runs."""

import json
import sqlite3
from collections.abc import Sequence
from typing import Any

from engine.store.metrics import curves

Row = dict[str, Any]


def means(db: sqlite3.Connection, run_id: str, key: str, most: int) -> list[tuple[float, float]]:
    """(step, value) of a curve: of more than `most` points the mean of each stretch of steps, what is not finite left out."""
    row = db.execute("SELECT id FROM series WHERE run_id = ? AND key = ?", (run_id, key)).fetchone()
    if row is None:
        return []
    count, first, last, attempts = db.execute(
        "SELECT count(*), min(step), max(step), max(attempt) FROM points WHERE series = ?", (row[0],)
    ).fetchone()
    if count <= most:
        return [(step, value) for step, _, value in curves(db, run_id, [key])[key]]
    source = "points WHERE series = ?"
    known: tuple[object, ...] = (row[0],)
    if attempts > 1:
        source, known = "metrics WHERE run_id = ? AND key = ?", (run_id, key)
    stretch = max(1, -(-(last - first + 1) // most))
    rows = db.execute(
        f"SELECT avg(step), avg(value) FROM {source} AND typeof(value) != 'text' GROUP BY (step - ?) / ? ORDER BY 1",
        (*known, first, stretch),
    )
    return [(float(row[0]), float(row[1])) for row in rows]


def overview(db: sqlite3.Connection, ids: Sequence[str]) -> list[Row]:
    """The rows of the view run_overview of these runs, in their order. Runs in the bin are not in it."""
    rows = db.execute("SELECT * FROM run_overview WHERE id IN (SELECT value FROM json_each(?))", (json.dumps(ids),))
    found = {row["id"]: dict(row) for row in rows}
    return [found[one] for one in ids if one in found]
