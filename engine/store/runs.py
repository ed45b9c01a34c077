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
         json.dumps(spec.run.tags, ensure_ascii=False), spec.run.note, spec.run.parent),
    )  # fmt: skip
    db.executemany("INSERT INTO params VALUES (?, ?, ?)", [(run_id, p, param(v)) for p, v in flatten(raw).items()])


def dataset_name(spec: "RunSpec") -> str:
    """The last part of the path; of several, joined."""
    paths = [spec.data.path] if isinstance(spec.data.path, str) else [one.path for one in spec.data.path]
    return " + ".join(path.rstrip("/").rsplit("/", 1)[-1] for path in paths)


def delete(db: sqlite3.Connection, run_id: str) -> None:
    """Forget a run that never started."""
    db.execute("DELETE FROM params WHERE run_id = ?", (run_id,))
    db.execute("DELETE FROM runs WHERE id = ?", (run_id,))


def param(value: Any) -> str | None:
    """A parameter's value as it is stored."""
    return value if value is None or isinstance(value, str) else json.dumps(value)


def decode(row: sqlite3.Row) -> Row:
    """A row as a dictionary, its JSON columns parsed."""
    run = dict(row)
    for column in _JSON:
        run[column] = json.loads(run[column]) if run.get(column) else None
    return run


def find(db: sqlite3.Connection, name: str, deleted: bool | None = False) -> Row:
    """The run with this id, unique prefix of an id, or name. Raises RunError.

    `deleted`: whether it is to be in the bin; None: either. One that is in the bin in spite of False is an error that says so.
    """
    row = db.execute("SELECT * FROM runs WHERE id = ?", (name,)).fetchone()
    rows = [row] if row else db.execute(
        "SELECT * FROM runs WHERE name = ? OR substr(id, 1, length(?)) = ? ORDER BY created_at DESC", (name, name, name)
    ).fetchall()  # fmt: skip
    fitting = [r for r in rows if deleted is None or (r["deleted_at"] is not None) == deleted]
    named = [r for r in fitting if r["name"] == name]
    found = named or fitting
    if len(found) == 1:
        return decode(found[0])
    shown = clean(name, keep_lines=False)
    if len(found) > 1:
        ids = ", ".join(r["id"] for r in found[:5])
        raise RunError(
            "That means several runs", f"'{shown}' matches {len(found)} runs: {ids}.", "Give more of the id."
        )
    if not rows:
        raise RunError("There is no such run", f"No id or name matches '{shown}'.", "List them: tunedeck runs")
    other = f"{clean(rows[0]['name'], keep_lines=False)} ({rows[0]['id']})"
    if deleted:
        raise RunError(
            "The run is not in the bin", f"{other} is among the others.", "What is there: tunedeck runs --deleted"
        )
    raise RunError("The run is in the bin", f"{other} was deleted.", f"Take it out: tunedeck undelete {rows[0]['id']}")


def listing(db: sqlite3.Connection, archived: bool = False) -> list[Row]:
    """All runs but those in the bin, newest first, with `latest` {key: {step, last, min, max, best}} and `progress`."""
    rows = [decode(r) for r in db.execute(
        "SELECT * FROM runs WHERE archived <= ? AND deleted_at IS NULL ORDER BY created_at DESC, id DESC", (int(archived),))]  # fmt: skip
    latest: dict[str, dict[str, Row]] = {}
    for r in db.execute("SELECT run_id, key, step, last, min, max, best FROM latest"):
        latest.setdefault(r[0], {})[r[1]] = {"step": r[2], "last": r[3], "min": r[4], "max": r[5], "best": r[6]}
    progress = {r["run_id"]: dict(r) for r in db.execute("SELECT * FROM progress")}
    for row in rows:
        row["latest"] = latest.get(row["id"], {})
        row["progress"] = progress.get(row["id"])
    return rows


def one(db: sqlite3.Connection, run_id: str) -> Row:
    """A single run as `listing` has it, also one in the bin. Raises RunError."""
    run = find(db, run_id, None)
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
"""id, and what can change in the row of a run that is not at work."""
RECORD = "name, status, ended_at, tags, note, starred, archived, deleted_at, sweep_id"


def heads(db: sqlite3.Connection) -> list[Head]:
    """The heads of all runs, also of those that are archived or in the bin. For often: 10,000 take about 25 ms."""
    cursor = db.cursor()
    cursor.row_factory = None
    return cursor.execute(f"SELECT id, {RECORD} FROM runs").fetchall()


def pulse(db: sqlite3.Connection) -> tuple[Any, ...]:
    """How many runs there are, and the ids of those that have not ended: what tells at once that `heads` are others."""
    found = db.execute(
        f"SELECT (SELECT count(*) FROM runs), (SELECT group_concat(id) FROM runs WHERE status IN {ACTIVE})"
    ).fetchone()
    return tuple(found)


def lines(db: sqlite3.Connection, values: Sequence[str], ids: Sequence[str] | None = None) -> list[Row]:
    """All runs, or those with these ids, newest first, in the few columns of a table. 10,000 take about 100 ms.

    `values`: keys of metrics, for their last value, or with `.step`, `.min`, `.max`, `.best`; so they are named in the rows.
    Archived runs and those in the bin are among them. `rank` and `lr` are of the specification, `tags` is JSON.
    """
    asked = [value.rpartition(".") if "." in value else (value, ".", "last") for value in values]
    columns = [
        "id",
        *RECORD.split(", "),
        "method",
        "model",
        "dataset",
        "created_at",
        "started_at",
        "source",
        "step",
        "total",
    ]
    sources = "".join(
        f", (SELECT {_SUMMARY[which]} FROM latest WHERE run_id = runs.id AND key = ?)" for _, _, which in asked
    )
    some, chosen = ("", ()) if ids is None else (" WHERE id IN (SELECT value FROM json_each(?))", (json.dumps(ids),))
    cursor = db.cursor()
    cursor.row_factory = None  # rows with names take twice the time
    cursor.execute(
        f"SELECT {', '.join(columns)}, (SELECT name FROM sweeps WHERE sweeps.id = sweep_id), rank.value, rate.value{sources}"
        " FROM runs LEFT JOIN progress ON progress.run_id = id"
        " LEFT JOIN params AS rank ON rank.run_id = id AND rank.path = 'method.rank'"
        " LEFT JOIN params AS rate ON rate.run_id = id AND rate.path = 'training.learning_rate'"
        f"{some} ORDER BY created_at DESC, id DESC",
        (*(key for key, _, _ in asked), *chosen),
    )
    names = [*columns, "sweep_name", "rank", "lr", *values]
    return [dict(zip(names, row, strict=True)) for row in cursor]


_SUMMARY = {which: which for which in ("step", "last", "min", "max", "best")}


def held_out(db: sqlite3.Connection, ids: Sequence[str]) -> dict[str, str]:
    """By run what its evaluation rows depend on, as a text: two runs with the same one are compared by their eval loss.

    Of imported runs that is not known: they are left out.
    """
    rows = db.execute(
        "SELECT run_id, group_concat(path || '=' || coalesce(value, ''), char(10)) FROM params WHERE run_id IN"
        " (SELECT runs.id FROM runs JOIN json_each(?) AS chosen ON chosen.value = runs.id WHERE source IS NULL) AND (path LIKE 'data.%' OR path IN ('objective', 'training.seed'))"
        " GROUP BY run_id", (json.dumps(ids),))  # fmt: skip
    return {row[0]: row[1] for row in rows}


def varied(db: sqlite3.Connection, ids: Sequence[str]) -> dict[str, dict[str | None, int]]:
    """The parameters in which these runs differ: by path the values and how many runs have them; None: it has none."""
    found: dict[str, dict[str | None, int]] = {}
    for path, value, count in db.execute(
        "SELECT path, value, count(*) FROM params WHERE run_id IN (SELECT value FROM json_each(?)) GROUP BY path, value",
        (json.dumps(ids),),
    ):
        found.setdefault(path, {})[value] = count
    for values in found.values():
        if missing := len(ids) - sum(values.values()):
            values[None] = values.get(None, 0) + missing
    return {path: values for path, values in found.items() if len(values) > 1}


def names_like(db: sqlite3.Connection, prefix: str) -> set[str]:
    """Names of runs that start so."""
    return {r[0] for r in db.execute("SELECT name FROM runs WHERE substr(name, 1, ?) = ?", (len(prefix), prefix))}
