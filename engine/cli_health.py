"""`tunedeck health`: what is wrong with a run, how that is known, and what helps."""

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from engine.diagnose import findings
from engine.health import Finding
from engine.store import runs
from engine.text import clean

Verb = Callable[..., argparse.ArgumentParser]
GLYPHS = {"warning": "!", "note": "·", "ok": "✓", "n/a": "–"}


def add_verb(verb: Verb) -> None:
    """Add it to the parser."""
    parser = verb("health", health, "what is wrong with a run, how that is known, and what helps; also while it runs")
    parser.add_argument("run", metavar="RUN", help="id, unique beginning of one, or name")


def health(options: argparse.Namespace) -> int:
    from engine import cli

    db = cli.opened(options)
    run = runs.find(db, options.run)
    found = findings(db, run["id"])
    if options.json:
        cli.emit({"id": run["id"], "name": run["name"], "status": run["status"], "findings": as_json(found)})
    else:
        print("\n".join(lines(found, run["id"])))
    return 0


def as_json(found: Sequence[Finding]) -> list[dict[str, Any]]:
    """`changes` as a mapping, as `tunedeck fork --set` would take them."""
    return [vars(one) | {"changes": dict(one.changes)} for one in found]


def lines(found: Sequence[Finding], run_id: str) -> list[str]:
    """A line for each; what is wrong with its evidence, its remedy and the command that starts a run with it."""
    rows = []
    for one in found:
        rows.append(f"{GLYPHS[one.severity]} {one.severity:<8} {clean(one.text, False)}")
        if one.severity in ("warning", "note"):
            rows += [f"{'':11}{clean(more, False)}" for more in (one.evidence, one.remedy) if more]
        if one.changes:
            sets = " ".join(f"--set {path}={str(value).lower()}" for path, value in one.changes)
            rows.append(f"{'':11}tunedeck fork {run_id} {sets}")
    return rows or ["Nothing was recorded that could be looked at."]
