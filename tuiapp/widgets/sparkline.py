"""A curve in one line of text."""

import math
from collections.abc import Sequence
from itertools import pairwise

from tuiapp.format import DASH
from tuiapp.glyphs import SPARK


def thin(values: Sequence[float], width: int) -> list[float]:
    """At most `width` values: the mean of each equal part."""
    if len(values) <= width:
        return list(values)
    edges = [round(i * len(values) / width) for i in range(width + 1)]
    parts = [values[a:b] for a, b in pairwise(edges)]
    return [sum(part) / len(part) for part in parts]


def sparkline(values: Sequence[float], width: int, zero: bool = False) -> str:
    """The values from left to right, at most `width` cells; rates and memory start at `zero`."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite or width <= 0:
        return DASH if width > 0 else ""
    points = thin(finite, width)
    low = 0.0 if zero else min(points)
    half = max(points) / 2 - low / 2  # halves, as the difference of two large values may overflow
    if half <= 0:
        return (SPARK[-1] if zero and points[0] > 0 else SPARK[0]) * len(points)
    top = len(SPARK) - 1
    shares = (max(0.0, min(1.0, (value / 2 - low / 2) / half)) for value in points)
    return "".join(SPARK[round(share * top)] for share in shares)
