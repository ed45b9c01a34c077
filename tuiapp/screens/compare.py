"""Runs side by side: what differs, what came of it, their curves and what they answer."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widget import Widget

from engine.compare import in_order
from engine.compare_curves import Axis
from tuiapp import format as f
from tuiapp.background import in_thread, sentence, settle
from tuiapp.compare_keys import COMPARE_KEYS, HELP, NUMBERED
from tuiapp.compare_layout import compare_places, is_wide
from tuiapp.compare_pages import copied, page_of
from tuiapp.compare_rules import ACROSS, EXPORTS, LENGTHS, allowed, status_words
from tuiapp.compare_values import ComparePage, CompareQuestion, CompareState, drawn_of, guessed
from tuiapp.layout import Places, is_narrow
from tuiapp.messages import OpenRun, PinAsked
from tuiapp.screens.dialogs import error_dialog
from tuiapp.screens.panes import PanesScreen
from tuiapp.screens.pick import Option, PickScreen, baselines
from tuiapp.screens.words import WordsScreen
from tuiapp.snapshot import Snapshot
from tuiapp.widgets import compare_chart as chart
from tuiapp.widgets import compare_side as side
from tuiapp.widgets import compare_table as tables
from tuiapp.widgets.compare_narrow import narrow_pane
from tuiapp.widgets.cursor_pane import CursorMoved, CursorPane
from tuiapp.widgets.head import database, where_line
from tuiapp.widgets.pane import FocusPane
from tuiapp.widgets.rows import Rows, line, spread
from tuiapp.widgets.smooth import LEVELS

AGAIN = 2.0
"""Seconds that pass at least before runs at work are read again."""


@dataclass(frozen=True)
class Manner:
    """How the person wants to see it, whatever was read."""

    column: int = 0
    first: int = 1
    everything: bool = False
    x: Axis = "step"
    log: bool | None = None
    smoothing: int = 0
    prompt: int = 0
    back: int = 0


class CompareScreen(PanesScreen):
    """The runs with these ids; `read` may block and raises TuneDeckError. The baseline stands first."""

    place = "Compare"
    main = "chart"
    about = "Runs side by side. B is the baseline; left and right choose a column, p makes it the baseline, Enter opens its run."

    BINDINGS: ClassVar[list[BindingType]] = COMPARE_KEYS

    def __init__(
        self, read: Callable[[CompareQuestion], ComparePage], run_ids: tuple[str, ...], baseline: str | None
    ) -> None:
        super().__init__()
        self._read = read
        first = (baseline,) if baseline in run_ids and baseline is not None else ()
        self._ids = tuple(dict.fromkeys((*first, *run_ids)))
        self._manner = Manner()
        self._key = ""
        self._page: ComparePage | None = None
        self._problem = ""
        self._version: object = None
        self._at = 0.0
        self._asking = False
        self._fed: object = None

    def compose(self) -> ComposeResult:
        """The panes; where they stand is decided by size and by what there is."""
        yield Rows(id="head", classes="placed")
        yield CursorPane[CompareState](narrow_pane, id="narrow", help_text=self.about)
        yield CursorPane[CompareState](tables.differs_pane, id="differs", help_text=HELP["differs"])
        yield CursorPane[CompareState](tables.result_pane, id="result", help_text=HELP["result"])
        yield FocusPane[CompareState](chart.chart_pane, id="chart", help_text=HELP["chart"])
        for name, build, length in (
            ("samples", side.samples_pane, side.samples_length),
            ("hints", side.hints_pane, side.hints_length),
            ("reached", side.reached_pane, side.reached_length),
            ("memory", side.memory_pane, side.memory_length),
            ("lineage", side.lineage_pane, side.lineage_length),
            ("said", side.said_pane, side.said_length),
        ):
            yield FocusPane[CompareState](build, id=name, help_text=HELP[name], length=length)
        yield CursorPane[CompareState](chart.curves_pane, id="curves", help_text=HELP["curves"])
        yield Rows(id="rule", classes="placed")
        yield Rows(id="status", classes="placed")
        yield Rows(id="keys", classes="placed")

    def on_mount(self) -> None:
        """Read in the background; what differs has the focus."""
        super().on_mount()
        self._look()

    @property
    def state(self) -> CompareState | None:
        """What the panes draw."""
        return CompareState(self._page, **vars(self._manner)) if self._page is not None else None

    def feed(self, snapshot: Snapshot) -> None:
        """What is known to have changed is read again, not more often than people can read; the rest stays as it is."""
        version = tuple(run for run in snapshot.runs if run.id in self._ids)
        if version != self._version and (self._page is None or time.monotonic() - self._at >= AGAIN):
            self._version, self._at = version, time.monotonic()
        super().feed(snapshot)
        self._look()

    def _question(self) -> CompareQuestion | None:
        """What is to be read and has not been."""
        page = self._page
        drawn = guessed(self._ids)
        if page is not None and page.asked.ids == self._ids:
            shown = tables.columns(len(page.comparison.runs), self._manner.first, self._table_width).shown
            drawn = tuple(page.comparison.runs[i].id for i in drawn_of(page.comparison, shown, self._manner.column))
        asked = CompareQuestion(self._ids, self._key, drawn, self._version)
        return None if page is not None and page.asked == asked else asked

    def _look(self) -> None:
        if not self._asking and self._question() is not None:
            self._asking = True
            self._settle()

    @work(group="compare", exit_on_error=False)
    async def _settle(self) -> None:
        """Ask until there is nothing new."""
        try:
            await settle(self._question, self._read, self._take)
        except Exception as error:  # shown in words, whatever it was
            self._problem = sentence(error)
        self._asking = False
        self.refresh_all()

    def _take(self, asked: CompareQuestion, page: ComparePage) -> None:
        if asked.ids == self._ids:
            self._page, self._key, self._problem = page, page.key, ""
            self.refresh_all()

    def places(self, width: int, height: int) -> Places:
        """See `compare_layout`."""
        state = self.state
        lines = {name: length(state) if state is not None else 0 for name, length in LENGTHS.items()}
        return compare_places(width, height, lines, self._zoom)

    def draw(self) -> None:
        """Everything, as far as it has been read."""
        width, state = self.size.width, self.state
        self.query_one("#head", Rows).show(self._head(width))
        self.query_one("#rule", Rows).show([line(("│", "$dim"))] * self.size.height)
        drawn = (self._page, self._manner, self._stand)
        if state is not None and drawn != self._fed:
            self._fed = drawn
            self.query_one("#curves", CursorPane).selected = self._key
            panes: list[FocusPane[CompareState] | CursorPane[CompareState]] = [
                *self.query(FocusPane).results(), *self.query(CursorPane).results()
            ]  # fmt: skip
            for pane in panes:
                if pane.display:
                    pane.feed(state)
        self._draw_status(width)
        self.show_keys()
        if self.is_current and state is not None and (self.focused is None or not self.focused.display):
            shown = [one for one in self.query(".placed").results(Widget) if one.display and one.can_focus]
            if shown:
                shown[0].focus()

    def _head(self, width: int) -> list[Content]:
        name, height = f"Compare {len(self._ids)}", self.size.height
        if is_narrow(width, height):
            return []
        host = f.clean(self.snapshot.machine.host) if self.snapshot is not None else ""
        path = (f"   {database(self.snapshot.database, width // 3)}", "$dim") if self.snapshot is not None else ""
        where = where_line("Runs", width, host, path, name=name)
        said = self._page.comparison.sentence if self._page is not None and not is_wide(width, height) else ""
        return [where, *(line(f" {text}") for text in f.wrap(said, width - 2, 2))]

    def _draw_status(self, width: int) -> None:
        page = self._page
        if self._problem:
            self.show_status(line((f" {f.clean(self._problem)}", "$bad")))
        elif page is None:
            self.show_status(line((" reading the runs …", "$dim")))
        else:
            count = len(page.comparison.runs)
            shown = len(tables.columns(count, self._manner.first, self._table_width).shown)
            runs = f"{count} runs " if shown == count or "narrow" in self._stand else f"{shown} of {count} runs "
            self.show_status(
                spread(line((f" {status_words(page.comparison, width)}", "$dim")), line((runs, "$dim")), width)
            )

    @property
    def _table_width(self) -> int:
        place = self._stand.get("differs") or self._stand.get("result")
        return place.width if place is not None else self.size.width

    def _change(self, **values: object) -> None:
        """Show it in another way."""
        self._manner = replace(self._manner, **values)  # type: ignore[arg-type]
        self.refresh_all()
        self._look()

    def deck_bindings(self) -> list[Binding]:
        """Left and right are called what they do where the focus is."""
        what = ACROSS.get(self.focused.id or "" if self.focused is not None else "", "run")
        return [
            replace(one, description=what) if one.action == "across(-1)" else one for one in super().deck_bindings()
        ]

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys that would do nothing are not shown and do nothing."""
        state = self.state
        if action in ("help", "leave", "back"):
            return True
        if state is None:
            return False
        name = self.focused.id or "" if self.focused is not None else ""
        return allowed(action, state, self._stand, ACROSS.get(name, "run"), self._zoom)

    def action_across(self, by: int) -> None:
        """Another column, in the chart another curve, in the samples another step."""
        state, name = self.state, self.focused.id or "" if self.focused is not None else ""
        if state is None:
            return
        if ACROSS.get(name) == "curve":
            keys = state.comparison.metrics
            self._choose_curve(keys[(keys.index(self._key) + by) % len(keys)] if self._key in keys else keys[0])
        elif ACROSS.get(name) == "step":
            self._change(back=max(0, min(side.most_steps(state) - 1, state.back - by)))
        else:
            self._to_column(max(0, min(len(state.comparison.runs) - 1, state.column + by)))

    def _to_column(self, column: int) -> None:
        count = len(self._page.comparison.runs) if self._page is not None else 1
        self._change(column=column, first=tables.first_for(column, self._manner.first, count, self._table_width))

    def _choose_curve(self, key: str) -> None:
        self._key = key
        self._look()

    def on_cursor_moved(self, message: CursorMoved) -> None:
        """The cursor of the list of curves chooses one, that of the narrow form a run."""
        if message.pane == "curves" and message.key != self._key:
            self._choose_curve(message.key)
        elif message.pane == "narrow" and self._page is not None:
            places = [i for i, run in enumerate(self._page.comparison.runs) if run.id == message.key]
            self._to_column(places[0] if places else 0)

    def action_view(self) -> None:
        """What is the same too, or only what differs."""
        self._change(everything=not self._manner.everything)

    def action_x(self) -> None:
        """What the chart goes along."""
        if (state := self.state) is not None:
            known = chart.axes_known(state)
            self._change(x=known[(known.index(chart.axis_of(state)) + 1) % len(known)])
            self.say(
                f"x axis: {chart.AXIS_NAMES[self._manner.x]}, of {', '.join(chart.AXIS_NAMES[one] for one in known)}"
            )

    def action_log(self) -> None:
        """Linear or logarithmic."""
        if (state := self.state) is not None:
            self._change(log=not chart.is_log(state))
        self.say("y axis: logarithmic" if self._manner.log else "y axis: linear")

    def action_smooth(self, by: int) -> None:
        """More or less smoothing."""
        self._change(smoothing=max(0, min(len(LEVELS) - 1, self._manner.smoothing + by)))
        weight = LEVELS[self._manner.smoothing]
        self.say(f"smoothing {weight:g}" if weight else "no smoothing: every spike is there")

    def action_prompt(self, by: int) -> None:
        """Another prompt."""
        self._change(prompt=self._manner.prompt + by)

    def action_pin(self) -> None:
        """Hold the others against the run of the column; where that is the baseline, against one to be chosen."""
        if self._page is None:
            return
        if self._manner.column:
            self._pinned(self._page.comparison.runs[self._manner.column].id)
        else:
            others = tuple(
                Option(run.id, run.name, f"{run.letter}   {run.id}") for run in self._page.comparison.runs[1:]
            )
            self.app.push_screen(PickScreen("Hold the others against which run?", others), self._pinned)

    def _pinned(self, run_id: str | None) -> None:
        if run_id:
            self._ids = tuple(in_order(self._ids, run_id))
            self.post_message(PinAsked(run_id))
            self._change(column=0)

    def action_open(self) -> None:
        """The run of the column, live."""
        if self._page is not None:
            self.post_message(OpenRun(self._page.comparison.runs[self._manner.column].id))

    def action_add(self) -> None:
        """One more run."""
        known = self.snapshot.runs if self.snapshot is not None else ()
        others = tuple(run for run in known if run.id not in self._ids)
        if options := baselines(others, "", None):
            self.app.push_screen(
                PickScreen("Compare which run too? The number is its best eval.", options), self._added
            )
        else:
            self.say("there is no other run to compare")

    def _added(self, run_id: str | None) -> None:
        if run_id:
            self._ids = (*self._ids, run_id)
            self._version = None
            self._look()

    def action_inspect(self) -> None:
        """The whole of a row, run by run."""
        state, pane = self.state, self.focused
        if state is None or pane is None:
            return
        page = page_of(pane.id or "", state, pane.selected if isinstance(pane, CursorPane) else "")
        if page is not None:
            self.app.push_screen(WordsScreen(*page))
        else:
            self.action_zoom()

    def action_export(self) -> None:
        """The comparison as a report, or every point of the runs, as a file in the working directory."""
        options = tuple(Option(form, words, about) for form, words, about in EXPORTS)
        self.app.push_screen(PickScreen("Write the comparison to a file, as what?", options), self._export)

    def _export(self, form: str | None) -> None:
        if form:
            self._write(form)

    @work(group="act", exit_on_error=False)
    async def _write(self, form: str) -> None:
        try:
            written = await in_thread(lambda: self.deck.services.export_compared(self._ids, form))
        except Exception as error:  # shown in a dialog, whatever it was
            self.app.push_screen(error_dialog(error))
            return
        self.say(f"written: {written}")

    def action_copy(self) -> None:
        """What the pane says, to the clipboard of the terminal."""
        pane = self.focused
        if self.state is None or not isinstance(pane, Rows):
            return
        text = copied(pane.id or "", self.state, pane.text)
        self.app.copy_to_clipboard(text)
        count = text.count("\n") + 1
        self.say(f"copied {count:,} line{'' if count == 1 else 's'}, if the terminal takes it (OSC 52)")

    def action_new(self) -> None:
        """The wizard."""
        self.deck.open_wizard()

    def action_pane(self, number: int) -> None:
        """Go to a pane by its number; one that has no room here gets the whole screen."""
        self.go_to(NUMBERED[number - 1])

    def action_leave(self) -> None:
        """One layer out: the zoom, then the screen."""
        if self._zoom is not None:
            self._unzoom()
        else:
            self.dismiss()
