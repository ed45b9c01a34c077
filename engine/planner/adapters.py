"""What each method beyond LoRA trains and keeps: counts by formula, bytes by a table. Pure arithmetic.

Read in the installed peft 0.21 with its default settings (OFT's blocks of 32, BOFT's of 4, RoAd 1, FourierFT's 1,000
frequencies, LoKr's factor -1). A test holds the counts against peft's own and the bytes against traced steps.
"""

import math
from typing import NamedTuple

from engine.planner.shape import Linear, Shape
from engine.spec import MethodSpec

OFT_BLOCK, BOFT_BLOCK, FREQUENCIES = 32, 4, 1000
LORA_LIKE = ("lora", "qlora", "adalora")
"""These share LoRA's layer, and its arithmetic in `engine.planner.block`."""
CHECKED = (
    *LORA_LIKE,
    "full",
    "ia3",
    "prefix",
    "prompt",
    "ptuning",
    "vera",
    "miss",
    "road",
    "delora",
    "hra",
    "ln_tuning",
)
"""Methods whose traced steps the closed form meets about as well as LoRA's; the others are estimates."""


class Cost(NamedTuple):
    """Bytes that a matrix with an adapter takes beyond the frozen one, computing in bf16.

    Kept until it goes back: for each token and input, token and output, input, weight (in x out), in x in, in x in x rank,
    (in + out) x rank; then what passes, forward as well as back. Found by tracing steps of small models with one adapted
    matrix a block, of several shapes and lengths; what is kept comes out as whole bf16 and fp32 copies.
    """

    inputs: float = 0.0
    outputs: float = 0.0
    each: float = 0.0
    weight: float = 0.0
    square: float = 0.0
    square_a_rank: float = 0.0
    rank: float = 0.0
    passing_inputs: float = 0.0
    passing_outputs: float = 0.0
    passing_weight: float = 0.0
    passing_square: float = 0.0
    halved: bool = False
    """Whether these are the adapter's own fp32 numbers, which over a quantised base are bf16."""
    smaller: bool = False
    """Whether the smaller side of the matrix counts as its inputs."""


COSTS: dict[str, Cost] = {
    "ia3": Cost(outputs=2, passing_outputs=4),
    "vera": Cost(outputs=2, rank=2, passing_inputs=4, passing_outputs=10),
    "oft": Cost(inputs=2, each=1480, passing_inputs=8, halved=True),
    "boft": Cost(inputs=2, outputs=2, square=6, passing_square=4),
    "loha": Cost(inputs=2, weight=2, passing_weight=14),
    "lokr": Cost(inputs=2, weight=2, passing_weight=10),
    "hra": Cost(inputs=2, weight=2, square=2, square_a_rank=2, passing_square=12),
    "randlora": Cost(inputs=2, weight=2, square=2, passing_inputs=4, passing_square=10, smaller=True),
    "shira": Cost(inputs=2, weight=2, passing_weight=8),
    "miss": Cost(passing_inputs=4, passing_outputs=4),
    "delora": Cost(inputs=2, passing_inputs=4, passing_outputs=4),
    "road": Cost(outputs=8, passing_outputs=12, halved=True),
    "fourierft": Cost(inputs=2, weight=2, passing_weight=16),
}
INTO = {"ia3": Cost(inputs=4, passing_inputs=8, halved=True)}
"""For matrices of the MLP where that is something else: IA3 scales what goes in."""


def costs(kind: str | None) -> tuple[Cost, Cost] | None:
    """For a matrix of attention and for one of the MLP; None for LoRA and for what adapts no matrix."""
    made = COSTS.get(kind or "")
    return made and (made, INTO.get(kind or "", made))


def rank_of(method: MethodSpec) -> int:
    """The rank while it trains: AdaLoRA begins with half as much again (engine.worker.adapters)."""
    rank = method.rank or 16
    return -(-rank * 3 // 2) if method.kind == "adalora" else rank


def of_matrix(one: Linear, method: MethodSpec, scales_input: bool = False) -> int:
    """Parameters that are trained at one matrix. `scales_input`: IA3 scales what goes into this one, not what comes out."""
    n, m, rank = one.inputs, one.outputs, rank_of(method)
    small = min(n, m)
    match method.kind:
        case "adalora":
            return rank * (n + m + 1)
        case "ia3":
            return n if scales_input else m
        case "vera":
            return rank + m
        case "oft":
            return n // OFT_BLOCK * (OFT_BLOCK * (OFT_BLOCK - 1) // 2)
        case "boft":
            return n * BOFT_BLOCK + m
        case "loha":
            return 2 * rank * (n + m)
        case "lokr":
            return _kronecker(n, m, rank)
        case "hra":
            return rank * n
        case "randlora":
            return -(-small // rank) * (rank + small)
        case "miss":
            return rank * m
        case "delora":
            return rank * (n + m) + 1
        case "road":
            return 2 * (m // 2)
        case "fourierft":
            return FREQUENCIES
    return rank * (n + m) + (m if method.variant == "dora" else 0)


def _kronecker(n: int, m: int, rank: int) -> int:
    """LoKr's first factor whole, its second of low rank unless the rank is no lower (peft.tuners.lokr)."""
    (out_a, out_b), (in_a, in_b) = _factors(m), _factors(n)
    second = rank * (out_b + in_b) if rank < max(out_b, in_b) / 2 else out_b * in_b
    return out_a * in_a + second


def _factors(size: int) -> tuple[int, int]:
    """The two factors of a size that are nearest to its root."""
    first = next(i for i in range(math.isqrt(size), 0, -1) if size % i == 0)
    return first, size // first


def beside(shape: Shape, method: MethodSpec) -> int:
    """Parameters that are trained at no matrix: learned tokens with P-tuning's encoder of three layers, prefixes, norms."""
    tokens, h = method.virtual_tokens or 20, shape.hidden
    match method.kind:
        case "prompt":
            return tokens * h
        case "ptuning":
            return tokens * h + 3 * (h * h + h)
        case "prefix":
            return tokens * shape.layers * 2 * shape.keys
        case "ln_tuning":
            return shape.layers * shape.norm_parameters + h * (2 if shape.family.norm == "layer" else 1)
    return 0


def frozen(matrices: list[Linear], shape: Shape, method: MethodSpec) -> int:
    """Bytes of what an adapter brings along and does not train, all blocks together: random matrices, permutations, indices."""
    if not matrices:
        return 0
    rank, layers = rank_of(method), shape.layers
    widest, highest = max(one.inputs for one in matrices), max(one.outputs for one in matrices)
    match method.kind:
        case "vera":
            return 4 * rank * (widest + highest)
        case "randlora":
            small, large = sorted((widest, highest))
            return 4 * (rank * small + large * -(-small // rank) * rank)
        case "oft":
            return layers * len(matrices) * 8 * OFT_BLOCK * (OFT_BLOCK - 1)
        case "boft":
            return layers * sum(4 * one.inputs**2 for one in matrices)
        case "delora":
            return layers * sum(4 * one.inputs for one in matrices)
        case "shira":
            return layers * sum(8 * rank * (one.inputs + one.outputs) for one in matrices)
    return 0


def virtual_tokens(method: MethodSpec) -> int:
    """Learned tokens that pass through the blocks with each row: prompts do, prefixes are keys and values only."""
    return (method.virtual_tokens or 20) if method.kind in ("prompt", "ptuning") else 0


def memory_note(method: MethodSpec) -> str:
    """How far the memory of this method can be trusted; "" where traces confirm it."""
    if method.kind is None or method.kind in CHECKED:
        return ""
    if method.kind == "shira":
        return "The memory of shira is an estimate that nothing has confirmed: it cannot be traced."
    return f"The memory of {method.kind} is an estimate, within a tenth of traced steps of small models (see --exact)."
