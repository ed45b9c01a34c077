"""Fills what is open in a specification by the rules of thumb, each value with its reason. Pure functions."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from engine.data.lengths import Lengths
from engine.models import ModelFacts
from engine.planner import rules
from engine.planner.rules import Goal, Reason
from engine.planner.steps import steps_for, validation_rows
from engine.spec import QuantizationSpec, RunSpec


class Known(NamedTuple):
    """What the rules look at. `parameters` counts the model's, `rows` the data's; a guess where they are not known."""

    parameters: int
    context: int
    rows: int
    lengths: Lengths | None
    goal: Goal
    gpu: bool


def known(
    facts: ModelFacts, parameters: int | None, rows: int | None, lengths: Lengths | None, goal: Goal, gpu: bool
) -> Known:
    """`parameters` and `rows` None are taken as 1B and 5,000: the middle of the rules."""
    return Known(parameters or 10**9, facts.context or 1024, 5000 if rows is None else rows, lengths, goal, gpu)


def complete(spec: RunSpec, k: Known, decided: Mapping[str, tuple[Any, str]]) -> tuple[RunSpec, tuple[Reason, ...]]:
    """A complete specification and the reason for each value that was open.

    `decided` are values with reasons that come from elsewhere, by path: method, batch and the like, which depend on what fits.
    """
    names = ("data", "method", "training", "evaluation", "saving", "compute")
    sections = {name: getattr(spec, name) for name in names}
    reasons: list[Reason] = []

    def choose(path: str, value: Any, why: str, replace: Any = None) -> None:
        section, _, name = path.partition(".")
        if getattr(sections[section], name) is replace or getattr(sections[section], name) == replace:
            sections[section] = sections[section].model_copy(update={name: value})
            if value != replace:
                reasons.append(Reason(path, value, why))

    def rule(path: str, made: rules.Rule) -> None:
        choose(path, made.value, made.why)

    for path, (value, why) in decided.items():
        default = {"compute.processes": 1, "compute.sharding": "ddp"}.get(path)
        choose(path, value, why, default)
    method = sections["method"]
    _data(choose, k)
    if method.kind == "qlora":
        choose("method.quantization", QuantizationSpec(), "4-bit NormalFloat, its scales quantised too (QLoRA)")
    if method.kind != "full":
        rule("method.rank", rules.rank(k.goal, k.rows))
        rank = sections["method"].rank
        choose("method.targets", "all-linear", "better than attention alone")
        choose("method.alpha", float(2 * rank), "2 x rank: the usual scale for adapters")
        rule("method.dropout", rules.dropout(k.rows))
    preferred = spec.objective == "dpo"
    rule("training.learning_rate", rules.preference_learning_rate(method.kind) if preferred else
         rules.learning_rate(method.kind, k.parameters, k.rows))  # fmt: skip
    most = spec.training.max_steps
    epochs = rules.PREFERENCE_EPOCHS if preferred else rules.epochs(method.kind, k.rows)
    choose("training.epochs", epochs.value, f"not used: max_steps {most} decides" if most else epochs.why)
    rule("training.weight_decay", rules.weight_decay(k.rows))
    rule("training.warmup", rules.warmup(k.rows))
    rule("training.max_grad_norm", rules.max_grad_norm(method.kind))
    choose("training.precision", "mixed" if method.kind == "full" else "bf16",
           "bfloat16 weights would swallow full fine-tuning's small updates; these are fp32, the arithmetic bfloat16"
           if method.kind == "full" else "bfloat16 weights and arithmetic: half the memory, the same quality")  # fmt: skip
    choose("training.long_rows", "split" if spec.objective == "text" else "drop",
           "text goes on in the next row: nothing is lost" if spec.objective == "text" else
           "a row that is cut loses its end token, and the model would not learn to stop")  # fmt: skip
    _rhythm(choose, spec, sections, k)
    return spec.model_copy(update=sections), tuple(reasons)


def _data(choose: Any, k: Known) -> None:
    most = 500 if k.gpu else 8
    if k.rows < 20:
        choose("data.validation", 0, f"{k.rows} rows are too few to hold any out")
    else:
        count = max(1, min(most, round(k.rows * 0.05)))
        choose("data.validation", count, f"5 % of the rows, at most {most} {'on a GPU' if k.gpu else 'on a CPU'}")


def _rhythm(choose: Any, spec: RunSpec, sections: dict[str, Any], k: Known) -> None:
    """How often it is evaluated and saved."""
    train_rows = k.rows - validation_rows(sections["data"].validation, k.rows)
    if sections["training"].packing and k.lengths:
        train_rows = max(1, math.ceil(train_rows * k.lengths.mean / (sections["training"].max_length or 1024)))
    steps = steps_for(spec.model_copy(update=sections), train_rows)
    held_out = validation_rows(sections["data"].validation, k.rows) > 0 or isinstance(sections["data"].validation, str)
    every = max(1, round(steps / 5))
    often = f"about {max(1, steps // every)} times in the run"
    choose("evaluation.every", every if held_out else 0, often if held_out else "no rows held out")
    evaluated = sections["evaluation"].every if held_out else 0
    choose("saving.every", evaluated or every, "with each evaluation" if evaluated else often)
