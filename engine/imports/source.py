"""What a reader of old runs gives, whatever tool they are from."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from engine.errors import SourceError

Sample = tuple[str, int, int, float, float]
"""Metric key, step, attempt, unix seconds, value."""


@dataclass(frozen=True)
class Saved:
    """A checkpoint that is still there."""

    step: int
    path: str
    bytes: int
    time: float


@dataclass(frozen=True)
class Facts:
    """What is known of a run besides its points. Times are unix seconds; what is not known is None or empty.

    `params` has our paths where a setting is the same as ours, `config.<its name>` for all else. `notes` say what was passed
    over or is only estimated, in sentences.
    """

    status: str = "stopped"
    reason: str = ""
    started: float | None = None
    ended: float | None = None
    method: str | None = None
    model: str | None = None
    dataset: str | None = None
    step: int | None = None
    total: int | None = None
    epoch: float | None = None
    params: dict[str, str] = field(default_factory=dict)
    checkpoints: tuple[Saved, ...] = ()
    model_path: str = ""
    model_bytes: int = 0
    attempt: int = 1
    notes: tuple[str, ...] = ()


class Source(Protocol):
    """A run somewhere else. `place` names it there and never changes: with `kind` it is the run's identity here."""

    @property
    def kind(self) -> str: ...
    @property
    def place(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def project(self) -> str | None: ...
    @property
    def began(self) -> float: ...

    def stamp(self) -> int:
        """Another number as soon as the source has gone on; looked at before anything is read."""

    def points(self) -> Iterator[Sample]:
        """Every point, read as it is asked for: a long run is never held whole. Raises SourceError."""

    def facts(self) -> Facts:
        """What else is known; after `points` has been read to its end."""


def broken(path: object, why: str, hint: str = "") -> SourceError:
    """A file that cannot be read as what it should be."""
    return SourceError("The file cannot be read", f"{path}: {why}.", hint)
