"""What this machine's past runs teach about the next prediction: a factor and a band. Pure functions.

With r = measured / predicted over n runs of the same card and method (of the same card, where no run had the method):

    factor = median(r) ^ (n / (n + 2))
    band   = (2 x prior + n x spread) / (n + 2),    spread = 2.44 x median |ln r - ln factor|

The median of ratios ignores one odd run (another program on the card, a throttled hour). Two imaginary runs that came
out as predicted hold it near 1 while there are few: one run moves it by a third of what it says. The spread is the usual
1.4826 x median deviation for a normal distribution, times 1.645 for 90 %, around the factor and not around the median, so
that a run which the factor does not follow widens the band.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

Quantity = Literal["peak", "device", "speed"]
CPU = "cpu"
IMAGINARY = 2
SPREAD = 1.645 * 1.4826
PRIOR: dict[Quantity, float] = {"peak": 0.05, "device": 0.12, "speed": 0.35}
"""Band without history: the aim for the allocator's peak; NVML over allocated varies from 1.04 to 1.14 in published runs with a
fused loss; nine in ten published speeds lie that near to the estimate."""
CPU_PRIOR = 0.7
"""One CPU differs from the next (bf16 instructions, cores shared with others) more than cards do from their data sheets."""
WHAT: dict[Quantity, str] = {"peak": "peak memory", "device": "memory of the card", "speed": "speed"}


@dataclass(frozen=True)
class PastRun:
    """What was predicted (before any correction) and measured in one run; None is unknown.

    Memory in GiB of one card: `peak` is the allocator's, `device` what NVML shows, `reserved` what the allocator holds.
    Speeds in tokens a second. `gpu` is the card's name, "cpu" without one.
    """

    run_id: str
    gpu: str
    method: str
    predicted_peak: float | None = None
    peak: float | None = None
    reserved: float | None = None
    predicted_device: float | None = None
    device: float | None = None
    predicted_speed: float | None = None
    speed: float | None = None


@dataclass(frozen=True)
class Correction:
    """`factor` times a prediction; the truth is within `band` of that (relative, about 90 %), learned from `runs`."""

    factor: float
    band: float
    runs: int
    sentence: str


def correction(history: Sequence[PastRun], gpu: str, method: str, quantity: Quantity) -> Correction:
    """What past runs on this card say about a prediction. Without any: 1, the prior band, and that nothing confirmed it.

    Memory is learned on cards only: what a CPU run takes says nothing about CUDA.
    """
    comparable = [run for run in history if run.gpu == gpu and (gpu != CPU or quantity == "speed")]
    ratios = [(run.method, one) for run in comparable if (one := _log_ratio(run, quantity)) is not None]
    own = [one for kind, one in ratios if kind == method]
    found = own or [one for _, one in ratios]
    where, prior = ("this CPU", CPU_PRIOR) if gpu == CPU else (gpu, PRIOR[quantity])
    n = len(found)
    if not n:
        return Correction(1.0, prior, 0, f"no run on {where} has confirmed it here (±{prior:.0%})")
    log_factor = n / (n + IMAGINARY) * median(found)
    spread = SPREAD * median(abs(one - log_factor) for one in found)
    band = (IMAGINARY * prior + n * spread) / (n + IMAGINARY)
    factor = math.exp(log_factor)
    which = f"{n} {method if own else 'other'} run{'s' * (n > 1)}"
    return Correction(factor, band, n, f"{WHAT[quantity]} x{factor:.2f} after {which} on {where} (±{band:.0%})")


def _log_ratio(run: PastRun, quantity: Quantity) -> float | None:
    predicted, measured = {
        "peak": (run.predicted_peak, run.peak),
        "device": (run.predicted_device, run.device),
        "speed": (run.predicted_speed, run.speed),
    }[quantity]
    return math.log(measured / predicted) if predicted and measured and predicted > 0 and measured > 0 else None


def corrected(value: float, by: Correction) -> float:
    """A prediction (GiB or tokens a second) as the history corrects it."""
    return value * by.factor
