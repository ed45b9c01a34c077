"""What the screen "After training" draws of one run: frozen values, collected in one thread.

Loss is in nats per trained token; a value that was not measured is None and is drawn as a dash.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

ORDERS = ("worst", "lost", "won", "row")
"""As in `engine.store.afterwards.ORDERS`."""
ORDER_WORDS = {
    "worst": "worst first",
    "lost": "lost most against the base first",
    "won": "won most against the base first",
    "row": "as they come",
}
ACTIVE = ("queued", "running")
WINDOW = 120
"""Rows of an evaluation that are read at once."""


@dataclass(frozen=True)
class AfterQuestion:
    """What is asked for: a run, one of its evaluations ("" the newest), and which of its rows."""

    run_id: str
    job: str = ""
    order: str = "worst"
    first: int = 0


@dataclass(frozen=True)
class ScoreLine:
    """One score as people read it: of base and tuned, the paired difference and its 95 % interval.

    `verdict`: better, worse, noise.
    """

    name: str
    label: str
    base: str
    tuned: str
    difference: str
    interval: str
    verdict: str
    higher_is_better: bool | None = None


@dataclass(frozen=True)
class Side:
    """What one of the two models answered to a row. `main`: the score that decides, as people read it."""

    answer: str | None = None
    main: str = "–"
    tokens: int | None = None
    stopped: bool | None = None
    seconds: float | None = None
    scores: tuple[tuple[str, str], ...] = ()
    """(name, value) of all its scores, the loss first, as people read them."""


@dataclass(frozen=True)
class Opinion:
    """What a judge said of a row. `winner`: tuned, base or tie; `agreed`: in both orders alike."""

    winner: str
    agreed: bool | None = None
    base: float | None = None
    tuned: float | None = None
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class AnswerLine:
    """A row of an evaluation."""

    row: int
    place: str
    question: str
    reference: str
    base: Side
    tuned: Side
    opinion: Opinion | None = None


@dataclass(frozen=True)
class JobLine:
    """A job on the run. `outcome` is one line: what came of it, or why it ended."""

    job: str
    kind: str
    status: str
    created_at: float
    started_at: float | None = None
    ended_at: float | None = None
    phase: str = ""
    done: int | None = None
    total: int | None = None
    outcome: str = ""

    @property
    def active(self) -> bool:
        """Whether it is at work, or waits for a card."""
        return self.status in ACTIVE


@dataclass(frozen=True)
class MadeLine:
    """A file that was made of the run, or a directory: then the hash is that of its largest file.

    `there`: it still lies where it was written. `files`: (path, bytes, SHA-256) of each.
    """

    kind: str
    path: str
    bytes: int
    time: float
    sha256: str = ""
    there: bool = True
    files: tuple[tuple[str, int, str], ...] = ()


@dataclass(frozen=True)
class EvaluationPage:
    """One evaluation: which it is, what it was done on, what came of it."""

    job: str
    status: str
    main: str = ""
    """What people call the score that decides."""
    verdict: str = ""
    """One plain sentence."""
    scores: tuple[ScoreLine, ...] = ()
    forgetting: str = ""
    data: str = ""
    held_out: bool | None = None
    rows: int | None = None
    step: int | None = None
    seconds: float | None = None
    judged: str = ""
    """What a judge said of it, in a sentence."""
    more: tuple[tuple[str, str], ...] = ()
    """(what, in a line): notes on the rows, kinds of general texts, tasks of lm-eval."""


@dataclass(frozen=True)
class AfterPage:
    """Everything that was done with a run after its training."""

    asked: AfterQuestion
    name: str
    status: str
    evaluations: tuple[str, ...] = ()
    """The names of those that have anything to show, the oldest first."""
    evaluation: EvaluationPage | None = None
    rows: tuple[AnswerLine, ...] = ()
    """Those from `first` on."""
    first: int = 0
    total: int = 0
    jobs: tuple[JobLine, ...] = ()
    """The newest first."""
    made: tuple[MadeLine, ...] = ()
    """The newest first."""
    adapter: bool = True
    """Whether it trained an adapter, and not all weights."""
    problem: str = ""
    """Why nothing can be done with this run, in a sentence; empty if it can."""

    @property
    def at_work(self) -> tuple[JobLine, ...]:
        """The jobs that have not ended."""
        return tuple(one for one in self.jobs if one.active)


@dataclass(frozen=True)
class FieldAsked:
    """A field of a dialog. `choices`: (value, words), one of which is taken; without any it is typed.

    `path`: paths complete it.
    """

    name: str
    label: str
    value: str
    choices: tuple[tuple[str, str], ...] = ()
    path: bool = False
    hint: str = ""
    """What an empty field stands for."""


@dataclass(frozen=True)
class Prepared:
    """A job that could start: what it does and takes in `lines`; what is in its way in `problem`."""

    kind: str
    values: Mapping[str, str]
    lines: tuple[str, ...] = ()
    problem: str = ""
    ask: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class AfterState:
    """What the panes draw: what was read, and how the person looks at it."""

    page: AfterPage
    now: float
    order: str = "worst"
    at: int = 0
    """The place of the row under the cursor among all rows."""
    prepared: "Prepared | None" = None
    """What an evaluation would take, where there is none yet."""

    @property
    def row(self) -> AnswerLine | None:
        """The row under the cursor, as far as it has been read."""
        place = self.at - self.page.first
        return self.page.rows[place] if 0 <= place < len(self.page.rows) else None
