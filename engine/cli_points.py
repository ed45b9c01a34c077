"""The verb `export --to csv|jsonl|parquet`: every point of some runs."""

import argparse
import os
from pathlib import Path
from typing import Any

from engine import points_out
from engine.errors import RunError, SpaceError
from engine.store import runs
from engine.text import clean

Options = argparse.Namespace
FORMATS = points_out.FORMATS
HELP = "csv, jsonl or parquet FILE: every point, - prints it (not parquet)"


def add_flags(parser: Any) -> None:
    """Those of points alone."""
    parser.add_argument(
        "--filter", metavar="Q", help="of points: all runs that it lets through, instead of naming them"
    )
    parser.add_argument("--keys", metavar="K,K...", help="of points: only these metrics")
    parser.add_argument("--wide", action="store_true", help="of points: a row for each step, a column for each metric")


def refuse_flags(options: Options) -> None:
    """Raises RunError if a flag of points is given with another format."""
    given = [f"--{name}" for name in ("filter", "keys", "wide") if getattr(options, name)]
    if given:
        raise RunError("That is for points only", f"--to {options.to} does not take {', '.join(given)}.",
                       f"It goes with --to {', '.join(FORMATS)}.")  # fmt: skip


def export(options: Options) -> int:
    """Write them, and say how many."""
    from engine import cli

    printed = str(options.target) == "-"
    if printed and (options.to not in points_out.WRITERS or options.json):
        what = "--json takes standard output" if options.json else f"{options.to} is not text"
        raise SpaceError("That cannot go to standard output", f"{what}.", "Name a file.")
    db = cli.opened(options)
    chosen = _chosen(db, options)
    keys = [key.strip() for key in (options.keys or "").split(",") if key.strip()]
    found = points_out.table(db, [(run["id"], run["name"]) for run in chosen], keys, options.wide)
    target = None if printed else Path(os.path.abspath(options.target.expanduser()))
    count = points_out.write(db, found, options.to, target, options.force)
    if options.json:
        cli.emit({"runs": [run["id"] for run in chosen], "to": options.to, "file": str(target), "rows": count})
    elif not printed:
        many = "1 run" if len(chosen) == 1 else f"{len(chosen):,} runs"
        print(clean(f"{count:,} {'rows' if options.wide else 'points'} of {many} in {target}", False))
    return 0


def _chosen(db: Any, options: Options) -> list[runs.Row]:
    """The runs that are named, or that a filter lets through, the newest first. Raises RunError, FilterError."""
    from engine.store.query import select

    if bool(options.run) == bool(options.filter):
        raise RunError("Which runs?", "Both are named and filtered." if options.run else "None is named.",
                       "Name them, or give a filter: --filter 'status:finished'.")  # fmt: skip
    names = select(db, options.filter) if options.filter else options.run
    found = list({run["id"]: run for run in (runs.find(db, name) for name in names)}.values())
    if not found:
        raise RunError(
            "No run is let through", f"The filter {options.filter} matches none.", "See: tunedeck runs --filter ..."
        )
    return found
