"""`tunedeck fork`: a run like one that there is."""

import argparse
from collections.abc import Callable
from typing import Any

from engine import launch
from engine.spec import RunSpec, apply_sets, parse
from engine.store import runs

Verb = Callable[..., argparse.ArgumentParser]


def add_verb(verb: Verb) -> None:
    """Add it to the parser."""
    fork_ = verb("fork", fork, "start a run like this one, with other settings, and follow it")
    fork_.add_argument("run", metavar="RUN", help="id, unique beginning of one, or name")
    fork_.add_argument(
        "--set", dest="sets", action="append", default=[], metavar="a.b=c", help="what is to be different"
    )
    fork_.add_argument("--detach", action="store_true", help="return at once; the run goes on")


def forked(run: runs.Row, sets: list[str]) -> RunSpec:
    """The specification of a run with other settings, named after it. Raises SpecError."""
    raw: dict[str, Any] = run["spec"]
    fresh = {**raw, "run": {**raw["run"], "name": run["name"], "parent": run["id"]}}
    return parse(apply_sets(fresh, sets))


def fork(options: argparse.Namespace) -> int:
    from engine import cli

    run = runs.find(cli.opened(options), options.run)
    path = cli.database(options)
    prepared = launch.prepare(
        forked(run, options.sets), history=cli.past_runs(path), goal=(run["plan"] or {}).get("goal", "instructions")
    )
    return cli.follow(path, launch.create(path, prepared), options)
