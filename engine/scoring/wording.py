"""Scores as people read them, and what came out in a sentence."""

from collections.abc import Mapping
from typing import Any

from engine.report import number
from engine.scoring.bootstrap import FEW

NAMES = {
    "loss": "loss", "perplexity": "perplexity", "accuracy": "accuracy", "f1": "F1, macro", "exact_match": "exact match",
    "json_valid": "valid JSON", "json_fields": "JSON fields right", "tool_call_valid": "valid tool calls", "bertscore": "BERTScore",
    "rouge_l": "ROUGE-L", "chrf": "chrF", "bleu": "BLEU", "token_f1": "F1 of words", "length": "length / reference",
    "repetition": "repetition", "stopped": "ended by itself",
}  # fmt: skip
"""The names of the scores, in the order in which they are shown."""
SHARES = ("accuracy", "exact_match", "json_valid", "json_fields", "tool_call_valid", "repetition", "stopped")
DIGITS = {"loss": 3, "perplexity": 2, "bleu": 1, "chrf": 1, "length": 2}
BEGIN = {
    "better": "Better than the base",
    "worse": "Worse than the base",
    "noise": "No difference that is more than noise",
}
LOWER = ("loss", "perplexity", "length", "repetition")
"""Scores of which less is better; of the length that is nearest to 1."""


def shown(name: str, value: float | None) -> str:
    """A score: `1.204`, `95.0 %`."""
    if value is None:
        return "–"
    return f"{100 * value:.1f} %" if name in SHARES else number(value, digits(name, value))


def signed(name: str, value: float | None) -> str:
    """A difference of scores: `-1.753`, `+55.0`; of shares in points."""
    if value is None:
        return "–"
    if name in SHARES:
        return f"{100 * value + 0.0:+.1f}"
    many = digits(name, value)
    return f"{value:+,.{many}f}" if value == 0 or abs(value) >= 10**-many else f"{value:+.1e}"


def digits(name: str, value: float) -> int:
    """Digits behind the point."""
    return 0 if abs(value) >= 1000 else DIGITS.get(name, 3)


def sentence(name: str, score: Mapping[str, Any], held_out: bool | None = True, seen: int = 0) -> str:
    """What the score that decides says; `seen` of the rows were trained on (0: all of them, where none was held out)."""
    rows = score["rows"]
    many = f"{rows:,} {'held-out ' if held_out else ''}row{'' if rows == 1 else 's'}"
    numbers = f"{NAMES.get(name, name)} {shown(name, score['tuned'])} against {shown(name, score['base'])} on {many}"
    if held_out is False:
        some = 0 < seen < rows
        begin = f"This proves little, for it was trained on {seen:,} of these rows" if some else "This proves nothing, for it was trained on these rows"  # fmt: skip
        return f"{begin}: {numbers}{apart(name, score)}."
    if rows <= FEW:
        return f"Too few rows to tell: {numbers}."
    return f"{BEGIN[score['verdict']]}: {numbers}{apart(name, score)}."


def by_loss(scores: Mapping[str, Mapping[str, Any]], main: str) -> str:
    """What the loss tells apart where the score that decides does not: answers that are all wrong can still be nearer; "" if nothing."""
    loss = scores.get("loss")
    if main == "loss" or loss is None or scores[main]["verdict"] != "noise" or loss["verdict"] == "noise":
        return ""
    return f" By its loss it is {loss['verdict']}: {shown('loss', loss['tuned'])} against {shown('loss', loss['base'])}{apart('loss', loss)}."


def apart(name: str, score: Mapping[str, Any]) -> str:
    """The difference with its interval."""
    if score["rows"] <= FEW or score["low"] is None:
        return ""
    difference, low, high = (signed(name, score[key]) for key in ("difference", "low", "high"))
    points = " points" if name in SHARES else ""
    if low == high:  # no resample can differ: the interval says nothing
        return (
            f", a difference of {difference}{points}, the same on every row"
            if score["difference"]
            else ", alike on every row"
        )
    return f", a difference of {difference}{points} (95 % between {low} and {high})"
