"""With which runs one can chat: those that have ended and have learned something, beside others of the same base model."""

from collections.abc import Iterable

from tuiapp.glyphs import ACTIVE
from tuiapp.snapshot import RunLine


def can_chat(run: RunLine) -> bool:
    """Whether the run may have left something that answers; what it really saved is seen when it is opened."""
    return run.status not in (*ACTIVE, "queued") and not run.imported


def chosen(first: RunLine, marked: Iterable[RunLine]) -> tuple[tuple[str, ...], int]:
    """The ids of a run and of those marked that can stand beside it, and how many of them cannot."""
    others = [run for run in marked if run.id != first.id]
    fit = [run.id for run in others if run.model == first.model and can_chat(run)]
    return (first.id, *fit), len(others) - len(fit)
