"""Home: every run, the newest first, and what the one under the cursor is doing."""

import math
from collections import Counter
from collections.abc import Callable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Input

from tuiapp import format as f
from tuiapp.glyphs import ACTIVE, RESUMABLE, STOPPABLE
from tuiapp.layout import Places, home_places, is_narrow
from tuiapp.messages import OpenRun, PinAsked, ResumeAsked, RunSelected
from tuiapp.screens.base import DeckScreen
from tuiapp.screens.data_file import DataFileScreen
from tuiapp.screens.empty import empty_lines
from tuiapp.screens.plan_model import PlanModelScreen
from tuiapp.screens.stop import ask_to_stop
from tuiapp.snapshot import RunLine, Snapshot
from tuiapp.widgets.head import database, elapsed, where_line
from tuiapp.widgets.pane import FocusPane, Pane
from tuiapp.widgets.preview import PreviewState, preview
from tuiapp.widgets.rows import Rows, line, spread
from tuiapp.widgets.runs_table import RunsTable, seconds_ago
from tuiapp.widgets.strip import strip_line

Order = tuple[str, Callable[[RunLine, float], float | str]]


def _low(value: float | None) -> float:
    """For sorting with the smallest first and the unknown last."""
    return value if value is not None and math.isfinite(value) else math.inf


ORDERS: tuple[Order, ...] = (
    ("newest first", seconds_ago),
    ("best eval first", lambda run, _: _low(run.best_eval)),
    ("lowest loss first", lambda run, _: _low(run.loss)),
    ("by name", lambda run, _: run.name.casefold()),
    ("by status", lambda run, _: run.status),
    ("by model", lambda run, _: run.model.casefold()),
    ("least memory first", lambda run, _: _low(run.peak_gib)),
    ("shortest first", lambda run, now: _low(elapsed(run, now))),
)


def matches(run: RunLine, words: str) -> bool:
    """Whether every word of the filter is somewhere in what the row says."""
    return all(word in run.words for word in words.casefold().split())


class HomeScreen(DeckScreen):
    """The list of runs."""

    place = "Runs"
    about = "Every run of this database. The line below the cursor's run says how it went; Enter opens it, n starts another."

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "open", tooltip="open the run under the cursor"),
        Binding("enter", "begin", "new run", show=True),
        Binding("n", "new", "new", priority=True, tooltip="a new run: model, data, method"),
        Binding("f2", "plan", "plan", key_display="F2", tooltip="plan: what fits, how fast, and why"),
        Binding("f3", "data", "data", show=False, tooltip="data: look at a file"),
        Binding("m", "app.machine", "machine", tooltip="the machine: every card, who uses it, and the queue"),
        Binding("slash", "filter", "filter", tooltip="only rows with these words"),
        Binding("s", "stop", "stop", tooltip="stop, with a checkpoint first"),
        Binding("r", "resume", "resume", tooltip="go on from the last checkpoint"),
        Binding("o", "order", "order", tooltip="order by the next column"),
        Binding("O", "reverse", "reverse", show=False, tooltip="turn the order round"),
        Binding("p", "pin", "baseline", tooltip="baseline: this run's curve under the others"),
        DeckScreen.HELP_KEY,
        Binding("q", "leave", "quit", id="back", tooltip="quit; runs go on"),
        Binding("escape", "clear", "clear", show=False, tooltip="clear the filter"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._filter = ""
        self._order = 0
        self._reversed = False
        self._sorted: tuple[tuple[RunLine, ...], object, tuple[RunLine, ...]] = ((), None, ())
        """The runs that were sorted last, how, and what came of it."""
        self._counted: tuple[tuple[RunLine, ...], str] = ((), _counts(()))

    def compose(self) -> ComposeResult:
        """The panes; where they stand is decided by size."""
        yield Rows(id="head", classes="placed")
        yield RunsTable(id="table")
        yield Rows(id="rule", classes="placed")
        yield Pane[PreviewState](preview, id="preview")
        yield FocusPane[Snapshot](empty_lines, id="empty", help_text="Nothing was trained here yet.")
        yield Rows(id="status", classes="placed")
        yield Rows(id="keys", classes="placed")
        yield Input(id="filter", compact=True, select_on_focus=False)

    def on_mount(self) -> None:
        """The list has the focus."""
        self.query_one("#filter").display = False
        super().on_mount()
        self._table.focus()

    def places(self, width: int, height: int) -> Places:
        """See `layout`."""
        return home_places(width, height, self._is_empty)

    def draw(self) -> None:
        """Everything from the newest snapshot."""
        snapshot = self.snapshot
        width = self.size.width
        if snapshot is not None:
            self._table.feed(self._shown(snapshot), snapshot.now)
            self.draw_preview()
            if self._is_empty:
                self.query_one("#empty", FocusPane).feed(snapshot)
        self.query_one("#head", Rows).show(self._head(width))
        self.query_one("#rule", Rows).show([line(("│", "$dim"))] * self.size.height)
        self.show_status(self._status(width))
        self.show_keys()
        self._place_filter()
        if self.focused is None and self.is_current:
            self.query_one("#empty" if self._is_empty else "#table").focus()

    def draw_preview(self) -> None:
        """The run under the cursor: what its row knows at once, the rest when it has arrived."""
        snapshot, run = self.snapshot, self._table.current
        if snapshot is None:
            return
        detail = snapshot.detail
        if run is None or detail is None or detail.run.id != run.id:
            detail = None
        self.query_one("#preview", Pane).feed(PreviewState(run, detail, snapshot.now, snapshot.baseline))

    @property
    def order(self) -> list[str]:
        """Run ids in the order shown."""
        return self._table.order

    def select(self, run_id: str) -> None:
        """Put the cursor on this run."""
        self._table.select(run_id)

    @property
    def _table(self) -> RunsTable:
        return self.query_one("#table", RunsTable)

    @property
    def _is_empty(self) -> bool:
        return self.snapshot is not None and not self.snapshot.runs and not self.snapshot.problem

    def _shown(self, snapshot: Snapshot) -> tuple[RunLine, ...]:
        how = (self._filter, self._order, self._reversed)
        if self._sorted[0] is not snapshot.runs or self._sorted[1] != how:
            key, now = ORDERS[self._order][1], snapshot.now
            runs = [run for run in snapshot.runs if matches(run, self._filter)] if self._filter else list(snapshot.runs)
            runs.sort(key=lambda run: key(run, now), reverse=self._reversed)
            self._sorted = snapshot.runs, how, tuple(runs)
        return self._sorted[2]

    def _head(self, width: int) -> list[Content]:
        snapshot = self.snapshot
        if snapshot is None:
            return [where_line("Runs", width)]
        machine = snapshot.machine
        if is_narrow(width, self.size.height):
            running = sum(1 for run in snapshot.runs if run.status == "running")
            card = machine.gpus[0] if machine.gpus else None
            used = f"{f.gib(card.memory_used)} of {f.gib(card.memory_total)}" if card else f.clean(machine.host)
            start = line(("Runs", "$accent"), f"   {len(snapshot.runs)}   {running} running")
            return [spread(start, line(used), width)]
        path = database(snapshot.database, width // 2 - 8)
        right = (f"{f.clean(machine.host)}   ", (path, "$dim"))
        return [where_line("Runs", width, *right), strip_line(machine, width)]

    def _status(self, width: int) -> Content:
        snapshot = self.snapshot
        if snapshot is None:
            return line((" reading the runs …", "$dim"))
        if self._is_empty:
            return line((" No runs yet. Nothing was sent anywhere, and nothing needs setting up.", "$dim"))
        order = ORDERS[self._order][0] + (", turned round" if self._reversed else "")
        filtered = f"filter {self._filter}" if self._filter else "no filter"
        first, last, shown = self._table.span()
        end = line((f"{first}–{last} of {shown} ", "$dim"))
        if self._counted[0] is not snapshot.runs:
            self._counted = snapshot.runs, _counts(snapshot.runs)
        counts = self._counted[1] if width >= 60 else ""
        words = "   ".join(part for part in (counts, order, filtered) if part)
        read_only = "   read only" if snapshot.read_only else ""
        return spread(line((f" {words}", "$dim"), (read_only, "$warn")), end, width)

    def on_run_selected(self, _: RunSelected) -> None:
        """The cursor moved: the preview follows at once, and the keys may differ."""
        self.draw_preview()
        self.show_status(self._status(self.size.width))
        self.show_keys()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys that would do nothing are not shown and do nothing."""
        run = self._table.current if self.is_mounted else None
        writable = self.snapshot is not None and not self.snapshot.read_only
        if action == "open":
            return run is not None
        if action == "begin":
            return writable and self._is_empty
        if action == "new":
            return writable and not self.query_one("#filter").has_focus
        if action == "stop":
            return run is not None and writable and run.status in STOPPABLE
        if action == "resume":
            return run is not None and writable and run.status in RESUMABLE
        if action in ("filter", "order", "reverse"):
            return self.snapshot is not None and bool(self.snapshot.runs)
        if action in ("plan", "data"):
            return self.snapshot is not None
        if action == "pin":
            return run is not None and bool(run.spark)
        if action == "clear":
            return bool(self._filter) or self.query_one("#filter").display
        return True

    def action_open(self) -> None:
        """Open the run."""
        if (run := self._table.current) is not None:
            self.post_message(OpenRun(run.id))

    def action_begin(self) -> None:
        """Where there are no runs, Enter begins one."""
        self.deck.open_wizard()

    def action_new(self) -> None:
        """The wizard; at once, so that what is typed right after it reaches it."""
        self.deck.open_wizard()

    def action_plan(self) -> None:
        """What fits."""
        self.app.push_screen(PlanModelScreen(self.deck.services))

    def action_data(self) -> None:
        """What is in a file."""
        self.app.push_screen(DataFileScreen(self.deck.services))

    def action_stop(self) -> None:
        """Ask, then stop."""
        if (run := self._table.current) is not None:
            ask_to_stop(self.deck, run)

    def action_resume(self) -> None:
        """Go on."""
        if (run := self._table.current) is not None:
            self.post_message(ResumeAsked(run.id))

    def action_pin(self) -> None:
        """Compare others with this run, or with none."""
        if (run := self._table.current) is not None:
            self.post_message(PinAsked(None if run.id == self.deck.baseline else run.id))

    def action_order(self) -> None:
        """Order by the next column."""
        self._order, self._reversed = (self._order + 1) % len(ORDERS), False
        self.draw()

    def action_reverse(self) -> None:
        """Turn round."""
        self._reversed = not self._reversed
        self.draw()

    def action_leave(self) -> None:
        """Quit: runs go on."""
        self.app.exit()

    def action_filter(self) -> None:
        """Type into the status line."""
        field = self.query_one("#filter", Input)
        field.display = True
        field.value = self._filter
        self.draw()
        field.focus()

    def action_clear(self) -> None:
        """No filter."""
        self.query_one("#filter", Input).value = ""
        self._close_filter("")

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter as one types."""
        self._filter = event.value.strip()
        self.draw()

    def on_input_submitted(self) -> None:
        """Enter goes to the list; the filter stays."""
        self._close_filter(self._filter)

    def _close_filter(self, text: str) -> None:
        self._filter = text
        self.query_one("#filter").display = False
        self._table.focus()
        self.draw()

    def _place_filter(self) -> None:
        field = self.query_one("#filter", Input)
        if not field.display:
            return
        self.query_one("#status", Rows).show([line((" filter ", "$accent"))])
        field.styles.offset = (8, self.size.height - 2)
        field.styles.width = max(4, self.size.width - 9)

    def key_down(self) -> None:
        """From the filter to the list."""
        if self.query_one("#filter").has_focus:
            self._close_filter(self._filter)


def _counts(runs: tuple[RunLine, ...]) -> str:
    found = Counter([run.status for run in runs])
    running, queued = sum(found[status] for status in ACTIVE), found["queued"]
    parts = [f"{running} running" if running else "", f"{queued} queued" if queued else ""]
    words = ", ".join(part for part in parts if part)
    return f"{len(runs)} run{'' if len(runs) == 1 else 's'}" + (f"   {words}" if words else "")
