"""Event files into the database, once: the offset that was read is stored in the same transaction as what was read."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine import events as ev
from engine.events import Record, decode
from engine.files import complete_lines
from engine.store import metrics, records, runs, searching
from engine.store.connection import transaction

NUMBERS = (ev.Metric, ev.Progress, ev.Memory, ev.GpuSamples)
"""Events with tables of their own; the run's history stays readable without them."""

FILES = {"worker": "events.jsonl", "supervisor": "supervisor.jsonl"}


def ingest(db: sqlite3.Connection, run_id: str, run_dir: Path) -> int:
    """Read what is new in the run's two files, in order of time; how many lines that was. Again, it changes nothing."""
    count = 0
    while _anything_new(db, run_id, run_dir):
        with transaction(db):
            lines = 0
            found: list[tuple[str, Record]] = []
            for source, name in FILES.items():
                new, end = complete_lines(run_dir / name, records.offset(db, run_id, source))
                found += [(source, record) for record in _decoded(new)]
                records.set_offset(db, run_id, source, end)
                lines += len(new)
            _apply_all(db, run_id, sorted(found, key=lambda pair: pair[1].time))
            if any(isinstance(record.event, ev.Exit) for _, record in found):
                searching.keep_log(db, run_id, run_dir)
        if not lines:
            break  # half a line: the rest of it is on its way
        count += lines
    return count


def _anything_new(db: sqlite3.Connection, run_id: str, run_dir: Path) -> bool:
    """Looked at first, so that a quiet run takes no write lock."""
    for source, name in FILES.items():
        with contextlib.suppress(FileNotFoundError):
            if (run_dir / name).stat().st_size > records.offset(db, run_id, source):
                return True
    return False


def _decoded(lines: list[bytes]) -> Iterator[Record]:
    for line in lines:
        with contextlib.suppress(ValueError):  # a line whose writer was killed in the middle of it
            yield decode(line)


def _apply_all(db: sqlite3.Connection, run_id: str, found: list[tuple[str, Record]]) -> None:
    points: dict[str, list[metrics.Point]] = {}
    for source, record in found:
        for key, value in _values(record.event).items():
            points.setdefault(key, []).append((record.event.step, record.attempt, record.time, value))  # type: ignore[union-attr]
        _apply(db, run_id, source, record)
    for key, series in points.items():
        metrics.add(db, run_id, key, series)


def _values(event: ev.Event) -> dict[str, float]:
    """The metric points in an event."""
    if isinstance(event, ev.Metric):
        return event.values
    if isinstance(event, ev.Memory):
        return {"memory_allocated_gib": event.allocated_gib, "memory_reserved_gib": event.reserved_gib}
    return {}


def _apply(db: sqlite3.Connection, run_id: str, source: str, record: Record) -> None:
    event, time, attempt = record.event, record.time, record.attempt
    match event:
        case ev.Metric():
            evaluation = {k: v for k, v in event.values.items() if k.startswith("eval_")}
            if evaluation:
                records.add_evaluation(db, run_id, record, event.step, evaluation)
        case ev.Progress():
            fields = {"step": event.step, "total": event.total, "epoch": event.epoch}
            records.set_progress(db, run_id, attempt, time, **fields)
        case ev.Memory():
            runs.set_device(db, run_id, event.device, event.total_gib)
            if event.components:
                runs.set_components(db, run_id, event.components)
        case ev.GpuSamples():
            records.add_gpu_samples(db, run_id, time, event.samples)
        case ev.Phase():
            records.set_progress(db, run_id, attempt, time, phase=event.name)
        case ev.Sample():
            records.add_sample(db, run_id, record, event)
        case ev.Checkpoint():
            records.add_checkpoint(db, run_id, record, event)
        case ev.Finished():
            records.add_artifact(db, run_id, "model", event.model, event.bytes, time)
    if not isinstance(event, NUMBERS):
        _change_run(db, run_id, event, time)
        level, text = describe(event)
        records.add_event(db, run_id, source, record, level, text)


def _change_run(db: sqlite3.Connection, run_id: str, event: ev.Event, time: float) -> None:
    """What an event means for the run's own row. Only `exit` ends a run: until then a retry may follow."""
    fields: dict[str, Any] = {}
    match event:
        case ev.Attempt():
            fields = {"status": "starting", "pid": event.pid, "ended_at": None, "exit_code": None, "exit_reason": None}
        case ev.Started():
            fields = {"status": "running", "host": event.host}
            runs.add_environment(db, run_id, {"versions": event.versions, "gpus": event.gpus})
            db.execute("UPDATE runs SET started_at = coalesce(started_at, ?) WHERE id = ?", (time, run_id))
        case ev.Base():
            runs.add_environment(db, run_id, {"base": {"path": event.path, "sha256": event.sha256}})
        case ev.Waiting():
            fields = {"status": "queued", "ended_at": None, "exit_code": None, "exit_reason": None}
        case ev.Stopping():
            fields = {"status": "stopping"}
        case ev.Exit():
            code = -event.signal if event.signal else event.code
            fields = {"status": event.status, "ended_at": time, "exit_code": code, "exit_reason": event.text}
    if fields:
        runs.set_fields(db, run_id, **fields)


def describe(event: ev.Event) -> tuple[str, str]:
    """(level, sentence) of an event, as it stands in the run's history."""
    match event:
        case ev.Started():
            return "note", f"started: pid {event.pid}, torch {event.versions.get('torch', '–')}"
        case ev.Phase():
            return "note", f"{event.name}: {event.text}" if event.text else event.name
        case ev.Sample():
            return "note", f"step {event.step}: {event.text}"
        case ev.Checkpoint():
            score = f", eval_loss {event.eval_loss:.3f}" if event.eval_loss is not None else ""
            return "note", f"checkpoint {event.step} saved, {event.bytes / 2**20:,.0f} MiB{score}"
        case ev.DataReady():
            known = ", as prepared before" if event.cached else ""
            held = f", {event.validation:,} held out" if event.validation else ""
            return "note", (f"data: {event.train:,} rows{held}, {event.tokens:,} tokens, "
                            f"{event.trained_tokens:,} of them trained{known}")  # fmt: skip
        case ev.Base():
            return "note", f"base model {Path(event.path).name}, hash {event.sha256[:12]}"
        case ev.Notice():
            return event.level, event.text
        case ev.Failed():
            return "error", event.message
        case ev.Finished():
            return "note", f"model saved, {event.bytes / 2**20:,.0f} MiB"
        case ev.Done():
            return "note", event.text or "done"
        case ev.Stopped():
            return "note", f"stopped at step {event.step}" + (
                "" if event.checkpoint else ", nothing to resume from yet"
            )
        case ev.Attempt():
            more = f", from {Path(event.resume_from).name}" if event.resume_from else ""
            changed = f", {', '.join(f'{k}={v}' for k, v in event.overrides.items())}" if event.overrides else ""
            return "note", f"worker started: pid {event.pid}{more}{changed}"
        case ev.Waiting():
            return "note", event.text
        case ev.Stopping():
            return "note", "asked to stop" + (" at once" if event.now else ", saving first")
        case ev.Exit():
            return ("note" if event.status in ("finished", "stopped") else "error"), event.text
    return "note", event.type
