"""Step 4 of a new run: the plan page, with what is chosen on it kept in the draft."""

from dataclasses import replace
from typing import Any, ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.geometry import Region

from tuiapp.draft import PLAN
from tuiapp.flow import Flow
from tuiapp.layout import Places, is_narrow
from tuiapp.plan_values import obstacle
from tuiapp.screens.plan import PlanScreen
from tuiapp.screens.wizard import WizardStep
from tuiapp.widgets.rows import line

OWN = ("start", "leave", "help")
"""Actions of the page that the wizard has its own of."""


class PlanStep(WizardStep, PlanScreen):
    """The plan page as a step."""

    step: ClassVar[int] = PLAN
    about = "How it is trained: what fits on the card, how fast, and why. Turn a value and the bar follows at once."

    BINDINGS: ClassVar[list[BindingType]] = [
        *WizardStep.NEXT,
        *(one for one in PlanScreen.BINDINGS if isinstance(one, Binding) and one.action not in OWN),
        *WizardStep.STEPS_KEYS,
        *WizardStep.LEAVE,
    ]

    def __init__(self, flow: Flow) -> None:
        PlanScreen.__init__(self, flow.services, flow.draft.form(planned=False), flow.draft.plan_draft())
        self.flow = flow
        self._draft.card = flow.draft.card or "own"  # a run is for this machine
        if not flow.draft.model:
            self._problem = "No model is chosen yet: 2 goes to the models."

    def begin(self) -> None:
        """Plan as soon as there is a model."""
        if self.flow.draft.model:
            PlanScreen.begin(self)

    def places(self, width: int, height: int) -> Places:
        """The page in one row less."""
        own = self.wizard_places(width, height)
        if is_narrow(width, height):
            return PlanScreen.places(self, width, height)
        page = PlanScreen.places(self, width, height - 1)
        return page | {name: own.get(name, Region(0, 0, 0, 0)) for name in ("status", "keys", "sofar", "head")}

    def draw(self) -> None:
        """The page, and the frame's rows."""
        PlanScreen.draw(self)
        if "sofar" in self._stand:
            self.show_so_far()

    def _head(self, width: int) -> list[Content]:
        return self.head_lines(width)

    def _status(self, width: int) -> Content:
        if not self.flow.draft.model:
            return line((" Enter goes on when there is a model and data.", "$dim"))
        return PlanScreen._status(self, width)

    def _show(self, chosen: dict[str, Any]) -> None:
        """What is shown is what is settled."""
        PlanScreen._show(self, chosen)
        state, flow = self._state, self.flow
        if state is None:
            return
        flow.draft.card = state.page.card
        flow.draft.settle_plan(dict(self._draft.chosen or {}), state.choice if state.page.here else None)
        flow.page, flow.choice = state.page, state.choice
        self._mark()
        self.keep()
        self.refresh_all()

    def _mark(self) -> None:
        state = self._state
        if state is not None:
            reason = self.why_not()
            self.flow.marks[PLAN] = "✗" if reason else "!" if state.choice.fits == "close" else ""

    def why_not(self) -> str:
        """A plan that does not fit stops here; one for another card is none for a run."""
        if not self.flow.draft.model:
            return "Choose a model first: 2 goes there."
        state = self._state
        if state is None:
            return self._problem or "planning …"
        return obstacle(replace(self._form, data=self._form.data or "later"), state.page, state.choice, state.near)

    def action_leave(self) -> None:
        """One layer out: the table, then the wizard."""
        if self._table:
            self.action_view()
        else:
            WizardStep.action_leave(self)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """The wizard's keys always do something."""
        if action in ("next", "previous", "step", "begin_anew"):
            return True
        return PlanScreen.check_action(self, action, parameters)
