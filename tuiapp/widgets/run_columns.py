"""The columns of the table of runs: which fit, and what a run or a group has in each."""

from collections.abc import Callable
from dataclasses import dataclass

from tuiapp import format as f
from tuiapp.field_values import greatest_first, seconds_ago, text_of, title
from tuiapp.glyphs import state_glyph, state_role
from tuiapp.grouping import SEVERAL, Group
from tuiapp.list_snapshot import NOTHING, Listing
from tuiapp.run_list import Facts
from tuiapp.snapshot import RunLine
from tuiapp.widgets.head import elapsed, fraction, method_name, state
from tuiapp.widgets.rows import Part
from tuiapp.widgets.sparkline import sparkline

SPARK_WIDTH = 10
NAME_LEAST = 14
"""Cells that the name has at least, before columns give way."""
WIDEST = 18
"""Cells of a column whose values are longer."""
NARROW_BELOW = 60
Cell = Callable[[RunLine, Facts, int], Part]


@dataclass(frozen=True)
class TableColumn:
    """A column: the field, heading, width (0: what is left), its cell, side, and from which width of the table it is usual."""

    field: str
    title: str
    width: int
    cell: Cell
    to_right: bool = True
    from_width: int = 0


def _curve(run: RunLine, _: Facts, width: int) -> Part:
    if not run.spark:
        return f.DASH
    done = fraction(run) if run.ended_at is None else None
    return (sparkline(run.spark, max(1, round(width * done)) if done is not None else width), "$train")


def _name(run: RunLine, _: Facts, width: int) -> Part:
    return f.clip(f.clean(run.name), width)


def _best(run: RunLine, facts: Facts, _: int) -> Part:
    return f.number(run.best_eval) + ("*" if run.id in facts.best else "")


def _text(value: Callable[[RunLine], str]) -> Cell:
    return lambda run, _, width: f.clip(value(run) or f.DASH, width)


NAME = TableColumn("name", "Name", 0, _name, to_right=False)
USUAL = (
    TableColumn("status", "Status", 10, lambda run, _, __: state(run.status), to_right=False),
    NAME,
    TableColumn("model", "Model", 14, _text(lambda run: f.model_name(run.model)), False, 98),
    TableColumn("method", "Method", 9, _text(method_name), False, 88),
    TableColumn("lr", "lr", 6, lambda run, _, __: f.rate(run.learning_rate), True, 124),
    TableColumn("curve", "Loss", SPARK_WIDTH, _curve, to_right=False, from_width=70),
    TableColumn("best_eval", "Best eval", 9, _best, True, 60),
    TableColumn("peak_gib", "GiB", 5, lambda run, _, __: f.gib(run.peak_gib), True, 60),
    TableColumn("tokens_per_second", "tok/s", 6, lambda run, _, __: f.count(run.tokens_per_second), True, 104),
    TableColumn("time", "Time", 6, lambda run, facts, _: f.duration(elapsed(run, facts.now)), True, 60),
    TableColumn("age", "Age", 6, lambda run, facts, _: f.age(seconds_ago(run, facts.now)), True, 60),
)  # fmt: skip
OTHERS = (
    TableColumn("loss", "Loss", 7, lambda run, _, __: f.number(run.loss)),
    TableColumn("data", "Data", 16, _text(lambda run: f.clean(run.dataset)), False),
    TableColumn("tag", "Tags", 14, _text(lambda run: f.clean(", ".join(run.tags))), False),
    TableColumn("note", "Note", 18, _text(lambda run: f.clean(run.note)), False),
    TableColumn("id", "Id", 8, _text(lambda run: f.clean(run.id)), False),
    TableColumn("sweep", "Sweep", 14, _text(lambda run: f.clean(run.sweep_name or run.sweep)), False),
)
_KNOWN = {column.field: column for column in (*USUAL, *OTHERS)}


def _outcome(run: RunLine, facts: Facts, _: int) -> Part:
    """Narrow: how far it is, how it ended, or how long it took."""
    done = fraction(run)
    if run.status == "running" and done is not None:
        return f.percent(int(done * 100))
    return f.duration(elapsed(run, facts.now)) if run.status == "finished" else f.clean(run.status)


NARROW = (
    TableColumn("status", "", 1, lambda run, _, __: (state_glyph(run.status), state_role(run.status)), to_right=False),
    NAME,
    TableColumn("best_eval", "Best", 7, _best),
    TableColumn("", "", 8, _outcome),
)


@dataclass(frozen=True)
class Columns:
    """The columns that fit beside each other, and which fields found no room."""

    shown: tuple[TableColumn, ...]
    hidden: tuple[str, ...]
    gap: int
    name_width: int

    def width(self, column: TableColumn) -> int:
        """Its cells here."""
        return column.width or self.name_width


def column_of(name: str, listing: Listing) -> TableColumn:
    """The column of any field, as wide as its values are."""
    if name in _KNOWN:
        return _KNOWN[name]
    heading = title(name)
    asked = listing.fields.index(name) if name in listing.fields else None
    sample = (
        next((one[asked] for one in listing.values.values() if one[asked] is not None), None)
        if asked is not None
        else None
    )
    is_text = isinstance(sample, str | tuple)
    least = 4 if is_text else 9 if isinstance(sample, float) else 4
    width = max(least, min(WIDEST, max(len(heading), listing.widths.get(name, 0))))

    def cell(run: RunLine, facts: Facts, room: int) -> Part:
        return f.clip(text_of(name, facts.of(run, name)), room)

    return TableColumn(name, f.clip(heading, width), width, cell, not is_text)


def usual_fields(width: int) -> tuple[str, ...]:
    """What is shown where nothing was chosen, in so many cells."""
    return tuple(column.field for column in USUAL if width >= column.from_width)


def columns_for(
    width: int, chosen: tuple[str, ...] = (), order: str = "", listing: Listing = NOTHING, first: int = 0
) -> Columns:
    """The columns that fit: the chosen ones, or the usual ones for the width; what is ordered by is always among them.

    The name takes what is left. `first`: how many of the columns after the name are moved out at the left.
    """
    if width < NARROW_BELOW:
        narrow = NARROW if width >= 34 else NARROW[:2]
        return Columns(narrow, (), 1, _left(narrow, width, 1))
    names = list(chosen or usual_fields(width))
    if "name" not in names:
        names.insert(1 if names[:1] == ["status"] else 0, "name")
    if order and order not in names:
        names.append(order)
    fixed = names.index("name") + 1 if names.index("name") < 2 else 0
    names = names[:fixed] + names[fixed + min(first, max(0, len(names) - fixed - 1)) :]
    if "name" not in names:
        names.insert(0, "name")
    columns = [column_of(name, listing) for name in names]
    hidden: list[str] = []
    while _left(columns, width, 2) < NAME_LEAST and len(columns) > 2:
        last = next(i for i in reversed(range(len(columns))) if columns[i].field not in ("name", order))
        hidden.insert(0, columns.pop(last).field)
    return Columns(tuple(columns), tuple(hidden), 2, max(1, _left(columns, width, 2)))


def _left(columns: list[TableColumn] | tuple[TableColumn, ...], width: int, gap: int) -> int:
    """What is left for the name."""
    return width - (5 if width >= NARROW_BELOW else 4) - sum(one.width + gap for one in columns if one.width)


def heading(column: TableColumn, room: int, order: str, turned: bool) -> list[Part]:
    """The heading in its room; of the column that is ordered by with an arrow, which may hang into the gap."""
    if not column.field or column.field != order:
        place = f.right if column.to_right else f.left
        return [(place(column.title, room), "$dim")]
    arrow = "↓" if greatest_first(order) != turned else "↑"
    text = f.clip(column.title, room - 2 if not column.to_right else room)
    if column.to_right:
        return [" " * (room - len(text) - 1) if len(text) < room else "", (f"{arrow}{text}", "$accent")]
    return [(f"{text} {arrow}", "$accent"), " " * max(0, room - len(text) - 2)]


def group_cell(column: TableColumn, group: Group, facts: Facts, room: int) -> Part:
    """What a group has in a column."""
    match column.field:
        case "status":
            return group_sign(group, room)
        case "name":
            return f.clip(f.clean(group.title), room)
        case "":
            return _count(group, room)
    if column.field in _KNOWN:
        text = column.cell(group.summary, facts, room)
        return SEVERAL if isinstance(text, str) and text == f.DASH and _differ(column, group, facts) else text
    return f.clip(group.value(column.field, [facts.of(run, column.field) for run in group.runs]), room)


def group_sign(group: Group, room: int) -> Part:
    """`+ 8 runs`; open, `- 8 runs`."""
    sign = "-" if group.is_open else "+"
    return f"{sign} {_count(group, room - 2)}" if room > 2 else sign


def _count(group: Group, room: int) -> str:
    """How many runs it has; the word only where there is room for it."""
    count = f"{len(group.runs):,}"
    whole = f"{count} run{'' if count == '1' else 's'}"
    return whole if len(whole) <= room else f.clip(count, room)


def _differ(column: TableColumn, group: Group, facts: Facts) -> bool:
    first, *others = (facts.of(run, column.field) for run in group.runs[:50])
    return any(one != first for one in others)
