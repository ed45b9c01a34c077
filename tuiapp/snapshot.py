"""What the screens draw: frozen values, collected in one thread, never the database itself.

A value that was not measured is None and is drawn as a dash.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

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


@dataclass(frozen=True)
class Machine:
    """The machine the app runs on. Memory in GiB."""

    host: str
    gpus: tuple[GpuLine, ...] = ()
    gpu_problem: str | None = None
    cpu_name: str = ""
    cpu_percent: float | None = None
    ram_used: float | None = None
    ram_total: float | None = None


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
    rank: int | None = None
    step: int | None = None
    total_steps: int | None = None
    spark: tuple[float, ...] = ()
    """The loss curve thinned to a dozen points for a sparkline."""


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
    """(seconds since start, GiB)"""
    spec: Mapping[str, str] = field(default_factory=dict)
    """The specification, flattened: `training.learning_rate` to its text."""
    reasons: Mapping[str, str] = field(default_factory=dict)
    """Why the program chose a value, by the same paths."""
    samples: tuple[Sample, ...] = ()
    checkpoints: tuple[Checkpoint, ...] = ()
    events: tuple[EventLine, ...] = ()
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


@dataclass(frozen=True)
class Snapshot:
    """One moment: all runs, the machine, and the selected run in detail."""

    machine: Machine
    database: str
    now: float
    runs: tuple[RunLine, ...] = ()
    detail: RunDetail | None = None
    read_only: bool = False
    problem: str | None = None
    """Why the runs could not be read this time, in a sentence."""


@dataclass(frozen=True)
class NewRun:
    """What the form asks for; everything else is recommended."""

    model: str
    data: str
    method: str
    name: str = ""
    max_steps: int | None = None


@dataclass(frozen=True)
class FormCheck:
    """What is known about the form's model and data before anything starts: one sentence each, and whether it is good."""

    model_text: str
    model_ok: bool
    data_text: str
    data_ok: bool
    plan: tuple[tuple[str, str, str], ...] = ()
    """(field, value, why) of what will be chosen."""
