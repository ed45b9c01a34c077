"""What the Training step draws: frozen values, computed in a thread."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tuiapp.snapshot import PlanChoice, PlanPage


@dataclass(frozen=True)
class TrainingPage:
    """A complete specification and what it comes to. Fields are by path; values are plain JSON values.

    Memory and disk in GiB, times in seconds; None where the data or the card is not known.
    """

    plan: PlanPage
    choice: PlanChoice
    """What is trained with what was changed on this step."""
    before: PlanChoice
    """The same without it."""
    values: Mapping[str, Any]
    recommended: Mapping[str, Any]
    """What each field would be if this step left it open and the others as they are."""
    reasons: Mapping[str, str]
    """Why that is recommended, where the planner has a reason."""
    own: Mapping[str, Any]
    """What would be recommended without a parent; the same as `recommended` where there is none."""
    default: frozenset[str] = frozenset()
    """Fields that are recommended as the specification has them by itself."""
    options: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """What a field can be, where it is one of a few."""
    steps: int | None = None
    rows_a_step: int = 1
    epoch_steps: float | None = None
    """Optimizer steps of an epoch; the last one may not be a whole one."""
    rows: int | None = None
    """Rows to train on, and those held out."""
    held_out: int | None = None
    tokens: float | None = None
    """Of the whole run."""
    disk: float | None = None
    checkpoint: float | None = None
    """One checkpoint."""
    obstacle: str = ""
    """Why it could not start, as far as that is known now; empty if it could."""
