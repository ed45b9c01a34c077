"""The rows of the table of runs, of which only those are read that can have changed: there may be ten thousand."""

import sys
import time
from dataclasses import replace
from typing import Any

from engine.store import metrics, runs
from engine.store.connection import Connection
from tuiapp.detail import run_line
from tuiapp.snapshot import RunLine

LINE_KEYS = ("loss", "loss.step", "eval_loss.best", "memory_allocated_gib.max", "tokens_per_second")
MANY = 2000
"""From so many runs on those that have ended are looked at less often: somebody may have renamed or archived one."""
SCAN_SECONDS = 3.0
CURVES_AT_FIRST, CURVES_AT_ONCE = 100, 1000
"""Small curves that the first look reads, and a later one; the next looks read the rest, the newest first."""

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
        self._held: dict[str, str] = {}
        """By run what its evaluation rows depend on; that never changes."""
        self._unheld: set[str] = set()
        """Runs of which that is not read yet."""
        self._touched: set[str] = set()
        self.put_away: tuple[RunLine, ...] = ()
        """The runs that are archived or in the bin, the newest first."""

    @property
    def complete(self) -> bool:
        """Whether everything is read that there was at the last look."""
        return not self._grown and not self._unheld and not self._passed_over

    @property
    def order(self) -> list[str]:
        """The ids of all runs, the newest first."""
        return self._order

    def take_touched(self) -> set[str]:
        """The runs that are new or were read again since this was asked last."""
        touched, self._touched = self._touched, set()
        return touched

    def rescan(self) -> None:
        """Look at all runs the next time: this program changed one."""
        self._scanned, self._passed_over = -SCAN_SECONDS, True

    def line(self, run_id: str | None) -> RunLine | None:
        """A run's row as it was read last."""
        return self._lines.get(run_id) if run_id is not None else None

    def read(self, db: Connection) -> tuple[RunLine, ...]:
        """All runs that are not put away, the newest first."""
        first = not self._order
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
        self._read_more(db, CURVES_AT_FIRST if first else CURVES_AT_ONCE)
        lines = [self._lines[run_id] for run_id in self._order]
        self.put_away = tuple([line for line in lines if line.is_put_away])
        return tuple([line for line in lines if not line.is_put_away] if self.put_away else lines)

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
            self._unheld.discard(run_id)
            self._touched.add(run_id)
        return changed

    def _read_lines(self, db: Connection, ids: list[str] | None) -> None:
        if ids == []:
            return
        for row in runs.lines(db, LINE_KEYS, ids):
            run_id, read_to = row["id"], row["loss.step"]
            step, curve = self._curves.get(run_id, (-1, ()))
            if read_to is not None and read_to != step:
                self._grown[run_id] = read_to
            if run_id not in self._held:
                self._unheld.add(run_id)
            self._lines[run_id] = run_line(row, curve, self._held.get(run_id, ""))
            self._touched.add(run_id)

    def _read_more(self, db: Connection, most: int) -> None:
        """The curves that have grown, and what new runs are evaluated on; many only in parts, the newest runs first."""
        if not self._grown and not self._unheld:
            return
        wanted = self._grown.keys() | self._unheld
        some = [run_id for run_id in self._order if run_id in wanted][:most]
        curves = metrics.sparks(db, [run_id for run_id in some if run_id in self._grown])
        held = runs.held_out(db, [run_id for run_id in some if run_id in self._unheld])
        for run_id in some:
            if run_id in self._unheld:
                text = held.get(run_id, "")
                self._held[run_id] = sys.intern(text)  # few different ones
            if run_id in curves:
                self._curves[run_id] = self._grown[run_id], curves[run_id]
            curve = self._curves[run_id][1] if run_id in self._curves else ()
            self._lines[run_id] = replace(self._lines[run_id], spark=curve, held=self._held[run_id])
            self._grown.pop(run_id, None)
            self._unheld.discard(run_id)
