"""The data page: what is wrong with the rows, what can be done about it, and what the model will see of them."""

from dataclasses import replace
from typing import Any, ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content

from tuiapp import format as f
from tuiapp.background import sentence, settle
from tuiapp.data_layout import data_places, is_wide
from tuiapp.data_services import DataServices
from tuiapp.data_snapshot import DataPage, RowsSeen
from tuiapp.data_values import (
    LONG_ROWS,
    PAGE,
    DataDraft,
    arranged,
    length_of,
    obstacle,
    remedy,
    subject,
    ticked,
    turned,
)
from tuiapp.layout import Places
from tuiapp.plan_values import with_chosen
from tuiapp.screens.base import DeckScreen
from tuiapp.screens.lines import lines_screen
from tuiapp.snapshot import NewRun
from tuiapp.widgets import data_panes as panes
from tuiapp.widgets.data_panes import DataState
from tuiapp.widgets.head import where_line
from tuiapp.widgets.length_chart import lengths_pane
from tuiapp.widgets.pane import FocusPane, Pane
from tuiapp.widgets.rows import Rows, line
from tuiapp.widgets.strip import strip_line
from tuiapp.widgets.token_view import MODES, row_lines, sees_pane

PAUSE = 0.3
"""Seconds without a key before the trainer is asked for its tokens."""
FINDINGS_HELP = (
    "What is wrong with the rows: ✗ stops the run, ! is a warning, · a note. Space drops the rows where that helps, and "
    "← and → move the longest that a row may be; all numbers follow."
)
SEES_HELP = (
    "A row as it is trained on, made by the trainer's own code: ┃ are the tokens that are learned, · those that are only "
    "read. [ and ] go to other rows, v shows the text, its tokens or their ids."
)

Wanted = tuple[DataPage, int | None, str, int]
"""Rows as the trainer makes them: of which page, for which length, what becomes of long ones, and the first of them."""


class DataScreen(DeckScreen):
    """The page for one form, of which only the data has to be there."""

    place = "Data"
    about = (
        "What is in the file, what is wrong with it, and what the model will see of it. Nothing in the file is changed."
    )

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,f3", "use", "use", tooltip="back, with what is ticked"),
        Binding("space", "tick", "tick", tooltip="drop such rows, or keep them; of what is too long: drop, cut, split"),
        Binding("left,h", "turn(-1)", "length", key_display="←→", tooltip="a smaller max length"),
        Binding("right,l", "turn(1)", "longer", show=False, key_display="hl", tooltip="a larger max length"),
        Binding("left_square_bracket", "row(-1)", "row", key_display="[ ]", tooltip="the row before"),
        Binding("right_square_bracket", "row(1)", "next row", show=False, tooltip="the next row"),
        Binding("ctrl+o", "row(-1)", show=False),
        Binding("ctrl+n", "row(1)", show=False),
        Binding("v", "view", "view", tooltip="text, tokens or ids"),
        Binding("i", "inspect", "lines", tooltip="the lines of the finding"),
        Binding("z", "zoom", "zoom", tooltip="what the model sees over the whole screen, and back"),
        Binding("e", "again", "check again", tooltip="check again"),
        Binding("up,k", "move(-1)", "up", show=False, tooltip="the one above"),
        Binding("down,j", "move(1)", "down", show=False, tooltip="below"),
        Binding("pageup", "page(-1)", "page up", show=False, tooltip="a page up"),
        Binding("pagedown", "page(1)", "page down", show=False, tooltip="a page down"),
        Binding("g,home", "edge(0)", "first", show=False, tooltip="the first"),
        Binding("G,end", "edge(-1)", "last", show=False, tooltip="the last"),
        DeckScreen.HELP_KEY,
        Binding("q,escape", "leave", "back", id="back", tooltip="back; what is ticked is kept"),
    ]

    def __init__(self, services: DataServices, form: NewRun, draft: DataDraft) -> None:
        super().__init__()
        self._services = services
        self._form = form
        self._draft = draft
        self._state: DataState | None = None
        self._problem = ""
        self._looking = False
        self._again = False
        self._asking = False
        self._seen: dict[str, RowsSeen] = {}
        self._order: list[str] = []
        self._mode = ""
        self._zoomed = False
        draft.open(form)

    def compose(self) -> ComposeResult:
        """The panes; where they stand is decided by size."""
        yield Rows(id="head", classes="placed")
        yield Pane(panes.file_pane, id="file")
        yield Pane(panes.narrow_pane, id="narrow")
        yield FocusPane(panes.findings_pane, id="findings", help_text=FINDINGS_HELP)
        yield Pane(panes.about_pane, id="about")
        yield Pane(panes.rows_pane, id="rows")
        yield Rows(id="rule", classes="placed")
        yield Pane(lengths_pane, id="lengths")
        yield Pane(panes.quantiles_pane, id="quantiles")
        yield FocusPane(sees_pane, id="sees", help_text=SEES_HELP)
        yield Pane(panes.epoch_pane, id="epoch")
        yield Rows(id="problem", classes="placed")
        yield Rows(id="sofar", classes="placed")
        yield Rows(id="status", classes="placed")
        yield Rows(id="keys", classes="placed")

    def on_mount(self) -> None:
        """Draw the first time, then begin."""
        super().on_mount()
        self.begin()

    def begin(self) -> None:
        """Look at once; the page is drawn when it was looked at."""
        self.query_one("#findings").focus()
        self._look()

    def places(self, width: int, height: int) -> Places:
        """See `data_layout`."""
        state = self._state
        if state is None:
            return data_places(width, height, problem=True)
        counts = state.counts
        found, reasons, empty = len(counts.findings), len(counts.dropped), not counts.kept
        return data_places(width, height, findings=found, reasons=reasons, empty=empty, zoom=self._zoomed and not empty)

    def draw(self) -> None:
        """Everything."""
        width = self.size.width
        self.query_one("#head", Rows).show(self._head(width))
        self.query_one("#rule", Rows).show([line(("│", "$dim"))] * self.size.height)
        if self._state is not None:
            shown = self._shown(self._state)
            for pane in self.query(Pane).results():
                if pane.display:
                    pane.feed(shown)
        self.query_one("#problem", Rows).show(self._in_the_way(width))
        self.show_status(self._status(width))
        self.show_keys()
        self.keep_focus()

    def _shown(self, state: DataState) -> DataState:
        """With how the tokens are shown: as was chosen, else as there is room."""
        mode = self._mode or ("tokens" if is_wide(self.size.width, self.size.height) else "text")
        return replace(state, mode=mode, waiting=self._asking)

    def refresh_all(self) -> None:
        """With what is missing asked for."""
        super().refresh_all()
        if not self._asking and self._to_ask() is not None:
            self._ask()

    def _head(self, width: int) -> list[Content]:
        host = self.snapshot.machine.host if self.snapshot is not None else ""
        model = f.model_name(self._form.model) if self._form.model else "no model named"
        right = ((f.clip(model, width - 50), "$dim"), f"   {f.clean(host)}") if width >= 60 else ()
        head = [where_line(self.place, width, *right, name=f.model_name(self._form.data))]
        return [*head, strip_line(self.snapshot.machine, width)] if self.snapshot is not None else head

    def _in_the_way(self, width: int) -> list[Content]:
        """Why there is no page."""
        if not self._problem:
            more = ", and the model's tokenizer" if self._form.model else ""
            return [line((f" reading every row{more} …", "$dim"))]
        rows = [line((" ✗ This data cannot be shown", "bold $bad")), line("")]
        rows += [line(f"   {text}") for text in f.wrap(self._problem, width - 5, 6)]
        return [*rows, line(""), line(("   Esc goes back to what was typed.", "$dim"))]

    def _status(self, width: int) -> Content:
        if self._state is None:
            return line("")
        if self._looking:
            return line((" reading every row again …", "$warn"))
        return panes.status_line(self._state, width)

    def _asked(self) -> NewRun:
        """The form with what changes the rows themselves."""
        return with_chosen(self._form, self._draft.filters)

    def _to_look(self) -> NewRun | None:
        """What has to be looked at: the first time, after other ticks, or because somebody asks."""
        asked = self._asked()
        return asked if self._again or self._state is None or self._state.page.form != asked else None

    @work(group="look", exit_on_error=False)
    async def _look(self) -> None:
        """Look at the rows; one look at a time."""
        if self._looking:
            return
        self._looking = True
        self.refresh_all()
        try:
            await settle(self._to_look, self._services.look, self._take)
        except Exception as error:  # whatever it was: a sentence, and what was there stays
            if self._state is None:
                self._problem = f.clean(sentence(error))
            else:
                self.say(sentence(error))
        finally:
            self._looking = self._again = False
            self.refresh_all()

    def _take(self, _: NewRun, page: DataPage) -> None:
        """A page, with the length that was chosen."""
        state, again, self._again = self._state, self._again, False
        if state is None:
            counts = self._services.count(page, page.max_length, page.long_rows)
            self._state = DataState(page, counts)
        elif page != state.page:
            row = min(state.row, max(0, page.kept - page.validation - 1))
            self._state = replace(state, page=page, row=row, view=None, scroll=0)
        elif again:
            self.say("Nothing has changed since.")
        self._show(self._draft.chosen)

    def _show(self, chosen: dict[str, Any]) -> None:
        """What is ticked and turned: the numbers at once, the tokens some seconds later."""
        state = self._state
        if state is None:
            return
        self._draft.chosen = chosen
        page, long_rows = state.page, chosen.get(LONG_ROWS, state.page.long_rows)
        counts = self._services.count(page, length_of(page, chosen), long_rows)
        counts = replace(counts, findings=arranged(counts.findings, self._order))
        found = [subject(one) for one in counts.findings]
        here = subject(state.finding) if state.finding else ""
        at = found.index(here) if here in found else max(0, min(state.at, len(found) - 1))
        self._state = replace(state, counts=counts, chosen=chosen, at=at)
        self._see()

    def _wanted(self) -> Wanted | None:
        """The rows around the one that is shown; None where none can be."""
        state = self._state
        if state is None or state.page.no_tokens or not state.counts.kept or "sees" not in self._stand:
            return None
        return state.page, state.counts.max_length, state.counts.long_rows, state.row // PAGE * PAGE

    def _to_ask(self) -> Wanted | None:
        """The same if the trainer was not asked yet, and the rows are not about to be others."""
        wanted = self._wanted()
        return None if wanted is None or self._looking or _key(wanted) in self._seen else wanted

    @work(group="see", exit_on_error=False)
    async def _ask(self) -> None:
        """Ask the trainer for its tokens, once the keys rest; one question at a time."""
        if self._asking:
            return
        self._asking = True
        self.refresh_all()
        await settle(self._to_ask, self._trainers, self._keep, PAUSE)
        self._asking = False
        self.refresh_all()

    def _trainers(self, wanted: Wanted) -> RowsSeen:
        """Rows of the trainer, or why there are none; in a thread."""
        try:
            return self._services.see(*wanted)
        except Exception as error:  # the rest of the page is complete without
            return RowsSeen(0, (), sentence(error))

    def _keep(self, wanted: Wanted, seen: RowsSeen) -> None:
        """They may be of another row than the one that is shown by now."""
        self._seen[_key(wanted)] = seen
        self._see()

    def _see(self) -> None:
        """The row that is asked for, as far as it is known; with another length the old one stays until then."""
        state, wanted = self._state, self._wanted()
        if state is None:
            return
        seen = self._seen.get(_key(wanted)) if wanted else None
        if seen is not None:
            view = seen.rows[state.row % PAGE] if state.row % PAGE < len(seen.rows) else None
            self._state = replace(state, view=view, total=seen.total, unseen=seen.problem)
        elif state.view is not None and state.view.number != state.row + 1:
            self._state = replace(state, view=None)
        self.refresh_all()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys that would do nothing are not shown and do nothing."""
        state = self._state
        if action in ("help", "leave", "focus_next"):
            return True
        if state is None:
            return action == "again" and bool(self._problem)
        sees = "sees" in self._stand
        if action == "tick":
            return state.finding is not None and bool(remedy(state.finding, state.page, state.chosen)[0])
        if action == "turn":
            return state.page.max_length is not None
        if action == "row":
            return sees and (state.total or 0) > 1
        if action in ("view", "zoom"):
            return sees and state.view is not None
        if action == "inspect":
            return state.finding is not None and bool(state.finding.lines)
        return True

    @property
    def _on_tokens(self) -> bool:
        return self.focused is not None and self.focused.id == "sees"

    def action_tick(self) -> None:
        """The remedy of the finding under the cursor, or no longer."""
        state = self._state
        if state is None or state.finding is None:
            return
        self._show(ticked(state.finding, state.page, state.chosen))
        if self._to_look() is not None:
            self._look()

    def action_turn(self, by: int) -> None:
        """Another length."""
        if self._state is not None:
            self._show(turned(self._state.page, self._state.chosen, by))

    def action_row(self, by: int) -> None:
        """Another row, token by token."""
        state = self._state
        if state is not None and state.total:
            row = max(0, min(state.total - 1, state.row + by))
            self._state = replace(state, row=row, scroll=0)
            self._see()

    def action_move(self, by: int) -> None:
        """Another finding, or further down in the row."""
        state = self._state
        if state is None:
            return
        if self._on_tokens:
            pane = self.query_one("#sees", Pane)
            most = max(0, len(row_lines(self._shown(state), pane.size.width, pane.size.height)) - pane.size.height + 1)
            self._state = replace(state, scroll=max(0, min(most, state.scroll + by)))
        else:
            self._state = replace(state, at=max(0, min(len(state.counts.findings) - 1, state.at + by)))
        self.refresh_all()

    def action_page(self, by: int) -> None:
        """As much as is to be seen."""
        pane = self.query_one("#sees" if self._on_tokens else "#findings")
        self.action_move(by * max(1, pane.size.height - 2))

    def action_edge(self, which: int) -> None:
        """The first or the last."""
        self.action_move(10**6 if which else -(10**6))

    def action_view(self) -> None:
        """Text, tokens, ids."""
        if self._state is not None:
            self._mode = MODES[(MODES.index(self._shown(self._state).mode) + 1) % len(MODES)]
            self.say(f"what the model sees as {self._mode}")

    def action_zoom(self) -> None:
        """The tokens over the whole screen, and back."""
        self._zoomed = not self._zoomed
        self.refresh_all()
        self.query_one("#sees" if self._zoomed else "#findings").focus()

    def action_inspect(self) -> None:
        """The rows of the finding under the cursor."""
        state = self._state
        if state is not None and state.finding is not None:
            self.app.push_screen(lines_screen(state.finding, state.page.texts))

    def action_again(self) -> None:
        """Look once more: the files may have changed."""
        self._again, self._problem = True, ""
        self._seen.clear()
        self._look()

    def action_use(self) -> None:
        """Back with what is ticked, unless nothing could start with it."""
        state = self._state
        if state is not None and (reason := obstacle(state.page, state.counts)):
            self.say(f"✗ {reason}")
        else:
            self.dismiss()

    def action_leave(self) -> None:
        """One layer out: the whole screen, then the page."""
        if self._zoomed:
            self.action_zoom()
        else:
            self.dismiss()


def _key(wanted: Wanted) -> str:
    """By what the trainer's rows are remembered."""
    page, *rest = wanted
    return f"{page.form} {rest}"
