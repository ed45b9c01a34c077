"""One training step of the current code path as moments, each with what is alive then, in bytes. Pure arithmetic.

The code path is the worker's: autocast to bf16, non-reentrant checkpointing of each block, TRL's fused head, clipping, the
optimizer. Every term was found in, and is tested against, the traced step (`engine.worker.memtrace`).
"""

from dataclasses import dataclass

from engine.planner.adapters import costs, rank_of, virtual_tokens
from engine.planner.block import Setting, Tape, block, norm_output, norm_saved
from engine.planner.shape import Shape
from engine.planner.trained import Static, adapted, quantised_bytes
from engine.spec import RunSpec

CUBLAS = 8_519_680
"""cuBLAS workspace before Hopper (torch: 4096:2:16:8); Hopper has 32 MiB."""
TILE_TOKENS, TILE_WORDS = 4096, 32768
"""The fused head computes logits in tiles of so many tokens and words (trl.kernels.chunked_logprob)."""
PLAIN = 16
"""Bytes of fp32 that the loss makes of each logit where they are all made at once, beside the logit itself."""
Parts = dict[str, float]


def setting(shape: Shape, spec: RunSpec, rows: int, length: int, packed: bool, masked: bool) -> Setting:
    """`packed`: the rows lie in one long row, which attention sees whole."""
    precision, method = spec.training.precision or "bf16", spec.method
    full = method.kind == "full"
    return Setting(
        tokens=rows * length,
        rows=1 if packed else rows,
        length=rows * length if packed else length,
        masked=masked,
        attention=spec.training.attention or ("sdpa" if shape.family.sdpa else "eager"),
        full=full,
        quantised=method.base is not None,
        bits=method.base.bits if method.base else 4,
        rank=rank_of(method),
        dropout=bool(method.dropout) and not full,
        dora=method.variant == "dora",
        adapted=frozenset() if full else frozenset(one.name for one in adapted(shape, method)),
        activation=4 if precision == "fp32" else 2,
        weight=2 if precision == "bf16" else 4,
        stream=4 if precision != "bf16" or _widens(shape, spec) else 2,
        checkpointing=spec.training.checkpointing is not False,
        norms=full or method.kind == "ln_tuning",
        divided=method.kind == "adalora",
        other=costs(method.kind),
        logits=_whole(spec, 4 if precision == "fp32" else 2),
        from_the_start=method.kind in ("prompt", "ptuning", "ln_tuning"),
    )


def _widens(shape: Shape, spec: RunSpec) -> bool:
    """Whether the stream becomes fp32: quantised matrices give back the type they get, and autocast's LayerNorm, or DoRA's
    fp32 magnitudes, give them fp32."""
    if spec.method.base is None:
        return False
    return spec.method.variant == "dora" or (shape.family.norm == "layer" and shape.family.quantizable)


def moments(
    shape: Shape, spec: RunSpec, fixed: Static, rows: int, length: int, packed: bool, masked: bool, cards: int = 1
) -> dict[str, Parts]:
    """{moment: {component: bytes}} of the moments that can be the peak of a step."""
    s = setting(shape, spec, rows, length + virtual_tokens(spec.method), packed, masked)
    tape = block(shape, s)
    stream = float(s.tokens * shape.hidden * s.stream)
    kept = shape.layers * stream if s.checkpointing else shape.layers * tape.saved - _first_block(shape, s, tape)
    if s.quantised and s.bits == 8 and s.checkpointing:
        kept += shape.layers * _int8_inputs(shape, s)
    kept += _encoder(spec, fixed)
    before = kept if s.checkpointing else kept - tape.saved
    norm = norm_saved(shape, s) * s.tokens
    copies = _weight_copies(shape, s, fixed)
    accumulated = (spec.training.accumulation or 1) > 1
    new = 0.0 if accumulated else 1.0  # gradients that the step has yet to make; the others are there all along
    embedding = float(shape.embedding * s.weight) if s.full else 0.0
    block_gradients = float(shape.block * s.weight) if s.full else 0.0
    share = shared(shape, spec, fixed, cards)
    mask = _mask(s, shape)  # blocks that are recomputed keep it
    steady: Parts = {
        "weights": share.weights,
        "adapter": share.adapter,
        "optimizer": share.optimizer,
        "gradients": share.gradients if accumulated else 0.0,
        "workspace": CUBLAS + _inputs(s, shape) + mask * s.checkpointing + share.workspace,
    }

    def moment(gradients: float = 0.0, **more: float) -> Parts:
        parts = {name: steady.get(name, 0.0) + value for name, value in more.items()}
        of_ours = share.gradients / fixed.gradients if fixed.gradients else 1.0
        return steady | parts | {"gradients": steady["gradients"] + gradients * new * of_ours}

    in_block = max(tape.going_back(), _recompute(shape, s, tape)) + stream
    made = embedding if s.weight == 4 else 3 * embedding  # the head's gradient in fp32, and in the weight's type
    found = {
        # without checkpoints the frames still hold the embedded tokens and the block's input
        "forward": moment(
            activations=before + tape.peak + (0 if s.checkpointing else 2 * stream),
            workspace=copies + share.blocks + mask * (not s.checkpointing),
        ),
        "loss forward": moment(
            activations=kept + norm + 2 * stream,
            workspace=copies + share.head,
            logits=_logits(shape, s, 0),
        ),
        "loss backward": moment(
            activations=kept + norm + 2 * stream + (s.tokens * shape.hidden * 4 if s.stream == 2 else 0),
            logits=_logits(shape, s, 1) + (made if s.full else 0),
            workspace=share.head + (0 if s.checkpointing else copies),
        ),
        "last block backward": moment(gradients=embedding, activations=before + in_block, workspace=share.blocks),
        "optimizer step": moment(gradients=fixed.gradients, workspace=fixed.transient / share.parts),
    }
    if s.full:
        later = (shape.layers - 1) * block_gradients + embedding
        first = stream if s.checkpointing else 0.0
        found["first block backward"] = moment(gradients=later, activations=first + in_block, workspace=share.blocks)
        twice = embedding if shape.tied or accumulated else 0.0
        if s.tokens > 3072:  # the embedding's backward sorts its tokens, and adds up in fp32 (Embedding.cu)
            twice += 4 * shape.hidden * (s.tokens / 10 + min(s.tokens, shape.vocab))
        found["embedding backward"] = moment(gradients=fixed.gradients, activations=stream, workspace=twice)
    return found


@dataclass(frozen=True)
class Share:
    """Bytes on one card that do not depend on the batch, when several share them; `parts` is among how many."""

    weights: float
    adapter: float
    gradients: float
    optimizer: float
    workspace: float
    head: float = 0.0
    """More around the loss."""
    blocks: float = 0.0
    """More while blocks run."""
    parts: int = 1


BUCKETS = 10**9
"""Bytes of one of DeepSpeed's buckets (reduce_bucket_size and allgather_bucket_size: 5e8 elements of bf16)."""


def shared(shape: Shape, spec: RunSpec, fixed: Static, cards: int = 1) -> Share:
    """What one of several cards holds. From accelerate 1.15 (FSDP2), torch (DDP) and DeepSpeed's documentation; estimates that
    neither a trace nor a measurement has confirmed.

    DDP keeps a second copy of the gradients in its buckets. FSDP2 shares all, makes what is trained fp32, and gathers in
    bf16 the head from the loss until it has gone back, and two blocks (one at work, one fetched ahead). ZeRO-2
    shares gradients, fp32 masters and moments; ZeRO-3 the weights too. Layers laid over `cards` by one process are taken
    to be as many on each, with the embedding or the head beside them.
    """
    n, sharding = spec.compute.processes, spec.compute.sharding
    w, a, g, o = (float(x) for x in (fixed.weights, fixed.adapter, fixed.gradients, fixed.optimizer))
    if sharding == "layers":
        end = shape.embedding * (2.0 if spec.training.precision in (None, "bf16") else 4.0)
        return Share((w - end) / cards + end, a / cards, g / cards, o / cards, 0.0, parts=cards)
    if n == 1:
        return Share(w, a, g, o, 0.0)
    if sharding == "ddp":
        return Share(w, a, g, o, g)
    quantised = sum(quantised_bytes(one, 4, True) for one in shape.linears if not one.experts)
    unit = quantised if spec.method.base else 2.0 * shape.block
    head, blocks = 2.0 * shape.embedding, 2 * unit
    if sharding == "fsdp":
        full = spec.method.kind == "full"
        masters = 4 / (2 if spec.training.precision == "bf16" else 4) if full else 1.0
        made = (
            6.0 * shape.block if full else 0.0
        )  # a block's gradients before they are shared: bf16, and fp32 to add up
        return Share(w * masters / n, a / n, g * masters / n, o * masters / n, 0.0, head, blocks + made, n)
    moments = 12.0 * fixed.trained
    if sharding == "zero2":
        return Share(w, a, 2.0 * fixed.trained / n, moments / n, 2.0 * BUCKETS, parts=n)
    return Share(w / n, a / n, 2.0 * fixed.trained / n, moments / n, 2.0 * BUCKETS, head, blocks, n)


def _int8_inputs(shape: Shape, s: Setting) -> float:
    """bitsandbytes keeps the input of each 8-bit matrix, past checkpointing; matrices side by side share theirs. Behind
    autocast's LayerNorm they are fp32, but for attention's output."""
    projections = 1 if shape.family.qkv == "fused" else 3
    wide = 4 if norm_output(shape, s) == 4 else s.activation
    sizes = [one.inputs * (s.activation if i == projections else wide)
             for i, one in enumerate(shape.linears) if one.quantizable and not 0 < i < projections]  # fmt: skip
    gated = shape.family.mlp == "gated" and not shape.experts
    return float(s.tokens * (sum(sizes) - (shape.hidden * wide if gated else 0)))


def _first_block(shape: Shape, s: Setting, tape: Tape) -> float:
    """What the first block does not keep, since nothing before its adapters is trained: its norm's input, dropout masks."""
    if s.full or s.checkpointing or s.from_the_start:
        return 0.0
    projections = [one for one in shape.linears[:3] if one.inputs == shape.hidden and one.name in s.adapted]
    dropped: float = s.tokens * (norm_saved(shape, s) + s.dropout * sum(one.inputs for one in projections))
    count = 1 if shape.family.qkv == "fused" else 3
    if shape.family.layout == "parallel" and not any(one.name in s.adapted for one in shape.linears[count + 1 :]):
        dropped += tape.mlp  # beside attention, not behind it
    return dropped + _first_copies(shape, s)


def _first_copies(shape: Shape, s: Setting) -> float:
    """Copies of weights that only the gradient of their input would need, which nobody asks for there."""
    count = 1 if shape.family.qkv == "fused" else 3
    ends = count + 2 if shape.family.layout == "parallel" and shape.family.norms == 1 else count
    first = [*shape.linears[:count], *shape.linears[count + 1 : ends]]
    casts = 0 if s.quantised or not s.copies else sum(one.parameters for one in first)
    merged = sum(one.parameters for one in first if one.name in s.adapted) if s.dora and s.dropout else 0
    return 2.0 * (casts + merged)


def _recompute(shape: Shape, s: Setting, tape: Tape) -> float:
    """The recomputed forward, and the scaled gradient of the last adapter that was made before it was needed."""
    if not s.checkpointing:
        return 0.0
    last = shape.linears[-1]
    return tape.peak + (s.tokens * shape.hidden * s.activation if last.name in s.adapted else 0.0)


def _weight_copies(shape: Shape, s: Setting, fixed: Static) -> float:
    """Autocast keeps a bf16 copy of each fp32 matrix that is trained until the forward has ended."""
    if s.activation == 4 or s.other or s.from_the_start:
        return 0.0
    if s.full:
        held = s.copies and s.checkpointing  # else the tape has them
        return 2.0 * shape.layers * sum(one.parameters for one in shape.linears) if held else 0.0
    return 0.0 if s.quantised else fixed.adapter / 2


def _encoder(spec: RunSpec, fixed: Static) -> float:
    """The bf16 copies that P-tuning's encoder needs until it goes back, last of all."""
    ours = spec.method.kind == "ptuning" and spec.method.base is None and spec.training.precision != "fp32"
    return fixed.adapter / 2 if ours else 0.0


def _inputs(s: Setting, shape: Shape) -> float:
    """Token ids, labels and mask as int64; cos and sin."""
    return 24 * s.tokens + 2 * s.length * shape.head_dim * s.stream


def _mask(s: Setting, shape: Shape) -> float:
    """Attention's mask, one more where some blocks have a window: numbers for eager attention, else bytes."""
    square = s.rows * s.length**2
    if s.attention == "eager":
        return s.weight * square * (1 + bool(shape.window))
    return square * (s.masked or bool(shape.window and shape.window <= s.length))


def _whole(spec: RunSpec, activation: int) -> tuple[int, int] | None:
    """Bytes a logit, forward and back, where all of them are made at once; None with the fused head.

    Without it: the logits, the loss's log-softmax, and another with its exponential and their product for the entropy
    (engine.worker.head). ORPO and CPO: the logits in fp32, the log-softmax of the chosen half, and going back three
    gradients of all (trl.experimental; both were traced).
    """
    if spec.objective in ("orpo", "cpo"):
        return 14, 18
    return (PLAIN + activation, 8 + activation) if spec.training.fused_head is False else None


def _logits(shape: Shape, s: Setting, back: int) -> float:
    if s.logits is None:
        return _tile(shape, s)
    return s.logits[back] * s.tokens * shape.vocab + (2 * shape.embedding if s.copies else 0)


def _tile(shape: Shape, s: Setting) -> float:
    """Logits of the fused head: one tile, a bf16 copy of its part of fp32 weights, and the sums of each token."""
    tile = min(s.tokens, TILE_TOKENS) * TILE_WORDS * s.activation
    copy = min(2 * TILE_WORDS, shape.vocab) * shape.hidden * 2 if s.copies else 0  # this tile's and the last one's
    return tile + copy + 28 * s.tokens
