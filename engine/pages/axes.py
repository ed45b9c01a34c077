"""Axes of a chart: where they begin and end, their ticks, and what stands at them. Pure functions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

LARGEST = 4e307
"""Beyond it a difference of two numbers is no number."""
TINY = 1e-300
"""Below it a share of a number may be none."""
WIDE = 30.0
"""From so many times the least value to the greatest on, all above zero, an axis is logarithmic."""


@dataclass(frozen=True)
class Axis:
    """`ticks` are (value, text). A place on it is a share of its length."""

    low: float
    high: float
    log: bool = False
    ticks: tuple[tuple[float, str], ...] = ()

    def place(self, value: float) -> float:
        """0 at the low end, 1 at the high one; what lies outside is put at the nearer end."""
        low, high = (math.log10(self.low), math.log10(self.high)) if self.log else (self.low, self.high)
        if self.log:
            value = math.log10(value) if value > 0 else low
        return min(1.0, max(0.0, (value - low) / (high - low)))


def vertical(values: Sequence[float], from_zero: bool = False, log: bool | None = None) -> Axis:
    """An axis of round numbers around finite values. `log` None: where they reach far, all above zero, and not from zero."""
    low, high = _ends(values)
    if from_zero:
        low, high = min(0.0, low), max(0.0, high)
    if log is None:
        log = not from_zero and low > TINY and high / low >= WIDE
    return _logarithmic(low, high) if log and low > TINY else _round(*_apart(low, high))


def horizontal(values: Sequence[float]) -> Axis:
    """An axis that begins and ends with the values, its ticks at whole steps."""
    low, high = _apart(*_ends(values))
    step = round_step((high - low) / 5)
    first = math.ceil(low / step)
    ticks = tuple((n * step, label(n * step, step)) for n in range(first, math.floor(high / step) + 1))
    return Axis(low, high, ticks=ticks)


def _ends(values: Sequence[float]) -> tuple[float, float]:
    finite = [min(LARGEST, max(-LARGEST, v)) for v in values if math.isfinite(v)]
    return (min(finite), max(finite)) if finite else (0.0, 1.0)


def _apart(low: float, high: float) -> tuple[float, float]:
    """Some room around a single value."""
    if high - low > max(1e-12 * max(abs(low), abs(high)), TINY):
        return low, high
    room = abs(low) / 10 if abs(low) > TINY else 1.0
    return low - room, high + room


def _round(low: float, high: float) -> Axis:
    step = round_step((high - low) / 4)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple((n * step, label(n * step, step)) for n in range(first, last + 1))
    return Axis(first * step, last * step, ticks=ticks)


def round_step(about: float) -> float:
    """The least of 1, 2, 5, 10, 20, ... that is no smaller; or of 0.1, 0.05, ..."""
    size = 10.0 ** math.floor(math.log10(about))
    return next(size * n for n in (1, 2, 5, 10) if size * n >= about * (1 - 1e-9))


def _logarithmic(low: float, high: float) -> Axis:
    """Ticks at 1, 2 and 5 of each decade, of many decades at their beginnings, of very many at some of those."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    all_ticks = [n * 10.0**power for power in range(first, last + 1) for n in (1, 2, 5)]
    below = max((t for t in all_ticks if t <= low), default=low)
    above = min((t for t in all_ticks if t >= high and t > below), default=high)
    shown = [t for t in all_ticks if below <= t <= above]
    if len(shown) > 8:
        every = math.ceil((last - first + 1) / 6)
        shown = [10.0**power for power in range(first, last + 1, every) if below <= 10.0**power <= above]
    return Axis(below, above, True, tuple((t, label(t, t)) for t in shown))


def label(value: float, step: float) -> str:
    """A tick as people write it, with the digits that the distance of the ticks needs: 1,000, 0.25, 2e-4, 1.5M."""
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1e15 or step < 0.001:
        return _power(value)
    for unit, name in ((1e9, "G"), (1e6, "M")):
        if size >= unit:
            return f"{value / unit:.6g}{name}"
    return f"{value:,.{max(0, -math.floor(math.log10(step) + 1e-9))}f}"


def _power(value: float) -> str:
    digits, power = f"{value:.2e}".split("e")
    return f"{digits.rstrip('0').rstrip('.')}e{int(power)}"
