"""What a comparison of runs consists of: frozen values, the same for the verbs, the app and a report.

In every row `cells` stand in the order of `Comparison.runs`, the baseline's first.
"""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["setting", "data", "environment", "code"]
Better = Literal["less", "more", ""]


@dataclass(frozen=True)
class ComparedRun:
    """A run that is compared. `letter` stands for it in tables and charts; B is the baseline."""

    id: str
    name: str
    letter: str
    status: str
    model: str
    method: str
    project: str
    host: str
    created_at: float
    started_at: float | None
    ended_at: float | None
    step: int | None
    total: int | None
    epoch: float | None
    exit_reason: str
    source: str
    """Where an imported run came from; "" if TuneDeck trained it."""
    device: str
    memory_total: float | None
    """GiB of the card, or of the machine where no card trains."""
    unlike: str = ""
    """Why its eval loss says nothing beside the baseline's: it was measured on other rows, or in another way; "" if it does."""
    other_machine: str = ""
    """Why its time, speed and memory say nothing beside the baseline's; "" if they do."""

    @property
    def active(self) -> bool:
        """Whether it may still change."""
        return self.status in ("queued", "starting", "running", "stopping")

    @property
    def share(self) -> float | None:
        """How much of its steps it has done, 0 to 1."""
        return self.step / self.total if self.step is not None and self.total else None


@dataclass(frozen=True)
class SettingCell:
    """A run's value of a setting as people write it; "–" if it is not set or not known."""

    text: str
    known: bool = True
    same: bool = False
    """As the baseline's; of the baseline itself false."""


@dataclass(frozen=True)
class Setting:
    """One parameter, or one fact of the data, the environment or the code. `warning`: why it makes results unlike."""

    path: str
    name: str
    kind: Kind
    cells: tuple[SettingCell, ...]
    differs: bool
    warning: str = ""


@dataclass(frozen=True)
class Cell:
    """A result of one run. `difference` is to the baseline's, where both are known and like with like."""

    value: float | None
    text: str
    difference: float | None = None
    difference_text: str = ""
    best: bool = False
    like: bool = True
    """False where it cannot be compared with the baseline's: marked `!`, and never best."""


@dataclass(frozen=True)
class Measure:
    """A row of the results. `name` has the unit, `head` is shorter; `sub` belongs to the row above it."""

    key: str
    name: str
    better: Better
    cells: tuple[Cell, ...]
    sub: bool = False
    head: str = ""


@dataclass(frozen=True)
class Correlation:
    """How a setting goes with the metric: Spearman's rank correlation over so many runs, -1 to 1.

    Above 0 more of the setting goes with more of the metric. Of two words `name` has the one that counts as more.
    """

    path: str
    name: str
    rho: float
    runs: int


@dataclass(frozen=True)
class Reached:
    """When a run first was as good as the baseline at its best: the step, seconds of work, tokens."""

    step: int
    seconds: float | None
    tokens: float | None


@dataclass(frozen=True)
class Repeats:
    """Runs, by their letters, that differ in nothing but the seed, and how far apart they lie in the metric."""

    letters: tuple[str, ...]
    spread: float
    other_rows: bool
    """Whether each seed held out other rows, so that the spread is of the rows too."""


@dataclass(frozen=True)
class Answer:
    """What a run's model said at a step; 0 is before training."""

    step: int
    text: str


@dataclass(frozen=True)
class Prompt:
    """A prompt and for each run its answers in order of step; none where it was not asked."""

    text: str
    answers: tuple[tuple[Answer, ...], ...]


@dataclass(frozen=True)
class Comparison:
    """Runs side by side, the baseline first."""

    runs: tuple[ComparedRun, ...]
    settings: tuple[Setting, ...]
    """All of them in the specification's order, then data, environment and code; see `differing`."""
    unknown: int
    """Settings that not every run is known to have had: counted neither as the same nor as different."""
    measures: tuple[Measure, ...]
    prompts: tuple[Prompt, ...]
    metrics: tuple[str, ...]
    """Names of the curves that any of the runs has, eval loss first."""
    metric: str
    """What decides which run is best: eval_loss, where none was evaluated reward or loss."""
    better: Better
    """Which way that is good."""
    target: float | None
    """The baseline's best of the metric, finite."""
    reached: tuple[Reached | None, ...]
    """When each run was as good as that."""
    correlations: tuple[Correlation, ...]
    repeats: tuple[Repeats, ...]
    sentence: str
    """What came of it, in a few words."""
    notes: tuple[str, ...] = ()
    """What has to be known to read the results, a sentence each."""

    @property
    def baseline(self) -> ComparedRun:
        """The run that the others are compared with."""
        return self.runs[0]

    @property
    def differing(self) -> tuple[Setting, ...]:
        """What is not the same in all of them."""
        return tuple(one for one in self.settings if one.differs)

    @property
    def same(self) -> int:
        """How many parameters are known to be the same in all of them; data, environment and code not counted."""
        alike = [one for one in self.settings if one.kind == "setting" and not one.differs]
        return len(alike) - self.unknown

    def measure(self, key: str) -> Measure | None:
        """The row of this key, None if nobody knows it."""
        return next((one for one in self.measures if one.key == key), None)
