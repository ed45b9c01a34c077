"""The curves of several runs along the same axis."""

import bisect
import math
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from engine.store import comparing, metrics, records

Axis = Literal["step", "tokens", "epoch", "time", "wall"]
AXES: tuple[Axis, ...] = ("step", "tokens", "epoch", "time", "wall")
"""Steps, tokens seen, epochs, seconds of work, unix seconds."""
Points = tuple[tuple[float, float], ...]
MOST = 2000
"""Points of a curve that are read: of more the least and the greatest of each stretch, and what is no number."""


@dataclass(frozen=True)
class Ticks:
    """What is needed to lay a run's curve along an axis. `tokens` are (step, tokens seen); `epoch` is at step `at`."""

    started_at: float | None
    pauses: tuple[tuple[float, float], ...] = ()
    tokens: Points = ()
    at: int = 0
    epoch: float | None = None


@dataclass(frozen=True)
class Curve:
    """(step, unix seconds, value) of a run's metric; of very many points those that have to be seen. `stored`: of how many."""

    run_id: str
    key: str
    points: tuple[tuple[int, float, float], ...]
    stored: int


def curve(db: sqlite3.Connection, run_id: str, key: str, most: int = MOST) -> Curve:
    """One curve; of what a card showed, `gpu_memory` and so on, by the seconds: its steps are 0."""
    place = {"gpu_memory": 1, "gpu_utilization": 2, "gpu_power": 3, "gpu_temperature": 4}.get(key)
    if place is None:
        points, stored = metrics.thinned(db, run_id, key, most)
        return Curve(run_id, key, tuple(points), stored)
    moments = [
        (0, row[0], float(value))
        for row in records.gpu_moments(db, run_id, most=most // 2)
        if (value := row[place]) is not None
    ]
    return Curve(run_id, key, tuple(moments), len(moments))


def ticks(db: sqlite3.Connection, run_id: str, most: int = MOST) -> Ticks:
    """How far a run was when; nothing is known of a run that is not there."""
    began, step, epoch = comparing.tempo(db, run_id)
    counted = rising(metrics.thinned(db, run_id, "num_tokens", most)[0])
    return Ticks(began, tuple(records.pauses(db, run_id)), counted, step or 0, epoch)


def known_axes(ticks: Sequence[Ticks]) -> tuple[Axis, ...]:
    """The axes that any of the runs can be laid along."""
    known = {
        "step": True,
        "tokens": any(one.tokens for one in ticks),
        "epoch": any(one.epoch and one.at for one in ticks),
        "time": any(one.started_at for one in ticks),
        "wall": any(one.started_at for one in ticks),
    }
    return tuple(axis for axis in AXES if known[axis])


def along(curve: Curve, ticks: Ticks, axis: Axis) -> Points:
    """(place on the axis, value) of a curve, in order; none where the run does not know the axis.

    What a card showed is known by the time alone: along the others there is nothing of it.
    """
    if axis == "wall":
        return tuple([(time, value) for _, time, value in curve.points])
    if axis == "time":
        worked = clock(ticks.started_at, ticks.pauses)
        return tuple([(worked(time), value) for _, time, value in curve.points]) if ticks.started_at else ()
    if curve.key.startswith("gpu_"):
        return ()
    if axis == "tokens":
        places = _places(ticks.tokens)
        return tuple([(places(step), value) for step, _, value in curve.points]) if ticks.tokens else ()
    share = 1.0 if axis == "step" else (ticks.epoch or 0.0) / ticks.at if ticks.at else 0.0
    return tuple([(step * share, value) for step, _, value in curve.points]) if share else ()


def clock(began: float | None, pauses: Sequence[tuple[float, float]]) -> Callable[[float], float]:
    """From a moment to the seconds of work that lie between it and `began`: what lay idle between attempts is left out."""
    start = began or 0.0

    def worked(moment: float) -> float:
        idle = sum(min(end, moment) - begin for begin, end in pauses if begin < moment)
        return max(0.0, moment - start - idle)

    return worked


def tokens_at(db: sqlite3.Connection, run_id: str, step: int, most: int = MOST) -> float | None:
    """Tokens that a run had seen at a step."""
    counted = rising(metrics.thinned(db, run_id, "num_tokens", most)[0])
    return at(float(step), counted) if counted else None


def rising(points: Sequence[tuple[int, float, float]]) -> Points:
    """(step, count) of a count that began anew when the run was resumed, going on instead."""
    result, before, base = [], 0.0, 0.0
    for step, _, value in points:
        if math.isfinite(value):
            base += before if value < before else 0.0
            before = value
            result.append((float(step), base + value))
    return tuple(result)


def at(step: float, known: Points) -> float:
    """Between two ticks in proportion, and on from the last two after them; before the first from nothing at step 0."""
    return _places(known)(step)


def _places(known: Points) -> Callable[[float], float]:
    """From a step to what was counted then. `known` are (step, count), rising."""
    counts = known if not known or known[0][0] <= 0 else ((0.0, 0.0), *known)
    steps = [step for step, _ in counts]

    def place(step: float) -> float:
        if len(counts) < 2:
            return counts[0][1]
        i = min(max(1, bisect.bisect_left(steps, step)), len(counts) - 1)
        (x0, y0), (x1, y1) = counts[i - 1], counts[i]
        return y0 + (y1 - y0) * (step - x0) / (x1 - x0) if x1 > x0 else y1

    return place
