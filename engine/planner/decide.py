"""What follows from the model, the data and the cards once a way to train is chosen: values with their reasons. Pure functions."""

import dataclasses
import math
from typing import Any

from engine.compatibility import why_not
from engine.methods import METHODS
from engine.planner import rules
from engine.planner.complete import IMITATES, Known, known
from engine.planner.plan import Request
from engine.planner.shape import ia3_names

Decided = dict[str, tuple[Any, str]]
STEPS = 200
"""A run of fewer optimizer steps learns little: few rows get a smaller batch instead."""


@dataclasses.dataclass(frozen=True)
class Tier:
    """One way to train, in the order of preference. `optimizer` and `precision` apply to full fine-tuning."""

    kind: str
    precision: str | None = None
    optimizer: str = "adamw_torch_fused"


def known_of(request: Request) -> Known:
    parameters = request.shape.parameters if request.shape else request.facts.parameters
    return known(request.facts, parameters, request.rows, request.lengths, request.goal, request.cards is not None)


def rows_a_step(k: Known, kind: str) -> int:
    """Rows an optimizer step: 16, fewer where there would be less than 200 steps; at most 4 on a CPU, to see progress sooner.

    In short runs steps matter more than rows a step: 2 beat 4 on SmolLM2-135M with 64 rows (`bench.recommend`).
    """
    seen = k.rows * rules.epochs(kind, k.rows).value
    wanted = 1 << max(0, round(math.log2(max(1.0, seen / STEPS))))
    return max(2, min(rules.ROWS_A_STEP if k.gpu else 4, wanted))


def decided(
    request: Request, k: Known, tier: Tier, micro: int, checkpointing: bool, processes: int, sharding: str
) -> Decided:
    """What depends on the model, the cards and the choice itself."""
    t = request.spec.training
    gpu = request.cards is not None
    attention = _attention(request)
    length, why_length = length_of(request, k)
    packing, why_packing = _packing(request, k, t.max_length or length, tier.kind)
    target = rows_a_step(k, tier.kind)
    if packing and k.lengths:
        target = max(1, round(target * k.lengths.mean / (t.max_length or length)))
    micro_batch = t.micro_batch or max(least(request), min(micro, max(1, target)))
    accumulation = max(1, round(target / (micro_batch * processes)))
    rows = "rows"
    grouped: Decided = {}
    if request.spec.objective == "grpo":
        grouped, accumulation = _answers(request, micro_batch, target, processes)
        rows = "answers"
    made: Decided = grouped | {
        "method.kind": (tier.kind, ""),
        "training.micro_batch": (micro_batch, "the fastest that fits with a tenth of the card to spare" if gpu
                                 else "the rows of a step at once"),
        "training.accumulation": (accumulation, f"{accumulation * micro_batch * processes} {rows} a step"),
        "training.checkpointing": (checkpointing, _why_checkpointing(request, tier.kind, checkpointing)),
        "training.max_length": (length, why_length),
        "training.packing": (packing, why_packing),
        "training.attention": attention,
        "training.kernels": _kernels(request),
        "training.optimizer": (tier.optimizer, "8-bit moments: a quarter of AdamW's memory"
                               if tier.optimizer == "adamw_8bit" else "the usual, in one fused kernel"),
        "compute.processes": (processes, f"one process for each of {processes} cards"),
        "compute.sharding": (sharding, "it does not fit on one card: FSDP shares weights and optimizer among them"),
    }  # fmt: skip
    if tier.kind == "ia3" and request.spec.method.targets is None:
        made["method.targets"] = (
            ia3_names(request.facts.config),
            "keys, values and what goes into the MLP's last matrix",
        )
    elif request.shape and request.shape.experts and "targets" in METHODS[tier.kind].fields:
        made["method.targets"] = (
            "attention",
            "an adapter for every expert would build all their weights anew at each step",
        )
    if request.stack == "hf448":
        made |= {"training.optimizer": ("adamw_torch", "the old default"), "training.checkpointing": (True, "as published"),
                    "training.packing": (False, "rows are padded"), "training.precision": ("bf16", "as published")}  # fmt: skip
    elif request.cards and request.cards.card and not request.cards.card.bf16:
        made["training.precision"] = ("fp32", f"{request.cards.name} has no bfloat16")
    elif tier.precision:
        made["training.precision"] = (tier.precision, "fp32 weights, bfloat16 arithmetic: small updates are not swallowed"
                                         if tier.precision == "mixed" else "half the memory; small updates may be swallowed")  # fmt: skip
    return made


def least(request: Request) -> int:
    """The smallest micro-batch, of which others are multiples. KTO estimates its KL term from other rows of the same one (TRL
    refuses 1); GRPO wants whole groups of answers, where their number and the accumulation are given."""
    spec = request.spec
    groups, accumulation = spec.objective_options.generations, spec.training.accumulation
    if spec.objective == "grpo" and groups and accumulation:
        return groups // math.gcd(groups, accumulation * spec.compute.processes)
    return 2 if spec.objective == "kto" else 1


def _answers(request: Request, micro: int, target: int, processes: int) -> tuple[Decided, int]:
    """How many answers GRPO compares and how long they are, and the accumulation that makes whole groups of them: TRL wants
    the answers of a step to be a multiple of those to a prompt."""
    gpu, t = request.cards is not None, request.spec.training
    usual = 8 if gpu else 4
    groups = request.spec.objective_options.generations
    if t.accumulation:
        answers = micro * t.accumulation * processes
        groups = groups or max((n for n in range(2, usual + 1) if answers % n == 0), default=usual)
        accumulation = t.accumulation
    else:
        groups = groups or usual
        whole = groups // math.gcd(groups, micro * processes)
        accumulation = whole * max(1, round(target / (micro * processes * whole)))
    made: Decided = {
        "objective_options.generations": (groups, "answers to a prompt that are compared: TRL's default" if groups == 8 else
                                          "answers to a prompt that are compared: fewer than TRL's 8" if groups == usual else
                                          "answers to a prompt that are compared: they divide those of a step"),
        "objective_options.completion_length": (256 if gpu else 64, "half of TRL's default: writing answers takes most of the time"
                                                if gpu else "short: a CPU writes slowly"),
    }  # fmt: skip
    return made, accumulation


def _why_checkpointing(request: Request, kind: str, checkpointing: bool) -> str:
    if checkpointing:
        return "the activations do not fit without"
    refused = why_not(kind, request.spec.method.variant, "checkpointing")
    return refused or "the activations fit, and steps are a quarter faster"


def _kernels(request: Request) -> tuple[str, str]:
    """The hub's kernels are code from elsewhere, so nobody gets them unasked."""
    if request.cards is None:
        return "none", "they are for GPUs"
    if request.liger and request.stack == "current":
        return "liger", "liger-kernel is installed: fused norms, rotary embeddings and activations"
    return "none", "liger-kernel is not installed"


def _attention(request: Request) -> tuple[str, str]:
    if request.stack == "hf448":
        return "flash_attention_2", "as published"
    if request.flash:
        return "flash_attention_2", "flash-attn is installed"
    if request.shape and not request.shape.family.sdpa:
        return "eager", f"{request.shape.model_type} cannot use sdpa, and flash-attn is not installed"
    return "sdpa", "PyTorch's own: flash kernels where they apply"


def length_of(request: Request, k: Known) -> tuple[int, str]:
    """A multiple of 64 that leaves 99.5 % of the rows whole, within the model's context."""
    if request.lengths is None:
        return min(1024, k.context), "TRL's default, within the model's context"
    lengths = request.lengths
    if request.spec.objective == "text":
        return min(1024, k.context), "TRL's default: longer texts go on in the next row"
    if not lengths.measured:  # characters say too little: a row that is too long would be dropped
        least = max(1024, math.ceil(lengths.quantile(0.995) * 2 / 64) * 64)
        return min(least, k.context, 8192), "at least TRL's default: without the model's tokenizer lengths are a guess"
    wanted = max(64, math.ceil(lengths.quantile(0.995) / 64) * 64)
    found = min(wanted, k.context, 8192)
    whole = sum(n <= found for n in lengths.tokens) / len(lengths.tokens)
    return found, f"keeps {100 * whole:.1f} % of the rows whole"


def _packing(request: Request, k: Known, length: int, kind: str) -> tuple[bool, str]:
    if request.spec.objective not in IMITATES:
        return False, "pairs are not packed" if request.spec.objective != "grpo" else "prompts are not packed"
    if refused := why_not(kind, request.spec.method.variant, "packing"):
        return False, refused
    if not request.cards:
        return False, "on a CPU packing gains nothing"
    if request.lengths is None:
        return False, "the lengths of the rows are not known"
    packed = k.rows * request.lengths.mean / length
    if request.lengths.mean > 0.5 * length:
        return False, f"rows fill {100 * request.lengths.mean / length:.0f} % of the length by themselves"
    if packed * rules.epochs(kind, k.rows).value < STEPS:
        return False, "packed, too few rows would be left for enough steps"
    saved = 100 * (1 - request.lengths.mean / length)
    return True, f"rows fill {100 - saved:.0f} % of the length: packing saves up to {saved:.0f} % padding"
