"""How much disk a run needs. Arithmetic only."""

from engine.models import ModelFacts
from engine.spec import RunSpec


def parameters(model: ModelFacts) -> int:
    """Parameters of the model: counted in its files, else those of a dense Llama-like decoder of its shape (estimate)."""
    if model.parameters:
        return model.parameters
    return model.vocab * model.hidden * 2 + model.layers * sum(i * o for i, o in _linears(model))


def adapter_parameters(model: ModelFacts, rank: int) -> int:
    """Parameters of a LoRA on all linear layers: rank x (in + out) each. Source: Hu et al. 2021, section 4.1."""
    return model.layers * sum(rank * (i + o) for i, o in _linears(model))


def _linears(model: ModelFacts) -> list[tuple[int, int]]:
    """(in, out) of the linear layers of a block: q, k, v, o, gate, up, down."""
    hidden, wide = model.hidden, model.intermediate
    key = hidden * model.kv_heads // model.heads
    return [
        (hidden, hidden),
        (hidden, key),
        (hidden, key),
        (hidden, hidden),
        (hidden, wide),
        (hidden, wide),
        (wide, hidden),
    ]


def disk_needed(spec: RunSpec, model: ModelFacts) -> int:
    """Bytes that the run will write (estimate): each checkpoint the weights and two optimizer moments, at 4 bytes each."""
    full = spec.method.kind == "full"
    trained = parameters(model) if full else adapter_parameters(model, spec.method.rank or 16)
    checkpoints = spec.saving.keep + 1 if spec.saving.every else 0  # the old one goes after the new one is there
    return trained * 12 * checkpoints + trained * 4 + (64 << 20)
