"""The plan page's view of the planner: plans and choices of the engine as the frozen values that screens draw."""

import dataclasses
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from engine import catalog
from engine.cards import Cards, own_cards, parse_gpu
from engine.compatibility import VARIANTS
from engine.hardware import Hardware
from engine.methods import METHODS
from engine.planner.calibrate import PastRun
from engine.planner.costs import changed, what_if
from engine.planner.explain import problems
from engine.planner.memory import GIB, Memory
from engine.planner.plan import Choice, Plan, Request, method_name
from engine.planner.recommend import recommend
from engine.spec import RunSpec
from tuiapp.snapshot import CardPlan, MemoryPart, NewRun, PastPeak, PlanChoice, PlanPage, PlanValues

HERE, CPU, OWN = "here", "cpu", "own"
USUAL_CARD = "rtx4090"
"""What is planned for where there is no card: the middle of the list."""
CARDS = ("rtx3060-12gb", "rtx4060ti-16gb", "rtx4080", "rtx3090", "rtx4090", "rtx5090", "a40", "rtxa6000", "l40s",
         "a100-40gb", "a100-80gb", "h100", "h200", "b200")  # fmt: skip
OTHER_CARDS = ("rtx3060-12gb", "rtx4080", "rtx4090", "2xrtx4090", "l40s", "a100-80gb", "h100")
KINDS = {"full-bf16": "full", **dict.fromkeys(VARIANTS, "lora")}
FOLLOWS = ("method.alpha", "training.accumulation", "training.learning_rate", "training.epochs", "training.warmup",
           "training.weight_decay", "training.attention", "training.precision")  # fmt: skip
"""What the page shows beside its fields: it follows from them, from the model and from the data."""
MOST_PAST = 5
PARTS = (
    ("weights", "weights"), ("adapter", "adapter"), ("gradients", "gradients"), ("optimizer", "optimizer"),
    ("activations", "activations"), ("logits", "logits and loss"), ("workspace", "workspaces"), ("slack", "allocator slack"),
    ("context", "CUDA context"),
)  # fmt: skip


@dataclass(frozen=True)
class Desk:
    """A question and the engine's answer to it: what the page's further questions are asked of."""

    form: NewRun
    card: str
    plan: Plan
    hardware: Hardware
    history: tuple[PastRun, ...] = ()


def open_desk(form: NewRun, card: str, request: Request, hardware: Hardware, history: Sequence[PastRun] = ()) -> Desk:
    """The plan for a request on a card: a key of `card_options`, "own" for this machine whatever it has, "" for the cards that
    are here or else the usual one.

    Raises TuneDeckError.
    """
    own = own_cards(hardware.gpus)
    card = (HERE if own else CPU) if card == OWN else card or (HERE if own else USUAL_CARD)
    cards = own if card == HERE else None if card == CPU else parse_gpu(card, hardware)
    plan = alone_first(dataclasses.replace(request, cards=cards), history)
    return Desk(form, card, plan, hardware, tuple(history))


def alone_first(request: Request, history: Sequence[PastRun]) -> Plan:
    """On one card of several, as a run starts; on all of them where it does not fit on one."""
    cards = request.cards
    if cards and cards.count > 1 and request.spec.compute.sharding != "layers":
        alone = recommend(dataclasses.replace(request, cards=dataclasses.replace(cards, count=1)), history)
        if alone.choice.fits != "no":
            return alone
    return recommend(request, history)


def card_options(hardware: Hardware) -> tuple[tuple[str, str], ...]:
    """(key, name): this machine first, then common cards of the catalog by size."""
    own = own_cards(hardware.gpus)
    first = (HERE, own.name) if own else (CPU, "this CPU")
    return (first, *((key, catalog.cards()[key].name) for key in CARDS))


def page_of(desk: Desk) -> PlanPage:
    """The page that a desk opens with."""
    plan, request = desk.plan, desk.plan.request
    cards, size = request.cards, request.shape.parameters if request.shape else request.facts.parameters
    parts = (f"{size / 1e9:.2f} B parameters" if size else "", f"config from {request.facts.source}")
    return PlanPage(
        form=desk.form,
        card=desk.card,
        cards=card_options(desk.hardware),
        model=request.facts.label,
        about=", ".join(part for part in parts if part),
        context=request.facts.context or 8192,
        card_name=_card_name(cards),
        card_gib=cards.memory if cards else None,
        here=desk.card in (HERE, CPU),
        processes=plan.choice.spec.compute.processes,
        recommended=choice_of(desk, plan.choice),
        alternatives=tuple(choice_of(desk, one) for one in plan.alternatives),
        rows=request.rows,
        mean_length=request.lengths.mean if request.lengths else None,
        notes=plan.notes,
        basis=_basis(plan),
        past=past_peaks(desk.history, cards),
    )


def _basis(plan: Plan) -> str:
    """What the numbers rest on; how far off they may be comes first."""
    if plan.request.cards is None or plan.choice.memory is None:
        return plan.choice.speed.basis
    return f"within {plan.band:.0%}: {re.sub(r' [(]±.*[)]$', '', plan.basis)}".replace("%", " %", 1)


def _card_name(cards: Cards | None) -> str:
    if cards is None:
        return "this CPU"
    return f"{cards.count} x {cards.name}" if cards.count > 1 else cards.name


def past_peaks(history: Sequence[PastRun], cards: Cards | None) -> tuple[PastPeak, ...]:
    """The newest runs on such a card for which both numbers are there."""
    found = [
        PastPeak(run.run_id, run.method, run.predicted_device, run.device)
        for run in history
        if cards and run.gpu == cards.name and run.predicted_device and run.device
    ]
    return tuple(found[:MOST_PAST])


def values_of(spec: RunSpec, rank: int = 16) -> PlanValues:
    """What the page shows of a complete specification; `rank` stands in where there is none."""
    method, t = spec.method, spec.training
    name: str = method.kind or "lora"
    if name == "lora" and method.variant:
        name = method.variant
    if method.kind == "full" and t.precision == "bf16":
        name = "full-bf16"
    return PlanValues(
        method=name,
        rank=method.rank or rank,
        targets=",".join(method.targets) if isinstance(method.targets, list) else method.targets or "all-linear",
        max_length=t.max_length or 1024,
        micro_batch=t.micro_batch or 1,
        accumulation=t.accumulation or 1,
        checkpointing=bool(t.checkpointing),
        packing=bool(t.packing),
        optimizer=t.optimizer or "adamw_torch_fused",
    )


def spec_of(desk: Desk, values: PlanValues) -> RunSpec:
    """A complete specification with these values: what is not among them is as recommended for the method."""
    base = _base(desk, _kind(values)).spec
    full, has = base.method.kind == "full", METHODS[base.method.kind or "lora"].fields
    targets: str | list[str] = values.targets.split(",") if "," in values.targets else values.targets
    if values.targets == values_of(base).targets:
        targets = base.method.targets or targets
    scale = (base.method.alpha or 2.0) / (base.method.rank or 1)
    offered: dict[str, Any] = {"rank": values.rank, "alpha": scale * values.rank, "targets": targets}
    method = {name: value for name, value in offered.items() if name in has}
    if base.method.kind == "lora":
        method["variant"] = values.method if values.method in VARIANTS else None
    names = ("max_length", "micro_batch", "accumulation", "checkpointing", "packing", "optimizer")
    training = {name: getattr(values, name) for name in names}
    if full and base.training.precision != "fp32":  # a card without bfloat16 leaves no choice
        training["precision"] = "bf16" if values.method == "full-bf16" else "mixed"
    return changed(base, {"method": method, "training": training})


def _base(desk: Desk, kind: str) -> Choice:
    """The best choice of this kind that the plan has, made where it has none."""
    for one in (desk.plan.choice, *desk.plan.alternatives):
        if one.spec.method.kind == kind:
            return one
    request = desk.plan.request
    given = changed(request.spec, {"method": {"kind": kind}})
    return recommend(dataclasses.replace(request, spec=given), desk.history).choice


def _kind(values: PlanValues) -> str:
    return KINDS.get(values.method, values.method)


def turned(desk: Desk, values: PlanValues) -> PlanChoice:
    """What these values cost: the closed form, well under a millisecond."""
    found = what_if(desk.plan.request, spec_of(desk, values), desk.history)
    return choice_of(desk, dataclasses.replace(found, reasons=_base(desk, _kind(values)).reasons))


def nearest(desk: Desk, values: PlanValues) -> PlanChoice | None:
    """The nearest choice that fits, if these values do not; some hundredths of a second."""
    given = changed(spec_of(desk, values), {"training": {"accumulation": None}})
    found = recommend(dataclasses.replace(desk.plan.request, spec=given), desk.history).nearest
    return choice_of(desk, found) if found else None


def other_cards(desk: Desk) -> tuple[CardPlan, ...]:
    """The same model and data on common cards; a tenth of a second and more."""
    found = []
    for key in OTHER_CARDS:
        cards = parse_gpu(key, desk.hardware)
        if cards is not None:
            best = recommend(dataclasses.replace(desk.plan.request, cards=cards), desk.history).choice
            fitting = choice_of(desk, best) if best.fits in ("yes", "close") else None
            found.append(CardPlan(_card_name(cards), cards.memory, fitting))
    return tuple(found)


def choice_of(desk: Desk, choice: Choice) -> PlanChoice:
    """A choice of the engine as the page draws it. Without a card no memory: the closed form is one of CUDA."""
    request, spec, memory = desk.plan.request, choice.spec, choice.memory if desk.plan.request.cards else None
    alone = spec.compute.processes == 1
    return PlanChoice(
        values=values_of(spec, _base_rank(desk)),
        name=method_name(spec),
        fits=choice.fits,
        parts=_parts(memory, spec) if memory else (),
        peak_gib=memory.peak / GIB if memory else None,
        device_gib=memory.device / GIB if memory else None,
        phase=memory.phase if memory else "",
        seconds=choice.speed.seconds_total,
        seconds_per_epoch=choice.speed.seconds_per_epoch,
        tokens_per_second=choice.speed.tokens_per_second,
        trained=choice.memory.trained if choice.memory else None,
        parameters=choice.memory.parameters if choice.memory else None,
        layout="" if alone else {"ddp": "DDP", "fsdp": "FSDP"}.get(spec.compute.sharding, spec.compute.sharding),
        reasons=_reasons(choice),
        settings=settings_of(spec),
        follows=tuple((path, _text(spec, path)) for path in FOLLOWS),
        problems=tuple(problems(request, choice)),
    )


def _base_rank(desk: Desk) -> int:
    """The rank to go on with where a choice has none."""
    ranks = (one.spec.method.rank for one in (desk.plan.choice, *desk.plan.alternatives))
    return next((rank for rank in ranks if rank), 16)


def _parts(memory: Memory, spec: RunSpec) -> tuple[MemoryPart, ...]:
    base = spec.method.base
    weights = f"{base.bits}-bit" if base else "bf16" if spec.training.precision == "bf16" else "fp32"
    labels = dict(PARTS) | {"weights": f"weights, {weights}"}
    return tuple(MemoryPart(key, label, getattr(memory, key) / GIB) for key, label in labels.items())


def _reasons(choice: Choice) -> dict[str, str]:
    """By path, and for the fields of the page by their name."""
    reasons = {reason.field: reason.why for reason in choice.reasons if reason.why}
    named = {path.rpartition(".")[2]: why for path, why in reasons.items()}
    return reasons | named | ({"method": named["kind"]} if "kind" in named else {})


def _text(spec: RunSpec, path: str) -> str:
    """A value of the specification as JSON, as `tuiapp.format.plain` reads it."""
    section, _, name = path.partition(".")
    return json.dumps(getattr(getattr(spec, section), name))


def settings_of(spec: RunSpec) -> tuple[tuple[str, Any], ...]:
    """What has to be given so that a run is as planned; the rest is recommended when it starts."""
    names = {
        "method": ("kind", "variant", "rank", "alpha", "targets"),
        "training": ("max_length", "micro_batch", "accumulation", "checkpointing", "packing", "optimizer", "precision",
                     "attention"),
        "compute": ("processes", "sharding"),
    }  # fmt: skip
    pairs = [
        (f"{section}.{name}", getattr(getattr(spec, section), name)) for section, all_ in names.items() for name in all_
    ]
    return tuple((path, value) for path, value in pairs if value is not None)
