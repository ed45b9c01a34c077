"""Jobs on trained runs and their rows (engine.after): insert, change, find, list."""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

from engine.errors import RunError

Row = dict[str, Any]
ACTIVE = ("queued", "running")
FIELDS = ("status", "started_at", "ended_at", "pid", "phase", "done", "total", "summary", "reason")


def insert(db: sqlite3.Connection, run_id: str, document: Row) -> None:
    """Record a job by its `job.json`, as queued, unless it is known."""
    db.execute(
        "INSERT OR IGNORE INTO jobs (run_id, job, kind, status, created_at, host, ask) VALUES (?, ?, ?, 'queued', ?, ?, ?)",
        (
            run_id,
            document["job"],
            document["kind"],
            document["created_at"],
            document["host"],
            json.dumps(document["ask"]),
        ),
    )


def change(db: sqlite3.Connection, run_id: str, job: str, **fields: Any) -> None:
    """Change columns of a job; `summary` is a dictionary."""
    if unknown := set(fields) - set(FIELDS):
        raise ValueError(f"no columns of jobs: {unknown}")
    values = [json.dumps(v) if isinstance(v, dict) else v for v in fields.values()]
    names = ", ".join(f"{name} = ?" for name in fields)
    db.execute(f"UPDATE jobs SET {names} WHERE run_id = ? AND job = ?", (*values, run_id, job))


def active(db: sqlite3.Connection) -> list[Row]:
    """Jobs that the database holds for alive."""
    return [_decoded(row) for row in db.execute(f"SELECT * FROM jobs WHERE status IN {ACTIVE}")]


def of_run(db: sqlite3.Connection, run_id: str, kind: str | None = None) -> list[Row]:
    """The jobs of a run, newest first."""
    query = "SELECT * FROM jobs WHERE run_id = ? AND (?2 IS NULL OR kind = ?2) ORDER BY created_at DESC, job DESC"
    return [_decoded(row) for row in db.execute(query.replace("run_id = ?", "run_id = ?1"), (run_id, kind))]


def find(db: sqlite3.Connection, run_id: str, job: str) -> Row:
    """A job by its name. Raises RunError with those that there are."""
    found = of_run(db, run_id)
    for row in found:
        if row["job"] == job:
            return row
    there = ", ".join(row["job"] for row in found) or "none yet"
    raise RunError("There is no such job", f"{run_id} has no {job}.", f"Its jobs: {there}.")


def latest(db: sqlite3.Connection, run_id: str, kind: str) -> Row | None:
    """The newest finished job of a kind."""
    return next((row for row in of_run(db, run_id, kind) if row["status"] == "finished"), None)


def newest(db: sqlite3.Connection, kind: str, most: int) -> list[Row]:
    """The finished jobs of a kind, of whatever run, the newest first."""
    query = "SELECT * FROM jobs WHERE kind = ? AND status = 'finished' ORDER BY ended_at DESC LIMIT ?"
    return [_decoded(row) for row in db.execute(query, (kind, most))]


def put_rows(db: sqlite3.Connection, run_id: str, job: str, rows: Iterable[Row]) -> None:
    """Results one by one: each has `row` (its number) and may have `badness` and `gain`; a row that came again counts."""
    db.executemany(
        "INSERT OR REPLACE INTO job_rows (run_id, job, row, badness, gain, data) VALUES (?, ?, ?, ?, ?, ?)",
        [(run_id, job, r["row"], r.get("badness"), r.get("gain"), json.dumps(r)) for r in rows],
    )


ORDERS = {"worst": "badness DESC, row", "lost": "gain NULLS LAST, row", "won": "gain DESC, row", "row": "row"}
"""How rows are ordered: the worst answers of the tuned model first, what it lost or won most against the base, as they come."""


def rows(
    db: sqlite3.Connection, run_id: str, job: str, order: str = "row", limit: int = -1, after: int = 0
) -> list[Row]:
    """The rows of a job, `limit` of them beginning with the one after `after`."""
    query = f"SELECT data FROM job_rows WHERE run_id = ? AND job = ? ORDER BY {ORDERS[order]} LIMIT ? OFFSET ?"
    return [dict(json.loads(row[0])) for row in db.execute(query, (run_id, job, limit, after))]


def those(db: sqlite3.Connection, run_id: str, job: str, numbers: Sequence[int]) -> list[Row]:
    """The rows of a job with these numbers, as far as there are such."""
    query = "SELECT data FROM job_rows WHERE run_id = ? AND job = ? AND row = ?"
    found = (db.execute(query, (run_id, job, number)).fetchone() for number in numbers)
    return [dict(json.loads(row[0])) for row in found if row]


def count(db: sqlite3.Connection, run_id: str, job: str) -> int:
    """How many rows a job has."""
    return int(db.execute("SELECT count(*) FROM job_rows WHERE run_id = ? AND job = ?", (run_id, job)).fetchone()[0])


def _decoded(row: Any) -> Row:
    found = dict(row)
    return found | {
        "ask": json.loads(found["ask"]),
        "summary": json.loads(found["summary"]) if found["summary"] else {},
    }
