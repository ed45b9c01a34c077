"""Peak GPU memory of a training step, in closed form: arithmetic on a shape and a specification, by component.

`current` is the code that this project runs (torch 2.13, transformers 5.23, trl 1.16, peft 0.21, bitsandbytes 0.50): autocast to
bf16, non-reentrant checkpointing, TRL's fused head. `hf448` is transformers 4.48 with TRL 0.13, for comparison with published
measurements. The traced step (`engine.planner.exact`) is what this is tested against; no GPU has confirmed it yet.
"""

from dataclasses import dataclass
from typing import Any, Literal

from engine.planner import hf448, step
from engine.planner.objectives import PAIRS, with_objective
from engine.planner.shape import Shape
from engine.planner.trained import Static, adapted, static
from engine.spec import RunSpec

Stack = Literal["current", "hf448"]
GIB = 1024**3
CONTEXT = round(0.46 * GIB)
"""CUDA context with the kernels of torch loaded (A100 and RTX 4090 with torch 2.4 to 2.9: 0.40 to 0.52 GiB reported)."""
NCCL = round(0.4 * GIB)
"""Buffers of NCCL where several cards work together (reported 0.3 to 1 GiB)."""
SLACK = {"current": 0.12, "hf448": 0.32}
"""Reserved beyond allocated, as a share of what comes and goes in a step (all but weights, adapter and optimizer). Medians of
NVML less allocated less the context in the published runs, with a fused loss and with full logits (`bench.vram_published`
prints them)."""


@dataclass(frozen=True)
class Batch:
    """The largest micro-batch: `rows` of `length` tokens, or packed into one. `masked`: attention needs a mask."""

    rows: int
    length: int
    packed: bool = False
    masked: bool = False

    @property
    def tokens(self) -> int:
        return self.rows * self.length


@dataclass(frozen=True)
class Memory:
    """Bytes at the moment of the peak, by component, for one card; then what the allocator and the driver add.

    `phase` is that moment. `host` is main memory, `parameters` and `trained` are counts.
    """

    weights: int
    adapter: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    workspace: int
    slack: int
    context: int
    phase: str
    parameters: int
    trained: int
    host: int

    @property
    def peak(self) -> int:
        """What `torch.cuda.max_memory_allocated` would say."""
        parts = (self.weights, self.adapter, self.gradients, self.optimizer, self.activations, self.logits)
        return sum(parts) + self.workspace

    @property
    def device(self) -> int:
        """What NVML would show for the process."""
        return self.peak + self.slack + self.context

    def components(self) -> dict[str, float]:
        """GiB by component, adding up to `device`; `runtime` is workspaces, slack and the CUDA context."""
        names = ("weights", "adapter", "gradients", "optimizer", "activations", "logits")
        parts = {name: getattr(self, name) / GIB for name in names}
        return parts | {"runtime": (self.workspace + self.slack + self.context) / GIB}


def batch_of(spec: RunSpec, longest: int | None = None) -> Batch:
    """The largest micro-batch of a run. `longest` is the longest row in tokens where it is known.

    Rows of unequal length are padded, and attention needs a mask then; so do rows packed into one.
    """
    t = spec.training
    length = t.max_length or 1024
    if t.packing:
        return Batch(t.micro_batch or 1, length, packed=True, masked=not (t.attention or "").startswith("flash"))
    length = min(length, longest or length)
    if spec.objective == "grpo":  # the data has prompts only
        length += spec.objective_options.completion_length or 0
    return Batch(t.micro_batch or 1, length, masked=(t.micro_batch or 1) > 1)


def estimate(
    shape: Shape, spec: RunSpec, stack: Stack = "current", batch: Batch | None = None, cards: int = 1
) -> Memory:
    """The memory of one card. `spec` should be complete; what is open counts as the recommended value. `cards` is over how
    many the layers are laid where the sharding is so."""
    batch = batch or batch_of(spec)
    fixed = static(shape, spec)
    if stack == "hf448":
        moments = _hf448(shape, spec, fixed, batch)
    else:
        rows = batch.rows * (2 if spec.objective in PAIRS else 1)
        moments = step.moments(shape, spec, fixed, rows, batch.length, batch.packed, batch.masked, cards)
        moments = with_objective(shape, spec, moments, batch.rows, batch.length)
    phase, parts = max(moments.items(), key=lambda item: sum(item[1].values()))
    passing = sum(parts.values()) - sum(parts.get(name, 0.0) for name in ("weights", "adapter", "optimizer"))
    several = spec.compute.processes > 1
    return Memory(
        **{name: round(parts.get(name, 0)) for name in
           ("weights", "adapter", "gradients", "optimizer", "activations", "logits", "workspace")},
        slack=round(SLACK[stack] * passing),
        context=CONTEXT + several * NCCL,
        phase=phase,
        parameters=fixed.total,
        trained=fixed.trained,
        host=_host(shape, spec),
    )  # fmt: skip


def from_trace(traced: dict[str, Any], parameters: int, trained: int) -> Memory:
    """The memory that a trace (`engine.planner.exact`) found, with what the driver adds."""
    held = traced["weights"] + traced["adapter"] + traced["optimizer"]
    return Memory(
        weights=traced["weights"], adapter=traced["adapter"], gradients=0, optimizer=traced["optimizer"],
        activations=traced["peak_allocated"] - held, logits=0, workspace=0,
        slack=max(0, traced["peak_reserved"] - traced["peak_allocated"]), context=CONTEXT,
        phase=traced["peak_phase"], parameters=parameters, trained=trained, host=3 * GIB,
    )  # fmt: skip


def _host(shape: Shape, spec: RunSpec) -> int:
    """Main memory of all processes: Python with the libraries about 3 GiB each (measured), and weights read through a map,
    of which the largest file's worth is in use at once; an adapted FSDP model lies in main memory first."""
    each = 3 * GIB + min(5 * GIB, 2 * shape.parameters)
    if spec.compute.sharding == "fsdp":
        each += shape.parameters if spec.method.base else 2 * shape.parameters
    return each * spec.compute.processes


def _hf448(shape: Shape, spec: RunSpec, fixed: Static, batch: Batch) -> dict[str, dict[str, float]]:
    kind = "full" if spec.method.kind == "full" else "qlora" if spec.method.base else "lora"
    # published QLoRA runs compute under autocast; `mixed` says so for the others
    autocast = spec.method.base is not None or spec.training.precision == "mixed"
    inputs = [one.inputs for one in adapted(shape, spec.method)] if kind != "full" else []
    kept = hf448.adapter_inputs(inputs, spec.method.rank or 16, bool(spec.method.dropout), autocast)
    return hf448.peak(
        shape, kind, batch.tokens, _hf448_weights(shape, spec), fixed.trained, kept,
        devices=spec.compute.processes, autocast=autocast, checkpointing=spec.training.checkpointing is not False,
        optimizer=spec.training.optimizer or "adamw_torch",
    )  # fmt: skip


def _hf448_weights(shape: Shape, spec: RunSpec) -> int:
    """bf16 weights under the old stack, where autocast did not mean fp32 masters."""
    training = spec.training.model_copy(update={"precision": "bf16"})
    return static(shape, spec.model_copy(update={"training": training})).weights
