"""`tunedeck diff` and `tunedeck compare`: runs side by side."""

import argparse
import dataclasses
import shutil
import sqlite3
import sys
from collections.abc import Callable
from typing import Any

from engine.compare import compare
from engine.compared import Comparison
from engine.errors import RunError
from engine.events import finite
from engine.report_compare import compare_page, diff_page
from engine.store import query, runs

Options = argparse.Namespace
Verb = Callable[..., argparse.ArgumentParser]
RUN_HELP = "id, unique beginning of one, or name"


def add_verbs(verb: Verb) -> None:
    """Add both to the parser."""
    diff_ = verb("diff", diff, "what differs between runs: settings, data, environment, code")
    compare_ = verb("compare", compare_runs, "runs side by side: what differs, what came of it, samples")
    compare_.add_argument("--metric", metavar="KEY", help="what decides which run is best (default: eval_loss)")
    for one in (diff_, compare_):
        one.add_argument("run", nargs="*", metavar="RUN", help=RUN_HELP)
        one.add_argument("--baseline", metavar="RUN", help="hold the others against this one (default: the first)")
        one.add_argument("--filter", metavar="Q", help="these runs too, as in: tunedeck runs --filter")
        one.add_argument("--all", action="store_true", help="parameters that are the same too")


def diff(options: Options) -> int:
    return _show(options, _compared(options, None), diff_page, ("runs", "settings", "notes"))


def compare_runs(options: Options) -> int:
    return _show(options, _compared(options, options.metric), compare_page, ())


def _compared(options: Options, metric: str | None) -> Comparison:
    """What was asked for. Raises RunError for fewer than two runs."""
    from engine import cli

    db = cli.opened(options)
    ids = [runs.find(db, name)["id"] for name in options.run]
    ids += query.select(db, options.filter) if options.filter else []
    baseline = runs.find(db, options.baseline)["id"] if options.baseline else None
    if len({*ids, *([baseline] if baseline else [])}) < 2:
        raise RunError("Name two runs or more", _found(db, ids), "List them: tunedeck runs")
    return compare(db, ids, baseline, metric)


def _found(db: sqlite3.Connection, ids: list[str]) -> str:
    return f"There is only {runs.find(db, ids[0])['name']} to compare." if ids else "There is none to compare."


def _show(options: Options, c: Comparison, page: Callable[..., str], parts: tuple[str, ...]) -> int:
    from engine import cli

    if options.json:
        cli.emit(as_json(c, parts))
    else:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        print(page(c, width, options.all))
    return 0


def as_json(c: Comparison, parts: tuple[str, ...] = ()) -> dict[str, Any]:
    """The comparison, or parts of it, as it is written with --json: lists stand in the order of the runs."""
    document: dict[str, Any] = finite(dataclasses.asdict(c))
    return {name: document[name] for name in parts} if parts else document
