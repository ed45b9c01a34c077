"""Fills what the user left open in a RunSpec, each value with its reason. Pure functions."""

import math
from dataclasses import dataclass
from typing import Any

from engine.models import ModelFacts
from engine.spec import RunSpec

LEARNING_RATE = {"lora": 2e-4, "qlora": 2e-4, "full": 2e-5}


@dataclass(frozen=True)
class Reason:
    """Why a field has the value that the program gave it."""

    field: str
    value: Any
    why: str


def validation_rows(validation: float | str | None, rows: int) -> int:
    """How many of `rows` are held out: a fraction below 1, else a number; a file holds out none of them."""
    if validation is None or isinstance(validation, str):
        return 0
    return min(rows - 1, round(rows * validation) if validation < 1 else int(validation))


def steps_for(spec: RunSpec, train_rows: int) -> int:
    """Optimizer steps of the run without packing (an upper bound with it)."""
    training = spec.training
    batch = (training.micro_batch or 1) * (training.accumulation or 1) * spec.compute.processes
    return training.max_steps or max(1, math.ceil(math.ceil(train_rows / batch) * (training.epochs or 1)))


def fill(spec: RunSpec, model: ModelFacts, rows: int, gpu: bool) -> tuple[RunSpec, list[Reason]]:
    """A complete specification and the reason for each value that was open.

    `rows` is how many rows the data has, `gpu` whether a GPU will train.
    """
    reasons: list[Reason] = []
    sections = {name: getattr(spec, name) for name in ("data", "method", "training", "evaluation", "saving")}

    def choose(section: str, name: str, value: Any, why: str) -> None:
        if getattr(sections[section], name) is None:
            sections[section] = sections[section].model_copy(update={name: value})
            reasons.append(Reason(f"{section}.{name}", value, why))

    _data(choose, rows, gpu)
    _method(choose, spec)
    _training(choose, spec, model, rows, gpu)
    train_rows = rows - validation_rows(sections["data"].validation, rows)
    steps = steps_for(spec.model_copy(update=sections), train_rows)
    held_out = rows > train_rows or isinstance(sections["data"].validation, str)
    every = max(1, round(steps / 5))
    choose(
        "evaluation",
        "every",
        every if held_out else 0,
        f"about {max(1, steps // every)} times in the run" if held_out else "no rows held out",
    )
    with_evaluation = sections["evaluation"].every if held_out else 0
    choose(
        "saving",
        "every",
        with_evaluation or every,
        "with each evaluation" if with_evaluation else f"about {max(1, steps // every)} times in the run",
    )
    return spec.model_copy(update=sections), reasons


def _data(choose: Any, rows: int, gpu: bool) -> None:
    most = 500 if gpu else 8
    if rows < 20:
        choose("data", "validation", 0, f"{rows} rows are too few to hold any out")
    else:
        count = max(1, min(most, round(rows * 0.05)))
        choose("data", "validation", count, f"5 % of the rows, at most {most} {'on a GPU' if gpu else 'on a CPU'}")


def _method(choose: Any, spec: RunSpec) -> None:
    if spec.method.kind == "full":
        return
    rank = spec.method.rank or 16
    choose("method", "rank", 16, "enough for instructions and style")
    choose("method", "alpha", float(2 * rank), "2 x rank: the usual scale for adapters")
    choose("method", "dropout", 0.05, "adapters on small data over-fit")


def _training(choose: Any, spec: RunSpec, model: ModelFacts, rows: int, gpu: bool) -> None:
    kind = spec.method.kind
    small = model.parameters is not None and model.parameters < 500_000_000
    choose("training", "learning_rate", LEARNING_RATE[kind],
           "full fine-tuning moves every weight" if kind == "full" else "adapters take ten times what full fine-tuning takes")  # fmt: skip
    most = spec.training.max_steps
    choose("training", "epochs", 3.0 if rows < 20_000 else 1.0,
           f"not used: max_steps {most} decides" if most else f"{rows:,} rows: small data is seen three times, large once")  # fmt: skip
    choose("training", "micro_batch", 4, "a common start" if gpu else "a CPU gains nothing from larger ones")
    micro = spec.training.micro_batch or 4
    choose("training", "accumulation", max(1, 16 // micro) if gpu else 1,
           "about 16 rows a step" if gpu else "small steps show progress sooner on a CPU")  # fmt: skip
    choose("training", "max_length", min(1024, model.context or 1024), "TRL's default, within the model's context")
    choose("training", "precision", "mixed" if kind == "full" else "bf16",
           "bfloat16 weights would swallow full fine-tuning's small updates; these are fp32, the arithmetic bfloat16"
           if kind == "full" else "bfloat16 weights and arithmetic: half the memory, the same quality")  # fmt: skip
    choose("training", "packing", False, "rows stay apart; with flash attention packing trains faster")
    choose("training", "checkpointing", gpu or not small,
           "trades a fifth of the speed for most of the activation memory" if gpu or not small
           else "a small model's activations fit, and steps are a fifth faster")  # fmt: skip
