"""One run, live: loss, memory, what it says; or why it failed."""

from collections.abc import Callable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widget import Widget

from tuiapp import format as f
from tuiapp.glyphs import ACTIVE, BROKEN, RESUMABLE, STOPPABLE
from tuiapp.layout import Places, is_narrow, live_places
from tuiapp.messages import OpenRun, ResumeAsked
from tuiapp.screens.base import DeckScreen
from tuiapp.screens.stop import ask_to_stop
from tuiapp.snapshot import RunDetail, RunLine
from tuiapp.widgets import texts
from tuiapp.widgets.curves import LiveState, loss_pane, metric, small_charts, views
from tuiapp.widgets.error_panel import error_panel
from tuiapp.widgets.head import elapsed, progress_line, state, where_line
from tuiapp.widgets.memory import memory_pane
from tuiapp.widgets.narrow import narrow_live
from tuiapp.widgets.pane import FocusPane
from tuiapp.widgets.rows import Rows, line, spread
from tuiapp.widgets.smooth import LEVELS
from tuiapp.widgets.strip import strip_line

PANES = ("error", "loss", "curves", "samples", "log", "events", "memory", "checkpoints", "facts")
WHAT = "what happened"

LOSS_HELP = (
    "How wrong the model is on the next token: the line is the rows it trains on, o the rows kept aside. "
    "Both should fall; if only o rises it is over-fitting: stop, or train fewer epochs."
)


class LiveScreen(DeckScreen):
    """The run with this id; `order` gives the runs that [ and ] go through."""

    place = "Live run"

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "stop", "stop+save", tooltip="stop, with a checkpoint first"),
        Binding("r", "resume", "resume", tooltip="go on from the last checkpoint"),
        Binding("z", "zoom", "zoom", tooltip="this pane alone, and back"),
        Binding("v", "view", "view", tooltip="the next curve"),
        Binding("y", "log", "log", tooltip="y axis linear or logarithmic"),
        Binding("plus", "smooth(1)", "smooth", key_display="+ -", tooltip="smoother"),
        Binding("minus", "smooth(-1)", "rougher", show=False, tooltip="rougher"),
        Binding("left_square_bracket", "turn(-1)", "run", key_display="[ ]", tooltip="previous run"),
        Binding("right_square_bracket", "turn(1)", "next run", show=False, tooltip="next run"),
        Binding("ctrl+o", "turn(-1)", show=False),
        Binding("ctrl+n", "turn(1)", show=False),
        Binding("1", "pane(1)", "first pane", show=False, tooltip="that pane", key_display="1–8"),
        *(Binding(str(i), f"pane({i})", show=False) for i in range(2, 9)),
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
        self._zoom: str | None = None

    def compose(self) -> ComposeResult:
        """The panes; where they stand is decided by size."""
        yield Rows(id="head", classes="placed")
        yield Rows(id="narrow", classes="placed")
        yield FocusPane(error_panel, id="error", help_text="Why the run ended, and what helps.")
        yield FocusPane(loss_pane, id="loss", help_text=LOSS_HELP)
        yield FocusPane(small_charts, id="curves", help_text="The other curves of this run.")
        yield FocusPane(
            texts.samples_pane, id="samples", help_text="What the model answers.", length=texts.sample_length
        )
        yield FocusPane(
            texts.log_pane, id="log", help_text="What the process writes.", length=texts.log_length, from_end=True
        )
        yield FocusPane(texts.events_pane, id="events", help_text="What happened.", length=texts.event_length)
        yield FocusPane(memory_pane, id="memory", help_text="Memory of the card, as the driver says.")
        yield FocusPane(
            texts.checkpoints_pane,
            id="checkpoints",
            help_text="Saved states.",
            length=texts.checkpoint_length,
        )
        yield FocusPane(texts.facts_pane, id="facts", help_text="What it is made of.", length=texts.fact_length)
        yield Rows(id="rule", classes="placed")
        yield Rows(id="status", classes="placed")
        yield Rows(id="keys", classes="placed")

    @property
    def detail(self) -> RunDetail | None:
        """The run in detail, or what its row in the list knows until that arrives."""
        snapshot = self.snapshot
        if snapshot is None:
            return None
        if snapshot.detail is not None and snapshot.detail.run.id == self.run_id:
            return snapshot.detail
        run = next((run for run in snapshot.runs if run.id == self.run_id), None)
        return RunDetail(run=run) if run is not None else None

    @property
    def run(self) -> RunLine | None:
        """The run's row."""
        return self.detail.run if self.detail is not None else None

    def places(self, width: int, height: int) -> Places:
        """See `layout`."""
        detail = self.detail
        samples = bool(detail and detail.samples)
        return live_places(width, height, zoom=self._zoom, error=self._shown() == WHAT, samples=samples)

    def draw(self) -> None:
        """Everything from the newest snapshot."""
        snapshot, detail, width = self.snapshot, self.detail, self.size.width
        self.query_one("#head", Rows).show(self._head(width))
        self.query_one("#rule", Rows).show([line(("│", "$dim"))] * self.size.height)
        if snapshot is not None and detail is not None:
            view = self._shown()
            state = LiveState(detail, snapshot.now, "loss" if view == WHAT else view, self._log, self._smoothing)
            for pane in self.query(FocusPane).results():
                if pane.display:
                    pane.feed(state)
            narrow = self.query_one("#narrow", Rows)
            if narrow.display:
                narrow.show(narrow_live(state, snapshot.machine, width, max(1, self._stand["narrow"].height)))
        self.show_status(self._status(width))
        self.show_keys()
        if self.is_current and (self.focused is None or not self.focused.display):
            self._focus_first()

    def _views(self) -> list[str]:
        detail = self.detail
        if detail is None:
            return ["loss"]
        broken = detail.run.status in BROKEN
        found = views(detail.curves)
        return [WHAT, *(found if any(detail.curves.values()) else [])] if broken else found

    def _shown(self) -> str:
        found = self._views()
        return self._view if self._view in found and self._view is not None else found[0]

    def _head(self, width: int) -> list[Content]:
        snapshot, detail = self.snapshot, self.detail
        if snapshot is None or detail is None:
            return [where_line("Runs", width, name=self.run_id)]
        run = detail.run
        more = f"   {f.clean(run.id)}" if width >= 120 else ""
        right = (state(run.status), f"{more}   {f.clean(snapshot.machine.host)}")
        return [
            where_line("Runs", width, *right, name=run.name),
            strip_line(snapshot.machine, width),
            progress_line(detail, snapshot.now, width),
        ]

    def _status(self, width: int) -> Content:
        snapshot, detail = self.snapshot, self.detail
        if snapshot is None:
            return line((" reading the run …", "$dim"))
        if detail is None:
            return line((f" No run {f.clean(self.run_id)} in {f.clean(snapshot.database)}", "$warn"))
        run = detail.run
        words = [f"{f.duration(elapsed(run, snapshot.now))} elapsed" if run.started_at is not None else "not begun"]
        if run.ended_at is None and detail.ends_at is not None:
            words[0] += f", {f.duration(detail.ends_at - snapshot.now)} left"
        words += _checkpoint_words(detail)
        if detail.supervisor_pid is not None and run.status in ACTIVE and width >= 120:
            words.append(f"supervisor pid {detail.supervisor_pid}: closing this window changes nothing")
        points = len(detail.curves.get("loss", ()))
        end = line((f"{points:,} points ", "$dim")) if width >= 60 else line("")
        return spread(line((f" {'   '.join(words)}", "$dim")), end, width)

    def _panes(self) -> list[Widget]:
        panes = [self.query_one(f"#{name}") for name in PANES]
        return [pane for pane in panes if pane.display]

    def _focus_first(self) -> None:
        if panes := self._panes():
            panes[0].focus()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys that would do nothing are not shown and do nothing."""
        run, snapshot = self.run, self.snapshot
        writable = snapshot is not None and not snapshot.read_only
        if action == "stop":
            return run is not None and writable and run.status in STOPPABLE
        if action == "resume":
            return run is not None and writable and run.status in RESUMABLE
        small = is_narrow(self.size.width, self.size.height)
        if action == "view":
            return not small and len(self._views()) > 1
        if action in ("zoom", "pane", "log", "smooth"):
            return not small and (action in ("zoom", "pane") or self._shown() != WHAT)
        return True

    def action_stop(self) -> None:
        """Ask, then stop."""
        if self.run is not None:
            ask_to_stop(self.deck, self.run)

    def action_resume(self) -> None:
        """Go on."""
        self.post_message(ResumeAsked(self.run_id))

    def action_zoom(self) -> None:
        """The focused pane over the whole screen, and back."""
        if self._zoom is not None:
            self._unzoom()
        elif self.focused is not None and self.focused.id in PANES:
            self._zoom = self.focused.id
            self.refresh_all()

    def _unzoom(self) -> None:
        zoomed, self._zoom = self._zoom, None
        self.refresh_all()
        if zoomed:
            self.query_one(f"#{zoomed}").focus()

    def action_view(self) -> None:
        """The next curve."""
        found = self._views()
        self._view = found[(found.index(self._shown()) + 1) % len(found)]
        name = self._view if self._view == WHAT else metric(self._view).name
        self.say(f"view: {name.lower()}")

    def action_log(self) -> None:
        """Linear or logarithmic."""
        self._log = not self._log
        self.say("y axis: logarithmic" if self._log else "y axis: linear")

    def action_smooth(self, by: int) -> None:
        """More or less smoothing."""
        self._smoothing = max(0, min(len(LEVELS) - 1, self._smoothing + by))
        weight = LEVELS[self._smoothing]
        self.say(f"smoothing {weight:g}, what was measured behind it" if weight else "no smoothing")

    def action_turn(self, by: int) -> None:
        """The run before or after this one in the list."""
        order = self._order()
        place = order.index(self.run_id) + by if self.run_id in order else -1
        if not 0 <= place < len(order):
            self.say("this is the last run of the list" if by > 0 else "this is the first run of the list")
            return
        self._view = None
        self.run_id = order[place]
        self.post_message(OpenRun(self.run_id))

    def action_pane(self, number: int) -> None:
        """Go to a pane by its number."""
        panes = self._panes()
        if number <= len(panes):
            panes[number - 1].focus()

    def action_leave(self) -> None:
        """One layer out: the zoom, then the screen."""
        if self._zoom is not None:
            self._unzoom()
        else:
            self.dismiss()


def _checkpoint_words(detail: RunDetail) -> list[str]:
    kept = [point for point in detail.checkpoints if point.kept]
    if not kept:
        return []
    scored = [point for point in kept if point.eval_loss is not None]
    if scored:
        best = min(scored, key=lambda point: point.eval_loss or 0.0)
        return [f"best checkpoint: step {best.step:,}"]
    return [f"last checkpoint: step {kept[-1].step:,}"]
