"""Home: every run, the newest first, and what the one under the cursor is doing."""

from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Input

from tuiapp import chat_runs, records
from tuiapp import format as f
from tuiapp.field_values import canonical
from tuiapp.glyphs import MARK, STAR
from tuiapp.home_keys import KeyState, allows
from tuiapp.home_status import ListState, counts, field_help, head, status_line
from tuiapp.layout import Places, home_places, is_narrow
from tuiapp.messages import AfterAsked, ChatAsked, CompareAsked, FoldAsked, OpenRun, PinAsked, ResumeAsked, RunSelected
from tuiapp.run_list import Facts, RunList, asked_for
from tuiapp.screens import looks
from tuiapp.screens.base import DeckScreen
from tuiapp.screens.data_file import DataFileScreen
from tuiapp.screens.empty import empty_lines
from tuiapp.screens.filtering import Filtering
from tuiapp.screens.plan_model import PlanModelScreen
from tuiapp.screens.stop import ask_to_stop
from tuiapp.snapshot import RunLine, Snapshot
from tuiapp.views import View
from tuiapp.widgets.line_field import LineField
from tuiapp.widgets.pane import FocusPane, Pane
from tuiapp.widgets.preview import PreviewState, preview
from tuiapp.widgets.rows import Rows, line
from tuiapp.widgets.runs_table import RunsTable

Take = Callable[[str], None]


class HomeScreen(DeckScreen):
    """The list of runs."""

    place = "Runs"
    about = "Every run of this database. The line below the cursor's run says how it went; Enter opens it, n starts another."

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "open", tooltip="open the run under the cursor; open or fold a group"),
        Binding("enter", "begin", "new run", show=True),
        Binding("n", "new", "new", priority=True, tooltip="a new run: model, data, method"),
        Binding("space", "mark", "mark", tooltip="mark the run, or all of the group"),
        Binding("c", "compare", "compare", tooltip="compare the marked runs; one alone with the baseline"),
        Binding("slash", "filter", "filter", tooltip="filter: status:finished lr<1e-3 tag:keep, or words"),
        Binding("e", "after", "evaluate", tooltip="after training: evaluate against the base, merge, export"),
        Binding("t", "chat", "chat", tooltip="chat: this run, the marked ones of the same base, and the base"),
        Binding("m", "app.machine", "machine", tooltip="the machine: every card, who uses it, and the queue"),
        Binding("s", "stop", "stop", tooltip="stop, with a checkpoint first"),
        Binding("r", "resume", "resume", tooltip="go on from the last checkpoint"),
        Binding("o", "order", "order", tooltip="order by the next column"),
        Binding("O", "reverse", "reverse", show=False, tooltip="turn the order round"),
        Binding("v", "columns", "columns", tooltip="columns: any metric, parameter or column; order by it"),
        Binding("b", "group", "group by", tooltip="group by a parameter, tags, the model, the data"),
        Binding("V", "views", "views", show=False, tooltip="saved views: take one, save this one"),
        Binding("L", "app.lineage", "lineage", show=False, tooltip="lineage: forks, sweeps, what changed"),
        Binding("p", "pin", "baseline", tooltip="baseline: this run's curve under the others"),
        Binding("f2", "plan", "plan", key_display="F2", tooltip="plan: what fits, how fast, and why"),
        Binding("f3", "data", "data", show=False, tooltip="data: look at a file"),
        Binding("T", "tag", "tags", show=False, tooltip="tags of the marked runs, or of this one"),
        Binding("N", "note", "note", show=False, tooltip="note of the marked runs, or of this one"),
        Binding("R", "rename", "rename", show=False, tooltip="another name for this run"),
        Binding("asterisk", "star", "star", show=False, tooltip="star, or no star"),
        Binding("A", "archive", "archive", show=False, tooltip="archive, or back into the list"),
        Binding("D", "delete", "delete", tooltip="delete: into the bin; in the bin, for good"),
        Binding("u", "undo", "undo", show=False, tooltip="undo the last change of a run's record"),
        DeckScreen.HELP_KEY,
        Binding("q", "leave", "quit", id="back", tooltip="quit; runs go on"),
        Binding("escape", "clear", "clear", show=False, tooltip="clear the filter, then the marks"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.list = RunList()
        self.filtering = Filtering(self)
        self._take: Take | None = None
        """What is done with the line that is typed."""
        self._label = ""
        self._counted: tuple[tuple[RunLine, ...], str] = ((), counts(()))

    def compose(self) -> ComposeResult:
        """The panes; where they stand is decided by size."""
        yield Rows(id="head", classes="placed")
        yield RunsTable(id="table")
        yield Rows(id="rule", classes="placed")
        yield Pane[PreviewState](preview, id="preview")
        yield FocusPane[Snapshot](empty_lines, id="empty", help_text="Nothing was trained here yet.")
        yield Rows(id="status", classes="placed")
        yield Rows(id="keys", classes="placed")
        yield LineField(id="filter")
        yield LineField(id="record")

    def on_mount(self) -> None:
        """The list has the focus."""
        for name in ("filter", "record"):
            self.query_one(f"#{name}").display = False
        super().on_mount()
        self._ask()
        self.table.focus()

    def places(self, width: int, height: int) -> Places:
        """See `layout`."""
        return home_places(width, height, self._is_empty)

    def draw(self) -> None:
        """Everything from the newest snapshot."""
        snapshot = self.snapshot
        width = self.size.width
        if snapshot is not None:
            self.list.update(snapshot, self.view)
            self.table.marks &= self.list.known
            self.table.feed(self.list.items, Facts(snapshot.now, snapshot.listing, self.list.best), self.view)
            self.draw_preview()
            if self._is_empty:
                self.query_one("#empty", FocusPane).feed(snapshot)
        self.query_one("#head", Rows).show(head(snapshot, width, is_narrow(width, self.size.height)))
        self.query_one("#rule", Rows).show([line(("│", "$dim"))] * self.size.height)
        self.show_status(self._status(width))
        self.show_keys()
        self._place_fields()
        if self.focused is None and self.is_current:
            self.query_one("#empty" if self._is_empty else "#table").focus()

    def draw_preview(self) -> None:
        """The run under the cursor: what its row knows at once, the rest when it has arrived."""
        snapshot, run = self.snapshot, self.table.current
        if snapshot is None:
            return
        detail = snapshot.detail
        if run is None or detail is None or detail.run.id != run.id:
            detail = None
        state = PreviewState(run, detail, snapshot.now, snapshot.baseline, self.table.group, snapshot.listing)
        self.query_one("#preview", Pane).feed(state)

    @property
    def view(self) -> View:
        """How one looks at the runs."""
        return self.deck.views.now

    def turn_to(self, view: View) -> None:
        """Look at the runs another way, and remember it."""
        self.deck.remember(replace(self.deck.views, now=view))
        self._ask()
        self.draw()

    def _ask(self) -> None:
        group = self.table.group
        self.deck.ask(asked_for(self.view, group.ids if group is not None else ()))

    @property
    def order(self) -> list[str]:
        """Run ids in the order shown."""
        return self.table.order

    def select(self, run_id: str) -> None:
        """Put the cursor on this run."""
        self.table.select(run_id)

    @property
    def table(self) -> RunsTable:
        """The list."""
        return self.query_one("#table", RunsTable)

    @property
    def _is_empty(self) -> bool:
        snapshot = self.snapshot
        return snapshot is not None and not snapshot.runs and not snapshot.put_away and not snapshot.problem

    def _status(self, width: int) -> Content:
        snapshot = self.snapshot
        if snapshot is None:
            return line((" reading the runs …", "$dim"))
        if self._is_empty:
            return line((" No runs yet. Nothing was sent anywhere, and nothing needs setting up.", "$dim"))
        if self._counted[0] is not snapshot.runs:
            self._counted = snapshot.runs, counts(snapshot.runs)
        mistake, table = snapshot.listing.mistake, self.table
        shown = [(MARK, "marked")] if table.marks else []
        shown += [("B", "baseline")] if self.deck.baseline in self.list.ids else []
        shown += [(STAR, "starred")] if self.list.starred else []
        shown += [("*", "best on the same data")] if self.list.best else []
        state = ListState(
            self._counted[1], self.view, table.span(), len(table.marks),
            mistake if mistake is not None and mistake.filter == self.view.filter.strip() else None,
            len(table.columns.hidden), snapshot.read_only, tuple(shown[bool(table.marks):]),
        )  # fmt: skip
        return status_line(state, width)

    def on_run_selected(self, _: RunSelected) -> None:
        """The cursor moved: the preview follows at once, and the keys may differ."""
        self._ask()
        self.draw_preview()
        self.show_status(self._status(self.size.width))
        self.show_keys()

    def acted_on(self) -> list[RunLine]:
        """The marked runs, else the one under the cursor, or those of the group there."""
        table, snapshot = self.table, self.snapshot
        if table.marks and snapshot is not None:
            return [run for run in (*snapshot.runs, *snapshot.put_away) if run.id in table.marks]
        if table.group is not None:
            return list(table.group.runs)
        return [table.current] if table.current is not None else []

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys that would do nothing are not shown and do nothing."""
        if not self.is_mounted:
            return allows(action, KeyState())
        snapshot, table = self.snapshot, self.table
        writable = snapshot is not None and not snapshot.read_only
        state = KeyState(
            table.current, table.group is not None, len(table.marks), snapshot is not None, writable, self._is_empty,
            isinstance(self.focused, Input), bool(self.view.filter), bool(self.deck.undo), self.deck.baseline,
        )  # fmt: skip
        return allows(action, state)

    def action_open(self) -> None:
        """Open the run, or the group."""
        if (run := self.table.current) is not None:
            self.post_message(OpenRun(run.id))
        elif (group := self.table.group) is not None:
            self.post_message(FoldAsked(group.key, not group.is_open))

    def on_fold_asked(self, message: FoldAsked) -> None:
        """Open or fold it."""
        opened = self.view.opened | {message.key} if message.is_open else self.view.opened - {message.key}
        self.turn_to(replace(self.view, opened=opened))

    def action_mark(self) -> None:
        """Mark, or no longer."""
        group, run, marks = self.table.group, self.table.current, self.table.marks
        ids = set(group.ids) if group is not None else {run.id} if run is not None else set()
        self.table.marks = marks - ids if ids <= marks else marks | ids
        self.draw()

    def action_compare(self) -> None:
        """The marked runs, or this one with the baseline."""
        ids = tuple(run.id for run in self.acted_on())
        baseline = self.deck.baseline
        if baseline is not None and (len(ids) == 1 or baseline in ids):
            ids = (baseline, *(one for one in ids if one != baseline))
        if len(ids) > 1:
            self.post_message(CompareAsked(ids))
        else:
            self.say("Mark another run with Space, or pin a baseline with p.")

    def action_chat(self) -> None:
        """The run under the cursor beside its base, and the marked ones of that base."""
        if (run := self.table.current) is not None:
            ids, left_out = chat_runs.chosen(run, self.acted_on())
            self.post_message(ChatAsked(ids))
            if left_out:
                self.say(f"{left_out} of the marked left out: another base model, or at work")

    def action_after(self) -> None:
        """Is it better than its base, and what can be made of it."""
        if (run := self.table.current) is not None:
            self.post_message(AfterAsked(run.id))

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
        if (run := self.table.current) is not None:
            ask_to_stop(self.deck, run)

    def action_resume(self) -> None:
        """Go on."""
        if (run := self.table.current) is not None:
            self.post_message(ResumeAsked(run.id))

    def action_pin(self) -> None:
        """Compare others with this run, or with none."""
        if (run := self.table.current) is not None:
            self.post_message(PinAsked(None if run.id == self.deck.baseline else run.id))

    def action_order(self) -> None:
        """Order by the next column."""
        self.turn_to(looks.next_order(self.view, [column.field for column in self.table.columns.shown]))
        self.table.action_move(-len(self.table.order))  # to see what is best, not where the old row went

    def action_reverse(self) -> None:
        """Turn round."""
        self.turn_to(replace(self.view, turned=not self.view.turned))
        self.table.action_move(-len(self.table.order))

    def order_by(self, name: str) -> None:
        """Order by any field."""
        self.turn_to(replace(self.view, order=canonical(name), turned=False))
        self.table.action_move(-len(self.table.order))

    def action_columns(self) -> None:
        """Choose them."""
        looks.choose_columns(self)

    def action_group(self) -> None:
        """By what."""
        looks.choose_group(self)

    def action_views(self) -> None:
        """The saved ones."""
        looks.choose_view(self)

    def action_star(self) -> None:
        """Star, or no star."""
        records.star(self.deck, self.acted_on())

    def action_archive(self) -> None:
        """Archive, or back."""
        records.archive(self.deck, self.acted_on())

    def action_delete(self) -> None:
        """Into the bin, or for good."""
        runs = self.acted_on()
        ids = {run.id for run in runs}

        def gone() -> None:
            self.table.marks = self.table.marks - ids

        records.delete(self.deck, runs, gone)

    def action_undo(self) -> None:
        """Take the last change back."""
        records.undo(self.deck)

    def action_rename(self) -> None:
        """Type another name."""
        run = self.acted_on()[0]
        self.type_line("name", run.name, lambda text: records.rename(self.deck, run, text.strip()))

    def action_tag(self) -> None:
        """Type tags."""
        runs = self.acted_on()
        tags = ", ".join(records.shared_tags(runs))
        self.type_line(_of("tags", runs), tags, lambda text: records.tag(self.deck, runs, text))

    def action_note(self) -> None:
        """Type a note."""
        runs = self.acted_on()
        note = f.clean(records.shared_note(runs))
        self.type_line(_of("note", runs), note, lambda text: records.note(self.deck, runs, text.strip()))

    def action_leave(self) -> None:
        """Quit: runs go on."""
        self.app.exit()

    def action_filter(self) -> None:
        """Type into the status line."""
        self.filtering.begin()
        self._open("filter", "filter", self.view.filter, self.filtering.take)

    def type_line(self, label: str, text: str, take: Take) -> None:
        """Type a line where the status stands."""
        self._open("record", label, text, take)

    def _open(self, name: str, label: str, text: str, take: Take) -> None:
        self._label, self._take = label, take
        self._said = ""
        self.query_one(f"#{name}", LineField).open(text)
        self.draw()

    @property
    def typing(self) -> LineField | None:
        """The line that is typed."""
        return next((one for one in self.query(LineField) if one.display), None)

    def action_clear(self) -> None:
        """Out of the line; no filter; no marks: one after the other."""
        field = self.typing
        if field is not None and field.id == "record":
            self.close_line()
        elif field is not None or self.view.filter:
            self.close_line()
            self.turn_to(replace(self.view, filter=""))
        else:
            self.table.marks = set()
            self.draw()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter as one types."""
        if event.input.id == "filter" and event.input.display:
            self.filtering.typed(event.value)

    def on_line_field_completed(self, event: LineField.Completed) -> None:
        """Tab."""
        if event.field.id == "filter":
            self.filtering.complete(event.field)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Take it, and to the list."""
        take = self._take
        self.close_line()
        if take is not None:
            take(event.value)

    def close_line(self) -> None:
        """To the list."""
        self._take = None
        self.filtering.stop()
        for field in self.query(LineField):
            field.display = False
        self.table.focus()
        self.draw()

    def _place_fields(self) -> None:
        field = self.typing
        if field is None:
            return
        label = f" {self._label} "
        self.query_one("#status", Rows).show([line((label, "$accent"))])
        field.styles.offset = (len(label), self.size.height - 2)
        field.styles.width = max(4, self.size.width - len(label) - 1)
        if field.id == "filter":
            mistake = self.snapshot.listing.mistake if self.snapshot is not None else None
            found = self.filtering.completion(field)
            content = field_help(len(label), field.value, mistake, found, self.size.width)
            self.query_one("#keys", Rows).show([content])
        else:
            keys = line(
                (" Enter", "$accent"), (" take it  ", "$dim"), ("Esc", "$accent"), (" leave it as it is", "$dim")
            )
            self.query_one("#keys", Rows).show([keys])


def _of(what: str, runs: list[RunLine]) -> str:
    return what if len(runs) == 1 else f"{what} of {len(runs)} runs"
