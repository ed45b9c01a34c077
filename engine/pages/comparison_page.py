"""The report of several runs compared."""

import math
import sqlite3
from collections.abc import Sequence

from engine.compare import compare
from engine.compare_curves import Axis, Curve, Ticks, along, curve, ticks
from engine.compared import ComparedRun, Comparison, Prompt, Setting
from engine.pages import family
from engine.pages.chart import Chart, Drawn, Line, Points, draw
from engine.pages.curves import DETAIL, SMOOTH_FROM, average, drawn_of, name_of, smoothed, thin
from engine.pages.page import RUNS, render, when
from engine.report import GLYPHS, duration

COLOURS, DASHES = 7, 4
"""Of the style sheet: with both, 28 runs look each like no other; the letters tell them apart in any number."""
POINTS = 6000
"""Points that a chart draws of all runs together, before smoothing."""
MAIN = ("eval_loss", "loss", "reward", "learning_rate", "grad_norm", "tokens_per_second", "memory_allocated_gib")
NOISY = ("loss", "grad_norm", "tokens_per_second", "reward", "entropy", "mean_token_accuracy")
FROM_ZERO = ("learning_rate", "tokens_per_second", "memory_allocated_gib", "mfu")
TITLES = {"memory_allocated_gib": "Peak memory", "tokens_per_second": "Speed"}
UNITS = {
    "memory_allocated_gib": "GiB",
    "tokens_per_second": "tokens a second",
    "gpu_memory": "GiB",
    "gpu_utilization": "%",
    "gpu_power": "W a card",
    "gpu_temperature": "°C",
}
X_NAMES: dict[Axis, str] = {"step": "step", "tokens": "tokens", "time": "minute"}
MORE, PROMPTS, TEXT = 24, 12, 4000
KINDS = {"setting": "Settings", "data": "Data", "environment": "Environment", "code": "Code"}


def comparison_page(db: sqlite3.Connection, ids: Sequence[str], baseline: str | None = None) -> str:
    """The page of runs by their ids, the first of which (or `baseline`) the others are held against. Raises RunError."""
    c = compare(db, ids, baseline)
    laid = {run.id: ticks(db, run.id) for run in c.runs}
    main = [key for key in MAIN if key in c.metrics]
    more = [key for key in c.metrics if key not in main][:MORE]
    return render(
        "comparison.html",
        c=c, styles=[style(i) for i in range(len(c.runs))], runs=[_head(run) for run in c.runs], kinds=_by_kind(c.differing),
        same=_by_kind(tuple(one for one in c.settings if not one.differs)), charts=_charts(db, c, laid, main),
        along=_along(db, c, laid), more=_charts(db, c, laid, more), prompts=[_answers(p) for p in c.prompts[:PROMPTS]],
        prompts_left=max(0, len(c.prompts) - PROMPTS), reached=_reached(c),
        family=family.of_runs(db, [run.id for run in c.runs]), toggled=RUNS, now_running=any(run.active for run in c.runs),
    )  # fmt: skip


def style(place: int) -> str:
    """The classes of a run, its colour and its dashes: the colours in turn, then again with other dashes."""
    return f"k{place % COLOURS} d{(place + 2 * (place // COLOURS)) % DASHES} r{place}"


def _head(run: ComparedRun) -> dict[str, str | None]:
    """What stands of a run above the tables."""
    return {
        "status": f"{GLYPHS.get(run.status, '')} {run.status}", "started": when(run.started_at or run.created_at),
        "steps": f"step {run.step:,} of {run.total:,}" if run.step is not None and run.total else "",
        "note": "; ".join(text for text in (run.exit_reason if run.status not in ("finished", "stopped") else "", run.unlike) if text),
    }  # fmt: skip


def _by_kind(rows: Sequence[Setting]) -> list[tuple[str, list[Setting]]]:
    found = [(title, [one for one in rows if one.kind == kind]) for kind, title in KINDS.items()]
    return [(title, some) for title, some in found if some]


def _charts(db: sqlite3.Connection, c: Comparison, laid: dict[str, Ticks], keys: Sequence[str]) -> list[Drawn]:
    """The curves by step; what cards showed by the minute."""
    charts = [_chart(db, c, laid, key, "time" if key.startswith("gpu_") else "step") for key in keys]
    return [drawn for chart in charts if (drawn := draw(chart))]


def _along(db: sqlite3.Connection, c: Comparison, laid: dict[str, Ticks]) -> list[Drawn]:
    """The loss that counts by tokens and by time of work: what a step is differs between runs."""
    key = next((key for key in ("eval_loss", "loss") if key in c.metrics), None)
    axes: tuple[Axis, ...] = ("tokens", "time")
    return [drawn for axis in axes if key and (drawn := draw(_chart(db, c, laid, key, axis)))]


def _chart(db: sqlite3.Connection, c: Comparison, laid: dict[str, Ticks], key: str, axis: Axis) -> Chart:
    most = max(200, POINTS // len(c.runs))
    found = [curve(db, run.id, key, most) for run in c.runs]
    under: list[Line] = []
    over: list[Line] = []
    for place, (run, one) in enumerate(zip(c.runs, found, strict=True)):
        points = _minutes(along(one, laid[run.id], axis), axis)
        if not points:
            continue
        noisy = key in NOISY and one.stored >= SMOOTH_FROM
        line = _smooth(db, one, points, axis) if noisy else points
        dots = key.startswith("eval_")
        over.append(
            Line(
                f"{run.letter} {run.name}",
                line,
                style(place),
                dots=dots,
                letter=run.letter,
                gaps=not noisy,
                legend=False,
            )
        )
        if noisy:
            under.append(Line(f"{run.letter} as logged", points, f"{style(place)} faint", legend=False))
    unit = ", ".join(part for part in (UNITS.get(key, ""), "smoothed, as logged behind" if under else "") if part)
    title = TITLES.get(key) or name_of(key)[:1].upper() + name_of(key)[1:]
    if axis in ("tokens", "time") and not key.startswith("gpu_"):
        title += f" by {'tokens' if axis == 'tokens' else 'minutes of work'}"
    return Chart(title, unit, [*under, *over], X_NAMES[axis], from_zero=key in FROM_ZERO,
                 note=drawn_of(max(one.stored for one in found)) if any(one.stored > most for one in found) else "")  # fmt: skip


def _minutes(points: Points, axis: Axis) -> Points:
    return [(x / 60, value) for x, value in points] if axis == "time" else points


def _smooth(db: sqlite3.Connection, one: Curve, points: Points, axis: Axis) -> Points:
    """By steps as a report of one run has it; along another axis of what is drawn."""
    if axis == "step":
        return smoothed(db, one.run_id, one.key)
    return thin(average(points, 1 - 1 / max(3.0, len(points) / 30)), DETAIL)


def _answers(prompt: Prompt) -> dict[str, object]:
    """The newest answer of each run, and what one said before training."""
    newest = [(answers[-1].step, answers[-1].text[:TEXT]) if answers else None for answers in prompt.answers]
    before = next(
        (answers[0].text[:TEXT] for answers in prompt.answers if answers and answers[0].step == 0 and len(answers) > 1),
        None,
    )
    return {"text": prompt.text[:TEXT], "before": before, "newest": newest}


def _reached(c: Comparison) -> list[tuple[str, str, str, str]]:
    """When each run was as good as the baseline at its best, if any other was."""
    if c.target is None or not any(c.reached[1:]):
        return []
    rows = []
    for run, one in zip(c.runs, c.reached, strict=True):
        tokens = f"{one.tokens:,.0f}" if one and one.tokens and math.isfinite(one.tokens) else "–"
        rows.append(
            (
                f"{run.letter} {run.name}",
                f"{one.step:,}" if one else "never",
                duration(one.seconds) if one else "–",
                tokens,
            )
        )
    return rows
