"""Runs that ended while the app was open: what is worth a bell and a sentence."""

from collections.abc import Collection

from tuiapp import format as f
from tuiapp.glyphs import ACTIVE, state_glyph
from tuiapp.snapshot import RunLine, Snapshot
from tuiapp.widgets.head import elapsed

NAMED = 3
"""Runs that are named when several ended at once."""


def ended(old: Snapshot | None, new: Snapshot, asked: Collection[str] = ()) -> list[RunLine]:
    """Runs that were at work or waited in `old` and have ended in `new`, but for those that were `asked` to stop and did."""
    if old is None or old.runs is new.runs:
        return []
    same = set(map(id, old.runs))  # of ten thousand runs one or two are others than a second ago
    fresh = [run for run in new.runs if id(run) not in same and not is_open(run)]
    if not fresh:
        return []
    before = {run.id for run in old.runs if is_open(run)}
    return [run for run in fresh if run.id in before and not (run.status == "stopped" and run.id in asked)]


def is_open(run: RunLine) -> bool:
    """Whether it has not ended."""
    return run.status == "queued" or run.status in ACTIVE


def sentence(runs: list[RunLine], now: float) -> str:
    """What is said of them, in one line."""
    if len(runs) > 1:
        names = ", ".join(f"{state_glyph(run.status)} {run.name}" for run in runs[:NAMED])
        return f"{len(runs)} runs ended: {names}{' …' if len(runs) > NAMED else ''}"
    run = runs[0]
    took = elapsed(run, now)
    words = f"{state_glyph(run.status)} {run.name} {run.status}" + (f" after {f.duration(took)}" if took else "")
    good = run.status == "finished" and run.best_eval is not None
    return f"{words}, best eval {f.number(run.best_eval)}" if good else words
