"""Makes the database true: what happened while nobody watched is read from the run directories."""

import contextlib
import os
import socket
import sqlite3
from pathlib import Path

import psutil

from engine import outcome, paths, sweeping
from engine.after import runner
from engine.files import EventFile
from engine.ingest import ingest
from engine.launch import start_supervisor, try_lock
from engine.store import runs


def reconcile(db: sqlite3.Connection, database: Path) -> None:
    """Look after every run and every sweep that the database holds for alive and whose supervisor or controller is gone.

    If a run's worker lives it gets a new supervisor; if not, what it still said is ingested and the run is marked as it
    ended. Runs of other hosts are left alone: their processes cannot be seen from here.
    """
    for run in runs.active(db):
        run_dir = paths.run_directory(database, run["id"])
        if run["host"] == socket.gethostname():
            with contextlib.suppress(OSError):  # a run that cannot be read must not hide the others
                _look_after(db, database, run["id"], run_dir)
    sweeping.look_after(db, database)
    runner.look_after(db, database)


def _look_after(db: sqlite3.Connection, database: Path, run_id: str, run_dir: Path) -> None:
    if not run_dir.is_dir():
        runs.set_fields(db, run_id, status="crashed", exit_reason="its directory is gone")
        return
    lock = try_lock(run_dir)
    if lock is None:
        return  # a supervisor watches it
    try:
        history = outcome.read_history(run_dir)
        worker = None if history.ended else outcome.living_worker(run_dir, history)
        if worker:
            _note(run_dir, history, worker)
            start_supervisor(database, run_dir, lock, adopt=True)
        elif not history.ended:
            log = EventFile(run_dir / "supervisor.jsonl", max(1, history.attempt))
            log.append(outcome.verdict(history, run_dir, None, None, host_oom=False, killed=False))
            log.close()
        ingest(db, run_id, run_dir)
    finally:
        os.close(lock)


def _note(run_dir: Path, history: outcome.History, worker: psutil.Process) -> None:
    """Put a worker on record that its supervisor could not note before it was killed."""
    with contextlib.suppress(psutil.Error, ValueError):  # it may have ended just now
        attempt, event = outcome.attempt_of(worker, run_dir)
        if attempt > history.attempt:
            log = EventFile(run_dir / "supervisor.jsonl", attempt)
            log.append(event)
            log.close()
