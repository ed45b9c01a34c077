"""Rows of runs as JSON texts, as `tunedeck runs --json` prints them: what is stored as JSON is not read and written anew."""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

from engine.events import finite

STORED = ("spec", "plan", "environment", "tags")
AT_ONCE = 500


def documents(db: sqlite3.Connection, ids: Sequence[str]) -> Iterator[str]:
    """Each of these runs as one JSON object on one line, in this order: the row, `latest` {key: {step, last, min, max,
    best}} and `progress`. 10,000 take about a second."""
    valid = ", ".join(f"json_valid({column}) AS {column}_valid" for column in STORED)
    for start in range(0, len(ids), AT_ONCE):
        some = (json.dumps(ids[start : start + AT_ONCE]),)
        of_some = "run_id IN (SELECT value FROM json_each(?))"
        latest: dict[str, dict[str, Any]] = {}
        for run_id, key, *summary in db.execute(
            f"SELECT run_id, key, step, last, min, max, best FROM latest WHERE {of_some}", some
        ):
            latest.setdefault(run_id, {})[key] = dict(zip(("step", "last", "min", "max", "best"), summary, strict=True))
        progress = {row["run_id"]: dict(row) for row in db.execute(f"SELECT * FROM progress WHERE {of_some}", some)}
        rows = {row["id"]: row for row in db.execute(
            f"SELECT *, {valid} FROM runs WHERE id IN (SELECT value FROM json_each(?))", some)}  # fmt: skip
        for run_id in ids[start : start + AT_ONCE]:
            if run_id in rows:  # else it was purged meanwhile
                yield _document(rows[run_id], latest.get(run_id, {}), progress.get(run_id))


def _document(row: sqlite3.Row, latest: dict[str, Any], progress: dict[str, Any] | None) -> str:
    parts = [f'"{column}": {_text(row, column)}' for column in row.keys() if not column.endswith("_valid")]  # noqa: SIM118
    more = {"latest": latest, "progress": progress}
    parts += [f'"{name}": {json.dumps(finite(value), ensure_ascii=False)}' for name, value in more.items()]
    return f"{{{', '.join(parts)}}}"


def _text(row: sqlite3.Row, column: str) -> str:
    value = row[column]
    if column not in STORED:
        return json.dumps(value, ensure_ascii=False)
    if not value:
        return "null"
    return str(value) if row[f"{column}_valid"] else json.dumps(finite(json.loads(value)))
