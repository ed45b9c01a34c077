"""What a plan is, and how it looks as JSON. Frozen data; the decisions are in `engine.planner.recommend`."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from engine.cards import Cards
from engine.data.lengths import Lengths
from engine.models import ModelFacts
from engine.planner.disk import disk_needed
from engine.planner.memory import GIB, Memory
from engine.planner.rules import Goal, Reason
from engine.planner.shape import Shape
from engine.planner.speed import Speed, cost
from engine.spec import RunSpec

Fits = Literal["yes", "close", "no", "unknown"]
HEADROOM = 0.10
"""Share of a card that a recommended choice leaves free: ragged batches, evaluation and the desktop need some."""
RESERVED = 0.35
"""GiB that NVML counts and CUDA does not offer (0.3 to 0.9 on cards of 24 to 141 GiB, from public out-of-memory messages)."""


@dataclass(frozen=True)
class Request:
    """What a plan is asked for. `spec` has what was given; everything else in it is open."""

    spec: RunSpec
    facts: ModelFacts
    shape: Shape | None
    cards: Cards | None
    rows: int | None = None
    lengths: Lengths | None = None
    goal: Goal = "instructions"
    stack: Literal["current", "hf448"] = "current"
    flash: bool = False
    liger: bool = False
    price: float | None = None
    """An hour of one card, in whatever money."""


@dataclass(frozen=True)
class Choice:
    """A complete specification and what it costs. `memory` is None where only a trace can tell."""

    spec: RunSpec
    memory: Memory | None
    speed: Speed
    fits: Fits
    reasons: tuple[Reason, ...] = ()

    @property
    def device_gib(self) -> float | None:
        return None if self.memory is None else self.memory.device / GIB


@dataclass(frozen=True)
class Plan:
    """The recommended choice, others ranked, and what to know. `nearest` is set where what was asked for does not fit."""

    request: Request
    choice: Choice
    alternatives: tuple[Choice, ...] = ()
    problems: tuple[str, ...] = ()
    nearest: Choice | None = None
    band: float = 0.0
    basis: str = ""
    notes: tuple[str, ...] = ()
    uncorrected: dict[str, float | None] = field(default_factory=dict)
    """The prediction before this machine's history was applied, by the names of the JSON: what later runs learn from."""


def with_reasons(plan: Plan, reasons: Sequence[Reason]) -> Plan:
    """The plan with reasons that were known before it was made."""
    return replace(plan, choice=replace(plan.choice, reasons=(*reasons, *plan.choice.reasons)))


def verdict(memory: Memory | None, card_gib: float | None) -> Fits:
    """Whether that fits on a card of so many GiB: `close` leaves less than the headroom."""
    if memory is None or card_gib is None:
        return "unknown"
    need = memory.device / GIB
    if need <= card_gib * (1 - HEADROOM):
        return "yes"
    return "close" if need <= card_gib - RESERVED else "no"


NAMES = {
    "adalora": "AdaLoRA", "ia3": "IA3", "ptuning": "P-tuning", "vera": "VeRA", "oft": "OFT", "boft": "BOFT", "loha": "LoHa",
    "lokr": "LoKr", "hra": "HRA", "randlora": "RandLoRA", "shira": "SHiRA", "miss": "MiSS", "delora": "DeLoRA", "road": "RoAd",
    "fourierft": "FourierFT", "ln_tuning": "LN tuning", "dora": "DoRA", "rslora": "rsLoRA", "pissa": "PiSSA", "lora+": "LoRA+",
}  # fmt: skip
"""Of methods, and of variants of LoRA, as people write them."""


def method_name(spec: RunSpec) -> str:
    """`LoRA r16`, `QLoRA r16`, `prefix 20`, `full`, as people say it."""
    method = spec.method
    if method.kind == "full":
        precision = spec.training.precision
        return "full" if precision == "mixed" else f"full, {precision} weights"
    lora = method.kind in (None, "lora", "qlora")
    name = NAMES.get(method.variant or "", "LoRA") if lora else NAMES.get(method.kind or "", str(method.kind))
    quantised = method.base is not None
    parts = [f"Q{name}" if lora and quantised else name]
    if method.base and (not lora or method.base.bits == 8):
        parts.append(f"{method.base.bits}-bit")
    if method.rank:
        parts.append(f"r{method.rank}")
    if method.virtual_tokens:
        parts.append(str(method.virtual_tokens))
    return " ".join(parts)


def cost_of(plan: Plan) -> float | None:
    """What the run costs at the price given for an hour of a card, in the same money; None where it is not known."""
    seconds, price = plan.choice.speed.seconds_total, plan.request.price
    if seconds is None or price is None or plan.request.cards is None:
        return None
    return cost(seconds, price, plan.choice.spec.compute.processes)


def nearest_hint(plan: Plan) -> str:
    """What would fit instead, in a sentence."""
    if plan.nearest is None:
        return next((text for text in plan.problems[1:] if "card" in text), "")
    t, gib = plan.nearest.spec.training, plan.nearest.device_gib or 0.0
    return (f"The nearest that fits: {method_name(plan.nearest.spec)}, micro-batch {t.micro_batch}, length {t.max_length}, "
            f"checkpointing {'on' if t.checkpointing else 'off'}: {gib:.1f} GiB.")  # fmt: skip


def as_json(plan: Plan) -> dict[str, Any]:
    """The document of `plan --json`: DESIGN.md's contract, and a little more."""
    r, choice = plan.request, plan.choice
    return {
        "model": {
            "name": r.facts.label, "path": r.facts.path, "source": r.facts.source, "architecture": r.facts.architecture,
            "parameters": r.shape.parameters if r.shape else r.facts.parameters, "context": r.facts.context,
            "licence": r.facts.licence,
        },
        "gpu": None if r.cards is None else {
            "name": r.cards.name, "count": r.cards.count, "memory_gib": round(r.cards.memory, 2),
        },
        "goal": r.goal,
        "stack": r.stack,
        "spec": choice.spec.model_dump(mode="json"),
        "memory": _memory(choice),
        "fits": choice.fits in ("yes", "close") if choice.fits != "unknown" else None,
        "verdict": choice.fits,
        "speed": _speed(choice),
        "cost": cost_of(plan),
        "disk_gib": round(disk_needed(choice.spec, r.facts) / GIB, 2),
        "uncorrected": plan.uncorrected,
        "reasons": [vars(reason) for reason in choice.reasons],
        "alternatives": [_short(one) for one in plan.alternatives],
        "nearest": _short(plan.nearest) if plan.nearest else None,
        "problems": list(plan.problems),
        "notes": list(plan.notes),
        "estimate": {"band": plan.band, "basis": plan.basis},
    }  # fmt: skip


def _short(choice: Choice) -> dict[str, Any]:
    return {
        "method": method_name(choice.spec), "spec": choice.spec.model_dump(mode="json"), "memory": _memory(choice),
        "fits": choice.fits in ("yes", "close") if choice.fits != "unknown" else None, "verdict": choice.fits,
        "speed": _speed(choice), "reasons": [vars(reason) for reason in choice.reasons],
    }  # fmt: skip


def _memory(choice: Choice) -> dict[str, Any] | None:
    m = choice.memory
    if m is None:
        return None
    return {
        "peak_gib": round(m.peak / GIB, 3),
        "device_gib": round(m.device / GIB, 3),
        "components": {name: round(value, 4) for name, value in m.components().items()},
        "workspace_gib": round(m.workspace / GIB, 4),
        "slack_gib": round(m.slack / GIB, 4),
        "context_gib": round(m.context / GIB, 4),
        "phase": m.phase,
        "trainable": m.trained,
        "trainable_percent": round(100 * m.trained / m.parameters, 4),
        "host_gib": round(m.host / GIB, 1),
    }


def _speed(choice: Choice) -> dict[str, Any]:
    s = choice.speed
    return {
        "tokens_per_second": s.tokens_per_second, "seconds_per_epoch": s.seconds_per_epoch, "seconds": s.seconds_total,
        "basis": s.basis,
    }  # fmt: skip
