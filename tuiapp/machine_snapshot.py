"""What the machine screen draws besides the numbers of `tuiapp.snapshot.GpuLine`: who uses a card, and who waits for one."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ProcessLine:
    """A process on a card. Memory in GiB, `seconds` since it started; None for what the system does not tell.

    `graphics`: a desktop, which computes nothing. `mine`: it is ours.
    """

    pid: int
    name: str | None = None
    user: str | None = None
    gib: float | None = None
    seconds: float | None = None
    graphics: bool = False
    mine: bool = False


@dataclass(frozen=True)
class LeaseLine:
    """A run that has a card. `here`: it is one of the runs of this database, so it can be opened; `mine`: of this user."""

    run: str
    name: str
    user: str = ""
    mine: bool = True
    here: bool = True
    status: str = "running"
    ends_at: float | None = None
    step: int | None = None
    total_steps: int | None = None
    best_eval: float | None = None


@dataclass(frozen=True)
class QueueLine:
    """A run that waits. `key` names its ticket; `starts` is unix seconds, `seconds` how long it will take, both estimates."""

    key: str
    run: str
    name: str
    user: str = ""
    mine: bool = True
    here: bool = True
    needs: str = ""
    waits_for: str = ""
    would_get: str = ""
    starts: float | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class DayLine:
    """Hours that the runs of this database had cards on one day; `start` is its midnight, unix seconds."""

    start: float
    hours: float


@dataclass(frozen=True)
class HappenedLine:
    """Something that a run of this database said of its cards."""

    time: float
    run: str
    text: str
