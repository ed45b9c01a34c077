"""The verb `import`: old runs of other tools into the database, and configurations of other tools as specifications."""

import argparse
import contextlib
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.errors import SourceError, SpecError, TuneDeckError
from engine.imports import bring, find, names
from engine.imports.source import Source, broken
from engine.store import imported
from engine.store.connection import open_database
from engine.text import clean

Options = argparse.Namespace
WHAT = {"new": "imported", "grown": "brought up to date", "unchanged": "unchanged", "binned": "in the bin, left there",
        "part": "part of a run that is here"}  # fmt: skip
IN_THE_END = {"new": "would be imported", "grown": "would be brought up to date"}


def add_verb(verb: Any, configuration: Callable[[Options], int]) -> None:
    """`verb` adds it; `configuration` reads the YAML file in `options.file`."""
    parser = verb("import", lambda options: import_(options, configuration),
                  "old runs of TensorBoard, Trackio, transformers and TRL; or a YAML file of Axolotl or TRL as a specification")  # fmt: skip
    parser.add_argument("path", nargs="+", type=Path, metavar="PATH", help="event files, a Trackio database, "
                        "trainer_state.json, a directory with any of them; or a YAML file")  # fmt: skip
    parser.add_argument("--name", help="what to call the run, if it is one")
    parser.add_argument("--project", help="the project of the runs")
    parser.add_argument("--dry-run", action="store_true", help="say what would be imported, write nothing")
    parser.add_argument("--out", type=Path, metavar="SPEC.yaml", help="of a YAML file: where to write the specification; "
                        "standard output if open")  # fmt: skip


def import_(options: Options, configuration: Callable[[Options], int]) -> int:
    """By what is in the files. Returns 1 if some of several could not be read. Raises SourceError if none could."""
    configurations = [path for path in options.path if find.is_configuration(path)]
    if len(options.path) == 1 and configurations:
        options.file = options.path[0]
        try:
            return configuration(options)
        except SpecError:
            if not find.may_hold_neither(options.file):
                raise
            raise broken(options.file, "it is neither an old run nor a configuration", find.KNOWN) from None
    if configurations:
        raise SourceError(
            "Configurations are imported one by one", f"{configurations[0]} is no old run.", "Import it alone."
        )
    if options.out:
        raise SourceError(
            "--out is for configurations", f"{options.path[0]} holds runs: they go into the database.", ""
        )
    return _runs(options)


def _runs(options: Options) -> int:
    found = _found(options.path)
    if options.name and len(found.sources) > 1:
        raise SourceError("--name is for one run", f"{len(found.sources)} runs were found.", "Import them without it.")
    done: list[bring.Brought] = []
    with _database(options) as db:
        known = imported.known(db) if db is not None else {}
        for source in found.sources:
            try:
                done.append(_one(db, source, known, options))
            except TuneDeckError as error:
                found.failed.append((source.place, error.message))
                continue
            if not options.json:
                print(_line(done[-1], options.dry_run), flush=True)
                for note in done[-1].notes:
                    print(clean(f"  {note}", False))
    if not done and not found.skipped:
        where = "; ".join(f"{path}: {why.rstrip('.')}" for path, why in found.failed[:3])
        raise SourceError("Nothing could be imported", where or f"{options.path[0]} holds no runs.",
                          "Import reads event files of TensorBoard, Trackio databases and output directories of Trainers.")  # fmt: skip
    return _say(done, found, options)


def _found(paths: list[Path]) -> find.Found:
    """What all of them hold, each run once; with several paths one that cannot be read does not hide the others."""
    whole = find.Found()
    for path in paths:
        try:
            one = find.sources(path)
        except SourceError as error:
            if len(paths) == 1:
                raise
            one = find.Found(failed=[(str(path), error.message)])
        there = {bring.where(source) for source in whole.sources}
        whole.sources += [source for source in one.sources if bring.where(source) not in there]
        whole.failed += one.failed
        whole.skipped += one.skipped
    return whole


@contextlib.contextmanager
def _database(options: Options) -> Any:
    """The database; None where nothing is to be written and there is none."""
    from engine.cli import database

    path = database(options)
    if options.dry_run and not path.exists():
        yield None
        return
    with contextlib.closing(open_database(path)) as db:
        yield db


def _one(
    db: sqlite3.Connection | None, source: Source, known: dict[str, imported.Known], options: Options
) -> bring.Brought:
    if db is not None and not options.dry_run:
        return bring.bring(db, source, known, options.name or "", options.project or "")
    what, here = bring.plan(db, known, source), known.get(bring.where(source))
    name = here.name if here else names.line(options.name or source.name)
    points, facts = bring.count(source) if what in ("new", "grown") else (0, None)
    return bring.Brought(here.id if here else "", name, source.kind, source.place, what, facts.status if facts else "",
                         points, points, facts.notes if facts else ())  # fmt: skip


def _line(one: bring.Brought, dry: bool) -> str:
    what = IN_THE_END.get(one.what, WHAT[one.what]) if dry else WHAT[one.what]
    again = f", {one.read - one.points:,} at a step that came again" if one.read > one.points else ""
    points = "1 point" if one.points == 1 else f"{one.points:,} points"
    parts = [one.id, one.name, f"{what}: {points}{again}", one.status, f"{one.kind} {one.place}"]
    return clean("  ".join(part for part in parts if part), keep_lines=False)


def _say(done: list[bring.Brought], found: find.Found, options: Options) -> int:
    if options.json:
        from engine.cli import emit

        emit({
            "runs": [vars(one) | {"notes": list(one.notes)} for one in done],
            "failed": [{"path": path, "why": why} for path, why in found.failed],
            "skipped": [{"path": path, "why": why} for path, why in found.skipped],
        })  # fmt: skip
    else:
        counts = {what: sum(one.what == what for one in done) for what in WHAT}
        words = [f"{count} {IN_THE_END.get(what, WHAT[what]) if options.dry_run else WHAT[what]}"
                 for what, count in counts.items() if count]  # fmt: skip
        many = "1 run" if len(done) == 1 else f"{len(done):,} runs"
        print(f"{many}: {', '.join(words)}" if done else "No runs.")
        for path, why in found.skipped:
            print(clean(f"  passed over: {path}: {why}", False), file=sys.stderr)
        for path, why in found.failed:
            print(clean(f"  not imported: {path}: {why}", False), file=sys.stderr)
    return 1 if found.failed else 0
