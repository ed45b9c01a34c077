"""What the screen that compares runs shows: frozen values, read in a thread, and how the person wants to see them."""

from dataclasses import dataclass

from engine.compare_curves import Axis, Curve, Ticks
from engine.compared import Comparison
from engine.lineage import Line

DRAWN = 12
"""Curves that are drawn over each other at most: of more nobody can tell one from another."""


@dataclass(frozen=True)
class CompareQuestion:
    """What is to be read: the runs, the baseline first, the curve, and the runs of which it is drawn.

    `version` is what is known to have changed: with another one everything is read again.
    """

    ids: tuple[str, ...]
    key: str = ""
    """"": the first that there is."""
    drawn: tuple[str, ...] = ()
    version: object = None


@dataclass(frozen=True)
class ComparePage:
    """A comparison as it was read. `curves` and `ticks` are by run id, of the runs that are drawn."""

    asked: CompareQuestion
    comparison: Comparison
    key: str
    curves: dict[str, Curve]
    ticks: dict[str, Ticks]
    lineage: tuple[Line, ...] = ()


@dataclass(frozen=True)
class CompareState:
    """The page, and how it is shown."""

    page: ComparePage
    column: int = 0
    """The place of the run that the keys are about."""
    first: int = 1
    """The place of the first run that stands beside the baseline."""
    everything: bool = False
    """Parameters that are the same too."""
    x: Axis = "step"
    log: bool | None = None
    """None: where the values reach far."""
    smoothing: int = 0
    prompt: int = 0
    back: int = 0
    """How many steps before the last one the answers are of."""

    @property
    def comparison(self) -> Comparison:
        return self.page.comparison


def drawn_of(c: Comparison, shown: tuple[int, ...], column: int) -> tuple[int, ...]:
    """The places of the runs whose curves are drawn: the baseline, those in view, the best, then the others in turn."""
    best = [i for i, cell in enumerate(c.measures[0].cells) if cell.best] if c.measures else []
    wanted = dict.fromkeys([0, column, *best, *shown, *range(len(c.runs))])
    return tuple(sorted([i for i in wanted if i < len(c.runs)][:DRAWN]))


def guessed(ids: tuple[str, ...]) -> tuple[str, ...]:
    """The runs whose curves are drawn before anything is known of them."""
    return ids[:DRAWN]
