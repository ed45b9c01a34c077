"""One block of a decoder, forward and back, as a tape: what autograd saves, what else is alive, operation by operation.

Derived from the installed classes (transformers 5.23, peft 0.21, torch 2.13, bitsandbytes 0.50) and held against the traced step.
Sizes are bytes a token unless they are called `fixed`. Widths: h hidden, f intermediate, q queries, k keys.
"""

from dataclasses import dataclass, field

from engine.planner.adapters import Cost
from engine.planner.shape import Linear, Shape, feeds_forward


@dataclass(frozen=True)
class Setting:
    """What the memory of a step depends on besides the shape. `length` is the side of attention's square."""

    tokens: int
    rows: int
    length: int
    masked: bool
    attention: str
    full: bool
    quantised: bool
    bits: int
    rank: int
    dropout: bool
    dora: bool
    adapted: frozenset[str]
    activation: int
    """Bytes of an element of most activations: 2 under autocast, 4 without."""
    weight: int
    """Bytes of an unquantised weight."""
    stream: int
    """Bytes of an element of the residual stream."""
    checkpointing: bool
    logits: tuple[int, int] | None = None
    """Bytes of each logit, forward and back, where they are made all at once; None for the fused head."""
    norms: bool = False
    """Whether the norms are trained."""
    from_the_start: bool = False
    """Whether something before the first block's matrices is trained, so that its input needs a gradient."""
    divided: bool = False
    """Whether what an adapter makes is scaled and divided by itself, as AdaLoRA does by its ranks."""
    other: tuple[Cost, Cost] | None = None
    """What a matrix of attention and one of the MLP cost with an adapter that is none of LoRA's."""

    @property
    def copies(self) -> bool:
        """Autocast makes bf16 copies of fp32 weights."""
        return self.weight == 4 and self.activation == 2


@dataclass
class Tape:
    """Operations in the order of the forward; all numbers in bytes of the whole micro-batch."""

    tokens: int
    saved: float = 0.0
    mlp: float = 0.0
    """How much of it the MLP or the experts keep."""
    peak: float = 0.0
    operations: list[tuple[float, float, float]] = field(default_factory=list)

    def save(self, per_token: float, fixed: float = 0.0) -> None:
        self.saved += self.tokens * per_token + fixed

    def forward(self, per_token: float, fixed: float = 0.0) -> None:
        """So much is alive besides what is saved."""
        self.peak = max(self.peak, self.saved + self.tokens * per_token + fixed)

    def backward(self, per_token: float, fixed: float = 0.0, gradients: float = 0.0) -> None:
        """So much is alive while the operation goes back; `gradients` of its weights stay."""
        self.operations.append((self.saved, self.tokens * per_token + fixed, gradients))

    def going_back(self) -> float:
        """The most that is alive while the block goes back."""
        left, most = 0.0, 0.0
        for saved, extra, gradients in reversed(self.operations):
            most = max(most, saved + extra + left)
            left += gradients
        return most


def block(shape: Shape, s: Setting) -> Tape:
    """The tape of one block, without its input and the gradient of its output."""
    tape = Tape(s.tokens)
    family, h = shape.family, shape.hidden
    output = norm_output(shape, s) * h
    kept = 0 if s.full and not _wide(shape, s) else output  # trained matrices have saved it already
    dropped = h if shape.dropout else 0
    if family.layout == "post":
        kept = output = 0
    else:
        _norm(tape, shape, s, known=s.checkpointing)
    _attention(tape, shape, s, kept)
    tape.save(dropped)
    if family.layout in ("post", "sandwich"):
        _norm(tape, shape, s)
    if family.layout == "parallel":
        around = kept + s.activation * h
        if family.norms == 2:
            _norm(tape, shape, s, known=True)  # of the same stream
            around += kept
    else:
        around = kept + (0 if s.stream == 4 and family.layout != "post" else s.stream * h)
        if family.layout != "post":
            _norm(tape, shape, s)
    before = tape.saved
    (_experts if shape.experts else _mlp)(tape, shape, s, around)
    tape.mlp = tape.saved - before
    tape.save(dropped)
    if family.layout in ("post", "sandwich"):
        _norm(tape, shape, s)
    return tape


def norm_output(shape: Shape, s: Setting) -> int:
    """Bytes of an element of a norm's output: autocast computes LayerNorm in fp32, the others keep the stream's type."""
    return 4 if shape.family.norm == "layer" else s.stream


def _wide(shape: Shape, s: Setting) -> bool:
    """Whether matrices get fp32 inputs that autocast copies to bf16, each for itself."""
    return s.activation == 2 and norm_output(shape, s) == 4


def norm_saved(shape: Shape, s: Setting) -> int:
    """Bytes a token that a norm keeps: its input in fp32 (the stream itself if that is fp32), the inverse root, and, if it
    is trained, what it multiplies its weight with."""
    h = shape.hidden
    if shape.family.norm == "layer":
        return 4 * h + 8
    trained = h * (4 if shape.family.norm == "gemma" else s.stream) if s.norms else 0
    return 4 * h + 4 + trained


def _norm(tape: Tape, shape: Shape, s: Setting, known: bool = False) -> None:
    """`known`: its input is a checkpoint, which counts already."""
    h = shape.hidden
    tape.save(norm_saved(shape, s) - (4 * h if known and s.stream == 4 else 0))
    tape.forward(12 * h)
    tape.backward(16 * h)


def _attention(tape: Tape, shape: Shape, s: Setting, held: int) -> None:
    """`held` bytes a token of the norm's output are kept by the frame around."""
    b, q, k = s.activation, shape.queries, shape.keys
    wide = _wide(shape, s)
    out = 4 if wide and s.quantised and shape.family.quantizable else b
    projections = shape.linears[: 1 if shape.family.qkv == "fused" else 3]
    made = 0
    for i, one in enumerate(projections):
        _linear(tape, shape, s, one, held + made, saves_input=i == 0 and shape.family.layout != "post", wide=wide)
        made += out * one.outputs
    if shape.family.qk_norm:
        tape.save((4 * (q + k) + 8 * shape.heads) + (s.full * (q + k) * (4 if shape.family.norm == "gemma" else b)))
    tape.forward(held + made + 4 * b * q)
    _core(tape, shape, s, held)
    _linear(tape, shape, s, shape.linears[len(projections)], held, saves_input=s.attention == "eager", wide=False)


def _core(tape: Tape, shape: Shape, s: Setting, held: int) -> None:
    """Attention proper: queries, keys and values after the rotation, what the kernel keeps, and its workspace going back."""
    b, q, k, a = s.activation, shape.queries, shape.keys, shape.heads
    if s.attention == "eager":
        scores = a * s.length
        tape.save(b * 3 * q)
        if shape.family.sinks:  # the softmax stays in bf16
            tape.forward(held + 3 * b * scores)
            tape.save((b if s.stream == 2 else 4 + 2 * b) * scores + 8 * a)
            tape.backward(2 * b * scores)
            tape.save(b * q)
            return
        if shape.softcap:
            tape.save(scores * b)
        tape.forward(held + scores * (2 * b + 4))
        tape.save(scores * (4 + (b if b == 2 else 0)))
        tape.forward(held + scores * b + b * q)
        tape.backward(scores * (b + 4))  # two of fp32; what the product saved is free by then, in bf16 a copy
        tape.save(b * q)
        return
    masked = s.masked or bool(shape.window and shape.window <= s.length)
    repeated = masked and shape.kv_heads < a
    bias = masked and not s.attention.startswith("flash")
    # a family that splits one projection saves views of it: queries and keys are new after the rotation, values are not
    views = shape.family.qkv == "fused" and not (_wide(shape, s) and s.quantised and shape.family.quantizable)
    values = shape.linears[0].outputs if views else k
    turned = q + (q if repeated else k) + (q if repeated else values)
    kept = turned if shape.family.rotary else values
    tape.save(b * (kept + q) + 4 * a, b * s.rows * s.length**2 if bias else 0)
    tape.forward(held + b * 2 * k)
    grouped = 4 * q if shape.kv_heads < a and not bias else 0
    tape.backward(4 * q + b * (2 * q + 2 * k) + grouped)


def _mlp(tape: Tape, shape: Shape, s: Setting, held: int) -> None:
    wide = _wide(shape, s)
    out = 4 if wide and s.quantised and shape.family.quantizable else s.activation
    first = 1 if shape.family.qkv == "fused" else 3
    matrices = shape.linears[first + 1 :]
    last, f = matrices[-1], matrices[-1].inputs
    post = shape.family.layout == "post"
    for i, one in enumerate(matrices[:-1]):
        _linear(tape, shape, s, one, held + (out * f if i else 0), saves_input=i == 0 and not post, wide=wide)
        tape.save(out * one.outputs)
    if shape.family.mlp == "plain":
        _activation(tape, shape, s, f, held, out)
    else:
        tape.save(out * f)  # what the activation made, for the product
        tape.forward(held + out * f)
        tape.backward(3 * out * f)
    ends = shape.family.layout in ("pre", "parallel") and not shape.dropout
    gelu = shape.family.mlp == "plain" and shape.activation == "gelu_new" and s.activation == 2
    _linear(
        tape,
        shape,
        s,
        last,
        held,
        saves_input=True,
        wide=(out == 4 and s.activation == 2) or gelu,
        last=ends,
        given=0 if s.full else out * f,
    )


def _activation(tape: Tape, shape: Shape, s: Setting, f: int, held: int, out: int) -> None:
    """An activation without a gate. gelu_new is written out in Python, and autocast computes its power in fp32."""
    if shape.activation == "gelu_new":
        tape.save(12 * f)
        tape.forward(held + 8 * f)
        tape.backward(12 * f)
    else:
        tape.forward(held + out * f)
        tape.backward(2 * out * f)


def _experts(tape: Tape, shape: Shape, s: Setting, held: int) -> None:
    """Routed experts, as one grouped product for all: every token appears `active` times, sorted by expert."""
    b, h, e, n = s.activation, shape.hidden, shape.expert_intermediate, shape.active
    clipped = 3 * e if shape.family.sinks else 0  # GPT-OSS clamps and writes its activation out in Python
    weights = shape.experts * 3 * h * e * s.weight if s.full else 0
    tape.save((4 + b) * shape.experts + 24 * n + (n * b * h if s.full else 0))
    tape.save(n * b * (3 * e + clipped))
    tape.forward(held + n * b * (h + (4 * e if clipped else e)))
    tape.backward(n * b * 3 * e, 0, weights)
    tape.save(n * b * h + (n * b * e if s.full else 0))
    tape.forward(held + 2 * n * b * h)
    tape.backward(3 * n * b * h)


def _linear(
    tape: Tape,
    shape: Shape,
    s: Setting,
    one: Linear,
    held: float,
    saves_input: bool,
    wide: bool,
    last: bool = False,
    given: float = 0.0,
) -> None:
    """A matrix with its adapter, if it has one. `saves_input`: nothing has saved its input yet; `wide`: it is fp32 under
    autocast; `last`: nothing that the backward needs comes after it, so that recomputing stops in it; `given`: its input, as the
    caller holds it."""
    held += given
    b, n, m = s.activation, one.inputs, one.outputs
    narrow = b * n if wide else 0  # autocast's copy of the input
    result = 4 if wide and s.quantised and one.quantizable else b
    grown = 0 if last else b * m
    stops = last and s.checkpointing
    if s.full:
        tape.save(b * n if saves_input or wide else 0, 2 * one.parameters if s.copies else 0)
        tape.forward(held + b * m)
        tape.backward(b * n + grown, (2 if s.copies else 0) * one.parameters, s.weight * one.parameters)
        return
    if s.copies and not (s.quantised and one.quantizable):
        tape.save(0, 2 * one.parameters)
    dequantised = 2.125 * n * m if s.quantised and s.bits == 4 and one.quantizable else 0.0  # with the scales in fp32
    eight = s.quantised and s.bits == 8 and one.quantizable
    back = 2 * n * m if dequantised or eight else 0
    if eight and saves_input and not s.checkpointing and (wide or s.dropout or one.name not in s.adapted):
        tape.save(4 * n if wide else b * n)  # bitsandbytes keeps it, and nobody else does
    # LLM.int8 copies its input to fp16 and to int8, and looks for outliers in it
    tape.forward(held + result * m + narrow + (6 * n if eight else 0), dequantised)
    if one.name not in s.adapted:
        tape.backward(b * n + grown, back)
        return
    tape.backward(2 * b * n + grown, back)
    if s.other:
        _other(tape, s.other[feeds_forward(shape, one)], s, one, held, grown)
        return
    mask = n if s.dropout else 0
    divided = 6 * m if s.divided else 0
    if s.dora:
        _dora(tape, s, one, held, wide or s.quantised)
    if s.quantised:
        saved = b * n if wide or s.dropout or saves_input else 0
        if saves_input and not (wide or s.dropout):
            held -= given  # that is what it saves
        tape.forward(
            held + result * m + mask + saved + (4 * n if wide and s.dropout else 0) + divided + 2 * n * s.divided
        )
        tape.save(saved + mask + s.rank * b)
        if not stops:
            tape.forward(held + 3 * result * m)
        tape.backward(b * n * (2 if s.dropout else 1) + grown + (4 * n if wide else 0) + divided)
        return
    copy = 4 * n if b == 2 and not wide else 0
    dropped = 4 * n if s.dropout else 0
    tape.save((b * n if b == 2 or s.dropout or saves_input else 0) + mask + s.rank * b)
    tape.forward(held + b * m + copy + (dropped if b == 2 else 0) + divided)
    if not stops:
        tape.forward(held + 3 * b * m + copy)
    tape.backward(max(b * n + (4 * n if b == 2 else 0), (4 * n if b == 2 else 0) + dropped) + grown + divided)


def _other(tape: Tape, cost: Cost, s: Setting, one: Linear, held: float, grown: float) -> None:
    """An adapter that is none of LoRA's, by the table; without autocast its copies are twice as wide."""
    m, wide = one.outputs, s.activation / 2 * (0.5 if cost.halved and s.quantised else 1.0)
    n = min(one.inputs, m) if cost.smaller else one.inputs
    weights = one.inputs * m
    fixed = cost.each * n + cost.weight * weights + (cost.square + cost.square_a_rank * s.rank) * n * n
    tape.save(wide * (cost.inputs * n + cost.outputs * m), wide * (fixed + cost.rank * s.rank * (n + m)))
    passing = wide * (cost.passing_inputs * n + cost.passing_outputs * m)
    big = wide * (cost.passing_weight * weights + cost.passing_square * n * n)
    tape.forward(held + s.activation * m + passing, big)
    tape.backward(s.activation * one.inputs + grown + passing, big)


def _dora(tape: Tape, s: Setting, one: Linear, held: float, wide: bool) -> None:
    """What DoRA adds to an adapter: peft finds the norm of the merged weight through an identity matrix of the input's size,
    and keeps both products; with dropout also a copy of the weight. `wide`: the input is fp32, and the weights become it."""
    b, n, m = s.activation, one.inputs, one.outputs
    copy = 2 * n * m if s.dropout else 0
    cast = 4 * n + (4 * n if s.dropout else 0)
    tape.forward(held + b * m + cast, 2 * n * n + 16 * n * m if wide else 6 * n * n + 2 * n * m + copy)
    tape.save(2 * b * m, copy)
    if wide and not s.quantised:
        tape.forward(held + 14 * m, 2 * n * n + 8 * n * m)  # three products in fp32 and a difference
