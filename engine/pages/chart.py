"""Curves as the geometry of an SVG: pure functions from points to paths, ticks, dots and gaps. Templates draw them.

Paths lie in a square of SIDE x SIDE that is stretched over the plot, everything else at percentages of it: so one drawing is
right at every width, with text and strokes of one size.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from engine.pages.axes import Axis, horizontal, label, vertical
from engine.report import short

SIDE = 1000
HEIGHT = 220
"""Pixels that the style sheet gives a plot: what keeps the letters at the lines' ends apart."""
LETTER = 13
NEAR = 0.05
"""Share of the width within which letters could lie on one another."""
DOTS = 120
"""Of more points than that only the line is drawn."""

Points = Sequence[tuple[float, float]]
"""x and value in order of x; NaN and infinity are gaps."""


@dataclass(frozen=True)
class Line:
    """`style` is its class in the style sheet; `letter` stands at its end where several runs are drawn."""

    name: str
    points: Points
    style: str
    dots: bool = False
    letter: str = ""
    gaps: bool = True
    """Whether what is not finite is marked; of a smoothed line it was, on the line beneath."""
    legend: bool = True


@dataclass(frozen=True)
class Chart:
    """`levels` are (name, value, style) of horizontal lines. `log` None: as the values need it."""

    title: str
    unit: str
    lines: Sequence[Line]
    x_name: str = "step"
    from_zero: bool = False
    log: bool | None = None
    levels: Sequence[tuple[str, float, str]] = ()
    note: str = ""


@dataclass(frozen=True)
class Path:
    d: str
    style: str
    name: str


@dataclass(frozen=True)
class Mark:
    """A dot or a letter, in percent of the plot, with what it says."""

    x: str
    y: str
    style: str
    text: str


@dataclass(frozen=True)
class Gap:
    """Where values were not finite: percent of the plot's width, and a sentence."""

    x: str
    width: str
    middle: str
    text: str


@dataclass(frozen=True)
class Drawn:
    """A chart, ready to be written down."""

    title: str
    unit: str
    x_name: str
    note: str
    x: Axis
    y: Axis
    x_ticks: tuple[tuple[str, str], ...]
    y_ticks: tuple[tuple[str, str], ...]
    paths: tuple[Path, ...]
    levels: tuple[tuple[str, str, str], ...]
    """name, place, style"""
    dots: tuple[Mark, ...]
    letters: tuple[Mark, ...]
    gaps: tuple[Gap, ...]
    legend: tuple[tuple[str, str, str, bool], ...]
    """name, style, letter, whether of dots only"""


def draw(chart: Chart) -> Drawn | None:
    """None where no line has a point."""
    everything = [point for line in chart.lines for point in line.points]
    if not everything:
        return None
    x = horizontal([px for px, _ in everything])
    y = vertical(
        [v for _, v in everything] + [value for _, value, _ in chart.levels],
        chart.from_zero,
        chart.log,
    )
    return Drawn(
        title=chart.title, unit=chart.unit, x_name=chart.x_name, note=chart.note, x=x, y=y,
        x_ticks=tuple((_percent(x.place(value)), text) for value, text in x.ticks),
        y_ticks=tuple((_percent(1 - y.place(value)), text) for value, text in y.ticks),
        paths=tuple(Path(path(line.points, x, y), line.style, line.name) for line in chart.lines),
        levels=tuple((name, _percent(1 - y.place(value)), style) for name, value, style in chart.levels),
        dots=tuple(dot for line in chart.lines if line.dots and len(line.points) <= DOTS for dot in _dots(line, chart, x, y)),
        letters=_letters(chart.lines, x, y),
        gaps=tuple(gap for line in chart.lines if line.gaps for gap in _gaps(line, chart.x_name, x)),
        legend=tuple((line.name, line.style, line.letter, line.dots) for line in chart.lines if line.legend),
    )  # fmt: skip


def path(points: Points, x: Axis, y: Axis) -> str:
    """The `d` of a path: a line through the finite points, broken where one is not. A point alone is a dot."""
    parts: list[str] = []
    drawing = False
    for px, value in points:
        if math.isfinite(value):
            parts.append(f"{'L' if drawing else 'M'}{_short(SIDE * x.place(px))} {_short(SIDE * (1 - y.place(value)))}")
        drawing = math.isfinite(value)
    alone = [i for i, part in enumerate(parts) if part[0] == "M" and (i + 1 == len(parts) or parts[i + 1][0] == "M")]
    for i in alone:
        parts[i] += "h0"
    return "".join(parts)


def _dots(line: Line, chart: Chart, x: Axis, y: Axis) -> Iterator[Mark]:
    for px, value in line.points:
        if math.isfinite(value):
            text = f"{line.name}, {chart.x_name} {label(px, 1)}: {short(value)}"
            yield Mark(_percent(x.place(px)), _percent(1 - y.place(value)), line.style, text)


def _gaps(line: Line, x_name: str, x: Axis) -> Iterator[Gap]:
    """One for each stretch of points that are not finite."""
    run: list[tuple[float, float]] = []
    for point in [*line.points, (math.inf, 0.0)]:
        if not math.isfinite(point[1]):
            run.append(point)
        elif run:
            first, last = run[0][0], run[-1][0]
            low, high = x.place(first), x.place(last)
            kinds = " and ".join(sorted({"NaN" if math.isnan(v) else "infinite" for _, v in run}))
            where = f"{x_name} {label(first, 1)}" + (f" to {label(last, 1)}" if last > first else "")
            yield Gap(
                _percent(low), _percent(high - low), _percent((low + high) / 2), f"{line.name} is {kinds} at {where}"
            )
            run = []


def _letters(lines: Sequence[Line], x: Axis, y: Axis) -> tuple[Mark, ...]:
    """At the lines' ends, moved apart where they would lie on one another."""
    groups: dict[int, list[tuple[float, float, Line]]] = {}
    for line in lines:
        finite = [(px, value) for px, value in line.points if math.isfinite(value)]
        if line.letter and finite:
            right = x.place(finite[-1][0])
            groups.setdefault(round(right / NEAR), []).append((HEIGHT * (1 - y.place(finite[-1][1])), right, line))
    marks = []
    for ends in groups.values():
        ends.sort(key=lambda end: end[0])
        for top, (_, right, line) in zip(apart([end[0] for end in ends], LETTER, HEIGHT), ends, strict=True):
            marks.append(Mark(_percent(right), _percent(top / HEIGHT), line.style, line.letter))
    return tuple(marks)


def apart(tops: Sequence[float], distance: float, height: float) -> list[float]:
    """Sorted places moved so that none is nearer to the next than `distance`, if that many fit into the height."""
    placed: list[float] = []
    for top in tops:
        placed.append(max(top, placed[-1] + distance) if placed else top)
    limit = height
    for i in range(len(placed) - 1, -1, -1):
        placed[i] = max(0.0, min(placed[i], limit))
        limit = placed[i] - distance
    return placed


def _short(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _percent(share: float) -> str:
    return f"{100 * share:.2f}".rstrip("0").rstrip(".") + "%"
