"""`python -m bench.store.shapes`: the physical shapes that `metrics` could have, on the same points.

Runs of eight keys in steps, written in batches as ingestion writes them, then one tick at a time as a run at work does;
read as one whole curve and as ten long ones thinned for a chart. Only a shape of rows can be the view `metrics` for
`sqlite3` and Datasette: SQL alone does not unpack blobs.
"""

import json
import sqlite3
import statistics
import tempfile
import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.store.peer import BEGAN, KEYS, value
from bench.table import publish
from engine.store import metrics
from engine.store.connection import open_database, transaction

LONG, STEPS, BATCH, TICKS = 10, 20_000, 5_000, 300
THIN = 2_000
Curves = dict[str, float]
Db = sqlite3.Connection


@dataclass(frozen=True)
class Shape:
    """How points are kept: `add` the values of steps from `first` on of a run, read a curve `whole` and `thin`."""

    name: str
    schema: str
    add: Callable[[Db, int, int, dict[str, list[float]]], None]
    whole: Callable[[Db, int, str], list[Any]]
    thin: Callable[[Db, int, str], list[Any]]
    sql: str = "yes"
    """Whether the view `metrics` can be made of it."""


def series(run: int, key: str) -> int:
    return run * len(KEYS) + KEYS.index(key)


def add_rows(db: Db, run: int, first: int, values: dict[str, list[float]]) -> None:
    for key, found in values.items():
        rows = [(series(run, key), first + i, 1, BEGAN + first + i, number) for i, number in enumerate(found)]
        db.executemany("INSERT INTO points (series, step, attempt, time, value) VALUES (?, ?, ?, ?, ?)", rows)


def rows_whole(db: Db, run: int, key: str) -> list[Any]:
    return db.execute(
        "SELECT step, time, value FROM points WHERE series = ? ORDER BY step", (series(run, key),)
    ).fetchall()


def rows_thin(db: Db, run: int, key: str) -> list[Any]:
    one = "SELECT step, time, {}(value) FROM points WHERE series = ?1 GROUP BY step / ?2"
    return db.execute(
        f"{one.format('min')} UNION {one.format('max')} ORDER BY step", (series(run, key), 2 * STEPS // THIN)
    ).fetchall()


def add_json(db: Db, run: int, first: int, values: dict[str, list[float]]) -> None:
    rows = [(run, first + i, BEGAN + first + i, json.dumps(dict(zip(values, step, strict=True))))
            for i, step in enumerate(zip(*values.values(), strict=True))]  # fmt: skip
    db.executemany("INSERT INTO points VALUES (?, ?, ?, ?)", rows)


def json_whole(db: Db, run: int, key: str) -> list[Any]:
    return db.execute("SELECT step, time, values_ ->> ? FROM points WHERE run = ? ORDER BY step", (key, run)).fetchall()


def blob_shape(size: int) -> Shape:
    def add(db: Db, run: int, first: int, values: dict[str, list[float]]) -> None:
        for key, found in values.items():
            one = series(run, key)
            start = first // size * size
            old = db.execute("SELECT data FROM points WHERE series = ? AND first = ?", (one, start)).fetchone()
            rows = array("d", old[0] if old else b"")
            for i, number in enumerate(found):
                if len(rows) == 3 * size:
                    db.execute("INSERT OR REPLACE INTO points VALUES (?, ?, ?)", (one, start, rows.tobytes()))
                    rows, start = array("d"), start + size
                rows.extend((first + i, BEGAN + first + i, number))
            db.execute("INSERT OR REPLACE INTO points VALUES (?, ?, ?)", (one, start, rows.tobytes()))

    def whole(db: Db, run: int, key: str) -> list[Any]:
        data = array("d")
        for row in db.execute("SELECT data FROM points WHERE series = ? ORDER BY first", (series(run, key),)):
            data.frombytes(row[0])
        return list(zip(data[::3], data[1::3], data[2::3], strict=True))

    def thin(db: Db, run: int, key: str) -> list[Any]:
        rows, part = whole(db, run, key), 2 * STEPS // THIN
        parts = [rows[i : i + part] for i in range(0, len(rows), part)]
        return [f(one, key=lambda row: row[2]) for one in parts for f in (min, max)]

    schema = "CREATE TABLE points (series INTEGER, first INTEGER, data BLOB, PRIMARY KEY (series, first)) WITHOUT ROWID"
    return Shape(f"blobs of {size} points", schema, add, whole, thin, "no")


def add_ours(db: Db, run: int, first: int, values: dict[str, list[float]]) -> None:
    for key, found in values.items():
        metrics.add(db, str(run), key, [(first + i, 1, BEGAN + first + i, number) for i, number in enumerate(found)])


COLUMNS = "series INTEGER, step INTEGER, attempt INTEGER, time REAL, value"
SHAPES = (
    Shape("rows with an id, and an index", f"CREATE TABLE points (id INTEGER PRIMARY KEY, {COLUMNS}, UNIQUE (series, step, attempt))",
          add_rows, rows_whole, rows_thin),
    Shape("rows without rowid", f"CREATE TABLE points ({COLUMNS}, PRIMARY KEY (series, step, attempt)) WITHOUT ROWID",
          add_rows, rows_whole, rows_thin),
    Shape("ours: these, sketches and summaries", "", add_ours, lambda db, run, key: metrics.curves(db, str(run), [key])[key],
          lambda db, run, key: metrics.thinned(db, str(run), key, THIN)[0]),
    Shape("a JSON row a step", "CREATE TABLE points (run INTEGER, step INTEGER, time REAL, values_ TEXT, PRIMARY KEY (run, step)) WITHOUT ROWID",
          add_json, json_whole, json_whole),
    blob_shape(256),
    blob_shape(1000),
)  # fmt: skip


def opened(shape: Shape, path: Path) -> Db:
    if not shape.schema:
        return open_database(path)
    db = sqlite3.connect(path, isolation_level=None)
    db.executescript(f"PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; {shape.schema};")
    return db


def best_of(call: Callable[[], Any], rounds: int = 5) -> float:
    """Median milliseconds, the first call apart."""
    took = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        call()
        took.append(1000 * (time.perf_counter() - began))
    return statistics.median(took[1:])


def measure(shape: Shape, directory: Path) -> list[str]:
    path = directory / "x.db"
    db = opened(shape, path)
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before, took = path.stat().st_size, 0.0
    for run in range(LONG):
        for first in range(0, STEPS, BATCH):
            values = {key: [value(str(run), key, first + i) for i in range(BATCH)] for key in KEYS}
            began = time.perf_counter()
            with transaction(db):
                shape.add(db, run, first, values)
            took += time.perf_counter() - began
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    points = LONG * STEPS * len(KEYS)
    size = (path.stat().st_size - before) / points
    whole = best_of(lambda: shape.whole(db, LONG // 2, "loss"))
    thin = best_of(lambda: [shape.thin(db, run, "loss") for run in range(LONG)])
    ticks = []
    for step in range(STEPS, STEPS + TICKS):
        values = {key: [value("0", key, step)] for key in KEYS}
        began = time.perf_counter()
        with transaction(db):
            shape.add(db, 0, step, values)
        ticks.append(1e6 * (time.perf_counter() - began))
    db.close()
    return [
        shape.name,
        f"{points / took:,.0f}",
        f"{size:.1f}",
        f"{statistics.median(ticks):,.0f}",
        f"{whole:.1f}",
        f"{thin:.1f}",
        shape.sql,
    ]


def main() -> None:
    rows = []
    for shape in SHAPES:
        with tempfile.TemporaryDirectory() as directory:
            rows.append(measure(shape, Path(directory)))
    publish("store-shapes", f"Shapes of `metrics`: {LONG} runs of {STEPS:,} steps, {len(KEYS)} keys each", [
        "shape", "points a second", "bytes a point", "a tick of 8 points, us", "a whole curve, ms", "ten curves for a chart, ms", "as a view"],
        rows, ["Medians. `ours` also keeps latest, min, max, best and the smoothed value of every curve true; the others keep points alone."])  # fmt: skip


if __name__ == "__main__":
    main()
