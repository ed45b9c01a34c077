"""Rules of thumb for what to train with: pure functions, each giving a value and why. All can be overridden.

Sources, where a rule has one: Hu et al. 2021 (LoRA), Dettmers et al. 2023 (QLoRA: all linear layers, max grad norm 0.3, dropout
0.05 to 0.1, alpha), Schulman et al. 2025 "LoRA without regret" (adapters take about ten times the learning rate of full
fine-tuning; attention only is worse than all layers), Zhou et al. 2023 (LIMA: 1,000 good rows are enough for style).
The table of learning rate, epochs, batch and weight decay by method and rows is the field's practice, not a theorem.

Learning rates of the other methods: T-Few (Liu et al. 2022) for IA3; peft's guide to soft prompts (3e-2 with AdamW) and the paper's
0.3 with Adafactor on T5 for prompt tuning; peft's examples for AdaLoRA (1e-3), prefix tuning (1e-2) and P-tuning (1e-3); Kopiczko et
al. 2024 for VeRA; peft's documentation for DeLoRA and its comparison of methods for RoAd. Of preferences: the papers
named, TRL's defaults (DPO, KTO, ORPO, CPO and GRPO 1e-6, for full fine-tuning) and its documentation (reward models).
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


RATES: dict[str, tuple[float, str]] = {
    "adalora": (1e-3, "AdaLoRA takes larger steps than LoRA (peft's example)"),
    "ia3": (3e-3, "scales need far larger steps than matrices (T-Few)"),
    "prefix": (1e-2, "learned keys and values start from noise (peft's example)"),
    "prompt": (3e-2, "a few learned tokens take very large steps (peft's guide; the paper 0.3 on T5)"),
    "ptuning": (1e-3, "an encoder that starts from noise (peft's example)"),
    "road": (1e-3, "angles and lengths take larger steps than matrices (peft's comparison of methods)"),
}
"""Where a method has a rate of its own, whatever the model and the data."""
TIMES_LORA = {
    "vera": (10, "ten times LoRA's: only vectors are trained (VeRA)"),
    "delora": (10, "ten times LoRA's: directions and strength apart take larger steps (peft's documentation)"),
}
PREFERENCE_RATES: dict[str, tuple[tuple[float, str], tuple[float, str]]] = {
    "dpo": ((5e-7, "preference pairs: the alignment handbook's, far below that of fine-tuning"),
            (1e-5, "preference pairs on an adapter: far below that of fine-tuning, or the model falls apart")),
    "kto": ((5e-7, "KTO: as DPO, far below that of fine-tuning"), (5e-6, "KTO on an adapter: half of DPO's (practice)")),
    "orpo": ((8e-6, "ORPO has no reference to hold it, and its loss is fine-tuning's with a term more (Hong et al. 2024)"),
             (5e-5, "ORPO on an adapter: between preferences and fine-tuning (practice)")),
    "cpo": ((1e-6, "preference pairs without a reference: TRL's default"),
            (1e-5, "preference pairs on an adapter: ten times TRL's default for full fine-tuning")),
    "reward": ((1e-5, "a score on top of the model: as for classification (practice)"),
               (1e-4, "a score on an adapter: TRL's default; its documentation goes to 1e-3")),
    "grpo": ((1e-6, "TRL's default: the answers change with the model, so it may not run ahead"),
             (1e-5, "GRPO on an adapter: ten times TRL's default for full fine-tuning")),
}  # fmt: skip
"""By objective: for full fine-tuning and for adapters."""
BETAS: dict[str, tuple[float, str]] = {
    "dpo": (0.1, "how close it stays to the reference: TRL's default, and the paper's"),
    "kto": (0.1, "how close it stays to the reference: TRL's default, and the paper's"),
    "orpo": (0.1, "the weight of the preference beside fine-tuning's loss: TRL's default"),
    "cpo": (0.1, "the sharpness of the preference: TRL's default"),
    "grpo": (0.0, "no pull towards a reference, which then need not be loaded: TRL's default"),
}


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


def rank(goal: Goal, rows: int, kind: str = "lora") -> Rule:
    if kind == "vera":
        return Rule(256, "peft's default: a rank costs one number a matrix here, the random matrices are shared")
    if kind == "randlora":
        return Rule(32, "peft's default: here a lower rank trains more, as there are more bases")
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


def method_learning_rate(kind: str, parameters: int, rows: int) -> Rule:
    """For every method: its own, a multiple of LoRA's, or LoRA's."""
    if kind in RATES:
        return Rule(*RATES[kind])
    usual = learning_rate("full" if kind == "full" else "lora", parameters, rows)
    if kind in TIMES_LORA:
        times, why = TIMES_LORA[kind]
        return Rule(usual.value * times, why)
    return usual if kind in ("full", "lora", "qlora") else Rule(usual.value, f"as for LoRA: {usual.why}")


def objective_learning_rate(objective: str | None, kind: str, parameters: int, rows: int) -> Rule:
    """Preferences have rates of their own; methods that need more or less than LoRA's do so there too, in proportion."""
    own = method_learning_rate(kind, parameters, rows)
    if objective not in PREFERENCE_RATES:
        return own
    full, adapter = PREFERENCE_RATES[objective]
    if kind == "full":
        return Rule(*full)
    value, why = adapter
    times = own.value / learning_rate("lora", parameters, rows).value
    if times == 1:
        return Rule(value, why)
    return Rule(float(f"{value * times:.2g}"), f"{why}; {times:.3g} times that: {own.why}")


PREFERENCE_EPOCHS = Rule(1.0, "preferences over-fit at the second look")
GRPO_EPOCHS = Rule(1.0, "each prompt is answered several times already")


def objective_epochs(objective: str | None, kind: str, rows: int) -> Rule:
    if objective == "grpo":
        return GRPO_EPOCHS
    return PREFERENCE_EPOCHS if objective in PREFERENCE_RATES else epochs(kind, rows)


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
