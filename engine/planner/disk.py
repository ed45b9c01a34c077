"""How much disk a run needs. Arithmetic only."""

from engine.models import ModelFacts
from engine.planner.shape import Shape, UnknownArchitecture, shape
from engine.planner.trained import static
from engine.spec import RunSpec

OTHERS = 64 << 20
"""Tokenizer, logs, events."""


def disk_needed(spec: RunSpec, model: ModelFacts) -> int:
    """Bytes that the run will write (estimate): each checkpoint what is trained and two optimizer moments, at 4 bytes each.

    For an architecture that the closed form does not know, as if all of it were trained.
    """
    made = _shape(model)
    trained = static(made, spec).trained if made else model.parameters or model.size
    # The old one goes after the new one is there, and the best one stays
    checkpoints = spec.saving.keep + 1 + bool(spec.evaluation.every) if spec.saving.every else 0
    return trained * 12 * checkpoints + trained * 4 + OTHERS


def _shape(model: ModelFacts) -> Shape | None:
    try:
        return shape(model.config, model.parameters)
    except UnknownArchitecture:
        return None
