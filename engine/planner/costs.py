"""What a specification costs on the cards of a request: memory and time, corrected by this machine's history. Pure functions."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

from engine.planner.calibrate import PastRun, corrected, correction
from engine.planner.memory import GIB, Memory, batch_of, estimate
from engine.planner.plan import Choice, Request, verdict
from engine.planner.speed import Speed, estimate_speed
from engine.planner.steps import validation_rows
from engine.planner.trained import adapts_experts
from engine.spec import RunSpec

History = Sequence[PastRun]
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def measured(request: Request, spec: RunSpec, history: History) -> Memory | None:
    """The closed form's memory, corrected by this machine's history; None for a family that it does not know."""
    if request.shape is None or adapts_experts(request.shape, spec.method):
        return None
    longest = request.lengths.longest if request.lengths and request.lengths.measured else None
    cards = request.cards.count if request.cards and spec.compute.sharding == "layers" else 1
    memory = estimate(request.shape, spec, request.stack, batch_of(spec, longest), cards)
    learned = correction(history, card_name(request), spec.method.kind or "lora", "device")
    more = round(corrected(memory.device / GIB, learned) * GIB) - memory.device
    return dataclasses.replace(memory, slack=max(0, memory.slack + more))


def speed_of(request: Request, spec: RunSpec, history: History = ()) -> Speed:
    """How fast it would be; rows of full length where the data is not known."""
    if request.shape is None:
        return Speed(None, None, None, None, None, None, "the closed form does not know this architecture")
    rows = request.rows or 0
    lengths = request.lengths.tokens if request.lengths else (spec.training.max_length or 1024,)
    train_rows = max(0, rows - validation_rows(spec.data.validation, rows)) if rows else 0
    speed = estimate_speed(request.shape, spec, request.cards, train_rows, lengths, history, cores=CORES)
    if rows:
        return speed
    return dataclasses.replace(speed, seconds_per_epoch=None, seconds_total=None)


def what_if(request: Request, spec: RunSpec, history: History = ()) -> Choice:
    """A complete specification as a choice: what it costs and whether it fits."""
    memory = measured(request, spec, history)
    return Choice(
        spec, memory, speed_of(request, spec, history), verdict(memory, request.cards.memory if request.cards else None)
    )


def changed(spec: RunSpec, change: dict[str, dict[str, Any]]) -> RunSpec:
    """A specification with fields of its sections replaced, unchecked."""
    return spec.model_copy(
        update={name: getattr(spec, name).model_copy(update=values) for name, values in change.items()}
    )


def card_name(request: Request) -> str:
    return request.cards.name if request.cards else "cpu"
