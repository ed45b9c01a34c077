"""One run, live: loss, memory, what it says; or why it failed."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Input

from tuiapp import format as f
from tuiapp.glyphs import BROKEN
from tuiapp.layout import Places, live_places
from tuiapp.live_keys import HELPS, LIVE_KEYS
from tuiapp.live_pages import copied, page_of
from tuiapp.live_rules import HELP, NUMBERED, WHAT, Offer, allowed, lines_of, status_words
from tuiapp.messages import (
    AfterAsked,
    ChatAsked,
    CheckpointAsked,
    CompareAsked,
    EvaluateAsked,
    ForkAsked,
    OpenRun,
    PinAsked,
    ResumeAsked,
)
from tuiapp.remedies import choices
from tuiapp.screens.base import DeckScreen
from tuiapp.screens.panes import PanesScreen
from tuiapp.screens.pick import PickScreen, baselines
from tuiapp.screens.stop import ask_to_stop
from tuiapp.screens.words import WordsScreen
from tuiapp.snapshot import RunDetail, RunLine
from tuiapp.widgets import texts
from tuiapp.widgets.chart_pane import ChartPane, LossPane
from tuiapp.widgets.choice_pane import ChoicePane
from tuiapp.widgets.curves import WIDE, metric, small_charts, views
from tuiapp.widgets.error_panel import choice_count, error_panel
from tuiapp.widgets.head import live_head
from tuiapp.widgets.health_pane import health_length, health_pane
from tuiapp.widgets.live_state import LiveState, x_axes
from tuiapp.widgets.log_pane import LogPane
from tuiapp.widgets.memory import memory_pane
from tuiapp.widgets.narrow import narrow_live
from tuiapp.widgets.pane import FocusPane
from tuiapp.widgets.rows import Rows, line, spread
from tuiapp.widgets.smooth import LEVELS

PATIENCE = 0.3
"""Seconds that the run before stays on screen until the next one has been read: nothing flashes empty."""


class LiveScreen(PanesScreen):
    """The run with this id; `order` gives the runs that [ and ] go through."""

    place = "Live run"
    main = "loss"
    about = "One run, while it trains and afterwards."

    BINDINGS: ClassVar[list[BindingType]] = [
        *LIVE_KEYS,
        DeckScreen.HELP_KEY,
        Binding("q,escape", "leave", "back", id="back", tooltip="back; the run goes on"),
    ]

    def __init__(self, run_id: str, order: Callable[[], list[str]]) -> None:
        super().__init__()
        self.run_id = run_id
        self._order = order
        self._view: str | None = None
        self._log = False
        self._smoothing = 0
        self._x = "step"
        self._prompt = 0
        self._before: RunDetail | None = None
        self._turned = 0.0

    def compose(self) -> ComposeResult:
        """The panes; where they stand is decided by size."""
        yield Rows(id="head", classes="placed")
        yield Rows(id="narrow", classes="placed")
        yield ChoicePane(error_panel, choice_count, id="error", help_text=HELP["error"])
        yield LossPane(id="loss", help_text=HELP["loss"])
        yield ChartPane(small_charts, id="curves", help_text=HELP["curves"])
        yield FocusPane(texts.samples_pane, id="samples", help_text=HELP["samples"])
        yield LogPane(id="log", help_text=HELP["log"])
        yield ChartPane(memory_pane, id="memory", help_text=HELP["memory"])
        yield ChoicePane(health_pane, health_length, id="health", help_text=HELP["health"])
        yield FocusPane(
            texts.checkpoints_pane, id="checkpoints", help_text=HELP["checkpoints"], length=texts.checkpoint_length
        )
        yield FocusPane(texts.events_pane, id="events", help_text=HELP["events"], length=texts.event_length)
        yield FocusPane(texts.facts_pane, id="facts", help_text=HELP["facts"], length=texts.fact_length)
        yield Rows(id="rule", classes="placed")
        yield Rows(id="status", classes="placed")
        yield Rows(id="keys", classes="placed")
        yield Input(id="search", compact=True, select_on_focus=False)

    def on_mount(self) -> None:
        """The search field is there when it is asked for."""
        self.query_one("#search").display = False
        super().on_mount()

    def turn_to(self, run_id: str) -> None:
        """Show another run, as soon as it has been read."""
        self._before, self._turned = self.detail, time.monotonic()
        self.run_id, self._view, self._prompt = run_id, None, 0
        for pane in self.query(ChoicePane).results(ChoicePane):
            pane.to_first()
        self.refresh_all()
        self.set_timer(PATIENCE, self.refresh_all)

    @property
    def detail(self) -> RunDetail | None:
        """The run in detail; until that arrives what its row knows, or for a moment the run before it."""
        snapshot = self.snapshot
        if snapshot is None:
            return None
        if snapshot.detail is not None and snapshot.detail.run.id == self.run_id:
            return snapshot.detail
        if self._before is not None and time.monotonic() - self._turned < PATIENCE:
            return self._before
        run = next((run for run in snapshot.runs if run.id == self.run_id), None)
        return RunDetail(run=run) if run is not None else None

    @property
    def run(self) -> RunLine | None:
        """The run that is shown."""
        return self.detail.run if self.detail is not None else None

    def places(self, width: int, height: int) -> Places:
        """See `layout`."""
        lines = lines_of(self.detail) if self.detail is not None else {}
        return live_places(width, height, zoom=self._zoom, error=self._shown() == WHAT, lines=lines)

    def draw(self) -> None:
        """Everything from the newest snapshot."""
        snapshot, detail, width = self.snapshot, self.detail, self.size.width
        self.query_one("#head", Rows).show(live_head(snapshot, detail, self.run_id, width))
        self.query_one("#rule", Rows).show([line(("│", "$dim"))] * self.size.height)
        if snapshot is not None and detail is not None:
            state = self._state(detail)
            for pane in self.query(FocusPane).results():
                if pane.display:
                    pane.feed(state)
            narrow = self.query_one("#narrow", Rows)
            if narrow.display:
                narrow.show(narrow_live(state, snapshot.machine, width, max(1, self._stand["narrow"].height)))
        self.show_status(self._status(width))
        self.show_keys()
        self._place_search()
        self.keep_focus()

    def _state(self, detail: RunDetail) -> LiveState:
        """What the panes draw."""
        snapshot, view = self.snapshot, self._shown()
        pinned = snapshot.baseline if snapshot is not None else None
        return LiveState(
            detail, snapshot.now if snapshot is not None else 0.0, "loss" if view == WHAT else view, self._log,
            self._smoothing, self._x if self._x in x_axes(detail) else "step", self._prompt,
            pinned if pinned is not None and pinned.run.id != detail.run.id else None,
        )  # fmt: skip

    def _views(self) -> list[str]:
        detail = self.detail
        if detail is None:
            return ["loss"]
        if detail.run.status not in BROKEN:
            return views(detail)
        return [WHAT, *(views(detail) if any(detail.curves.values()) else [])]

    def _shown(self) -> str:
        found = self._views()
        return self._view if self._view in found and self._view is not None else found[0]

    def _status(self, width: int) -> Content:
        snapshot, detail = self.snapshot, self.detail
        if snapshot is None:
            return line((" reading the run …", "$dim"))
        if detail is None:
            return line((f" No run {f.clean(self.run_id)} in {f.clean(snapshot.database)}", "$warn"))
        loss = self.query_one("#loss", LossPane)
        end = line((f"{loss.points} " if loss.display and loss.size.width < WIDE else "", "$dim"))
        return spread(line((f" {status_words(detail, snapshot.now, width)}", "$dim")), end, width)

    def deck_bindings(self) -> list[Binding]:
        """With a run that failed first what helps."""
        own = super().deck_bindings()
        if self._shown() != WHAT:
            return own
        helps = [
            replace(one, description=HELPS[name], show=True) for name in HELPS for one in own if one.action == name
        ]
        return [*helps, *(one for one in own if one.action not in HELPS)]

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys that would do nothing are not shown and do nothing."""
        snapshot, detail = self.snapshot, self.detail
        if self.is_mounted and self.query_one("#search").has_focus:
            return action in ("leave", "help")
        return allowed(action, Offer(
            detail, snapshot is not None and not snapshot.read_only, self.size.width, self.size.height, self._shown(),
            len(self._views()), len(x_axes(detail)) if detail is not None else 1, self._zoom,
        ))  # fmt: skip

    def action_choose(self) -> None:
        """What the cursor of the panel is on."""
        self.query_one("#error", ChoicePane).action_choose()

    def action_stop(self) -> None:
        """Ask, then stop."""
        detail = self.detail
        if detail is not None:
            sizes = [point.gib for point in detail.checkpoints if point.gib is not None]
            ask_to_stop(self.deck, detail.run, sizes[-1] if sizes else None)

    def action_resume(self) -> None:
        """Go on."""
        if self.run is not None:
            self.post_message(ResumeAsked(self.run.id))

    def action_chat(self) -> None:
        """It and its base, side by side."""
        if self.run is not None:
            self.post_message(ChatAsked((self.run.id,)))

    def action_save(self) -> None:
        """A checkpoint, now."""
        if self.run is not None:
            self.post_message(CheckpointAsked(self.run.id))

    def action_evaluate(self) -> None:
        """An evaluation, now."""
        if self.run is not None:
            self.post_message(EvaluateAsked(self.run.id))

    def action_after(self) -> None:
        """Is it better than its base, and what can be made of it."""
        if self.run is not None:
            self.post_message(AfterAsked(self.run.id))

    def action_fork(self) -> None:
        """A run like this one, with the remedy of the finding or of the choice that the cursor is on."""
        detail, pane = self.detail, self.focused
        if detail is None:
            return
        changes: tuple[tuple[str, object], ...] = ()
        if isinstance(pane, ChoicePane) and pane.id == "health" and detail.health:
            changes = detail.health[pane.place].changes
        elif isinstance(pane, ChoicePane) and pane.id == "error":
            changes = choices(detail)[pane.place].changes
        self.post_message(ForkAsked(detail.run.id, changes))

    def action_new(self) -> None:
        """The wizard."""
        self.deck.open_wizard()

    def action_pane(self, number: int) -> None:
        """Go to a pane by its number; one that has no room here gets the whole screen."""
        self.go_to("error" if number == 1 and self._shown() == WHAT else NUMBERED[number - 1])

    def action_view(self) -> None:
        """The next curve."""
        found = self._views()
        place = (found.index(self._shown()) + 1) % len(found)
        self._view = found[place]
        name = self._view if self._view == WHAT else metric(self._view).name
        self.say(f"view: {name[:1].lower()}{name[1:]}, {place + 1} of {len(found)}")

    def action_x(self) -> None:
        """What the charts go along."""
        known = x_axes(self.detail) if self.detail is not None else ["step"]
        place = known.index(self._x) + 1 if self._x in known else 0
        self._x = known[place % len(known)]
        self.say(f"x axis: {self._x}, of {', '.join(known)}")

    def action_log(self) -> None:
        """Linear or logarithmic."""
        self._log = not self._log
        self.say("y axis: logarithmic" if self._log else "y axis: linear")

    def action_smooth(self, by: int) -> None:
        """More or less smoothing."""
        self._smoothing = max(0, min(len(LEVELS) - 1, self._smoothing + by))
        weight = LEVELS[self._smoothing]
        self.say(f"smoothing {weight:g}, what was measured behind it" if weight else "no smoothing")

    def action_prompt(self, by: int) -> None:
        """What the model answers to another prompt."""
        self._prompt += by
        self.refresh_all()

    def action_turn(self, by: int) -> None:
        """The run before or after this one in the list."""
        order = self._order()
        place = order.index(self.run_id) + by if self.run_id in order else -1
        if not 0 <= place < len(order):
            self.say("this is the last run of the list" if by > 0 else "this is the first run of the list")
            return
        self.turn_to(order[place])
        self.post_message(OpenRun(self.run_id))

    def action_pin(self) -> None:
        """Choose the run whose curve is drawn underneath."""
        options = baselines(self.snapshot.runs if self.snapshot is not None else (), self.run_id, self.deck.baseline)
        if options:
            title = "Which run's curve to draw underneath? The number is its best eval."
            self.app.push_screen(PickScreen(title, options), self._pinned)
        else:
            self.say("there is no other run to compare with")

    def action_compare(self) -> None:
        """Side by side with the baseline, or with a run to be chosen."""
        if self.deck.baseline not in (None, self.run_id):
            self._beside(self.deck.baseline)
        elif options := baselines(self.snapshot.runs if self.snapshot is not None else (), self.run_id, None):
            self.app.push_screen(
                PickScreen("Compare with which run? The number is its best eval.", options), self._beside
            )
        else:
            self.say("there is no other run to compare with")

    def _beside(self, other: str | None) -> None:
        if other is not None:
            self.post_message(CompareAsked((other, self.run_id)))

    def _pinned(self, run_id: str | None) -> None:
        if run_id is not None:
            self.post_message(PinAsked(run_id or None))

    def action_inspect(self) -> None:
        """Everything known about what the pane shows."""
        detail, pane = self.detail, self.focused
        name = pane.id or "" if isinstance(pane, FocusPane) else "loss"
        if detail is None:
            return
        if name in ("log", "error"):
            self._zoom_to("log")
            return
        page = page_of(name, self._state(detail), pane.place if isinstance(pane, ChoicePane) else 0)
        if page is None:
            self._zoom_to(name)
        else:
            self.app.push_screen(WordsScreen(page.title, page.build, page.keys), self._answered)

    def _answered(self, key: str | None) -> None:
        if key == "f":
            self.action_fork()

    def on_choice_pane_chosen(self, message: ChoicePane.Chosen) -> None:
        """Enter on a finding, or on something that helps."""
        detail = self.detail
        if message.pane_id == "health":
            self.action_inspect()
        elif detail is not None:
            choice = choices(detail)[message.place]
            actions = {"resume": self.action_resume, "fork": self.action_fork, "log": self.action_inspect}
            actions[choice.action]()

    def action_copy(self) -> None:
        """What the pane says, to the clipboard of the terminal."""
        pane = self.focused
        if self.detail is None or not isinstance(pane, FocusPane):
            return
        place = pane.place if isinstance(pane, ChoicePane) else 0
        text = copied(pane.id or "", self._state(self.detail), place, pane.text)
        self.app.copy_to_clipboard(text)
        count = text.count("\n") + 1
        self.say(f"copied {count:,} line{'' if count == 1 else 's'}, if the terminal takes it (OSC 52)")

    def action_leave(self) -> None:
        """One layer out: the search, the zoom, then the screen."""
        if self.query_one("#search").display:
            self._close_search("")
        elif self.query_one("#log", LogPane).words:
            self.query_one("#log", LogPane).search("")
        elif self._zoom is not None:
            self._unzoom()
        else:
            self.dismiss()

    def action_search(self) -> None:
        """Look for a text in the log."""
        log, field = self.query_one("#log", LogPane), self.query_one("#search", Input)
        if not log.display:
            self._zoom_to("log")
        field.display = True
        field.value = log.words
        self.refresh_all()
        field.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Search as one types."""
        self.query_one("#log", LogPane).search(event.value)

    def on_input_submitted(self) -> None:
        """Enter goes to the log; what was looked for stays set off."""
        self._close_search(self.query_one("#search", Input).value)

    def _close_search(self, words: str) -> None:
        self.query_one("#search").display = False
        self.query_one("#log", LogPane).search(words)
        self.query_one("#log").focus()
        self.refresh_all()

    def _place_search(self) -> None:
        field = self.query_one("#search", Input)
        if field.display:
            self.query_one("#status", Rows).show([line((" search ", "$accent"))])
            field.styles.offset = (8, self.size.height - 2)
            field.styles.width = max(4, self.size.width - 9)
