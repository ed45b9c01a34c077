"""Reads what the screen that compares runs shows; what cannot have changed is read once."""

from dataclasses import dataclass, field
from pathlib import Path

from engine import lineage
from engine.compare import compare
from engine.compare_curves import Curve, Ticks, curve, ticks
from engine.compared import ComparedRun, Comparison
from engine.store import comparing
from engine.store.connection import Connection
from tuiapp.compare_values import ComparePage, CompareQuestion

KEPT = 240
"""Curves that are kept at hand."""


@dataclass
class Desk:
    """The comparison that is looked at, and what was read of it. One question at a time."""

    _asked: tuple[object, ...] = ()
    _comparison: Comparison | None = None
    _lineage: tuple[lineage.Line, ...] = ()
    _curves: dict[tuple[str, str], tuple[object, Curve]] = field(default_factory=dict)
    _ticks: dict[str, tuple[object, Ticks]] = field(default_factory=dict)

    def page(self, db: Connection, asked: CompareQuestion) -> ComparePage:
        """Everything that is asked for. Raises RunError if none of the runs is there."""
        if self._comparison is None or self._asked != (asked.ids, asked.version):
            self._comparison = compare(db, asked.ids)
            if self._asked[:1] != (asked.ids,):
                self._lineage = _lineage(db, asked.ids)
            self._asked = asked.ids, asked.version
        c = self._comparison
        key = (
            asked.key if asked.key in c.metrics else (c.metric if c.metric in c.metrics else next(iter(c.metrics), ""))
        )
        runs = [run for run in c.runs if run.id in asked.drawn]
        curves = {run.id: self._curve(db, run, key, asked.version) for run in runs} if key else {}
        known = {run.id: self._tick(db, run, asked.version) for run in runs}
        while len(self._curves) > KEPT:
            self._curves.pop(next(iter(self._curves)))
        return ComparePage(asked, c, key, curves, known, self._lineage)

    def _curve(self, db: Connection, run: ComparedRun, key: str, version: object) -> Curve:
        state = _state(run, version)
        before = self._curves.pop((run.id, key), None)
        made = before if before is not None and before[0] == state else (state, curve(db, run.id, key))
        self._curves[run.id, key] = made
        return made[1]

    def _tick(self, db: Connection, run: ComparedRun, version: object) -> Ticks:
        state = _state(run, version)
        if run.id not in self._ticks or self._ticks[run.id][0] != state:
            self._ticks[run.id] = state, ticks(db, run.id)
        return self._ticks[run.id][1]


def _state(run: ComparedRun, version: object) -> object:
    """What has to be as it was for a curve to be as it was: of a run that has ended, that it has."""
    return version if run.active else (run.status, run.ended_at)


def _lineage(db: Connection, ids: tuple[str, ...]) -> tuple[lineage.Line, ...]:
    """The trees of those of the runs that are related to one another or to something else."""
    trees = [tree for tree in lineage.of(db, ids) if tree.children or tree.attempts]
    return tuple(line for tree in trees for line in lineage.lines(tree))


def export(db: Connection, ids: tuple[str, ...], form: str) -> str:
    """Write a report of the runs (html, markdown), or every point of them (csv, jsonl, parquet), to a new file; its path.

    Raises SpaceError, RunError.
    """
    from engine import cli_report, points_out

    rows = comparing.rows(db, ids)
    suffix = {"markdown": "md"}.get(form, form)
    target = free_name(Path.cwd() / "-".join(["compare", *ids[:3]]), suffix)
    if form in points_out.FORMATS:
        points_out.write(db, points_out.table(db, [(row["id"], row["name"]) for row in rows]), form, target)
    else:
        text = cli_report.html(db, list(ids)) if form == "html" else cli_report.markdown(db, list(ids))
        cli_report.write(target, text, False)
    return str(target)


def free_name(path: Path, suffix: str) -> Path:
    """`path` with the suffix, numbered if there is such a file already."""
    names = (path.with_name(f"{path.name}{number}.{suffix}") for number in ["", *(f"-{i}" for i in range(2, 1000))])
    return next(name for name in names if not name.exists())
