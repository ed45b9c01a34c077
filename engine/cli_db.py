"""The verb `db`: a copy of the database, whether it is in order, made anew, and its room given back."""

import argparse
import dataclasses
import json
import re
import sqlite3
import sys
import time
from pathlib import Path
from typing import Any

from engine import checkup, paths, rebuild, report
from engine.errors import SpaceError, TuneDeckError
from engine.rebuild import Prospect
from engine.store import changes, copies, upkeep
from engine.store.connection import look_into, open_database, writable
from engine.store.copies import mib
from engine.text import clean

Options = argparse.Namespace
MARKS = {"ok": "✓", "note": "·", "fatal": "✗"}
DAY = 86400.0
_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*(h|d|w|y)?")
_UNITS = {"h": DAY / 24, "d": DAY, "w": 7 * DAY, "y": 365 * DAY}


def add_verb(verb: Any) -> None:
    """`verb` as in `engine.cli.build_parser`."""
    parser = verb("db", _which, "the database itself: backup, check, rebuild, vacuum", as_json=False)
    parser.set_defaults(what=parser)
    actions = parser.add_subparsers(metavar="ACTION")

    def action(name: str, function: Any, text: str) -> argparse.ArgumentParser:
        sub: argparse.ArgumentParser = actions.add_parser(name, help=text, description=text)
        sub.set_defaults(verb=function)
        sub.add_argument(
            "--db", metavar="PATH", default=argparse.SUPPRESS, help="the database; its runs/ lies beside it"
        )
        sub.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        sub.add_argument("--json", action="store_true", help="one JSON document on standard output")
        return sub

    backup_ = action("backup", backup, "a copy that is whole, also while runs write; without the run directories")
    backup_.add_argument(
        "file", nargs="?", type=Path, metavar="FILE", help="beside the database, with the date, if not given"
    )
    backup_.add_argument("--force", action="store_true", help="over a file that is there")
    check_ = action(
        "check", check, "is it in order, how large is it, and what can be done; exit code 1 if something is wrong"
    )
    check_.add_argument("--full", action="store_true", help="every index and every curve, not only some")
    rebuild_ = action(
        "rebuild", rebuild_verb, "make it anew from the run directories and what can be saved; the old one is kept"
    )
    rebuild_.add_argument("--dry-run", action="store_true", help="only say what can be saved")
    vacuum_ = action("vacuum", vacuum, "give unused room back to the disk")
    vacuum_.add_argument("--gpu-samples-older", type=age, metavar="90d", help="what cards did in ended runs before that; "
                         "h, d, w or y")  # fmt: skip
    vacuum_.add_argument(
        "--bin-older", type=age, metavar="30d", help="delete for good what was put into the bin before that"
    )
    vacuum_.add_argument("--yes", action="store_true", help="do it: with the two above it is only shown otherwise")


def age(text: str) -> float:
    """`90d` in seconds. Raises argparse's error."""
    found = _AGE.fullmatch(text.strip().lower())
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is no age: write 12h, 90d, 4w or 1y")
    return float(found[1]) * _UNITS[found[2] or "d"]


def _which(options: Options) -> int:
    options.what.print_help(sys.stderr)
    return 2


def _database(options: Options) -> Path:
    return paths.database(getattr(options, "db", None))


def _say(text: str) -> None:
    print(clean(text), file=sys.stderr)


def _emit(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False))


def _written(path: Path) -> None:
    """Raises SpaceError where it can only be read."""
    if path.exists() and not writable(path):
        raise SpaceError("The database is read only", f"{path} or its directory cannot be written.",
                         "Copy it with its runs/ to a place where it can, or use --db.")  # fmt: skip


def backup(options: Options) -> int:
    path = _database(options)
    read_only = path.exists() and not writable(path)  # then it is copied in the version that it has
    db = look_into(path) if read_only else open_database(path, create=False, say=_say)
    try:
        target = (
            options.file.expanduser().absolute()
            if options.file
            else copies.free_name(path, time.strftime("backup-%Y-%m-%d"))
        )
        if target.is_dir():
            target = copies.free_name(target / path.name, time.strftime("backup-%Y-%m-%d"))
        if target.exists() and target.samefile(path):
            raise TuneDeckError("That is the database itself", f"{target}.", "Name another file.")
        size = copies.copy(db, target, options.force)
        count = len(upkeep.ids(db))
    finally:
        db.close()
    if options.json:
        _emit({"file": str(target), "bytes": size, "runs": count})
    else:
        print(clean(f"{target}  {mib(size)}, {count:,} runs, sound\nThe run directories are not in it: "
                    f"{paths.runs_directory(path)}\nLook at it: tunedeck --db {target} runs"))  # fmt: skip
    return 0


def check(options: Options) -> int:
    found = checkup.check(_database(options), options.full, _say)
    if options.json:
        each = upkeep.bytes_a_point(found.sizes, found.facts.points) if found.facts else None
        _emit({"wrong": found.wrong, "checks": [vars(one) for one in found.checks], "tables": found.sizes,
               "bytes_per_point": each, **(dataclasses.asdict(found.facts) if found.facts else {}),
               "can_be_saved": dataclasses.asdict(found.prospect) if found.prospect else None})  # fmt: skip
    else:
        print(clean(report.table(["", "what", "found"], [[MARKS[c.level], c.name, c.text] for c in found.checks])))
        if found.sizes:
            shown = [[name, mib(size)] for name, size in found.sizes.items()]
            print("\n" + clean(report.table(["table", "size"], shown)))
        for one in found.checks:
            if one.hint:
                print(clean(f"  {one.name}: {one.hint}"))
    return 1 if found.wrong else 0


def rebuild_verb(options: Options) -> int:
    path = _database(options)
    _written(path)
    prospect = rebuild.examine(path)
    if not options.json:
        _tell(path, prospect)
    kept = None if options.dry_run else rebuild.rebuild(path)
    if options.json:
        _emit(dataclasses.asdict(prospect) | {"done": not options.dry_run, "kept": str(kept) if kept else None})
    elif not options.dry_run:
        print(clean(f"{path} is made anew." + (f" The old one is kept: {kept}" if kept else "")))
    return 0


def _tell(path: Path, prospect: Prospect) -> None:
    state = {"missing": "is missing", "sound": "is sound", "damaged": f"is damaged: {prospect.problem}"}[prospect.state]
    print(clean(f"{path} {state}\nThe new one has {checkup.saved(prospect)}."))
    if prospect.rows:
        rows = [[rebuild.SAID[table], f"{found:,}", f"{broken:,}" if broken else ""]
                for table, (found, broken) in prospect.rows.items()]  # fmt: skip
        print(clean(report.table(["in the old one", "rows", "broken pages"], rows)), flush=True)


def vacuum(options: Options) -> int:
    path = _database(options)
    _written(path)
    db = open_database(path, create=False, say=_say)
    try:
        found = _to_go(db, path, options)
        asked = options.gpu_samples_older is not None or options.bin_older is not None
        done = options.yes or not asked
        before = _bytes(path)
        if done:
            found["all_given_back"] = _vacuum(db, path, options)
        found |= {"done": done, "before": before, "after": _bytes(path)}
    finally:
        db.close()
    if options.json:
        _emit(found)
    else:
        _tell_vacuum(found, asked)
    return 0


def _to_go(db: sqlite3.Connection, path: Path, options: Options) -> dict[str, Any]:
    """What would be deleted, and how much room that takes."""
    sizes, now = upkeep.table_sizes(db) or {}, time.time()
    found: dict[str, Any] = {"unused": upkeep.facts(db).free, "gpu_samples": None, "bin": None}
    if options.gpu_samples_older is not None:
        count, total = upkeep.old_gpu_samples(db, now - options.gpu_samples_older)
        found["gpu_samples"] = {
            "rows": count,
            "bytes": round(sizes.get("gpu_samples", 0) * count / total) if total else 0,
        }
    if options.bin_older is not None:
        ids = upkeep.binned(db, now - options.bin_older)
        found["bin"] = {"runs": ids, "bytes": sum(changes.disk(path, one) for one in ids)}
    return found


def _vacuum(db: sqlite3.Connection, path: Path, options: Options) -> bool:
    now = time.time()
    copies.check_room(2 * copies.size(db), path, "Writing it anew")  # before anything is deleted
    if options.gpu_samples_older is not None:
        upkeep.drop_gpu_samples(db, now - options.gpu_samples_older)
    if options.bin_older is not None and (ids := upkeep.binned(db, now - options.bin_older)):
        changes.purge(db, path, ids)
    upkeep.drop_strays(db)
    return upkeep.vacuum(db, path)


def _bytes(path: Path) -> int:
    both = (path, path.with_name(path.name + "-wal"))
    return sum(one.stat().st_size for one in both if one.exists())


def _tell_vacuum(found: dict[str, Any], asked: bool) -> None:
    deleted = "deleted" if found["done"] else "would be deleted"
    if found["gpu_samples"]:
        one = found["gpu_samples"]
        print(
            f"{one['rows']:,} samples of cards {deleted}, {mib(one['bytes'])} of the database; the run directories have them"
        )
    if found["bin"]:
        print(f"{len(found['bin']['runs']):,} runs in the bin {deleted} with their directories, {mib(found['bin']['bytes'])}: "
              + (", ".join(found["bin"]["runs"][:10]) or "none"))  # fmt: skip
    if not found["done"]:
        print(f"{mib(found['unused'])} of the file are unused. Nothing was changed; to do it, add --yes")
    else:
        print(f"the database had {mib(found['before'])}, has {mib(found['after'])}")
        if not found["all_given_back"]:
            print("Other programs read it: the rest is given back when they let go.")
