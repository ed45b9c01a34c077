"""What a noisy curve says: levels, noise, spikes, whether it fell. Pure functions; one odd batch moves none of them much."""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

from engine.health import WINDOW, spike

TRIM = 0.1
"""Share of odd values that are left out of a level and of the noise."""
WIDER = 1.27
"""Standard deviation of a normal distribution over the root mean square of the nine tenths nearest to its middle."""
MEGABATCH = 50
"""Steps after which rows grouped by length begin anew with the longest (transformers' get_length_grouped_indices): in between
the loss drifts, as short rows have a higher one."""
APART = 5
"""Steps within which raised losses are one spike."""
LASTS = 0.3
"""Share of a spike's height at which the next loss still is, for the spike to be more than a batch of odd rows."""


def middle(numbers: Sequence[float]) -> float:
    """The median; the higher one of two. At least one number."""
    return sorted(numbers)[len(numbers) // 2]


def quantile(numbers: Sequence[float], share: float) -> float:
    ranked = sorted(numbers)
    return ranked[min(len(ranked) - 1, int(share * len(ranked)))]


def level(numbers: Sequence[float]) -> float:
    """The mean of the middle eight tenths, of two kinds of batches as true as of one; the median of fewer than five."""
    ranked, cut = sorted(numbers), int(TRIM * len(numbers))
    return middle(numbers) if len(ranked) < 5 else sum(ranked[cut : len(ranked) - cut]) / (len(ranked) - 2 * cut)


def noise(numbers: Sequence[float]) -> float:
    """Standard deviation of the noise, from the differences of neighbours, which a trend hardly moves, the largest left out."""
    steps = sorted(abs(b - a) for a, b in itertools.pairwise(numbers))
    kept = steps[: max(1, math.ceil((1 - TRIM) * len(steps)))]
    return WIDER * math.hypot(*kept) / math.sqrt(2 * len(kept)) if kept else 0.0


class Change(NamedTuple):
    """Two levels of a curve, and the standard error of their difference."""

    before: float
    after: float
    error: float

    @property
    def rise(self) -> float:
        """As a share of the level before."""
        return (self.after - self.before) / max(abs(self.before), 1e-9)

    @property
    def certain(self) -> float:
        """The rise in standard errors."""
        return (self.after - self.before) / max(self.error, 1e-9)


def change(before: Sequence[float], after: Sequence[float]) -> Change:
    """From one stretch of a curve to another. A stretch that is too short to know its noise has the other's."""
    own = [noise(part) if len(part) > 4 else math.inf for part in (before, after)]
    least = min(own)
    first, second = (least if math.isinf(one) else one for one in own)
    error = math.hypot(first / math.sqrt(len(before)), second / math.sqrt(len(after)))
    return Change(level(before), level(after), error)


def thirds(losses: Sequence[float]) -> Change:
    """From the first third to the last."""
    size = max(1, len(losses) // 3)
    return change(losses[:size], losses[-size:])


def from_the_start(losses: Sequence[float]) -> Change:
    """From the very first steps to the last third; of beginnings of several lengths the one that differs most plainly."""
    last = losses[-max(1, len(losses) // 3) :]
    return min(
        (change(losses[:size], last) for size in (3, 10, 30) if size == 3 or 3 * size <= len(losses)),
        key=lambda c: c.certain,
    )


def from_the_best(losses: Sequence[float], window: int) -> Change:
    """From the lowest level so far (of windows of that length, or of the very first steps) to the last level."""
    last = losses[-window:]
    stride = max(1, window // 2, len(losses) // 200)
    parts = [losses[i : i + window] for i in range(0, len(losses) - 2 * window + 1, stride)]
    best = min([losses[:3], *parts], key=level)
    return change(best, last)


def spikes(losses: Sequence[float], deviations: float) -> list[int]:
    """Indices at which the loss jumps by so many deviations of those before it (`engine.health.spike`) and is still up a step later.

    A batch of odd rows stands out for one step; steps that were too large have done harm, and the loss needs several to come
    back. Only what stands out in a stretch of a hundred is looked at closely: 10,000 values take milliseconds so.
    """
    found = []
    for start in range(0, len(losses), WINDOW):
        near = losses[max(0, start - WINDOW) : start + WINDOW]
        center = middle(near)
        bound = center + 4 * middle([abs(one - center) for one in near])
        found += [start + i for i, one in enumerate(losses[start : start + WINDOW]) if one > bound]
    first: list[int] = []
    for i in found:
        if i + 1 < len(losses) and _harmed(losses[max(0, i - WINDOW) : i], losses[i], losses[i + 1], deviations):
            first += [i] if not first or i - first[-1] > APART else []
    return first


def _harmed(before: Sequence[float], value: float, after: float, deviations: float) -> bool:
    if (spike(before, value) or 0.0) < deviations:
        return False
    center = middle(before)
    # the tenth of the batches that is highest anyway may be of another kind
    return value - center > 2 * (quantile(before, 0.9) - center) and after - center > LASTS * (value - center)
