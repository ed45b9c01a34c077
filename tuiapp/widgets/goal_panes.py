"""The panes of the first step: what should change, the three questions, and what the answers come to."""

from collections.abc import Sequence
from dataclasses import dataclass

from textual.content import Content

from tuiapp import format as f
from tuiapp.glyphs import CURSOR
from tuiapp.goals import GOALS, INSTEAD, QUESTIONS, GoalLine, verdict
from tuiapp.widgets.pane import Look, title
from tuiapp.widgets.rows import fit, line, spread

WORDS = {True: "yes", False: "no", None: f.DASH}
MOST = 100
"""Cells: longer lines are hard to read."""


@dataclass(frozen=True)
class GoalState:
    """The goal chosen, the answers, and the row under the cursor of each pane."""

    goal: GoalLine
    answers: Sequence[bool | None]
    at: int = 0
    question: int = 0


def goals_pane(state: GoalState, look: Look) -> list[Content]:
    """One line a goal."""
    width = min(look.width, MOST)
    rows = [spread(title("What should change?", look), line(("rows wanted ", "$dim")), width)]
    for i, one in enumerate(GOALS):
        here = i == state.at and look.focused
        mark = line((f" {CURSOR} " if here else "   ", "$accent"), ("(•) " if one == state.goal else "( ) ", "$accent"))
        name = line((f.left(one.name, 17), "reverse" if here else "bold" if one == state.goal else ""))
        rows.append(spread(mark + name + line((one.about, "$dim")), line((f"{one.rows} ", "$dim")), width))
    return _in_view(rows, state.at + 1, look.height)


def questions_pane(state: GoalState, look: Look) -> list[Content]:
    """Three questions; each may stay open."""
    head = line(("three questions, each may stay open", "$dim"))
    rows = [fit(title("Is fine-tuning the right tool?", look, head), look.width)]
    for i, text in enumerate(QUESTIONS):
        here = i == state.question and look.focused
        start = line((f" {CURSOR} " if here else "   ", "$accent"), f.left(text, 51))
        answer = WORDS[state.answers[i]]
        style = "reverse" if here else "" if state.answers[i] is not None else "$dim"
        rows.append(
            start + line(("‹ ", "$accent" if here else "$dim"), (answer, style), (" ›", "$accent" if here else "$dim"))
        )
    return _in_view(rows, state.question + 1, look.height)


def advice_pane(state: GoalState, look: Look) -> list[Content]:
    """What the answers come to; with room what each of the three tools is for."""
    first, second = verdict(state.goal, state.answers)
    width = min(look.width, MOST) - 2
    rows = [line(" ", (first, "bold" if any(one is not None for one in state.answers) else ""))]
    rows += [line((f" {text}", "$dim")) for text in f.wrap(second, width, 2)]
    if look.height < 16:
        return [*rows, line((" i shows what a better prompt or retrieval would do instead.", "$dim"))][: look.height]
    for name, text in INSTEAD:
        rows += [line(""), line((f" {name}", "bold")), *(line((f" {part}", "$dim")) for part in f.wrap(text, width, 6))]
    return rows[: look.height]


def sets_words(goal: GoalLine) -> str:
    """What follows from a goal."""
    return f"Sets: {goal.sets}, wanted rows {goal.rows}"


def _in_view(rows: list[Content], at: int, height: int) -> list[Content]:
    start = max(0, min(at - height + 1, len(rows) - height)) if len(rows) > height else 0
    return rows[start : start + height]
