"""Runs that were not trained here: their rows, and what is known of where they come from."""

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.store.metrics import higher_is_better
from engine.store.runs import set_fields

MARK = "import"
"""The source under which `ingested` has the stamp of what was imported, and `events` what was said of it."""


@dataclass(frozen=True)
class Known:
    """An imported run; `stamp` is None until all of it is here."""

    id: str
    name: str
    stamp: int | None
    binned: bool


def known(db: sqlite3.Connection) -> dict[str, Known]:
    """The imported runs by where they come from."""
    rows = db.execute(
        "SELECT runs.source, id, name, offset, deleted_at FROM runs"
        " LEFT JOIN ingested ON run_id = id AND ingested.source = ? WHERE runs.source IS NOT NULL", (MARK,))  # fmt: skip
    return {r[0]: Known(r[1], r[2], r[3], r[4] is not None) for r in rows}


def exists(db: sqlite3.Connection, run_id: str) -> bool:
    return db.execute("SELECT 1 FROM runs WHERE id = ?", (run_id,)).fetchone() is not None


def insert(db: sqlite3.Connection, run_id: str, name: str, project: str, source: str, created_at: float) -> None:
    """A run of which only this is known yet. It has no specification: `spec` is {}."""
    db.execute(
        "INSERT INTO runs (id, name, project, status, created_at, spec, tags, source) VALUES (?, ?, ?, 'stopped', ?, '{}', ?, ?)",
        (run_id, name, project, created_at, json.dumps(["imported"]), source),
    )


def forget(db: sqlite3.Connection, run_id: str) -> None:
    """Take back what was imported, but for the run's own row: the user's name, tags and note stay."""
    db.execute("DELETE FROM ingested WHERE run_id = ? AND source = ?", (run_id, MARK))
    for table in ("points", "sketch"):
        db.execute(f"DELETE FROM {table} WHERE series IN (SELECT id FROM series WHERE run_id = ?)", (run_id,))
    for table in ("series", "latest", "params", "progress", "checkpoints", "artifacts"):
        db.execute(f"DELETE FROM {table} WHERE run_id = ?", (run_id,))
    db.execute("DELETE FROM events WHERE run_id = ? AND source = ?", (run_id, MARK))


def finish(
    db: sqlite3.Connection, run_id: str, stamp: int, params: Mapping[str, str], fields: Mapping[str, Any]
) -> None:
    """All of it is here: its parameters, the columns of its row, and the stamp of what it was read from."""
    db.executemany("INSERT INTO params VALUES (?, ?, ?)", [(run_id, path, value) for path, value in params.items()])
    set_fields(db, run_id, **fields)
    db.execute("INSERT OR REPLACE INTO ingested VALUES (?, ?, ?)", (run_id, MARK, stamp))


def value(db: sqlite3.Connection, run_id: str, key: str, step: int) -> float | None:
    """What a run has of a metric at a step."""
    row = db.execute(
        "SELECT value FROM metrics WHERE run_id = ? AND key = ? AND step = ?", (run_id, key, step)
    ).fetchone()
    return None if row is None else float(row[0])


def stored(db: sqlite3.Connection, run_id: str) -> int:
    """How many points a run has: of a step that came twice one."""
    return int(db.execute("SELECT coalesce(sum(stored), 0) FROM series WHERE run_id = ?", (run_id,)).fetchone()[0])


def summarize(db: sqlite3.Connection, run_id: str) -> None:
    """The least, greatest and best values from what is stored, where points came that others then took the place of."""
    for (key,) in db.execute("SELECT key FROM latest WHERE run_id = ?", (run_id,)).fetchall():
        low, high = db.execute(
            "SELECT min(value), max(value) FROM metrics WHERE run_id = ? AND key = ? AND typeof(value) != 'text'", (run_id, key)
        ).fetchone()  # fmt: skip
        db.execute("UPDATE latest SET min = ?, max = ?, best = ? WHERE run_id = ? AND key = ?",
                   (low, high, high if higher_is_better(key) else low, run_id, key))  # fmt: skip
