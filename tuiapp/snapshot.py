"""What the screens draw: frozen values, collected in one thread, never the database itself.

A value that was not measured is None and is drawn as a dash.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from engine.health import Finding
from tuiapp.list_snapshot import NOTHING, Listing
from tuiapp.machine_snapshot import DayLine, HappenedLine, LeaseLine, ProcessLine, QueueLine

if TYPE_CHECKING:
    from engine.planner.rules import Goal
    from tuiapp.after_values import AfterPage

Points = tuple[tuple[float, float], ...]
"""(step, value) pairs in order of step; a non-finite value is NaN and breaks the line."""


@dataclass(frozen=True)
class GpuLine:
    """One card as NVML describes it now. Memory in GiB, power in W, temperature in °C, utilization in percent."""

    index: int
    name: str
    memory_used: float | None = None
    memory_total: float | None = None
    utilization: float | None = None
    power: float | None = None
    temperature: float | None = None
    uuid: str = ""
    lost: bool = False
    """The driver no longer reaches it."""
    throttle: str | None = None
    """As in `engine.hardware.GpuSample`."""
    power_limit: float | None = None
    leased: bool = False
    leases: tuple[LeaseLine, ...] = ()
    held: str = ""
    """The user who holds it back from queued runs."""
    processes: tuple[ProcessLine, ...] | None = None
    """None where the driver does not tell."""
    facts: tuple[tuple[str, str], ...] = ()
    """What else is known of it, as (what, value), the most asked for first."""
    history: tuple[float, ...] = ()
    """Utilization in percent, means of HISTORY_SECONDS up to the last whole one; NaN where nothing was measured."""


@dataclass(frozen=True)
class Machine:
    """The machine the app runs on. Memory and disk in GiB."""

    host: str
    gpus: tuple[GpuLine, ...] = ()
    gpu_problem: str | None = None
    cpu_name: str = ""
    cpu_percent: float | None = None
    ram_used: float | None = None
    ram_total: float | None = None
    user: str = ""
    cores: int | None = None
    driver: str | None = None
    cuda: str | None = None
    disk: str = ""
    """Where the runs are kept."""
    disk_free: float | None = None
    disk_total: float | None = None
    on_cpu: tuple[LeaseLine, ...] = ()
    """The runs that train on the processor."""
    cpu_held: str = ""
    queue: tuple[QueueLine, ...] = ()
    days: tuple[DayLine, ...] = ()
    """The newest first."""
    happened: tuple[HappenedLine, ...] = ()
    """The newest first."""


@dataclass(frozen=True)
class RunLine:
    """One row of the runs table, and the head of the live screen. Times are unix seconds, memory GiB."""

    id: str
    name: str
    status: str
    method: str
    model: str
    dataset: str
    created_at: float
    started_at: float | None = None
    ended_at: float | None = None
    loss: float | None = None
    best_eval: float | None = None
    peak_gib: float | None = None
    tokens_per_second: float | None = None
    learning_rate: float | None = None
    """As it is in the specification: the peak of the schedule."""
    rank: int | None = None
    step: int | None = None
    total_steps: int | None = None
    spark: tuple[float, ...] = ()
    """The loss curve thinned to a dozen points for a sparkline."""
    tags: tuple[str, ...] = ()
    note: str = ""
    starred: bool = False
    archived: bool = False
    deleted_at: float | None = None
    """When it was put into the bin."""
    sweep: str = ""
    """The id of the sweep that it is part of, and the name."""
    sweep_name: str = ""
    imported: bool = False
    """It was trained by another program: it cannot be continued or forked."""
    held: str = ""
    """What its evaluation rows depend on: only runs with the same one are compared by their best eval loss."""

    @property
    def is_put_away(self) -> bool:
        """Whether it is archived or in the bin."""
        return self.archived or self.deleted_at is not None

    @cached_property
    def words(self) -> str:
        """What a filter looks through, folded."""
        return " ".join(
            (self.name, self.model, self.method, self.status, self.dataset, self.id, self.note, *self.tags)
        ).casefold()


@dataclass(frozen=True)
class Sample:
    """What the model answered to a prompt at a step."""

    step: int
    prompt: str
    text: str


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was announced as complete."""

    step: int
    time: float
    gib: float | None = None
    eval_loss: float | None = None
    kept: bool = True


@dataclass(frozen=True)
class EventLine:
    """One line of the run's history."""

    time: float
    type: str
    level: str
    text: str


@dataclass(frozen=True)
class RunDetail:
    """Everything that the live screen shows of one run."""

    run: RunLine
    curves: Mapping[str, Points] = field(default_factory=dict)
    """By metric name: loss, eval_loss, learning_rate, grad_norm, tokens_per_second, mean_token_accuracy, ..."""
    phase: str = ""
    epoch: float | None = None
    epochs: float | None = None
    ends_at: float | None = None
    memory_now: float | None = None
    memory_peak: float | None = None
    memory_total: float | None = None
    memory_label: str = "GPU 0"
    memory_curve: Points = ()
    """(seconds of work, GiB)"""
    spec: Mapping[str, str] = field(default_factory=dict)
    """The specification, flattened: `training.learning_rate` to its text."""
    reasons: Mapping[str, str] = field(default_factory=dict)
    """Why the program chose a value, by the same paths."""
    samples: tuple[Sample, ...] = ()
    checkpoints: tuple[Checkpoint, ...] = ()
    events: tuple[EventLine, ...] = ()
    health: tuple[Finding, ...] = ()
    """What is wrong with it, the worst first; then what was looked at and is well."""
    log: tuple[str, ...] = ()
    """The last lines of output.log, already stripped of control sequences."""
    error_title: str = ""
    error_message: str = ""
    error_hint: str = ""
    tags: tuple[str, ...] = ()
    note: str = ""
    attempt: int = 1
    supervisor_pid: int | None = None
    directory: str = ""
    stored: Mapping[str, int] = field(default_factory=dict)
    """How many points of a curve there are, where not all of them are in `curves`: a very long run is thinned."""
    worked: Points = ()
    """(step, seconds of work since the start), what lay idle between attempts left out."""
    gpu: Mapping[str, Points] = field(default_factory=dict)
    """By gpu_utilization (percent), gpu_power (W), gpu_temperature (°C): (seconds of work, value) of the run's cards."""
    allocated_peak: float | None = None
    """What PyTorch's allocator handed out at most, GiB; the same for what it reserved. None on a CPU."""
    reserved_peak: float | None = None
    predicted_peak: float | None = None
    """What the plan said that the allocator would hand out at most, GiB; and what NVML would show of the card."""
    predicted_device: float | None = None
    error_kind: str = ""
    """As in `engine.events.Failed`; empty for a crash."""
    exit_code: int | None = None
    parent: str = ""
    """The name of the run that this one is a fork of."""
    held_out: bool = False
    """Whether there are rows to evaluate on."""
    evaluated: tuple[str, str] = ("", "")
    """What the newest evaluation against the base came to: better, worse or noise, and the sentence."""


@dataclass(frozen=True)
class Snapshot:
    """One moment: all runs, the machine, and the selected run in detail."""

    machine: Machine
    database: str
    now: float
    runs: tuple[RunLine, ...] = ()
    """The newest first; without those that are archived or in the bin."""
    detail: RunDetail | None = None
    baseline: RunDetail | None = None
    """The run that is pinned to compare others with: its row, curves and specification alone."""
    read_only: bool = False
    problem: str | None = None
    """Why the runs could not be read this time, in a sentence."""
    notice: str = ""
    """What was done to the database when it was opened: to be read once."""
    put_away: tuple[RunLine, ...] = ()
    """The runs that are archived or in the bin."""
    listing: Listing = NOTHING
    """What the list of runs asked for."""
    after: "AfterPage | None" = None
    """What was done with a run after its training, where a screen asks for it."""


@dataclass(frozen=True)
class NewRun:
    """What the form asks for; everything else is recommended."""

    model: str
    data: str
    method: str
    name: str = ""
    max_steps: int | None = None
    chosen: tuple[tuple[str, Any], ...] = ()
    """Fields of the specification that the plan page or the data page settled, by path: `training.micro_batch` to 4."""
    goal: "Goal" = "instructions"
    """What should change."""
    parent: str = ""
    """The id of the run that this one is a fork of."""


@dataclass(frozen=True)
class PlanValues:
    """What one turns on the plan page. `method` is one of `tuiapp.planning.METHODS`; `rank` is kept while all weights train."""

    method: str
    rank: int
    targets: str
    max_length: int
    micro_batch: int
    accumulation: int
    checkpointing: bool
    packing: bool
    optimizer: str


@dataclass(frozen=True)
class MemoryPart:
    """One component of the memory at the peak, GiB of one card."""

    key: str
    label: str
    gib: float


@dataclass(frozen=True)
class PlanChoice:
    """Values and what they cost. Memory in GiB of one card, None where it is not known; times in seconds, estimates."""

    values: PlanValues
    name: str
    fits: str
    """yes, close, no or unknown"""
    parts: tuple[MemoryPart, ...] = ()
    peak_gib: float | None = None
    """What PyTorch's allocator would say."""
    device_gib: float | None = None
    """What NVML would show."""
    phase: str = ""
    seconds: float | None = None
    seconds_per_epoch: float | None = None
    tokens_per_second: float | None = None
    trained: int | None = None
    parameters: int | None = None
    layout: str = ""
    """How several cards work together: DDP, FSDP."""
    reasons: Mapping[str, str] = field(default_factory=dict)
    """Why the program chose a value, by the names of `PlanValues` and by the paths of the specification."""
    settings: tuple[tuple[str, Any], ...] = ()
    """The fields of the specification that make a run be this, by path."""
    follows: tuple[tuple[str, str], ...] = ()
    """Other fields of the specification as text, by path."""
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class PastPeak:
    """What a run was predicted to take of a card and what it took, GiB."""

    run_id: str
    method: str
    predicted: float
    measured: float


@dataclass(frozen=True)
class PlanPage:
    """A plan as it was recommended, and between what one can choose. `card` is the key that asked for it."""

    form: NewRun
    card: str
    cards: tuple[tuple[str, str], ...]
    """(key, name) of what can be planned for."""
    model: str
    about: str
    context: int
    card_name: str
    card_gib: float | None
    here: bool
    """Whether that card is in this machine."""
    processes: int
    recommended: PlanChoice
    alternatives: tuple[PlanChoice, ...] = ()
    rows: int | None = None
    mean_length: float | None = None
    """Tokens a row, as far as the data is known."""
    notes: tuple[str, ...] = ()
    basis: str = ""
    """What the numbers rest on, in a sentence."""
    past: tuple[PastPeak, ...] = ()


@dataclass(frozen=True)
class CardPlan:
    """The best that fits on another card, None where nothing does."""

    name: str
    gib: float
    best: PlanChoice | None


@dataclass(frozen=True)
class Traced:
    """The peak of the real step, traced without a GPU, GiB: what the allocator hands out, and what it holds."""

    allocated: float
    reserved: float
