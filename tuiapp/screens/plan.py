"""The plan page: what fits, how fast and why, and what every choice would cost before anything starts."""

from dataclasses import replace
from typing import Any, ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content

from tuiapp import format as f
from tuiapp.background import in_thread, sentence
from tuiapp.layout import WIDE, Places, is_narrow
from tuiapp.messages import RunStarted
from tuiapp.plan_layout import plan_places
from tuiapp.plan_services import PlanServices
from tuiapp.plan_values import FIELDS, LABELS, Draft, beside, different, obstacle, planned, settled, shown
from tuiapp.screens.base import DeckScreen
from tuiapp.screens.dialogs import Answer, AskScreen, error_dialog
from tuiapp.snapshot import NewRun, PlanValues, Snapshot, Traced
from tuiapp.widgets import plan_panes as panes
from tuiapp.widgets.head import where_line
from tuiapp.widgets.pane import FocusPane, Pane
from tuiapp.widgets.plan_panes import PlanState
from tuiapp.widgets.rows import Rows, line
from tuiapp.widgets.strip import strip_line

CHOICE_HELP = (
    "Each field with what is recommended and why. ← and → change it, and the bar shows at once what that takes of the card: "
    "weights, what is trained, activations, CUDA. What goes past │ does not fit."
)
ELSE_HELP = "Other ways to train the same, the best first. Space takes the one under the cursor."


class PlanScreen(DeckScreen):
    """The page for one form, of which only the model has to be there."""

    place = "Plan"
    about = "What fits on the card, how fast, and why. Turn a value and the bar and the time follow at once; nothing starts by itself."

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "start", "start", tooltip="start it as planned"),
        Binding("left,h", "turn(-1)", "change", key_display="←→", tooltip="the value before"),
        Binding("right,l", "turn(1)", "next value", show=False, key_display="hl", tooltip="the next value"),
        Binding("up,k", "move(-1)", "field", show=False, tooltip="the field above"),
        Binding("down,j", "move(1)", "field", show=False, tooltip="the field below"),
        Binding("g,home", "edge(0)", "first", show=False, tooltip="the first"),
        Binding("G,end", "edge(-1)", "last", show=False, tooltip="the last"),
        Binding("space", "take", "take", tooltip="take the alternative, or the nearest that fits"),
        Binding("equals_sign", "reset", "reset", key_display="=", tooltip="back to what is recommended"),
        Binding("u", "undo", "undo", tooltip="undo the last change"),
        Binding("v", "view", "table", tooltip="the alternatives, and back"),
        Binding("e", "trace", "exact", tooltip="trace the real step, about 20 s"),
        DeckScreen.HELP_KEY,
        Binding("q,escape", "leave", "back", id="back", tooltip="back; the choices are kept"),
    ]

    def __init__(self, services: PlanServices, form: NewRun, draft: Draft) -> None:
        super().__init__()
        self._services = services
        self._form = form
        self._draft = draft
        self._state: PlanState | None = None
        self._problem = ""
        self._table = False
        self._busy = "planning …"
        self._tracing = False
        self._traces: dict[tuple[str, PlanValues], Traced] = {}
        draft.open(form)

    def compose(self) -> ComposeResult:
        """The panes; where they stand is decided by size."""
        yield Rows(id="head", classes="placed")
        yield Pane(panes.verdict_pane, id="verdict")
        yield FocusPane(panes.choice_pane, id="choice", help_text=CHOICE_HELP)
        yield FocusPane(panes.else_pane, id="else", help_text=ELSE_HELP)
        yield Pane(panes.peak_pane, id="peak")
        yield Pane(panes.cards_pane, id="cards")
        yield Pane(panes.past_pane, id="past")
        yield Pane(panes.why_pane, id="why")
        yield Rows(id="rule", classes="placed")
        yield Rows(id="problem", classes="placed")
        yield Rows(id="sofar", classes="placed")
        yield Rows(id="status", classes="placed")
        yield Rows(id="keys", classes="placed")

    def on_mount(self) -> None:
        """Draw the first time, then begin."""
        super().on_mount()
        self.begin()

    def begin(self) -> None:
        """Plan at once; the page is drawn when the answer is there."""
        self.query_one("#choice").focus()
        self._plan(self._draft.card)

    def places(self, width: int, height: int) -> Places:
        """See below."""
        past = bool(self._state and self._state.page.past)
        if self._state is None:
            return plan_places(width, height, problem=True)
        return plan_places(width, height, table=self._table, past=past)

    def draw(self) -> None:
        """Everything."""
        width = self.size.width
        self.query_one("#head", Rows).show(self._head(width))
        self.query_one("#rule", Rows).show([line(("│", "$dim"))] * self.size.height)
        if self._state is not None:
            for pane in self.query(Pane).results():
                if pane.display:
                    pane.feed(self._state)
        self.query_one("#problem", Rows).show(self._in_the_way(width))
        self.show_status(self._status(width))
        self.show_keys()
        self.keep_focus()

    def feed(self, snapshot: Snapshot) -> None:
        """The names of runs may be new."""
        if self._state is not None:
            self._state = replace(self._state, names={run.id: run.name for run in snapshot.runs})
        super().feed(snapshot)

    def _head(self, width: int) -> list[Content]:
        host = self.snapshot.machine.host if self.snapshot is not None else ""
        name = self._state.page.model if self._state else f.model_name(self._form.model)
        data = f.model_name(self._form.data) if self._form.data else "no data named"
        rows = f", {self._state.page.rows:,} rows" if self._state and self._state.page.rows else ""
        right = ((f.clip(f"{data}{rows}", width - 40), "$dim"), f"   {f.clean(host)}") if width >= 60 else ()
        head = [where_line(self.place, width, *right, name=f.model_name(name))]
        return [*head, strip_line(self.snapshot.machine, width)] if self.snapshot is not None else head

    def _in_the_way(self, width: int) -> list[Content]:
        """Why there is no page."""
        if not self._problem:
            return [line((f" {self._busy}", "$dim"))]
        rows = [line((" ✗ There is no plan", "bold $bad")), line("")]
        rows += [line(f"   {text}") for text in f.wrap(self._problem, width - 5, 6)]
        return [*rows, line(""), line(("   Esc goes back to what was typed.", "$dim"))]

    def _status(self, width: int) -> Content:
        state = self._state
        if state is None:
            return line("")
        if self._busy or self._tracing:
            return line((f" {self._busy or 'tracing the real step, about 20 s …'}", "$warn"))
        return panes.status_line(state, set(self._draft.chosen or {}), width)

    @work(group="plan", exclusive=True, exit_on_error=False)
    async def _plan(self, card: str) -> None:
        """Ask for the plan on a card and lay what was chosen over it."""
        self._busy = "planning …"
        try:
            page = await in_thread(lambda: self._services.plan(self._form, card))
        except Exception as error:  # whatever it was: a sentence, and what was there stays
            self._busy = ""
            if self._state is None:
                self._problem = f.clean(sentence(error))
            else:
                self.say(sentence(error))
            self.refresh_all()
            return
        self._busy = ""
        self._draft.card = page.card
        if self._state is None:
            names = {run.id: run.name for run in self.snapshot.runs} if self.snapshot else {}
            # what there is to say about the data is said under the first field
            row = 0 if page.rows and page.notes else FIELDS.index("method")
            self._state = PlanState(page, page.recommended, row, names=names)
            self._look_at_others()
        self._state = replace(self._state, page=page, at=0)
        self._show(self._draft.first(page))

    @work(group="others", exclusive=True, exit_on_error=False)
    async def _look_at_others(self) -> None:
        """The other cards, when the page stands; they are the same for each that is planned for."""
        page = self._state.page if self._state else None
        if page is None:
            return
        try:
            found = await in_thread(lambda: self._services.other_cards(page))
        except Exception:  # the page is complete without them
            found = ()
        if self._state is not None:
            self._state = replace(self._state, others=found)
            self.refresh_all()

    def _show(self, chosen: dict[str, Any]) -> None:
        """Other values: the bar at once, the nearest that fits a moment later."""
        state = self._state
        if state is None:
            return
        best = state.page.recommended.values
        values = replace(best, **chosen)
        if "accumulation" not in chosen:
            values = settled(state.page, values)
        self._draft.chosen = different(values, best)
        choice = state.page.recommended if values == best else self._services.what_if(state.page, values)
        self._draft.choice = choice
        traced = self._traces.get((state.page.card, values))
        self._state = replace(state, choice=choice, near=None, traced=traced)
        self._hint()
        self.refresh_all()
        if choice.fits == "no":
            self._find_nearest()

    def _hint(self) -> None:
        """What the values beside the one under the cursor would take."""
        state = self._state
        if state is None:
            return
        name, values = state.field, state.choice.values
        texts: list[str] = []
        for by in (-1, 1) if name != "card" and state.choice.device_gib is not None else ():
            value = beside(state.page, values, name, by)
            if value != getattr(values, name) and not any(shown(name, value) in text for text in texts):
                gib = self._services.what_if(state.page, self._with(state, name, value)).device_gib
                texts.append(f"{shown(name, value)} takes {f.gib(gib)} GiB")
        self._state = replace(state, hint=f"{', '.join(texts)}." if texts else "")

    @staticmethod
    def _with(state: PlanState, name: str, value: Any) -> PlanValues:
        return settled(state.page, replace(state.choice.values, **{name: value}))

    @work(group="nearest", exclusive=True, exit_on_error=False)
    async def _find_nearest(self) -> None:
        state = self._state
        if state is None:
            return
        found = await in_thread(lambda: self._services.nearest(state.page, state.choice.values))
        if self._state is not None and self._state.choice is state.choice:
            self._state = replace(self._state, near=found)
            self.refresh_all()

    def _change(self, chosen: dict[str, Any]) -> None:
        """What a key chose, with what was chosen before kept for undo."""
        before = dict(self._draft.chosen or {})
        self._show(chosen)
        if self._draft.chosen != before:
            self._draft.past.append(before)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys that would do nothing are not shown and do nothing."""
        if action in ("help", "leave", "focus_next"):
            return True
        state = self._state
        if state is None:
            return False
        if action == "turn":
            return not self._on_table
        if action == "take":
            return self._on_table or state.near is not None
        if action == "undo":
            return bool(self._draft.past)
        if action == "reset":
            return bool(self._draft.chosen)
        if action == "view":
            return self.size.width < WIDE and not is_narrow(self.size.width, self.size.height)
        if action == "trace":
            # one process is traced, which says nothing of weights that several share
            return state.traced is None and not self._tracing and state.choice.layout in ("", "DDP")
        if action == "start":
            return self.snapshot is not None and not self.snapshot.read_only
        return True

    @property
    def _on_table(self) -> bool:
        return self.focused is not None and self.focused.id == "else"

    def action_turn(self, by: int) -> None:
        """Another value of the field under the cursor."""
        state = self._state
        if state is None:
            return
        name = state.field
        value = beside(state.page, state.choice.values, name, by)
        if name == "card":
            self._plan(value)
            return
        if value == getattr(state.choice.values, name):
            most = "the most" if by > 0 else "the least"
            self.say(f"{LABELS.get(name, name)} {shown(name, value)} is {most} that can be chosen here")
            return
        self._change(vars(self._with(state, name, value)))

    def action_move(self, by: int) -> None:
        """Another field, or another alternative."""
        state = self._state
        if state is None:
            return
        if self._on_table:
            self._state = replace(state, at=max(0, min(len(panes.rows_of(state)) - 1, state.at + by)))
        else:
            self._state = replace(state, row=max(0, min(len(FIELDS) - 1, state.row + by)))
            self._hint()
        self.refresh_all()

    def action_edge(self, which: int) -> None:
        """The first or the last."""
        self.action_move(10**6 if which else -(10**6))

    def action_take(self) -> None:
        """The alternative under the cursor; among the fields the nearest that fits."""
        state = self._state
        if state is None:
            return
        taken = panes.rows_of(state)[min(state.at, len(panes.rows_of(state)) - 1)][1] if self._on_table else state.near
        if taken is not None:
            self._change(vars(taken.values))
            self.say(f"{taken.name}, {f.gib(taken.device_gib)} GiB; u takes it back")

    def action_reset(self) -> None:
        """Everything as recommended."""
        self._change({})
        self.say("as recommended; u takes it back")

    def action_undo(self) -> None:
        """As before the last change."""
        if self._draft.past:
            self._show(self._draft.past.pop())

    def action_view(self) -> None:
        """The table of alternatives in the place of the fields, and back."""
        self._table = not self._table
        self.refresh_all()
        self.query_one("#else" if self._table else "#choice").focus()

    @work(group="trace", exclusive=True, exit_on_error=False)
    async def action_trace(self) -> None:
        """Trace the real step; one may go on meanwhile."""
        state = self._state
        if state is None:
            return
        self._tracing = True
        self.refresh_all()
        page, values = state.page, state.choice.values
        try:
            found = await in_thread(lambda: self._services.trace(page, values))
        except Exception as error:  # the closed form still stands
            self.say(sentence(error))
            return
        finally:
            self._tracing = False
            self.refresh_all()
        self._traces[page.card, values] = found
        if self._state is not None and self._state.choice.values == values and self._state.page.card == page.card:
            self._state = replace(self._state, traced=found)
        self.refresh_all()

    def action_start(self) -> None:
        """Ask, then start; or say why not."""
        state = self._state
        if state is None:
            return
        if reason := obstacle(self._form, state.page, state.choice, state.near):
            self.say(reason)
            return
        rows = f" on {state.page.rows:,} rows" if state.page.rows else ""
        text = f"{f.model_name(state.page.model)}{rows}. It goes on without this window; s stops it."
        question = AskScreen(
            f"Start {state.choice.name}?", text, (Answer("", "Not yet"), Answer("start", "Start", "s"))
        )
        self.app.push_screen(question, self._answered)

    def _answered(self, answer: str | None) -> None:
        if answer == "start":
            self._start()

    @work(group="start", exclusive=True, exit_on_error=False)
    async def _start(self) -> None:
        if self._state is None or self._busy:
            return
        self._busy = "starting …"
        form = planned(self._form, self._state.choice)
        try:
            run_id = await in_thread(lambda: self._services.start(form))
        except Exception as error:  # shown in a dialog; the page keeps what was chosen
            self.app.push_screen(error_dialog(error))
            return
        finally:
            self._busy = ""
            self.refresh_all()
        deck = self.deck
        self.dismiss()
        deck.post_message(RunStarted(run_id))

    def action_leave(self) -> None:
        """One layer out: the table, then the page."""
        if self._table:
            self.action_view()
        else:
            self.dismiss()
