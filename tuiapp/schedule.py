"""The learning rate over the steps of a run, as transformers' schedules make it: a pure function, to draw it beforehand.

Formulas as in transformers.optimization 5.23, with the defaults that the trainer gives them.
"""

import math

from engine.trainer_needs import POLYNOMIAL_END, warmup_steps
from tuiapp.snapshot import Points

DRAWN = (
    "linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup", "inverse_sqrt",
)  # fmt: skip
"""The others follow the evaluations, or arguments of their own."""
MOST_POINTS = 400


def rate_at(schedule: str, step: int, steps: int, warmup: int, rate: float) -> float:
    """The learning rate of step `step` (from 0) of `steps`. Raises ValueError for a schedule that is not in `DRAWN`."""
    if schedule not in DRAWN:
        raise ValueError(f"{schedule} is not known beforehand")
    if schedule == "constant":
        return rate
    if step < warmup:
        return rate * step / max(1, warmup)
    done = (step - warmup) / max(1, steps - warmup)
    if schedule == "constant_with_warmup":
        return rate
    if schedule == "inverse_sqrt":
        scale = warmup or 10_000
        return rate / math.sqrt((step + scale - warmup) / scale)
    if schedule == "polynomial":
        return (rate - POLYNOMIAL_END) * (1 - done) + POLYNOMIAL_END
    if schedule == "linear":
        return rate * max(0.0, 1 - done)
    if schedule == "cosine_with_restarts" and done >= 1:  # with the one cycle that is usual
        return 0.0
    return rate * max(0.0, 0.5 * (1 + math.cos(math.pi * done)))


def curve(schedule: str, steps: int, warmup: float, rate: float) -> Points:
    """(step, learning rate) for the steps from 1 on, at most `MOST_POINTS`; empty where it is not known beforehand."""
    if schedule not in DRAWN or steps < 1:
        return ()
    first = warmup_steps(warmup, steps)
    shown = {round(i * (steps - 1) / MOST_POINTS) for i in range(MOST_POINTS + 1)} | {min(first, steps - 1)}
    return tuple((step + 1.0, rate_at(schedule, step, steps, first, rate)) for step in sorted(shown))
