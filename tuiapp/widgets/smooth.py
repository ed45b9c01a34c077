"""The smoothed line over a noisy curve."""

import math

from tuiapp.snapshot import Points

LEVELS = (0.0, 0.6, 0.9, 0.97)


def ema(points: Points, weight: float) -> Points:
    """The exponential moving average with the bias of its start taken out; a gap stays a gap."""
    if weight <= 0:
        return points
    total, scale = 0.0, 0.0
    result: list[tuple[float, float]] = []
    for x, value in points:
        if math.isfinite(value):
            total = total * weight + value * (1 - weight)
            scale = scale * weight + (1 - weight)
            result.append((x, total / scale))
        else:
            result.append((x, value))
    return tuple(result)
