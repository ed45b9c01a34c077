"""The curves of a run: the large chart, the small ones beside each other, and numbers with a sparkline."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from textual.content import Content

from tuiapp import format as f
from tuiapp.snapshot import Points, RunDetail
from tuiapp.widgets.chart import Axes, Series, chart
from tuiapp.widgets.pane import Look, title
from tuiapp.widgets.rows import Part, fit, line, spread
from tuiapp.widgets.smooth import LEVELS, ema
from tuiapp.widgets.sparkline import sparkline


@dataclass(frozen=True)
class Metric:
    """A curve with its name on screen, how its numbers are written, and whether its axis starts at zero."""

    key: str
    name: str
    short: str
    text: Callable[[float | None], str]
    zero: bool = False


METRICS = (
    Metric("loss", "Loss", "loss", f.number),
    Metric("grad_norm", "Gradient norm", "grad norm", lambda value: f.number(value, 2), zero=True),
    Metric("learning_rate", "Learning rate", "lr", f.rate, zero=True),
    Metric("tokens_per_second", "Speed, tokens a second", "tok/s", f.count, zero=True),
    Metric("mean_token_accuracy", "Token accuracy", "accuracy", lambda value: f.number(value, 3)),
)
_BY_KEY = {metric.key: metric for metric in METRICS}


@dataclass(frozen=True)
class LiveState:
    """What the panes of a live screen draw: the run, and how the person wants to see it."""

    detail: RunDetail
    now: float
    view: str = "loss"
    log: bool = False
    smoothing: int = 0


def metric(key: str) -> Metric:
    """The metric of this name; one we do not know is shown under its own name."""
    return _BY_KEY.get(key) or Metric(key, f.clean(key), f.clean(key), lambda value: f.short(value))


def views(curves: Mapping[str, Points]) -> list[str]:
    """The curves there are to see, loss first; evaluations are drawn into the curve they belong to."""
    present = [one.key for one in METRICS if curves.get(one.key)]
    return present or ["loss"]


def last(points: Points) -> float | None:
    """The newest value."""
    return points[-1][1] if points else None


def best(points: Points) -> tuple[float, float] | None:
    """The step and value of the smallest finite value."""
    finite = [point for point in points if math.isfinite(point[1])]
    return min(finite, key=lambda point: point[1], default=None)


def loss_pane(state: LiveState, look: Look) -> list[Content]:
    """The large chart."""
    shown, curves = metric(state.view), state.detail.curves
    train, evals = curves.get(shown.key, ()), curves.get(f"eval_{shown.key}", ())
    smooth = ema(train, LEVELS[state.smoothing])
    head = title(shown.name, look, *_numbers(state, shown, smooth, evals), end=_manner(state, train, look))
    if not train and not evals:
        wait = "no points yet" if state.detail.run.ended_at is None else "no points were recorded"
        return [head, line(""), line((f"     {wait}", "$dim"))]
    raw = [Series(train, "$dim")] if state.smoothing else []
    series = [*raw, Series(smooth, "$train"), Series(evals, "$eval", "o")]
    total = state.detail.run.total_steps
    axes = Axes(float(total) if total else None, zero=shown.zero and not state.log, log=state.log, x_unit="step")
    return [head, *chart(series, look.width, look.height - 1, axes, look.charts)]


def _numbers(state: LiveState, shown: Metric, smooth: Points, evals: Points) -> list[Part]:
    value = last(smooth)
    parts: list[Part] = [("train ", "$dim"), (shown.text(value), "bold $train" if value is not None else "")]
    if state.smoothing:
        parts.append((f" smoothed {LEVELS[state.smoothing]:g}", "$dim"))
    if evals:
        top = best(evals) if shown.key == "loss" else None
        is_best = top is not None and top == evals[-1]
        parts += [
            ("   eval ", "$dim"),
            (shown.text(evals[-1][1]), "$eval"),
            (" best" if is_best else "", "$dim"),
        ]
        if top is not None and not is_best:
            parts.append((f" (best {shown.text(top[1])})", "$dim"))
    return parts


def _manner(state: LiveState, train: Points, look: Look) -> Content:
    """At the right of the title: an unusual axis, and in wide panes the number of points."""
    words = ["log"] if state.log else []
    if look.width >= 80 and train:
        words.append(f"{len(train):,} points")
    return line(("   ".join(words), "$dim"))


def small_charts(state: LiveState, look: Look) -> list[Content]:
    """Up to three more curves beside each other."""
    curves = state.detail.curves
    shown = [one for one in METRICS if one.key != state.view and curves.get(one.key)][:3]
    if not shown:
        return [title("Curves", look), line(("  no points yet", "$dim"))]
    gap = 3
    width = (look.width - gap * (len(shown) - 1)) // len(shown)
    blocks = [_small(state, one, width, look) for one in shown]
    rows = [blocks[0]] if len(blocks) == 1 else blocks
    return [_beside([block[y] for block in rows], width, gap) for y in range(look.height)]


def _small(state: LiveState, one: Metric, width: int, look: Look) -> list[Content]:
    points = state.detail.curves[one.key]
    mark = Look(width, look.height, look.focused)
    head = title(one.name.partition(",")[0], mark, end=line((one.text(last(points)), "")))
    total = state.detail.run.total_steps
    axes = Axes(float(total) if total else None, zero=one.zero)
    return [head, *chart([Series(points, "$train")], width, look.height - 1, axes, look.charts)]


def _beside(parts: list[Content], width: int, gap: int) -> Content:
    joined = fit(parts[0], width)
    for part in parts[1:]:
        joined = joined + " " * gap + fit(part, width)
    return joined


def number_rows(state: LiveState, width: int) -> list[Content]:
    """The other curves as a name, a sparkline and the newest number, one line each."""
    rows = []
    for one in METRICS:
        points = state.detail.curves.get(one.key, ())
        if one.key == "loss" or not points:
            continue
        text = one.text(last(points))
        curve = sparkline([value for _, value in points], max(4, width - 19), zero=one.zero)
        rows.append(spread(line((f" {one.short:<10}", "$dim"), (curve, "$train")), line(f" {text}"), width))
    return rows
