"""What is trained and in which precision: counts of parameters and bytes of weights, adapter, gradients and optimizer.

Read in the installed peft 0.21 (LoRA layers), trl 1.16 (bf16 adapters over a quantised base), bitsandbytes 0.50 (block sizes)
and transformers 5.23 (optimizer names).
"""

from dataclasses import dataclass

from engine.methods import METHODS
from engine.planner.adapters import beside, frozen, of_matrix, rank_of
from engine.planner.shape import Linear, Shape, feeds_forward
from engine.spec import MethodSpec, RunSpec

NF4_BLOCK, DOUBLE_BLOCK = 64, 256
"""Weights that share one absmax; absmaxes that share one fp32 scale (bitsandbytes' defaults)."""


@dataclass(frozen=True)
class Static:
    """Bytes that are there in every step, and counts of parameters."""

    weights: int
    adapter: int
    gradients: int
    optimizer: int
    transient: int
    """Extra bytes while the optimizer steps."""
    trained: int
    total: int


def adapted(shape: Shape, method: MethodSpec) -> list[Linear]:
    """The matrices of one block that get an adapter: `all-linear` is every nn.Linear but the head (peft)."""
    if method.kind and "targets" not in METHODS[method.kind].fields:
        return []
    plain = [one for one in shape.linears if not one.experts]
    if method.targets in (None, "all-linear"):
        gate = [Linear("shared_expert_gate", shape.hidden, 1)] if shape.shared_intermediate else []
        return plain + gate
    if method.targets == "attention":
        names = {one.name for one in plain[: 2 if shape.family.qkv == "fused" else 4]}
    else:
        given = [method.targets] if isinstance(method.targets, str) else method.targets
        names = {name.rpartition(".")[2] for name in given}
        beyond = {name.rpartition(".")[2] for name in given if ".mlp." in f".{name}"}  # GPT-2 has two of one name
        plain = [one for one in plain if one.name not in beyond or feeds_forward(shape, one)]
    return [one for one in plain if one.name in names]


def adapts_experts(shape: Shape, method: MethodSpec) -> bool:
    """Whether peft would adapt fused experts: it then builds the weights of all of them anew in each block and step, which the
    closed form does not model."""
    everywhere = method.kind in ("lora", "qlora") and method.targets in (None, "all-linear")
    return everywhere and bool(shape.experts) and shape.model_type != "gpt_oss"


def adapter_parameters(shape: Shape, method: MethodSpec) -> int:
    """LoRA: rank x (in + out) a matrix (Hu et al. 2021, 4.1); DoRA adds a magnitude for each output (Liu et al. 2024). The
    others: engine.planner.adapters."""
    each = sum(_trained(shape, one, method) for one in adapted(shape, method))
    return (
        shape.layers * each + sum(_trained(shape, one, method) for one in aside(shape, method)) + beside(shape, method)
    )


def _trained(shape: Shape, one: Linear, method: MethodSpec) -> int:
    return of_matrix(one, method, scales_input=feeds_forward(shape, one))


def aside(shape: Shape, method: MethodSpec) -> list[Linear]:
    """Matrices that get an adapter and that text does not pass through: those of a vision tower."""
    if method.kind and "targets" not in METHODS[method.kind].fields:
        return []
    if method.targets in (None, "all-linear"):
        return list(shape.other_linears)
    names = {one.name for one in adapted(shape, method)}
    return [one for one in shape.other_linears if one.name in names]


def saved_modules(shape: Shape, method: MethodSpec) -> int:
    """Parameters of the modules that are trained whole beside an adapter: copies of the embedding or the head."""
    whole = {"embed_tokens": shape.embedding, "lm_head": shape.embedding, "wte": shape.embedding}
    return sum(whole.get(name.rpartition(".")[2], 0) for name in method.modules_to_save)


def quantised_bytes(linear: Linear, bits: int, double: bool) -> int:
    """Bytes of one quantised matrix: NF4 half a byte a weight and an absmax for each 64, itself in 8 bits when `double`;
    LLM.int8 a byte a weight and an fp32 scale a row (Dettmers et al. 2022, 2023). A bias stays bf16."""
    n = linear.inputs * linear.outputs
    bias = 2 * linear.outputs if linear.bias else 0
    if bits == 8:
        return n + 4 * linear.outputs + bias
    blocks = -(-n // NF4_BLOCK)
    scales = blocks + 4 * -(-blocks // DOUBLE_BLOCK) if double else 4 * blocks
    return -(-n // 2) + scales + bias


def weight_bytes(shape: Shape, spec: RunSpec) -> int:
    """Bytes of the base model on the card: what bitsandbytes replaces is quantised, the rest keeps its precision."""
    size = 2 if spec.training.precision in (None, "bf16") else 4
    q = spec.method.base
    if q is None:
        return shape.parameters * size
    matrices = [one for one in shape.linears if one.quantizable]
    if shape.shared_intermediate:
        matrices.append(Linear("shared_expert_gate", shape.hidden, 1))
    matrices = matrices * shape.layers + list(shape.other_linears)
    rest = shape.parameters - sum(one.parameters for one in matrices)
    return sum(quantised_bytes(one, q.bits, q.double) for one in matrices) + rest * size


def static(shape: Shape, spec: RunSpec) -> Static:
    """The bytes that do not depend on the batch. A spec's open fields count as the recommended ones."""
    method = spec.method
    weights = weight_bytes(shape, spec)
    if method.kind == "full":
        trained = shape.parameters - shape.other
        size = 2 if spec.training.precision == "bf16" else 4
        adapter = 0
        largest = max(shape.embedding, *(one.parameters for one in shape.linears))
    else:
        # over a quantised base TRL makes them bf16, and norms are of the base's type
        norms = method.kind == "ln_tuning" and spec.training.precision in (None, "bf16")
        size = 2 if method.base or norms else 4
        whole, own = saved_modules(shape, method), adapter_parameters(shape, method)
        matrices = adapted(shape, method)
        trained = own + whole
        adapter = trained * size + frozen(matrices, shape, method)
        largest = max([rank_of(method) * max(one.inputs, one.outputs) for one in matrices] or [beside(shape, method)])
        largest = max(largest, whole)
    optimizer, transient = optimizer_bytes(spec.training.optimizer or "adamw_torch_fused", trained, size, largest)
    if method.kind == "full" and "8bit" in (spec.training.optimizer or "") and optimizer:
        moments = round(optimizer / trained)  # one for Lion, two for Adam; transformers keeps the embedding's in fp32
        optimizer += round(shape.embedding * (4 * moments - optimizer / trained))
    if method.kind == "full" and "adafactor" in (spec.training.optimizer or ""):
        optimizer = _adafactor(shape)
        transient += 4 * shape.linears[-1].parameters  # a local variable of the matrix before
    total = shape.parameters + (trained if method.kind != "full" else 0)
    moving = trained  # what gets gradients
    if method.kind != "full":
        moving -= sum(_trained(shape, one, method) for one in aside(shape, method))
        optimizer, transient = optimizer_bytes(spec.training.optimizer or "adamw_torch_fused", moving, size, largest)
    return Static(weights, adapter, moving * size, optimizer, transient, trained, total)


def optimizer_bytes(name: str, trained: int, size: int, largest: int) -> tuple[int, int]:
    """(state, extra while it steps) in bytes, for `trained` parameters of `size` bytes, the largest tensor of `largest`.

    AdamW keeps two moments in the parameter's type; foreach (`adamw_torch`) makes one temporary of all of them, fused
    none; 8-bit keeps a byte a moment and an fp32 scale for each 256. Paged states are managed memory: the driver moves them
    to main memory when the card is full, so they are not counted.
    """
    if name.startswith("paged"):
        return 0, 0
    if "8bit" in name:
        moments = 1 if "lion" in name or "rmsprop" in name else 2
        return round(moments * trained * (1 + 4 / DOUBLE_BLOCK)), 0
    if "lion" in name or "rmsprop" in name or name == "adagrad":
        return trained * (4 if "32bit" in name else size), 0
    if "adafactor" in name:
        return round(trained * 0.01) * 4, (16 if size == 2 else 8) * largest
    if name == "sgd":
        return 0, 0
    if "bnb" in name:
        return 2 * trained * 4, 0
    return 2 * trained * size, 0 if "fused" in name else trained * size


def _adafactor(shape: Shape) -> int:
    """Adafactor keeps a row and a column of fp32 for each matrix instead of the second moment (Shazeer & Stern 2018)."""
    block = sum(4 * max(1, one.experts) * (one.inputs + one.outputs) for one in shape.linears)
    outer = 4 * (shape.vocab + shape.hidden) * (1 if shape.tied else 2)
    return shape.layers * (block + 4 * shape.norm_parameters) + outer
