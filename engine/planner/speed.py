"""How fast a run will be, from the work that it does: arithmetic only, and always an estimate.

A micro-batch costs matrix products, everything between them (norms, activations, copies, adapters), and at least the time
in which Python can launch the kernels. The constants were chosen together, on round values, to fit 35 published runs without
compilation: A100 and L40 (fms-acceleration, scripts/benchmarks/refs: Mistral-7B, Mixtral-8x7B, Llama-2-70B; full, LoRA,
QLoRA), A100 (Qwen's README: 1.8B, 7B, 14B with LoRA, 256 to 8192 tokens), L40S (PEFT's method_comparison: Llama-3.2-3B) and
H100 (MakazhanAlpamys/Soup, issue 378: Llama-3.1-8B). They are within 9 % in the median and 32 % at worst (tests/engine/test_speed.py
has the rows); no run was kept aside, so expect somewhat worse. torch.compile would be faster.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.planner.adapters import LORA_LIKE
from engine.planner.calibrate import CPU, PastRun, correction
from engine.planner.shape import Shape, shape
from engine.spec import RunSpec

if TYPE_CHECKING:
    from engine.cards import Cards
    from engine.catalog import Card

MATMUL = 0.9
"""Share of the dense peak that large matrix products reach."""
BETWEEN = 0.25e-9
"""Seconds a token, layer, unit of hidden size and pass for what lies between the products, on 2,039 GB/s. It was seen to
fall with the square root of the bandwidth (L40, A100, H100), not with the bandwidth: caches and launches count too."""
LAUNCH = 1.1e-3
"""Seconds a layer and pass below which no micro-batch gets, however short (Qwen-1.8B, 7B and 14B at 256 tokens: 1.2)."""
DEQUANTISE = 5e-12
"""Seconds a 4-bit weight and use of it, on 2,039 GB/s (fms-acceleration: Mistral-7B and Llama-2-70B, QLoRA against LoRA)."""
A100_BANDWIDTH = 2039.0
OPTIMIZER_BYTES = 50
"""Memory traffic of AdamW and gradient clipping a trained parameter (PEFT: full against LoRA on L40S)."""
SEVERAL = 0.87
"""What two cards reach of twice one (fms-acceleration: 0.77 to 0.94 under FSDP)."""
CPU_FLOPS = {"bf16": 1.4e11, "fp32": 0.9e11}
"""Training FLOPs a second and core, whatever the method: SmolLM2-135M with LoRA in SFTTrainer trains 127 and 82 tokens a CPU
second in rows of 60 to 200 by fours (Xeon with AMX). Full and 4-bit differ less than one CPU differs from the next."""
CPU_RECOMPUTING = 0.82
"""Checkpointing on the same CPU: x0.78 to x0.87."""


@dataclass(frozen=True)
class Speed:
    """An estimate; None where nothing is known, and `basis` says in a sentence what it rests on.

    `tokens_per_second` counts real tokens, not padding, on all cards together, as the metric of that name does; times are
    seconds of training, without loading, evaluating and saving. `efficiency` is the share of the cards' dense bf16 peak
    that the executed FLOPs use. `uncorrected` is `tokens_per_second` before this machine's history, which is what a
    run has to remember for the next correction. `band` is the relative half-width of about 90 %.
    """

    tokens_per_second: float | None
    seconds_per_epoch: float | None
    seconds_total: float | None
    efficiency: float | None
    uncorrected: float | None
    band: float | None
    basis: str


def flops_per_token(config: dict[str, Any], sequence_length: int) -> float:
    """Training FLOPs a token by TRL's convention (`trl.trainer.utils.compute_flops_per_token` 1.16), for `mfu`.

    Forward and twice that backward; every token attends to the whole sequence; an MLP has three matrices. That is kept
    where TRL fails for a missing key, and where a family has two (GPT-2, NeoX, Falcon, Phi): there it is too much. Routed
    experts are as wide as `moe_intermediate_size`, else `intermediate_size`. Raises ModelError.
    """
    made = shape(config)
    h, text = made.hidden, config.get("text_config") or config
    attention = 2 * h * (made.queries + 2 * made.keys) + 2 * made.queries * h + 4 * made.queries * sequence_length
    mlp = 6 * h * made.intermediate
    sparse = 0
    if made.experts:
        sparse = math.ceil(made.layers / int(text.get("decoder_sparse_step") or 1))
    experts = made.active * 6 * h * made.expert_intermediate + 2 * h * made.experts
    forward = made.layers * attention + (made.layers - sparse) * mlp + sparse * experts + 2 * made.embedding
    return float(3 * forward)


def mfu(tokens_per_second: float, flops: float, cards: int, tflops: float) -> float:
    """Model FLOPs utilisation in percent, as TRL's `compute_mfu`. `tflops`: dense peak of one card."""
    return 100 * flops * tokens_per_second / (tflops * 1e12 * cards)


def passes(kind: str, checkpointing: bool) -> int:
    """What a step costs in forward passes: forward, the gradient of the activations, with `full` that of the weights, and
    the second forward of checkpointing. Frozen weights need no gradient: LoRA is 2/3 of TRL's three (Hu et al. 2021, 4.2)."""
    return (3 if kind == "full" else 2) + checkpointing


def padded_length(lengths: Sequence[int], batch: int) -> float:
    """Expected longest of `batch` rows drawn at random: what each of them is padded to, in tokens.

    `lengths` of all rows, of a sample, or evenly spaced quantiles. The i-th of n in order of size is the longest with
    probability (i/n)^batch - ((i-1)/n)^batch (the distribution of the maximum).
    """
    n = len(lengths)
    return sum(x * ((i / n) ** batch - ((i - 1) / n) ** batch) for i, x in enumerate(sorted(lengths), 1))


def cost(seconds: float, price_per_hour: float, cards: int) -> float:
    """What a run costs, in the currency of the price of one card."""
    return seconds / 3600 * price_per_hour * cards


def estimate_speed(
    made: Shape, spec: RunSpec, cards: "Cards | None", rows: int, lengths: Sequence[int],
    history: Sequence[PastRun] = (), cores: int = 2,
) -> Speed:  # fmt: skip
    """The speed of a complete specification: on `compute.processes` of the cards, or, without cards, on `cores` of a CPU.

    `rows` is how many there are to train on, `lengths` their tokens as in `padded_length`; rows longer than `max_length` are
    dropped or cut as the specification says.
    """
    t, kind = spec.training, spec.method.kind or "lora"
    most = t.max_length or 1024
    kept = [min(n, most) for n in lengths if n <= most or t.long_rows in ("cut", "split")]
    reason = _no_estimate(spec, cards) if kept else "no estimate: no row is short enough to train on"
    if reason:
        return Speed(None, None, None, None, None, None, reason)
    width = float(most) if t.packing else padded_length(kept, t.micro_batch or 1)
    mean = sum(kept) / len(kept)
    padded = (t.micro_batch or 1) * width
    share = 1.0 if t.packing else mean / width  # packing leaves next to no padding
    processes = spec.compute.processes if cards else 1
    if cards and cards.card:
        seconds = _step_seconds(made, spec, cards.card, padded, width) / (SEVERAL if processes > 1 else 1.0)
    else:
        seconds = _cpu_seconds(made, spec, padded, width, cores)
    positions = padded * (t.accumulation or 1) * processes  # of one step, padding among them
    learned = correction(history, cards.name if cards else CPU, kind, "speed")
    seconds /= learned.factor
    speed = positions * share / seconds
    epoch = rows * len(kept) / len(lengths) * mean / speed
    used, basis = None, "rough: SmolLM2 measured on another CPU, scaled by FLOPs and cores"
    if cards and cards.card:
        work = passes(kind, bool(t.checkpointing)) * _forward_flops(made, width) * positions
        used = work / seconds / (cards.card.tflops * 1e12 * processes)
        basis = f"{used:.0%} of the card's {cards.card.tflops:g} TFLOPS, fitted to published runs"
    return Speed(
        tokens_per_second=speed,
        seconds_per_epoch=epoch,
        seconds_total=t.max_steps * seconds if t.max_steps else epoch * (t.epochs or 1),
        efficiency=used,
        uncorrected=speed / learned.factor,
        band=learned.band,
        basis=f"estimate: {basis}; {learned.sentence}",
    )


def _no_estimate(spec: RunSpec, cards: "Cards | None") -> str | None:
    """Why nothing can be said, if so."""
    if spec.objective not in (None, "sft", "text"):
        return f"no estimate: how fast {spec.objective} is was not looked into"
    if spec.method.kind not in (None, "full", *LORA_LIKE):
        return f"no estimate: how fast {spec.method.kind} is was not looked into"
    if cards is None:
        return None
    if cards.card is None:
        return "no estimate: a memory size, or a card that is not in the catalog, says nothing about speed"
    if spec.method.base and spec.method.base.bits == 8:
        return "no estimate: how fast 8-bit training is was not looked into"
    if spec.training.precision == "fp32":
        return "no estimate: the catalog does not know how fast the card is in fp32"
    return None if cards.card.bf16 else "no estimate: the card has no bf16 arithmetic and emulates it slowly"


def _forward_flops(made: Shape, length: float) -> float:
    """FLOPs that a forward pass executes a token: two a weight that it meets, the head, causal attention scores."""
    matrices = sum(one.inputs * one.outputs * (made.active if one.experts else 1) for one in made.linears)
    return 2 * (made.layers * (matrices + made.queries * length) + made.embedding)


def _step_seconds(made: Shape, spec: RunSpec, card: "Card", tokens: float, length: float) -> float:
    """Seconds of an optimizer step on one card: its micro-batches of `tokens` in rows of `length`, and the update."""
    kind, recompute = spec.method.kind or "lora", bool(spec.training.checkpointing)
    compute = passes(kind, recompute) * _forward_flops(made, length) * tokens / (card.tflops * 1e12 * MATMUL)
    sweeps = 3 + recompute  # a backward has twice the kernels and the traffic of a forward, whatever is frozen
    between = sweeps * BETWEEN * made.layers * made.hidden * tokens * math.sqrt(A100_BANDWIDTH / card.bandwidth)
    seconds = max(compute + between, sweeps * LAUNCH * made.layers)
    if spec.method.base:
        small = made.layers * sum(one.inputs * one.outputs for one in made.linears if not one.experts)
        seconds += (2 + recompute) * small * DEQUANTISE * A100_BANDWIDTH / card.bandwidth
    update = made.parameters * OPTIMIZER_BYTES / (card.bandwidth * 1e9) if kind == "full" else 0.0
    return seconds * (spec.training.accumulation or 1) + update


def _cpu_seconds(made: Shape, spec: RunSpec, tokens: float, length: float, cores: int) -> float:
    """Seconds of an optimizer step on a CPU."""
    rate = CPU_FLOPS["fp32" if spec.training.precision == "fp32" else "bf16"] * cores
    recompute = CPU_RECOMPUTING if spec.training.checkpointing else 1.0
    return 3 * _forward_flops(made, length) * tokens * (spec.training.accumulation or 1) / (rate * recompute)
