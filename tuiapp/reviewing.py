"""The last step's view of the engine: what a form would really start, against what is recommended for the same data."""

import contextlib
import dataclasses
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine import launch
from engine.command_line import USUAL_GOAL, arguments, commented, differences, fewest, set_text
from engine.errors import SpaceError, TuneDeckError
from engine.hardware import Hardware, Sampler
from engine.launch import Prepared
from engine.leases import CPU
from engine.outcome import cards_needed, usable
from engine.planner.calibrate import PastRun
from engine.planner.disk import disk_needed
from engine.planner.plan import method_name
from engine.planner.rules import Reason
from engine.planner.steps import steps_for, validation_rows
from engine.spec import RunSpec, apply_sets, flatten, parse
from engine.store import runs
from engine.tickets import Lease, Ticket, read_leases, read_tickets
from engine.waiting import Place, claims, ends_of, expected, look_at, reason
from tuiapp import planning
from tuiapp.review_values import Change, Problem, ReviewPage, Waits, step_for
from tuiapp.snapshot import NewRun

Raw = dict[str, Any]
NAMES = ("run.name", "run.parent")
"""What says whose run it is, and not what is done."""
MINE = "review"


@dataclass(frozen=True)
class Question:
    """What a form asks for. `raw` are its sections; `prepare` makes sections a run without starting it."""

    form: NewRun
    raw: Raw
    prepare: Callable[[Raw], Prepared]
    database: Path
    hardware: Hardware
    history: tuple[PastRun, ...] = ()
    parent: runs.Row | None = None


@dataclass(frozen=True)
class Desk:
    """A page, and what it was made of."""

    page: ReviewPage
    prepared: Prepared


def open_desk(question: Question) -> Desk:
    """What stays the same as long as the form and the data do. Raises TuneDeckError."""
    form, prepared = question.form, question.prepare(question.raw)
    chosen = [path for path in flatten(_settled(question.raw)) if path not in ("model.path", "data.path")]
    base = _recommended(question, chosen)
    plan, spec, data = prepared.plan, prepared.spec, prepared.data
    key = planning.HERE if plan.request.cards else planning.CPU
    planned = planning.page_of(planning.Desk(form, key, plan, question.hardware, question.history))
    held = validation_rows(spec.data.validation, data.kept)
    sets = _sets(question, chosen, spec, base.spec if base else None)
    page = ReviewPage(
        form=form,
        card=planned.card_name,
        card_gib=planned.card_gib,
        choice=planned.recommended,
        band=plan.band,
        basis=planned.basis,
        steps=steps_for(spec, _sequences(prepared, data.kept - held)),
        rows=data.rows,
        train=data.kept - held,
        validation=held,
        validation_file=Path(spec.data.validation).name if isinstance(spec.data.validation, str) else "",
        dropped=tuple((why, one.count) for why, one in data.dropped.items() if one.count),
        disk_needed=disk_needed(spec, prepared.model),
        keep=spec.saving.keep if spec.saving.every else 0,
        model_bytes=planned.recommended.trained * 4 if planned.recommended.trained else None,
        is_adapter=spec.method.kind != "full",
        fields=len(flatten(spec.model_dump(mode="json"))) - len(NAMES),
        changes=_changes(prepared, base, [*sets] if sets is not None else chosen),
        recommended=base is not None,
        parent=question.parent["name"] if question.parent else "",
        parent_changes=_from_parent(spec, question.parent),
        warnings=_warnings(prepared),
        command=_command(question, spec, sets),
    )
    return Desk(dataclasses.replace(page, yaml=_yaml(page, prepared)), prepared)


def page_now(
    desk: Desk, database: Path, hardware: Hardware, sampler: Sampler, taken: Callable[[str], set[str]]
) -> ReviewPage:
    """The page with what changes from moment to moment: the name, the room on the disk, and the queue. Raises SpaceError.

    `taken` gives the names of runs that begin so.
    """
    launch.check_room(database, desk.prepared)
    held = read_leases()
    places = look_at(hardware.gpus, sampler.sample(), sampler.processes(), held)
    waits = waits_of(desk.prepared, hardware, read_tickets(), places, held, time.time())
    name, free = launch.free_name(desk.prepared, taken), shutil.disk_usage(_there(database)).free
    return dataclasses.replace(desk.page, name=name, waits=waits, disk_free=free)


def _there(place: Path) -> Path:
    """The nearest directory that exists."""
    while not place.exists():
        place = place.parent
    return place


def page_of_error(form: NewRun, error: TuneDeckError) -> ReviewPage:
    """Why it cannot start."""
    return ReviewPage(form, Problem(error.title, error.message, error.hint, step_for(type(error).__name__)))


def _settled(raw: Mapping[str, Any]) -> Raw:
    """Without what is open."""
    return {
        name: _settled(value) if isinstance(value, dict) else value for name, value in raw.items() if value is not None
    }


def _recommended(question: Question, chosen: Sequence[str]) -> Prepared | None:
    """The same model and data with nothing chosen; where that cannot be, with what makes the data readable alone."""
    bare = {name: {"path": question.raw[name]["path"]} for name in ("model", "data")}
    kept = {name: question.raw[name] for name in ("model", "data")}
    for raw in (bare, kept):
        with contextlib.suppress(TuneDeckError):
            return question.prepare(raw)
    return None


def _sequences(prepared: Prepared, rows: int) -> int:
    """Rows as the trainer counts them: packed ones hold several of the data's."""
    t, lengths = prepared.spec.training, prepared.data.lengths
    if not t.packing or lengths is None:
        return rows
    return max(1, math.ceil(rows * lengths.mean / (t.max_length or 1024)))


def _changes(prepared: Prepared, base: Prepared | None, chosen: Sequence[str]) -> tuple[Change, ...]:
    """What is not as recommended: what somebody chose first, then what follows from it."""
    values = flatten(prepared.spec.model_dump(mode="json"))
    found = (
        differences(prepared.spec, base.spec) if base else {path: (None, values.get(path)) for path in chosen}
    ).items()
    was, now = _whys(base.reasons if base else ()), _whys(prepared.reasons)
    made = [
        Change(path, _text(before), _text(after), (was if path in chosen else now).get(path, ""), path in chosen)
        for path, (before, after) in found
        if path not in NAMES
    ]
    return tuple(sorted(made, key=lambda one: not one.chosen))


def _from_parent(spec: RunSpec, parent: runs.Row | None) -> tuple[Change, ...]:
    if parent is None:
        return ()
    try:
        found = differences(spec, parse(parent["spec"])).items()
    except TuneDeckError:  # a specification of another version
        return ()
    return tuple(Change(path, _text(before), _text(after)) for path, (before, after) in found if path not in NAMES)


def _whys(reasons: Sequence[Reason]) -> dict[str, str]:
    return {one.field: one.why for one in reasons}


def _text(value: Any) -> str:
    return "" if value is None else json.dumps(value, ensure_ascii=False)


def _warnings(prepared: Prepared) -> tuple[tuple[str, str], ...]:
    """(severity, sentence): what is the matter with the data, what the plan takes for granted, what was left out."""
    data = [
        ("warning", f"{one.message}{f': {one.where}' if one.where else ''}. {one.hint}")
        for one in prepared.data.warnings
    ]
    plan = [("warning", text) for text in prepared.plan.problems] + [("note", text) for text in prepared.plan.notes]
    mine = [("note", f"{one.field}: {one.why}") for one in prepared.reasons if one.value is None]
    return tuple((severity, text[:1].upper() + text[1:]) for severity, text in (*data, *plan, *mine))


def _sets(question: Question, chosen: Sequence[str], target: RunSpec, base: RunSpec | None) -> Raw | None:
    """The fields that have to be given to make the same run from a shell, tried out; None where that cannot be done."""
    raw = {"model": {"path": target.model.path}, "data": {"path": target.data.path}}

    def make(sets: Mapping[str, Any]) -> RunSpec:
        return question.prepare(apply_sets(raw, [set_text(path, value) for path, value in sets.items()])).spec

    return fewest(chosen, target, base, make)


def _command(question: Question, target: RunSpec, sets: Raw | None) -> tuple[str, ...]:
    """What makes the same run from a shell; empty where nothing does."""
    if sets is None:
        return ()
    elsewhere = question.database.absolute() != _usual_database()
    place = ["--db", str(question.database.absolute())] if elsewhere else []
    return (*arguments(target, sets, question.form.goal), *place)


def _usual_database() -> Path:
    """Where a command without `--db` looks."""
    from engine import paths

    return paths.database(None)


def _yaml(page: ReviewPage, prepared: Prepared) -> str:
    """The whole specification, each value with its reason."""
    reasons = _whys(prepared.reasons)
    for one in page.changes:
        if one.chosen:
            reasons[one.path] = f"chosen; recommended: {one.before or 'none'}" if page.recommended else "chosen"
    goal = f" --goal {page.form.goal}" if page.form.goal != USUAL_GOAL else ""
    data = prepared.spec.data.path
    name = Path(data).name if isinstance(data, str) else f"{len(data)} data sets"
    head = f"{method_name(prepared.spec)} of {prepared.model.label} on {name}"
    return commented(prepared.spec, reasons, f"{head}\nRun it: tunedeck train THIS_FILE{goal} --detach")


def waits_of(
    prepared: Prepared, hardware: Hardware, tickets: Sequence[Ticket], places: Sequence[Place], held: Sequence[Lease],
    now: float,
) -> Waits:  # fmt: skip
    """What a run that is queued now would find."""
    spec, choice = prepared.spec, prepared.plan.choice
    on_cpu = spec.compute.devices == "cpu"
    cards = usable(spec, hardware.gpus)
    mine = Ticket(
        MINE, max([now, *(one.turn + 1 for one in tickets)]), MINE, MINE, "",
        (CPU,) if on_cpu else tuple(card.uuid for card in cards), 1 if on_cpu else cards_needed(spec, len(cards)),
        None if on_cpu else choice.device_gib, choice.speed.seconds_total, now,
    )  # fmt: skip
    queue = [*tickets, mine]
    will = expected(queue, places, ends_of(held), now)[MINE]
    taken = claims(queue, places)[MINE]
    free = len(taken) >= mine.count
    labels = {place.uuid: place.label for place in places}
    card = " and ".join(
        labels[uuid] if i == 0 else labels[uuid].removeprefix("GPU ")
        for i, uuid in enumerate(taken if free else will.cards)
    )
    return Waits(free, card, "" if free else reason(mine, queue, places, by_name=True), None if free else will.starts)


def save(text: str, path: str, replace: bool) -> str:
    """Write a file; its path, or "" if there is one that may not be replaced. Raises SpaceError."""
    place = Path(path).expanduser().absolute()
    try:
        with place.open("w" if replace else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        return ""
    except (OSError, ValueError) as error:
        why = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        raise SpaceError("The file could not be written", f"{place}: {why}.", "Choose another place.") from None
    return str(place)
