"""What the plan page asks for, whoever answers."""

from typing import Protocol

from tuiapp.snapshot import CardPlan, NewRun, PlanChoice, PlanPage, PlanValues, Traced


class PlanServices(Protocol):
    """What the page asks for. All but `what_if` may block."""

    def plan(self, form: NewRun, card: str = "") -> PlanPage:
        """The plan for a form on a card."""

    def what_if(self, page: PlanPage, values: PlanValues) -> PlanChoice:
        """What other values cost, at once."""

    def nearest(self, page: PlanPage, values: PlanValues) -> PlanChoice | None:
        """The nearest choice that fits where these do not."""

    def other_cards(self, page: PlanPage) -> tuple[CardPlan, ...]:
        """The best that fits on common cards."""

    def trace(self, page: PlanPage, values: PlanValues) -> Traced:
        """The real step, traced."""

    def start(self, form: NewRun) -> str:
        """Start it; its id."""

    def plan_models(self) -> list[str]:
        """Models that can be planned for."""

    def complete_path(self, text: str) -> list[str]:
        """Paths that begin so."""
