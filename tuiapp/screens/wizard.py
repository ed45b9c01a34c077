"""What the six steps of a new run have in common: the stepper, what is settled so far, and the way from step to step."""

from typing import ClassVar, Protocol

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.geometry import Region
from textual.widgets import Input

from tuiapp import format as f
from tuiapp.data_services import DataServices
from tuiapp.draft import REVIEW, STEPS
from tuiapp.flow import Flow
from tuiapp.goals import goal_of
from tuiapp.layout import Places, is_narrow
from tuiapp.model_services import ModelServices
from tuiapp.plan_services import PlanServices
from tuiapp.review_values import ReviewServices
from tuiapp.screens.base import DeckScreen
from tuiapp.screens.dialogs import Answer, AskScreen
from tuiapp.training_services import TrainingServices
from tuiapp.widgets.fields import Field
from tuiapp.widgets.head import where_line
from tuiapp.widgets.rows import Part, Rows, line

MARK_ROLES = {"✓": "$good", "!": "$warn", "✗": "$bad", "▸": "$accent"}


class WizardServices(ModelServices, ReviewServices, PlanServices, DataServices, TrainingServices, Protocol):
    """What the wizard asks for."""


class StepField(Field):
    """A field of a step: Enter is the step's, Esc goes to the rest of it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "screen.next", "next", show=False, priority=True),
        Binding(
            "escape", "screen.out_of_field", "list", show=False, priority=True, tooltip="from the field to the list"
        ),
    ]


class WizardStep(DeckScreen):
    """A step. It works on `flow.draft`; what it settled is there as soon as a key did it."""

    place = "New run"
    step: ClassVar[int] = 0

    NEXT: ClassVar[list[BindingType]] = [
        Binding("enter,ctrl+n", "next", "next", tooltip="the next step"),
        Binding("ctrl+o", "previous", "back", tooltip="the step before"),
    ]
    STEPS_KEYS: ClassVar[list[BindingType]] = [
        Binding("1", "step(0)", "step", key_display="1–6", tooltip="that step"),
        *(Binding(str(i + 1), f"step({i})", show=False) for i in range(1, len(STEPS))),
        Binding("ctrl+r", "step(5)", "Review", show=False, tooltip="Review, with what is recommended"),
        Binding("D", "begin_anew", "begin anew", show=False, tooltip="forget this draft and begin anew"),
    ]
    LEAVE: ClassVar[list[BindingType]] = [
        DeckScreen.HELP_KEY,
        Binding("q,escape", "leave", "leave", id="back", tooltip="leave; the draft is kept"),
    ]

    flow: Flow

    def why_not(self) -> str:
        """Why one cannot go on from here; empty if one can."""
        return ""

    def settle(self) -> None:
        """Put what is shown and not yet settled into the draft, as a step is left."""

    def so_far(self) -> list[Part]:
        """What is settled, at the left of the line above the status."""
        return so_far_parts(self.flow)

    def wizard_places(self, width: int, height: int) -> Places:
        """Head, what is settled so far, status and keys; the step's own panes have the rows between 3 and `height` - 4."""
        if is_narrow(width, height):
            last = {"keys": Region(0, height - 1, width, 1), "status": Region(0, height - 2, width, 1)}
            return {"head": Region(0, 0, width, 1)} | (last if height >= 6 else {})
        return {
            "head": Region(0, 0, width, 2),
            "sofar": Region(0, height - 3, width, 1),
            "status": Region(0, height - 2, width, 1),
            "keys": Region(0, height - 1, width, 1),
        }

    def head_lines(self, width: int) -> list[Content]:
        """Where one is, and the stepper."""
        flow = self.flow
        host = f.clean(self.snapshot.machine.host) if self.snapshot is not None else ""
        kept = (
            ("draft not kept: " + f.clean(flow.unsaved), "$warn")
            if flow.unsaved
            else ("draft saved" if flow.kept else "", "$dim")
        )
        runs = self.snapshot.runs if self.snapshot is not None else ()
        parent = next((run.name for run in runs if run.id == flow.draft.parent), flow.draft.parent)
        name = f"fork of {parent}" if parent else ""
        if is_narrow(width, self.size.height):
            return [where_line(f"{self.step + 1} {STEPS[self.step]}", width, kept)]
        return [where_line(self.place, width, kept, f"   {host}", name=name), stepper(flow, width)]

    def show_so_far(self) -> None:
        """Third from last."""
        self.query_one("#sofar", Rows).show([line((" So far   ", "$dim"), *self.so_far())])

    def show_frame(self, status: Content) -> None:
        """Everything that is the same in all steps."""
        width = self.size.width
        self.query_one("#head", Rows).show(self.head_lines(width))
        self.show_so_far()
        self.show_status(status)
        self.show_keys()

    def keep(self) -> None:
        """Keep the draft: a key changed it."""
        self.flow.save()

    def go(self, step: int) -> None:
        """To another step."""
        from tuiapp.screens.steps import step_screen  # which knows all steps

        self.settle()
        self.flow.draft.step = step
        self.keep()
        self.app.switch_screen(step_screen(self.flow))

    def action_next(self) -> None:
        """Accept this step, unless something stands in the way."""
        if reason := self.why_not():
            self.say(reason)
            return
        self.settle()
        self.flow.pass_step(self.step)
        self.go(min(self.step + 1, REVIEW))

    def action_previous(self) -> None:
        """The step before; nothing is lost."""
        if self.step:
            self.go(self.step - 1)
        else:
            self.say("This is the first step.")

    def action_step(self, step: int) -> None:
        """Any step."""
        if step != self.step:
            self.go(step)

    def action_out_of_field(self) -> None:
        """From a field to the step's first pane; where there is none, out."""
        self.set_focus(None)
        self.keep_focus()
        if isinstance(self.focused, Input) or self.focused is None:
            self.action_leave()

    def action_leave(self) -> None:
        """Back to the runs; the draft is kept."""
        self.settle()
        self.keep()
        deck, kept = self.deck, self.flow.draft.is_begun
        self.dismiss()
        if kept:
            deck.call_later(deck.tell, "The draft is kept: n goes on with it.")

    def action_begin_anew(self) -> None:
        """Ask, then forget the draft."""
        question = AskScreen(
            "Forget this draft?",
            "What you chose in its steps goes. Runs and files stay as they are.",
            (Answer("", "Keep it"), Answer("anew", "Begin anew", "D")),
        )
        self.app.push_screen(question, lambda answer: self.deck.begin_anew() if answer == "anew" else None)


def stepper(flow: Flow, width: int) -> Content:
    """`✓1 Goal   ▸2 Model    3 Data ...`; the current one bold."""
    parts: list[Part] = [" "]
    gap = "    " if width >= 78 else "  "
    for i, name in enumerate(STEPS):
        mark = flow.mark(i)
        style = "bold" if i == flow.draft.step else "" if mark.strip() else "$dim"
        parts += [(mark, MARK_ROLES.get(mark, "")), (f"{i + 1} {name}", style), gap]
    return line(*parts)


def so_far_parts(flow: Flow) -> list[Part]:
    """Goal, model, rows, fit and time, as far as each is settled."""
    draft, page, choice = flow.draft, flow.page, flow.choice
    parts: list[Part] = [goal_of(draft.goal).name]
    parts += [f"   {f.clip(f.model_name(draft.model), 24)}"] if draft.model else [("   model ", "$dim"), f.DASH]
    if flow.data is not None:
        data, counts = flow.data
        held = f" + {data.validation:,}" if data.validation else ""
        parts.append(f"   {counts.kept - data.validation:,}{held} rows")
    elif draft.data:
        parts.append(f"   {f.clip(f.model_name(draft.data), 22)}")
    else:
        parts += [("   data ", "$dim"), f.DASH]
    if page is not None and choice is not None:
        fits = f.of_total(choice.device_gib, page.card_gib) if choice.device_gib is not None else page.card_name
        parts += [f"   {choice.name}   {fits}"]
        parts += [f"   {f.duration(choice.seconds)}"] if choice.seconds is not None else []
    else:
        parts += [f"   {flow.verdict}"] if flow.verdict else [("   fits ", "$dim"), f.DASH]
        parts += [("   time ", "$dim"), f.DASH]
    return parts
