"""What goes wrong with a loss: it is no number, it rises and stays, it spikes. Pure functions over the curves of a run.

Where a threshold has a source it is named at it; the others are rules of thumb, set on the runs in tests/engine/health_runs.
"""

import math
from collections.abc import Sequence

from engine.health import NOISE, Finding, Point, Streams
from engine.health_curves import MEGABATCH, Change, change, from_the_best, from_the_start, middle, spikes
from engine.health_rate import FAR, FAR_HIGHER, lower_rate, rate, two_digits, usual_rate

FEW = 10
"""Losses before anything at all is said of them."""
ENOUGH_STEPS = 20
CERTAIN, LIKELY = 4.0, 3.0
"""Standard errors that a level must have risen by: where the best of many windows is compared three would often be chance."""
RISEN, FAR_UP, BLOWN = 0.2, 0.5, 3.0
"""Share that the loss must lie above its best level, or above where it began, to have gone wrong; times the beginning at which
nobody asks for certainty."""
FELL = 0.01
"""Share below which a loss has not fallen."""
FEW_BAD = 0.02
"""Share of the steps that may have been skipped for a bad number without harm."""
FAR_OUT, MANY_SPIKES, STRETCH = 10.0, 3, 500
"""Deviations of a spike that counts (odd rows in small batches reach 6 to 8), and how many within so many steps."""
ASTRAY = 3.0
"""Change of a LoRA over its norm: 0.2 to 0.7 in healthy runs, 14 at a hundred times their rate."""


def done(s: Streams) -> int:
    """The last step that is known of: what says how far a run is may come later than its losses."""
    loss = s.points("loss")
    return max(s.step, loss[-1][0] if loss else 0)


def not_finite(s: Streams) -> Finding | None:
    """NaN or infinity, with what came before it."""
    loss, norm = s.points("loss"), s.points("grad_norm")
    bad = {step: value for curve in (norm, loss) for step, _, value in curve if not math.isfinite(value)}
    if not bad and s.failed != "nonfinite":
        return None
    first, count = min(bad, default=done(s)), max(len(loss), len(norm))
    what = "loss" if any(not math.isfinite(value) for _, _, value in loss) else "gradient"
    name = "NaN" if math.isnan(bad.get(first, math.nan)) else "infinite"
    evidence = f"{len(bad)} of {count} steps, the first at {first}; {_before(norm, first)}"
    if bad and len(bad) <= max(1, FEW_BAD * count) and max(bad) < 0.8 * done(s) and not s.failed:
        return Finding("nonfinite", "note", f"{what} was {name} at {len(bad)} of {count} steps and came back", evidence)
    if first <= 1:
        return Finding("nonfinite", "warning", f"{what} is {name} from the first step on", evidence,
                       "Not the learning rate: look at the data and at training.precision.")  # fmt: skip
    remedy, changes = lower_rate(s)
    return Finding("nonfinite", "warning", f"{what} is {name} from step {first} on", evidence, remedy, changes)


def _before(norm: Sequence[Point], first: int) -> str:
    """The gradient norm on the way to a bad number."""
    known = [value for step, _, value in norm if step < first and math.isfinite(value)]
    return (
        f"gradient norm {known[0]:.3g} at first, {known[-1]:.3g} just before" if known else "no gradient norm before it"
    )


def evaluation_not_finite(s: Streams) -> Finding | None:
    """The evaluation alone."""
    bad = [step for step, _, value in s.points("eval_loss") if not math.isfinite(value)]
    if not bad:
        return None
    return Finding("nonfinite", "warning", "eval loss is not a number, train loss is", f"at step {bad[0]} first",
                   "A row that is held out has nothing to learn from: tunedeck data check shows which.")  # fmt: skip


def rate_high(s: Streams) -> Finding | None:
    """The loss went up and stays there, and no drift of the rows explains it; or it stays while the adapter goes astray."""
    losses = s.values("loss")
    if len(losses) < FEW:
        return None
    went = _up(losses, _window(s, len(losses)))
    if went is None or _evaluations_fine(s, middle(losses[:3])):
        return _astray(s, losses)
    now, usual = rate(s), usual_rate(s)
    blamed = now is not None and usual is not None and now > FAR_HIGHER * usual
    rose = f"loss rose from {went.before:.3g} to {went.after:.3g}"
    remedy, changes = lower_rate(s)
    said = f"learning rate {now:.2g}" + (f", usual {usual:.2g}" if usual else "") if now else "learning rate not known"
    return Finding("rate_high", "warning", f"learning rate {now:.2g} is too high: {rose}" if blamed else f"{rose} and stays",
                   f"{said}; at most {max(losses):.3g}", remedy, changes)  # fmt: skip


def _astray(s: Streams, losses: Sequence[float]) -> Finding | None:
    """A rate far above the usual one has made an adapter several times its size, and the loss no lower."""
    moved, now, usual = s.values("weight_change"), rate(s), usual_rate(s)
    if not moved or s.spec.get("method.kind") not in ("lora", "qlora") or not now or not usual:
        return None
    if moved[-1] < ASTRAY or now < FAR * usual or len(losses) < ENOUGH_STEPS or from_the_start(losses).rise < -RISEN:
        return None
    remedy, changes = lower_rate(s)
    return Finding("rate_high", "warning", f"learning rate {now:.2g} is too high: loss stays near {middle(losses):.2g}",
                   f"usual {two_digits(usual):g}; the adapter moved by {moved[-1]:.0f} times its size", remedy, changes)  # fmt: skip


def _window(s: Streams, count: int) -> int:
    """Losses that make a level."""
    usual = max(FEW, min(50, count // 6))
    return max(usual, MEGABATCH) if s.spec.get("training.group_by_length") else usual


def _up(losses: Sequence[float], window: int) -> Change | None:
    """Where the loss is clearly above where it began, or above its best level; the larger step of the two."""
    start, tail = losses[:3], losses[-max(FEW, len(losses) // 4) :]
    since_start = change(start, tail)
    blown = min(tail[-5:]) > BLOWN * max(start) > 0
    found = [since_start] if blown or (since_start.certain > LIKELY and since_start.rise > FAR_UP) else []
    if len(losses) >= 2 * window:
        since_best = from_the_best(losses, window)
        found += [since_best] if since_best.certain > CERTAIN and since_best.rise > RISEN else []
    return max(found, key=lambda one: one.rise, default=None)


def _evaluations_fine(s: Streams, start: float) -> bool:
    """The evaluations, always of the same rows, do not rise and are not far above where training began."""
    known = s.values("eval_loss")
    return len(known) > 1 and known[-1] <= known[0] + NOISE * abs(known[0]) and known[-1] < (1 + FAR_UP) * start


def spiking(s: Streams) -> Finding | None:
    """Steps too large, again and again, after which the loss comes back."""
    losses = s.values("loss")
    found = spikes(losses, FAR_OUT)
    close = [i for i, far in zip(found, found[MANY_SPIKES - 1 :], strict=False) if far - i <= STRETCH]
    if not close:
        return None
    remedy, changes = lower_rate(s)
    return Finding("spiking", "warning", f"loss spikes: {len(found)} times in {len(losses)} steps",
                   f"up to {max(losses[i] for i in found):.3g}, usually {middle(losses):.3g}",
                   f"{remedy} If the same rows are behind it each time, look at them.", changes)  # fmt: skip
