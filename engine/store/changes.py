"""What a person changes of runs that there are: names, tags, notes, stars, the archive, the bin, and what is gone for good."""

import contextlib
import json
import os
import re
import shutil
import sqlite3
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine import paths
from engine.errors import RunError, SpaceError
from engine.store.connection import transaction
from engine.store.runs import ACTIVE, Row, decode, set_fields
from engine.text import clean

NAME_CHARACTERS, TAG_CHARACTERS, NOTE_CHARACTERS = 200, 60, 20_000
PURGE = "PURGE"
"""In a run's directory: its rows are about to go, or are gone, and the directory goes with them."""
TABLES = (
    "params", "progress", "latest", "gpu_samples", "events", "checkpoints", "evaluations", "samples", "artifacts",
    "ingested", "search_texts", "jobs", "job_rows",
)  # fmt: skip
"""Tables with a run_id, beside `series`, whose points go with it."""


def rename(db: sqlite3.Connection, run_id: str, name: str) -> str:
    """Give a run another name; the one it had. Raises RunError if there is none left of it, or another run has it."""
    name = " ".join(clean(name, keep_lines=False).split())
    if not name or len(name) > NAME_CHARACTERS:
        raise RunError(
            "That is no name", f"A name has 1 to {NAME_CHARACTERS} characters that can be seen.", "Write one."
        )
    with transaction(db):
        before = _run(db, run_id)["name"]
        other = db.execute(
            "SELECT id FROM runs WHERE name = ? AND id != ? AND deleted_at IS NULL", (name, run_id)
        ).fetchone()
        if other:
            raise RunError(
                "Another run has this name", f"'{name}' is {other[0]}.", "Choose another, or rename that one first."
            )
        set_fields(db, run_id, name=name)
    return str(before)


def set_tags(db: sqlite3.Connection, run_id: str, tags: Iterable[str]) -> list[str]:
    """Give a run exactly these tags; those it had. Raises RunError for one that is none."""
    new = list(dict.fromkeys(_tag(tag) for tag in tags))
    with transaction(db):
        before = _run(db, run_id)["tags"] or []
        set_fields(db, run_id, tags=_stored(new))
    return list(before)


def change_tags(db: sqlite3.Connection, run_id: str, more: Iterable[str], fewer: Iterable[str]) -> list[str]:
    """The tags that a run has with the first of these and without the second."""
    added, gone = [_tag(tag) for tag in more], {_tag(tag).casefold() for tag in fewer}
    with transaction(db):
        had = _run(db, run_id)["tags"] or []
        new: dict[str, str] = {}
        for tag in (*had, *added):
            new.setdefault(tag.casefold(), tag)
        kept = [tag for folded, tag in new.items() if folded not in gone]
        if kept != had:
            set_fields(db, run_id, tags=_stored(kept))
    return kept


def _stored(tags: list[str]) -> str:
    """As JSON in which every letter stands as it is: the full-text search reads it."""
    return json.dumps(tags, ensure_ascii=False)


def _tag(text: str) -> str:
    tag = " ".join(clean(text, keep_lines=False).split())
    if not tag or len(tag) > TAG_CHARACTERS:
        raise RunError("That is no tag", f"A tag has 1 to {TAG_CHARACTERS} characters that can be seen.", "Write one.")
    return tag


def set_note(db: sqlite3.Connection, run_id: str, note: str) -> str:
    """Give a run this note, none if it is empty; the one it had."""
    note = clean(note.replace("\r\n", "\n").replace("\r", "\n")).strip()
    if len(note) > NOTE_CHARACTERS:
        raise RunError(
            "The note is too long", f"It has {len(note):,} characters of {NOTE_CHARACTERS:,} at most.", "Shorten it."
        )
    with transaction(db):
        before = _run(db, run_id)["note"] or ""
        set_fields(db, run_id, note=note)
    return str(before)


def star(db: sqlite3.Connection, run_id: str, on: bool) -> None:
    """Mark a run as one to come back to, or no longer."""
    set_fields(db, run_id, starred=int(on))


def archive(db: sqlite3.Connection, run_id: str, on: bool) -> None:
    """Take a run out of the list, or put it back. Nothing of it is lost."""
    set_fields(db, run_id, archived=int(on))


def bin(db: sqlite3.Connection, ids: Sequence[str]) -> list[str]:  # noqa: A001
    """Put runs into the bin: all of them, or none. Those that were not there already. Raises RunError for one at work."""
    with transaction(db):
        rows = [_run(db, run_id) for run_id in dict.fromkeys(ids)]
        for row in rows:
            _at_rest(row)
        new = [str(row["id"]) for row in rows if row["deleted_at"] is None]
        for run_id in new:
            set_fields(db, run_id, deleted_at=time.time())
    return new


def unbin(db: sqlite3.Connection, ids: Sequence[str]) -> None:
    """Take runs out of the bin."""
    with transaction(db):
        for run_id in ids:
            set_fields(db, run_id, deleted_at=None)


def binned(db: sqlite3.Connection) -> list[str]:
    """The ids of the runs in the bin, the last first."""
    return [
        row[0]
        for row in db.execute("SELECT id FROM runs WHERE deleted_at IS NOT NULL ORDER BY deleted_at DESC, id DESC")
    ]


def disk(database: Path, run_id: str) -> int:
    """Bytes that the directory of a run takes on the disk; what two names lead to counts once, links to elsewhere not."""
    total, seen = 0, set[tuple[int, int]]()
    for folder, _, files in os.walk(paths.run_directory(database, run_id)):
        for path in (folder, *(os.path.join(folder, file) for file in files)):
            with contextlib.suppress(OSError):
                found = os.lstat(path)
                if (found.st_dev, found.st_ino) not in seen:
                    seen.add((found.st_dev, found.st_ino))
                    total += found.st_blocks * 512
    return total


@dataclass(frozen=True)
class Use:
    """A run that refers to another. `reads`: a setting of it lies in the other's directory; else it is a fork of it."""

    run_id: str
    name: str
    of: str
    reads: str = ""


def uses(db: sqlite3.Connection, ids: Sequence[str]) -> list[Use]:
    """Which other runs refer to these. Forks train on their own: only those that read files need them."""
    chosen = set(ids)
    forks = [Use(row["id"], row["name"], row["parent_id"])
             for row in db.execute("SELECT id, name, parent_id FROM runs WHERE parent_id IS NOT NULL")
             if row["parent_id"] in chosen and row["id"] not in chosen]  # fmt: skip
    within = re.compile(r"\bruns/([0-9a-z]+)(?=[/\"\s]|$)")
    rows = db.execute(
        "SELECT run_id, name, path, value FROM params JOIN runs ON runs.id = run_id WHERE instr(value, 'runs/')"
    )
    readers = [Use(row["run_id"], row["name"], of, row["path"]) for row in rows if row["run_id"] not in chosen
               for of in sorted(chosen.intersection(within.findall(row["value"])))]  # fmt: skip
    return [*forks, *readers]


def purge(db: sqlite3.Connection, database: Path, ids: Sequence[str], anyway: bool = False) -> int:
    """Delete runs for good, rows and directories; the bytes freed on the disk, beside what the database gets free.

    Each run goes whole or not at all: killed on the way, the next purge goes on where it was. Raises RunError for a run at
    work, and, unless `anyway`, for one whose files another run reads; then nothing is deleted. Raises SpaceError for a
    directory that cannot be removed: its rows are gone, and the next purge tries again.
    """
    from engine.launch import try_lock  # brings all that starting a run needs

    finish(db, database)
    ids = list(dict.fromkeys(ids))
    for row in [_run(db, run_id) for run_id in ids]:
        _at_rest(row)
    reading = [use for use in uses(db, ids) if use.reads]
    if reading and not anyway:
        raise RunError("Another run needs its files", "; ".join(
            f"{use.name} ({use.run_id}) has {use.reads} in {use.of}" for use in reading[:5]) + ".",
            "Purge that one too, or say --anyway.")  # fmt: skip
    freed = 0
    for run_id in ids:
        directory = paths.run_directory(database, run_id)
        there = directory.is_dir()
        lock = try_lock(directory, patience=2.0) if there else None
        if there and lock is None:
            raise RunError(
                "The run is still at work", f"A supervisor of {run_id} lives.", "Wait a moment, then try again."
            )
        try:
            size = disk(database, run_id)
            if there:
                (directory / PURGE).touch(mode=0o600)
            with transaction(db):
                _at_rest(_run(db, run_id))
                _forget(db, run_id)
            if there:
                _remove(directory)
            freed += size
        finally:
            if lock is not None:
                os.close(lock)
    _forget_names(db)
    return freed


def _forget(db: sqlite3.Connection, run_id: str) -> None:
    """Delete every row of a run. What it is the parent of keeps its id: that is how it was."""
    for table in ("points", "sketch"):
        db.execute(f"DELETE FROM {table} WHERE series IN (SELECT id FROM series WHERE run_id = ?)", (run_id,))
    for table in ("series", *TABLES):
        db.execute(f"DELETE FROM {table} WHERE run_id = ?", (run_id,))
    db.execute("DELETE FROM runs WHERE id = ?", (run_id,))


def _forget_names(db: sqlite3.Connection) -> None:
    """Parameters and metrics that no run has any more."""
    for kind, source in (("param", "SELECT path FROM params"), ("metric", "SELECT key FROM series")):
        db.execute(f"DELETE FROM search_names WHERE kind = ? AND name NOT IN ({source})", (kind,))


def finish(db: sqlite3.Connection, database: Path) -> None:
    """Remove what a purge that was cut off has left: directories whose rows are gone. One whose rows are there stays."""
    for mark in paths.runs_directory(database).glob(f"*/{PURGE}"):
        if db.execute("SELECT 1 FROM runs WHERE id = ?", (mark.parent.name,)).fetchone():
            mark.unlink(missing_ok=True)
        else:
            _remove(mark.parent)


def _remove(directory: Path) -> None:
    """The specification first, so that it is no run any more, the mark last. Raises SpaceError."""
    try:
        (directory / "spec.yaml").unlink(missing_ok=True)
        for entry in list(directory.iterdir()):
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            elif entry.name != PURGE:
                entry.unlink(missing_ok=True)
        (directory / PURGE).unlink(missing_ok=True)
        directory.unlink() if directory.is_symlink() else directory.rmdir()
    except OSError as error:
        raise SpaceError("A directory could not be removed", f"{directory}: {error.strerror}.",
                         "Its run is gone. The next purge tries again.") from None  # fmt: skip


def _run(db: sqlite3.Connection, run_id: str) -> Row:
    row = db.execute("SELECT * FROM runs WHERE id = ?", (run_id,)).fetchone()
    if row is None:
        raise RunError(
            "There is no such run", f"No run has the id '{clean(run_id, False)}'.", "List them: tunedeck runs"
        )
    return decode(row)


def _at_rest(run: Row) -> None:
    if run["status"] in ACTIVE:
        raise RunError(
            "The run is not over", f"{run['name']} is {run['status']}.", f"Stop it first: tunedeck stop {run['id']}"
        )
