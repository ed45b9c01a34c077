"""Why a choice is what it is, and what to know before starting, in sentences. Pure functions."""

import dataclasses

from engine import catalog
from engine.compatibility import refusals
from engine.planner import rules
from engine.planner.adapters import memory_note
from engine.planner.memory import GIB
from engine.planner.objectives import ESTIMATED
from engine.planner.plan import RESERVED, Choice, Request
from engine.planner.rules import Reason
from engine.planner.trained import adapts_experts
from engine.spec import RunSpec

KINDS = {"lora": "LoRA", "qlora": "QLoRA", "full": "full fine-tuning"}


def notes(request: Request, spec: RunSpec) -> tuple[str, ...]:
    """What the plan takes for granted. `spec` is what it recommends."""
    found = [] if request.rows is not None else ["No data was named: planned for 5,000 rows of full length."]
    if estimated := memory_note(spec.method):
        found.append(estimated)
    if spec.objective in ESTIMATED:
        found.append(f"The memory of {spec.objective} is an estimate: read in TRL's code, measured nowhere.")
    if spec.compute.sharding == "layers":
        found.append(
            "The memory of each card is an estimate: the layers as many on each, beside the embedding or the head."
        )
        found.append("The cards work one after another: it is as fast as one of them.")
    return (*found, *rules.advice(request.goal, request.rows))


def explained(request: Request, chosen: Choice, best: list[Choice], wanted: str | None) -> tuple[Reason, ...]:
    """The reasons, with why this method."""
    why = _why_method(request, chosen, best, wanted)
    return tuple(dataclasses.replace(r, why=why) if r.field == "method.kind" else r for r in chosen.reasons)


def _why_method(request: Request, chosen: Choice, best: list[Choice], wanted: str | None) -> str:
    kind, memory = chosen.spec.method.kind, chosen.memory
    if kind != "full" and (given := request.spec.method.settings):
        wanted = f"method.{given[0]} is set, and that is for adapters"
    if memory is None or request.cards is None:
        return wanted or (
            "16-bit weights and a small adapter: the usual start" if kind == "lora" else "the least memory"
        )
    free = request.cards.memory - memory.device / GIB
    parts = []
    if free < 0:
        parts.append("the least memory of those that could be chosen")
    elif kind == "full":
        parts.append(wanted or f"it fits with {free:.1f} GiB to spare")
    elif kind == "lora":
        parts.append(f"16-bit weights ({memory.weights / GIB:.1f} GiB) fit with {free:.1f} GiB to spare")
    else:
        parts.append(f"4-bit weights ({memory.weights / GIB:.1f} GiB) fit with {free:.1f} GiB to spare")
    for other in ("lora", "qlora", "full"):
        sizes = [c.device_gib for c in best if c.spec.method.kind == other and c.device_gib]
        if other != kind and sizes and min(sizes) > request.cards.memory:
            parts.append(f"{KINDS[other]} needs at least {min(sizes):.0f} GiB")
    return "; ".join(parts)


def problems(request: Request, chosen: Choice) -> list[str]:
    """What stands in the way, or what to know before starting."""
    found = []
    r = request
    if r.shape is None:
        kind = r.facts.config.get("model_type", "unknown")
        found.append(f"The closed form does not know {kind}: trace the real step with --exact.")
    found += too_much(request, chosen)
    found += [f"This cannot be trained: {text}." for text in (*refusals(chosen.spec), *_batches(chosen.spec))]
    if chosen.spec.compute.sharding in ("zero2", "zero3"):
        found.append("ZeRO needs DeepSpeed (pip install deepspeed); its memory is an estimate.")
    if chosen.spec.compute.sharding == "fsdp":
        found.append(
            "FSDP has not been seen on a GPU by TuneDeck yet; 4-bit weights are stored as bfloat16 for it (quant_storage)."
        )
    if r.cards and r.cards.card and not r.cards.card.bf16:
        found.append(f"{r.cards.name} has no bfloat16: fp32 is slow and twice the memory.")
    t = chosen.spec.training
    if r.lengths and r.lengths.longest > (t.max_length or 0) and t.long_rows != "split":
        over = sum(n > (t.max_length or 0) for n in r.lengths.tokens)
        does = "cut" if t.long_rows == "cut" else "dropped"
        found.append(
            f"{100 * over / len(r.lengths.tokens):.1f} % of the rows are longer than max_length and are {does}."
        )
    if r.shape and adapts_experts(r.shape, chosen.spec.method):
        found.append(
            "all-linear adapts every expert, which only a trace can count (--exact); targets attention is the usual."
        )
        if chosen.spec.method.dropout:
            found.append("peft adapts experts only without dropout: --set method.dropout=0")
    if r.shape and r.shape.experts and chosen.spec.method.base:
        found.append("The experts of this model stay in 16 bits: bitsandbytes quantises only plain linear layers.")
    if r.shape and not r.shape.family.quantizable and chosen.spec.method.base:
        found.append(f"bitsandbytes does not quantise {r.shape.model_type}'s layers: QLoRA saves nothing.")
    return found


def _batches(spec: RunSpec) -> list[str]:
    """What TRL would refuse of the batch that an objective was given."""
    t, groups = spec.training, spec.objective_options.generations
    answers = (t.micro_batch or 1) * (t.accumulation or 1) * spec.compute.processes
    if spec.objective == "kto" and t.micro_batch == 1:
        return ["KTO compares the rows of a micro-batch with each other, which has to be 2 or more"]
    if spec.objective == "grpo" and groups and answers % groups:
        return [f"the {answers} answers of a step are no multiple of objective_options.generations, which is {groups}"]
    return []


def too_much(request: Request, chosen: Choice) -> list[str]:
    """That it does not fit, or hardly, and which card would do."""
    cards = request.cards
    if chosen.fits == "close":
        return ["It fits with less than a tenth of the card to spare: a ragged batch may end it."]
    if chosen.fits != "no" or chosen.device_gib is None or cards is None:
        return []
    there = f"{cards.memory:.1f} less {RESERVED} that CUDA keeps are there"
    needed = f"It does not fit: {chosen.device_gib:.1f} GiB are needed, {there}."
    return [needed, *_way_out(chosen.device_gib, cards.count)]


def _way_out(need: float, count: int) -> list[str]:
    """Which card would do, in the same number."""
    fitting = [c for c in catalog.cards().values() if c.memory * 0.9 >= need and c.bf16]
    if not fitting:
        return ["No single card in the catalog is large enough: use several, or a smaller model."]
    card = min(fitting, key=lambda c: (c.memory, c.tflops))
    several = f"{count} x " if count > 1 else ""
    return [
        f"The smallest card that would do: {several}{card.name} ({card.memory:.0f} GiB). A smaller model would do as well."
    ]
