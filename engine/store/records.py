"""What happened in a run: events, progress, checkpoints, evaluations, samples, artifacts, GPU samples."""

import itertools
import json
import sqlite3
from typing import Any

from engine import events as ev

Row = dict[str, Any]


def offset(db: sqlite3.Connection, run_id: str, source: str) -> int:
    """How many bytes of this file of the run are in the database."""
    row = db.execute("SELECT offset FROM ingested WHERE run_id = ? AND source = ?", (run_id, source)).fetchone()
    return int(row[0]) if row else 0


def set_offset(db: sqlite3.Connection, run_id: str, source: str, value: int) -> None:
    db.execute("INSERT OR REPLACE INTO ingested VALUES (?, ?, ?)", (run_id, source, value))


def add_event(db: sqlite3.Connection, run_id: str, source: str, record: ev.Record, level: str, text: str) -> None:
    event = record.event
    data = event.data if isinstance(event, ev.Unknown) else vars(event)
    db.execute(
        "INSERT OR IGNORE INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (run_id, source, record.seq, record.attempt, record.time, event.type, level, text, json.dumps(ev.finite(data))),
    )


def set_progress(db: sqlite3.Connection, run_id: str, attempt: int, time: float, **fields: Any) -> None:
    """Change the run's one row of progress: phase, step, total, epoch."""
    db.execute("INSERT OR IGNORE INTO progress (run_id) VALUES (?)", (run_id,))
    names = ", ".join(f"{name} = ?" for name in fields)
    db.execute(
        f"UPDATE progress SET attempt = ?, time = ?, {names} WHERE run_id = ?",
        (attempt, time, *fields.values(), run_id),
    )


def add_checkpoint(db: sqlite3.Connection, run_id: str, record: ev.Record, event: ev.Checkpoint) -> None:
    db.execute(
        "INSERT OR REPLACE INTO checkpoints VALUES (?, ?, ?, ?, ?, ?, ?)",
        (run_id, event.step, record.attempt, record.time, event.path, event.bytes, event.eval_loss),
    )


def add_evaluation(db: sqlite3.Connection, run_id: str, record: ev.Record, step: int, values: dict[str, float]) -> None:
    db.execute(
        "INSERT OR REPLACE INTO evaluations VALUES (?, ?, ?, ?, ?)",
        (run_id, step, record.attempt, record.time, json.dumps({k: ev.finite(v) for k, v in values.items()})),
    )


def add_sample(db: sqlite3.Connection, run_id: str, record: ev.Record, event: ev.Sample) -> None:
    db.execute(
        "INSERT OR REPLACE INTO samples VALUES (?, ?, ?, ?, ?, ?)",
        (run_id, event.step, event.prompt, record.attempt, record.time, event.text),
    )


def add_artifact(db: sqlite3.Connection, run_id: str, kind: str, path: str, size: int, time: float,
                 sha256: str | None = None) -> None:  # fmt: skip
    db.execute("INSERT OR REPLACE INTO artifacts (run_id, kind, path, bytes, time, sha256) VALUES (?, ?, ?, ?, ?, ?)",
               (run_id, kind, path, size, time, sha256))  # fmt: skip


def add_gpu_samples(db: sqlite3.Connection, run_id: str, time: float, samples: list[dict[str, Any]]) -> None:
    columns = ("gpu", "memory_used", "utilization", "power", "temperature", "throttle")
    db.executemany(
        f"INSERT OR IGNORE INTO gpu_samples (run_id, time, {', '.join(columns)}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [(run_id, time, *(sample.get(c) for c in columns)) for sample in samples],
    )


def _rows(db: sqlite3.Connection, table: str, run_id: str, order: str, limit: int = -1) -> list[Row]:
    query = f"SELECT * FROM {table} WHERE run_id = ? ORDER BY {order} LIMIT ?"
    return [dict(r) for r in db.execute(query, (run_id, limit))]


def events(db: sqlite3.Connection, run_id: str, limit: int = 1000) -> list[Row]:
    """The newest `limit` events in order of time, their data parsed."""
    rows = _rows(db, "events", run_id, "time DESC, seq DESC", limit)
    return [{**row, "data": json.loads(row["data"])} for row in reversed(rows)]


def last_event(db: sqlite3.Connection, run_id: str, types: tuple[str, ...]) -> Row | None:
    """The newest event of these types, its data parsed."""
    marks = ", ".join("?" * len(types))
    row = db.execute(
        f"SELECT * FROM events WHERE run_id = ? AND type IN ({marks}) ORDER BY attempt DESC, time DESC, seq DESC LIMIT 1",
        (run_id, *types),
    ).fetchone()
    return {**dict(row), "data": json.loads(row["data"])} if row else None


def checkpoints(db: sqlite3.Connection, run_id: str) -> list[Row]:
    return _rows(db, "checkpoints", run_id, "step")


def samples(db: sqlite3.Connection, run_id: str) -> list[Row]:
    return _rows(db, "samples", run_id, "step, prompt")


Moment = tuple[float, float | None, float | None, float | None, float | None]
"""Unix seconds, GiB of the fullest card, utilization in percent and power in W of a card on average, °C of the hottest."""


def gpu_moments(db: sqlite3.Connection, run_id: str, after: float = 0.0, most: int = 600) -> list[Moment]:
    """What NVML saw of the run's cards after a moment, in order of time; of more than `most` seconds one for each stretch."""
    first, last = db.execute(
        "SELECT min(time), max(time) FROM gpu_samples WHERE run_id = ? AND time > ?", (run_id, after)
    ).fetchone()
    if first is None:
        return []
    rows = db.execute(
        "SELECT min(time), max(memory_used), avg(utilization), avg(power), max(temperature) FROM gpu_samples"
        " WHERE run_id = ?1 AND time > ?2 GROUP BY CAST((time - ?3) / ?4 AS INTEGER) ORDER BY 1",
        (run_id, after, first, max(0.5, (last - first) / most)),
    )
    return [(row[0], row[1], row[2], row[3], row[4]) for row in rows]


def pauses(db: sqlite3.Connection, run_id: str) -> list[tuple[float, float]]:
    """(ended, went on) of the times, unix seconds, in which no attempt of the run was at work."""
    rows = db.execute(
        "SELECT time, type FROM events WHERE run_id = ? AND type IN ('exit', 'attempt') ORDER BY time, seq", (run_id,)
    ).fetchall()
    return [(a[0], b[0]) for a, b in itertools.pairwise(rows) if (a[1], b[1]) == ("exit", "attempt")]


def artifacts(db: sqlite3.Connection, run_id: str) -> list[Row]:
    return _rows(db, "artifacts", run_id, "time")
