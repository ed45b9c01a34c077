"""What past runs were planned to need, beside what they needed."""

import json
import math
import sqlite3
from statistics import median
from typing import Any

from engine.planner.calibrate import CPU, PastRun

NEWEST = 100
POINTS = 200


def history(db: sqlite3.Connection) -> list[PastRun]:
    """The newest runs that ended well and whose plan says what was predicted, newest first.

    A run that was restarted with other settings (after running out of memory) is not the run that was planned: left out.
    """
    rows = db.execute(
        "SELECT id, method, plan, json_extract(environment, '$.device') AS device FROM runs"
        " WHERE status IN ('finished', 'stopped') AND deleted_at IS NULL"
        " AND coalesce(json_extract(plan, '$.memory'), json_extract(plan, '$.speed')) IS NOT NULL"
        " AND NOT EXISTS (SELECT 1 FROM events WHERE run_id = runs.id AND type = 'attempt'"
        " AND json_extract(data, '$.overrides') != '{}')"
        " ORDER BY created_at DESC, id DESC LIMIT ?", (NEWEST,)).fetchall()  # fmt: skip
    return [_past(db, row["id"], row["method"], json.loads(row["plan"]), row["device"]) for row in rows]


def _past(db: sqlite3.Connection, run_id: str, method: str, plan: dict[str, Any], device: str | None) -> PastRun:
    """What was predicted before any correction is in `uncorrected`, where one was applied."""
    predicted = {**(plan.get("memory") or {}), **(plan.get("speed") or {}), **(plan.get("uncorrected") or {})}
    gpu = (plan.get("gpu") or {}).get("name") or CPU
    cuda = device == "cuda" and gpu != CPU
    ran_there = cuda or (device == "cpu" and gpu == CPU)  # else the plan was for another machine
    return PastRun(
        run_id=run_id,
        gpu=gpu,
        method=method,
        predicted_peak=_number(predicted.get("peak_gib")),
        peak=_most(db, run_id, "memory_allocated_gib") if cuda else None,
        reserved=_most(db, run_id, "memory_reserved_gib") if cuda else None,
        predicted_device=_number(predicted.get("device_gib")),
        device=_device(db, run_id) if cuda else None,
        predicted_speed=_number(predicted.get("tokens_per_second")),
        speed=_speed(db, run_id) if ran_there else None,
    )


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _most(db: sqlite3.Connection, run_id: str, key: str) -> float | None:
    row = db.execute("SELECT max FROM latest WHERE run_id = ? AND key = ?", (run_id, key)).fetchone()
    return _number(row[0]) if row else None


def _device(db: sqlite3.Connection, run_id: str) -> float | None:
    """The most that any of the run's cards showed, GiB."""
    return _number(db.execute("SELECT max(memory_used) FROM gpu_samples WHERE run_id = ?", (run_id,)).fetchone()[0])


def _speed(db: sqlite3.Connection, run_id: str) -> float | None:
    """Median over the last steps: the first ones warm up."""
    rows = db.execute(
        "SELECT value FROM metrics WHERE run_id = ? AND key = 'tokens_per_second' ORDER BY step DESC LIMIT ?",
        (run_id, POINTS))  # fmt: skip
    values = [value for row in rows if (value := _number(row[0])) is not None]
    return median(values) if values else None
