"""Why a run learns nothing: nothing is trained, the steps are too small, or there is nothing to learn. Pure functions over its curves."""

import math
from collections.abc import Sequence

from engine.health import Finding, Streams
from engine.health_curves import MEGABATCH, Change, from_the_start, middle, thirds
from engine.health_loss import ENOUGH_STEPS, FAR_UP, FELL, FEW, LIKELY, done
from engine.health_rate import FAR, Changes, lower_rate, rate, two_digits, usual_rate

SHARE, FLAT_SHARE = 0.1, 0.25
"""Of the run, and at least ENOUGH_STEPS of full learning rate, that must be over before it counts that nothing was learned; more
of it where the learning rate is no reason."""
SEEN = 0.05
"""A fall of this share would have been seen: else the noise is too great to call a loss flat."""
PERHAPS = 1.5
"""Standard errors by which a loss may have fallen and still be called flat."""
VANISHED = 1e-7
HIGHEST = 0.9
"""A learning rate is below 1 (engine.spec)."""
CLIPPED = 1e-3
"""Share of the gradient that is left after clipping, below which clipping is a mistake and no guard."""
UNCHANGED = 1e-9
"""Change of the weights over their norm below which nothing was trained: float32 hardly resolves less."""


def frozen(s: Streams) -> Finding | None:
    """Nothing is trained at all: the weights, the gradient or the evaluations say so to the last digit."""
    moved, norms, evaluations = (s.values(key) for key in ("weight_change", "grad_norm", "eval_loss"))
    steps = len(s.points("loss"))
    text = f"the {'weights do' if s.spec.get('method.kind') == 'full' else 'adapter does'} not change"
    if len(norms) >= FEW and max(norms) < VANISHED:
        remedy, changes = _no_effect(s)
        said = f"gradient norm at most {max(norms):.2g} in {steps} steps"
        return Finding("frozen", "warning", "nothing is learned: no gradient arrives", said, remedy, changes)
    still = len(moved) >= FEW and moved[-1] < UNCHANGED
    same = not moved and steps >= FEW and len(evaluations) > 2 and len(set(evaluations)) == 1
    if not (still or same):
        return None
    evidence = (
        f"relative change {moved[-1]:.2g} after {steps} steps" if still else f"{len(evaluations)} evaluations are equal"
    )
    why, remedy, changes = _held_back(s)
    return Finding("frozen", "warning", f"{text}{why}", evidence, remedy, changes)


def _no_effect(s: Streams) -> tuple[str, Changes]:
    """What helps where the loss does not depend on what is trained."""
    rank, alpha = s.spec.get("method.rank"), s.spec.get("method.alpha")
    if isinstance(rank, int) and isinstance(alpha, int | float) and alpha < 0.01 * rank:
        return f"An adapter scaled by {alpha:g} / {rank} has no effect: alpha is usually twice the rank.", (
            ("method.alpha", 2.0 * rank),
        )
    return "Nothing of what is trained has an effect: look at method.targets and at what the model sees.", ()


def _held_back(s: Streams) -> tuple[str, str, Changes]:
    """Why steps come to nothing: no learning rate, a gradient that is clipped away, or rounding."""
    usual, now = usual_rate(s), rate(s)
    if usual and (now or 0.0) < usual / FAR:
        value = two_digits(usual)
        return (
            f": learning rate {now or 0:.2g}",
            f"Take the usual learning rate, {value:g}.",
            (("training.learning_rate", value),),
        )
    if clipped := _clipped(s):
        return ": its gradient is clipped away", *clipped
    return "", "Its steps may be lost in rounding: training.precision=mixed, or a higher learning rate.", ()


def _clipped(s: Streams) -> tuple[str, Changes] | None:
    """What to say and to change where next to nothing of the gradient is left."""
    norms, clip = s.values("grad_norm"), s.spec.get("training.max_grad_norm")
    if len(norms) < FEW or not isinstance(clip, int | float) or not 0 < clip < CLIPPED * middle(norms):
        return None
    return f"Gradients of {middle(norms):.2g} are cut to {clip:.2g}: clip at 1, the usual.", (
        ("training.max_grad_norm", 1.0),
    )


def not_learning(s: Streams, went: Change | None) -> Finding | None:
    """Flat, and why: a warm-up without end, a learning rate far below the usual, or neither. `went` is the run's `course`."""
    now, usual = rate(s), usual_rate(s)
    if warming := _warming(s, now):
        return warming
    if went is None or fell(s, went) is not False:
        return None
    losses, evaluations = (s.values(key) for key in ("loss", "eval_loss"))
    level, stays = middle(losses), f"{went.before:.3g} to {went.after:.3g} in {len(losses)} steps"
    if evaluations:
        stays += f", eval {evaluations[0]:.4g} to {evaluations[-1]:.4g}"
    if clipped := _clipped(s):
        return Finding("frozen", "warning", f"gradient is clipped away: loss stays near {level:.2g}", stays, *clipped)
    if now is not None and usual is not None and now < usual / FAR:
        value = two_digits(usual)
        return Finding("rate_low", "warning", f"learning rate {now:.2g} is too low: loss stays near {level:.2g}",
                       f"usual {value:g}; {stays}", f"Raise the learning rate from {now:.2g} to {value:g}.",
                       (("training.learning_rate", value),))  # fmt: skip
    if now is not None and usual is not None and now > FAR * usual:
        remedy, changes = lower_rate(s)
        return Finding("rate_high", "warning", f"learning rate {now:.2g} is too high: loss stays near {level:.2g}",
                       f"usual {two_digits(usual):g}; {stays}", remedy, changes)  # fmt: skip
    if s.total and done(s) < FLAT_SHARE * s.total:
        return None
    unseen = 2 * went.error > SEEN * abs(went.before)
    if went.rise < -SEEN / 2 or went.certain < -PERHAPS or (unseen and not _flat_evaluations(evaluations)):
        return None
    return Finding("flat", "warning", f"loss does not fall: it stays near {level:.3g}",
                   f"{stays}; learning rate {now or 0:.2g}",
                   "A higher learning rate, or there is nothing to learn: look at what the model sees.",
                   (("training.learning_rate", min(HIGHEST, two_digits(3 * now))),) if now else ())  # fmt: skip


def _warming(s: Streams, now: float | None) -> Finding | None:
    """Half of the steps are done and the learning rate is still on its way up, far from where it should be."""
    given, rates = s.spec.get("training.learning_rate"), s.values("learning_rate")
    if not s.total or done(s) < 0.5 * s.total or not isinstance(given, int | float) or not rates or now is None:
        return None
    if now >= given / FAR or rates[-1] < now:
        return None
    return Finding("rate_low", "warning", f"warm-up is not over: learning rate {now:.2g} of {given:.2g}",
                   f"step {done(s)} of {s.total}; training.warmup is {s.spec.get('training.warmup')}",
                   "Warm up for 3 to 10 % of the steps.", (("training.warmup", 0.03),))  # fmt: skip


def course(s: Streams) -> Change | None:
    """From the beginning to the end; None while there is too little to say that nothing is learned."""
    losses, rates, given = s.values("loss"), s.values("learning_rate"), s.spec.get("training.learning_rate")
    peak = max(rates, default=0.0)
    full = sum(1 for one in rates if one >= 0.5 * peak) if rates else len(losses)
    if len(losses) < FEW or full < min(ENOUGH_STEPS, 0.5 * (s.total or math.inf)):
        return None
    if s.total and done(s) < SHARE * s.total:
        return None
    if rates and rates[-1] == peak and isinstance(given, int | float) and peak < 0.9 * given:
        return None  # still warming up
    whole, quick = thirds(losses), from_the_start(losses)
    # what is learned in the first few steps is not seen between thirds
    return quick if quick.certain < -PERHAPS and quick.rise < whole.rise else whole


def fell(s: Streams, went: Change) -> bool | None:
    """Whether something was learned; None if it cannot be told. The evaluations are always of the same rows: they go first."""
    evaluations = s.values("eval_loss")
    first = evaluations[0] if evaluations else 0.0
    if len(evaluations) > 1 and min(evaluations) < first - FELL * abs(first):
        return True
    drifts = s.spec.get("training.group_by_length") and len(s.values("loss")) < 10 * MEGABATCH
    if went.rise < -(FAR_UP if drifts else FELL) and went.certain < -LIKELY:
        return True
    if len(evaluations) > 1:
        # where they rise something is learned, if not what it should be
        return False if max(evaluations) <= first + 2 * FELL * abs(first) else None
    return None if drifts else False


def _flat_evaluations(known: Sequence[float]) -> bool:
    return len(known) > 2 and max(known) - min(known) < FELL / 2 * abs(known[0])
