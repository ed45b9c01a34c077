"""Starts, stops and continues sweeps, and tells how far they are (engine.sweep_plan plans them).

A sweep has a directory `sweeps/<id>/` beside `runs/`: `plan.json`, a line for each point in `points.jsonl` (its complete
specification and plan), `log.jsonl` (engine.sweep_log), `STOP`, and the lock of its controller (engine.sweeper).
"""

import json
import os
import shutil
import socket
import sqlite3
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from engine import paths
from engine.errors import RunError, SpaceError
from engine.files import write_private
from engine.launch import Draft, check_space, new_directory, start_detached, try_lock
from engine.spec import parse
from engine.store import sweeps
from engine.store.connection import open_database
from engine.sweep_log import Standing, append, read, standings
from engine.sweep_plan import Planned, memory, seconds

MODULE = "engine.sweeper"
STOP, PLAN, POINTS = "STOP", "plan.json", "points.jsonl"
HOW_TO_STOP = ("soon", "now", "finish")
"""Ask its runs to save and stop; kill them; let them finish. No further run is started in any case."""
AGAIN = ("failed", "crashed", "oom", "refused")
"""What `retry` tries again; `resume` goes on with what was stopped."""


def start(database: Path, planned: Planned) -> str:
    """Write the sweep's directory and row and start its controller; the sweep's id.

    Raises SpaceError if there is no room for all of it or no permission; then nothing stays behind.
    """
    check_space(database, sum((d.plan.get("disk_gib") or 0.0) for d in planned.drafts) * 2**30, "The runs need")
    db = open_database(database)
    now = time.time()
    sweep_id, directory = new_directory(paths.sweeps_directory(database), now, "s")  # no run's id
    lock = try_lock(directory)
    if lock is None:
        raise RunError("The sweep could not be started", f"{directory} is locked.", "Try again.")
    try:
        lines = [json.dumps({"spec": d.spec.model_dump(mode="json"), "plan": d.plan}) + "\n" for d in planned.drafts]
        write_private(directory / POINTS, "".join(lines))
        document = _document(planned, sweep_id, now)
        write_private(directory / PLAN, json.dumps(document, default=str))
        brief = {name: value for name, value in document.items() if name != "environment"}
        sweeps.insert(db, sweep_id, planned.name, brief, socket.gethostname(), now)
        try:
            start_detached(MODULE, database, directory, lock)
        except OSError:
            sweeps.delete(db, sweep_id)
            raise
    except (OSError, sqlite3.Error) as error:
        shutil.rmtree(directory, ignore_errors=True)
        raise SpaceError(
            "The sweep could not be written", f"{directory}: {error}.", "Free some space, or use --db."
        ) from None
    finally:
        os.close(lock)
        db.close()
    return sweep_id


def _document(planned: Planned, sweep_id: str, now: float) -> dict[str, Any]:
    """`plan.json`."""
    points = [{"name": draft.spec.run.name, "sets": dict(point), "seconds": seconds(draft.plan), "gib": memory(draft.plan)}
              for point, draft in zip(planned.points, planned.drafts, strict=True)]  # fmt: skip
    shared = {k: v for k, v in planned.drafts[0].environment.items() if k not in ("data_sha256", "seed")}
    return {"v": 1, "id": sweep_id, "name": planned.name, "created_at": now, "host": socket.gethostname(),
            "over": planned.over, "at_once": planned.at_once, "points": points, "environment": shared}  # fmt: skip


def draft(directory: Path, number: int, environment: Mapping[str, Any]) -> Draft:
    """What the run of a point begins with. Raises OSError, ValueError or SpecError where the file was damaged."""
    with (directory / POINTS).open(encoding="utf-8") as file:
        line = next((line for i, line in enumerate(file, 1) if i == number), "")
    point = json.loads(line)
    spec, about = parse(point["spec"]), (point["plan"].get("data") or {}).get("sha256", "")
    return Draft(spec, point["plan"], dict(environment) | {"data_sha256": about, "seed": spec.training.seed})


def standing(db: sqlite3.Connection, database: Path, row: Mapping[str, Any]) -> list[Standing]:
    """Where every point of a sweep stands, by its row."""
    found = {run["id"]: run for run in sweeps.runs(db, row["id"])}
    return standings(len(row["plan"]["points"]), read(paths.sweeps_directory(database) / row["id"]), found)


def look_after(db: sqlite3.Connection, database: Path) -> None:
    """Give a controller to every sweep of this host that is held for alive and whose controller is gone."""
    for row in sweeps.active(db):
        directory = paths.sweeps_directory(database) / row["id"]
        if row["host"] != socket.gethostname():
            continue
        if not (directory / PLAN).is_file():
            sweeps.set_fields(db, row["id"], status="failed", ended_at=time.time())
            continue
        try:
            _start_again(database, directory)
        except OSError:  # a sweep that cannot be read must not hide the others
            continue


def _start_again(database: Path, directory: Path, patience: float = 0.0) -> bool:
    """Whether the sweep had no controller and has one now."""
    lock = try_lock(directory, patience)
    if lock is None:
        return False
    try:
        start_detached(MODULE, database, directory, lock)
    finally:
        os.close(lock)
    return True


def stop(database: Path, row: Mapping[str, Any], how: str = "soon") -> None:
    """Start no more runs of a sweep; `how` says what becomes of those at work (HOW_TO_STOP). Raises RunError."""
    if row["status"] not in sweeps.ACTIVE:
        raise RunError("The sweep is not running", f"{row['name']} is {row['status']}.", "Nothing has to be stopped.")
    try:
        write_private(paths.sweeps_directory(database) / row["id"] / STOP, how)
    except OSError as error:
        raise RunError("The sweep cannot be stopped", f"{row['id']}: {error.strerror}.", "") from None


def go_on(db: sqlite3.Connection, database: Path, row: Mapping[str, Any], which: Sequence[str]) -> list[Standing]:
    """Let a sweep that has ended go on: with what was not begun, and again with points of these states or statuses.

    Returns those that it will come to. Raises RunError if it is running or there are none, SpaceError.
    """
    directory = paths.sweeps_directory(database) / row["id"]
    found = standing(db, database, row)
    again = [one for one in found if (one.status if one.state == "ended" else one.state) in which]
    wanted = [one for one in found if one in again or one.state == "waiting"]
    if not (directory / PLAN).is_file():
        raise RunError("The sweep's files are gone", f"{directory} has no {PLAN}.", "Start a new sweep.")
    if not again and (which == AGAIN or not wanted):
        raise RunError("There is nothing to do", f"No point of {row['name']} is {' or '.join(which)}.",
                       f"See: tunedeck sweeps show {row['id']}")  # fmt: skip
    running = row["status"] in sweeps.ACTIVE
    if running and (directory / STOP).exists():
        raise RunError(
            "The sweep is stopping", f"{row['name']} waits for its runs to end.", "Wait a moment, then try again."
        )
    try:
        ended = {run["id"]: run["ended_at"] for run in sweeps.runs(db, row["id"])}
        for one in again:
            append(directory, point=one.number, event="again", ended_at=ended.get(one.run))
        (directory / STOP).unlink(missing_ok=True)
        sweeps.set_fields(db, row["id"], status="running", ended_at=None)
        _start_again(database, directory, patience=0.0 if running else 5.0)
    except OSError as error:
        raise SpaceError("The sweep could not be continued", f"{directory}: {error}.", "Free some space.") from None
    return wanted


def restore(db: sqlite3.Connection, database: Path) -> int:
    """Rows for the sweeps whose directories are there, and the runs that are their points; how many were added.

    For a database that was made anew. None of them is started again: that may not be what somebody wants years later.
    """
    known, added = sweeps.ids(db), 0
    for file in sorted(paths.sweeps_directory(database).glob(f"*/{PLAN}")):
        try:
            document = json.loads(file.read_text(encoding="utf-8"))
            plan = {name: value for name, value in document.items() if name != "environment"}
            if file.parent.name not in known:
                host = str(document["host"])
                sweeps.insert(db, file.parent.name, str(document["name"]), plan, host, float(document["created_at"]))
                states = standings(len(plan["points"]), read(file.parent), {})
                status = "stopped" if any(one.state == "waiting" for one in states) else "finished"
                if not _has_controller(file.parent):
                    sweeps.set_fields(db, file.parent.name, status=status, ended_at=file.stat().st_mtime)
                added += 1
        except (OSError, ValueError, KeyError, TypeError):
            continue
        sweeps.claim(db, file.parent.name, [str(e["run"]) for e in read(file.parent) if e.get("event") == "begun"])
    return added


def _has_controller(directory: Path) -> bool:
    lock = try_lock(directory)
    if lock is not None:
        os.close(lock)
    return lock is None


def as_json(db: sqlite3.Connection, database: Path, row: Mapping[str, Any]) -> dict[str, Any]:
    """A sweep with its points, for `--json` and the app."""
    found, scored = standing(db, database, row), sweeps.scores(db, row["id"])
    known = {run["id"]: run for run in sweeps.runs(db, row["id"])}
    points = []
    for one, about in zip(found, row["plan"]["points"], strict=True):
        run = known.get(one.run, {})
        points.append({**asdict(one), **about, "name": run.get("name", about["name"]), "planned_name": about["name"],
                       "best": scored[1].get(one.run), "started_at": run.get("started_at"), "ended_at": run.get("ended_at"),
                       "exit_reason": run.get("exit_reason")})  # fmt: skip
    rest = {name: row[name] for name in ("id", "name", "status", "created_at", "ended_at", "host")}
    return {**rest, "over": row["plan"]["over"], "at_once": row["plan"]["at_once"], "metric": scored[0] or None,
            "best": sweeps.best(scored), "directory": str(paths.sweeps_directory(database) / row["id"]), "points": points}  # fmt: skip
