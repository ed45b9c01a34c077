"""Rows of the database as the frozen values that the screens draw."""

import functools
import itertools
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.diagnose import findings
from engine.errors import RunError
from engine.store import afterwards, records, runs
from engine.store.connection import Connection
from tuiapp.snapshot import Checkpoint, EventLine, Points, RunDetail, RunLine, Sample
from tuiapp.streams import MOMENTS, Row, Streams, clock, gpu_curves, thin

EVENTS = 100
PACE = 1000
"""Of the last points, those whose newer half says how fast it goes."""
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


def run_line(row: runs.Row, spark: tuple[float, ...], held: str = "") -> RunLine:
    """A row of `runs.lines` as a line of the table. `held`: see RunLine."""
    return RunLine(
        id=row["id"], name=row["name"], status=row["status"], method=row["method"] or "",
        rank=int(row["rank"]) if row["rank"] and row["method"] != "full" else None, model=row["model"] or "",
        dataset=row["dataset"] or "", created_at=row["created_at"], started_at=row["started_at"],
        ended_at=row["ended_at"], loss=number(row["loss"]), best_eval=number(row["eval_loss.best"]),
        peak_gib=number(row["memory_allocated_gib.max"]), tokens_per_second=number(row["tokens_per_second"]),
        learning_rate=_float(row["lr"]), step=row["step"], total_steps=row["total"], spark=spark,
        tags=_tags(row["tags"]), starred=bool(row["starred"]),
        archived=bool(row["archived"]), deleted_at=row["deleted_at"], sweep=row["sweep_id"] or "",
        sweep_name=row["sweep_name"] or "", note=row["note"], held=held, imported=row["source"] is not None,
    )  # fmt: skip


@functools.lru_cache
def _tags(text: str) -> tuple[str, ...]:
    return tuple(json.loads(text))


@functools.lru_cache
def _float(text: str | None) -> float | None:
    try:
        return float(text) if text is not None else None
    except ValueError:
        return None


def run_detail(db: Connection, line: RunLine, directory: Path, log: list[str], streams: Streams) -> RunDetail:
    """Everything about one run. `streams` is what was read of its curves before, and is brought up to date."""
    run = runs.one(db, line.id)
    progress = run["progress"] or {}
    streams.read(db, progress.get("attempt") or 1)
    pauses = records.pauses(db, line.id)
    worked = clock(line.started_at or line.created_at, pauses)
    base = run_curves(db, run, line, streams, pauses)
    title, message, hint, kind = _error(db, run)
    curves = {key: curve.rows for key, curve in streams.curves.items()}
    return replace(
        base,
        phase=progress.get("phase") or "",
        ends_at=_ends_at(line, _without_pauses(base.worked, streams.rows("loss"))),
        reasons={r["field"]: r["why"] for r in (run["plan"] or {}).get("reasons", [])},
        samples=tuple(Sample(s["step"], s["prompt"], s["text"]) for s in records.samples(db, line.id)),
        checkpoints=tuple(
            Checkpoint(c["step"], c["time"], c["bytes"] / 2**30, number(c["eval_loss"]), Path(c["path"]).is_dir())
            for c in records.checkpoints(db, line.id)
        ),
        events=_events(db, line.id, streams.rows("eval_loss")),
        log=tuple(log),
        health=streams.health(line.status, lambda: findings(db, line.id, curves)),
        error_title=title, error_message=message, error_hint=hint, error_kind=kind, exit_code=run["exit_code"],
        parent=_name_of(db, run["parent_id"]), held_out=_held_out(run), evaluated=_evaluated(db, line.id),
        tags=tuple(run["tags"] or ()), note=run["note"] or "", attempt=progress.get("attempt") or 1,
        supervisor_pid=_supervisor_pid(line, directory), directory=run["source"] or str(directory), **_memory(run, streams, worked, _cards(db, line.id)),
    )  # fmt: skip


def _events(db: Connection, run_id: str, evaluations: Sequence[Row]) -> tuple[EventLine, ...]:
    """The newest things that happened, evaluations among them; what comes round with every one of them is left out."""
    found = [
        EventLine(e["time"], e["type"], e["level"], e["text"])
        for e in records.events(db, run_id, 3 * EVENTS)
        if e["type"] != "sample" and not (e["type"] == "phase" and e["text"] in ("train", "evaluate", "save"))
    ]
    found += [
        EventLine(time, "evaluation", "note", f"evaluated at step {step:,}: eval loss {value:.4g}")
        for step, time, value in evaluations[-EVENTS:]
    ]
    return tuple(sorted(found, key=lambda event: event.time)[-EVENTS:])


def run_curves(
    db: Connection, run: runs.Row, line: RunLine, streams: Streams, pauses: list[tuple[float, float]]
) -> RunDetail:
    """A run's curves and specification: all that is asked of one that others are compared with."""
    began = line.started_at or line.created_at
    gpu = gpu_curves(streams.moments, clock(began, pauses))
    return RunDetail(
        run=line,
        curves={key: curve.points for key, curve in streams.curves.items() if curve.points},
        stored={key: curve.stored for key, curve in streams.curves.items() if curve.stored > len(curve.points)},
        worked=streams.worked(began, pauses),
        gpu={key: points for key, points in gpu.items() if key != "gpu_memory"},
        epoch=(run["progress"] or {}).get("epoch"),
        epochs=_epochs(run["progress"] or {}, run["spec"]),
        spec={path: value for path, value in runs.params(db, line.id) if value not in (None, "", "[]")},
    )


def baseline_detail(db: Connection, line: RunLine, streams: Streams) -> RunDetail:
    """A run as others are compared with it."""
    run = runs.one(db, line.id)
    streams.read(db, (run["progress"] or {}).get("attempt") or 1)
    return run_curves(db, run, line, streams, records.pauses(db, line.id))


def _name_of(db: Connection, run_id: str | None) -> str:
    if not run_id:
        return ""
    try:
        return str(runs.find(db, run_id)["name"])
    except RunError:
        return run_id


def _evaluated(db: Connection, run_id: str) -> tuple[str, str]:
    """Of the newest evaluation that has finished the word of the score that decides, and the sentence."""
    job = afterwards.latest(db, run_id, "eval")
    if job is None:
        return "", ""
    score = (job["summary"].get("scores") or {}).get(job["summary"].get("main"))
    return str((score or {}).get("verdict") or ""), str(job["summary"].get("verdict") or "")


def _held_out(run: runs.Row) -> bool:
    validation = ((run["spec"] or {}).get("data") or {}).get("validation")
    return bool(validation) or "eval_loss" in run["latest"]


def _supervisor_pid(line: RunLine, directory: Path) -> int | None:
    try:
        return int((directory / "supervisor.lock").read_text()) if line.status in runs.ACTIVE else None
    except (OSError, ValueError):
        return None


def _epochs(progress: dict[str, Any], spec: dict[str, Any]) -> float | None:
    """How many epochs the whole run is, from how far it got; the specification's number until it has begun."""
    if progress.get("epoch") and progress.get("step") and progress.get("total"):
        return float(progress["epoch"] * progress["total"] / progress["step"])
    training = spec.get("training") or {}  # of an imported run there is none
    return None if training.get("max_steps") else training.get("epochs")


def _without_pauses(worked: Points, losses: Sequence[Row]) -> list[tuple[float, float]]:
    """(step, unix seconds) of the points, as if the run had been at work all the time up to the last."""
    start = losses[-1][1] - worked[-1][1] if worked else 0.0
    return [(step, start + seconds) for step, seconds in worked[-PACE:]]


def _ends_at(line: RunLine, steps: Sequence[tuple[float, float]]) -> float | None:
    """When the last step will be done, at the pace of the newer half of the steps, evaluations included. Unix seconds.

    `steps` is (step, unix seconds). A gap that outweighs all else by far is a pause between attempts: left out.
    """
    if line.status != "running" or not line.total_steps or len(steps) < 2:
        return None
    recent = steps[min(len(steps) // 2, max(0, len(steps) - 20)) :]
    gaps = [b[1] - a[1] for a, b in itertools.pairwise(recent)]
    longest, took, done = max(gaps), sum(gaps), recent[-1][0] - recent[0][0]
    if len(gaps) > 1 and longest > 10 * (took - longest) > 0:
        took, done = took - longest, done - 1
    return steps[-1][1] + took / done * (line.total_steps - steps[-1][0]) if done > 0 else None


def _memory(run: runs.Row, streams: Streams, worked: Callable[[float], float], cards: str) -> dict[str, Any]:
    """What NVML saw of the run's `cards`; without a card the peak resident size of the training process."""
    environment, latest = run["environment"] or {}, run["latest"]
    points = gpu_curves(streams.moments, worked).get("gpu_memory", ())
    on_gpu = environment.get("device") == "cuda"
    seen = on_gpu and bool(points)
    if not seen:
        points = tuple((worked(time), value) for _, time, value in thin(streams.rows("memory_allocated_gib"), MOMENTS))
    measured = {
        "memory_now": points[-1][1] if points else None,
        "memory_peak": max((v for _, v in points if math.isfinite(v)), default=None),
        "memory_total": environment.get("memory_total_gib"),
        "memory_label": cards if on_gpu else "RAM",
        "memory_curve": points,
    }
    if not on_gpu:
        return measured
    planned = (run["plan"] or {}).get("memory") or {}
    return measured | {
        "allocated_peak": number(latest.get("memory_allocated_gib", {}).get("max")),
        "reserved_peak": number(latest.get("memory_reserved_gib", {}).get("max")),
        "predicted_peak": number(planned.get("peak_gib")),
        "predicted_device": number(planned.get("device_gib")),
    }


def _cards(db: Connection, run_id: str) -> str:
    """The cards of the last attempt: `GPU 0`, or of several the one whose memory is shown."""
    attempt = records.last_event(db, run_id, ("attempt",))
    gpus = attempt["data"].get("gpus") or [] if attempt else []
    if len(gpus) > 1:
        return f"fullest of {len(gpus)} GPUs"
    return f"GPU {gpus[0]}" if gpus else "GPU"


def _error(db: Connection, run: runs.Row) -> tuple[str, str, str, str]:
    """Title, message, hint and kind of a run that ended badly; empty for others."""
    if run["status"] not in ("failed", "oom", "crashed"):
        return "", "", "", ""
    failed = records.last_event(db, run["id"], ("failed", "attempt")) if run["status"] != "crashed" else None
    if failed and failed["type"] == "failed":
        data = failed["data"]
        return TITLES.get(data["kind"], TITLES["other"]), data["message"], data["hint"], data["kind"]
    if run["source"]:
        return (
            "The run failed",
            run["exit_reason"] or "",
            "It was not trained here: its record is all there is.",
            "other",
        )
    title = "The host ran out of memory" if run["status"] == "oom" else "The run crashed"
    return (
        title,
        run["exit_reason"] or "",
        "Nothing that it had reported is lost. r continues from the last checkpoint.",
        "oom" if run["status"] == "oom" else "",
    )
