"""What the machine screen asks of the runs: how far those on cards are, what happened on cards, and for how long."""

import json
import sqlite3
from collections.abc import Sequence

from engine.store.records import Row
from engine.store.runs import ACTIVE


def progress_of(db: sqlite3.Connection, run_ids: Sequence[str]) -> dict[str, Row]:
    """Of those runs: name, status, step, total, best_eval, as far as known."""
    marks = ", ".join("?" * len(run_ids))
    rows = db.execute(
        "SELECT id, name, status, progress.step, total, latest.best AS best_eval FROM runs"
        " LEFT JOIN progress ON progress.run_id = id LEFT JOIN latest ON latest.run_id = id AND latest.key = 'eval_loss'"
        f" WHERE id IN ({marks})", tuple(run_ids))  # fmt: skip
    return {row["id"]: dict(row) for row in rows}


def last_steps(db: sqlite3.Connection, run_id: str, most: int = 20) -> list[tuple[int, float]]:
    """(step, unix seconds) of the last steps of which the loss is known, in order."""
    rows = db.execute(
        "SELECT step, max(time) FROM points JOIN series ON series.id = series WHERE run_id = ? AND key = 'loss'"
        " GROUP BY step ORDER BY step DESC LIMIT ?", (run_id, most)).fetchall()  # fmt: skip
    return [(row[0], row[1]) for row in reversed(rows)]


def happened(db: sqlite3.Connection, since: float, most: int) -> list[Row]:
    """The newest things that runs said of their cards after a time: time, name, text."""
    rows = db.execute(
        "SELECT events.time, runs.name, events.text FROM events JOIN runs ON runs.id = run_id"
        " WHERE coalesce(runs.ended_at, ?1) >= ?1 AND events.time >= ?1 AND events.source = 'supervisor'"
        " AND events.type IN ('attempt', 'waiting', 'stopping', 'exit') ORDER BY events.time DESC, seq DESC LIMIT ?2",
        (since, most))  # fmt: skip
    return [dict(row) for row in rows]


def busy(db: sqlite3.Connection, since: float, now: float) -> list[tuple[float, float, int]]:
    """(from, to, cards) for each attempt of a run that had GPUs after a time; one that still runs lasts until now."""
    rows = db.execute(
        "SELECT run_id, events.time, type, data, runs.ended_at, runs.status FROM events JOIN runs ON runs.id = run_id"
        " WHERE coalesce(runs.ended_at, ?1) >= ?1 AND events.source = 'supervisor' AND type IN ('attempt', 'exit')"
        " ORDER BY run_id, events.time, seq", (since,)).fetchall()  # fmt: skip
    found = []
    for i, row in enumerate(rows):
        cards = len(json.loads(row["data"]).get("gpus") or []) if row["type"] == "attempt" else 0
        after = rows[i + 1] if i + 1 < len(rows) and rows[i + 1]["run_id"] == row["run_id"] else None
        end = after["time"] if after else now if row["status"] in ACTIVE else row["ended_at"]
        if cards and end is not None and end > since:
            found.append((max(row["time"], since), float(end), cards))
    return found
