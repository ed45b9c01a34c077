"""Rows of the database as the frozen values that the screens draw."""

import itertools
import math
from pathlib import Path
from typing import Any

from engine.store import metrics, records, runs
from engine.store.connection import Connection
from tuiapp.snapshot import Checkpoint, EventLine, Points, RunDetail, RunLine, Sample

CURVES = (
    "loss",
    "eval_loss",
    "learning_rate",
    "grad_norm",
    "tokens_per_second",
    "mean_token_accuracy",
    "memory_allocated_gib",
)
TITLES = {
    "oom": "Out of memory", "data": "The data cannot be trained on", "config": "The settings cannot be used",
    "download": "The model could not be downloaded", "nonfinite": "The loss is no longer a number",
    "disk": "The disk is full", "other": "The run failed",
}  # fmt: skip


def number(value: Any) -> float | None:
    """A stored value: NaN and infinity, kept as texts, become NaN; what is missing is None."""
    if value is None:
        return None
    value = float(value)
    return value if math.isfinite(value) else math.nan


def run_line(row: runs.Row, spark: tuple[float, ...]) -> RunLine:
    """A row of `runs.lines` as a line of the table."""
    latest = row["latest"]

    def of(key: str, which: str = "last") -> float | None:
        return number(latest.get(key, {}).get(which))

    return RunLine(
        id=row["id"], name=row["name"], status=row["status"], method=row["method"] or "",
        rank=int(row["rank"]) if row["rank"] and row["method"] != "full" else None, model=row["model"] or "",
        dataset=row["dataset"] or "", created_at=row["created_at"], started_at=row["started_at"],
        ended_at=row["ended_at"], loss=of("loss"), best_eval=of("eval_loss", "best"),
        peak_gib=of("memory_allocated_gib", "max"), tokens_per_second=of("tokens_per_second"),
        learning_rate=of("learning_rate"), step=row["step"], total_steps=row["total"], spark=spark,
    )  # fmt: skip


def run_detail(db: Connection, line: RunLine, directory: Path, log: list[str]) -> RunDetail:
    """Everything about one run."""
    run = runs.one(db, line.id)
    curves = metrics.curves(db, line.id, CURVES)
    progress, environment = run["progress"] or {}, run["environment"] or {}
    memory = _memory(db, line, curves["memory_allocated_gib"], environment)
    title, message, hint = _error(db, run)
    return RunDetail(
        run=line,
        curves={key: tuple((float(s), v) for s, _, v in points) for key, points in curves.items() if points},
        phase=progress.get("phase") or "",
        epoch=progress.get("epoch"),
        epochs=_epochs(progress, run["spec"]),
        ends_at=_ends_at(line, [(s, t) for s, t, _ in curves["loss"]]),
        spec={path: value for path, value in runs.params(db, line.id) if value not in (None, "", "[]")},
        reasons={r["field"]: r["why"] for r in (run["plan"] or {}).get("reasons", [])},
        samples=tuple(Sample(s["step"], s["prompt"], s["text"]) for s in records.samples(db, line.id)),
        checkpoints=tuple(
            Checkpoint(c["step"], c["time"], c["bytes"] / 2**30, number(c["eval_loss"]), Path(c["path"]).is_dir())
            for c in records.checkpoints(db, line.id)
        ),
        events=tuple(
            EventLine(e["time"], e["type"], e["level"], e["text"])
            for e in records.events(db, line.id, 100)
            if e["type"] != "sample"
        ),
        log=tuple(log),
        error_title=title, error_message=message, error_hint=hint,
        tags=tuple(run["tags"] or ()), note=run["note"] or "", attempt=progress.get("attempt") or 1,
        supervisor_pid=_supervisor_pid(line, directory), directory=str(directory), **memory,
    )  # fmt: skip


def _supervisor_pid(line: RunLine, directory: Path) -> int | None:
    try:
        return int((directory / "supervisor.lock").read_text()) if line.status in runs.ACTIVE else None
    except (OSError, ValueError):
        return None


def _epochs(progress: dict[str, Any], spec: dict[str, Any]) -> float | None:
    """How many epochs the whole run is, from how far it got; the specification's number until it has begun."""
    if progress.get("epoch") and progress.get("step"):
        return float(progress["epoch"] * progress["total"] / progress["step"])
    return None if spec["training"]["max_steps"] else spec["training"]["epochs"]


def _ends_at(line: RunLine, steps: list[tuple[int, float]]) -> float | None:
    """When the last step will be done at the pace of this attempt's steps so far, evaluations included."""
    if line.status != "running" or not line.total_steps or len(steps) < 2:
        return None
    (last, then) = steps[-1]
    # the gap that a resume leaves between two points is no training time
    recent = steps[-20:]
    pace = sorted((b[1] - a[1]) / max(1, b[0] - a[0]) for a, b in itertools.pairwise(recent))
    typical = sum(pace) / len(pace) if max(pace) < 10 * pace[len(pace) // 2] else pace[len(pace) // 2]
    return then + typical * (line.total_steps - last)


def _memory(db: Connection, line: RunLine, curve: list[tuple[int, float, float]],
            environment: dict[str, Any]) -> dict[str, Any]:  # fmt: skip
    """What NVML saw of the run's card; without a card the peak resident size of the training process."""
    began = line.started_at or line.created_at
    samples = [(time - began, used) for time, used in records.gpu_memory(db, line.id)]
    on_gpu = environment.get("device") == "cuda" and samples
    points: Points = tuple(samples) if on_gpu else tuple((t - began, v) for _, t, v in curve)
    return {
        "memory_now": points[-1][1] if points else None,
        "memory_peak": max(v for _, v in points) if points else None,
        "memory_total": environment.get("memory_total_gib"),
        "memory_label": "GPU" if on_gpu else "RAM",
        "memory_curve": points,
    }


def _error(db: Connection, run: runs.Row) -> tuple[str, str, str]:
    """Title, message and hint of a run that ended badly; empty for others."""
    if run["status"] not in ("failed", "oom", "crashed"):
        return "", "", ""
    failed = records.last_event(db, run["id"], ("failed", "attempt")) if run["status"] != "crashed" else None
    if failed and failed["type"] == "failed":
        data = failed["data"]
        return TITLES.get(data["kind"], TITLES["other"]), data["message"], data["hint"]
    title = "The host ran out of memory" if run["status"] == "oom" else "The run crashed"
    return (
        title,
        run["exit_reason"] or "",
        "Nothing that it had reported is lost. r continues from the last checkpoint.",
    )
