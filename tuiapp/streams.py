"""The curves of a run, read once and then only where they went on: a long run is looked at every second."""

import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from engine.health import Finding
from engine.store import metrics, records
from engine.store.connection import Connection
from tuiapp.snapshot import Points

Row = tuple[int, float, float]
"""step, unix seconds, value"""

MOST = 20_000
"""Points of one curve that are kept at hand; of more only those that can be seen."""
MOMENTS = 600
"""Samples of the cards that are kept at hand; of twice as many every second one goes."""
HEALTH_SECONDS = 5.0
PATIENCE = 0.5
"""Seconds after which the curves that are not read yet wait for the next look."""
SKIPPED = ("eval_runtime", "eval_samples_per_second", "eval_steps_per_second", "eval_num_tokens", "memory_reserved_gib")
"""What no chart shows."""
FIRST = ("loss", "eval_loss", "num_tokens", "learning_rate", "grad_norm", "tokens_per_second")


@dataclass
class Curve:
    """What was read of one curve. `stored`: how many points the database has of it."""

    rows: list[Row]
    stored: int
    attempt: int
    step: int
    """The last step of this attempt that is here."""
    points: Points = ()

    def __post_init__(self) -> None:
        self.points = _points(self.rows)

    def add(self, new: Sequence[Row]) -> None:
        """Points that came since; a step that came again counts as it came last."""
        if self.rows and new[0][0] <= self.rows[-1][0]:
            merged = {row[0]: row for row in (*self.rows, *new)}
            self.stored += len(merged) - len(self.rows)
            self.rows = [merged[step] for step in sorted(merged)]
            self.points = _points(self.rows)
        else:
            self.stored += len(new)
            self.rows += new
            self.points += _points(new)
        self.step = new[-1][0]
        if len(self.rows) > 2 * MOST:
            self.rows = thin(self.rows, MOST)
            self.points = _points(self.rows)


@dataclass
class Streams:
    """The curves of one run and the moments of its cards, as far as they are read."""

    run_id: str
    curves: dict[str, Curve] = field(default_factory=dict)
    moments: list[records.Moment] = field(default_factory=list)
    complete: bool = False
    """Whether there was time to read everything."""
    _worked: tuple[object, Points] = (None, ())
    _health: tuple[object, float, tuple[Finding, ...]] = (None, 0.0, ())

    def read(self, db: Connection, attempt: int) -> None:
        """Read what is new. With a new attempt everything is read again: it may say of a step what is now true of it."""
        began = time.monotonic()
        self.complete = True
        names = [key for key in metrics.keys(db, self.run_id) if not key.startswith("train_") and key not in SKIPPED]
        names.sort(key=lambda key: FIRST.index(key) if key in FIRST else len(FIRST))
        for key in names:
            curve = self.curves.get(key)
            if curve is not None and curve.attempt == attempt:
                if new := metrics.since(db, self.run_id, key, attempt, curve.step):
                    curve.add(new)
            elif time.monotonic() - began < PATIENCE:
                rows, stored = metrics.thinned(db, self.run_id, key, MOST)
                last = metrics.last_step(db, self.run_id, key, attempt)
                self.curves[key] = Curve(rows, stored, attempt, last)
            else:
                self.complete = False
        self.moments += records.gpu_moments(db, self.run_id, self.moments[-1][0] if self.moments else 0.0, MOMENTS)
        if len(self.moments) > 2 * MOMENTS:
            self.moments = records.gpu_moments(db, self.run_id, most=MOMENTS)

    def worked(self, began: float, pauses: Sequence[tuple[float, float]]) -> Points:
        """(step, seconds of work since `began`) of the points of the loss; only new ones are reckoned."""
        rows, key = self.rows("loss"), (began, tuple(pauses))
        known = self._worked[1] if self._worked[0] == key else ()
        if known and (len(rows) < len(known) or rows[len(known) - 1][0] != known[-1][0]):
            known = ()
        worked = clock(began, pauses)
        points = known + tuple([(float(step), worked(time)) for step, time, _ in rows[len(known) :]])
        self._worked = key, points
        return points

    def health(self, status: str, look: Callable[[], tuple[Finding, ...]]) -> tuple[Finding, ...]:
        """What the rules say; they look at whole curves, so every few seconds is enough, and where the run's state changed."""
        known, at, found = self._health
        if known != status or time.monotonic() - at >= HEALTH_SECONDS:
            found = look()
            self._health = status, time.monotonic(), found
        return found

    def rows(self, key: str) -> list[Row]:
        """The points of a curve with their times; none if there is no such curve."""
        return self.curves[key].rows if key in self.curves else []


def _points(rows: Sequence[Row]) -> Points:
    return tuple([(float(step), value if math.isfinite(value) else math.nan) for step, _, value in rows])


def thin(rows: Sequence[Row], most: int) -> list[Row]:
    """About `most` of them: of equal parts the first, the least, the greatest and those that are not finite."""
    if len(rows) <= most:
        return list(rows)
    size = math.ceil(len(rows) * 2 / most)
    kept: list[Row] = []
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        finite = [row for row in part if math.isfinite(row[2])]
        chosen = [row for row in part if not math.isfinite(row[2])]
        if finite:
            chosen += [min(finite, key=lambda row: row[2]), max(finite, key=lambda row: row[2])]
        kept += sorted(set(chosen))
    ends = {rows[0], rows[-1]} - set(kept)
    return sorted([*kept, *ends]) if ends else kept


def clock(began: float, pauses: Sequence[tuple[float, float]]) -> Callable[[float], float]:
    """From a moment to the seconds of work that lie between it and `began`: what lay idle between attempts is left out."""

    def worked(moment: float) -> float:
        idle = sum(min(end, moment) - start for start, end in pauses if start < moment)
        return max(0.0, moment - began - idle)

    return worked


def gpu_curves(moments: Sequence[records.Moment], worked: Callable[[float], float]) -> Mapping[str, Points]:
    """By `gpu_memory`, `gpu_utilization`, `gpu_power`, `gpu_temperature`: (seconds of work, value); what no card told is left out."""
    names = ("gpu_memory", "gpu_utilization", "gpu_power", "gpu_temperature")
    times = [worked(moment[0]) for moment in moments]
    found = {}
    for place, name in enumerate(names, 1):
        points = [
            (at, float(value)) for at, row in zip(times, moments, strict=True) if (value := row[place]) is not None
        ]
        if points:
            found[name] = tuple(_apart(points))
    return found


def _apart(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """With a gap where nothing was sampled for a while: no line is drawn over what nobody saw."""
    steps = sorted(b[0] - a[0] for a, b in itertools.pairwise(points))
    most = max(10.0, 5 * steps[len(steps) * 9 // 10]) if steps else 0.0
    result: list[tuple[float, float]] = points[:1]
    for before, after in itertools.pairwise(points):
        if after[0] - before[0] > most:
            result.append(((before[0] + after[0]) / 2, math.nan))
        result.append(after)
    return result
