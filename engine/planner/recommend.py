"""What to train with: the fastest choice that fits with headroom and keeps quality, and the others ranked. Pure functions.

Methods go in the order of the rules (`engine.planner.rules`): full where it is wanted, LoRA over 16-bit weights, QLoRA, more
cards; within one the fastest micro-batch and checkpointing that fit. What was given is kept.
"""

import dataclasses
import math
from collections.abc import Iterable, Iterator
from typing import Any

from engine.compatibility import refusals, why_not
from engine.planner import rules
from engine.planner.calibrate import correction
from engine.planner.complete import Known, complete
from engine.planner.costs import History, card_name, changed, measured, what_if
from engine.planner.decide import Tier, decided, known_of, least, length_of, rows_a_step
from engine.planner.explain import explained, notes, problems, too_much
from engine.planner.memory import GIB, from_trace
from engine.planner.plan import Choice, Plan, Request, verdict
from engine.planner.rules import Reason
from engine.spec import Sharding

MICRO_BATCHES = (16, 8, 4, 2, 1)
OF_METHOD = ("rank", "alpha", "dropout", "targets", "variant", "virtual_tokens", "quantization")


FULL = (Tier("full", "mixed"), Tier("full", "mixed", "adamw_8bit"))
FULL_BF16 = (Tier("full", "bf16"), Tier("full", "bf16", "adamw_8bit"))
ADAPTERS = (Tier("lora"), Tier("qlora"))


def recommend(request: Request, history: History = ()) -> Plan:
    """The plan for a request. `history` are past runs of this machine: what was predicted for them and what was measured."""
    k = known_of(request)
    wanted = rules.prefers_full(k.parameters, k.rows, request.goal)
    order = tuple(tier for tier in _tiers(request, wanted is not None) if _allowed(tier, request))
    best = _distinct(one for tier in order if (one := _best(request, k, tier, history)) is not None)
    if not best:
        best = [_one(request, k, Tier(request.spec.method.kind or "lora"), 1, True, 1, "ddp", history)]
    chosen = next((c for c in best if c.fits in ("yes", "unknown")), None) or next(
        (c for c in best if c.fits == "close"), best[-1]
    )
    if chosen.fits == "no":
        if (shorter := _shorter(request, history)) is not None:
            return shorter
        chosen = min(best, key=lambda c: c.device_gib or math.inf)
    nearest = _nearest(request, history) if chosen.fits == "no" else None
    others = [c for c in best if c is not chosen] + _variants(request, k, chosen, history)
    others = sorted(others, key=lambda c: ("yes", "close", "unknown", "no").index(c.fits))
    chosen = dataclasses.replace(chosen, reasons=explained(request, chosen, best, wanted))
    learned = correction(history, card_name(request), chosen.spec.method.kind or "lora", "device")
    said = learned.sentence if request.cards else ""
    return Plan(request, chosen, tuple(others[:8]), tuple(problems(request, chosen)), nearest, learned.band, said,
                notes(request, chosen.spec), _uncorrected(request, chosen))  # fmt: skip


def _tiers(request: Request, full_first: bool) -> tuple[Tier, ...]:
    """The ways to train in the order of preference; a method that is none of the usual three is the only one."""
    kind = request.spec.method.kind
    if kind not in (None, "full", "lora", "qlora"):
        return (Tier(kind),)
    return (*FULL, *ADAPTERS, *FULL_BF16) if full_first else (*ADAPTERS, *FULL, *FULL_BF16)


def with_trace(plan: Plan, traced: dict[str, Any]) -> Plan:
    """The plan with what a trace found, where the closed form had nothing to say."""
    if plan.choice.memory is not None:
        return plan
    cards, size = plan.request.cards, 2 if plan.choice.spec.method.base else 4
    parameters = plan.request.facts.parameters or traced["weights"] // 2
    trained = traced["gradients"] // size if traced["adapter"] else parameters
    memory = from_trace(traced, parameters, trained)
    choice = dataclasses.replace(plan.choice, memory=memory, fits=verdict(memory, cards.memory if cards else None))
    said = (*too_much(plan.request, choice), *(text for text in plan.problems if "--exact" not in text))
    return dataclasses.replace(plan, choice=choice, problems=said)


def _shorter(request: Request, history: History) -> Plan | None:
    """The plan with half the length or less, where the length was open and nothing else would fit."""
    t = request.spec.training
    if t.max_length is not None:
        return None
    full = length_of(request, known_of(request))[0]
    for length in (n for n in (512, 256) if n < full):
        plan = recommend(
            dataclasses.replace(request, spec=changed(request.spec, {"training": {"max_length": length}})), history
        )
        if plan.choice.fits in ("yes", "close"):
            why = Reason("training.max_length", length, f"nothing fits with {full}")
            choice = dataclasses.replace(plan.choice, reasons=(*plan.choice.reasons, why))
            note = f"It fits only with rows of at most {length} tokens; {full} would be recommended."
            return dataclasses.replace(plan, request=request, choice=choice, problems=(note, *plan.problems))
    return None


def _distinct(choices: Iterable[Choice]) -> list[Choice]:
    """Without those that came out the same."""
    found: list[Choice] = []
    for one in choices:
        if all(one.spec != other.spec for other in found):
            found.append(one)
    return found


def _uncorrected(request: Request, chosen: Choice) -> dict[str, float | None]:
    memory = measured(request, chosen.spec, ())
    device, peak = (memory.device / GIB, memory.peak / GIB) if memory else (None, None)
    return {"peak_gib": peak, "device_gib": device, "tokens_per_second": chosen.speed.uncorrected}


def _allowed(tier: Tier, request: Request) -> bool:
    """Whether what was given leaves this way open, and the engine can go it."""
    spec, shape = request.spec, request.shape
    kind, t = spec.method.kind, spec.training
    if kind is not None and tier.kind != kind:
        return False
    if kind is None and refusals(changed(spec, {"method": {"kind": tier.kind}})):
        return False
    if tier.kind != "full":
        return True
    if spec.method.settings or spec.extra.peft:
        return False
    if shape and shape.experts and tier.precision == "mixed":
        return False  # grouped products of experts need bf16 weights (torch.nn.functional.grouped_mm)
    if (
        t.precision is not None
        and tier.precision != t.precision
        and not (t.precision == "fp32" and tier.precision == "mixed")
    ):
        return False
    return t.optimizer is None or tier.optimizer == "adamw_torch_fused"


def _layouts(request: Request) -> Iterator[tuple[int, Sharding]]:
    """(processes, sharding), the simplest first."""
    compute, count = request.spec.compute, request.cards.count if request.cards else 1
    if compute.sharding == "layers":
        yield 1, "layers"
    elif compute.processes > 1 or compute.sharding != "ddp":
        yield compute.processes if compute.processes > 1 else count, compute.sharding
    elif count == 1:
        yield 1, "ddp"
    elif request.stack == "hf448":
        yield count, "fsdp"  # the published runs on several cards are
    else:
        yield count, "ddp"
        yield count, "fsdp"


def _best(request: Request, k: Known, tier: Tier, history: History) -> Choice | None:
    """The fastest of a tier that fits with headroom; else the fastest that fits closely; else the smallest."""
    t = request.spec.training
    found: list[Choice] = []
    target = rows_a_step(k, tier.kind)
    for processes, sharding in _layouts(request):
        for checkpointing in _checkpointing(request, k, tier.kind) if t.checkpointing is None else (t.checkpointing,):
            for micro in _micro_batches(request, k, target) if t.micro_batch is None else (t.micro_batch,):
                if t.micro_batch is None and micro > least(request) and micro * processes > max(target, processes):
                    continue
                found.append(_one(request, k, tier, micro, checkpointing, processes, sharding, history))
        if any(c.fits == "yes" for c in found):
            break
    for fits in ("yes", "close", "unknown"):
        good = [c for c in found if c.fits == fits]
        if good:
            return max(good, key=_pace)
    return min(found, key=lambda c: (round(c.device_gib or math.inf, 1), -_pace(c)[0]), default=None)


def _micro_batches(request: Request, k: Known, target: int) -> tuple[int, ...]:
    """All on a GPU, one where its memory cannot be told; on a CPU the whole step at once, which has room for it."""
    unit = least(request)
    if not k.gpu:
        return (unit * max(1, round(target / unit)),)
    if request.shape is None:
        return (unit,)
    return tuple(micro for micro in MICRO_BATCHES if micro % unit == 0) or (unit,)


def _checkpointing(request: Request, k: Known, kind: str) -> tuple[bool, ...]:
    """Both on a GPU, where memory decides; on a CPU by the size of the model; never where the method cannot."""
    if why_not(kind, request.spec.method.variant, "checkpointing"):
        return (False,)
    if not k.gpu:
        return (k.parameters >= 500_000_000,)
    return (True,) if request.shape is None else (False, True)


def _pace(choice: Choice) -> tuple[float, int]:
    """Faster first; where the speed is not known, without checkpointing and with the larger micro-batch."""
    t = choice.spec.training
    relative = (1.0 if not t.checkpointing else 0.77) * (t.micro_batch or 1) / ((t.micro_batch or 1) + 1)
    return (choice.speed.tokens_per_second or relative, t.micro_batch or 1)


def _one(request: Request, k: Known, tier: Tier, micro: int, checkpointing: bool, processes: int,
         sharding: Sharding, history: History) -> Choice:  # fmt: skip
    """A tier made whole for one batch and layout, with its memory and speed."""
    values = decided(request, k, tier, micro, checkpointing, processes, sharding)
    spec, reasons = complete(request.spec, k, values)
    return dataclasses.replace(what_if(request, spec, history), reasons=reasons)


def _variants(request: Request, k: Known, chosen: Choice, history: History) -> list[Choice]:
    """The chosen one with a larger batch or rank, or twice the length: what one would ask next."""
    spec, t = chosen.spec, chosen.spec.training
    changes: list[dict[str, dict[str, Any]]] = []
    given = request.spec
    if (t.accumulation or 1) > 1 and given.training.micro_batch is None and given.training.accumulation is None:
        changes.append(
            {"training": {"micro_batch": (t.micro_batch or 1) * 2, "accumulation": (t.accumulation or 2) // 2}}
        )
    if spec.method.rank and given.method.rank is None and given.method.alpha is None:
        changes.append({"method": {"rank": spec.method.rank * 4, "alpha": float(spec.method.rank * 8)}})
    if request.spec.training.max_length is None and (t.max_length or 0) * 2 <= k.context:
        changes.append({"training": {"max_length": (t.max_length or 1024) * 2}})
    return [what_if(request, changed(spec, change), history) for change in changes]


def _nearest(request: Request, history: History) -> Choice | None:
    """The nearest choice that fits: one given field released, in the order in which it hurts least; else all of them."""
    spec = request.spec
    usual = spec.method.kind in ("lora", "qlora", "full")
    # what another method was given, the usual ones may not have
    unnamed: dict[str, Any] = dict.fromkeys(("kind", "quantization") if usual else ("kind", *OF_METHOD))
    releases: list[dict[str, dict[str, Any]]] = [
        {"training": {"micro_batch": None}},
        {"training": {"checkpointing": None}},
        {"training": {"micro_batch": None, "checkpointing": None}},
        {"training": {"optimizer": None}},
        {"method": {"rank": None, "alpha": None}},
        {"training": {"max_length": None}},
        {"method": unnamed},
        {"method": unnamed | {"rank": None, "alpha": None},
         "training": {"micro_batch": None, "checkpointing": None, "max_length": None, "optimizer": None, "precision": None}},
    ]  # fmt: skip
    for release in releases:
        looser = changed(spec, release)
        if looser == spec:
            continue
        chosen = _fitting(dataclasses.replace(request, spec=looser), history)
        if chosen:
            return chosen
    for length in (512, 256):
        shorter = changed(spec, releases[-1] | {"training": releases[-1]["training"] | {"max_length": length}})
        chosen = _fitting(dataclasses.replace(request, spec=shorter), history)
        if chosen:
            return chosen
    return None


def _fitting(request: Request, history: History) -> Choice | None:
    k = known_of(request)
    for fits in ("yes", "close"):
        for tier in _tiers(request, full_first=False):
            if _allowed(tier, request):
                one = _best(request, k, tier, history)
                if one and one.fits == fits:
                    return one
    return None
