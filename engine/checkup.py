"""Is the database in order? What `tunedeck db check` finds, in words, with what can be done."""

import shutil
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engine import paths, rebuild
from engine.doctor import Check
from engine.errors import StoreError, TuneDeckError
from engine.holders import Holder, holders
from engine.rebuild import Prospect, directories
from engine.store import upkeep
from engine.store.connection import Say, is_damaged, open_database, writable
from engine.store.copies import mib
from engine.store.place import Place, place_of
from engine.store.upkeep import Facts

NAMED = 5
"""Runs that are named where there may be many."""
GRACE = 60.0
"""Seconds that a run directory may be there before the database knows of it."""
GAPS = 0.2
"""Part of the file that may be gaps before that is worth a word."""
ANEW = "Make the database anew from the run directories, and keep the old one: tunedeck db rebuild"


@dataclass(frozen=True)
class Report:
    """All that was found. Sizes in bytes by table, None where this SQLite cannot tell."""

    checks: tuple[Check, ...]
    facts: Facts | None = None
    sizes: dict[str, int] | None = None
    prospect: Prospect | None = None
    """What could be saved, where the file is damaged."""

    @property
    def wrong(self) -> bool:
        return any(check.level == "fatal" for check in self.checks)


def check(database: Path, full: bool = False, say: Say | None = None) -> Report:
    """Look through a database. `say` as in `open_database`. Raises TuneDeckError where there is none, or none of ours."""
    place, open_in = place_of(database), holders(database)
    around = [file_system(place), *_held(open_in)]
    try:
        db = open_database(database, create=False, say=say)
    except StoreError as error:
        if not is_damaged(error):
            raise
        return _damaged(database, [str(error.message)], around)
    try:
        facts = upkeep.facts(db)
        found = upkeep.faults(db, full)
        if found:
            return _damaged(database, found, around, facts)
        missing = upkeep.missing(db)
        sizes = upkeep.table_sizes(db)
        checks = [_database(database, facts, sizes), *around, journal(facts.journal, place), _writes(database),
                  Check("file", "ok", "every page and every index is sound" if full else "every page is sound")]  # fmt: skip
        if missing:
            checks.append(Check("schema", "fatal", f"missing: {', '.join(missing[:10])}", ANEW))
        else:
            checks += [Check("schema", "ok", f"version {facts.version}, all tables and views"),
                       *_contents(db, database, full)]  # fmt: skip
        return Report((*checks, *_room(database, facts), *_kept(database)), facts, sizes)
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        if not is_damaged(error):
            raise
        return _damaged(database, [str(error)], around)
    finally:
        db.close()


def _damaged(database: Path, found: Sequence[str], around: list[Check], facts: Facts | None = None) -> Report:
    told = "; ".join(one.replace("\n", " ") for one in found[:3]) + (
        f"; and {len(found) - 3} more" if len(found) > 3 else ""
    )
    checks = [Check("file", "fatal", f"damaged: {told}", ANEW), *around]
    prospect = None
    try:
        prospect = rebuild.examine(database)
        checks.append(Check("can be saved", "note", saved(prospect)))
    except (TuneDeckError, OSError) as error:
        checks.append(Check("can be saved", "fatal", str(error)))
    return Report((*checks, *_kept(database)), facts, None, prospect)


def saved(prospect: Prospect) -> str:
    """What a rebuild would have, in a sentence."""
    parts = []
    if prospect.from_files:
        parts.append(f"{_runs(len(prospect.from_files))} with everything, from their directories, and their names, tags and "
                     "notes from the database")  # fmt: skip
    if prospect.unknown:
        parts.append(f"{_runs(len(prospect.unknown))} from their directories alone"
                     + ("" if prospect.state == "missing" else ", which the database does not know"))  # fmt: skip
    if prospect.from_old:
        broken = sum(broken for _, broken in prospect.rows.values())
        points = prospect.rows.get("points", (0, 0))[0]
        parts.append(f"{_runs(len(prospect.from_old))} from the database alone ({points:,} points there"
                     + (f"; {broken:,} pages cannot be read" if broken else "") + ")")  # fmt: skip
    if prospect.lost > 0:
        parts.append(
            f"not {_runs(prospect.lost)} of which the database's row cannot be read and that have no directory"
        )
    for name, why in prospect.unreadable[:NAMED]:
        parts.append(f"not {name}: {why}")
    return "; ".join(parts)


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count:,} runs"


def file_system(place: Place) -> Check:
    """What the database lies on."""
    where = f"{place.kind} at {place.mount}" if place.kind else "not known"
    if place.locks_alone:
        return Check("file system", "note", f"{where}, a network file system without locks that other machines see",
                     "Use this database from one machine at a time.")  # fmt: skip
    if place.network:
        return Check(
            "file system", "note", f"{where}, a network file system: slower, and several machines may write to it"
        )
    return Check("file system", "ok", where)


def journal(mode: str, place: Place) -> Check:
    """How SQLite writes, and whether that is safe there."""
    if mode == "wal" and place.network:
        return Check("journal", "fatal", "write-ahead log, which does not work across machines",
                     "Close every TuneDeck on every machine, then open it once.")  # fmt: skip
    return Check("journal", "ok", "write-ahead log" if mode == "wal" else "rollback journal")


def _database(database: Path, facts: Facts, sizes: dict[str, int] | None) -> Check:
    each = upkeep.bytes_a_point(sizes, facts.points)
    text = f"{database}, {mib(facts.size)}, {_runs(facts.runs)}, {facts.points:,} points"
    return Check("database", "ok", text + (f", {each:.1f} bytes a point" if each else ""))


def _writes(database: Path) -> Check:
    if writable(database):
        return Check("writing", "ok", "can be written")
    return Check("writing", "note", "read only", "The file, its directory or the file system does not let you write.")


def _held(found: list[Holder]) -> list[Check]:
    if not found:
        return [Check("open in", "ok", "no other program of this machine")]
    named = ", ".join(f"{one.command} (pid {one.pid})" for one in found[:NAMED])
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return [Check("open in", "ok", named + more)]


def _contents(db: sqlite3.Connection, database: Path, full: bool) -> list[Check]:
    return [_search(db, database), _summaries(db, full), *_directories(db, database), *_strays(db)]


def _search(db: sqlite3.Connection, database: Path) -> Check:
    if not writable(database):
        return Check("search", "ok", "not looked at: that needs a database that can be written")
    fault = upkeep.fault_of_search(db)
    return Check("search", "fatal", fault, ANEW) if fault else Check("search", "ok", "agrees with the texts")


def _summaries(db: sqlite3.Connection, full: bool) -> Check:
    looked, wrong = upkeep.wrong_summaries(db, full)
    if wrong:
        named = ", ".join(f"{key} of {run}" for run, key in wrong[:NAMED])
        return Check("summaries", "fatal", f"{len(wrong)} of {looked:,} curves are not as their points: {named}", ANEW)
    some = "" if full or looked < upkeep.SAMPLED else ", drawn by lot (all: --full)"
    return Check("summaries", "ok", f"agree with the points of {looked:,} curves{some}")


def _directories(db: sqlite3.Connection, database: Path) -> list[Check]:
    known = upkeep.ids(db)
    there = {path.name: path for path in directories(database)}
    unknown = [name for name, path in there.items() if name not in known and _settled(path)]
    bare = [
        name for name, imported in known.items() if not imported and not paths.run_directory(database, name).is_dir()
    ]
    checks = []
    if unknown:
        checks.append(Check("directories", "fatal", f"{_runs(len(unknown))} in runs/ that the database does not know: "
                            + _named(unknown), ANEW))  # fmt: skip
    if bare:
        checks.append(Check("directories", "note", f"{_runs(len(bare))} without a directory: {_named(bare)}",
                            "Curves and records are here; logs, checkpoints and models are gone."))  # fmt: skip
    return checks or [Check("directories", "ok", "every run has its directory, and every directory its run")]


def _settled(run_dir: Path) -> bool:
    try:
        return time.time() - (run_dir / "spec.yaml").stat().st_mtime > GRACE
    except OSError:
        return False


def _named(ids: list[str]) -> str:
    return ", ".join(ids[:NAMED]) + (", ..." if len(ids) > NAMED else "")


def _strays(db: sqlite3.Connection) -> list[Check]:
    checks = []
    if found := upkeep.strays(db):
        told = ", ".join(f"{count:,} in {table}" for table, count in found.items())
        checks.append(
            Check("rows", "note", f"rows that belong to no run: {told}", "tunedeck db vacuum takes them away.")
        )
    if alone := upkeep.orphans(db):
        checks.append(Check("parents", "note", f"{_runs(len(alone))} forked from a run that is gone: {_named(alone)}"))
    return checks


def _room(database: Path, facts: Facts) -> list[Check]:
    free = shutil.disk_usage(database.parent).free
    checks = [Check("disk", "ok" if free > max(facts.size, 1 << 30) else "note", f"{mib(free)} free")]
    if facts.free > max(1 << 20, GAPS * facts.size):
        checks.append(
            Check("gaps", "note", f"{mib(facts.free)} of the file are not used", "Give them back: tunedeck db vacuum")
        )
    return checks


def _kept(database: Path) -> list[Check]:
    """Copies beside the database, which take room and which nobody else tells of."""
    kept = [path for path in sorted(database.parent.glob(f"{database.name}.*")) if path.is_file()
            and ("backup" in path.name or "broken" in path.name) and not path.name.endswith(("-wal", "-shm"))]  # fmt: skip
    if not kept:
        return []
    size = sum(path.stat().st_size for path in kept)
    return [Check("copies", "ok", f"{_named([path.name for path in kept])}: {mib(size)}")]
