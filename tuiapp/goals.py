"""The first step's questions: what should change, and whether fine-tuning is the right tool for that. Pure functions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.planner.rules import Goal


@dataclass(frozen=True)
class GoalLine:
    """One goal: its words, and how many rows it usually wants."""

    key: "Goal"
    name: str
    about: str
    rows: str
    sets: str
    """What follows from it."""


GOALS = (
    GoalLine("instructions", "Instructions", "follow requests in your domain", "1,000", "SFT on the answers, rank 8 to 16"),
    GoalLine("style", "Style, format", "tone, length, a fixed layout", "100", "SFT on the answers, rank 4 to 8"),
    GoalLine("domain", "Knowledge", "the language and facts of a domain", "5,000", "plain text too, rank 16 to 32"),
    GoalLine("reasoning", "Reasoning, code", "solve problems, write code", "2,000", "SFT on the answers, rank 32 to 64"),
    GoalLine("classification", "Classification", "text in, label out", "100 a class", "SFT on the label, rank 4 to 8"),
    GoalLine("tools", "Tool calls", "choose a tool and its arguments", "1,000", "SFT on calls and answers, rank 8 to 16"),
    GoalLine("chat", "Preferences", "prefer one answer over another", "1,000 pairs", "DPO where the data has pairs"),
)  # fmt: skip

QUESTIONS = (
    "A good prompt with 3 to 5 examples still fails",
    "The facts it needs change every week or faster",
    "You have the rows, or can write them",
)
INSTEAD = (
    ("A better prompt", (
        "Say who the model is, what it gets and what exactly it has to answer. Three to five examples, the hard ones among them, "
        "do more than any adjective. Ask for the form you can check: JSON, a label, a fixed heading. Try it on 20 real inputs and "
        "count. It costs an afternoon, and the count is what a fine-tuned model has to beat.")),
    ("Retrieval", (
        "Where the facts change, or where an answer has to name its source, look the facts up (full-text search is a good "
        "beginning, vectors come later) and put them into the prompt. A fine-tuned model cannot be told that a price changed.")),
    ("Fine-tuning", (
        "It changes how the model answers: tone, layout, labels, the calls of your tools, the language of your field; and it "
        "makes the long prompt short, so that a smaller model does. It needs rows that are as you want the answers to be, and a "
        "few hundred of those that are good are worth more than thousands that are not.")),
)  # fmt: skip
"""What stands behind the answer: the three tools and when each is the right one."""


def goal_of(key: str) -> GoalLine:
    """The goal of this key; the first for one that is not known."""
    return next((one for one in GOALS if one.key == key), GOALS[0])


def verdict(goal: GoalLine, answers: Sequence[bool | None]) -> tuple[str, str]:
    """What the answers come to, in two sentences. The order is the field's: prompt first, then retrieval, then fine-tuning
    (OpenAI's guide to optimising accuracy and most practitioners' guides go the same way)."""
    fails, changing, rows = answers
    few = f"It usually takes {goal.rows if goal.rows[-1].isalpha() else f'{goal.rows} rows'} for this."
    if fails is False:
        return (
            "Prompting, probably: it works already.",
            "Fine-tune when the prompt gets too long or too dear, or a smaller model should do.",
        )
    if changing:
        style = goal.key != "domain"
        return "Retrieval for the facts: what is learned today is wrong next week.", (
            "Fine-tuning can still teach the manner of answering." if style else "Fine-tuning would teach the language of the field, not its news.")  # fmt: skip
    if rows is False:
        return (
            "Collect rows first: without them nothing can be learned.",
            f"{few} Begin with 50 that are exactly right.",
        )
    if fails is None and changing is None and rows is None:
        return "Open: you may go on. A good prompt is the cheapest way to find out.", few
    known = [
        words
        for words, said in (("prompting was tried and fails", fails), ("the facts are stable", changing is False))
        if said
    ]
    reason = " and ".join(known)
    return f"Fine-tune, probably{f': {reason}' if reason else ''}.", few
