"""What the last step of a new run shows and offers: frozen values, and the decisions that are made of them."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tuiapp.draft import DATA, MODEL, PLAN, TRAINING
from tuiapp.format import clean
from tuiapp.snapshot import NewRun, PlanChoice

START, QUEUE, SAVE, COPY = "start", "queue", "save", "copy"
LABELS = {
    START: "Start now",
    QUEUE: "Put in the queue",
    SAVE: "Save as YAML",
    COPY: "Copy the command",
}
KEY_WORDS = {START: "start now", QUEUE: "queue", SAVE: "save", COPY: "copy"}
LONGEST_NAME = 80
"""Characters of a run's name, as `engine.spec.RunSection` has it."""


@dataclass(frozen=True)
class Problem:
    """Why it cannot start. `hint` is what helps, `step` the step where that is done; None where it is none of them."""

    title: str
    message: str
    hint: str = ""
    step: int | None = None


@dataclass(frozen=True)
class Change:
    """A field that is not as in what it is compared with; the values as JSON, empty where there is none.

    `why` is the reason for the value before. `chosen`: somebody did it; else it follows from what somebody did.
    """

    path: str
    before: str
    after: str
    why: str = ""
    chosen: bool = True


@dataclass(frozen=True)
class Waits:
    """Whether it could begin at once and on which card; else what it would wait for, and when it may begin (unix seconds)."""

    free: bool
    card: str = ""
    """GPU 0; GPU 0 and 1; CPU."""
    reason: str = ""
    """It follows `waits for`."""
    starts: float | None = None


@dataclass(frozen=True)
class ReviewPage:
    """A run as it would really start. Memory in GiB of one card, disk in bytes, times in seconds."""

    form: NewRun
    problem: Problem | None = None
    name: str = ""
    """As it will be called, one that no other run has."""
    card: str = ""
    """NVIDIA GeForce RTX 4090, 2 x …, this CPU"""
    card_gib: float | None = None
    choice: PlanChoice | None = None
    band: float = 0.0
    """How far off the memory may be, as a share."""
    basis: str = ""
    """What the memory and the time rest on."""
    steps: int | None = None
    rows: int = 0
    """In the files."""
    train: int = 0
    validation: int = 0
    validation_file: str = ""
    dropped: tuple[tuple[str, int], ...] = ()
    """(reason, rows)"""
    disk_needed: int = 0
    disk_free: int = 0
    keep: int = 0
    """Checkpoints that stay."""
    model_bytes: int | None = None
    """Of the adapter or the model that comes out."""
    is_adapter: bool = True
    fields: int = 0
    """Of the specification."""
    changes: tuple[Change, ...] = ()
    """Against what is recommended."""
    recommended: bool = True
    """Whether there is anything recommended to compare with."""
    parent: str = ""
    """The name of the run that it is a fork of."""
    parent_changes: tuple[Change, ...] = ()
    warnings: tuple[tuple[str, str], ...] = ()
    """(warning or note, sentence)"""
    command: tuple[str, ...] = ()
    """Empty where none makes exactly this."""
    yaml: str = ""
    waits: Waits = Waits(True)

    @property
    def on_cpu(self) -> bool:
        """Whether it trains without a card."""
        return self.card_gib is None


class ReviewServices(Protocol):
    """What the step asks for. All of it may block."""

    def review(self, form: NewRun) -> ReviewPage:
        """The run as it would start; what is in the way is in the page."""

    def start(self, form: NewRun, queue: bool = False) -> str:
        """Start it, or let it wait for its turn; its id."""

    def save(self, page: ReviewPage, path: str, replace: bool = False) -> str:
        """Write the page's YAML; where it is, or "" if there is a file that may not be replaced."""

    def complete_path(self, text: str) -> list[str]:
        """Paths that begin so."""


def choices(page: ReviewPage) -> tuple[str, ...]:
    """What can be done with it, the best first.

    A run on a GPU takes its turn by itself: there is one way to begin. On the CPU it can also begin beside another run.
    """
    rest = (SAVE, *((COPY,) if page.command else ()))
    if page.problem is not None:
        return ()
    if not page.on_cpu:
        return (START if page.waits.free else QUEUE, *rest)
    return (START, QUEUE, *rest) if page.waits.free else (QUEUE, START, *rest)


def command_of(page: ReviewPage, choice: str) -> tuple[str, ...]:
    """The command that does what is chosen."""
    wanted = ("--queue",) if choice == QUEUE and page.on_cpu else ()
    return (*page.command, *wanted, "--detach") if page.command else ()


def wrapped(command: Sequence[str], width: int, rows: int) -> list[str]:
    """A command in lines that a shell takes as one: a flag and its value stay together. What has no room is an ellipsis."""
    pieces: list[str] = []
    for word in command:
        quoted = home_shortened(word)
        if pieces and pieces[-1].startswith("--") and " " not in pieces[-1] and not quoted.startswith("--"):
            pieces[-1] += f" {quoted}"
        elif pieces and len(pieces) == 1 and not word.startswith("--"):
            pieces[0] += f" {quoted}"
        else:
            pieces.append(quoted)
    lines: list[str] = []
    for piece in pieces:
        if lines and len(lines[-1]) + len(piece) + 3 <= width:
            lines[-1] += f" {piece}"
        else:
            lines.append(f"{'  ' if lines else ''}{piece}")
    if len(lines) > rows:
        lines = [*lines[: max(0, rows - 1)], "  …"][:rows]
    return [f"{one} \\" if i + 1 < len(lines) else one for i, one in enumerate(lines)]


def home_shortened(word: str, home: str = "") -> str:
    """A word as the shell wants it; one's own directory as ~, which has to stand outside of quotes."""
    from os.path import expanduser

    home = home or expanduser("~")
    if home != "/" and word.startswith(home + "/"):
        return f"~/{shlex.quote(word[len(home) + 1 :])}"
    return shlex.quote(word)


def bad_name(name: str) -> str:
    """Why a run cannot be called that; empty if it can."""
    if name != clean(name).strip():
        return "A name is one line of text that can be printed."
    return f"A name has at most {LONGEST_NAME} characters." if len(name) > LONGEST_NAME else ""


def step_for(kind: str) -> int | None:
    """Where what an error is about can be changed, by the name of its class."""
    return {"NoFit": PLAN, "DataError": DATA, "ModelError": MODEL, "SpecError": TRAINING}.get(kind)
