"""`tunedeck fork`: a run like one that there is."""

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

from engine import launch, short
from engine.command_line import differences
from engine.elsewhere import refuse_imported
from engine.errors import TuneDeckError
from engine.spec import RunSpec, apply_sets, parse
from engine.store import runs
from engine.text import clean

Verb = Callable[..., argparse.ArgumentParser]
SAME = "nothing is changed: the same data and settings and the same seed give the same run again"


def add_verb(verb: Verb) -> None:
    """Add it to the parser."""
    fork_ = verb("fork", fork, "start a run like this one, with other settings, and follow it")
    fork_.add_argument("run", metavar="RUN", help="id, unique beginning of one, or name")
    fork_.add_argument(
        "--set", dest="sets", action="append", default=[], metavar="a.b=c", help="what is to be different"
    )
    fork_.add_argument("--name", help="its name; else its parent's with a number behind it")
    fork_.add_argument("--anyway", action="store_true", help="start even if the planner says that it does not fit")
    fork_.add_argument("--queue", action="store_true", help="on the CPU too, wait until no other run trains there")
    fork_.add_argument("--detach", action="store_true", help="return at once; the run goes on")


def forked(run: runs.Row, sets: list[str], name: str | None = None) -> RunSpec:
    """The specification of a run with other settings, named after it. Raises SpecError."""
    refuse_imported(run, "forked")
    raw: dict[str, Any] = run["spec"]
    fresh = {**raw, "run": {**raw["run"], "name": run["name"], "parent": run["id"]}}
    named = [f"run.name={json.dumps(name, ensure_ascii=False)}"] if name else []
    return parse(apply_sets(fresh, [*sets, *named]))


def changed(spec: RunSpec, parent: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What differs from the parent's specification, by path (before, after); not whose it is."""
    try:
        base = parse(parent["spec"])
    except TuneDeckError:  # a specification of another version
        return {}
    return {path: pair for path, pair in differences(spec, base).items() if not path.startswith("run.")}


def fork(options: argparse.Namespace) -> int:
    from engine import cli

    run = runs.find(cli.opened(options), options.run)
    path = cli.database(options)
    prepared = launch.prepare(
        forked(run, options.sets, options.name), options.anyway, cli.past_runs(path),
        goal=(run["plan"] or {}).get("goal", "instructions"),
    )  # fmt: skip
    run_id = launch.create(path, prepared, options.queue)
    found = changed(prepared.spec, run)
    words = ", ".join(short.change(name, before, after) for name, (before, after) in found.items()) or SAME
    print(f"fork of {clean(run['name'], False)}: {words}", file=sys.stderr if options.json else sys.stdout, flush=True)
    return cli.follow(path, run_id, options)
