"""Runs put straight into a database, with no more than a test needs."""

import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.store.connection import open_database, transaction

NOW = 1_795_000_000.0


def database(path: Path) -> sqlite3.Connection:
    """An open database without runs, made anew only if it is not there: that costs more than to empty it."""
    db = open_database(path)
    with transaction(db):
        for table in ("runs", "params", "series", "points", "sketch", "latest", "progress", "events", "search_names"):
            db.execute(f"DELETE FROM {table}")
    return db


def add(
    db: sqlite3.Connection,
    run_id: str,
    params: Mapping[str, Any] | None = None,
    latest: Mapping[str, Any] | None = None,
    **columns: Any,
) -> None:
    """A finished run. `latest` is the last value of each metric, or all its values by the name of their column."""
    row = {
        "id": run_id, "name": f"name-{run_id}", "project": "tests", "status": "finished", "method": "lora", "model": "Tiny-1M",
        "dataset": "rows.jsonl", "created_at": NOW, "spec": "{}", "tags": [], "note": "",
    } | columns  # fmt: skip
    row["tags"] = json.dumps(row["tags"], ensure_ascii=False)
    db.execute(f"INSERT INTO runs ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", tuple(row.values()))
    for path, value in (params or {}).items():
        text = value if value is None or isinstance(value, str) else json.dumps(value)
        db.execute("INSERT INTO params VALUES (?, ?, ?)", (run_id, path, text))
    for key, value in (latest or {}).items():
        summary = {"step": 1, "last": value} if not isinstance(value, dict) else value
        db.execute("INSERT INTO series (run_id, key) VALUES (?, ?)", (run_id, key))
        names = ("run_id", "key", *summary)
        db.execute(f"INSERT INTO latest ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})",
                   (run_id, key, *summary.values()))  # fmt: skip
