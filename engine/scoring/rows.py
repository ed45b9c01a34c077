"""A row with what both models said, and what is reckoned of it alone."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from engine.scoring.answers import bleu, score_answer
from engine.scoring.bootstrap import finite

Row = dict[str, Any]
VOICES = ("base", "tuned")
MAIN = {"text": ("loss", "chrf"), "labels": ("accuracy", "loss"), "json": ("json_fields", "loss"), "tools": ("tool_call_valid", "loss")}  # fmt: skip
"""What decides for each kind; the second where the first is not there."""
REWARD = "reward "
"""What the scores of a run's own reward functions begin with (engine.worker.evaluate): GRPO has no loss, they decide there."""
BROKEN = 1e6
"""The badness of a row whose loss is no number."""
APART = 1e-4
"""What the loss adds to the badness of rows that are as bad as each other."""


def finish(row: Row, kind: str) -> Row:
    """The row with `scores` for either answer, `badness` and `gain`, as far as they are known."""
    done = row | {voice: scored(row[voice], row, kind) for voice in VOICES if isinstance(row.get(voice), Mapping)}
    base, tuned = (done.get(voice) or {} for voice in VOICES)
    there = [*(tuned.get("scores") or {}), *(["loss"] if number(tuned.get("loss")) is not None else [])]
    name = deciding(there, kind)
    if name is None:
        return done
    shortfall, before = _shortfall(tuned, name), _shortfall(base, name)
    loss = number(tuned.get("loss"))
    nudge = APART * min(loss, 100.0) if name != "loss" and loss is not None and finite(loss) else 0.0
    if shortfall is not None:
        done["badness"] = shortfall + nudge
    if shortfall is not None and before is not None:
        done["gain"] = before - shortfall
    return done


def deciding(names: Iterable[str], kind: str) -> str | None:
    """Which of these scores decides; None if none of them can."""
    there = list(names)
    rewards = [name for name in there if name.startswith(REWARD) and "loss" not in there]
    return next((name for name in (*rewards, *MAIN[kind]) if name in there), None)


def scored(side: Mapping[str, Any], row: Row, kind: str) -> Row:
    """One model's answer with its scores; those that were there already stay (BERTScore is reckoned elsewhere)."""
    answer, reference = side.get("answer"), row.get("reference")
    if not isinstance(answer, str):
        return dict(side)
    reference = reference if isinstance(reference, str) else None
    scores = score_answer(answer, reference, kind, row.get("tools"))
    given, right = side.get("tokens"), side.get("trained")
    if "length" in scores and finite(given) and finite(right) and right:
        scores["length"] = float(given or 0) / float(right)
    if isinstance(side.get("stopped"), bool):
        scores["stopped"] = float(side["stopped"])
    more = {"counts": bleu(answer, reference)[1]} if kind == "text" and reference is not None else {}
    return {**side, **more, "scores": {**(side.get("scores") or {}), **scores}}


def number(value: Any) -> float | None:
    """A loss as it was measured, NaN and infinity too (as JSON has them, in words); None if there is none."""
    if isinstance(value, str) and value.lower() in ("nan", "inf", "-inf", "infinity"):
        return float(value)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _value(side: Mapping[str, Any], name: str) -> float | None:
    return number(side.get("loss") if name == "loss" else (side.get("scores") or {}).get(name))


def _shortfall(side: Mapping[str, Any], name: str) -> float | None:
    """How far a score is from the best that there is."""
    value = _value(side, name)
    if value is None:
        return None
    if not math.isfinite(value):
        return BROKEN
    return value if name == "loss" else 1 - value / (100 if name == "chrf" else 1)
