"""A new database from the run directories and from what can be saved of the old one, which is kept beside."""

import contextlib
import json
import os
import socket
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from engine import paths
from engine.after import ingest as job_ingest
from engine.after import job
from engine.errors import SpaceError, StoreError, TuneDeckError
from engine.ingest import FILES, ingest
from engine.spec import parse
from engine.store import afterwards, changes, copies, refill, runs
from engine.store.connection import lock
from engine.store.mending import created
from engine.store.salvage import Source, source
from engine.sweeping import restore

SAID = {"runs": "runs", "series": "curves", "points": "points", "events": "events", "sweeps": "sweeps"}
"""Tables whose rows are counted for people."""


@dataclass(frozen=True)
class Prospect:
    """What a new database would have. `state` is missing, sound or damaged; `problem` what SQLite says of it.

    `from_files`: runs whose directories have everything; `from_old`: runs that only the old database has, whole or in part;
    `unknown`: directories that it does not know; `unreadable`: directories without a specification that can be read, and why;
    `rows`: (found, pages that cannot be read) by table; `lost`: runs' rows that make no sense any more.
    """

    state: str
    problem: str = ""
    from_files: tuple[str, ...] = ()
    from_old: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    unreadable: tuple[tuple[str, str], ...] = ()
    rows: dict[str, tuple[int, int]] = field(default_factory=dict)
    lost: int = 0


def examine(database: Path) -> Prospect:
    """What could be made of a database as it is. Raises TuneDeckError (nothing, another program's, a newer version's)."""
    with _opened(database) as old:
        return _prospect(database, old)


@contextlib.contextmanager
def _opened(database: Path) -> Iterator[Source | None]:
    old = source(database)
    try:
        yield old
    finally:
        if old:
            old.close()


def _prospect(database: Path, old: Source | None) -> Prospect:
    known, told = (refill.saved_runs(old), refill.offsets(old)) if old else ({}, {})
    whole, unknown, unreadable = [], [], []
    for run_dir in directories(database):
        if run_dir.name in known:
            if has_everything(run_dir, told):
                whole.append(run_dir.name)
        elif why := _unreadable(run_dir):
            unreadable.append((run_dir.name, why))
        else:
            unknown.append(run_dir.name)
    if not known and not unknown:
        raise StoreError("There is nothing to make a database of", f"{paths.runs_directory(database)} has no run that can be "
                         f"read, {database.name} none either.", "Name another with --db.")  # fmt: skip
    rows = {table: (old.count(table), old.broken.get(table, 0)) for table in SAID if table in old.shapes} if old else {}
    return Prospect(
        "missing" if old is None else "damaged" if old.problem else "sound", old.problem if old else "", tuple(whole),
        tuple(name for name in known if name not in set(whole)), tuple(unknown), tuple(unreadable), rows,
        rows.get("runs", (0, 0))[0] - len(known),
    )  # fmt: skip


def directories(database: Path) -> list[Path]:
    """The run directories beside a database, in order of their ids, but those that are being deleted for good."""
    root = paths.runs_directory(database)
    found = sorted(path.parent for path in root.glob("*/spec.yaml")) if root.is_dir() else []
    return [run_dir for run_dir in found if not (run_dir / changes.PURGE).exists()]


def has_everything(run_dir: Path, told: dict[tuple[str, str], int]) -> bool:
    """Whether the files of a run have all that the database was told of it."""
    sizes = [(source, run_dir / name) for source, name in FILES.items()]
    if not any(path.is_file() for _, path in sizes):
        return False
    return all(
        (path.stat().st_size if path.is_file() else 0) >= told.get((run_dir.name, source), 0) for source, path in sizes
    )


def _unreadable(run_dir: Path) -> str:
    """Why a run cannot be made of a directory, or nothing."""
    try:
        parse(yaml.safe_load((run_dir / "spec.yaml").read_text(encoding="utf-8")))
    except (TuneDeckError, OSError, ValueError, yaml.YAMLError) as error:
        return str(error).split("\n")[0][:200]
    return ""


def rebuild(database: Path) -> Path | None:
    """Make the database anew; where the old one lies now, None if there was none. Runs at work go on: their supervisors see
    that there is another database in the place of theirs and tell it the rest. Raises TuneDeckError."""
    size = sum(_size(database, suffix) for suffix in ("", "-wal"))
    copies.check_room(size, database, "The new database")
    try:
        fd, name = tempfile.mkstemp(prefix=f".{database.name}.", dir=database.parent)
        os.close(fd)
    except OSError as error:
        raise SpaceError("The database cannot be made", f"{database.parent}: {error.strerror}.", "") from None
    made = Path(name)
    try:
        with contextlib.closing(_begun(database, made)) as db, lock(database, exclusive=True):
            with _opened(database) as old:
                _fill(database, db, old)  # what has happened meanwhile; nobody opens the old one any more
            if not refill.sound(db):
                raise SpaceError("The database cannot be made", f"{made} is not sound.", "Is the disk in order?")
            db.close()
            return _swap(database, made)
    except (sqlite3.Error, OSError) as error:
        raise SpaceError("The database cannot be made", f"{made}: {error}.", "Free some space.") from None
    finally:
        for suffix in ("", *copies.BESIDE):
            Path(name + suffix).unlink(missing_ok=True)


def _begun(database: Path, made: Path) -> sqlite3.Connection:
    """A new database with all that there is now: what takes long, before anybody has to wait."""
    with _opened(database) as old:
        db = refill.create(made, old.version) if old else refill.create(made)
        try:
            _fill(database, db, old)
        except BaseException:
            db.close()
            raise
    return db


def _size(database: Path, suffix: str) -> int:
    path = database.with_name(database.name + suffix)
    return path.stat().st_size if path.is_file() else 0


def _fill(database: Path, db: sqlite3.Connection, old: Source | None) -> None:
    """Bring in what is not there yet; again, what has changed."""
    there = {path.name: path for path in directories(database)}
    known, told = (refill.saved_runs(old), refill.offsets(old)) if old else ({}, {})
    whole = {name for name, run_dir in there.items() if name not in known or has_everything(run_dir, told)}
    from_old = set(known) - whole - refill.ids(db)
    if old:
        refill.put_runs(db, [_completed(row) for row in known.values()])
        refill.put_rest(db, old, from_old)
    refill.finish(db)
    refill.derive(db, from_old)
    here = refill.ids(db)
    for name in sorted(whole):
        if name in here or _add(db, there[name]):
            ingest(db, name, there[name])
            _jobs(db, name, there[name])
    restore(db, database)


def _jobs(db: sqlite3.Connection, run_id: str, run_dir: Path) -> None:
    """What was done with the trained run."""
    for folder in sorted((run_dir / "jobs").glob("*")):
        with contextlib.suppress(OSError, ValueError, KeyError):  # one that is damaged must not keep the others out
            afterwards.insert(db, run_id, job.read(folder))
            job_ingest.ingest(db, run_id, folder)


def _completed(row: refill.Row) -> refill.Row:
    """With every section of its specification, where that was put together of parameters."""
    if not row.get("of_params"):
        return row
    with contextlib.suppress(TuneDeckError, ValueError):
        return row | {"spec": json.dumps(parse(json.loads(row["spec"])).model_dump(mode="json"))}
    return row


def _add(db: sqlite3.Connection, run_dir: Path) -> bool:
    """A run of which there is only the directory, if that can be read."""
    if _unreadable(run_dir):
        return False
    spec = parse(yaml.safe_load((run_dir / "spec.yaml").read_text(encoding="utf-8")))
    spec = spec.model_copy(update={"run": spec.run.model_copy(update={"name": spec.run.name or run_dir.name})})
    runs.insert(db, run_dir.name, spec, _json(run_dir / "plan.json"), socket.gethostname(), _created(run_dir))
    if environment := _json(run_dir / "environment.json"):
        runs.add_environment(db, run_dir.name, environment)
    return True


def _created(run_dir: Path) -> float:
    return created(run_dir.name) or (run_dir / "spec.yaml").stat().st_mtime


def _json(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _swap(database: Path, made: Path) -> Path | None:
    """The new one under the name of the old one, which goes aside with what SQLite has beside it. At no moment is there none.

    A log is moved even where its database is gone: SQLite would take it for the new one's. Whoever has the old one open
    goes on with it, and harms nothing: SQLite itself leaves the files alone that lie now where its own lay.
    """
    kept, there = copies.free_name(database, time.strftime("broken-%Y-%m-%d")), database.exists()
    if there:
        try:
            os.link(database, kept)
        except OSError:  # a file system without links: for a moment there is none
            database.rename(kept)
    for suffix in copies.BESIDE:
        with contextlib.suppress(FileNotFoundError):
            database.with_name(database.name + suffix).rename(kept.with_name(kept.name + suffix))
    copies.put(made, database, force=True)
    return kept if there else None
