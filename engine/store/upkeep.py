"""Whether a database is in order, how large it is and what can be given back."""

import contextlib
import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from engine.store import copies
from engine.store.connection import transaction
from engine.store.migrations import MIGRATIONS, VERSION
from engine.store.runs import ACTIVE

SAMPLED = 200
"""Curves whose summaries are compared with their points, unless all are."""
MOST = 10
"""Faults that are told."""


@dataclass(frozen=True)
class Facts:
    """A database in numbers. Sizes in bytes; `free` is what a vacuum gives back."""

    version: int
    journal: str
    size: int
    free: int
    runs: int
    points: int


def facts(db: sqlite3.Connection) -> Facts:
    """Raises sqlite3.DatabaseError."""
    version, journal, each, free = (
        db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("user_version", "journal_mode", "page_size", "freelist_count")
    )  # fmt: skip
    count, points = (db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("runs", "points"))
    return Facts(version, journal, copies.size(db), free * each, count, points)


def faults(db: sqlite3.Connection, full: bool) -> list[str]:
    """What SQLite finds wrong with the file; `full` looks at every index too."""
    found = db.execute(f"PRAGMA {'integrity_check' if full else 'quick_check'}({MOST})").fetchall()
    return [row[0] for row in found if row[0] != "ok"]


def missing(db: sqlite3.Connection) -> list[str]:
    """Tables, views, indexes and triggers of the schema that are not there, as `view metrics`; columns as `runs.note`."""
    with contextlib.closing(sqlite3.connect(":memory:")) as fresh:
        for _, function in MIGRATIONS[:VERSION]:
            function(fresh)
        wanted, there = _objects(fresh), _objects(db)
        gone = [f"{kind} {name}" for kind, name in sorted(wanted - there)]
        for kind, name in sorted(wanted & there):
            if kind == "table":
                gone += [f"{name}.{column}" for column in sorted(_columns(fresh, name) - _columns(db, name))]
    return gone


def _objects(db: sqlite3.Connection) -> set[tuple[str, str]]:
    named = db.execute("SELECT type, name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'").fetchall()
    return {(row[0], row[1]) for row in named}


def _columns(db: sqlite3.Connection, table: str) -> set[str]:
    return {row[1] for row in db.execute(f"PRAGMA table_info({table})")}


def fault_of_search(db: sqlite3.Connection) -> str:
    """What is wrong with the index of words, or nothing. Takes the write lock for that."""
    try:
        with transaction(db):
            db.execute("INSERT INTO search (search, rank) VALUES ('integrity-check', 1)")
    except sqlite3.DatabaseError as error:
        if "malformed" in str(error):
            return "it does not agree with the texts"
        raise
    return ""


def orphans(db: sqlite3.Connection) -> list[str]:
    """Runs that name a run as theirs parent that is not there."""
    rows = db.execute("SELECT id FROM runs WHERE parent_id IS NOT NULL AND parent_id NOT IN (SELECT id FROM runs)")
    return [row[0] for row in rows]


def _of_runs(db: sqlite3.Connection) -> list[str]:
    """Tables whose rows belong to runs."""
    tables = [
        row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    ]
    return [table for table in tables if "run_id" in _columns(db, table)]


def strays(db: sqlite3.Connection) -> dict[str, int]:
    """Rows by table that belong to no run."""
    found = {
        table: db.execute(f"SELECT count(*) FROM {table} WHERE run_id NOT IN (SELECT id FROM runs)").fetchone()[0]
        for table in _of_runs(db)
    }
    return {table: count for table, count in found.items() if count}


def drop_strays(db: sqlite3.Connection) -> None:
    """Delete what belongs to no run."""
    with transaction(db):
        gone = "SELECT id FROM series WHERE run_id NOT IN (SELECT id FROM runs)"
        for table in ("points", "sketch"):
            db.execute(f"DELETE FROM {table} WHERE series IN ({gone})")
        for table in _of_runs(db):
            db.execute(f"DELETE FROM {table} WHERE run_id NOT IN (SELECT id FROM runs)")


def ids(db: sqlite3.Connection) -> dict[str, bool]:
    """All runs, and whether they were imported: those have no directory."""
    return {row[0]: row[1] is not None for row in db.execute("SELECT id, source FROM runs")}


def wrong_summaries(db: sqlite3.Connection, whole: bool) -> tuple[int, list[tuple[str, str]]]:
    """How many curves were looked at, and (run, key) of those whose summary does not agree with their points."""
    some = "" if whole else f" WHERE id IN (SELECT id FROM series ORDER BY random() LIMIT {SAMPLED})"
    series = db.execute(f"SELECT id, run_id, key FROM series{some}").fetchall()
    return len(series), [(run, key) for number, run, key in series if not _agrees(db, number, run, key)]


def _agrees(db: sqlite3.Connection, series: int, run: str, key: str) -> bool:
    told = db.execute("SELECT step, last, min, max FROM latest WHERE run_id = ? AND key = ?", (run, key)).fetchone()
    last = db.execute(
        "SELECT step, value FROM points WHERE series = ? ORDER BY step DESC, attempt DESC LIMIT 1", (series,)
    ).fetchone()
    if last is None or told is None:
        return last is None
    low, high = db.execute("SELECT min(value), max(value) FROM metrics WHERE run_id = ? AND key = ?"
                           " AND typeof(value) != 'text'", (run, key)).fetchone()  # fmt: skip
    if (told[0], told[1]) != (last[0], last[1]):
        return False
    # a value that was reported again for the same step counted when it came
    return low is None or (told[2] is not None and told[3] is not None and told[2] <= low and told[3] >= high)


def table_sizes(db: sqlite3.Connection) -> dict[str, int] | None:
    """Bytes by table, its indexes among them, the largest first; None where this SQLite cannot tell."""
    owners = {row[0]: row[1] for row in db.execute("SELECT name, tbl_name FROM sqlite_master")}
    found: dict[str, int] = {}
    try:
        for name, size in db.execute("SELECT name, pgsize FROM dbstat WHERE aggregate = TRUE").fetchall():
            owner = owners.get(name, name)
            owner = "search" if owner.startswith("search_") else owner
            found[owner] = found.get(owner, 0) + size
    except sqlite3.OperationalError:
        return None
    return dict(sorted(found.items(), key=lambda one: -one[1]))


def bytes_a_point(sizes: dict[str, int] | None, points: int) -> float | None:
    """What a point of a curve takes, its part of the sketch and of the summaries among it."""
    if not sizes or not points:
        return None
    return sum(sizes.get(table, 0) for table in ("points", "series", "sketch", "latest")) / points


def vacuum(db: sqlite3.Connection, path: Path) -> bool:
    """Write the database anew without its gaps; whether all of it was given back at once. Raises SpaceError.

    What others read at this moment is given back when they let go.
    """
    copies.check_room(
        2 * copies.size(db), path
    )  # the new one, and the log through which it comes into the old one's place
    os.environ["SQLITE_TMPDIR"] = str(path.parent)  # where the room was looked for, not /var/tmp
    db.execute("VACUUM")
    return not db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]


_OLD_SAMPLES = f"time < ? AND run_id NOT IN (SELECT id FROM runs WHERE status IN {ACTIVE})"


def old_gpu_samples(db: sqlite3.Connection, before: float) -> tuple[int, int]:
    """How many samples of cards from before then (unix seconds) there are of runs that have ended; and how many in all."""
    old = db.execute(f"SELECT count(*) FROM gpu_samples WHERE {_OLD_SAMPLES}", (before,)).fetchone()[0]
    return old, db.execute("SELECT count(*) FROM gpu_samples").fetchone()[0]


def drop_gpu_samples(db: sqlite3.Connection, before: float) -> None:
    """Delete them; the run directories still have them."""
    with transaction(db):
        db.execute(f"DELETE FROM gpu_samples WHERE {_OLD_SAMPLES}", (before,))


def binned(db: sqlite3.Connection, before: float) -> list[str]:
    """Runs that were put into the bin before then."""
    return [row[0] for row in db.execute("SELECT id FROM runs WHERE deleted_at < ?", (before,))]
