"""The Training step's view of the engine: a specification made whole, field by field, with what it comes to and what would
stop it."""

import contextlib
import dataclasses
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from engine import trackers
from engine.errors import SpecError, TuneDeckError
from engine.launch import Prepared
from engine.methods import METHODS, OPTIMIZERS, SCHEDULES
from engine.planner.complete import complete
from engine.planner.decide import known_of
from engine.planner.disk import disk_needed
from engine.planner.memory import GIB
from engine.planner.plan import Choice
from engine.planner.steps import steps_for, validation_rows
from engine.runnable import check_runnable
from engine.spec import RunSpec, Section, apply_sets, parse
from engine.trainer_needs import lacking
from tuiapp.plan_values import rows_a_step
from tuiapp.planning import Desk, choice_of, page_of
from tuiapp.snapshot import NewRun
from tuiapp.training_fields import ESSENTIAL
from tuiapp.training_snapshot import TrainingPage

NAMED = {"training.schedule": SCHEDULES, "training.optimizer": OPTIMIZERS, "method.kind": tuple(METHODS)}
"""Fields that are one of a few though their type is text."""
REFUSED = "This cannot be trained: "
"""How engine.planner.explain.problems begins what is no matter of taste."""
TOGETHER = ("data", "method")
"""Sections that are also checked as a whole: what one field lacks, another one may bring."""
FROM_PREPARE = ("evaluation.prompts", "compute.devices", "objective")
"""What is filled in where a run starts, and not by the planner."""
Leaves = Iterator[tuple[str, Any]]


def leaves(model: type[Section] = RunSpec, prefix: str = "") -> Leaves:
    """(path, type) of every field of the specification that is no section itself."""
    for name, info in model.model_fields.items():
        section = _section(info.annotation)
        if section is not None:
            yield from leaves(section, f"{prefix}{name}.")
        else:
            yield prefix + name, info.annotation


def _section(annotation: Any) -> type[Section] | None:
    """The section that a field is, or is where it is not None."""
    inside = _inside(annotation) or [annotation]
    return inside[0] if len(inside) == 1 and isinstance(inside[0], type) and issubclass(inside[0], Section) else None


def _inside(annotation: Any) -> list[Any]:
    """The members of a union but None; nothing for another type."""
    union = get_origin(annotation) in (Union, UnionType)
    return [one for one in get_args(annotation) if one is not NoneType] if union else []


def options(values: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    """The fields that are one of a few, with what they can be; what is nothing in `values` can be nothing again."""
    found: dict[str, tuple[Any, ...]] = {}
    for path, annotation in leaves():
        few = NAMED.get(path) or tuple(_choices(annotation))
        nothing = (None,) if values[path] is None and NoneType in get_args(annotation) else ()
        found |= {path: (*few, *nothing)} if few else {}
    return found


def _choices(annotation: Any) -> Iterator[Any]:
    if get_origin(annotation) is Literal:
        yield from get_args(annotation)
    elif annotation is bool:
        yield from (False, True)
    elif len(inside := _inside(annotation)) == 1:
        yield from _choices(inside[0])


def at(nested: Any, path: str) -> Any:
    """The value at a path of nested mappings; None where the way ends before."""
    for name in path.split("."):
        nested = nested.get(name) if isinstance(nested, Mapping) else None
    return nested


def values_of(spec: RunSpec) -> dict[str, Any]:
    """Every field by its path, as plain JSON values."""
    plain = spec.model_dump(mode="json")
    return {path: at(plain, path) for path, _ in leaves()}


def _defaults() -> dict[str, Any]:
    """Every field as it is where nothing is said."""
    return values_of(parse({"model": {"path": "any"}, "data": {"path": "any"}}))


def read_value(path: str, text: str) -> Any:
    """What a person typed for a field, as the specification takes it. Raises SpecError for what it refuses.

    Read as `--set` reads it, and as it is shown: 3 % for 0.03, 1,024 for 1024; for a list one thing, or several with commas.
    """
    problem: SpecError | None = None
    for value in _readings(path, text.strip()):
        try:
            _check_alone(path, value)
            return value
        except SpecError as error:
            problem = problem or error
    raise problem or SpecError("This cannot be read", f"{path}: {text}", "Type another value.")


def _readings(path: str, text: str) -> Iterator[Any]:
    """What a text may mean, the likeliest first."""
    if re.fullmatch(r"[\d.]+\s*%", text):
        yield float(text.rstrip("% ")) / 100
    if re.fullmatch(r"\d{1,3}(,\d{3})+", text):
        yield int(text.replace(",", ""))
    several = [part.strip() for part in text.split(",") if part.strip()]
    if len(several) > 1 and path in ("method.targets", "method.modules_to_save", "report_to", "run.tags"):
        yield several
    with contextlib.suppress(SpecError):
        yield at(apply_sets({}, [f"{path}={text}"]), path)
    yield text
    yield [text]


def _check_alone(path: str, value: Any) -> None:
    """Raises SpecError if the field by itself refuses it; what other fields have to say is looked at with them."""
    raw: Any = {"model": {"path": "any"}, "data": {"path": "any"}}
    sections, _, name = path.rpartition(".")
    node = raw
    for section in sections.split(".") if sections else ():
        node = node.setdefault(section, {})
    node[name] = value
    try:
        parse(raw)
    except SpecError as error:
        if not error.message.startswith(tuple(f"{section}: " for section in TOGETHER)):
            raise


def unforked(form: NewRun) -> NewRun:
    """The form without what its parent settled of the training itself: what would be recommended."""
    chosen = tuple((path, value) for path, value in form.chosen if path not in ESSENTIAL)
    return dataclasses.replace(form, chosen=chosen)


def page_for(
    desk: Desk, base: Desk, own: Desk, changed: Sequence[str], prepared: Prepared | None, refusal: str
) -> TrainingPage:
    """The page. `base` is without what was changed on the step, the fields `changed`; `own` without the parent's too.

    `prepared` is the run as it would start, None where that is not known, and `refusal` why it could not.
    """
    choice, spec = desk.plan.choice, desk.plan.choice.spec
    values, recommended, reasons = values_of(spec), values_of(spec), _reasons(choice)
    before = values_of(base.plan.choice.spec)
    for path in changed:
        recommended[path], why = _if_open(desk, base, path, before)
        reasons[path] = why
    if prepared is not None:
        _fill_in(prepared, values, recommended, reasons, changed)
    plan = page_of(desk)
    shown = choice_of(desk, choice)
    numbers = _numbers(desk)
    return TrainingPage(
        plan=plan,
        choice=shown,
        before=choice_of(base, base.plan.choice),
        values=values,
        recommended=recommended,
        reasons=reasons,
        own=values_of(own.plan.choice.spec) if own is not base else recommended,
        default=frozenset(path for path, value in _defaults().items() if recommended[path] == value),
        options=options(recommended),
        rows_a_step=rows_a_step(plan, shown.values),
        obstacle=refusal or _obstacle(desk, numbers["steps"]),
        **numbers,
    )


def _reasons(choice: Choice) -> dict[str, str]:
    return {one.field: one.why for one in choice.reasons if one.why}


def _fill_in(
    prepared: Prepared,
    values: dict[str, Any],
    recommended: dict[str, Any],
    reasons: dict[str, str],
    changed: Sequence[str],
) -> None:
    """What only the start of a run fills in."""
    whole = values_of(prepared.spec)
    for path in FROM_PREPARE:
        values[path] = whole[path]
        if path not in changed:
            recommended[path] = whole[path]
    reasons |= {one.field: one.why for one in prepared.reasons if one.field in FROM_PREPARE and one.why}


def _if_open(desk: Desk, base: Desk, path: str, before: Mapping[str, Any]) -> tuple[Any, str]:
    """(value, why) of a field if it were open and the others as they are; what the form itself gives stays."""
    usual = before.get(path), _reasons(base.plan.choice).get(path, "")
    if path in dict(base.form.chosen):
        return usual
    raw = desk.plan.choice.spec.model_dump(mode="json")
    section, _, name = path.rpartition(".")
    node = at(raw, section) if section else raw
    if not isinstance(node, dict) or name not in node:
        return usual
    del node[name]
    try:
        filled, reasons = complete(parse(raw), known_of(desk.plan.request), {})
    except SpecError:
        return usual
    value = at(filled.model_dump(mode="json"), path)
    if value is None:
        return usual
    return value, next((one.why for one in reasons if one.field == path), usual[1])


def _numbers(desk: Desk) -> dict[str, Any]:
    """Rows, steps, tokens and disk."""
    request, spec = desk.plan.request, desk.plan.choice.spec
    disk = disk_needed(spec, request.facts)
    more = spec.model_copy(update={"saving": spec.saving.model_copy(update={"keep": spec.saving.keep + 1})})
    each = disk_needed(more, request.facts) - disk
    found: dict[str, Any] = {
        "disk": disk / GIB,
        "checkpoint": each / GIB if each else None,
        "steps": spec.training.max_steps,
    }
    if not request.rows:
        return found
    t, lengths = spec.training, request.lengths
    held = validation_rows(spec.data.validation, request.rows)
    kept = 1.0
    if lengths and lengths.measured and t.long_rows == "drop":
        kept = sum(n <= (t.max_length or n) for n in lengths.tokens) / len(lengths.tokens)
    rows = max(1, round((request.rows - held) * kept))
    packed = max(1, math.ceil(rows * lengths.mean / (t.max_length or 1024))) if t.packing and lengths else rows
    steps = steps_for(spec, packed)
    one = spec.model_copy(update={"training": t.model_copy(update={"max_steps": None, "epochs": 1.0})})
    epoch = float(steps_for(one, packed))
    seen = steps / epoch if t.max_steps else t.epochs or 1
    tokens = rows * lengths.mean * seen if lengths else None
    return found | {"rows": rows, "held_out": held, "steps": steps, "epoch_steps": epoch, "tokens": tokens}


def _obstacle(desk: Desk, steps: int | None) -> str:
    """Why it could not start, where the model or the data is not here to try it."""
    choice, spec = desk.plan.choice, desk.plan.choice.spec
    said = lacking(spec, steps)
    said += [one.removeprefix(REFUSED) for one in desk.plan.problems if one.startswith(REFUSED)]
    if spec.evaluation.early_stopping and not spec.evaluation.every:
        said.append("early stopping needs evaluations: set data.validation and evaluation.every")
    try:
        check_runnable(spec)
        trackers.check(spec.report_to)
    except TuneDeckError as error:
        said.append(f"{error.message} {error.hint}")
    if choice.fits == "no":
        said += desk.plan.problems[:1]
    return said[0] if said else ""
