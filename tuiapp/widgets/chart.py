"""A line chart as text: braille, half blocks or ASCII; a pure function, about 2 ms for 10,000 points.

Every column of dots keeps the smallest and the largest value in it: a spike of one step survives.
A value that is not finite breaks the line and is marked `x` on the axis.

Not textual-plot (0.10.1), which sends 12 to 14 KB where this sends 0.3 when a point is added at 80x24 (bench/chart.py), leaves out
values that are not finite and joins over the gap, draws every point, and has no logarithmic axis and no ASCII.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
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
    """Points to draw: joined to a line, each with `mark`, or `dotted`, a mark in every third cell, under everything else.

    `letter` stands where the line ends, to tell several lines apart. Later series are drawn over earlier ones.
    """

    points: Points
    style: str
    mark: str = ""
    dotted: bool = False
    letter: str = ""


@dataclass(frozen=True)
class Level:
    """A value that is drawn across the chart with `sign`, behind the lines, and named at its right."""

    value: float
    name: str
    sign: str
    style: str


def round_step(least: float) -> float:
    """The next of 1, 2, 5, 10, 20, 50 and so on."""
    unit: float = 10.0 ** math.floor(math.log10(least))
    return next(unit * digit for digit in (1, 2, 5, 10) if unit * digit >= least * 0.999)


def time_step(least: float) -> float:
    """The next round number of seconds, minutes, hours or days, in seconds."""
    known = [
        1,
        2,
        5,
        10,
        20,
        30,
        *(60 * minutes for minutes in (1, 2, 5, 10, 20, 30)),
        *(3600 * h for h in (1, 2, 4, 6, 12)),
    ]
    return next((float(step) for step in known if step >= least), 86_400.0 * round_step(max(1.0, least / 86_400)))


@dataclass(frozen=True)
class Axes:
    """What the axes show; None is taken from the points."""

    x_max: float | None = None
    zero: bool = False
    log: bool = False
    y_max: float | None = None
    x_unit: str = ""
    x_text: Callable[[float], str] = count
    x_step: Callable[[float], float] = round_step
    """From about how far apart the numbers of a wide axis shall be to how far they are."""
    y_text: Callable[[float], str] = short
    levels: tuple[Level, ...] = ()
    x_start: str = "0"
    """What stands where the axis begins."""


@dataclass(frozen=True)
class Drawing:
    """The lines of a chart, and how many of the points can be seen in it.

    What lies between the smallest and the largest value of a column of dots is covered by the line between them.
    """

    lines: list[Content]
    drawn: int


@dataclass(frozen=True)
class Column:
    """What falls into one column of dots; `drawn` of its points are seen."""

    first: float
    last: float
    low: float
    high: float
    broken: bool
    drawn: int


def chart(series: Sequence[Series], width: int, height: int, axes: Axes, mode: str = "braille") -> list[Content]:
    """Always `height` lines of `width` cells: the last is the x axis."""
    return draw(series, width, height, axes, mode).lines


def draw(series: Sequence[Series], width: int, height: int, axes: Axes, mode: str = "braille") -> Drawing:
    """The chart, and what can be seen in it."""
    if width < 12 or height < 3:
        return Drawing([line(" " * max(0, width)) for _ in range(max(0, height))], 0)
    look = MODES[mode]
    x_max = _x_max(series, axes)
    low, high = _y_range(series, axes)
    names = max((len(level.name) + 2 for level in axes.levels), default=0)
    labels = _y_labels(low, high, axes, height - 1)
    margin = min(max(len(label) for label in labels.values()) + 2, width // 2)
    names = names if width - margin - names >= 12 else 0
    canvas = _Canvas(width - margin - names, height - 1, look, _scale(low, high, axes.log, (height - 1) * look.down))
    for one in series:
        canvas.add(one, x_max)
    ends = {canvas.row(level.value): level for level in reversed(axes.levels) if low <= level.value <= high}
    rows = canvas.rows({y: (level.sign, level.style) for y, level in ends.items()})
    lines = []
    for y, row in enumerate(rows):
        name = f"  {ends[y].name}" if y in ends and names else ""
        label = labels.get(y, "")[: margin - 2]
        lines.append(line((f" {label:<{margin - 1}}", "$dim"), row, (f"{name:<{names}}", "$dim")))
    axis = _x_axis(x_max, width - names, margin, axes, canvas.gaps)
    return Drawing([*lines, axis + " " * names], canvas.drawn)


def _y_labels(low: float, high: float, axes: Axes, rows: int) -> dict[int, str]:
    """Text by line: the ends and the middle, in a high chart the quarters too; a level has its own value."""
    parts = 4 if rows >= 15 else 2
    places = {}
    for part in range(parts + 1):
        places[(rows - 1) * part // parts] = axes.y_text(_between_ends(low, high, 1 - part / parts, axes.log))
    scale = _scale(low, high, axes.log, rows)
    own = {
        scale(level.value): axes.y_text(level.value) for level in reversed(axes.levels) if low <= level.value <= high
    }
    return {y: text for y, text in places.items() if y == rows - 1 or all(abs(y - other) > 1 for other in own)} | own


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


def _between_ends(low: float, high: float, share: float, log: bool) -> float:
    """The value that lies so far up the axis: `share` 0 is `low`, 1 is `high`."""
    return low ** (1 - share) * high**share if log else low * (1 - share) + high * share


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
    low, high = min(old.low, new.low), max(old.high, new.high)
    return Column(old.first, new.last, low, high, old.broken or new.broken, old.drawn + new.drawn)


def _column(values: list[float]) -> Column:
    total = sum(values)
    if math.isfinite(total):
        low, high = min(values), max(values)
        return Column(values[0], values[-1], low, high, False, _seen(values, low, high))
    finite = [value for value in values if math.isfinite(value)]
    broken = len(finite) < len(values)
    if not finite:
        return Column(math.nan, math.nan, math.inf, -math.inf, True, 0)
    low, high = min(finite), max(finite)
    return Column(finite[0], finite[-1], low, high, broken, _seen(finite, low, high))


def _seen(values: list[float], low: float, high: float) -> int:
    """How many of the values of a column make its dots: the first, the last, the least and the greatest."""
    last = len(values) - 1
    return len({0, last, values.index(low), values.index(high)}) if last > 1 else last + 1


class _Canvas:
    """Dots: for every series and column of dots an integer, whose bit y is the dot y rows from the top."""

    def __init__(self, width: int, height: int, mode: Mode, row: Callable[[float], int]) -> None:
        self._mode = mode
        self._row = row
        self._width = width
        self._height = height
        self._layers: list[tuple[list[int], str]] = []
        self._marks: dict[tuple[int, int], tuple[str, str]] = {}
        self._under: dict[tuple[int, int], tuple[str, str]] = {}
        self.gaps: set[int] = set()
        self.drawn = 0

    def add(self, series: Series, x_max: float) -> None:
        """Draw one series over what is there."""
        if series.dotted:
            self._add_dotted(series, x_max)
            return
        if series.mark:
            self._add_marks(series, x_max)
            return
        dots = [0] * (self._width * self._mode.across)
        before: tuple[int, int] | None = None
        for x, column in enumerate(columns(series.points, len(dots), x_max)):
            if column is None:
                continue
            self.drawn += column.drawn
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
        if series.letter and before is not None:
            x, y = before
            cell, row = min(self._width - 1, x // self._mode.across + 1), y // self._mode.down
            while (row, cell) in self._marks and cell > 0:  # lines that end in the same place: their letters in a row
                cell -= 1
            self._marks[row, cell] = (series.letter, series.style)

    def _add_dotted(self, series: Series, x_max: float) -> None:
        found = columns(series.points, self._width, x_max)
        last: Column | None = None
        end = max((x for x, column in enumerate(found) if column is not None), default=-1)
        for x in range(end + 1):
            last = found[x] or last
            if x % 3 == 1 and last is not None and last.low <= last.high:
                self._under[self.row((last.low + last.high) / 2), x] = (series.mark, series.style)

    def _add_marks(self, series: Series, x_max: float) -> None:
        for x, value in series.points:
            place = min(self._width - 1, max(0, int(x / x_max * self._width)))
            if math.isfinite(value):
                self._marks[self.row(value), place] = (series.mark, series.style)
            else:
                self.gaps.add(place)

    def row(self, value: float) -> int:
        """The line in which a value is drawn."""
        return self._row(value) // self._mode.down

    def rows(self, levels: Mapping[int, tuple[str, str]]) -> list[Content]:
        """The finished lines; some have a sign and its style where nothing else is drawn."""
        return [self._line(y, levels.get(y, (" ", ""))) for y in range(self._height)]

    def _line(self, y: int, ground: tuple[str, str]) -> Content:
        parts: list[tuple[str, str]] = []
        for x in range(self._width):
            character, style = self._marks.get((y, x)) or self._cell(y, x) or self._under.get((y, x)) or ground
            if parts and parts[-1][1] == style:
                parts[-1] = (parts[-1][0] + character, style)
            else:
                parts.append((character, style))
        return line(*parts)

    def _cell(self, y: int, x: int) -> tuple[str, str] | None:
        across, down = self._mode.across, self._mode.down
        for dots, style in self._layers:
            mask = 0
            for i in range(across):
                mask |= self._mode.table[i][(dots[x * across + i] >> (y * down)) & ((1 << down) - 1)]
            if mask:
                return self._mode.draw(mask), style
        return None


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
    """`0`, the end with its unit and in equal parts what has room between; an `x` where values were not finite."""
    room = width - margin
    cells = list(" " * room)
    step = axes.x_step(x_max / 6) if room >= 72 else x_max / 2
    texts = [(0, axes.x_start)]
    for part in range(1, math.ceil(x_max / step)):
        text = axes.x_text(part * step)
        texts.append((round(room * part * step / x_max) - len(text) // 2, text))
    end = axes.x_text(x_max) + (f" {axes.x_unit}" if axes.x_unit else "")
    for start, text in (texts[0], (room - len(end), end), *texts[1:]):
        if start >= 0 and all(cell == " " for cell in cells[max(0, start - 1) : start + len(text) + 1]):
            cells[start : start + len(text)] = list(text)
    shown: list[tuple[str, str]] = [(" " * margin, "")]
    shown += [("x", "$bad") if x in gaps else (cell, "$dim") for x, cell in enumerate(cells[:room])]
    return line(*shown)
