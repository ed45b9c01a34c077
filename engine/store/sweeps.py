"""Sweeps: insert, find, list, change; and the runs that are their points."""

import json
import sqlite3
from typing import Any

from engine.errors import RunError
from engine.store.metrics import higher_is_better
from engine.text import clean

Row = dict[str, Any]
ACTIVE = ("running", "stopping")
JUDGED = ("eval_loss", "eval_reward", "reward", "loss")
"""What says which run of a sweep is the best: the first of these that any of them has."""


def insert(db: sqlite3.Connection, sweep_id: str, name: str, plan: Any, host: str, created_at: float) -> None:
    """Record a sweep as running, unless it is known."""
    db.execute(
        "INSERT OR IGNORE INTO sweeps (id, name, status, created_at, host, plan) VALUES (?, ?, 'running', ?, ?, ?)",
        (sweep_id, name, created_at, host, json.dumps(plan)),
    )


def delete(db: sqlite3.Connection, sweep_id: str) -> None:
    """Forget a sweep that never started."""
    db.execute("DELETE FROM sweeps WHERE id = ?", (sweep_id,))


def set_fields(db: sqlite3.Connection, sweep_id: str, **fields: Any) -> None:
    """Change columns of a sweep."""
    names = ", ".join(f"{name} = ?" for name in fields)
    db.execute(f"UPDATE sweeps SET {names} WHERE id = ?", (*fields.values(), sweep_id))


def claim(db: sqlite3.Connection, sweep_id: str, runs: list[str]) -> None:
    """Note that these runs are points of the sweep, where a database was made anew from the run directories."""
    db.execute(
        "UPDATE runs SET sweep_id = ? WHERE sweep_id IS NULL AND id IN (SELECT value FROM json_each(?))",
        (sweep_id, json.dumps(runs)),
    )


def active(db: sqlite3.Connection) -> list[sqlite3.Row]:
    """Sweeps that the database holds for alive: id, status, host."""
    return db.execute(f"SELECT id, status, host FROM sweeps WHERE status IN {ACTIVE}").fetchall()


def ids(db: sqlite3.Connection) -> set[str]:
    return {row[0] for row in db.execute("SELECT id FROM sweeps")}


def names_like(db: sqlite3.Connection, prefix: str) -> set[str]:
    """Names of sweeps that start so."""
    return {r[0] for r in db.execute("SELECT name FROM sweeps WHERE substr(name, 1, ?) = ?", (len(prefix), prefix))}


def listing(db: sqlite3.Connection) -> list[Row]:
    """All sweeps, newest first, their plans parsed."""
    return [_decoded(row) for row in db.execute("SELECT * FROM sweeps ORDER BY created_at DESC, id DESC")]


def _decoded(row: sqlite3.Row) -> Row:
    return {**dict(row), "plan": json.loads(row["plan"])}


def find(db: sqlite3.Connection, name: str) -> Row:
    """The sweep with this id, unique beginning of an id, or name. Raises RunError."""
    rows = db.execute(
        "SELECT * FROM sweeps WHERE name = ?1 OR substr(id, 1, length(?1)) = ?1 ORDER BY created_at DESC", (name,)
    ).fetchall()
    rows = [r for r in rows if r["id"] == name] or [r for r in rows if r["name"] == name] or rows
    if len(rows) == 1:
        return _decoded(rows[0])
    shown = clean(name, keep_lines=False)
    if not rows:
        raise RunError("There is no such sweep", f"No id or name matches '{shown}'.", "List them: tunedeck sweeps")
    found = ", ".join(r["id"] for r in rows[:5])
    raise RunError(
        "That means several sweeps", f"'{shown}' matches {len(rows)} of them: {found}.", "Give more of the id."
    )


def runs(db: sqlite3.Connection, sweep_id: str) -> list[Row]:
    """The runs of a sweep, oldest first: id, name, status, started_at, ended_at, exit_reason, deleted_at."""
    rows = db.execute(
        "SELECT id, name, status, created_at, started_at, ended_at, exit_reason, deleted_at FROM runs WHERE sweep_id = ?"
        " ORDER BY created_at, id",
        (sweep_id,),
    )
    return [dict(row) for row in rows]


def scores(db: sqlite3.Connection, sweep_id: str) -> tuple[str, dict[str, float]]:
    """The metric that its runs are judged by, and its best value by run id: ("", {}) while none has any."""
    found: dict[str, dict[str, float]] = {}
    for run_id, key, best, status in db.execute(
        "SELECT run_id, key, best, status FROM latest JOIN runs ON runs.id = run_id WHERE sweep_id = ? AND"
        f" key IN {JUDGED} AND best IS NOT NULL AND deleted_at IS NULL",
        (sweep_id,),
    ):
        if not isinstance(best, str) and (key != "loss" or status != "failed"):
            found.setdefault(key, {})[run_id] = float(best)
    key = next((one for one in JUDGED if one in found), "")
    return key, found.get(key, {})


def best(scored: tuple[str, dict[str, float]]) -> str | None:
    """The id of the run with the best score."""
    key, values = scored
    if not values:
        return None
    return (max if higher_is_better(key) else min)(values, key=lambda run_id: values[run_id])
