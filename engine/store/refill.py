"""What was saved of a database, written into a new one."""

import json
import sqlite3
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from engine.nested import flatten
from engine.store import metrics, runs
from engine.store.connection import transaction
from engine.store.mending import made_up, mended
from engine.store.migrations import VERSION, migrate
from engine.store.salvage import Source

Row = dict[str, Any]
OF_THE_USER = ("name", "tags", "note", "archived", "starred", "deleted_at", "sweep_id")
"""What no run directory knows."""
BATCH = 10_000


def create(path: Path, version: int = VERSION) -> sqlite3.Connection:
    """A new database in a file that is there, empty. Nobody else sees it, so nothing is kept for the case of a crash."""
    db = sqlite3.connect(path, isolation_level=None)
    for pragma in ("journal_mode = MEMORY", "synchronous = OFF", "locking_mode = EXCLUSIVE"):
        db.execute(f"PRAGMA {pragma}")
    migrate(db, version)
    db.row_factory = sqlite3.Row
    return db


def finish(db: sqlite3.Connection) -> None:
    """Bring it to the current schema."""
    if db.execute("PRAGMA user_version").fetchone()[0] < VERSION:
        migrate(db)


def sound(db: sqlite3.Connection) -> bool:
    return bool(db.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok")


def ids(db: sqlite3.Connection) -> set[str]:
    return {row[0] for row in db.execute("SELECT id FROM runs")}


def offsets(source: Source) -> dict[tuple[str, str], int]:
    """(run, source) to how many bytes of the file the database has."""
    return {(row["run_id"], row["source"]): row["offset"] for row in rows(source, "ingested")}


def rows(source: Source, table: str) -> Iterator[Row]:
    """Rows of a table by column."""
    if table in source.shapes:
        columns = source.shapes[table].columns
        for row in source.rows(table):
            yield dict(zip(columns, row, strict=True))


def saved_runs(source: Source) -> dict[str, Row]:
    """The runs by id, as far as they can be put together: a damaged row may hold anything."""
    if not source.problem:
        return {row["id"]: whole for row in rows(source, "runs") if (whole := mended(row))}
    params: dict[str, dict[str, Any]] = {}
    for row in rows(source, "params"):
        params.setdefault(row["run_id"], {})[row["path"]] = row["value"]
    texts = {row["run_id"]: row["text"] for row in rows(source, "search_texts") if row["part"] == "run"}
    found: dict[str, Row] = {}
    for row in rows(source, "runs"):
        if row["id"] not in found and (whole := mended(row, params.get(row["id"]), texts.get(row["id"]))):
            found[row["id"]] = whole
    for run_id in {row["run_id"] for row in rows(source, "series")} - found.keys():
        if whole := made_up(run_id, params.get(run_id, {}), texts.get(run_id)):
            found[run_id] = whole
    return found


def put_runs(db: sqlite3.Connection, found: Collection[Row]) -> None:
    """Add runs that are not there yet; of those that are, change what is the user's."""
    there = set(_columns(db, "runs"))
    known = {row[0] for row in db.execute("SELECT id FROM runs")}
    with transaction(db):
        for row in found:
            if row["id"] in known:
                runs.set_fields(
                    db, row["id"], **{name: row[name] for name in OF_THE_USER if name in row and name in there}
                )
                continue
            own = {name: value for name, value in row.items() if name in there}
            _insert(db, "runs", tuple(own), [tuple(own.values())])
            params = [(row["id"], path, runs.param(value)) for path, value in flatten(json.loads(row["spec"])).items()]
            _insert(db, "params", ("run_id", "path", "value"), params)


def put_rest(db: sqlite3.Connection, source: Source, ids: Collection[str]) -> None:
    """Everything else: of these runs only, and what belongs to no run."""
    series = {row["id"] for row in rows(source, "series") if row["run_id"] in ids}
    for table, shape in source.shapes.items():
        there = _columns(db, table)
        if table in ("runs", "ingested", "search_texts") or not there:
            continue
        chosen = [i for i, name in enumerate(shape.columns) if name in there]
        names = tuple(shape.columns[i] for i in chosen)
        if "run_id" in shape.columns:
            wanted = _among(shape.columns.index("run_id"), ids)
        elif "series" in shape.columns:
            wanted = _among(shape.columns.index("series"), series)
        else:
            wanted = _any
        if not ids and wanted is not _any:
            continue
        found = (tuple(row[i] for i in chosen) for row in source.rows(table) if wanted(row))
        with transaction(db):
            for batch in _batches(found):
                _insert(db, table, names, batch)


def _is_number(value: Any) -> bool:
    """Whether a point can have this value: of a damaged database a text may be any."""
    return isinstance(value, int | float) or value in ("nan", "inf", "-inf")


def derive(db: sqlite3.Connection, of: Collection[str]) -> None:
    """Make what follows from the points of these runs anew: summaries and sketches."""
    for series, run_id, key in db.execute("SELECT id, run_id, key FROM series").fetchall():
        if run_id not in of:
            continue
        with transaction(db):
            points = db.execute(
                "SELECT step, attempt, time, value FROM points WHERE series = ? ORDER BY step, attempt", (series,)
            )
            found = [(step, attempt, time, float(value)) for step, attempt, time, value in points if _is_number(value)]
            for table in ("points", "sketch"):
                db.execute(f"DELETE FROM {table} WHERE series = ?", (series,))
            db.execute("UPDATE series SET stored = 0, stretch = NULL WHERE id = ?", (series,))
            if found:
                db.execute("DELETE FROM latest WHERE run_id = ? AND key = ?", (run_id, key))
                metrics.add(db, run_id, key, found)


def _among(place: int, these: Collection[Any]) -> Callable[[tuple[Any, ...]], bool]:
    return lambda row: row[place] in these


def _any(_: tuple[Any, ...]) -> bool:
    return True


def _batches(found: Iterator[tuple[Any, ...]]) -> Iterator[list[tuple[Any, ...]]]:
    batch: list[tuple[Any, ...]] = []
    for row in found:
        batch.append(row)
        if len(batch) == BATCH:
            yield batch
            batch = []
    yield batch


def _columns(db: sqlite3.Connection, table: str) -> list[str]:
    return [row[1] for row in db.execute(f"PRAGMA table_info({table})")]


def _insert(db: sqlite3.Connection, table: str, columns: tuple[str, ...], found: list[tuple[Any, ...]]) -> None:
    marks = ", ".join("?" * len(columns))
    db.executemany(f"INSERT OR IGNORE INTO {table} ({', '.join(columns)}) VALUES ({marks})", found)
