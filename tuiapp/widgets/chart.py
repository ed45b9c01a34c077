"""A line chart as text: braille, half blocks or ASCII; a pure function, about 2 ms for 10,000 points.

Every column of dots keeps the smallest and the largest value in it: a spike of one step survives.
A value that is not finite breaks the line and is marked `x` on the axis.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter

from textual.content import Content

from tuiapp.format import count, short
from tuiapp.snapshot import Points
from tuiapp.widgets.rows import line

Columns = list["Column | None"]


@dataclass(frozen=True)
class Mode:
    """How many dots a cell has, and how they become a character."""

    across: int
    down: int
    table: tuple[tuple[int, ...], ...]
    """For each column of dots: from its dots (bit 0 on top) to the character's bits."""
    draw: Callable[[int], str]


def _braille(column: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sum(bit for i, bit in enumerate(column) if dots >> i & 1) for dots in range(16))


MODES = {
    "braille": Mode(2, 4, (_braille((1, 2, 4, 64)), _braille((8, 16, 32, 128))), lambda mask: chr(0x2800 + mask)),
    "blocks": Mode(1, 2, ((0, 1, 2, 3),), lambda mask: " ▀▄█"[mask]),
    "ascii": Mode(1, 1, ((0, 1),), lambda mask: " ."[mask]),
}


@dataclass(frozen=True)
class Series:
    """Points to draw: joined to a line, or each with `mark`. Later series are drawn over earlier ones."""

    points: Points
    style: str
    mark: str = ""


@dataclass(frozen=True)
class Axes:
    """What the axes show; None is taken from the points."""

    x_max: float | None = None
    zero: bool = False
    log: bool = False
    y_max: float | None = None
    x_unit: str = ""
    x_text: Callable[[float], str] = count
    y_text: Callable[[float], str] = short


@dataclass(frozen=True)
class Column:
    """What falls into one column of dots."""

    first: float
    last: float
    low: float
    high: float
    broken: bool


def chart(series: Sequence[Series], width: int, height: int, axes: Axes, mode: str = "braille") -> list[Content]:
    """Always `height` lines of `width` cells: the last is the x axis."""
    if width < 12 or height < 3:
        return [line(" " * max(0, width)) for _ in range(max(0, height))]
    look = MODES[mode]
    x_max = _x_max(series, axes)
    low, high = _y_range(series, axes)
    labels = [axes.y_text(high), axes.y_text(_middle(low, high, axes.log)), axes.y_text(low)]
    margin = min(max(len(label) for label in labels) + 2, width // 2)
    canvas = _Canvas(width - margin, height - 1, look, _scale(low, high, axes.log, (height - 1) * look.down))
    for one in series:
        canvas.add(one, x_max)
    rows = canvas.rows()
    places = {0: labels[0], (height - 2) // 2: labels[1], height - 2: labels[2]}
    drawn = [line((f" {places.get(y, '')[: margin - 2]:<{margin - 1}}", "$dim"), row) for y, row in enumerate(rows)]
    return [*drawn, _x_axis(x_max, width, margin, axes, canvas.gaps)]


def _x_max(series: Sequence[Series], axes: Axes) -> float:
    last = max((one.points[-1][0] for one in series if one.points), default=0.0)
    return max(last, axes.x_max or 0.0) or 1.0


def _finite_range(series: Sequence[Series], log: bool) -> tuple[float, float] | None:
    low, high = math.inf, -math.inf
    for one in series:
        values = [value for _, value in one.points]
        if not values:
            continue
        least, most = min(values), max(values)
        # a comparison with NaN is always false, so only a clean sum allows the fast way
        if not math.isfinite(sum(values)) or (log and least <= 0):
            good = [value for value in values if math.isfinite(value) and (value > 0 or not log)]
            if not good:
                continue
            least, most = min(good), max(good)
        low, high = min(low, least), max(high, most)
    return (low, high) if low <= high else None


def _y_range(series: Sequence[Series], axes: Axes) -> tuple[float, float]:
    """Bounds on round numbers outside the values: the axis stands still while points come in."""
    found = _finite_range(series, axes.log)
    if found is None:
        found = (1.0, 10.0) if axes.log else (0.0, axes.y_max or 1.0)
    low, high = found
    if axes.log:
        return (low, high) if high > low * 1.0001 else (low / 2, high * 2)
    if axes.zero:
        low = min(0.0, low)
    if axes.y_max is not None:
        high = max(high, axes.y_max)
        return low, high if high > low else low + 1
    if high - low < 1e-9 * max(1e-300, abs(high), abs(low)) or high == low:
        pad = abs(high) * 0.1 or 1.0
        return (low if axes.zero and low == 0 else low - pad, high + pad)
    if math.isinf(high - low):
        return low, high
    unit: float = 10.0 ** math.floor(math.log10(high - low)) / 5
    if unit == 0 or math.isinf(low / unit) or math.isinf(high / unit):
        return low, high
    lower, upper = math.floor(low / unit) * unit, math.ceil(high / unit) * unit
    return (lower, upper) if math.isfinite(upper - lower) else (low, high)


def _middle(low: float, high: float, log: bool) -> float:
    return math.sqrt(low) * math.sqrt(high) if log else low / 2 + high / 2


def _scale(low: float, high: float, log: bool, dots: int) -> Callable[[float], int]:
    """From a value to its row of dots, counted from the top."""
    if log:
        low, high = math.log(low), math.log(high)
    half = high / 2 - low / 2  # halves, as the difference of two large values may overflow

    def row(value: float) -> int:
        if log:
            value = math.log(value) if value > 0 else low
        share = (value / 2 - low / 2) / half if half > 0 else 0.5
        return dots - 1 - max(0, min(dots - 1, round(share * (dots - 1))))

    return row


def columns(points: Points, number: int, x_max: float) -> Columns:
    """The points by column: `number` columns from 0 to `x_max`."""
    result: Columns = [None] * number
    if not points or number < 1:
        return result
    values = [value for _, value in points]
    start = 0
    while start < len(points):
        place = min(number - 1, max(0, int(points[start][0] / x_max * number)))
        end = len(points)
        if place < number - 1:
            edge = (place + 1) * x_max / number
            end = max(start + 1, bisect_left(points, edge, lo=start, key=itemgetter(0)))
        result[place] = _merge(result[place], _column(values[start:end]))
        start = end
    return result


def _merge(old: Column | None, new: Column) -> Column:
    if old is None:
        return new
    return Column(old.first, new.last, min(old.low, new.low), max(old.high, new.high), old.broken or new.broken)


def _column(values: list[float]) -> Column:
    total = sum(values)
    if math.isfinite(total):
        return Column(values[0], values[-1], min(values), max(values), False)
    finite = [value for value in values if math.isfinite(value)]
    broken = len(finite) < len(values)
    if not finite:
        return Column(math.nan, math.nan, math.inf, -math.inf, True)
    return Column(finite[0], finite[-1], min(finite), max(finite), broken)


class _Canvas:
    """Dots: for every series and column of dots an integer, whose bit y is the dot y rows from the top."""

    def __init__(self, width: int, height: int, mode: Mode, row: Callable[[float], int]) -> None:
        self._mode = mode
        self._row = row
        self._width = width
        self._height = height
        self._layers: list[tuple[list[int], str]] = []
        self._marks: dict[tuple[int, int], tuple[str, str]] = {}
        self.gaps: set[int] = set()

    def add(self, series: Series, x_max: float) -> None:
        """Draw one series over what is there."""
        if series.mark:
            self._add_marks(series, x_max)
            return
        dots = [0] * (self._width * self._mode.across)
        before: tuple[int, int] | None = None
        for x, column in enumerate(columns(series.points, len(dots), x_max)):
            if column is None:
                continue
            if column.broken:
                self.gaps.add(x // self._mode.across)
            if not column.low <= column.high:
                before = None
                continue
            if before is not None:
                _join(dots, before, (x, self._row(column.first)))
            dots[x] |= _between(self._row(column.high), self._row(column.low))
            before = None if column.broken else (x, self._row(column.last))
        self._layers.insert(0, (dots, series.style))

    def _add_marks(self, series: Series, x_max: float) -> None:
        for x, value in series.points:
            place = min(self._width - 1, max(0, int(x / x_max * self._width)))
            if math.isfinite(value):
                self._marks[self._row(value) // self._mode.down, place] = (series.mark, series.style)
            else:
                self.gaps.add(place)

    def rows(self) -> list[Content]:
        """The finished lines."""
        return [self._line(y) for y in range(self._height)]

    def _line(self, y: int) -> Content:
        parts: list[tuple[str, str]] = []
        for x in range(self._width):
            character, style = self._marks.get((y, x)) or self._cell(y, x)
            if parts and parts[-1][1] == style:
                parts[-1] = (parts[-1][0] + character, style)
            else:
                parts.append((character, style))
        return line(*parts)

    def _cell(self, y: int, x: int) -> tuple[str, str]:
        across, down = self._mode.across, self._mode.down
        for dots, style in self._layers:
            mask = 0
            for i in range(across):
                mask |= self._mode.table[i][(dots[x * across + i] >> (y * down)) & ((1 << down) - 1)]
            if mask:
                return self._mode.draw(mask), style
        return " ", ""


def _between(top: int, bottom: int) -> int:
    """All dots of a column from one row to another."""
    top, bottom = min(top, bottom), max(top, bottom)
    return ((1 << (bottom - top + 1)) - 1) << top


def _join(dots: list[int], start: tuple[int, int], end: tuple[int, int]) -> None:
    """A line between two dots."""
    (x0, y0), (x1, y1) = start, end
    previous = y0
    for x in range(x0 + 1, x1 + 1):
        y = round(y0 + (y1 - y0) * (x - x0) / (x1 - x0))
        # half of a steep way belongs to the column before, so that the line stays thin
        middle = (previous + y) // 2 if abs(y - previous) > 1 else y
        if middle != y:
            dots[x - 1] |= _between(previous, middle)
        dots[x] |= _between(middle, y)
        previous = y


def _x_axis(x_max: float, width: int, margin: int, axes: Axes, gaps: set[int]) -> Content:
    """`0`, the middle and the end with its unit; an `x` where values were not finite."""
    room = width - margin
    end = axes.x_text(x_max) + (f" {axes.x_unit}" if axes.x_unit else "")
    cells = list(" " * room)
    middle = axes.x_text(x_max / 2)
    for start, text in ((0, "0"), (room // 2 - len(middle) // 2, middle), (room - len(end), end)):
        if start >= 0 and all(cell == " " for cell in cells[max(0, start - 1) : start + len(text) + 1]):
            cells[start : start + len(text)] = list(text)
    parts: list[tuple[str, str]] = [(" " * margin, "")]
    parts += [("x", "$bad") if x in gaps else (cell, "$dim") for x, cell in enumerate(cells[:room])]
    return line(*parts)
