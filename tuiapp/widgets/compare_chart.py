"""The curves of several runs over each other, and the list of curves there are."""

import math
from collections.abc import Sequence

from textual.content import Content

from engine.compare_curves import Axis, along, known_axes
from engine.compare_results import words
from engine.compared import Comparison
from tuiapp import format as f
from tuiapp.compare_values import CompareState
from tuiapp.snapshot import Points
from tuiapp.widgets.chart import Axes, Drawing, Series, draw, time_step
from tuiapp.widgets.compare_table import style_of
from tuiapp.widgets.cursor_pane import Line
from tuiapp.widgets.curves import metric
from tuiapp.widgets.live_state import X_AXES
from tuiapp.widgets.pane import Look, title
from tuiapp.widgets.rows import Part, line, spread
from tuiapp.widgets.smooth import LEVELS, ema

AXIS_NAMES: dict[Axis, str] = {
    "step": "step",
    "tokens": "tokens",
    "epoch": "epoch",
    "time": "time since the start",
    "wall": "time of day",
}
RAW = 4
"""Curves up to which what was measured is drawn behind what is smoothed."""
FAR = 30.0
"""Times the least value that the greatest is where an axis is logarithmic by itself."""
LEGEND = 14
"""Lines from which on a chart names its runs."""
CARDS = {
    "gpu_memory": "GPU memory, GiB",
    "gpu_utilization": "GPU load, %",
    "gpu_power": "GPU power, W",
    "gpu_temperature": "GPU heat, °C",
}
NAMES = {"loss": "train loss", "learning_rate": "learning rate", "grad_norm": "gradient norm", "mfu": "MFU, %",
         "tokens_per_second": "tokens per second", "memory_allocated_gib": "memory, GiB"} | CARDS  # fmt: skip
FROM_ZERO = (
    "learning_rate",
    "grad_norm",
    "tokens_per_second",
    "mfu",
    "memory_allocated_gib",
    "gpu_memory",
    "gpu_utilization",
    "gpu_power",
)


def curve_name(key: str) -> str:
    """A curve as people call it."""
    return NAMES.get(key) or f.clean(words(key))


def axes_known(state: CompareState) -> tuple[Axis, ...]:
    """What the chart can go along."""
    known = known_axes(list(state.page.ticks.values()))
    return tuple(axis for axis in known if axis in ("time", "wall")) if state.page.key.startswith("gpu_") else known


def is_log(state: CompareState) -> bool:
    """Whether the chart is logarithmic: if that was chosen, else where one run would press all others to the ground."""
    if state.log is not None or state.page.key in FROM_ZERO:
        return bool(state.log)
    finite = [value for one in state.page.curves.values() for _, _, value in one.points if math.isfinite(value)]
    return bool(finite) and min(finite) > 0 and max(finite) / min(finite) >= FAR


def axis_of(state: CompareState) -> Axis:
    """What it goes along: as was chosen, if the curve knows it."""
    known = axes_known(state)
    return state.x if state.x in known or not known else known[0]


def chart_pane(state: CompareState, look: Look) -> list[Content]:
    """A title with the difference that matters, and the curves, each with its letter at its end."""
    if not state.page.key:
        return [title("Curves", look), line(("   nothing was measured", "$dim"))]
    legend = look.height >= LEGEND
    drawing = _drawing(state, Look(look.width, look.height - legend, look.focused, look.charts))
    name = curve_name(state.page.key)
    head = title(name[:1].upper() + name[1:], look, (_difference(state), ""), end=_manner(state, look, drawing.drawn))
    return [head, *([_legend(state, look.width)] if legend else []), *drawing.lines]


def _drawing(state: CompareState, look: Look) -> Drawing:
    axis = axis_of(state)
    points = _points(state, axis)
    if not any(points.values()):
        return Drawing([line(""), line(("     no points along this axis", "$dim"))], 0)
    start = min((one[0][0] for one in points.values() if one), default=0.0) if axis == "wall" else 0.0
    series: list[Series] = []
    smooth = LEVELS[state.smoothing]
    if smooth and len(points) <= RAW:
        series += [Series(_moved(one, start), "$dim") for one in points.values()]
    for place, one in points.items():
        series.append(
            Series(ema(_moved(one, start), smooth), style_of(place), letter=state.comparison.runs[place].letter[:1])
        )
    return draw(series, look.width, look.height - 1, _axes(state, axis, start), look.charts)


def _points(state: CompareState, axis: Axis) -> dict[int, Points]:
    """By place, in the order of drawing: the run that the keys are about comes last, over the others."""
    page = state.page
    places = [i for i, run in enumerate(state.comparison.runs) if run.id in page.curves and page.curves[run.id].points]
    places.sort(key=lambda place: place == state.column)
    runs = state.comparison.runs
    return {place: along(page.curves[runs[place].id], page.ticks[runs[place].id], axis) for place in places}


def _moved(points: Points, start: float) -> Points:
    return tuple([(x - start, y) for x, y in points]) if start else points


def _axes(state: CompareState, axis: Axis, start: float) -> Axes:
    zero = state.page.key in FROM_ZERO and not is_log(state)
    if axis == "wall":
        return Axes(
            zero=zero,
            log=is_log(state),
            x_text=lambda value: f.clock(start + value),
            x_step=time_step,
            x_start=f.clock(start),
        )
    known = X_AXES[axis]
    return Axes(zero=zero, log=is_log(state), x_unit=known.unit, x_text=known.text, x_step=known.step)


def _legend(state: CompareState, width: int) -> Content:
    parts: list[Part] = []
    for i, run in enumerate(state.comparison.runs):
        if run.id in state.page.curves:
            parts += [(f"   {run.letter}", f"bold {style_of(i)}"), f" {f.clip(run.name, 24)}"]
    return spread(line(*parts), line(""), width)


def last_values(state: CompareState) -> dict[int, float]:
    """By place what each curve that is drawn came to."""
    found = {}
    for i, run in enumerate(state.comparison.runs):
        curve = state.page.curves.get(run.id)
        finite = [value for _, _, value in curve.points if math.isfinite(value)] if curve is not None else []
        if finite:
            found[i] = finite[-1]
    return found


def _difference(state: CompareState) -> str:
    """`D ends 0.056 below B`: of the run that the keys are about, else of the one that is best."""
    ends = last_values(state)
    c = state.comparison
    place = state.column or _best(c)
    if place not in ends or 0 not in ends or not place:
        return ""
    apart = ends[place] - ends[0]
    text = metric(state.page.key.removeprefix("eval_")).text(abs(apart))
    where = "below" if apart < 0 else "above"
    verb = "is" if c.runs[place].active else "ends"
    return (
        f"{c.runs[place].letter} {verb} {text} {where} B" if apart else f"{c.runs[place].letter} {verb} where B {verb}"
    )


def _best(c: Comparison) -> int:
    cells: Sequence[tuple[int, float]] = [
        (i, cell.value) for i, cell in enumerate(c.measures[0].cells) if i and cell.like and cell.value is not None
    ] if c.measures else []  # fmt: skip
    sign = -1 if c.better == "more" else 1
    return min(cells, key=lambda pair: sign * pair[1])[0] if cells else 0


def _manner(state: CompareState, look: Look, drawn: int) -> Content:
    """At the right of the title: the axes, how it is smoothed, and how many points are seen."""
    stored = sum(one.stored for one in state.page.curves.values())
    words_ = [f"x: {AXIS_NAMES[axis_of(state)]}"]
    if is_log(state) or look.width >= 100:
        words_.append(f"y: {'log' if is_log(state) else 'linear'}")
    if state.smoothing:
        words_.append(f"smoothed {LEVELS[state.smoothing]:g}")
    count = len(state.comparison.runs)
    if len(state.page.curves) < count:
        words_.append(f"{len(state.page.curves)} of {count} runs")
    if look.width >= 70:
        words_.append(f"{min(drawn, stored):,} of {stored:,} points")
    return line(("   ".join(words_) + " ", "$dim"))


def curves_length(state: CompareState) -> int:
    """Curves there are."""
    return len(state.comparison.metrics)


def curves_pane(state: CompareState, look: Look, selected: str) -> list[Line]:
    """Every curve that a run has, the one that is drawn under the cursor."""
    rows: list[Line] = [("", title("Curves", look, end=line(("←→ choose ", "$dim"))))]
    for key in state.comparison.metrics:
        here = key == state.page.key
        rows.append((key, line(" ", ("▸", "$accent") if here else " ", f" {f.clip(curve_name(key), look.width - 4)}")))
    return rows
