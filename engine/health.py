"""What is wrong with a run, from its metric streams. Pure functions."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from operator import itemgetter
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


Point = tuple[int, float, float]
"""step, time in seconds, value"""


@dataclass(frozen=True)
class GpuMoment:
    """One second of one card: GiB in use, percent of the time that something ran, °C, and why its clock is held back."""

    time: float
    used: float | None = None
    utilization: float | None = None
    temperature: float | None = None
    throttle: str = ""


@dataclass(frozen=True)
class Streams:
    """What is known of a run. Each part may be missing: then what needs it is not looked at."""

    curves: Mapping[str, Sequence[Point]] = field(default_factory=dict)
    """By metric name. Values need not be finite."""
    spec: Mapping[str, Any] = field(default_factory=dict)
    """The specification, flattened: `training.learning_rate` to its value."""
    step: int = 0
    total: int | None = None
    """Steps that the run will have."""
    epochs: float | None = None
    """Epochs that all the steps are."""
    ended: bool = False
    failed: str = ""
    """The kind of its failure, as in `engine.events.Failed`."""
    parameters: int | None = None
    rows: int | None = None
    """Rows that are trained on."""
    cuda: bool = False
    memory_total: float | None = None
    """GiB of the card, as torch sees it."""
    memory_used: float | None = None
    """The most that NVML saw in use on a card, GiB."""
    gpu: Sequence[GpuMoment] = ()
    planned: Mapping[str, float] = field(default_factory=dict)
    """GiB by component, as the plan predicted them."""
    usual_speeds: Sequence[float] = ()
    """Tokens a second of earlier runs on this machine with this model, method and batch."""

    def points(self, key: str) -> Sequence[Point]:
        """A curve in order of step."""
        return self._once(("points", key), lambda: sorted(self.curves.get(key, ()), key=itemgetter(0)))

    def values(self, key: str) -> Sequence[float]:
        """A curve's finite values in order of step."""
        return self._once(("values", key), lambda: [p[2] for p in self.points(key) if math.isfinite(p[2])])

    def _once(self, name: tuple[str, str], make: Callable[[], list[Any]]) -> list[Any]:
        """Several rules ask for the same, and a curve may have thousands of points."""
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]

    @cached_property
    def _made(self) -> dict[tuple[str, str], list[Any]]:
        return {}


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


def diagnose(streams: Streams) -> list[Finding]:
    """What is wrong, the worst first; then what was looked at and is well, and what could not be looked at.

    One finding for one cause. Silent about what there is not enough evidence for. Never raises for odd numbers.
    Empty where nothing was recorded yet.
    """
    if not any(streams.curves.values()):
        return []
    # the app's first paint needs Finding only
    from engine.health_learning import learning
    from engine.health_machine import machine

    order = ("warning", "note", "ok", "n/a")
    return sorted([*learning(streams), *machine(streams)], key=lambda one: order.index(one.severity))


WELL = {"loss": "loss falls", "over_fitting": "eval follows", "gradient": "gradients calm", "waiting": "never waited for data",
        "forgetting": "nothing forgotten", "throttling": "no throttling", "padding": "little padding"}  # fmt: skip


def all_well(findings: Sequence[Finding]) -> str:
    """What is well, in one line: `loss falls, eval follows, gradients calm, never waited for data`; "" if nothing is."""
    known = {one.kind for one in findings if one.severity == "ok"}
    return ", ".join(text for kind, text in WELL.items() if kind in known)
