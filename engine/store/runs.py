"""Runs: insert, find, list, change."""

import json
import sqlite3
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from engine.errors import RunError
from engine.events import finite
from engine.nested import flatten
from engine.text import clean

if TYPE_CHECKING:
    from engine.spec import RunSpec

Row = dict[str, Any]
ACTIVE = ("queued", "starting", "running", "stopping")
_JSON = ("spec", "plan", "environment", "tags")


def insert(db: sqlite3.Connection, run_id: str, spec: "RunSpec", plan: Any, host: str, created_at: float) -> None:
    """Record a new run as queued, with its parameters."""
    raw = spec.model_dump(mode="json")
    db.execute(
        "INSERT INTO runs (id, name, project, status, method, model, dataset, created_at, spec, plan, host, tags, note,"
        " parent_id) VALUES (?, ?, ?, 'queued', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (run_id, spec.run.name, spec.run.project, spec.method.kind, spec.model.path.rstrip("/").rsplit("/", 1)[-1].removesuffix(".gguf"),
         dataset_name(spec), created_at, json.dumps(raw), json.dumps(plan), host,
         json.dumps(spec.run.tags), spec.run.note, spec.run.parent),
    )  # fmt: skip
    db.executemany("INSERT INTO params VALUES (?, ?, ?)", [(run_id, p, _param(v)) for p, v in flatten(raw).items()])


def dataset_name(spec: "RunSpec") -> str:
    """The last part of the path; of several, joined."""
    paths = [spec.data.path] if isinstance(spec.data.path, str) else [one.path for one in spec.data.path]
    return " + ".join(path.rstrip("/").rsplit("/", 1)[-1] for path in paths)


def delete(db: sqlite3.Connection, run_id: str) -> None:
    """Forget a run that never started."""
    db.execute("DELETE FROM params WHERE run_id = ?", (run_id,))
    db.execute("DELETE FROM runs WHERE id = ?", (run_id,))


def _param(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value)


def decode(row: sqlite3.Row) -> Row:
    """A row as a dictionary, its JSON columns parsed."""
    run = dict(row)
    for column in _JSON:
        run[column] = json.loads(run[column]) if run.get(column) else None
    return run


def find(db: sqlite3.Connection, name: str) -> Row:
    """The run with this id, unique prefix of an id, or name. Raises RunError."""
    row = db.execute("SELECT * FROM runs WHERE id = ?", (name,)).fetchone()
    if row:
        return decode(row)
    rows = db.execute(
        "SELECT * FROM runs WHERE name = ? OR substr(id, 1, length(?)) = ? ORDER BY created_at DESC", (name, name, name)
    ).fetchall()
    named = [r for r in rows if r["name"] == name]
    rows = named or rows
    if len(rows) == 1:
        return decode(rows[0])
    shown = clean(name, keep_lines=False)
    if not rows:
        raise RunError("There is no such run", f"No id or name matches '{shown}'.", "List them: tunedeck runs")
    ids = ", ".join(r["id"] for r in rows[:5])
    raise RunError("That means several runs", f"'{shown}' matches {len(rows)} runs: {ids}.", "Give more of the id.")


def listing(db: sqlite3.Connection, archived: bool = False) -> list[Row]:
    """All runs, newest first, with `latest` {key: {step, last, min, max, best}} and `progress`."""
    rows = [decode(r) for r in db.execute(
        "SELECT * FROM runs WHERE archived <= ? ORDER BY created_at DESC, id DESC", (int(archived),))]  # fmt: skip
    latest: dict[str, dict[str, Row]] = {}
    for r in db.execute("SELECT run_id, key, step, last, min, max, best FROM latest"):
        latest.setdefault(r[0], {})[r[1]] = {"step": r[2], "last": r[3], "min": r[4], "max": r[5], "best": r[6]}
    progress = {r["run_id"]: dict(r) for r in db.execute("SELECT * FROM progress")}
    for row in rows:
        row["latest"] = latest.get(row["id"], {})
        row["progress"] = progress.get(row["id"])
    return rows


def one(db: sqlite3.Connection, run_id: str) -> Row:
    """A single run as `listing` has it. Raises RunError."""
    run = find(db, run_id)
    run["latest"] = {
        r["key"]: {k: r[k] for k in ("step", "last", "min", "max", "best")}
        for r in db.execute("SELECT * FROM latest WHERE run_id = ?", (run["id"],))
    }
    progress = db.execute("SELECT * FROM progress WHERE run_id = ?", (run["id"],)).fetchone()
    run["progress"] = dict(progress) if progress else None
    return run


def params(db: sqlite3.Connection, run_id: str) -> list[tuple[str, str | None]]:
    """The specification as a person reads it, flattened: path and value. How it would quantise is left out if it does not."""
    rows = db.execute(
        "SELECT path, value FROM params JOIN runs ON runs.id = run_id WHERE run_id = ?"
        " AND NOT (path LIKE 'method.quantization%' AND (value IS NULL OR method IN ('full', 'lora'))) ORDER BY path", (run_id,))  # fmt: skip
    return [(r[0], r[1]) for r in rows]


def active(db: sqlite3.Connection) -> list[sqlite3.Row]:
    """Runs that the database holds for alive: id, status, host."""
    return db.execute(f"SELECT id, status, host FROM runs WHERE status IN {ACTIVE}").fetchall()


def set_fields(db: sqlite3.Connection, run_id: str, **fields: Any) -> None:
    """Change columns of a run; lists and dictionaries are stored as JSON."""
    names = ", ".join(f"{name} = ?" for name in fields)
    values = [json.dumps(v) if isinstance(v, list | dict) else v for v in fields.values()]
    db.execute(f"UPDATE runs SET {names} WHERE id = ?", (*values, run_id))


def add_environment(db: sqlite3.Connection, run_id: str, found: Row) -> None:
    """Add to the run's environment, part by part: what was there before and is not in `found` stays."""
    db.execute(
        "UPDATE runs SET environment = json_patch(coalesce(environment, '{}'), ?) WHERE id = ?",
        (json.dumps(finite(found)), run_id),
    )


def set_device(db: sqlite3.Connection, run_id: str, device: str, total_gib: float) -> None:
    """Note in the run's environment which device trains and how much memory it has, GiB."""
    db.execute(
        "UPDATE runs SET environment = json_set(coalesce(environment, '{}'), '$.device', ?1, '$.memory_total_gib', ?2)"
        " WHERE id = ?3 AND json_extract(coalesce(environment, '{}'), '$.memory_total_gib') IS NOT ?2",
        (device, total_gib, run_id),
    )


def set_components(db: sqlite3.Connection, run_id: str, components: dict[str, float]) -> None:
    """Note in the run's environment what the tensors that stay were measured to take, GiB."""
    db.execute(
        "UPDATE runs SET environment = json_set(coalesce(environment, '{}'), '$.memory_components', json(?)) WHERE id = ?",
        (json.dumps(finite(components)), run_id),
    )


Head = tuple[Any, ...]
"""id, name, status, ended_at: what can change in the row of a run that is not at work."""


def heads(db: sqlite3.Connection) -> list[Head]:
    """The heads of all runs that are not archived. For often: 10,000 take about 15 ms."""
    cursor = db.cursor()
    cursor.row_factory = None
    return cursor.execute("SELECT id, name, status, ended_at FROM runs WHERE NOT archived").fetchall()


def pulse(db: sqlite3.Connection) -> tuple[Any, ...]:
    """How many runs there are, and the ids of those that have not ended: what tells at once that `heads` are others."""
    found = db.execute(
        f"SELECT (SELECT count(*) FROM runs), (SELECT group_concat(id) FROM runs WHERE status IN {ACTIVE})"
    ).fetchone()
    return tuple(found)


def lines(db: sqlite3.Connection, keys: tuple[str, ...], ids: Sequence[str] | None = None) -> list[Row]:
    """All runs, or those with these ids, newest first, in the few columns of a table, with `latest` of these metric keys only."""
    marks = ", ".join("?" * len(keys))
    some = "" if ids is None else " AND {} IN (SELECT value FROM json_each(?))"
    chosen = () if ids is None else (json.dumps(ids),)
    latest: dict[str, dict[str, Row]] = {}
    for r in db.execute(
        f"SELECT run_id, key, step, last, max, best FROM latest WHERE key IN ({marks}){some.format('run_id')}",
        (*keys, *chosen),
    ):
        latest.setdefault(r[0], {})[r[1]] = {"step": r[2], "last": r[3], "max": r[4], "best": r[5]}
    rows = db.execute(
        "SELECT id, name, status, method, model, dataset, created_at, started_at, ended_at, step, total,"
        " params.value AS rank FROM runs LEFT JOIN progress ON progress.run_id = id"
        " LEFT JOIN params ON params.run_id = id AND path = 'method.rank'"
        f" WHERE NOT archived{some.format('id')} ORDER BY created_at DESC, id DESC",
        chosen,
    )
    return [dict(r) | {"latest": latest.get(r["id"], {})} for r in rows]


def names_like(db: sqlite3.Connection, prefix: str) -> set[str]:
    """Names of runs that start so."""
    return {r[0] for r in db.execute("SELECT name FROM runs WHERE substr(name, 1, ?) = ?", (len(prefix), prefix))}
