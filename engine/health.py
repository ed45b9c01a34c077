"""What is wrong with a run, from its metric streams. Pure functions."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

WINDOW, ENOUGH = 50, 20
SPIKE = 6.0
"""Deviations above which a loss is a spike, as OLMo-core has it (SkipStepOptimizer: 6 deviations, of the last 128 steps)."""
FLAT = 0.02
"""The least that counts as one deviation, as a share of the median: where the loss hardly moves, a hair is no spike."""
NOISE = 0.01
"""Evaluation losses that differ by less than this share say nothing about which model is better (a rule of thumb)."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at in a run: what it is, how that is known, and what helps."""

    kind: str
    """A name of the rule: flat, spiking, nonfinite, over_fitting, ..."""
    severity: Literal["warning", "note", "ok", "n/a"]
    text: str
    """A sentence of at most some 60 characters."""
    evidence: str = ""
    """The numbers behind it."""
    remedy: str = ""
    """What to do, in a sentence; empty where nothing has to be done."""
    changes: tuple[tuple[str, Any], ...] = ()
    """The remedy as fields of the specification by path, which a fork of the run would have."""


def spike(history: Sequence[float], value: float) -> float | None:
    """How many deviations `value` lies above the losses before it if that is a spike, else None.

    Median and median absolute deviation, which earlier spikes hardly move (Iglewicz and Hoaglin 1993), of the last
    WINDOW finite values; with fewer than ENOUGH of them nothing is said. A value that is not finite is no spike.
    """
    known = [v for v in history if math.isfinite(v)][-WINDOW:]
    if len(known) < ENOUGH or not math.isfinite(value):
        return None
    middle = statistics.median(known)
    spread = 1.4826 * statistics.median(abs(v - middle) for v in known)  # as the standard deviation of a normal
    deviations = (value - middle) / max(spread, FLAT * abs(middle), 1e-9)
    return deviations if deviations > SPIKE else None


def best_evaluation(evaluations: Sequence[tuple[int, float]]) -> tuple[int, float] | None:
    """(step, loss) of the lowest finite loss, the first of equals; None if there is none."""
    finite = [one for one in evaluations if math.isfinite(one[1])]
    return min(finite, key=lambda one: one[1]) if finite else None


def without_improvement(evaluations: Sequence[tuple[int, float]]) -> int:
    """How many evaluations in a row were no better than the best one before them. A loss that is not finite is no better."""
    best = best_evaluation(evaluations)
    return len(evaluations) if best is None else len(evaluations) - 1 - list(evaluations).index(best)


def better_before(evaluations: Sequence[tuple[int, float]]) -> tuple[int, float] | None:
    """(step, loss) of the best evaluation if the last one is worse by more than noise, else None."""
    best = best_evaluation(evaluations)
    if best is None:
        return None
    last = evaluations[-1][1]
    return best if not last <= best[1] + NOISE * abs(best[1]) else None
