"""What the run takes of the card's memory, or of this machine's where it trains on the processor."""

import math

from textual.content import Content

from tuiapp import format as f
from tuiapp.snapshot import Points, RunDetail
from tuiapp.widgets.bars import share
from tuiapp.widgets.chart import Axes, Level, Series, chart
from tuiapp.widgets.curves import number_rows
from tuiapp.widgets.live_state import LiveState
from tuiapp.widgets.pane import Look, title
from tuiapp.widgets.rows import line, spread
from tuiapp.widgets.sparkline import sparkline

WIDE = 40
FLAT = 0.02
"""What the memory may move by, as a share of it, to be called flat."""


def memory_pane(state: LiveState, look: Look) -> list[Content]:
    """Narrow: bars, then the other numbers. Wide: the curve over time, and predicted beside measured."""
    if look.width >= WIDE:
        return _wide(state, look)[: look.height]
    bars = _bars(state, look)
    rows = [*bars, line(""), *number_rows(state, look.width - 1, look.height - len(bars) - 1)]
    return rows[: look.height]


def trend(points: Points) -> str:
    """What the second half of the curve does: flat, rising or falling; nothing with too few points."""
    known = [value for _, value in points if math.isfinite(value)]
    half = known[len(known) // 2 :]
    if len(half) < 4:
        return ""
    change = (half[-1] - half[0]) / max(half[-1], half[0], 1e-9)
    return "rising" if change > FLAT else "falling" if change < -FLAT else "flat"


def _bars(state: LiveState, look: Look) -> list[Content]:
    detail = state.detail
    rows = [title("Memory", look, (f.clean(detail.memory_label), "$dim"), end=line(("GiB ", "$dim")))]
    bar = max(4, look.width - 18)
    values = (
        ("total", detail.memory_total, "$dim"),
        ("predicted", detail.predicted_device, "$predicted"),
        ("measured", detail.memory_peak, "$accent"),
    )
    for name, value, role in values:
        meter = share(value, detail.memory_total, bar, role)
        rows.append(spread(line((f" {name:<10}", "$dim"), meter), line(f"{f.gib(value)} "), look.width))
    points = state.drawn.memory_curve
    if points:
        room = max(4, look.width - 19)
        drawn = state.once(("memory", room), lambda: sparkline([value for _, value in points], room, zero=True))
        rows.append(
            spread(line((" over time ", "$dim"), (drawn, "$train")), line((f"{trend(points)} ", "$dim")), look.width)
        )
    return rows


def _wide(state: LiveState, look: Look) -> list[Content]:
    detail = state.detail
    total, now = detail.memory_total, detail.memory_now
    free = f"   {f.gib(total - now)} free" if total is not None and now is not None else ""
    end = line(f.of_total(now, total), (f"{free} ", "$dim"))
    rows = [title("Memory", look, (f.clean(detail.memory_label), "$dim"), end=end)]
    table = _table(detail, look.width)
    room = look.height - len(rows) - len(table) - 1
    if state.drawn.memory_curve and room >= 4:
        rows += [*state.once((look.width, room, look.charts), lambda: _curve(state, look, room)), line("")]
    elif room >= 0:
        rows.append(line(" ", share(detail.memory_peak, total, look.width - 2)))
    return [*rows, *table]


def _curve(state: LiveState, look: Look, height: int) -> list[Content]:
    detail = state.drawn
    levels = [Level(detail.memory_total, "total", "━", "$dim")] if detail.memory_total else []
    levels += [Level(detail.predicted_device, "plan", "╌", "$predicted")] if detail.predicted_device else []
    axes = Axes(y_max=detail.memory_total, zero=True, x_text=f.duration, y_text=f.gib, levels=tuple(levels))
    return chart([Series(detail.memory_curve, "$train")], look.width - 1, height, axes, look.charts)


def _table(detail: RunDetail, width: int) -> list[Content]:
    """Predicted beside measured; on a CPU nothing was predicted of the process."""
    if detail.allocated_peak is None and detail.predicted_peak is None:
        values: list[tuple[str, float | None, float | None]] = [("process peak", None, detail.memory_peak)]
    else:
        values = [
            ("allocated peak", detail.predicted_peak, detail.allocated_peak),
            ("reserved peak", None, detail.reserved_peak),
            ("device (NVML)", detail.predicted_device, detail.memory_peak if detail.memory_label != "RAM" else None),
        ]
    gap = 2 if width >= 50 else 0
    rows = [line((f" {'':<15}{'predicted':>{9 + gap}}{'measured':>{9 + gap}}", "$dim"))]
    for name, predicted, measured in values:
        difference = ""
        if predicted and measured is not None:
            difference = f"{100 * (measured / predicted - 1):+.1f} %"
        numbers = f"{_two(predicted):>{9 + gap}}{_two(measured):>{9 + gap}}"
        rows.append(line((f" {name:<15}", "$dim"), numbers, (f"{difference:>{8 + gap}}", "$dim")))
    return rows


def _two(value: float | None) -> str:
    return f.number(value, 2)
