"""What the run takes of the card's memory, or of this machine's where it trains on the processor."""

from textual.content import Content

from tuiapp import format as f
from tuiapp.snapshot import RunDetail
from tuiapp.widgets.bars import share
from tuiapp.widgets.chart import Axes, Series, chart
from tuiapp.widgets.curves import LiveState, number_rows
from tuiapp.widgets.pane import Look, title
from tuiapp.widgets.rows import line, spread
from tuiapp.widgets.sparkline import sparkline

WIDE = 40


def memory_pane(state: LiveState, look: Look) -> list[Content]:
    """Narrow: bars, then the other numbers. Wide: the curve over time."""
    if look.width >= WIDE:
        return _wide(state.detail, look)
    rows = [*_bars(state.detail, look), line(""), *number_rows(state, look.width - 1)]
    return rows[: look.height]


def _bars(detail: RunDetail, look: Look) -> list[Content]:
    label = f.clean(detail.memory_label)
    rows = [title("Memory", look, (label, "$dim"), end=line(("GiB ", "$dim")))]
    bar = max(4, look.width - 20)
    values = (
        ("total", detail.memory_total, "$dim"),
        ("now", detail.memory_now, "$accent"),
        ("peak", detail.memory_peak, "$accent"),
    )
    for name, value, role in values:
        meter = share(value, detail.memory_total, bar, role)
        rows.append(spread(line((f" {name:<10}", "$dim"), meter), line(f" {f.gib(value)} "), look.width))
    if detail.memory_curve:
        curve = sparkline([value for _, value in detail.memory_curve], bar, zero=True)
        rows.append(line((" over time ", "$dim"), (curve, "$train")))
    return rows


def _wide(detail: RunDetail, look: Look) -> list[Content]:
    total, now = detail.memory_total, detail.memory_now
    free = f"   {f.gib(total - now)} free" if total is not None and now is not None else ""
    label = f.clean(detail.memory_label)
    end = line(f.of_total(now, total), (f"{free} ", "$dim"))
    rows = [title("Memory", look, (label, "$dim"), end=end)]
    peak = f.gib(detail.memory_peak)
    meter = share(detail.memory_peak, total, max(4, look.width - 18))
    rows.append(spread(line((" peak      ", "$dim"), meter), line(f"{peak} "), look.width))
    if detail.memory_curve and look.height >= 6:
        axes = Axes(y_max=total, zero=True, x_text=f.duration, y_text=f.gib)
        curve = Series(detail.memory_curve, "$train")
        rows += chart([curve], look.width - 1, look.height - 2, axes, look.charts)
    return rows[: look.height]
