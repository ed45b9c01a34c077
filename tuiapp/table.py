"""The rows of the table of runs, of which only those are read that can have changed: there may be ten thousand."""

import time
from dataclasses import replace
from typing import Any

from engine.store import metrics, runs
from engine.store.connection import Connection
from tuiapp.detail import run_line
from tuiapp.snapshot import RunLine

LINE_KEYS = ("loss", "eval_loss", "memory_allocated_gib", "tokens_per_second", "learning_rate")
MANY = 2000
"""From so many runs on those that have ended are looked at less often: somebody may have renamed or archived one."""
SCAN_SECONDS = 3.0
CURVES_AT_ONCE = 1000
"""Small curves that one look reads of runs that have ended; the next looks read the rest, the newest first."""

Curve = tuple[float, ...]


class Table:
    """Belongs to the one thread that collects."""

    def __init__(self) -> None:
        self._heads: list[runs.Head] = []
        self._pulse: tuple[Any, ...] = ()
        self._scanned = 0.0
        self._passed_over = False
        self._lines: dict[str, RunLine] = {}
        self._order: list[str] = []
        self._open: set[str] = set()
        """Runs at work, and those that have ended since the last look: what a run said last may come in after its end."""
        self._curves: dict[str, tuple[int, Curve]] = {}
        """By run, the step up to which its curve was read, and the curve."""
        self._grown: dict[str, int] = {}
        """The step up to which the curves of runs go that are not read yet."""

    @property
    def complete(self) -> bool:
        """Whether everything is read that there was at the last look."""
        return not self._grown and not self._passed_over

    def line(self, run_id: str | None) -> RunLine | None:
        """A run's row as it was read last."""
        return self._lines.get(run_id) if run_id is not None else None

    def read(self, db: Connection) -> tuple[RunLine, ...]:
        """All runs, the newest first."""
        heads = runs.heads(db) if self._is_time(runs.pulse(db)) else self._heads
        changed = self._changed(heads) if heads != self._heads else set[str]()
        self._heads = heads
        again, before = changed | self._open, self._open
        self._read_lines(db, None if len(again) > len(heads) // 2 else sorted(again))
        self._open = {one for one in again if one in self._lines and self._lines[one].status in runs.ACTIVE}
        self._open |= changed & before & self._lines.keys()
        if len(self._order) != len(self._lines) or changed - before:
            newest = sorted(self._lines.values(), key=lambda line: (line.created_at, line.id), reverse=True)
            self._order = [line.id for line in newest]
        self._read_curves(db)
        return tuple([self._lines[run_id] for run_id in self._order])

    def _is_time(self, pulse: tuple[Any, ...]) -> bool:
        """Whether all runs have to be looked at."""
        now = time.monotonic()
        if len(self._order) < MANY or pulse != self._pulse or now - self._scanned >= SCAN_SECONDS:
            self._pulse, self._scanned, self._passed_over = pulse, now, False
            return True
        self._passed_over = True
        return False

    def _changed(self, heads: list[runs.Head]) -> set[str]:
        """Runs that are new or have changed; those that are gone are forgotten."""
        changed = {head[0] for head in set(heads).difference(self._heads)}
        for run_id in self._lines.keys() - {head[0] for head in heads}:
            del self._lines[run_id]
            self._grown.pop(run_id, None)
        return changed

    def _read_lines(self, db: Connection, ids: list[str] | None) -> None:
        if ids == []:
            return
        for row in runs.lines(db, LINE_KEYS, ids):
            run_id, loss = row["id"], row["latest"].get("loss")
            step, curve = self._curves.get(run_id, (-1, ()))
            if loss is not None and loss["step"] != step:
                self._grown[run_id] = loss["step"]
            self._lines[run_id] = run_line(row, curve)

    def _read_curves(self, db: Connection) -> None:
        """Those that have grown; many at once only in parts, the newest runs first."""
        if not self._grown:
            return
        some = [run_id for run_id in self._order if run_id in self._grown][:CURVES_AT_ONCE]
        for run_id, curve in metrics.sparks(db, some).items():
            self._lines[run_id] = replace(self._lines[run_id], spark=curve)
            self._curves[run_id] = self._grown[run_id], curve
        for run_id in some:
            del self._grown[run_id]
