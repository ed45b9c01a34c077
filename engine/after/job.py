"""A job on a trained run: made, started, stopped, continued.

Its directory is `runs/<id>/jobs/<job>/`, `<job>` being its kind and a number (`eval-1`): `job.json` (what was asked, never
changed), `events.jsonl` (of the process that does it), `runner.jsonl` (of `engine.after.runner`, which watches it),
`rows.jsonl` (results one by one, appended: what a continued job need not do again), `output.log`, `STOP`. No process but the
runner, or whoever opens the database next, writes the database; it can be made anew from the directories.
"""

import json
import os
import socket
import sqlite3
import time
from pathlib import Path
from typing import Any

from engine import paths
from engine.errors import RunError, SpaceError
from engine.events import Waiting
from engine.files import EventFile, write_private
from engine.launch import start_detached, try_lock
from engine.store import afterwards
from engine.store.connection import open_database, transaction

RUNNER = "engine.after.runner"
MODULES = {
    "eval": "engine.worker.evaluate",
    "judge": "engine.judging.work",
    "merge": "engine.worker.merge",
    "export": "engine.worker.export",
}
"""What does a job of each kind. A chat is a job too, done by whoever holds it: engine.chatting."""
ON_CARDS = ("eval",)
"""Kinds that wait for a card like a run, where the run's own devices are cards."""
JOB, EVENTS, RUNNER_EVENTS, ROWS, STOP = "job.json", "events.jsonl", "runner.jsonl", "rows.jsonl", "STOP"

Row = dict[str, Any]


def directory(database: Path, run_id: str, job: str) -> Path:
    """Where a job lies."""
    return paths.run_directory(database, run_id) / "jobs" / job


def create(database: Path, run_id: str, kind: str, ask: Row) -> str:
    """Make a job's directory and row; its name. `ask` is kept with the run for ever: no secret belongs there.

    Raises SpaceError.
    """
    try:
        job, folder = _new_directory(paths.run_directory(database, run_id) / "jobs", kind)
        document = {
            "v": 1,
            "job": job,
            "kind": kind,
            "created_at": time.time(),
            "host": socket.gethostname(),
            "ask": ask,
        }
        write_private(folder / JOB, json.dumps(document))
        db = open_database(database)
        try:
            with transaction(db):
                afterwards.insert(db, run_id, document)
        finally:
            db.close()
    except (OSError, sqlite3.Error) as error:
        raise SpaceError("The job cannot be written", f"{error}.", "Free some space.") from None
    return job


def _new_directory(parent: Path, kind: str) -> tuple[str, Path]:
    parent.mkdir(mode=0o700, exist_ok=True)
    number = 1 + max((int(p.name.rpartition("-")[2]) for p in parent.glob(f"{kind}-*") if p.name.rpartition("-")[2].isdigit()),
                     default=0)  # fmt: skip
    while True:
        folder = parent / f"{kind}-{number}"
        try:
            folder.mkdir(mode=0o700)
            return folder.name, folder
        except FileExistsError:
            number += 1


def read(folder: Path) -> Row:
    """`job.json`. Raises OSError, ValueError."""
    return dict(json.loads((folder / JOB).read_text(encoding="utf-8")))


def start(database: Path, run_id: str, job: str) -> None:
    """Start a job, or let one go on that stopped, failed or crashed, in a process that outlives us. Raises RunError, SpaceError."""
    folder = directory(database, run_id, job)
    if read(folder)["kind"] == "chat":
        raise RunError("A chat does not go on by itself", f"{job} ended with whoever held it.",
                       f"Begin another: tunedeck chat {run_id}")  # fmt: skip
    lock = try_lock(folder, patience=2.0)
    if lock is None:
        raise RunError("The job is at work", f"{job} has a process that does it.", "Wait for it, or stop it.")
    try:
        (folder / STOP).unlink(missing_ok=True)
        _queue(database, run_id, folder)
        start_detached(RUNNER, database, folder, lock)
    except (OSError, sqlite3.Error) as error:
        raise SpaceError("The job could not be started", f"{folder}: {error}.", "Free some space.") from None
    finally:
        os.close(lock)


def _queue(database: Path, run_id: str, folder: Path) -> None:
    """From here on it is not ended: first in its own file, then in the database."""
    log = EventFile(folder / RUNNER_EVENTS)
    log.append(Waiting("asked to start"))
    log.close()
    db = open_database(database)
    try:
        afterwards.change(db, run_id, folder.name, status="queued", reason=None)
    finally:
        db.close()


def stop(database: Path, row: Row) -> None:
    """Ask a job to stop; what it has done is kept, and `start` lets it go on. Raises RunError."""
    if row["status"] not in afterwards.ACTIVE:
        raise RunError("The job is not at work", f"{row['job']} is {row['status']}.", "Nothing has to be stopped.")
    if row["kind"] == "chat":
        raise RunError("A chat ends where it is held", f"Process {row['pid']} holds {row['job']}.", "Close it there.")
    (directory(database, row["run_id"], row["job"]) / STOP).touch(mode=0o600)
