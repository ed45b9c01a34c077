"""The learning rate of a run, the one that is usual for it, and the changes that lower or raise it. Pure functions."""

import math
from typing import Any

from engine.health import Streams
from engine.planner import rules

Changes = tuple[tuple[str, Any], ...]

FAR, FAR_HIGHER = 10, 5
"""Times that a learning rate may differ from the usual one (engine.planner.rules) before the difference explains something."""


def usual_rate(s: Streams) -> float | None:
    """The learning rate that the planner would choose; None for a method that it does not know."""
    kind, objective = s.spec.get("method.kind"), s.spec.get("objective")
    if not isinstance(kind, str):
        return None
    return float(rules.objective_learning_rate(objective, kind, s.parameters or 10**9, s.rows or 5000).value)


def rate(s: Streams) -> float | None:
    """The highest learning rate so far; that of the specification before any was reported."""
    seen = s.values("learning_rate")
    given = s.spec.get("training.learning_rate")
    return max(seen) if seen else float(given) if isinstance(given, int | float) else None


def two_digits(value: float) -> float:
    return float(f"{value:.2g}")


def lower_rate(s: Streams) -> tuple[str, Changes]:
    """What to say and to change where the steps are too large: the usual rate if that is lower, else a third."""
    now, usual = rate(s), usual_rate(s)
    if not now or not math.isfinite(now):
        return "Lower training.learning_rate.", ()
    value = two_digits(usual if usual and usual < now / 2 else now / 3)
    if not 0 < value < 1:
        return "Look at training.learning_rate.", ()
    return f"Lower the learning rate from {now:.2g} to {value:g}.", (("training.learning_rate", value),)
