"""Step 1 of a new run: what should change, and whether fine-tuning is the right tool for it."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.geometry import Region

from tuiapp.flow import Flow
from tuiapp.goals import GOALS, INSTEAD, goal_of
from tuiapp.layout import Places, is_narrow
from tuiapp.screens.wizard import WizardStep
from tuiapp.screens.words import WordsScreen, paragraph
from tuiapp.widgets.goal_panes import (
    MOST,
    GoalState,
    advice_pane,
    goals_pane,
    questions_pane,
    sets_words,
)
from tuiapp.widgets.pane import FocusPane, Pane
from tuiapp.widgets.rows import Rows, line

GOAL_HELP = (
    "What the model should do differently. It decides the rank of an adapter and how many rows are wanted; "
    "the data decides the rest. Space chooses."
)
QUESTIONS_HELP = (
    "The field's order is: a better prompt, then retrieval, then fine-tuning. ← and → answer; open is fine."
)
ANSWERS = (None, True, False)


class GoalStep(WizardStep):
    """The step."""

    step: ClassVar[int] = 0
    about = "What the model should learn, and whether fine-tuning is the right tool for it."

    BINDINGS: ClassVar[list[BindingType]] = [
        *WizardStep.NEXT,
        Binding("up,k", "move(-1)", "move", key_display="↑↓", tooltip="above"),
        Binding("down,j", "move(1)", "down", show=False, tooltip="below"),
        Binding("g,home", "edge(-1)", "first", show=False, tooltip="the first"),
        Binding("G,end", "edge(1)", "last", show=False, tooltip="the last"),
        Binding("space", "choose", "choose", tooltip="choose the goal, or the next answer"),
        Binding("left,h", "answer(-1)", "answer", key_display="←→", tooltip="the answer before"),
        Binding("right,l", "answer(1)", "answer", show=False, key_display="→ l", tooltip="the next answer"),
        Binding("i", "inspect", "instead", tooltip="what a better prompt or retrieval would do instead"),
        *WizardStep.STEPS_KEYS,
        *WizardStep.LEAVE,
    ]

    def __init__(self, flow: Flow) -> None:
        super().__init__()
        self.flow = flow
        self._at = GOALS.index(goal_of(flow.draft.goal))
        self._question = 0

    def compose(self) -> ComposeResult:
        """The panes; where they stand is decided by size."""
        yield Rows(id="head", classes="placed")
        yield FocusPane(goals_pane, id="goals", help_text=GOAL_HELP)
        yield FocusPane(questions_pane, id="questions", help_text=QUESTIONS_HELP)
        yield Pane(advice_pane, id="advice")
        for name in ("sofar", "status", "keys"):
            yield Rows(id=name, classes="placed")

    def on_mount(self) -> None:
        """The goals have the focus."""
        self.set_focus(self.query_one("#goals"))

    def places(self, width: int, height: int) -> Places:
        """Below each other."""
        places, goals = self.wizard_places(width, height), len(GOALS) + 1
        if is_narrow(width, height):
            if height < 6:
                return {"goals": Region(0, 0, width, height)}
            return places | {"goals": Region(0, 1, width, height - 3)}
        questions = 3 + goals + 1
        advice = questions + 5
        places |= {
            "goals": Region(0, 3, width, goals),
            "questions": Region(0, questions, width, min(4, height - 3 - questions)),
        }
        if height - 4 > advice:
            places["advice"] = Region(0, advice, width, height - 4 - advice)
        return places

    @property
    def _state(self) -> GoalState:
        return GoalState(goal_of(self.flow.draft.goal), self.flow.draft.answers, self._at, self._question)

    def draw(self) -> None:
        """Everything."""
        for pane in self.query(Pane).results():
            if pane.display:
                pane.feed(self._state)
        self.show_frame(line((f" {sets_words(self._state.goal)}", "$dim")))
        self.keep_focus()

    @property
    def _on_questions(self) -> bool:
        return self.focused is not None and self.focused.id == "questions"

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Answers are given to questions."""
        return self._on_questions if action == "answer" else True

    def action_move(self, by: int) -> None:
        """Another row; from one pane into the other."""
        if self._on_questions:
            if self._question + by < 0:
                self.query_one("#goals").focus()
            self._question = max(0, min(2, self._question + by))
        elif self._at + by < len(GOALS):
            self._at = max(0, self._at + by)
        elif self.query_one("#questions").display:
            self._question = 0
            self.query_one("#questions").focus()
        self.refresh_all()

    def action_edge(self, which: int) -> None:
        """The first or the last."""
        if self._on_questions:
            self._question = 2 if which > 0 else 0
        else:
            self._at = len(GOALS) - 1 if which > 0 else 0
        self.refresh_all()

    def action_choose(self) -> None:
        """The goal under the cursor, or the next answer."""
        if self._on_questions:
            self.action_answer(1)
            return
        self._take()
        self.refresh_all()

    def _take(self) -> None:
        self.flow.draft.goal = GOALS[self._at].key
        self.flow.forget()
        self.keep()

    def action_answer(self, by: int) -> None:
        """Another answer."""
        answers = self.flow.draft.answers
        answers[self._question] = ANSWERS[(ANSWERS.index(answers[self._question]) + by) % len(ANSWERS)]
        self.keep()
        self.refresh_all()

    def settle(self) -> None:
        """The goal under the cursor is the one that is meant."""
        if not self._on_questions and GOALS[self._at].key != self.flow.draft.goal:
            self._take()

    def action_inspect(self) -> None:
        """What the other tools do."""

        def build(room: int) -> list[Content]:
            return [part for name, text in INSTEAD for part in paragraph(name, text, room)]

        self.app.push_screen(WordsScreen("Prompt, retrieval or fine-tuning", build, width=MOST))
