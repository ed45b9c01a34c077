"""The curves of a run: the large chart, the small ones beside each other, and numbers with a sparkline."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from textual.content import Content

from tuiapp import format as f
from tuiapp.snapshot import Points, RunDetail
from tuiapp.widgets.chart import Axes, Drawing, Series, chart, draw
from tuiapp.widgets.live_state import X_AXES, LiveState, along, x_end
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


def loss_text(value: float | None) -> str:
    """1.083; a loss near zero keeps its digits: 4.2e-4."""
    return f.number(value) if value is None or not 0 < value < 0.01 else f.short(value)


def share_text(value: float | None) -> str:
    """A share of one in percent: 4 %."""
    return f.percent(None if value is None else 100 * value)


def _unit(unit: str) -> Callable[[float | None], str]:
    return lambda value: f"{value:.0f} {unit}" if f.known(value) else f.DASH


METRICS = (
    Metric("loss", "Loss", "loss", loss_text),
    Metric("learning_rate", "Learning rate", "lr", f.rate, zero=True),
    Metric("grad_norm", "Gradient norm", "grad norm", lambda value: f.number(value, 2), zero=True),
    Metric("tokens_per_second", "Speed, tokens a second", "tok/s", f.count, zero=True),
    Metric("gpu_utilization", "GPU utilisation, percent", "GPU", f.percent, zero=True),
    Metric("gpu_power", "GPU power, W", "power", _unit("W"), zero=True),
    Metric("gpu_temperature", "GPU temperature, °C", "heat", _unit("°C")),
    Metric("mfu", "MFU, percent of the card's peak", "MFU", f.percent, zero=True),
    Metric("mean_token_accuracy", "Token accuracy", "accuracy", lambda value: f.number(value, 3)),
    Metric("data_wait", "Waiting for data, share of the time", "waits for data", share_text, zero=True),
    Metric("padding", "Padding, share of the tokens", "padding", share_text, zero=True),
    Metric("weight_change", "Change of the weights, relative", "change", f.short, zero=True),
    Metric("general_loss", "General loss, rows of no task", "general", loss_text),
)
_BY_KEY = {metric.key: metric for metric in METRICS}
WIDE = 100
"""Cells from which the title of the large chart says everything."""
NO_VIEWS = ("num_tokens", "memory_allocated_gib")
"""Curves that stand elsewhere on the screen."""
NUMBERS = ("learning_rate", "grad_norm", "tokens_per_second", "mfu", "data_wait")
"""What stands under the memory at 80x24, known or not."""


def metric(key: str) -> Metric:
    """The metric of this name; one we do not know is shown under its own name."""
    return _BY_KEY.get(key) or Metric(key, f.clean(key), f.clean(key), lambda value: f.short(value))


def views(detail: RunDetail) -> list[str]:
    """The curves there are to see, loss first; evaluations are drawn into the curve they belong to."""
    keys = {key for key, points in detail.curves.items() if points} | set(detail.gpu)
    plain = {key.removeprefix("eval_") for key in keys} - set(NO_VIEWS)
    known = [one.key for one in METRICS if one.key in plain]
    return [*known, *sorted(plain - set(known))] or ["loss"]


def last(points: Points) -> float | None:
    """The newest value."""
    return points[-1][1] if points else None


def best(points: Points) -> tuple[float, float] | None:
    """The step and value of the smallest finite value."""
    finite = [point for point in points if math.isfinite(point[1])]
    return min(finite, key=lambda point: point[1], default=None)


def curve(detail: RunDetail, key: str) -> Points:
    """The points of a curve, those of the cards among them."""
    return detail.gpu.get(key) or detail.curves.get(key, ())


def axes_of(state: LiveState, one: Metric, log: bool = False) -> Axes:
    """How a curve is drawn: those of the cards go by time, whatever the others go by."""
    axis = X_AXES["time" if one.key in state.drawn.gpu else state.x]
    end = None if one.key in state.drawn.gpu else x_end(state.drawn, state.x)
    return Axes(end, zero=one.zero and not log, log=log, x_unit=axis.unit, x_text=axis.text, x_step=axis.step)


def points_of(state: LiveState, detail: RunDetail, key: str) -> Points:
    """The points of a run's curve along the axis that was chosen."""
    return detail.gpu[key] if key in detail.gpu else along(detail, detail.curves.get(key, ()), state.x)


def loss_title(state: LiveState, look: Look, points: str) -> Content:
    """The first line of the large chart: what it shows, the newest numbers, and how it is drawn."""
    shown, end = metric(state.view), _manner(state, look, points)
    whole = title(shown.name, look, *_numbers(state, shown, True))
    roomy = whole.cell_length + end.cell_length < look.width
    return title(shown.name, look, *_numbers(state, shown, roomy), end=end)


def loss_chart(state: LiveState, look: Look) -> Drawing:
    """The large chart below its title."""
    shown, detail = metric(state.view), state.drawn
    train = points_of(state, detail, shown.key)
    evals = points_of(state, detail, f"eval_{shown.key}")
    if not train and not evals:
        wait = "no points yet" if detail.run.ended_at is None else "no points were recorded"
        return Drawing([line(""), line((f"     {wait}", "$dim"))], 0)
    axes = axes_of(state, shown, state.log)
    below = [point for point in _baseline(state, shown) if axes.x_max is None or point[0] <= axes.x_max]
    series = [Series(tuple(below), "$baseline", ":" if look.charts == "ascii" else "·", dotted=True)]
    series += [Series(train, "$dim")] if state.smoothing else []
    series += [Series(ema(train, LEVELS[state.smoothing]), "$train"), Series(evals, "$eval", "o")]
    return draw(series, look.width, look.height - 1, axes, look.charts)


def _baseline(state: LiveState, shown: Metric) -> Points:
    """The same curve of the run that is pinned; of the evaluations where that is all it has."""
    other = state.baseline
    if other is None or shown.key in state.drawn.gpu:
        return ()
    key = shown.key if other.curves.get(shown.key) else f"eval_{shown.key}"
    return points_of(state, other, key)


def _numbers(state: LiveState, shown: Metric, roomy: bool) -> list[Part]:
    train, evals = curve(state.detail, shown.key), curve(state.detail, f"eval_{shown.key}")
    value = last(ema(train[-200:], LEVELS[state.smoothing]))
    parts: list[Part] = []
    if train or not evals:
        parts += [("train " if roomy else "", "$dim"), (shown.text(value), "bold $train" if value is not None else "")]
    if state.smoothing and roomy:
        parts.append((f" smoothed {LEVELS[state.smoothing]:g}", "$dim"))
    if evals:
        parts += [("   eval ", "$dim"), (shown.text(evals[-1][1]), "$eval")]
        parts += _best_words(evals, shown) if roomy else []
    if state.baseline is not None and (compared := _compared(state.baseline, shown)) is not None:
        parts += [("   B ", "$dim"), (shown.text(compared), "$baseline")]
    return parts


def _best_words(evals: Points, shown: Metric) -> list[Part]:
    top = best(evals) if shown.key == "loss" else None
    if top is None:
        return []
    return [(" best", "$dim")] if top == evals[-1] else [(f" (best {shown.text(top[1])})", "$dim")]


def _compared(baseline: RunDetail, shown: Metric) -> float | None:
    """What the baseline came to: its best evaluation, else its last value."""
    evals = baseline.curves.get(f"eval_{shown.key}", ())
    top = best(evals) if shown.key == "loss" else None
    return top[1] if top else last(evals or baseline.curves.get(shown.key, ()))


def _manner(state: LiveState, look: Look, points: str) -> Content:
    """At the right of the title: the axes where they are not the usual ones; all of it in a wide pane."""
    words = []
    if state.x != "step" or look.width >= WIDE:
        words.append(f"x {state.x}")
    if state.log or look.width >= WIDE:
        words.append("y log" if state.log else "y linear")
    words += [points] if look.width >= WIDE and points else []
    return line(("   ".join(words) + " " if words else "", "$dim"))


def points_words(state: LiveState, drawn: int) -> str:
    """`131 of 131 points`: how many can be seen of how many there are."""
    key = state.view
    stored = max(state.drawn.stored.get(key, 0), len(curve(state.drawn, key)))
    return f"{drawn:,} of {stored:,} points" if stored else ""


def small_charts(state: LiveState, look: Look) -> list[Content]:
    """Three more curves beside each other, in a high pane six."""
    shown = [metric(key) for key in views(state.drawn) if key != state.view and curve(state.drawn, key)]
    if not shown:
        return [title("Curves", look), line(("  no points yet", "$dim"))]
    rows = 2 if look.height >= 13 and len(shown) > 3 else 1
    height = (look.height - rows + 1) // rows
    lines: list[Content] = []
    for row in range(rows):
        part = shown[3 * row : 3 * row + 3]
        lines += [line("")] if lines else []
        lines += _row_of_charts(state, part, look, height, first=row == 0)
    return lines


def _row_of_charts(state: LiveState, shown: list[Metric], look: Look, height: int, first: bool) -> list[Content]:
    gap = 3
    width = (look.width - 2 * gap) // 3
    focus = Look(width, height, look.focused and first, look.charts)
    blocks = [
        _small(state, one, focus if i == 0 else Look(width, height, False, look.charts)) for i, one in enumerate(shown)
    ]
    return [_beside([block[y] for block in blocks], width, gap) for y in range(height)]


def _small(state: LiveState, one: Metric, look: Look) -> list[Content]:
    value = one.text(last(curve(state.detail, one.key)))
    if one.key == "tokens_per_second":
        mfu = last(state.detail.curves.get("mfu", ()))
        value += " tok/s" + (f"   MFU {f.percent(mfu)}" if mfu is not None and look.width >= 30 else "")
    head = title(one.name.partition(",")[0], look, end=line((value, "")))

    def lines() -> list[Content]:
        points = points_of(state, state.drawn, one.key)
        return chart([Series(points, "$train")], look.width, look.height - 1, axes_of(state, one), look.charts)

    return [head, *state.once((one.key, look.width, look.height, look.charts), lines)]


def _beside(parts: list[Content], width: int, gap: int) -> Content:
    joined = fit(parts[0], width)
    for part in parts[1:]:
        joined = joined + " " * gap + fit(part, width)
    return joined


def number_rows(state: LiveState, width: int, most: int) -> list[Content]:
    """The other curves as a name, a sparkline and the newest number, one line each; at most so many."""
    more = [key for key in views(state.drawn) if key not in NUMBERS and key != "loss" and curve(state.drawn, key)]
    return [_number_row(state, metric(key), width) for key in [*NUMBERS, *more][:most]]


def _number_row(state: LiveState, one: Metric, width: int) -> Content:
    points = curve(state.drawn, one.key)
    value = one.text(last(curve(state.detail, one.key)))
    drawn = ""
    if points and len(one.short) <= 9 and one.text not in (f.percent, share_text):
        room = max(4, width - 19)
        drawn = state.once((one.key, room), lambda: sparkline([value for _, value in points], room, zero=one.zero))
    return spread(
        line((f" {f.left(one.short, max(9, len(one.short)))} ", "$dim"), (drawn, "$train")), line(f" {value}"), width
    )
