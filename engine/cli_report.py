"""`export RUN... --to html|markdown`: a run, or several compared, to be read by people."""

import argparse
import os
import sqlite3
import sys
import tempfile
from pathlib import Path
from typing import Any

from engine.errors import RunError, SpaceError
from engine.store import metrics, runs

Options = argparse.Namespace
FORMATS = ("html", "markdown", "card")
HELP = (
    "html FILE: a report that needs nothing else, of several runs a comparison; markdown (or card) FILE: a model card; "
    "both print to - instead"
)


def add_flags(parser: Any) -> None:
    parser.add_argument("--force", action="store_true", help="write over a report that is there")


def export(options: Options) -> int:
    """Write the report; where is said. `-` is standard output. Raises RunError, SpaceError."""
    from engine import cli

    if not options.run:
        raise RunError("Which run?", "None is named.", f"tunedeck export RUN --to {options.to} FILE")
    db = cli.opened(options)
    found = list({run["id"]: run for run in (runs.find(db, name) for name in options.run)}.values())
    ids = [run["id"] for run in found]
    text = html(db, ids) if options.to == "html" else markdown(db, ids)
    printed = str(options.target) == "-"
    if not printed:
        write(options.target.expanduser(), text, options.force)
    if options.json:
        what = {"text": text} if printed else {"file": str(options.target.expanduser().absolute())}
        cli.emit({"runs": ids, "to": options.to, **what})
    elif printed:
        sys.stdout.write(text)
    else:
        print(f"{options.target}: {len(text.encode()):,} bytes, of {' '.join(ids)}")
    return 0


def html(db: sqlite3.Connection, ids: list[str]) -> str:
    from engine.pages.comparison_page import comparison_page
    from engine.pages.run_page import run_page

    return run_page(db, ids[0]) if len(ids) == 1 else comparison_page(db, ids)


def markdown(db: sqlite3.Connection, ids: list[str]) -> str:
    from engine import card, dossier
    from engine.compare import compare

    if len(ids) > 1:
        return card.compared(compare(db, ids))
    return card.card(dossier.read(db, ids[0]), metrics.sparks(db, ids, width=30).get(ids[0], ()))


def write(path: Path, text: str, force: bool) -> None:
    """The whole file, or what was there before. Raises SpaceError for one that is there, unless `force`."""
    if path.exists() and (not force or not path.is_file()):
        hint = "Name another, or give --force." if path.is_file() else "Name a file."
        raise SpaceError("The file is there already", f"{path} exists.", hint)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, unfinished = tempfile.mkstemp(dir=path.parent, prefix=".report-")
        try:
            with os.fdopen(handle, "w", encoding="utf-8", errors="replace") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(unfinished, path)
        except BaseException:
            os.unlink(unfinished)
            raise
    except OSError as error:
        raise SpaceError("The report cannot be written", f"{path}: {error.strerror}.", "Name another place.") from None
