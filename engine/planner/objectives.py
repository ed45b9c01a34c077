"""What objectives beyond supervised fine-tuning change in the memory of a step. Read in trl 1.16; no trace confirms it yet.

DPO and reward models see the chosen and the rejected row side by side; DPO keeps a frozen copy of the model as the reference
unless there is an adapter to switch off. A reward model has a score in place of the output head. GRPO generates first, with a
cache of keys and values; with its default beta of 0 it has no reference.
"""

from engine.planner.shape import Shape
from engine.planner.step import Parts
from engine.spec import RunSpec

PAIRS = ("dpo", "reward")


def with_objective(shape: Shape, spec: RunSpec, moments: dict[str, Parts], rows: int, length: int) -> dict[str, Parts]:
    """The moments of a step under `spec.objective`; `rows` of `length` tokens are what one micro-batch generates."""
    weight = 2 if spec.training.precision in (None, "bf16") else 4
    if spec.objective == "dpo" and spec.method.kind == "full":
        return {name: parts | {"weights": 2 * parts["weights"]} for name, parts in moments.items()}
    if spec.objective == "reward":
        head = 0 if shape.tied else shape.embedding * weight
        return {name: parts | {"weights": parts["weights"] - head, "logits": 0.0} for name, parts in moments.items()}
    if spec.objective == "grpo":
        step = moments["optimizer step"]
        cache = 2 * shape.layers * shape.keys * 2 * rows * length
        made = {"activations": float(cache), "logits": 4.0 * rows * shape.vocab, "gradients": 0.0}
        return moments | {"generation": step | made}
    return moments
