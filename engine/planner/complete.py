"""Fills what is open in a specification by the rules of thumb, each value with its reason. Pure functions."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from engine.data.lengths import Lengths
from engine.methods import METHODS
from engine.models import ModelFacts
from engine.planner import rules
from engine.planner.objectives import PAIRS
from engine.planner.rules import Goal, Reason
from engine.planner.step import PLAIN
from engine.planner.steps import general_size, steps_for, validation_rows
from engine.spec import QuantizationSpec, RunSpec

IMITATES = (None, "sft", "text")
"""Objectives that learn an answer as it is: their rows can be packed, split and grouped."""
OWN_LOSS = {"orpo": "ORPO makes all logits by itself", "cpo": "CPO makes all logits by itself",
            "reward": "a score has no vocabulary"}  # fmt: skip
DEFAULTS = {"compute.processes": 1, "compute.sharding": "ddp"}
"""Fields that are open at another value than None."""
UNEVEN = 1.3
"""Rows are grouped by length where one in twenty is longer than the mean by this factor."""
GENERAL_SHARE = 0.02
"""The most of a run's time that general texts may take."""
ALONE = 512
"""A short text by itself takes a GPU about as long as so many tokens of a full batch (a guess on the safe side)."""
ROOM = 2.0
"""GiB that the logits may take on a CPU before the slower loss that never makes them all is chosen."""


FP32_BELOW = 10_000_000
"""Parameters below which bfloat16 costs more than it saves on a CPU: x1.5 at 0.1 M, x1.2 at 2.6 M, x1.04 at 12 M, and a loss
at 135 M (random Llamas on two cores with AMX, rows of 60 to 200 tokens; `bench.train` has the ends)."""


class Known(NamedTuple):
    """What the rules look at. `parameters` counts the model's, `rows` the data's; a guess where they are not known."""

    parameters: int
    context: int
    rows: int
    lengths: Lengths | None
    goal: Goal
    gpu: bool
    vocab: int = 0


def known(
    facts: ModelFacts, parameters: int | None, rows: int | None, lengths: Lengths | None, goal: Goal, gpu: bool
) -> Known:
    """`parameters` and `rows` None are taken as 1B and 5,000: the middle of the rules."""
    return Known(
        parameters or 10**9, facts.context or 1024, 5000 if rows is None else rows, lengths, goal, gpu, facts.vocab
    )


class Filling:
    """A specification while it is filled: what was given is never replaced, what is chosen gets its reason."""

    def __init__(self, spec: RunSpec) -> None:
        self.spec = spec
        self.reasons: list[Reason] = []

    def choose(self, path: str, value: Any, why: str) -> None:
        section, _, name = path.partition(".")
        old, default = getattr(self.spec, section), DEFAULTS.get(path)
        if getattr(old, name) != default:
            return
        self.spec = self.spec.model_copy(update={section: old.model_copy(update={name: value})})
        if value != default:
            plain = value.model_dump() if isinstance(value, QuantizationSpec) else value  # reasons are stored as JSON
            self.reasons.append(Reason(path, plain, why))

    def rule(self, path: str, made: rules.Rule) -> None:
        self.choose(path, made.value, made.why)


def complete(spec: RunSpec, k: Known, decided: Mapping[str, tuple[Any, str]]) -> tuple[RunSpec, tuple[Reason, ...]]:
    """A complete specification and the reason for each value that was open.

    `decided` are values with reasons that come from elsewhere, by path: method, batch and the like, which depend on what fits.
    """
    filling = Filling(spec)
    for path, (value, why) in decided.items():
        filling.choose(path, value, why)
    _data(filling, k)
    _method(filling, k)
    _training(filling, k)
    _loss(filling, k)
    _objective(filling, k)
    _rhythm(filling, k)
    return filling.spec, tuple(filling.reasons)


def _data(filling: Filling, k: Known) -> None:
    most = 500 if k.gpu else 8
    if k.rows < 20:
        filling.choose("data.validation", 0, f"{k.rows} rows are too few to hold any out")
    else:
        count = max(1, min(most, round(k.rows * 0.05)))
        filling.choose(
            "data.validation", count, f"5 % of the rows, at most {most} {'on a GPU' if k.gpu else 'on a CPU'}"
        )


def _method(filling: Filling, k: Known) -> None:
    """What the method has, and nothing that it has not."""
    kind = filling.spec.method.kind or "lora"
    has = METHODS[kind].fields
    if kind == "qlora":
        filling.choose("method.quantization", QuantizationSpec(), "4-bit NormalFloat, its scales quantised too (QLoRA)")
    if "rank" in has:
        filling.rule("method.rank", rules.rank(k.goal, k.rows, kind))
    if "targets" in has:
        filling.choose("method.targets", "all-linear", "better than attention alone")
    if "alpha" in has:
        filling.choose(
            "method.alpha", float(2 * (filling.spec.method.rank or 1)), "2 x rank: the usual scale for adapters"
        )
    if "dropout" in has:
        filling.rule("method.dropout", rules.dropout(k.rows))
    if "virtual_tokens" in has:
        filling.choose("method.virtual_tokens", 20, "as in peft's guide; each is a token less for the text")


def _training(filling: Filling, k: Known) -> None:
    spec = filling.spec
    kind, objective, most = spec.method.kind or "lora", spec.objective, spec.training.max_steps
    filling.rule("training.learning_rate", rules.objective_learning_rate(objective, kind, k.parameters, k.rows))
    epochs = rules.objective_epochs(objective, kind, k.rows)
    filling.choose("training.epochs", epochs.value, f"not used: max_steps {most} decides" if most else epochs.why)
    filling.rule("training.weight_decay", rules.weight_decay(k.rows))
    filling.rule("training.warmup", rules.warmup(k.rows))
    filling.rule("training.max_grad_norm", rules.max_grad_norm(kind))
    filling.choose("training.precision", *_precision(spec, k))
    filling.choose("training.long_rows", "split" if objective == "text" else "drop",
                   "text goes on in the next row: nothing is lost" if objective == "text" else
                   "a row that is cut loses its end token, and the model would not learn to stop")  # fmt: skip
    filling.choose("training.compile", False, "compiling takes minutes, and rows of other lengths compile again")


def _precision(spec: RunSpec, k: Known) -> tuple[str, str]:
    if not k.gpu and k.parameters < FP32_BELOW and spec.method.base is None:
        return "fp32", "so small a model is faster without casting on a CPU"
    if spec.method.kind == "full":
        return "mixed", (
            "bfloat16 weights would swallow full fine-tuning's small updates; these are fp32, the arithmetic bfloat16"
        )
    if spec.method.kind == "ln_tuning" and spec.method.base is None:
        return "mixed", "norms of bfloat16 lie near 1 and would swallow small updates; these are fp32"
    return "bf16", "bfloat16 weights and arithmetic: half the memory, the same quality"


def _loss(filling: Filling, k: Known) -> None:
    """How the loss is computed, and which rows share a batch."""
    filling.choose("training.fused_head", *_fused_head(filling.spec, k))
    filling.choose("training.group_by_length", *_group(filling.spec, k))


def _fused_head(spec: RunSpec, k: Known) -> tuple[bool, str]:
    """Whether the loss does without all logits at once: on a GPU always, on a CPU where they would take much."""
    if spec.objective in OWN_LOSS:
        return False, OWN_LOSS[spec.objective]
    t = spec.training
    rows = (t.micro_batch or 1) * (2 if spec.objective in PAIRS else 1)
    each = PLAIN + (4 if t.precision == "fp32" else 2)
    gib = rows * _longest(spec, k) * k.vocab * each / 2**30
    much = (
        f"all logits at once would take {gib:.1f} GiB with their loss" if k.vocab else "all logits would fill the card"
    )
    if k.gpu or gib > ROOM:
        return True, much
    return False, "plain cross-entropy is a third faster on a CPU"


def _longest(spec: RunSpec, k: Known) -> int:
    """Tokens of the longest row of a batch."""
    most = spec.training.max_length or 1024
    if k.lengths and k.lengths.measured and not spec.training.packing:
        most = min(most, k.lengths.longest)
    return most + (spec.objective_options.completion_length or 0 if spec.objective == "grpo" else 0)


def _group(spec: RunSpec, k: Known) -> tuple[bool, str]:
    """Whether rows of like length share a batch."""
    t = spec.training
    if spec.objective not in IMITATES:
        return False, "a row of this objective has no one length"
    if t.packing:
        return False, "packed rows are of one length"
    if (t.micro_batch or 1) == 1:
        return False, "one row at a time has no padding"
    if k.lengths is None:
        return False, "the lengths of the rows are not known"
    kept = [min(n, t.max_length or n) for n in k.lengths.tokens]
    uneven = kept[int(0.95 * (len(kept) - 1))] * len(kept) / max(1, sum(kept))
    if uneven > UNEVEN:
        return True, "rows of like length share a batch: less padding"
    return False, "the rows are of much the same length"


def _objective(filling: Filling, k: Known) -> None:
    objective = filling.spec.objective
    if objective in rules.BETAS:
        filling.choose("objective_options.beta", *rules.BETAS[objective])


def _rhythm(filling: Filling, k: Known) -> None:
    """How often it is evaluated, saved and asked."""
    spec = filling.spec
    held = validation_rows(spec.data.validation, k.rows)
    train_rows = k.rows - held
    if spec.training.packing and k.lengths:
        train_rows = max(1, math.ceil(train_rows * k.lengths.mean / (spec.training.max_length or 1024)))
    steps = steps_for(spec, train_rows)
    held_out = held > 0 or isinstance(spec.data.validation, str)
    every = max(1, round(steps / 5))
    often = f"about {max(1, steps // every)} times in the run"
    filling.choose("evaluation.every", every if held_out else 0, often if held_out else "no rows held out")
    evaluated = filling.spec.evaluation.every if held_out else 0
    filling.choose("saving.every", evaluated or every, "with each evaluation" if evaluated else often)
    if spec.objective == "reward":
        filling.choose("evaluation.sample_every", 0, "a reward model writes no answers")
    else:
        filling.choose("evaluation.sample_every", evaluated or every, "with each evaluation" if evaluated else often)
    filling.choose("evaluation.general", *_general(filling.spec, k, train_rows, evaluated or 0))


def _general(spec: RunSpec, k: Known, train_rows: int, every: float) -> tuple[bool, str]:
    """Whether the loss on general texts is measured too: wherever it costs little of the run's time."""
    if not every:
        return False, "nothing is evaluated"
    if spec.objective == "reward":
        return False, "a reward model has no loss on text"
    if spec.objective == "grpo":
        return False, "GRPO learns from its own answers and forgets little"
    t, steps = spec.training, steps_for(spec, train_rows)
    batch = (t.micro_batch or 1) * (t.accumulation or 1)
    between = every if every >= 1 else max(1.0, every * train_rows / (batch * spec.compute.processes))
    texts, tokens = general_size(k.gpu)
    read = (math.ceil(steps / between) + 1) * texts * (max(tokens, ALONE) if k.gpu else tokens)
    length = min(k.lengths.mean, t.max_length or 1024) if k.lengths and not t.packing else t.max_length or 1024
    trained = steps * batch * length * (2 if spec.objective in PAIRS else 1)
    share = read / (2 * trained)  # a step goes at least once forward and once backward
    if share > GENERAL_SHARE:
        return False, f"general texts would take about {100 * share:.0f} % of so short a run"
    percent = math.ceil(1000 * share) / 10
    return True, f"{texts} texts, to see what is forgotten: at most about {percent:g} % of the time"
