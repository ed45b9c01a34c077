"""What a run says of itself: one dataclass per event, one JSON line per record.

The worker appends to `events.jsonl`, the supervisor to `supervisor.jsonl`. A line is complete when it ends in a newline.
An event of an unknown type is kept as `Unknown`; an unknown field of a known type is dropped; neither is an error.
"""

import contextlib
import dataclasses
import json
import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

VERSION = 1


@dataclass(frozen=True)
class Started:
    """The worker is up; `process_start` (unix seconds) tells it from a later process with the same pid."""

    type: ClassVar[str] = "started"
    pid: int
    process_start: float
    host: str
    gpus: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    spec: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Phase:
    """What the worker is doing now: import, convert, tokenize, load, resume, train, evaluate, save."""

    type: ClassVar[str] = "phase"
    name: str
    text: str = ""


@dataclass(frozen=True)
class Progress:
    type: ClassVar[str] = "progress"
    step: int
    total: int
    epoch: float = 0.0


@dataclass(frozen=True)
class Metric:
    """Values by name at a step, with TRL's and transformers' own names."""

    type: ClassVar[str] = "metric"
    step: int
    values: dict[str, float]


@dataclass(frozen=True)
class Memory:
    """Peak of the allocator and what it reserved, GiB. Without a GPU both are the process's peak resident size.

    `components`, once after the first step: GiB of the tensors that stay (weights, adapter, optimizer).
    """

    type: ClassVar[str] = "memory"
    step: int
    allocated_gib: float
    reserved_gib: float
    total_gib: float
    device: str = "cpu"
    components: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Sample:
    """What the model answers to `prompt` at this step (0: before any training), decoded greedily."""

    type: ClassVar[str] = "sample"
    step: int
    prompt: str
    text: str


@dataclass(frozen=True)
class Checkpoint:
    """Written after the checkpoint is complete; `files` (name to bytes) lets a resume check that it still is."""

    type: ClassVar[str] = "checkpoint"
    step: int
    path: str
    bytes: int
    files: dict[str, int] = field(default_factory=dict)
    eval_loss: float | None = None


@dataclass(frozen=True)
class DataReady:
    """What is trained on: rows and tokens, what was left out by reason, with the first lines, and the hash of the files.

    `validation` rows are held out; `cached`: the ids were there from an earlier run.
    """

    type: ClassVar[str] = "data"
    sha256: str
    format: str
    train: int
    validation: int
    tokens: int
    trained_tokens: int
    dropped: dict[str, int] = field(default_factory=dict)
    lines: dict[str, list[int]] = field(default_factory=dict)
    cached: bool = False


@dataclass(frozen=True)
class Base:
    """The base model, hashed (engine.fingerprint) once it had been downloaded; one that was here is in the environment."""

    type: ClassVar[str] = "base"
    path: str
    sha256: str


@dataclass(frozen=True)
class Notice:
    """Something the user should know; `level` is note or warning."""

    type: ClassVar[str] = "notice"
    level: str
    text: str
    hint: str = ""


@dataclass(frozen=True)
class Failed:
    """The worker's last event if it failed; `kind` is oom, data, config, download, nonfinite, disk or other.

    `phase` is what it was doing; `device` is gpu or host for the memory that ran out.
    """

    type: ClassVar[str] = "failed"
    kind: str
    message: str
    hint: str = ""
    phase: str = ""
    device: str = ""


@dataclass(frozen=True)
class Finished:
    type: ClassVar[str] = "finished"
    step: int
    model: str = ""
    bytes: int = 0


@dataclass(frozen=True)
class Done:
    """A job after training (engine.after) went well: `summary` is what came of it, `text` says it in a sentence."""

    type: ClassVar[str] = "done"
    summary: dict[str, Any]
    text: str = ""


@dataclass(frozen=True)
class Stopped:
    type: ClassVar[str] = "stopped"
    step: int
    checkpoint: str = ""


@dataclass(frozen=True)
class Attempt:
    """The supervisor starts a worker; `pid` is the process that it started (the torchrun agent, if there is one).

    `log` is where in output.log this attempt begins, in bytes.
    """

    type: ClassVar[str] = "attempt"
    pid: int
    process_start: float
    resume_from: str = ""
    overrides: dict[str, Any] = field(default_factory=dict)
    gpus: list[int] = field(default_factory=list)
    log: int = 0


@dataclass(frozen=True)
class Waiting:
    """The run is queued: it is about to start or to go on, or waits for its turn and for cards that are free."""

    type: ClassVar[str] = "waiting"
    text: str


@dataclass(frozen=True)
class Stopping:
    """The request to stop was seen."""

    type: ClassVar[str] = "stopping"
    now: bool = False


@dataclass(frozen=True)
class GpuSamples:
    """NVML's numbers of one moment, a dict per GPU: gpu, memory_used (GiB), utilization, power, temperature, throttle."""

    type: ClassVar[str] = "gpu"
    samples: list[dict[str, Any]]


@dataclass(frozen=True)
class Exit:
    """How an attempt ended, as the supervisor saw it. `status` is the run's new status, `text` the reason.

    `code` and `signal` are None when nobody was there to see them (an adopted worker).
    """

    type: ClassVar[str] = "exit"
    status: str
    text: str
    code: int | None = None
    signal: int | None = None
    last_words: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Unknown:
    """An event of a later version: kept, never fatal."""

    name: str
    data: dict[str, Any]

    @property
    def type(self) -> str:
        return self.name


WorkerEvent = (
    Started
    | Phase
    | Progress
    | Metric
    | Memory
    | Sample
    | Checkpoint
    | DataReady
    | Base
    | Notice
    | Failed
    | Finished
    | Done
    | Stopped
)
SupervisorEvent = Attempt | Waiting | Stopping | GpuSamples | Exit | Notice
Event = WorkerEvent | SupervisorEvent | Unknown

_KNOWN: dict[str, Any] = {
    cls.type: cls
    for cls in (
        *(
            Started,
            Phase,
            Progress,
            Metric,
            Memory,
            Sample,
            Checkpoint,
            DataReady,
            Base,
            Notice,
            Failed,
            Finished,
            Done,
            Stopped,
        ),
        *(Attempt, Waiting, Stopping, GpuSamples, Exit),
    )
}
_FIELDS = {name: frozenset(f.name for f in dataclasses.fields(cls)) for name, cls in _KNOWN.items()}
_FLOATS = {name: [f.name for f in dataclasses.fields(cls) if "float" in str(f.type)] for name, cls in _KNOWN.items()}
_ENVELOPE = frozenset({"v", "seq", "t", "type", "attempt"})


@dataclass(frozen=True)
class Record:
    """An event with its place: `seq` counts the lines of one file, `time` is unix seconds, `attempt` counts from 1."""

    seq: int
    time: float
    attempt: int
    event: Event


def finite(value: Any) -> Any:
    """JSON has no NaN: non-finite numbers become "nan", "inf" and "-inf"."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return value


def encode(record: Record) -> str:
    """One line of JSON, newline included."""
    event = record.event
    body = event.data if isinstance(event, Unknown) else vars(event)
    line = {"v": VERSION, "seq": record.seq, "t": record.time, "type": event.type, "attempt": record.attempt}
    try:
        text = json.dumps(line | body, ensure_ascii=False, allow_nan=False)
    except ValueError:  # rare, so the common line is not walked to look for non-finite numbers
        text = json.dumps(line | finite(body), ensure_ascii=False)
    return text + "\n"


def decode(line: str | bytes) -> Record:
    """The record on a line. Raises ValueError if the line is no JSON object with `seq`, `t` and `type`."""
    raw = json.loads(line)
    if b"\\u" in (line if isinstance(line, bytes) else line.encode(errors="replace")):
        # half a surrogate pair, which JSON allows, cannot be stored
        raw = json.loads(json.dumps(raw, ensure_ascii=False).encode(errors="replace"))
    if not isinstance(raw, dict) or not {"seq", "t", "type"} <= raw.keys():
        raise ValueError("not an event")
    name = str(raw["type"])
    body = {k: v for k, v in raw.items() if k not in _ENVELOPE}
    event: Event = Unknown(name, body)
    if name in _KNOWN:
        # a field that this version needs is missing, or of another kind: then it stays unknown
        with contextlib.suppress(TypeError, ValueError, AttributeError):
            event = _KNOWN[name](**_numbers(name, {k: v for k, v in body.items() if k in _FIELDS[name]}))
    try:
        return Record(int(raw["seq"]), float(raw["t"]), int(raw.get("attempt", 1)), event)
    except TypeError:
        raise ValueError("not an event") from None


def _numbers(name: str, body: dict[str, Any]) -> dict[str, Any]:
    """The fields of an event with their numbers as numbers: "nan" and "inf" were texts on the line."""
    for key in _FLOATS[name]:
        value = body.get(key)
        if key in ("values", "components") and key in body:
            body[key] = {str(k): float(v) for k, v in body[key].items()}
        elif isinstance(value, str):
            body[key] = float(value)
    return body
