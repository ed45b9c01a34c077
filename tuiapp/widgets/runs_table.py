"""The runs: one line each. Only lines in view are made, so a thousand runs cost what thirty cost."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content

from tuiapp import format as f
from tuiapp.glyphs import ACTIVE, CURSOR, state_glyph, state_role
from tuiapp.messages import OpenRun, RunSelected
from tuiapp.snapshot import RunLine
from tuiapp.widgets.head import elapsed, fraction, method_name, state
from tuiapp.widgets.keys import named
from tuiapp.widgets.rows import Part, Rows, fit, line
from tuiapp.widgets.sparkline import sparkline

SPARK_WIDTH = 10
Cell = Callable[[RunLine, float, int], Part]


@dataclass(frozen=True)
class TableColumn:
    """A column: heading, width, side, its cell, and from which width of the table it is shown."""

    title: str
    width: int
    cell: Cell
    to_right: bool = True
    from_width: int = 0


def _curve(run: RunLine, _: float, width: int) -> Part:
    if not run.spark:
        return f.DASH
    done = fraction(run) if run.ended_at is None else None
    return (sparkline(run.spark, max(1, round(width * done)) if done is not None else width), "$train")


def _name(run: RunLine, _: float, width: int) -> Part:
    return f.clip(f.clean(run.name), width)


COLUMNS = (
    TableColumn("Status", 10, lambda run, _, __: state(run.status), to_right=False),
    TableColumn("Name", 0, _name, to_right=False),
    TableColumn("Model", 14, lambda run, _, w: f.clip(f.model_name(run.model), w), False, 98),
    TableColumn("Method", 9, lambda run, _, w: f.clip(method_name(run), w), False, 88),
    TableColumn("lr", 6, lambda run, _, __: f.rate(run.learning_rate), True, 124),
    TableColumn("Loss", SPARK_WIDTH, _curve, to_right=False, from_width=70),
    TableColumn("Best eval", 9, lambda run, _, __: f.number(run.best_eval), True, 60),
    TableColumn("GiB", 5, lambda run, _, __: f.gib(run.peak_gib), True, 60),
    TableColumn("tok/s", 6, lambda run, _, __: f.count(run.tokens_per_second), True, 104),
    TableColumn("Time", 6, lambda run, now, _: f.duration(elapsed(run, now)), True, 60),
    TableColumn("Age", 6, lambda run, now, _: f.age(seconds_ago(run, now)), True, 60),
)


def seconds_ago(run: RunLine, now: float) -> float:
    """How long ago something last happened: a run at work is of now."""
    if run.status in ACTIVE:
        return 0.0
    return now - (run.ended_at if run.ended_at is not None else run.created_at)


def _outcome(run: RunLine, now: float, _: int) -> Part:
    """Narrow: how far it is, how it ended, or how long it took."""
    done = fraction(run)
    if run.status == "running" and done is not None:
        return f.percent(int(done * 100))
    return f.duration(elapsed(run, now)) if run.status == "finished" else f.clean(run.status)


NARROW = (
    TableColumn("", 1, lambda run, _, __: (state_glyph(run.status), state_role(run.status)), to_right=False),
    TableColumn("Name", 0, _name, to_right=False),
    TableColumn("Best", 7, lambda run, _, __: f.number(run.best_eval)),
    TableColumn("", 8, _outcome),
)


def columns_for(width: int) -> tuple[TableColumn, ...]:
    """The columns that fit; the name takes what is left."""
    if width < 60:
        return NARROW if width >= 34 else NARROW[:2]
    return tuple(column for column in COLUMNS if width >= column.from_width)


def _widths(columns: tuple[TableColumn, ...], width: int) -> tuple[int, int]:
    """The gap between columns, and what is left for the name."""
    gap = 2 if width >= 60 else 1
    return gap, width - (5 if width >= 60 else 4) - sum(column.width + gap for column in columns if column.width)


def row_content(run: RunLine, now: float, width: int, marked: bool, mark: str = " ") -> Content:
    """A run as one line of the table: the cursor, a mark (B, the baseline), and the columns."""
    parts: list[Part] = [(f" {CURSOR if marked else ' '}", "$accent"), (mark, "$baseline"), " " if width >= 60 else ""]
    columns = columns_for(width)
    gap_width, name_width = _widths(columns, width)
    for column in columns:
        room = column.width or max(1, name_width)
        cell = column.cell(run, now, room)
        content = line(cell)
        gap = max(0, room - content.cell_length)
        parts += [" " * gap, cell] if column.to_right else [cell, " " * gap]
        parts.append(" " * gap_width)
    return fit(line(*parts[:-1]), width)


def header(width: int) -> Content:
    """The headings."""
    columns = columns_for(width)
    gap_width, name_width = _widths(columns, width)
    parts = ["    " if width >= 60 else "   "]
    for column in columns:
        room = column.width or max(1, name_width)
        place = f.right if column.to_right else f.left
        parts += [place(column.title, room), " " * gap_width]
    return fit(line(("".join(parts[:-1]), "$dim")), width)


class RunsTable(Rows, can_focus=True):
    """The list with its cursor, which stays on its run when the order changes."""

    BINDINGS: ClassVar[list[BindingType]] = named([
        Binding("up,k", "move(-1)", "up", show=False, tooltip="up"),
        Binding("down,j", "move(1)", "down", show=False, tooltip="down"),
        Binding("pageup", "page(-1)", "page up", show=False, tooltip="page up"),
        Binding("pagedown", "page(1)", "page down", show=False, tooltip="page down"),
        Binding("g,home", "move(-1000000)", "first", show=False, tooltip="first"),
        Binding("G,end", "move(1000000)", "last", show=False, tooltip="last"),
    ])  # fmt: skip

    help_name = "The list"
    help_text = "Every run that was ever started here, the newest first. The glyph and the word say its state."

    def __init__(self, *, id: str) -> None:  # noqa: A002
        super().__init__(id=id, classes="placed")
        self._runs: tuple[RunLine, ...] = ()
        self._at = 0
        """Where the selected run was found last."""
        self._now = 0.0
        self._top = 0
        self.selected: str | None = None

    @property
    def order(self) -> list[str]:
        """The ids in the order shown."""
        return [run.id for run in self._runs]

    @property
    def current(self) -> RunLine | None:
        """The run under the cursor."""
        run = self._runs[self._place()] if self._runs else None
        return run if run is not None and run.id == self.selected else None

    def feed(self, runs: tuple[RunLine, ...], now: float) -> None:
        """Draw these runs in this order."""
        place = self._place()
        self._runs, self._now = runs, now
        if self.current is None:
            self._select(min(place, len(runs) - 1))
        self.redraw()

    def select(self, run_id: str) -> None:
        """Move the cursor to this run."""
        self.selected = run_id
        self.redraw()

    def redraw(self) -> None:
        """Draw what is in view, the cursor always in it."""
        width, room = self.size.width, self.size.height - 1
        if width <= 0 or room <= 0:
            return
        place = self._place()
        self._top = max(0, min(self._top, place, len(self._runs) - room), place - room + 1)
        shown = self._runs[self._top : self._top + room]
        style = self.deck.row_style
        lines = [header(width)]
        for run in shown:
            marked = run.id == self.selected
            mark = "B" if run.id == self.deck.baseline else " "
            content = row_content(run, self._now, width, marked, mark)
            lines.append(content.stylize(style) if marked else content)
        self.show(lines)

    def span(self) -> tuple[int, int, int]:
        """First and last line in view, and how many there are."""
        last = min(len(self._runs), self._top + max(0, self.size.height - 1))
        return (self._top + 1 if self._runs else 0), last, len(self._runs)

    def on_resize(self) -> None:
        """New room."""
        self.redraw()

    def action_move(self, lines: int) -> None:
        """Move the cursor."""
        self._select(self._place() + lines)
        self.redraw()

    def action_page(self, direction: int) -> None:
        """Move by what is in view."""
        self.action_move(direction * max(1, self.size.height - 2))

    def on_click(self, event: events.Click) -> None:
        """A click chooses, a second one opens."""
        place = self._top + event.y - 1
        if event.y < 1 or place >= len(self._runs):
            return
        again = self._runs[place].id == self.selected
        self._select(place)
        self.redraw()
        if again or event.chain > 1:
            self.post_message(OpenRun(self._runs[place].id))

    def on_mouse_scroll_down(self) -> None:
        """The wheel moves the cursor."""
        self.action_move(1)

    def on_mouse_scroll_up(self) -> None:
        """The wheel moves the cursor."""
        self.action_move(-1)

    def _place(self) -> int:
        if self._at >= len(self._runs) or self._runs[self._at].id != self.selected:
            self._at = next((i for i, run in enumerate(self._runs) if run.id == self.selected), 0)
        return self._at

    def _select(self, place: int) -> None:
        place = max(0, min(place, len(self._runs) - 1))
        selected = self._runs[place].id if self._runs else None
        if selected != self.selected:
            self.selected = selected
            self.post_message(RunSelected(selected))
