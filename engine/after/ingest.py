"""What a job's files tell, into the database: its row, its results, and the run's history. Again, it changes nothing."""

import json
import sqlite3
from pathlib import Path
from typing import Any

from engine import events as ev
from engine.after import job as jobs
from engine.events import Record, decode
from engine.files import complete_lines
from engine.ingest import describe
from engine.store import afterwards, records
from engine.store.connection import transaction

QUIET = (ev.Progress, ev.Metric, ev.Memory)
"""Events that do not belong into the run's history."""


def ingest(db: sqlite3.Connection, run_id: str, folder: Path) -> None:
    """Read what is new in the files of a job."""
    name = folder.name
    while True:
        with transaction(db):
            found, lines = list[tuple[str, Record]](), 0
            for file in (jobs.EVENTS, jobs.RUNNER_EVENTS, jobs.ROWS):
                source = f"{name}/{file}"
                new, end = complete_lines(folder / file, records.offset(db, run_id, source))
                records.set_offset(db, run_id, source, end)
                lines += len(new)
                if file == jobs.ROWS:
                    afterwards.put_rows(db, run_id, name, _rows(new))
                else:
                    found += [(source, record) for record in map(_record, new) if record]
            for source, record in sorted(found, key=lambda pair: pair[1].time):
                _apply(db, run_id, name, source, record)
        if not lines:
            return


def _record(line: bytes) -> Record | None:
    try:
        return decode(line)
    except ValueError:  # its writer was killed in the middle of it
        return None


def _rows(lines: list[bytes]) -> list[dict[str, Any]]:
    found = []
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("row"), int):
            found.append(row)
    return found


def _apply(db: sqlite3.Connection, run_id: str, job: str, source: str, record: Record) -> None:
    event, fields = record.event, dict[str, Any]()
    match event:
        case ev.Attempt():
            fields = {
                "status": "running",
                "pid": event.pid,
                "started_at": record.time,
                "ended_at": None,
                "reason": None,
            }
        case ev.Waiting():
            fields = {"status": "queued", "phase": event.text, "ended_at": None, "reason": None}
        case ev.Phase():
            fields = {"phase": event.text or event.name}
        case ev.Progress():
            fields = {"done": event.step, "total": event.total}
        case ev.Done():
            fields = {"summary": event.summary}
            for made in event.summary.get("artifacts", []):
                records.add_artifact(
                    db, run_id, made["kind"], made["path"], made["bytes"], record.time, made.get("sha256")
                )
        case ev.Exit():
            fields = {"status": event.status, "ended_at": record.time, "reason": event.text}
    if fields:
        afterwards.change(db, run_id, job, **fields)
    if not isinstance(event, QUIET):
        level, text = describe(event)
        records.add_event(db, run_id, source, record, level, f"{job}: {text}")
