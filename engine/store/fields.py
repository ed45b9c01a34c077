"""What a filter, an order or a column may name of a run, as SQL over `runs`: columns, metrics, parameters.

A column is one of COLUMNS. A metric is its key, for its last value, or its key with `.best`, `.min`, `.max`, `.last`,
`.smooth` (the mean of the last points) or `.step`. A parameter is its path in the specification, or the last part of
the path where no other parameter ends so. ALIASES are short names for some of these.
"""

import difflib
import sqlite3
import time
from dataclasses import dataclass
from typing import Literal

from engine.errors import RunError
from engine.store.runs import ACTIVE

Kind = Literal["text", "texts", "number", "either", "seconds", "moment", "flag"]


@dataclass(frozen=True)
class Field:
    """`value` is SQL for what is known of a run, NULL if nothing is; `number` for the same if it is a finite number.

    Both take `arguments`. Of `texts` the value is a JSON list; times are unix seconds, lengths of time seconds.
    """

    name: str
    kind: Kind
    value: str
    arguments: tuple[str | float, ...] = ()
    number: str = "NULL"
    also: str = ""
    """SQL for another text under which the value goes: the id beside a name."""


_TEXTS = {
    "status": "status", "name": "name", "id": "id", "model": "model", "method": "method", "data": "dataset",
    "project": "project", "host": "host", "note": "note", "source": "source", "reason": "exit_reason",
}  # fmt: skip
_MOMENTS = {"created": "created_at", "started": "started_at", "ended": "ended_at"}
_NUMBERS = {
    "rows": "CASE WHEN json_valid(plan) THEN json_extract(plan, '$.data.rows') END",
    "step": "(SELECT progress.step FROM progress WHERE run_id = runs.id)",
    "steps": "(SELECT total FROM progress WHERE run_id = runs.id)",
}
_LASTED = f"coalesce(ended_at, CASE WHEN status IN {ACTIVE} THEN ? END) - started_at"
COLUMNS = (*_TEXTS, *_MOMENTS, *_NUMBERS, "time", "age", "tag", "starred", "archived", "parent", "sweep")
WHICH = {"last": "last", "best": "best", "min": "min", "max": "max", "smooth": "smoothed", "step": "step"}
METRICS = (
    "loss", "eval_loss", "learning_rate", "grad_norm", "num_tokens", "mean_token_accuracy", "tokens_per_second",
    "memory_allocated_gib", "memory_reserved_gib", "mfu",
)  # fmt: skip
"""Metrics that are known before a run has reported them."""
ALIASES = {
    "lr": "training.learning_rate", "rank": "method.rank", "best_eval": "eval_loss.best", "peak_gib": "memory_allocated_gib.max",
    "tok/s": "tokens_per_second", "dataset": "data", "tags": "tag",
}  # fmt: skip


def resolve(db: sqlite3.Connection, name: str, now: float | None = None) -> Field:
    """The field that a name means here. `now`: unix seconds, for how long something took. Raises RunError."""
    short = name.casefold()
    full = ALIASES.get(short, name)
    column = full if full in COLUMNS else short
    found = _column(column, time.time() if now is None else now) or _metric(db, full) or _parameter(db, full, short)
    if found is None:
        raise unknown(db, name)
    return found


def _column(name: str, now: float) -> Field | None:
    if name in _TEXTS:
        return Field(name, "text", _TEXTS[name])
    if name in _MOMENTS:
        return Field(name, "moment", _MOMENTS[name], number=_MOMENTS[name])
    if name in _NUMBERS:
        return Field(name, "number", _NUMBERS[name], number=_NUMBERS[name])
    match name:
        case "time":
            return Field(name, "seconds", _LASTED, (now,), _LASTED)
        case "age":
            return Field(name, "seconds", "? - created_at", (now,), "? - created_at")
        case "tag":
            return Field(name, "texts", "tags")
        case "starred" | "archived":
            return Field(name, "flag", name, number=name)
        case "parent":
            known = "(SELECT parent.name FROM runs AS parent WHERE parent.id = runs.parent_id)"
            return Field(name, "text", f"coalesce({known}, parent_id)", also="parent_id")
        case "sweep":
            known = "(SELECT sweeps.name FROM sweeps WHERE sweeps.id = sweep_id)"
            return Field(name, "text", f"coalesce({known}, sweep_id)", also="sweep_id")
    return None


def _metric(db: sqlite3.Connection, name: str) -> Field | None:
    before, _, last = name.rpartition(".")
    for key, which in ((name, "last"), (before, last)):
        if which in WHICH and (key in METRICS or _is_known(db, "metric", key)):
            value, of_run = WHICH[which], "FROM latest WHERE run_id = runs.id AND key = ?"
            number = f"(SELECT {value} {of_run} AND typeof({value}) != 'text')"
            return Field(name, "number", f"(SELECT {value} {of_run})", (key,), number)
    return None


_NUMERIC = "CASE WHEN json_valid(value) THEN CASE WHEN json_type(value) IN ('integer', 'real') THEN CAST(value AS REAL) END END"


def _parameter(db: sqlite3.Connection, name: str, short: str) -> Field | None:
    paths = [name] if short in ALIASES or _is_known(db, "param", name) else []
    paths = paths or [one for one in parameters(db) if one.endswith("." + name)]
    if len(paths) > 1:
        raise RunError(f"{name} may be several parameters", f"{' and '.join(paths[:6])} end so.", "Write one in full.")
    of_run = "FROM params WHERE run_id = runs.id AND path = ?"
    number = f"(SELECT {_NUMERIC} {of_run})"
    return Field(name, "either", f"(SELECT value {of_run})", (paths[0],), number) if paths else None


def _is_known(db: sqlite3.Connection, kind: str, name: str) -> bool:
    return db.execute("SELECT 1 FROM search_names WHERE kind = ? AND name = ?", (kind, name)).fetchone() is not None


def parameters(db: sqlite3.Connection) -> list[str]:
    """The paths of all parameters that runs here have."""
    return [row[0] for row in db.execute("SELECT name FROM search_names WHERE kind = 'param' ORDER BY name")]


def metric_keys(db: sqlite3.Connection) -> list[str]:
    """The keys of all metrics that runs here have."""
    return [row[0] for row in db.execute("SELECT name FROM search_names WHERE kind = 'metric' ORDER BY name")]


def names(db: sqlite3.Connection) -> list[str]:
    """Every field that runs here have: columns, short names, metrics, parameters."""
    return [*COLUMNS, *ALIASES, *metric_keys(db), *parameters(db)]


def unknown(db: sqlite3.Connection, name: str) -> RunError:
    """The error for a name that means nothing, with the nearest names that do."""
    known = names(db)
    near = difflib.get_close_matches(name, {*known, *(one.rpartition(".")[2] for one in known)}, 3, 0.6)
    hint = f"Did you mean {' or '.join(near)}?" if near else "What there is: tunedeck runs --fields"
    return RunError("There is no such field", f"No run here has '{name}'.", hint)
