"""How a run learns: its trouble if it has one, else that the loss falls; then gradient, over-fitting and forgetting. Pure functions."""

import math

from engine.health import NOISE, Finding, Streams
from engine.health_curves import Change, middle, quantile, thirds
from engine.health_loss import ENOUGH_STEPS, FELL, FEW, LIKELY, evaluation_not_finite, not_finite, rate_high, spiking
from engine.health_rate import Changes, lower_rate, two_digits
from engine.health_stuck import VANISHED, course, fell, frozen, not_learning

EXPLODED = 10.0
"""Times the gradient norm of the run's first half."""
TURNED, TURNED_FAR = 0.05, 0.10
"""Share that the evaluation loss lies above its best: twice in a row, or once."""
LEAST_TURN = 0.02
"""Nats below which a rise of the evaluation loss means nothing, however small the loss."""
FORGOT, FORGOT_MUCH = 0.1, 0.3
"""Nats by which the loss on general texts rose: 10 % and 35 % of perplexity."""


def learning(s: Streams) -> list[Finding]:
    """Of the loss, the gradient, over-fitting and forgetting."""
    number = not_finite(s)
    if number and number.severity == "warning":
        return [number]
    if s.spec.get("objective") == "grpo":
        return [one for one in (number, frozen(s), _reward(s), _gradient(s), _forgetting(s)) if one]
    went = course(s)
    trouble = rate_high(s) or frozen(s) or spiking(s) or not_learning(s, went)
    found = [number, trouble or _loss_is_well(s, went)]
    if trouble is None or trouble.kind in ("rate_low", "flat"):
        found.append(_gradient(s))
    if trouble is None or trouble.kind not in ("rate_high", "frozen"):
        found += [evaluation_not_finite(s) or _over_fitting(s), _forgetting(s)]
    return [one for one in found if one is not None]


def _loss_is_well(s: Streams, went: Change | None) -> Finding:
    losses = s.values("loss")
    if not losses:
        return Finding("loss", "n/a", "loss: none yet")
    if went is None:
        return Finding("loss", "n/a", f"loss: {len(losses)} step{'s' * (len(losses) > 1)}, too few to say")
    if not fell(s, went):
        return Finding("loss", "n/a", "loss: too noisy to say whether it falls")
    evaluations, moved = s.values("eval_loss"), s.values("weight_change")
    first, last = (evaluations[0], evaluations[-1]) if went.after >= went.before else (went.before, went.after)
    known = [f"over {len(losses)} steps"]
    known += [f"eval {evaluations[0]:.3g} to {evaluations[-1]:.3g}"] if len(evaluations) > 1 else []
    known += [f"weights moved by {100 * moved[-1]:.2f} %"] if moved else []
    return Finding("loss", "ok", f"loss falls: {first:.3g} to {last:.3g}", ", ".join(known))


def _reward(s: Streams) -> Finding:
    """What GRPO's loss does not say: it is near 0 by construction (TRL's documentation)."""
    rewards = s.values("reward")
    if len(rewards) < ENOUGH_STEPS:
        return Finding("reward", "n/a", f"reward: {len(rewards)} steps, too few to say")
    went = thirds(rewards)
    numbers = f"{went.before:.3g} to {went.after:.3g}"
    if went.certain > LIKELY:
        return Finding("reward", "ok", f"reward rises: {numbers}", f"over {len(rewards)} steps")
    if went.certain > -LIKELY:
        return Finding("reward", "n/a", f"reward: {numbers}, too noisy to say whether it rises")
    remedy, changes = lower_rate(s)
    return Finding("reward", "warning", f"reward falls: {numbers}", f"over {len(rewards)} steps", remedy, changes)


def _gradient(s: Streams) -> Finding | None:
    norms = s.values("grad_norm")
    if len(norms) < ENOUGH_STEPS:
        return Finding("gradient", "n/a", "gradient: too early to say") if norms else None
    window = max(FEW, min(50, len(norms) // 5))
    usual, last = middle(norms[: len(norms) // 2]), middle(norms[-window:])
    if last > EXPLODED * usual > 0:
        remedy, changes = lower_rate(s)
        return Finding("gradient", "warning", f"gradient norm grows: {usual:.3g} to {last:.3g}",
                       f"{last / usual:.0f} times that of the first half, over the last {window} steps", remedy, changes)  # fmt: skip
    if last < VANISHED < usual:
        remedy, changes = lower_rate(s)
        return Finding("gradient", "warning", f"gradient is gone: {usual:.3g} to {last:.1g}",
                       f"the middle of the last {window} steps",
                       f"Large steps have driven the model where nothing changes its loss. {remedy}", changes)  # fmt: skip
    low, high = quantile(norms[-50:], 0.05), quantile(norms[-50:], 0.95)
    return Finding("gradient", "ok", f"gradient norm {low:.2g} to {high:.2g} over {min(50, len(norms))} steps")


def _over_fitting(s: Streams) -> Finding | None:
    """The evaluation turns up while the training loss goes on falling."""
    curve = [point for point in s.points("eval_loss") if math.isfinite(point[2])]
    if not curve:
        held = s.spec.get("data.validation")
        rhythm = s.spec.get("evaluation.every")
        if held and rhythm:
            return Finding("over_fitting", "n/a", "over-fitting: not evaluated yet")
        return Finding("over_fitting", "n/a", "over-fitting: nothing is held out" if not held else "over-fitting: nothing is evaluated",
                       "", "Hold out some rows and evaluate on them: data.validation, evaluation.every.")  # fmt: skip
    if len(curve) < 2:
        return Finding("over_fitting", "n/a", "over-fitting: one evaluation so far")
    at = min(range(len(curve)), key=lambda i: curve[i][2])
    best, last = curve[at], curve[-1]
    rise = (last[2] - best[2]) / max(abs(best[2]), 1e-9)
    after = len(curve) - 1 - at
    turned = (after >= 2 and min(p[2] for p in curve[at + 1 :]) > best[2]) or (after == 1 and rise > TURNED_FAR)
    if not turned or rise < 2 * NOISE or last[2] - best[2] < LEAST_TURN or not _still_falls(s, best[0]):
        if after == 0 and last[2] < curve[0][2] - FELL * abs(curve[0][2]):
            return Finding("over_fitting", "ok", "eval falls with train: no over-fitting" + " yet" * (not s.ended))
        near = (
            f"eval stays near its best: {best[2]:.3g}"
            if rise < NOISE
            else f"eval {last[2]:.3g}, its best is {best[2]:.3g}"
        )
        return Finding("over_fitting", "ok", near)
    fewer: Changes = ()
    if s.spec.get("training.max_steps"):
        fewer = (("training.max_steps", max(1, best[0])),)
    elif s.total and s.epochs:
        fewer = (("training.epochs", max(0.01, two_digits(s.epochs * best[0] / s.total))),)
    text = f"over-fits: eval {best[2]:.3g} at step {best[0]}, now {last[2]:.3g}"
    evidence = (
        f"{100 * rise:.0f} % above its best, {after} evaluation{'s' * (after > 1)} ago, while the training loss fell"
    )
    if s.spec.get("evaluation.early_stopping"):
        return Finding("over_fitting", "note", text, evidence, "Early stopping ends the run and keeps the best model.")
    return Finding("over_fitting", "warning" if rise > TURNED else "note", text, evidence,
                   f"End near step {best[0]}: fewer epochs, more data, or evaluation.early_stopping.", fewer)  # fmt: skip


def _still_falls(s: Streams, since: int) -> bool:
    """Whether the training loss is not above what it was when the evaluation was best."""
    curve = [point for point in s.points("loss") if math.isfinite(point[2])]
    before = [value for step, _, value in curve if step <= since]
    after = [value for step, _, value in curve if step > since]
    if not before or not after:
        return False
    size = max(1, min(len(before), len(after), 20))
    return middle(after[-size:]) <= middle(before[-size:])


def _forgetting(s: Streams) -> Finding | None:
    known = [(step, value) for step, _, value in s.points("general_loss") if math.isfinite(value)]
    if not known:
        chosen = s.spec.get("evaluation.general")
        return Finding(
            "forgetting", "n/a", "forgetting: not measured yet" if chosen else "forgetting: no general texts are read"
        )
    if len(known) < 2 or known[0][0] > 0:
        return Finding("forgetting", "n/a", "forgetting: measured once so far")
    first, last = known[0][1], known[-1][1]
    rise = last - first
    if rise < FORGOT:
        return Finding("forgetting", "ok", f"nothing forgotten: general texts {first:.3g}, now {last:.3g}")
    remedy, changes = lower_rate(s)
    return Finding("forgetting", "warning" if rise > FORGOT_MUCH else "note",
                   f"forgets: loss on general texts {first:.3g}, now {last:.3g}",
                   f"{100 * math.expm1(min(rise, 50)):.0f} % more perplexity than the base model",
                   f"{remedy} Or fewer epochs, or general rows among the data.", changes)  # fmt: skip
