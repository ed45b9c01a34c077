"""The wizard's steps by their number."""

from tuiapp.flow import Flow
from tuiapp.screens.data_step import DataStep
from tuiapp.screens.goal_step import GoalStep
from tuiapp.screens.model_step import ModelStep
from tuiapp.screens.plan_step import PlanStep
from tuiapp.screens.review_step import ReviewStep
from tuiapp.screens.training_step import TrainingStep
from tuiapp.screens.wizard import WizardStep

STEP_SCREENS = (GoalStep, ModelStep, DataStep, PlanStep, TrainingStep, ReviewStep)


def step_screen(flow: Flow) -> WizardStep:
    """The screen of the step that the draft is at."""
    return STEP_SCREENS[max(0, min(flow.draft.step, len(STEP_SCREENS) - 1))](flow)
