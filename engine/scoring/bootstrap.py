"""The paired bootstrap: is a difference more than the chance of which rows were held out?

Rows are drawn with replacement, the same ones for both models (Koehn 2004, "Statistical significance tests for machine
translation evaluation"; Efron and Tibshirani 1993). The interval is the percentile one with Hesterberg's correction for few
rows ("What teachers should know about the bootstrap", 2015): plain percentiles of 8 rows hold the truth in 88 of 100 cases.
"""

import functools
import math
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import Any, NamedTuple, TypeGuard

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Estimate = Callable[[Array], Array]
"""Sums over rows, (..., statistics), to a score, (...)."""
RESAMPLES = 2000
FEW = 5
"""Rows up to which nothing is called a difference: five that all agree come by chance once in sixteen."""
SHARE = 0.95
CELLS = 4_000_000
"""Draws that are held at once."""
ROUNDING = 1e-9
"""A difference below this share of the values is none."""


class Difference(NamedTuple):
    """Scores of both over all rows, tuned minus base, and the interval that holds it with 95 %."""

    base: float
    tuned: float
    difference: float
    low: float
    high: float
    rows: int


def compare(
    base: Sequence[float | None], tuned: Sequence[float | None], higher_is_better: bool, seed: int = 0
) -> dict[str, Any]:
    """The means of a score of the same rows by two models, their difference (tuned minus base), its interval and a verdict.

    Rows where either has no finite value are left out. Raises ValueError where the lists differ in length.
    """
    pairs = [(a, b) for a, b in zip(base, tuned, strict=True) if finite(a) and finite(b)]
    columns = np.array(pairs, dtype=np.float64).reshape(-1, 2)
    ones = np.ones((len(pairs), 1))
    found = paired(np.hstack([columns[:, :1], ones]), np.hstack([columns[:, 1:], ones]), ratio, seed)
    return described(found, higher_is_better)


def finite(value: Any) -> TypeGuard[float]:
    """Whether it is a number that can be reckoned with."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def ratio(sums: Array) -> Array:
    """A weighted mean: the sum of the first statistic by that of the second."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(sums[..., 0] / sums[..., 1], dtype=np.float64)


def paired(base: Array, tuned: Array, estimate: Estimate, seed: int = 0) -> Difference:
    """The difference of an estimate from sums of statistics, (rows, statistics) of each model; NaN where it is not defined."""
    rows, kept = base.shape
    if not rows:
        return Difference(math.nan, math.nan, math.nan, math.nan, math.nan, 0)
    both = np.hstack([base, tuned])
    whole = both.sum(axis=0)
    a, b = float(estimate(whole[:kept])), float(estimate(whole[kept:]))
    sums = resampled(both, seed)
    with np.errstate(invalid="ignore"):
        low, high = interval(estimate(sums[:, kept:]) - estimate(sums[:, :kept]), rows)
    difference = b - a
    if finite(difference) and abs(difference) <= ROUNDING * max(abs(a), abs(b)):
        difference = 0.0
    return Difference(a, b, difference, low, high, rows)


def resampled(statistics: Array, seed: int) -> Array:
    """Sums of the statistics over RESAMPLES draws of as many rows, (resamples, statistics)."""
    rows = len(statistics)
    made = np.empty((RESAMPLES, statistics.shape[1]))
    step = max(1, min(RESAMPLES, CELLS // rows))
    for start in range(0, RESAMPLES, step):
        times = drawn(rows, min(step, RESAMPLES - start), start, seed)
        made[start : start + step] = times.astype(np.float64) @ statistics
    return made


@functools.lru_cache(maxsize=1)
def drawn(rows: int, count: int, start: int, seed: int) -> NDArray[np.int16]:
    """How often each row comes in each of `count` draws, (count, rows): kept, for every score of an evaluation needs the same."""
    rng = np.random.default_rng([abs(seed), start])
    places = rng.integers(0, rows, (count, rows)) + rows * np.arange(count)[:, None]
    return np.bincount(places.ravel(), minlength=count * rows).reshape(count, rows).astype(np.int16)


def interval(values: Array, rows: int) -> tuple[float, float]:
    """Where SHARE of the resampled values lie, widened for few rows."""
    known = values[np.isfinite(values)]
    if not len(known):
        return math.nan, math.nan
    out = tail(rows)
    low, high = np.quantile(known, [out, 1 - out])
    return float(low), float(high)


def tail(rows: int) -> float:
    """The share of the resampled values that is cut off at either end: 0.025 for many rows, less for few."""
    normal = NormalDist()
    z = normal.inv_cdf((1 + SHARE) / 2)
    if rows <= FEW:
        return (1 - SHARE) / 2
    # Student's t by its expansion round the normal quantile (Abramowitz and Stegun 26.7.5), good to 0.01 from 5 degrees on
    v = rows - 1
    t = z + (z**3 + z) / (4 * v) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
    return normal.cdf(-math.sqrt(rows / v) * t)


def described(found: Difference, higher_is_better: bool) -> dict[str, Any]:
    """As the summary has it; a value that is not defined is None."""
    return {name: value if finite(value) else None for name, value in found._asdict().items()} | {
        "higher_is_better": higher_is_better,
        "verdict": verdict(found, higher_is_better),
    }


def verdict(found: Difference, higher_is_better: bool) -> str:
    """`noise` where the interval holds 0, or there are too few rows to say."""
    if found.rows <= FEW or not found.difference or not (found.low > 0 or found.high < 0):
        return "noise"
    return "better" if (found.low > 0) == higher_is_better else "worse"
