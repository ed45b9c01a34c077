"""Rules of thumb for what to train with: pure functions, each giving a value and why. All can be overridden.

Sources, where a rule has one: Hu et al. 2021 (LoRA), Dettmers et al. 2023 (QLoRA: all linear layers, max grad norm 0.3, dropout
0.05 to 0.1, alpha), Schulman et al. 2025 "LoRA without regret" (adapters take about ten times the learning rate of full
fine-tuning; attention only is worse than all layers), Zhou et al. 2023 (LIMA: 1,000 good rows are enough for style).
The table of learning rate, epochs, batch and weight decay by method and rows is the field's practice, not a theorem.
"""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

Goal = Literal["style", "classification", "instructions", "chat", "tools", "domain", "reasoning", "code"]
RANKS: dict[Goal, tuple[int, int]] = {
    "style": (4, 8),
    "classification": (4, 8),
    "instructions": (8, 16),
    "chat": (8, 16),
    "tools": (8, 16),
    "domain": (16, 32),
    "reasoning": (32, 64),
    "code": (32, 64),
}
"""Rank for fewer and for more than 1,000 rows: what has to change more needs more room."""
MINIMUM_ROWS: dict[Goal, int] = {
    "style": 100,
    "classification": 200,
    "instructions": 1000,
    "chat": 1000,
    "tools": 1000,
    "domain": 5000,
    "reasoning": 2000,
    "code": 2000,
}
"""Below this many rows the result is usually no better than a prompt; classification: 100 for each of two classes."""
SMALL_MODEL = 1_000_000_000
SMALL_DATA, LARGE_DATA = 1_000, 10_000
ROWS_A_STEP = 16


class Rule(NamedTuple):
    """A value and the reason for it."""

    value: float | int
    why: str


@dataclass(frozen=True)
class Reason:
    """Why a field has the value that the program gave it."""

    field: str
    value: Any
    why: str


def rank(goal: Goal, rows: int) -> Rule:
    few, many = RANKS[goal]
    what = f"{rows:,} rows of {goal}"
    return Rule(few, f"{what}: a low rank over-fits less") if rows < SMALL_DATA else Rule(many, f"usual for {what}")


def dropout(rows: int) -> Rule:
    if rows < SMALL_DATA:
        return Rule(0.1, f"{rows:,} rows: adapters on small data over-fit")
    return Rule(0.05, "the usual guard against over-fitting")


def learning_rate(kind: str, parameters: int, rows: int) -> Rule:
    """Below 1B larger than the rules of the field, which come from 7B: found on SmolLM2-135M (`bench.recommend`)."""
    small = parameters < SMALL_MODEL
    if kind == "full" and small:
        few = (
            f"and {rows:,} rows that are seen several times" if rows < SMALL_DATA else "small models take larger steps"
        )
        return Rule(5e-5 if rows < SMALL_DATA else 1e-4, f"full fine-tuning of a model below 1B, {few}")
    if kind == "full":
        return Rule(2e-5, "full fine-tuning moves every weight")
    if small:
        return Rule(5e-4, "an adapter on a model below 1B: small models take larger steps")
    if rows < SMALL_DATA:
        return Rule(1e-4, f"an adapter on {rows:,} rows: half the usual, small data over-fits")
    return Rule(2e-4, "adapters take ten times what full fine-tuning takes")


def preference_learning_rate(kind: str) -> Rule:
    """For DPO: the rates of the alignment handbook's Zephyr recipes (5e-7 full, 5e-6 QLoRA) and of TRL's for LoRA."""
    if kind == "full":
        return Rule(5e-7, "preference pairs: the alignment handbook's, far below that of fine-tuning")
    return Rule(1e-5, "preference pairs on an adapter: far below that of fine-tuning, or the model falls apart")


PREFERENCE_EPOCHS = Rule(1.0, "preference pairs over-fit at the second look")


def epochs(kind: str, rows: int) -> Rule:
    """Full fine-tuning over-fits few rows sooner than an adapter does (found with SmolLM2-135M on 24 and 64 rows)."""
    if rows < SMALL_DATA and kind == "full":
        return Rule(3.0, f"{rows:,} rows: full fine-tuning over-fits them if it sees them more often")
    if rows < SMALL_DATA:
        return Rule(5.0, f"{rows:,} rows: small data is seen several times; watch the evaluation loss")
    return (
        Rule(3.0, f"{rows:,} rows: the usual")
        if rows <= LARGE_DATA
        else Rule(2.0, f"{rows:,} rows: large data needs few")
    )


def weight_decay(rows: int) -> Rule:
    return Rule(0.05, "small data: a little more") if rows < SMALL_DATA else Rule(0.01, "the usual")


def warmup(rows: int) -> Rule:
    return (
        Rule(0.1, "small data: few steps, so a tenth of them") if rows < SMALL_DATA else Rule(0.03, "3 % of the steps")
    )


def max_grad_norm(kind: str) -> Rule:
    return (
        Rule(1.0, "the usual for full fine-tuning") if kind == "full" else Rule(0.3, "the usual for adapters (QLoRA)")
    )


def prefers_full(parameters: int, rows: int, goal: Goal) -> str | None:
    """Why full fine-tuning is wanted where it fits, or None."""
    if parameters < SMALL_MODEL:
        return f"{parameters / 1e6:,.0f} M parameters: a model below 1B is fully trained at little cost"
    if rows > LARGE_DATA and goal in ("domain", "code", "reasoning"):
        return f"{rows:,} rows of {goal}: enough to move every weight"
    return None


def advice(goal: Goal, rows: int | None) -> list[str]:
    """What to think of before fine-tuning."""
    notes = []
    if rows is not None and rows < MINIMUM_ROWS[goal]:
        notes.append(
            f"{rows:,} rows are few for {goal} (usually at least {MINIMUM_ROWS[goal]:,}): try a prompt with examples first."
        )
    if goal == "domain":
        notes.append("For facts that change or must be cited, retrieval is usually better than fine-tuning.")
    return notes
