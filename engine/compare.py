"""Runs side by side: what differs, what came of it, and what that may mean."""

import dataclasses
import difflib
import sqlite3
import string
from collections.abc import Mapping, Sequence
from typing import Any

from engine.compare_curves import clock, tokens_at
from engine.compare_hints import correlations, joined, repeats, sentence
from engine.compare_results import SKIPPED, best_of, direction, measures, usual_metric
from engine.compare_settings import Facts, other_machine, settings, unlike
from engine.compared import Answer, ComparedRun, Comparison, Prompt, Reached, Setting
from engine.errors import RunError
from engine.store import comparing, health, records
from engine.text import clean

Row = dict[str, Any]
ALL_ANSWERS = 24
"""Runs of which every answer is read; of more only the newest to each prompt."""
FIRST = ("eval_loss", "loss", "learning_rate", "grad_norm", "tokens_per_second", "mfu", "memory_allocated_gib")
NO_CURVES = (*SKIPPED[1:], "num_tokens", "memory_reserved_gib")
CARD_CURVES = ("gpu_memory", "gpu_utilization", "gpu_power", "gpu_temperature")
LETTERS = [*string.ascii_uppercase[1:], *string.ascii_lowercase[1:]]


def letter(place: int) -> str:
    """What stands for a run: B for the baseline, then C, D, ..., Z, b, ..., z, BB, BC, ..."""
    more, rest = divmod(place, len(LETTERS))
    return f"{letter(more - 1) if more else ''}{LETTERS[rest]}"


def in_order(ids: Sequence[str], baseline: str | None) -> list[str]:
    """Each run once, the baseline first: it and the one that stood first change places."""
    order = list(dict.fromkeys(ids))
    if baseline is None:
        return order
    if baseline not in order:
        return [baseline, *order]
    at = order.index(baseline)
    order[0], order[at] = order[at], order[0]
    return order


def compare(
    db: sqlite3.Connection, ids: Sequence[str], baseline: str | None = None, metric: str | None = None
) -> Comparison:
    """The runs with these ids side by side; the baseline, or the first, is what the others are held against.

    `metric` decides which is best. Raises RunError if none of the runs is there, or none has such a metric.
    """
    rows = comparing.rows(db, in_order(ids, baseline))
    if not rows:
        raise RunError(
            "There is nothing to compare", "None of these runs is in the database.", "List them: tunedeck runs"
        )
    found = _read(db, rows)
    reasons = [("", ()), *(unlike(one, found[0]) for one in found[1:])]
    runs = tuple(_run(one, i, reasons[i][0], found[0]) for i, one in enumerate(found))
    metric = _metric(found, metric)
    target = best_of(found[0], metric)
    table = measures(found, runs, [_best_step(db, one, metric) for one in found], metric)
    repeated = repeats(found, runs, metric)
    everything = _with_warnings(settings(found), reasons)
    return Comparison(
        runs=runs,
        settings=everything,
        unknown=sum(1 for one in everything if one.kind == "setting" and not one.differs
                    and not all(cell.known for cell in one.cells)),
        measures=table,
        prompts=_prompts(db, runs),
        metrics=_metrics(db, found),
        metric=metric,
        better=direction(metric) or "less",
        target=target,
        reached=tuple(_reached(db, run, metric, target) for run in runs),
        correlations=correlations(found, runs, metric),
        repeats=repeated,
        sentence=sentence(runs, table, repeated),
        notes=_notes(found, runs),
    )  # fmt: skip


def _read(db: sqlite3.Connection, rows: Sequence[Row]) -> list[Facts]:
    ids = [row["id"] for row in rows]
    data, sizes = comparing.trained_on(db, ids), comparing.model_sizes(db, ids)
    known = comparing.params(db, [row["id"] for row in rows if not row["spec"]])
    found = []
    for row in rows:
        run_id = row["id"]
        mean, count = comparing.last_mean(db, run_id, "loss") if "loss" in row["latest"] else (None, 0)
        speed = health.recent_speed(db, run_id) if "tokens_per_second" in row["latest"] else None
        facts = Facts(
            row, data.get(run_id, {}), known.get(run_id, {}), speed, sizes.get(run_id), _seconds(db, row), mean, count
        )
        found.append(facts)
    return found


def _metric(found: Sequence[Facts], asked: str | None) -> str:
    """What decides which is best. Raises RunError."""
    if asked is None:
        return usual_metric(found)
    if not any(asked in one.run["latest"] for one in found):
        known = sorted({key for one in found for key in one.run["latest"]})
        near = difflib.get_close_matches(asked, known, 3) or known[:8]
        raise RunError(
            "None of these runs has that metric",
            f"'{clean(asked, False)}' was not measured.",
            f"Perhaps {', '.join(near)}." if near else "",
        )
    return asked


def _seconds(db: sqlite3.Connection, run: Row) -> float | None:
    """Seconds of work to the end, or to the last that was heard of the run."""
    end = run["ended_at"] or (run["progress"] or {}).get("time")
    return clock(run["started_at"], records.pauses(db, run["id"]))(end) if run["started_at"] and end else None


def _best_step(db: sqlite3.Connection, one: Facts, metric: str) -> int | None:
    best = best_of(one, metric)
    found = (
        None if best is None else comparing.first_as_good(db, one.run["id"], metric, best, direction(metric) == "more")
    )
    return found[0] if found else None


def _run(one: Facts, place: int, reason: str, base: Facts) -> ComparedRun:
    run, progress = one.run, one.run["progress"] or {}
    return ComparedRun(
        id=run["id"], name=clean(run["name"], False), letter=letter(place), status=run["status"],
        model=clean(run["model"] or "", False), method=run["method"] or "", project=clean(run["project"] or "", False),
        host=clean(one.machine.get("host") or run["host"] or "", False), created_at=run["created_at"],
        started_at=run["started_at"], ended_at=run["ended_at"], step=progress.get("step"), total=progress.get("total"),
        epoch=progress.get("epoch"), exit_reason=clean(run["exit_reason"] or "", False), source=clean(run.get("source") or "", False),
        device=one.environment.get("device") or "", memory_total=one.environment.get("memory_total_gib"),
        unlike=reason, other_machine=other_machine(one, base),
    )  # fmt: skip


def _with_warnings(rows: Sequence[Setting], reasons: Sequence[tuple[str, Sequence[str]]]) -> tuple[Setting, ...]:
    """The settings, each with why it makes results unlike."""
    why: Mapping[str, str] = {path: reason for reason, paths in reversed(reasons) for path in paths}
    return tuple(
        dataclasses.replace(row, warning=why[row.path]) if row.path in why and row.differs else row for row in rows
    )


def _prompts(db: sqlite3.Connection, runs: Sequence[ComparedRun]) -> tuple[Prompt, ...]:
    """What was asked of any, what most were asked first."""
    rows = comparing.samples(db, [run.id for run in runs], newest=len(runs) > ALL_ANSWERS)
    said: dict[str, dict[str, list[Answer]]] = {}
    for row in rows:
        said.setdefault(row["prompt"], {}).setdefault(row["run_id"], []).append(Answer(row["step"], row["text"]))
    order = sorted(said, key=lambda prompt: -len(said[prompt]))
    return tuple(Prompt(prompt, tuple(tuple(said[prompt].get(run.id, ())) for run in runs)) for prompt in order)


def _metrics(db: sqlite3.Connection, found: Sequence[Facts]) -> tuple[str, ...]:
    keys = {key for one in found for key in one.run["latest"] if not key.startswith("train_") and key not in NO_CURVES}
    cards = CARD_CURVES if comparing.with_cards(db, [one.run["id"] for one in found]) else ()
    known = [key for key in FIRST if key in keys]
    return (*known, *sorted(keys - set(known)), *cards)


def _reached(db: sqlite3.Connection, run: ComparedRun, metric: str, target: float | None) -> Reached | None:
    more = direction(metric) == "more"
    point = None if target is None or run.unlike else comparing.first_as_good(db, run.id, metric, target, more)
    if point is None:
        return None
    step, time = point
    seconds = clock(run.started_at, records.pauses(db, run.id))(time) if run.started_at else None
    return Reached(step, seconds, tokens_at(db, run.id, step))


def _notes(found: Sequence[Facts], runs: Sequence[ComparedRun]) -> tuple[str, ...]:
    """Why some results are not like with like, each reason once with the runs that it is true of."""
    reasons: dict[str, list[str]] = {}
    for run in runs:
        for reason in (run.unlike, run.other_machine):
            if reason:
                reasons.setdefault(reason, []).append(run.letter)
    alike = [run.letter for one, run in zip(found, runs, strict=True) if not run.unlike and not one.of_known_rows]
    if len(alike) > 1:
        reasons["on which rows these were evaluated is not known; they are taken to be the same"] = alike
    return tuple(f"{joined(letters)}: {reason}" for reason, letters in reasons.items())
