"""A run's streams out of the database, and what the health rules say of them."""

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from engine.health import Finding, GpuMoment, Point, Streams, diagnose
from engine.nested import flatten
from engine.store import health, records, runs

Curves = Mapping[str, Sequence[Point]]


def findings(db: sqlite3.Connection, run_id: str, curves: Curves | None = None) -> tuple[Finding, ...]:
    """What is wrong with a run, the worst first, then what is well and what could not be looked at. Raises RunError.

    `curves` are the run's by metric name, where somebody has them at hand already; else they are read.
    """
    return tuple(diagnose(streams(db, runs.one(db, run_id), curves)))


def streams(db: sqlite3.Connection, run: runs.Row, curves: Curves | None = None) -> Streams:
    """What the rules look at. `run` as from `runs.one`."""
    plan, environment = run["plan"] or {}, run["environment"] or {}
    progress, spec = run["progress"] or {}, flatten(run["spec"] or {})
    failed = records.last_event(db, run["id"], ("failed", "attempt"))
    cuda = environment.get("device") == "cuda"
    return Streams(
        curves=health.curves(db, run["id"]) if curves is None else curves,
        spec=spec,
        step=progress.get("step") or 0,
        total=progress.get("total"),
        epochs=_epochs(progress),
        ended=run["status"] not in runs.ACTIVE,
        failed=failed["data"].get("kind", "") if failed and failed["type"] == "failed" else "",
        parameters=(plan.get("model") or {}).get("parameters"),
        rows=_rows(db, run["id"], plan),
        cuda=cuda,
        memory_total=environment.get("memory_total_gib"),
        memory_used=health.most_used(db, run["id"]) if cuda else None,
        gpu=[_moment(row) for row in health.gpu_samples(db, run["id"])] if cuda else (),
        planned=(plan.get("memory") or {}).get("components") or {},
        usual_speeds=health.speeds_of_like_runs(db, run),
    )


def _epochs(progress: dict[str, Any]) -> float | None:
    """Of the whole run, from how far it got."""
    if progress.get("epoch") and progress.get("step") and progress.get("total"):
        return float(progress["epoch"] * progress["total"] / progress["step"])
    return None


def _rows(db: sqlite3.Connection, run_id: str, plan: dict[str, Any]) -> int | None:
    """Rows that are trained on, as the worker counted them; what the data check kept until it has."""
    counted = records.last_event(db, run_id, ("data",))
    kept = counted["data"].get("train") if counted else (plan.get("data") or {}).get("kept")
    return int(kept) if kept else None


def _moment(row: runs.Row) -> GpuMoment:
    return GpuMoment(
        row["time"], row["memory_used"], row["utilization"], row["temperature"], str(row.get("throttle") or "")
    )
