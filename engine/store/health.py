"""What the health rules look at, in few queries: this is read again each time a running run reports."""

import sqlite3
from typing import Any

from engine.store.records import Row

WHOLE = ("loss", "grad_norm", "learning_rate", "eval_loss", "general_loss", "weight_change", "reward")
"""Curves of which every point counts."""
RECENT = ("tokens_per_second", "data_wait", "padding", "memory_allocated_gib", "memory_reserved_gib")
"""Curves of which the last NEWEST points say all that is asked."""
NEWEST = 200
GPU_SECONDS = 600


def curves(db: sqlite3.Connection, run_id: str) -> dict[str, list[tuple[int, float, float]]]:
    """(step, unix seconds, value) of each key that the rules know, in order of step, each step's latest attempt."""
    found = {}
    for keys, newest in ((WHOLE, -1), (RECENT, NEWEST)):
        marks = ", ".join("?" * len(keys))
        of_run = "SELECT key, id FROM series WHERE run_id = ? AND key IN"
        for key, series in db.execute(f"{of_run} ({marks})", (run_id, *keys)).fetchall():
            rows = db.execute(
                "SELECT step, time, value FROM points WHERE series = ? ORDER BY step DESC, attempt DESC LIMIT ?",
                (series, newest))  # fmt: skip
            latest: dict[int, tuple[int, float, float]] = {}
            for step, time, value in rows:
                if step not in latest:
                    latest[step] = (step, time, float(value))
            found[key] = list(reversed(latest.values()))
    return found


def gpu_samples(db: sqlite3.Connection, run_id: str) -> list[Row]:
    """The newest samples of each card, in order of time, with whatever columns there are."""
    cards = db.execute("SELECT DISTINCT gpu FROM gpu_samples WHERE run_id = ?", (run_id,)).fetchall()
    newest = "SELECT * FROM gpu_samples WHERE run_id = ? AND gpu = ? ORDER BY time DESC LIMIT ?"
    rows = [dict(row) for (gpu,) in cards for row in db.execute(newest, (run_id, gpu, GPU_SECONDS))]
    return sorted(rows, key=lambda row: float(row["time"]))


def most_used(db: sqlite3.Connection, run_id: str) -> float | None:
    """The most that any of the run's cards showed, GiB."""
    value = db.execute("SELECT max(memory_used) FROM gpu_samples WHERE run_id = ?", (run_id,)).fetchone()[0]
    return None if value is None else float(value)


ALIKE = ("training.micro_batch", "training.max_length", "training.packing", "training.checkpointing", "training.precision",
         "training.fused_head", "compute.processes", "method.rank", "objective")  # fmt: skip
"""Settings that change how many tokens a second are trained: only runs that agree in them are compared."""
NEAREST = 40


def speeds_of_like_runs(db: sqlite3.Connection, run: Row, most: int = 5) -> list[float]:
    """Tokens a second of the newest finished runs with this run's model, method, device, card and batch.

    Only the NEAREST runs of the model and method are looked at: what makes runs alike lies in large columns.
    """
    marks = ", ".join("?" * len(ALIKE))
    rows = db.execute(
        f"""SELECT other.id FROM runs AS other JOIN runs AS mine ON mine.id = ?
        WHERE other.id IN (SELECT id FROM runs WHERE status IN ('finished', 'stopped') AND deleted_at IS NULL AND model = ?
            AND method IS ? AND id != ?
            ORDER BY created_at DESC LIMIT ?)
        AND other.host IS mine.host
        AND json_extract(other.environment, '$.device') IS json_extract(mine.environment, '$.device')
        AND json_extract(other.plan, '$.gpu.name') IS json_extract(mine.plan, '$.gpu.name')
        AND NOT EXISTS (SELECT 1 FROM params AS a JOIN params AS b ON b.path = a.path AND b.run_id = other.id
            WHERE a.run_id = mine.id AND a.path IN ({marks}) AND a.value IS NOT b.value)
        ORDER BY other.created_at DESC, other.id DESC LIMIT ?""",
        (run["id"], run["model"], run["method"], run["id"], NEAREST, *ALIKE, most)).fetchall()  # fmt: skip
    speeds = [recent_speed(db, row[0]) for row in rows]
    return [one for one in speeds if one is not None]


def recent_speed(db: sqlite3.Connection, run_id: str) -> float | None:
    """The middle of the last NEWEST measured speeds of a run, tokens a second."""
    rows: list[Any] = db.execute(
        "SELECT value FROM points JOIN series ON series.id = series WHERE run_id = ? AND key = 'tokens_per_second'"
        " AND typeof(value) = 'real' ORDER BY step DESC LIMIT ?", (run_id, NEWEST)).fetchall()  # fmt: skip
    values = sorted(float(row[0]) for row in rows)
    return values[len(values) // 2] if values else None
