"""An old run into the database: once. What has gone on since is read again whole, so that it is what its source says."""

import contextlib
import itertools
import sqlite3
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import SourceError
from engine.events import Checkpoint, Notice, Record, finite
from engine.imports import names, output_dir, tfevents, wire
from engine.imports.source import Facts, Source
from engine.launch import DIGITS, EPOCH
from engine.store import imported, metrics, records, runs
from engine.store.connection import transaction

BATCH = 20_000
"""Points that are written at once: so many are held, and others wait no longer than that takes."""
COMPARED = 50
"""Points by which it is told whether event files are those of a run that is here."""
PROJECT = "default"
BROKEN_OFF = "the import was broken off: import it again"


@dataclass(frozen=True)
class Brought:
    """What became of a run: new, grown, unchanged, or binned (it is in the bin, and stays there).

    `points` are stored, `read` were in the source: a step that came twice counts as it came last.
    """

    id: str
    name: str
    kind: str
    place: str
    what: str
    status: str = ""
    points: int = 0
    read: int = 0
    notes: tuple[str, ...] = ()


def where(source: Source) -> str:
    """The identity of a run here: what it is and where it lies."""
    return f"{source.kind} {source.place}"


def plan(db: sqlite3.Connection | None, known: dict[str, imported.Known], source: Source) -> str:
    """What bringing it would be: new, grown, unchanged, binned, or part (of an output directory that is here)."""
    here = known.get(where(source))
    if here is None:
        return "part" if db is not None and _owner(db, known, source) else "new"
    if here.binned:
        return "binned"
    return "unchanged" if here.stamp == _stamp(source) else "grown"


def _owner(db: sqlite3.Connection, known: dict[str, imported.Known], source: Source) -> imported.Known | None:
    """The run of the output directory that these event files lie in, if it is here and has their first values."""
    if source.kind != tfevents.KIND:
        return None
    places = (f"{output_dir.KIND} {parent}" for parent in Path(source.place).parents)
    owner = next((known[place] for place in places if place in known), None)
    if owner is None:
        return None
    first = [(key, step, value) for key, step, _, _, value in itertools.islice(source.points(), COMPARED)]
    there = [imported.value(db, owner.id, key, step) for key, step, _ in first]
    same = sum(
        old is not None and wire.single(old) == wire.single(new) for old, (_, _, new) in zip(there, first, strict=True)
    )
    return owner if 2 * same > len(first) else None


def _stamp(source: Source) -> int:
    with _readable(source):
        return source.stamp()


def bring(
    db: sqlite3.Connection, source: Source, known: dict[str, imported.Known], name: str = "", project: str = ""
) -> Brought:
    """Import a run, or what is new of it. `known` is kept up to date. Raises SourceError; what is there then is marked.

    It is written piece by piece, each a transaction of its own: other runs go on writing meanwhile.
    """
    what, here = plan(db, known, source), known.get(where(source))
    if what == "part":
        here = _owner(db, known, source)
    if here is not None and what in ("unchanged", "binned", "part"):
        return Brought(here.id, here.name, source.kind, source.place, what, points=imported.stored(db, here.id))
    stamp = _stamp(source)
    with transaction(db):
        if here is None:
            here = _insert(db, source, name, project)
        else:
            imported.forget(db, here.id)
            runs.set_fields(db, here.id, status="stopped", exit_reason=BROKEN_OFF)
    read = 0
    with _readable(source):
        for points in _batches(source):
            read += sum(map(len, points.values()))
            with transaction(db):
                for key, series in points.items():
                    metrics.add(db, here.id, key, series)
        facts = source.facts()
    with transaction(db):
        _finish(db, here.id, source, facts, stamp)
        stored = imported.stored(db, here.id)
        if stored != read:
            imported.summarize(db, here.id)
    known[where(source)] = imported.Known(here.id, here.name, stamp, False)
    return Brought(here.id, here.name, source.kind, source.place, what, facts.status, stored, read, facts.notes)


def count(source: Source) -> tuple[int, Facts]:
    """How many points a source holds, and what is known of it; nothing is written. Raises SourceError."""
    with _readable(source):
        found = sum(1 for _ in source.points())
        return found, source.facts()


@contextlib.contextmanager
def _readable(source: Source) -> Iterator[None]:
    """What the file system says of a source, as ours."""
    try:
        yield
    except OSError as error:
        raise SourceError("The run cannot be read", f"{source.place}: {error.strerror or error}.", "") from None


def _batches(source: Source) -> Iterator[dict[str, list[metrics.Point]]]:
    """The points by key, BATCH of them at a time."""
    points: dict[str, list[metrics.Point]] = {}
    held = 0
    for key, step, attempt, moment, value in source.points():
        points.setdefault(key, []).append((step, attempt, moment, value))
        held += 1
        if held == BATCH:
            yield points
            points, held = {}, 0
    if points:
        yield points


def _insert(db: sqlite3.Connection, source: Source, name: str, project: str) -> imported.Known:
    if where(source) in imported.known(db):
        raise SourceError(
            "The run is being imported", f"Another process brings {source.place}.", "Wait until it is done."
        )
    with _readable(source):
        began = source.began
    base = names.line(name or source.name) or "imported"
    taken = runs.names_like(db, base)
    free = next(one for n in range(1, len(taken) + 2) if (one := base if n == 1 else f"{base}-{n}") not in taken)
    run_id = _new_id(db, where(source), began)
    imported.insert(db, run_id, free, names.line(project or source.project or "") or PROJECT, where(source), began)
    runs.set_fields(db, run_id, exit_reason=BROKEN_OFF)
    return imported.Known(run_id, free, None, False)


def _new_id(db: sqlite3.Connection, place: str, began: float) -> str:
    """An id that sorts by when the run began, two characters longer than those of runs that are trained here."""
    number, tail = max(0, int(began) - EPOCH), zlib.crc32(place.encode("utf-8", errors="replace"))
    while True:
        made = (_digits(number, 6) + _digits(tail % 36**2, 2))[-8:]
        if not imported.exists(db, made):
            return made
        tail += 1


def _digits(number: int, width: int) -> str:
    text = ""
    while number:
        number, digit = divmod(number, 36)
        text = DIGITS[digit] + text
    return text.rjust(width, "0")


def _finish(db: sqlite3.Connection, run_id: str, source: Source, facts: Facts, stamp: int) -> None:
    now = time.time()
    fields: dict[str, Any] = {
        "status": facts.status, "exit_reason": facts.reason or None, "started_at": facts.started, "ended_at": facts.ended or source.began,
        "method": facts.method, "model": facts.model, "dataset": facts.dataset,
    }  # fmt: skip
    imported.finish(db, run_id, stamp, facts.params, fields)
    if facts.step is not None:
        progress = {"step": facts.step, "total": facts.total, "epoch": facts.epoch}
        records.set_progress(db, run_id, facts.attempt, facts.ended or now, **progress)
    scores = {step: value for step, _, value in metrics.curves(db, run_id, ["eval_loss"])["eval_loss"]}
    for saved in facts.checkpoints:
        event = Checkpoint(saved.step, saved.path, saved.bytes, eval_loss=finite(scores.get(saved.step)))
        records.add_checkpoint(db, run_id, Record(0, saved.time, 1, event), event)
    if facts.model_path:
        records.add_artifact(db, run_id, "model", facts.model_path, facts.model_bytes, facts.ended or now)
    for seq, text in enumerate((f"imported from {where(source)}", *facts.notes), 1):
        record = Record(seq, now, 1, Notice("note", text))
        records.add_event(db, run_id, imported.MARK, record, "note", text)
