"""Step 5 of a new run: how it is trained. What matters is shown, every field of the specification can be reached."""

import contextlib
import time
from dataclasses import replace
from typing import Any, ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.geometry import Region
from textual.widgets.input import Selection

from engine.errors import SpecError, TuneDeckError
from tuiapp import background
from tuiapp import format as f
from tuiapp import training_values as values
from tuiapp.draft import PLAN, TRAINING
from tuiapp.flow import Flow
from tuiapp.layout import Places
from tuiapp.screens.value_field import ValueField, value_place
from tuiapp.screens.wizard import WizardStep
from tuiapp.screens.words import WordsScreen
from tuiapp.snapshot import NewRun
from tuiapp.training_fields import BY_PATH, elsewhere
from tuiapp.training_layout import room_for_fields, training_places
from tuiapp.training_snapshot import TrainingPage
from tuiapp.widgets import training_panes as panes
from tuiapp.widgets.pane import FocusPane, Pane
from tuiapp.widgets.rows import Part, Rows, line
from tuiapp.widgets.training_panes import PRESET, TrainingState

FIELDS_HELP = (
    "Each field with its value, what is usual and why it is recommended. ← and → go through the usual values, Space types one. "
    "A star marks what you changed; = takes it back, u undoes the last change. v shows every field that there is."
)
LOOKING = "looking at what you changed …"
SLOW = 0.5
"""Seconds after which one is told that it takes a while: other rows have to be read first."""
Asked = tuple[NewRun, NewRun, tuple[str, ...], str]
Answer = tuple[TrainingPage | None, str]
"""The page, and why it is not of what was asked."""


class TrainingStep(WizardStep):
    """The step."""

    step: ClassVar[int] = TRAINING
    about = "How it is trained: each field with what is usual and why. Nothing has to be changed."

    BINDINGS: ClassVar[list[BindingType]] = [
        *WizardStep.NEXT,
        Binding("left,h", "turn(-1)", "change", key_display="←→", tooltip="the usual value before"),
        Binding("right,l", "turn(1)", "next value", show=False, tooltip="the next usual value"),
        Binding("up,k", "move(-1)", "field", show=False, tooltip="the field above"),
        Binding("down,j", "move(1)", "field", show=False, tooltip="the field below"),
        Binding("pageup", "move(-10)", "page up", show=False, tooltip="ten fields up"),
        Binding("pagedown", "move(10)", "page down", show=False, tooltip="ten fields down"),
        Binding("g,home", "move(-1000)", "first", show=False, tooltip="the first"),
        Binding("G,end", "move(1000)", "last", show=False, tooltip="the last"),
        Binding("equals_sign", "reset", "reset", key_display="=", tooltip="back to what is recommended"),
        Binding("v", "view", "view", tooltip="all fields, and back"),
        Binding("space", "type", "type", tooltip="type a value; switches on and off"),
        Binding("u", "undo", "undo", tooltip="undo the last change"),
        Binding("i", "inspect", "all about it", show=False, tooltip="everything about the field"),
        *WizardStep.STEPS_KEYS,
        *WizardStep.LEAVE,
    ]

    def __init__(self, flow: Flow) -> None:
        super().__init__()
        self.flow = flow
        self._state: TrainingState | None = None
        self._shown: Asked | None = None
        self._failed = ""
        self._past: list[dict[str, Any]] = []
        self._asking = False
        self._asked_at = 0.0
        self._typing = False

    def compose(self) -> ComposeResult:
        """The panes; where they stand is decided by size."""
        yield Rows(id="head", classes="placed")
        yield Pane(panes.preset_pane, id="preset")
        yield FocusPane(panes.fields_pane, id="fields", help_text=FIELDS_HELP)
        yield Pane(panes.about_pane, id="about")
        yield Pane(panes.presets_pane, id="presets")
        yield Pane(panes.schedule_pane, id="schedule")
        yield Pane(panes.cost_pane, id="cost")
        yield Pane(panes.peak_pane, id="peak")
        for name in ("rule", "problem", "sofar", "status", "keys"):
            yield Rows(id=name, classes="placed")
        yield ValueField(
            id="value", help_text="Enter takes it, Esc leaves it as it was.", placeholder="", complete=self._names
        )

    def on_mount(self) -> None:
        """Ask at once; the page is drawn when the answer is there."""
        super().on_mount()
        self.query_one("#fields").focus()
        self._ask()

    # What is shown

    def places(self, width: int, height: int) -> Places:
        """The wizard's rows, and the panes as soon as there is something in them."""
        own = self.wizard_places(width, height)
        if self._state is None:
            return own | {"problem": Region(0, min(3, height - 1), width, max(1, height - 7))}
        found = training_places(width, height, len(panes.lines_of(self._state)))
        if self._typing:
            found |= {"value": value_place(self._state, found["fields"])}
        return found | own if height >= 6 else found

    def refresh_all(self) -> None:
        """Place and draw everything; how many fields are listed depends on the room."""
        state = self._state
        if state is not None:
            room = room_for_fields(self.size.width, self.size.height)
            self._state = replace(state, paths=values.shown_paths(state.page, state.changed, room, state.whole))
        super().refresh_all()

    def draw(self) -> None:
        """Everything."""
        state = self._state
        self.query_one("#rule", Rows).show([line(("│", "$dim"))] * self.size.height)
        self.query_one("#problem", Rows).show(self._in_the_way())
        if state is not None:
            for pane in self.query(Pane).results():
                if pane.display:
                    pane.feed(state)
        self.show_frame(self._status())
        self.keep_focus()

    def _status(self) -> Content:
        if self._asking and time.monotonic() - self._asked_at >= SLOW and self._state is not None:
            return line((f" {LOOKING}", "$dim"))
        if self._failed:
            return line((f" ✗ {f.clean(self._failed)}", "$bad"))
        return panes.status(self._state, self._fork_name) if self._state is not None else line("")

    def _in_the_way(self) -> list[Content]:
        """Why there is no page."""
        if not self.flow.draft.model:
            return [line((" No model is chosen yet: 2 goes to the models.", "$dim"))]
        if not self._failed:
            return [line((" looking up what is usual …", "$dim"))]
        rows = [line((" ✗ There is nothing to train with yet", "bold $bad")), line("")]
        return rows + [line(f"   {text}") for text in f.wrap(f.clean(self._failed), self.size.width - 5, 6)]

    def so_far(self) -> list[Part]:
        """What is trained, in steps, memory and time."""
        return panes.so_far(self._state.page, self.size.width) if self._state is not None else super().so_far()

    @property
    def _fork_name(self) -> str:
        draft = self.flow.draft
        return (draft.name or draft.parent) if draft.parent else ""

    # What is asked

    def _question(self) -> Asked:
        draft = self.flow.draft
        return draft.form(), draft.form(trained=False), tuple(draft.training), draft.card

    @work(group="training", exit_on_error=False)
    async def _ask(self) -> None:
        """Ask for the page of what is chosen now, until the answer is of that."""
        if self._asking or not self.flow.draft.model:
            return
        self._asking = True
        try:
            await background.settle(self._open_question, self._answer, self._take)
        finally:
            self._asking = False

    def _open_question(self) -> Asked | None:
        asked = self._question()
        return None if asked == self._shown or not self.is_mounted else asked

    def _answer(self, asked: Asked) -> Answer:
        """In a thread. Where no plan can be made of what was changed, the page is that without it."""
        form, base, changed, card = asked
        try:
            return self.flow.services.training(form, base, changed, card), ""
        except Exception as error:  # whatever it was: a sentence, and what was there stays
            problem = error.message if isinstance(error, SpecError) else background.sentence(error)
        with contextlib.suppress(Exception):
            return (self.flow.services.training(base, base, (), card) if changed else None), problem
        return None, problem

    def _take(self, asked: Asked, answer: Answer) -> None:
        """What came back."""
        page, problem = answer
        self._shown, self._failed = asked, problem
        if self.said == LOOKING:
            self.say("")
        flow = self.flow
        flow.marks[TRAINING] = "✗" if problem or page is None or page.obstacle else "!" if values.cautions(page) else ""
        if page is not None:
            self._show(page)
        if page is not None and not problem:
            flow.page, flow.choice = page.plan, page.choice
            if page.plan.here:
                flow.marks[PLAN] = {"no": "✗", "close": "!"}.get(page.choice.fits, "")
        self.refresh_all()

    def _show(self, page: TrainingPage) -> None:
        draft = self.flow.draft
        given = dict.fromkeys(draft.given, "as its parent") if draft.parent else {}
        given |= dict.fromkeys(draft.settled, "as on step 4") | dict.fromkeys(draft.rows, "as on step 3")
        state = self._state or TrainingState(page, {}, (), at=values.RATE)
        self._state = replace(
            state,
            page=page,
            changed=dict(draft.training),
            paths=(),
            presets=values.presets(page, draft.given if draft.parent else None),
            parent=dict(draft.given) if draft.parent else {},
            fork=bool(draft.parent),
            given=given,
            problem=self._failed,
        )

    def why_not(self) -> str:
        """What is known to fail at the start stops here."""
        if not self.flow.draft.model:
            return "Choose a model first: 2 goes there."
        if self.flow.draft.training and self._shown != self._question():
            return LOOKING
        if self._failed:
            return f"✗ {self._failed}"
        return f"✗ {self._state.page.obstacle}" if self._state is not None and self._state.page.obstacle else ""

    # What is changed

    def _change(self, changed: dict[str, Any]) -> None:
        """Other values, with those before kept for undo."""
        if changed != self.flow.draft.training:
            self._past.append(dict(self.flow.draft.training))
            self._set(changed)

    def _set(self, changed: dict[str, Any]) -> None:
        before, self.flow.draft.training = self.flow.draft.training, changed
        differing = [path for path in {**changed, **before} if changed.get(path) != before.get(path)]
        if any(path.startswith("data.") for path in differing):
            self.flow.data = None  # what the Data step knows is of other rows
        self._asked_at = time.monotonic()
        self.set_timer(SLOW, self.refresh_all)
        if self._state is not None:
            self._state = replace(self._state, changed=dict(changed), refused="")
        self.keep()
        self.refresh_all()
        self._ask()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys that would do nothing are not shown and do nothing."""
        state = self._state
        if action in ("turn", "move", "view", "inspect", "type"):
            return state is not None
        if action == "reset":
            return state is not None and (bool(state.changed) if state.at == PRESET else state.at in state.changed)
        return bool(self._past) if action == "undo" else True

    def action_turn(self, by: int) -> None:
        """The next preset, or the next usual value."""
        state = self._state
        if state is None:
            return
        if state.at == PRESET:
            at = (state.presets.index(state.preset) + by) % len(state.presets)
            self._change(values.with_preset(state.presets, state.presets[at], state.changed))
            return
        if self._elsewhere(state.at):
            return
        now = state.value(state.at)
        value = values.beside(state.page, state.at, now, by)
        if values.same(value, now):
            ends = values.candidates(state.page, state.at)
            self.say("That is as far as ←→ goes; Space types any other." if ends else "Space types a value.")
            return
        self._change(values.with_value(state.page, state.changed, state.at, value))

    def _elsewhere(self, path: str) -> bool:
        """Say where a field is chosen that belongs to another step; whether it does."""
        said = elsewhere(path)
        if said:
            self.say(said)
        return bool(said)

    def action_move(self, by: int) -> None:
        """Another field; above the first the presets."""
        state = self._state
        if state is None:
            return
        order = [PRESET, *(one for one in panes.lines_of(state) if not one.endswith("."))]
        at = order.index(state.at) if state.at in order else 1
        self._state = replace(state, at=order[max(0, min(len(order) - 1, at + by))], refused="")
        self.refresh_all()

    def action_reset(self) -> None:
        """The field as recommended; on the line of presets all of them."""
        state = self._state
        if state is not None:
            kept = {} if state.at == PRESET else {path: one for path, one in state.changed.items() if path != state.at}
            self._change(kept)
            self.say("as recommended; u takes it back" if not state.fork else "as its parent; u takes it back")

    def action_undo(self) -> None:
        """As before the last change."""
        if self._past:
            self._set(self._past.pop())

    def action_view(self) -> None:
        """All fields, and back."""
        state = self._state
        if state is None:
            return
        self._state = replace(state, whole=not state.whole)
        self.refresh_all()
        if self._state.at not in (PRESET, *self._state.paths):
            self._state = replace(self._state, at=values.RATE)
            self.refresh_all()

    def action_inspect(self) -> None:
        """Everything about the field."""
        state = self._state
        if state is None or state.at == PRESET:
            return
        title = f"{BY_PATH[state.at].name}: {state.at}"
        self.app.push_screen(WordsScreen(title, lambda room: panes.everything_lines(state, room)))

    def action_leave(self) -> None:
        """One layer out: all fields, then the wizard."""
        if self._state is not None and self._state.whole:
            self.action_view()
        else:
            super().action_leave()

    # What is typed

    def action_type(self) -> None:
        """A switch is switched; for anything else a field opens where the value stands."""
        state = self._state
        if state is None or state.at == PRESET:
            self.action_turn(1)
            return
        if self._elsewhere(state.at):
            return
        if state.page.options.get(state.at) == (False, True):
            self.action_turn(1)
            return
        field = self.query_one(ValueField)
        with field.prevent(ValueField.Changed):
            field.value = values.typed(state.at, state.value(state.at))
        field.selection = Selection(0, len(field.value))
        self._typing = True
        self.refresh_all()
        field.focus()

    def _names(self, text: str) -> list[str]:
        """What can follow what is typed."""
        state = self._state
        options = state.page.options.get(state.at, ()) if state is not None and state.at != PRESET else ()
        return [str(one) for one in options if isinstance(one, str) and one.startswith(text)]

    def _read(self) -> bool:
        """Take what is typed; whether it is a value. What is none stays there, with the reason."""
        from tuiapp.training import read_value  # pydantic, which is there by now

        state, field = self._state, self.query_one(ValueField)
        if state is None:
            return True
        text = field.value.strip()
        if text == values.typed(state.at, state.value(state.at)):
            self._close()
            return True
        if not text:
            self._close()
            self._change({path: one for path, one in state.changed.items() if path != state.at})
            return True
        try:
            value = read_value(state.at, text)
        except TuneDeckError as error:
            self._state = replace(state, refused=error.message)
            self.say(f"✗ {error.message}")
            return False
        self._close()
        self._change(values.with_value(state.page, state.changed, state.at, value))
        return True

    def _close(self) -> None:
        self._typing = False
        if self._state is not None:
            self._state = replace(self._state, refused="")
        self.query_one("#fields").focus()
        self.refresh_all()

    def action_typed(self, by: int) -> None:
        """Take what is typed and go to another field."""
        if self._read():
            self.action_move(by)

    def action_next(self) -> None:
        """While a value is typed Enter takes it; else the next step."""
        if self._typing:
            self._read()
        else:
            super().action_next()

    def action_out_of_field(self) -> None:
        """Esc leaves the value as it was."""
        self._close()

    def settle(self) -> None:
        """What is typed and is a value counts, wherever one goes from here."""
        if self._typing:
            self._read()

    def keep_focus(self) -> None:
        """The field that is typed in keeps it."""
        if not self._typing:
            super().keep_focus()
