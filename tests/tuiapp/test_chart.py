"""The chart is a pure function: right dimensions always, spikes survive, gaps stay gaps."""

import math
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tuiapp.snapshot import Points
from tuiapp.widgets.chart import Axes, Series, chart, columns
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
