"""Peak memory of transformers 4.48 with TRL 0.13: the code path of most published measurements. Pure arithmetic.

Full fp32 logits, AdamW with foreach temporaries, reentrant checkpointing; FSDP 1 where there are several cards. Formulas derived
from that code (transformers 4.48.1, peft 0.13, torch 2.4), in bytes per token of the padded batch; what was read off the
published measurements instead says so. `bench.vram_published` holds them against the measurements.
"""

from typing import Literal

from engine.planner.shape import Shape
from engine.planner.trained import optimizer_bytes

CUBLAS = 8_519_680
"""Bytes of cuBLAS workspace on cards before Hopper (torch: 8 x 1 MiB + 128 KiB)."""
Kernels = Literal["none", "foak", "liger"]


def peak(
    shape: Shape,
    method: str,
    tokens: int,
    base: float,
    trained: int,
    rank_inputs: int,
    devices: int = 1,
    autocast: bool = False,
    upcast: bool = False,
    checkpointing: bool = True,
    kernels: Kernels = "none",
    optimizer: str = "adamw_torch",
) -> dict[str, dict[str, float]]:
    """Bytes alive at each candidate for the peak, by component: {moment: {component: bytes}}.

    `tokens` are those of one padded micro-batch; `base` the bytes of the frozen or trained weights; `trained` how many
    parameters are trained; `rank_inputs` the bytes a token that adapters keep (see `adapter_inputs`); `upcast`: peft's
    prepare_model_for_kbit_training made the residual stream fp32; `kernels`: fms-acceleration's (fused RoPE, norm and
    cross-entropy, or with Liger's fused linear cross-entropy).
    """
    full, sharded = method == "full", devices > 1
    size = (
        4 if not full or (sharded and autocast) else 2
    )  # adapters are fp32; accelerate's FSDP upcasts what is trained
    if full:
        base = trained * size
    gradients = trained * size
    state, temporary = optimizer_bytes(optimizer, trained, size, 0)
    h, f, v = shape.hidden, shape.intermediate, shape.vocab
    stream = 4 if upcast and not sharded else 2
    kept = shape.layers * h * stream
    saved = _block(shape, full, kernels) + rank_inputs
    backward = 2 * h + 6 * f
    if not checkpointing:
        kept = shape.layers * saved
    forward_logits, backward_logits = _logits(kernels, autocast)
    dequantised = 2 * h * f if method == "qlora" else 0
    # read off the measurements: FSDP 1 holds each checkpoint twice while a block goes back
    kept_in_block = 2 * kept if sharded and not full else kept
    workspace = _gathered(shape, method) if sharded else CUBLAS
    steady = {"weights": base / devices, "optimizer": state / devices, "workspace": workspace}
    if not full:
        steady["adapter"] = trained * size / devices
    loss = steady | {"activations": tokens * (kept + 6 * h), "logits": tokens * forward_logits * v}
    loss_back = steady | {"activations": tokens * (kept + 4 * h), "logits": tokens * backward_logits * v}
    block = steady | {
        "activations": tokens * (kept_in_block + saved + backward),
        "workspace": steady["workspace"] + dequantised,
    }
    step = steady | {"gradients": gradients / devices, "workspace": temporary / devices}
    moments = {"loss forward": loss, "loss backward": loss_back, "block backward": block, "optimizer step": step}
    if full and not sharded:
        moments["first block backward"] = steady | {
            "gradients": float(gradients),
            "activations": tokens * (h * stream + saved + backward),
        }
    return moments


def _gathered(shape: Shape, method: str) -> float:
    """Bytes of what FSDP has gathered at once: what is outside the blocks, and one block."""
    return 2 * shape.outside + (shape.block / 2 if method == "qlora" else shape.block * 2)


def adapter_inputs(inputs: list[int], rank: int, dropout: bool, autocast: bool) -> int:
    """Bytes a token that LoRA keeps in one block: each adapted module its own copy of its input, cast to the adapter's
    fp32 (bf16 under autocast), a dropout mask of a byte, and the bf16 or fp32 product of the first matrix."""
    return sum(n * ((2 if autocast else 4) + dropout) + 2 * rank for n in inputs)


def _block(shape: Shape, full: bool, kernels: Kernels) -> int:
    """Bytes a token saved in one block: two norms with fp32 copies, attention by flash, the gated MLP."""
    h, f, q, k = shape.hidden, shape.intermediate, shape.queries, shape.keys
    norms = 2 * ((2 if kernels != "none" else 4) * h + 4)
    attention = 2 * (2 * q + 2 * k) + 4 * shape.heads
    trained = 4 * h + 2 * f + 4 * h if full else 0
    return norms + attention + 6 * f + trained


def _logits(kernels: Kernels, autocast: bool) -> tuple[int, int]:
    """Bytes a logit, forward and backward.

    Plain: bf16 logits, their fp32 copy, the shifted fp32 copy, log-softmax: 14; backward log-softmax and two fp32
    gradients: 12. foak's cross-entropy: 8 with autocast and 10 without, read off the Mistral measurements.
    """
    if kernels == "liger":
        return 0, 0
    if kernels == "foak":
        return (8, 8) if autocast else (10, 10)
    return 14, 12
