"""Plans a sweep: every point is checked and completed, and what is wrong with any of them is said at once. Writes nothing."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine import outcome, short, sweep
from engine.defaults import beneath, of_config
from engine.environment import capture
from engine.errors import DataError, ModelError, NoFit, SpecError, TuneDeckError
from engine.hardware import probe
from engine.launch import Draft, Prepared, draft_of, model_word, prepare
from engine.planner.calibrate import PastRun
from engine.planner.rules import Goal
from engine.spec import RunSpec, apply_sets, flatten, parse
from engine.sweep import SEED, Axis, Point
from engine.text import clean

SAID = 10
"""Problems that are told at once."""


@dataclass(frozen=True)
class Asked:
    """What `tunedeck sweep` was asked for. `raw` is the specification that the points change."""

    raw: Mapping[str, Any]
    axes: tuple[Axis, ...]
    seeds: tuple[int, ...] = ()
    count: int | None = None
    dice: int = 0
    name: str = ""
    goal: Goal = "instructions"
    anyway: bool = False
    accept: bool = False
    at_once: int | None = None


@dataclass(frozen=True)
class Planned:
    """A sweep that may start. `drafts` belong to `points`; `notes` are what one should know first."""

    name: str
    points: tuple[Point, ...]
    drafts: tuple[Draft, ...]
    at_once: int
    cards: int
    over: dict[str, list[Any]]
    notes: tuple[str, ...]

    @property
    def seconds(self) -> float | None:
        """How long all of it will take, as predicted; None where that is not known."""
        each = [seconds(draft.plan) for draft in self.drafts]
        known = [one for one in each if one is not None]
        return sum(known) / self.at_once if len(known) == len(each) else None


def seconds(plan: Mapping[str, Any]) -> float | None:
    """How long a run will take, of the document that its plan is stored as."""
    found = (plan.get("speed") or {}).get("seconds")
    return float(found) if found is not None else None


def memory(plan: Mapping[str, Any]) -> float | None:
    """GiB at its peak: what NVML will show of a card; on the CPU what torch allocates."""
    told = plan.get("memory") or {}
    found = told.get("device_gib") if plan.get("gpu") else told.get("peak_gib")
    return float(found) if found is not None else None


def plan(asked: Asked, taken: Callable[[str], set[str]], history: list[PastRun] | None = None) -> Planned:
    """Check every point and complete it. `taken` gives the names of sweeps that begin so.

    Raises SpecError (or what another check raises) with the problems of all points at once, NoFit if the only problem is
    that some do not fit and `anyway` is not set.
    """
    wanted = sweep.points(asked.axes, asked.seeds, asked.count, asked.dice)
    prepared = _all_prepared(asked, wanted, history or [])
    chosen = _different(wanted, prepared)
    points, found = [point for point, _ in chosen], [one for _, one in chosen]
    base = _base(asked, found[0])
    others = taken(base)
    name = next(n for i in range(1, len(others) + 2) if (n := base if i == 1 else f"{base}-{i}") not in others)
    drafts = _drafts(found, sweep.names(name, points), name)
    cards = _cards(drafts[0].spec)
    at_once = asked.at_once or max(1, cards)
    dropped = sweep.asked_for(asked.axes, asked.seeds, asked.count) - len(points)
    notes = _notes(points, found, dropped, asked.count is not None)
    over = {
        path: list({json.dumps(v, default=str): v for p in points for n, v in p if n == path}.values())
        for path, _ in points[0]
    }
    return Planned(name, tuple(points), tuple(drafts), at_once, cards, over, tuple(notes))


def _base(asked: Asked, first: Prepared) -> str:
    """The sweep's name before a number is put behind it."""
    name = clean(asked.name, keep_lines=False).strip() or first.spec.run.name
    return (name or f"{model_word(first)}-sweep")[:40].rstrip("-._") or "sweep"


def _cards(spec: RunSpec) -> int:
    """Runs like this that can train at once on the cards here; 0 on the CPU."""
    if spec.compute.devices == "cpu":
        return 0
    cards = outcome.usable(spec, probe().gpus)
    return len(cards) // max(1, outcome.cards_needed(spec, len(cards)))


def _all_prepared(asked: Asked, wanted: Sequence[Point], history: list[PastRun]) -> list[Prepared]:
    """Each point complete. Raises TuneDeckError with all problems."""
    mine = of_config()
    found: list[Prepared] = []
    problems: list[tuple[int, TuneDeckError]] = []
    known: dict[str, TuneDeckError] = {}
    for number, point in enumerate(wanted, 1):
        try:
            found.append(_prepared(asked, point, mine, history, known))
        except TuneDeckError as error:
            problems.append((number, error))
    if problems:
        raise _together(problems, wanted)
    return found


def _prepared(
    asked: Asked, point: Point, mine: Mapping[str, Any], history: list[PastRun], known: dict[str, TuneDeckError]
) -> Prepared:
    """`known`: what was wrong with a model or data before, so that a hub is not asked five hundred times."""
    raw, reasons = beneath(_assigned(asked.raw, point), mine)
    spec = parse(raw)
    key = spec.model_dump_json(include={"model", "data", "objective"})
    if key in known:
        raise known[key]
    try:
        return prepare(spec, asked.anyway, history, asked.accept, reasons, asked.goal)
    except (ModelError, DataError) as error:
        known[key] = error
        raise


def _assigned(raw: Mapping[str, Any], point: Point) -> dict[str, Any]:
    """The specification with the point's values in it. Raises SpecError where a path goes through a value."""
    made = dict(raw)
    for path, value in point:
        made = apply_sets(made, [f"{path}=null"])  # says what is wrong with a path
        node = made
        *sections, last = path.split(".")
        for section in sections:
            node = node[section]
        node[last] = value
    return made


def _together(problems: Sequence[tuple[int, TuneDeckError]], points: Sequence[Point]) -> TuneDeckError:
    """All problems as one error: equal ones are told once, with the points that have them."""
    groups: dict[tuple[str, str], list[tuple[int, TuneDeckError]]] = {}
    for number, error in problems:
        groups.setdefault((error.title, error.message), []).append((number, error))
    first = problems[0][1]
    if len(groups) == 1 and len(problems) == len(points):
        return type(first)(first.title, first.message, first.hint)
    fit = all(isinstance(error, NoFit) for _, error in problems)
    lines = [f"{_which([n for n, _ in group], points)}: {message}" for (_, message), group in groups.items()]
    if len(lines) > SAID:
        lines = [*lines[:SAID], f"and {len(lines) - SAID} problems more"]
    title = f"{len(problems)} of {len(points)} points {'do not fit' if fit else 'cannot be started'}"
    hint = "Leave them out, or start them all the same with --anyway." if fit else first.hint
    return (NoFit if fit else SpecError)(title, "\n  ".join(lines), hint)


def _which(numbers: Sequence[int], points: Sequence[Point]) -> str:
    """Points by what they set; many by their number."""
    if len(numbers) <= 3:
        return "; ".join(", ".join(sweep.sets(points[number - 1])) for number in numbers)
    return f"{len(numbers)} points, the first with {', '.join(sweep.sets(points[numbers[0] - 1]))}"


def _different(points: Sequence[Point], prepared: Sequence[Prepared]) -> list[tuple[Point, Prepared]]:
    """Points that come to the same run once they are complete are one."""
    found: dict[str, tuple[Point, Prepared]] = {}
    for point, one in zip(points, prepared, strict=True):
        found.setdefault(one.spec.model_dump_json(), (point, one))
    return list(found.values())


def _drafts(prepared: Sequence[Prepared], names: Sequence[str], tag: str) -> list[Draft]:
    """What each run begins with; the surroundings, which are the same for all, are looked at once."""
    environment = capture("", 0)
    made = []
    for one, name in zip(prepared, names, strict=True):
        run = one.spec.run
        run = run.model_copy(update={"name": name, "tags": list(dict.fromkeys([*run.tags, tag]))})
        own = environment | {"data_sha256": one.data.digest, "seed": one.spec.training.seed}
        made.append(draft_of(one, one.spec.model_copy(update={"run": run}), own))
    return made


def _notes(points: Sequence[Point], prepared: Sequence[Prepared], dropped: int, drawn: bool) -> list[str]:
    notes = []
    if dropped:
        why = "there are not so many different ones" if drawn else "they come to the same run"
        notes.append(f"{dropped} point{'s were' if dropped > 1 else ' was'} left out: {why}")
    follows = _follows(points, prepared)
    if follows:
        notes.append(f"differs too, as recommended for each: {', '.join(follows)}")
    seeds = {dict(point).get(SEED) for point in points}
    if len(seeds) > 1 and any(
        isinstance(one.spec.data.validation, int | float) and one.spec.data.validation for one in prepared
    ):
        notes.append("each seed holds out other rows: to compare on the same ones give data.validation a file")
    return notes


def _follows(points: Sequence[Point], prepared: Sequence[Prepared]) -> list[str]:
    """What differs between the points besides what is swept: `alpha 16, 32`."""
    flat = [flatten(one.spec.model_dump(mode="json")) for one in prepared]
    swept = {path for path, _ in points[0]}
    found = []
    for path in dict.fromkeys(path for one in flat for path in one):
        values = list(dict.fromkeys(short.value(one.get(path)) for one in flat))
        if (
            len(values) > 1
            and not any(path == one or path.startswith(one + ".") for one in swept)
            and path != "evaluation.prompts"
        ):
            found.append(f"{short.field(path)} {', '.join(values[:4])}{' …' if len(values) > 4 else ''}")
    return found
