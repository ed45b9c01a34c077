"""From what a user names (a model, a file, cards) to a request that the planner can answer. Reads files and the machine."""

import importlib.util
from typing import TYPE_CHECKING, Any, Literal

from engine.cards import Cards, parse_gpu
from engine.compatibility import VARIANTS
from engine.models import ModelFacts, inspect_model
from engine.planner.plan import Request
from engine.planner.rules import Goal
from engine.planner.shape import Shape, UnknownArchitecture, shape
from engine.spec import RunSpec, apply_sets

if TYPE_CHECKING:
    from engine.data.scan import Report

NO_DATA = "your-data.jsonl"
"""Stands in a planned specification where no data was named."""


def plan_sections(model: str, data: str | None, flags: dict[str, Any], sets: list[str]) -> dict[str, Any]:
    """What the flags of `tunedeck plan` describe, unchecked; what they leave open stays open. Raises SpecError for a --set
    that cannot be read."""
    kind = flags.get("method")
    variant = kind if kind in VARIANTS else None
    targets = flags.get("targets")
    if targets not in (None, "all-linear", "attention"):  # one name alone would be taken for a regular expression
        targets = [name.strip() for name in targets.split(",") if name.strip()]
    method = {"kind": "lora" if variant else kind, "variant": variant, "rank": flags.get("rank"), "targets": targets}
    training = {name: flags.get(name) for name in ("micro_batch", "max_length", "optimizer", "attention")}
    training["checkpointing"] = False if flags.get("no_checkpointing") else None
    sections: dict[str, dict[str, Any]] = {"method": method, "training": training}
    raw: dict[str, Any] = {name: {k: v for k, v in given.items() if v is not None} for name, given in sections.items()}
    return apply_sets({"model": {"path": model}, "data": {"path": data or NO_DATA}} | raw, sets)


def prepare_request(
    spec: RunSpec,
    gpu: str | None = None,
    goal: Goal = "instructions",
    stack: Literal["current", "hf448"] = "current",
    price: float | None = None,
    data: bool = True,
) -> Request:
    """A request for `spec`, of which only the model has to exist; `data` False leaves the data file unread.

    `gpu` as in `engine.cards.parse_gpu`. Raises TuneDeckError.
    """
    from engine.data.examine import examine
    from engine.data.scan import refuse

    facts = inspect_model(spec.model.path, spec.model.revision, weights=False)
    report = examine(spec.data, facts, spec.model, wait=False) if data else None
    if report and not report.kept:
        refuse(report)
    cards = None if spec.compute.devices == "cpu" else parse_gpu(gpu or "auto")
    return request_for(spec, facts, report, cards, goal, stack, price)


def request_for(
    spec: RunSpec,
    facts: ModelFacts,
    report: "Report | None",
    cards: Cards | None,
    goal: Goal = "instructions",
    stack: Literal["current", "hf448"] = "current",
    price: float | None = None,
) -> Request:
    """The same for facts and data that are looked at already."""
    if spec.objective is None:
        spec = spec.model_copy(update={"objective": report.objective if report else "sft"})
    return Request(
        spec=spec,
        facts=facts,
        shape=known_shape(facts),
        cards=cards,
        rows=round(report.kept * report.weight) if report else None,
        lengths=report.lengths if report else None,
        goal=goal,
        stack=stack,
        flash=importlib.util.find_spec("flash_attn") is not None,
        liger=importlib.util.find_spec("liger_kernel") is not None,
        price=price,
    )


def known_shape(facts: ModelFacts) -> Shape | None:
    """The model's shape, None for a family that the closed form does not know. Raises ModelError for nonsense."""
    try:
        return shape(facts.config, facts.parameters)
    except UnknownArchitecture:
        return None
