"""What objectives beyond supervised fine-tuning change in the memory of a step. Read in trl 1.16; only the logits of ORPO and CPO
were traced, the rest is an estimate.

DPO, ORPO, CPO and reward models see the chosen and the rejected row side by side. DPO and KTO keep a frozen copy of the model
as the reference unless there is an adapter to switch off; their passes without gradients need less than the step itself.
ORPO and CPO need none, but make all logits, in fp32. A reward model has a score in place of the output head. GRPO
generates the answers of a whole optimizer step first, with a cache of keys and values; with its default beta of 0 it has no
reference.
"""

from engine.planner.shape import Shape
from engine.planner.step import Parts
from engine.spec import RunSpec

PAIRS = ("dpo", "reward", "orpo", "cpo")
ESTIMATED = ("dpo", "kto", "reward", "orpo", "cpo", "grpo")


def keeps_reference(spec: RunSpec) -> bool:
    """Whether a second copy of the model is loaded."""
    compares = spec.objective in ("dpo", "kto") or (spec.objective == "grpo" and (spec.objective_options.beta or 0) > 0)
    return compares and spec.method.kind == "full"


def with_objective(shape: Shape, spec: RunSpec, moments: dict[str, Parts], rows: int, length: int) -> dict[str, Parts]:
    """The moments of a step under `spec.objective`, for micro-batches of `rows` of `length` tokens."""
    weight = 2 if spec.training.precision in (None, "bf16") else 4
    if spec.objective == "reward":
        head = 0 if shape.tied else shape.embedding * weight
        return {name: parts | {"weights": parts["weights"] - head, "logits": 0.0} for name, parts in moments.items()}
    if spec.objective == "grpo":
        moments = moments | {"generation": _generation(shape, spec, moments["optimizer step"], rows, length)}
    if keeps_reference(spec):
        return {name: parts | {"weights": 2 * parts["weights"]} for name, parts in moments.items()}
    return moments


def _generation(shape: Shape, spec: RunSpec, between: Parts, rows: int, length: int) -> Parts:
    """Keys and values of all answers in bf16, and the logits of one token each in fp32."""
    answers = rows * (spec.training.accumulation or 1)
    cache = 2.0 * shape.layers * shape.keys * 2 * answers * length
    return between | {"activations": cache, "logits": 4.0 * answers * shape.vocab, "gradients": 0.0, "workspace": 0.0}
