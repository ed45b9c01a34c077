"""The chart is a pure function: right dimensions always, spikes survive, gaps stay gaps."""

import math
import time
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from textual.geometry import Size

from tests.tuiapp.fakes import NOW, detail, runs
from tuiapp.snapshot import Points, RunDetail
from tuiapp.widgets import chart_pane
from tuiapp.widgets.chart import Axes, Level, Series, chart, columns, draw, round_step, time_step
from tuiapp.widgets.chart_pane import ChartPane
from tuiapp.widgets.live_state import LiveState
from tuiapp.widgets.pane import FocusPane
from tuiapp.widgets.smooth import ema
from tuiapp.widgets.sparkline import sparkline

anything = st.floats(allow_nan=True, allow_infinity=True, width=64)
steps = st.lists(st.integers(0, 10**9), max_size=60).map(sorted)


def plain(points: Points, width: int = 40, height: int = 10, mode: str = "braille", **axes: object) -> list[str]:
    """The chart of one line, as text."""
    rows = chart([Series(points, "$train")], width, height, Axes(**axes), mode)  # type: ignore[arg-type]
    return [row.plain for row in rows]


@given(
    steps=steps,
    values=st.lists(anything, min_size=60, max_size=60),
    width=st.integers(0, 120),
    height=st.integers(0, 40),
    mode=st.sampled_from(["braille", "blocks", "ascii"]),
    log=st.booleans(),
    zero=st.booleans(),
)
def test_never_raises_and_always_fits(
    steps: list[int], values: list[float], width: int, height: int, mode: str, log: bool, zero: bool
) -> None:
    points = tuple((float(step), value) for step, value in zip(steps, values, strict=False))
    series = [Series(points, "$train"), Series(points[::3], "$eval", "o")]
    rows = chart(series, width, height, Axes(log=log, zero=zero, x_unit="step"), mode)
    assert len(rows) == height
    assert {cell_len(row.plain) for row in rows} <= {width}


@given(st.integers(1, 9_998), st.integers(20, 120), st.sampled_from(["braille", "blocks", "ascii"]))
def test_a_spike_of_one_step_survives(place: int, width: int, mode: str) -> None:
    points = tuple((float(i), 100.0 if i == place else 1.0) for i in range(10_000))
    top = plain(points, width, 10, mode)[0]
    assert top[5:].strip()


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=400), st.integers(1, 100))
def test_columns_keep_the_extremes(values: list[float], number: int) -> None:
    points = tuple((float(i), value) for i, value in enumerate(values))
    found = [column for column in columns(points, number, len(values)) if column is not None]
    assert min(column.low for column in found) == min(values)
    assert max(column.high for column in found) == max(values)
    assert found[0].first == values[0]
    assert found[-1].last == values[-1]


def test_axes_name_the_ends_and_the_middle() -> None:
    rows = plain(((0.0, 1.0), (100.0, 2.0)), 40, 9, x_max=400.0, x_unit="step")
    assert rows[0].startswith(" 2 ")
    assert rows[3].startswith(" 1.5 ")
    assert rows[7].startswith(" 1 ")
    assert rows[8].split() == ["0", "200", "400", "step"]


def test_the_line_ends_where_the_steps_end() -> None:
    rows = plain(tuple((float(i), 1.0 + i) for i in range(100)), 46, 10, x_max=200.0)
    assert max(len(row.rstrip()) for row in rows[:-1]) <= 27


def test_nan_breaks_the_line_and_is_marked() -> None:
    points = (
        *((float(i), 1.0) for i in range(40)),
        (40.0, math.nan),
        *((float(i), 1.0) for i in range(60, 100)),
    )
    rows = plain(points, 60, 8, x_max=100.0)
    assert rows[-1].count("x") == 1
    drawn = next(row for row in rows if row[6:].strip())[6:].rstrip()
    assert "  " in drawn.strip()


def test_zero_and_flat_lines() -> None:
    assert plain(((0.0, 5.0), (9.0, 9.0)), 30, 6, zero=True)[4].startswith(" 0 ")
    flat = plain(((0.0, 5.0), (9.0, 5.0)), 30, 6)
    assert sum(bool(row[6:].strip()) for row in flat[:-1]) == 1


def test_nothing_to_draw() -> None:
    rows = plain((), 30, 6)
    assert len(rows) == 6
    assert not any(ord(character) > 0x2800 for row in rows for character in row)


def test_a_logarithmic_axis_is_straight_for_an_exponential() -> None:
    points = tuple((float(i), 10.0 ** (-i / 50)) for i in range(101))
    rows = plain(points, 44, 12, mode="ascii", log=True)[:-1]
    first = [row.index(".", 6) for row in rows if "." in row[6:]]
    gaps = [b - a for a, b in pairwise(first)][1:-1]  # the first and last rows are half as high
    assert max(gaps) - min(gaps) <= 1


@pytest.mark.parametrize("mode", ["blocks", "ascii"])
def test_plain_modes_use_plain_characters(mode: str) -> None:
    text = "".join(plain(tuple((float(i), math.sin(i / 9)) for i in range(100)), 50, 12, mode))
    assert not any(ord(character) > 0x2800 for character in text)
    assert mode != "ascii" or text.isascii()


def test_ten_thousand_points_are_quick() -> None:
    points = tuple((float(i), 2 + math.sin(i)) for i in range(10_000))
    times = []
    for _ in range(5):
        begun = time.perf_counter()
        chart([Series(points, "$train")], 70, 12, Axes())
        times.append(time.perf_counter() - begun)
    assert min(times) < 0.02  # about 2 ms; far more would be another algorithm


@given(st.lists(anything, max_size=200), st.integers(0, 40), st.booleans())
def test_sparklines_fit(values: list[float], width: int, zero: bool) -> None:
    text = sparkline(values, width, zero)
    assert cell_len(text) <= width


def test_sparklines_fall_and_rise() -> None:
    assert sparkline([4, 3, 2, 1], 4) == "█▆▃▁"
    assert sparkline([5, 5], 4, zero=True) == "██"
    assert sparkline([], 4) == "–"


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=100), st.sampled_from([0.0, 0.6, 0.97]))
def test_smoothing_stays_within_the_values(values: list[float], weight: float) -> None:
    smooth = ema(tuple((float(i), value) for i, value in enumerate(values)), weight)
    assert len(smooth) == len(values)
    assert all(min(values) - 1e-6 <= value <= max(values) + 1e-6 for _, value in smooth)
    assert smooth[0][1] == pytest.approx(values[0])


def test_all_points_are_drawn_where_each_has_its_column() -> None:
    points = tuple((float(i), math.sin(i)) for i in range(50))
    assert draw([Series(points, "$train")], 60, 10, Axes()).drawn == 50


@given(st.integers(200, 5000), st.integers(20, 120))
def test_no_more_points_are_said_to_be_drawn_than_can_be_seen(count: int, width: int) -> None:
    points = tuple((float(i), math.sin(i * i)) for i in range(count))
    drawn = draw([Series(points, "$train")], width, 10, Axes()).drawn
    assert drawn <= min(count, 4 * 2 * width)
    assert drawn >= min(count, width // 2)


def test_points_between_the_extremes_of_a_column_are_not_counted() -> None:
    points = tuple((0.0, value) for value in (1.0, 5.0, 3.0, 4.0, 2.0, 2.5))
    assert draw([Series(points, "$train")], 30, 8, Axes(x_max=100.0)).drawn == 3  # the first is the least


def test_a_baseline_is_dotted_and_lies_under_the_line() -> None:
    flat = tuple((float(i), 1.0) for i in range(101))
    other = tuple((float(i), 1.0 if i < 50 else 2.0) for i in range(101))
    rows = [
        row.plain
        for row in chart([Series(other, "$baseline", "·", dotted=True), Series(flat, "$train")], 60, 10, Axes())
    ]
    assert 8 <= sum(row.count("·") for row in rows) <= 12
    assert "·" not in rows[8]  # where both are, the line is seen
    assert "·" in rows[0]


def test_a_dotted_line_ends_with_its_points() -> None:
    rows = chart([Series(((0.0, 1.0), (30.0, 1.0)), "$baseline", "·", dotted=True)], 66, 8, Axes(x_max=300.0))
    drawn = next(row.plain for row in rows if "·" in row.plain)
    assert drawn.rindex("·") < 15


def test_levels_are_named_and_lie_behind_the_curve() -> None:
    levels = (Level(24.0, "total", "━", "$dim"), Level(12.0, "plan", "╌", "$predicted"))
    points = tuple((float(i), 12.0) for i in range(50))
    axes = Axes(x_max=100.0, y_max=24.0, zero=True, levels=levels)
    rows = [row.plain for row in chart([Series(points, "$train")], 60, 9, axes)]
    assert rows[0].startswith(" 24 ")
    assert rows[0].endswith("━  total")
    plan = next(row for row in rows if "plan" in row)
    assert plan.startswith(" 12 ")
    assert 10 < plan.count("╌") < 40
    assert {cell_len(row) for row in rows} == {60}


def test_a_level_outside_the_axis_is_left_out() -> None:
    rows = chart([Series(((0.0, 1.0), (1.0, 2.0)), "$train")], 60, 9, Axes(levels=(Level(99.0, "far", "━", "$dim"),)))
    assert not any("far" in row.plain for row in rows)


def test_a_letter_tells_lines_apart() -> None:
    lines = [
        Series(tuple((float(i), level) for i in range(50)), "$train", letter=letter)
        for level, letter in ((1.0, "B"), (2.0, "C"))
    ]
    rows = [row.plain for row in chart(lines, 60, 9, Axes(x_max=100.0))]
    assert rows[0].rstrip().endswith("C")
    assert rows[7].rstrip().endswith("B")


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50),
    st.integers(0, 90),
    st.integers(0, 30),
    st.sampled_from(["braille", "blocks", "ascii"]),
)
def test_levels_letters_and_baselines_always_fit(values: list[float], width: int, height: int, mode: str) -> None:
    points = tuple((float(i), value) for i, value in enumerate(values))
    series = [Series(points, "$baseline", "·", dotted=True), Series(points[::2], "$train", letter="B")]
    levels = (Level(values[0], "total", "━", "$dim"), Level(0.0, "plan", "╌", "$dim"))
    rows = chart(series, width, height, Axes(levels=levels), mode)
    assert len(rows) == height
    assert {cell_len(row.plain) for row in rows} <= {width}


def test_a_wide_axis_has_more_numbers() -> None:
    points = ((0.0, 1.0), (600.0, 2.0))
    assert plain(points, 100, 9)[-1].split() == ["0", "100", "200", "300", "400", "500", "600"]
    assert plain(points, 50, 9)[-1].split() == ["0", "300", "600"]


class Watched(ChartPane):
    """Without a terminal: what it would draw is kept."""

    def __init__(self) -> None:
        self._charted, self._manner, self._at, self._made = None, None, 0.0, {}
        self.fed: list[LiveState] = []

    size = Size(38, 10)  # type: ignore[assignment]


def test_curves_are_drawn_as_seldom_as_a_slow_line_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(chart_pane.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(FocusPane, "feed", lambda self, state: self.fed.append(state))
    pane, first = Watched(), detail(runs()[0])
    later = [
        replace(first, curves={**first.curves, "loss": first.curves["loss"][:count]}) for count in (10, 20, 30, 40)
    ]
    for seconds, shown in zip((0.0, 1.0, 1.9, 2.1), later, strict=True):
        now[0] = 100.0 + seconds
        pane.feed(LiveState(shown, NOW))
    drawn = [len(state.drawn.curves["loss"]) for state in pane.fed]
    assert drawn == [10, 10, 10, 40]  # 380 cells: every 2 s
    assert [len(state.detail.curves["loss"]) for state in pane.fed] == [10, 20, 30, 40]  # its numbers are always new


@pytest.mark.parametrize(
    "change", [{"view": "grad_norm"}, {"log": True}, {"smoothing": 1}, {"x": "tokens"}, {"baseline": detail(runs()[2])}]
)
def test_what_a_key_changes_is_drawn_at_once(change: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chart_pane.time, "monotonic", lambda: 100.0)
    monkeypatch.setattr(FocusPane, "feed", lambda self, state: self.fed.append(state))
    pane, first = Watched(), detail(runs()[0])
    pane.feed(LiveState(first, NOW))
    newer = replace(first, phase="evaluate")
    pane.feed(LiveState(newer, NOW))
    assert pane.fed[-1].drawn is first
    pane.feed(LiveState(newer, NOW, **change))
    assert pane.fed[-1].drawn is newer


def test_the_first_curves_of_a_run_are_drawn_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chart_pane.time, "monotonic", lambda: 100.0)
    monkeypatch.setattr(FocusPane, "feed", lambda self, state: self.fed.append(state))
    pane, whole = Watched(), detail(runs()[0])
    pane.feed(LiveState(RunDetail(run=whole.run), NOW))
    pane.feed(LiveState(whole, NOW))
    assert pane.fed[-1].drawn is whole


@pytest.mark.parametrize(
    ("least", "step"), [(69, 100), (0.3, 0.5), (833, 1000), (1.0, 1), (2.1, 5), (500_000, 500_000)]
)
def test_the_numbers_of_an_axis_are_round(least: float, step: float) -> None:
    assert round_step(least) == pytest.approx(step)


@pytest.mark.parametrize(("least", "step"), [(7, 10), (80, 120), (530, 600), (5000, 7200), (100_000, 172_800)])
def test_so_are_times(least: float, step: float) -> None:
    assert time_step(least) == step


def test_a_chart_is_made_once_as_long_as_it_stays() -> None:
    made: list[int] = []
    state = LiveState(detail(runs()[0]), NOW, made={})
    for _ in range(3):
        assert state.once("key", lambda: made.append(1) or 7) == 7
    assert len(made) == 1
    assert LiveState(detail(runs()[0]), NOW).once("key", lambda: 8) == 8
