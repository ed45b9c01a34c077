"""Where a chat's models go: on the card with the most free memory, without a queue, or on the CPU."""

import contextlib
from collections.abc import Mapping, Sequence

from engine.after.trained import Trained
from engine.errors import ModelError, NoFit
from engine.hardware import GIB, Gpu, Sampler, probe
from engine.models import inspect_model
from engine.outcome import usable
from engine.planner.memory import CONTEXT
from engine.planner.shape import shape
from engine.planner.trained import static
from engine.spec import RunSpec

TALK = 0.5
"""GiB for the conversation: keys and values of a few thousand tokens, and what comes and goes."""


def needed(trained: Sequence[Trained]) -> float:
    """GiB that the base, the adapters and the whole models take on a card, about."""
    weights = weights_of(trained[0].spec)
    for one in trained:
        weights += (
            sum(f.stat().st_size for f in one.path.glob("*.safetensors")) if one.adapter else weights_of(one.spec)
        )
    return (weights + CONTEXT) / GIB + TALK


def weights_of(spec: RunSpec) -> float:
    """Bytes of the base's weights as the run has them in memory; of a model that nobody knows what its files have."""
    facts = inspect_model(spec.model.path, spec.model.revision)
    with contextlib.suppress(ModelError, KeyError, ValueError):
        return float(static(shape(facts.config, facts.parameters), spec).weights)
    return float(facts.size)


def cards(trained: Sequence[Trained]) -> list[Gpu]:
    """The cards to use now, none for the CPU. Raises NoFit."""
    spec = trained[0].spec
    allowed = usable(spec, probe().gpus)
    if not allowed:
        return []
    used = {s.uuid: s.memory_used for s in Sampler().sample()}
    free = {g.uuid: (g.memory_total or 0.0) - (used.get(g.uuid) or 0.0) for g in allowed}
    return choose(allowed, free, needed(trained), spec.compute.sharding == "layers")


def choose(allowed: Sequence[Gpu], free: Mapping[str, float], need: float, layers: bool) -> list[Gpu]:
    """One card, or all where layers are laid over them; `free` and `need` in GiB. Raises NoFit if there is no room now."""
    best = max(allowed, key=lambda gpu: free[gpu.uuid])
    room = sum(free.values()) if layers else free[best.uuid]
    if room < need:
        where = "the cards have" if layers else f"GPU {best.index} has the most free,"
        raise NoFit("No card has room for a chat", f"It needs about {need:.1f} GiB; {where} {room:.1f} GiB.",
                    "Wait until one is free, or chat on the CPU: --cpu.")  # fmt: skip
    return list(allowed) if layers else [best]
