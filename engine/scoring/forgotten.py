"""What a model lost on general texts that have nothing to do with its data."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from engine.scoring.bootstrap import FEW
from engine.scoring.summary import all_scores
from engine.scoring.wording import apart, shown

BEGIN = {"better": "It lost nothing", "noise": "No sign of forgetting"}
LITTLE, MUCH = 0.1, 0.5
"""How much higher the perplexity of general texts is where little, or much, was forgotten."""


def forgetting(texts: Sequence[Mapping[str, Any]], seed: int = 0) -> dict[str, Any]:
    """Base, tuned, difference and interval of the loss on general texts, `judged` (better, worse, noise), `kinds` with the same for
    each kind of text, and the `verdict` in a sentence.

    Each text has a `kind` and, as a row of an evaluation, `base` and `tuned` with `loss` and `trained`. {} without any loss.
    """
    score = all_scores(texts, "text", seed).get("loss")
    if score is None:
        return {}
    by_kind = dict.fromkeys(str(text.get("kind") or "text") for text in texts)
    kinds = {name: found["loss"] for name in by_kind
             if (found := all_scores([text for text in texts if str(text.get("kind") or "text") == name], "text", seed)).get("loss")}  # fmt: skip
    return {**score, "judged": score["verdict"], "kinds": kinds, "verdict": sentence(score)}


def sentence(score: Mapping[str, Any]) -> str:
    """What the loss on general texts says."""
    numbers = f"loss {shown('loss', score['tuned'])} against {shown('loss', score['base'])} on {score['rows']:,} general texts"
    if score["rows"] <= FEW:
        return f"Too few general texts to tell what it has forgotten: {numbers}."
    return f"{BEGIN.get(score['verdict']) or forgot(score['difference'])}: {numbers}{apart('loss', score)}."


def forgot(difference: float) -> str:
    """In words, by how much more the loss is."""
    more = math.expm1(min(difference, 50.0))
    much = " a little" if more < LITTLE else " much" if more >= MUCH else ""
    return f"It has forgotten{much} (perplexity {100 * more:+,.0f} %)"


def answered(score: Mapping[str, Any]) -> str:
    """What the answers to general questions say (`answers` of an evaluation's forgetting, as engine.scoring.compare gives it)."""
    numbers = (
        f"{shown('accuracy', score['tuned'])} right against {shown('accuracy', score['base'])} of {score['rows']:,}"
    )
    noise = ", no more than noise" if score["verdict"] == "noise" else ""
    return f"General questions: {numbers}{apart('accuracy', score)}{noise}."
