"""What the panes of a live screen draw, and along which axis: pure values and functions."""

import bisect
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from tuiapp import format as f
from tuiapp.snapshot import Points, RunDetail
from tuiapp.widgets.chart import round_step, time_step

T = TypeVar("T")


@dataclass(frozen=True)
class LiveState:
    """The run, and how the person wants to see it."""

    detail: RunDetail
    now: float
    view: str = "loss"
    log: bool = False
    smoothing: int = 0
    x: str = "step"
    prompt: int = 0
    """Which prompt's answers are shown, counted on beyond the last."""
    baseline: RunDetail | None = None
    charted: RunDetail | None = None
    """The run as the charts show it: they are drawn less often than the numbers."""
    made: dict[object, Any] | None = None
    """What was drawn of `charted`, to be drawn again as it is."""

    def once(self, key: object, make: Callable[[], T]) -> T:
        """What `make` makes, made once as long as the charts stay what they are."""
        if self.made is None:
            return make()
        if key not in self.made:
            self.made[key] = make()
        return cast("T", self.made[key])

    @property
    def drawn(self) -> RunDetail:
        """What charts and sparklines are made of."""
        return self.charted or self.detail


@dataclass(frozen=True)
class XAxis:
    """What a chart can go along: its name, its unit at the end of the axis, and how its numbers are written."""

    name: str
    unit: str
    text: Callable[[float], str]
    step: Callable[[float], float] = round_step


X_AXES = {
    "step": XAxis("step", "step", f.count),
    "tokens": XAxis("tokens", "tokens", f.short),
    "time": XAxis("time", "", f.duration, time_step),
    "epoch": XAxis("epoch", "epoch", lambda value: f"{value:.3g}"),
}


def clock(detail: RunDetail, axis: str) -> Points:
    """(step, what the axis counts) of a run, rising; empty for the steps themselves and for what is not known."""
    if axis == "tokens":
        return _rising(detail.curves.get("num_tokens", ()))
    if axis == "time":
        return detail.worked
    if axis == "epoch" and detail.epoch and detail.run.step:
        return ((float(detail.run.step), detail.epoch),)
    return ()


def x_axes(detail: RunDetail) -> list[str]:
    """The axes that this run knows."""
    known = {
        "step": True,
        "tokens": bool(detail.curves.get("num_tokens")),
        "time": bool(detail.worked),
        "epoch": bool(detail.epoch and detail.run.step),
    }
    return [name for name in X_AXES if known[name]]


def along(detail: RunDetail, points: Points, axis: str) -> Points:
    """Points of a curve with their steps as what the axis counts."""
    ticks = clock(detail, axis)
    if not ticks:
        return points
    ticks = ticks if ticks[0][0] <= 0 else ((0.0, 0.0), *ticks)
    steps = [tick[0] for tick in ticks]
    return tuple([(_at(step, ticks, steps), value) for step, value in points])


def _at(step: float, ticks: Points, steps: list[float]) -> float:
    """Between two ticks in proportion, and on from the last two after them."""
    if len(ticks) < 2:
        return ticks[0][1]
    place = min(max(1, bisect.bisect_left(steps, step)), len(ticks) - 1)
    (x0, y0), (x1, y1) = ticks[place - 1], ticks[place]
    return y0 + (y1 - y0) * (step - x0) / (x1 - x0) if x1 > x0 else y1


def x_end(detail: RunDetail, axis: str) -> float | None:
    """Where the axis ends: at the last step that the run will have; None where that is not known.

    What is not known before, tokens or seconds, is rounded up to two digits, so that the axis does not move at each step.
    """
    total, step = detail.run.total_steps, detail.run.step
    if not total:
        return None
    if axis == "step":
        return float(total)
    ticks = clock(detail, axis)
    if not ticks or not step:
        return None
    last, value = ticks[-1]
    if detail.run.ended_at is not None or last <= 0:
        return value
    end = value * total / last
    return end if axis == "epoch" else _up(end)


def _up(value: float) -> float:
    if value <= 0 or not math.isfinite(value):
        return value
    unit: float = 10.0 ** (math.floor(math.log10(value)) - 1)
    return math.ceil(value / unit - 1e-9) * unit


def _rising(points: Points) -> Points:
    """A count that began anew when the run was resumed goes on instead."""
    if all(a[1] <= b[1] for a, b in itertools.pairwise(points)):
        return points
    result, before, base = [], 0.0, 0.0
    for step, value in points:
        if not math.isfinite(value):
            continue
        base += before if value < before else 0.0
        before = value
        result.append((step, base + value))
    return tuple(result)
