"""`trainer_state.json`: what transformers' Trainer writes with each checkpoint. Exact values, but no times."""

import bisect
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.imports import names
from engine.imports.long_json import pieces
from engine.imports.source import broken

FILE = "trainer_state.json"
NOT_METRICS = ("step", "epoch")
_SETTINGS = {"train_batch_size": "training.micro_batch", "num_train_epochs": "training.epochs"}
MOST_ANCHORS = 20_000


@dataclass
class Told:
    """The fields of a state beside its history; `ended`: the end of the training is in it. `runtime` in seconds."""

    fields: dict[str, Any] = field(default_factory=dict)
    epoch: float | None = None
    last: int = 0
    runtime: float | None = None
    ended: bool = False
    skipped: int = 0

    @property
    def total(self) -> int | None:
        return names.count(self.fields.get("max_steps"))

    @property
    def step(self) -> int:
        return max(self.last, names.count(self.fields.get("global_step")) or 0)

    def params(self) -> dict[str, str]:
        """The settings that the state knows."""
        found = {path: self.fields.get(key) for key, path in _SETTINGS.items()}
        epochs = found["training.epochs"]
        if isinstance(epochs, int):
            found["training.epochs"] = float(epochs)
        return {path: str(value) for path, value in found.items() if isinstance(value, int | float) and value}


def history(path: Path, told: Told) -> Iterator[tuple[str, int, float]]:
    """Metric, step and value of each entry, in order. Fills `told`. Raises SourceError."""
    seen = False
    for name, value in pieces(path, "log_history"):
        if name != "log_history":
            told.fields[name] = value if isinstance(value, int | float | str) else None
            continue
        seen = True
        if isinstance(value, dict):
            yield from _entry(value, told)
        elif value != []:
            told.skipped += 1
    if not seen and "global_step" not in told.fields:
        raise broken(path, "it has no log_history", "trainer_state.json is written by transformers' Trainer.")


def _entry(entry: dict[str, Any], told: Told) -> Iterator[tuple[str, int, float]]:
    step = entry.get("step")
    if not isinstance(step, int) or isinstance(step, bool) or not -(2**63) <= step < 2**63:
        told.skipped += 1
        return
    told.last = max(told.last, step)
    epoch = names.number(entry.get("epoch"))
    told.epoch = told.epoch if epoch is None else float(epoch)
    runtime = names.number(entry.get("train_runtime"))
    if runtime is not None:
        told.ended, told.runtime = True, float(runtime)
    for key, raw in entry.items():
        value = names.number(raw)
        if key not in NOT_METRICS and value is not None:
            yield key, step, value


@dataclass
class Clock:
    """When a step was, from some moments that are known: between them as if all steps took as long."""

    steps: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    _every: int = 1
    _seen: int = 0

    def add(self, step: int, time: float) -> None:
        """A later moment. A step before the last one is where training went on from again: what came after it does not count."""
        if self.steps and self.steps[-1] == step:
            return
        while self.steps and self.steps[-1] > step:
            self.steps.pop()
            self.times.pop()
        self._seen += 1
        if self._seen % self._every == 0 or not self.steps:
            self.steps.append(step)
            self.times.append(time)
        if len(self.steps) > MOST_ANCHORS:
            self.steps, self.times, self._every = self.steps[::2], self.times[::2], self._every * 2

    def at(self, step: int) -> float:
        """Unix seconds; before the first moment and after the last they are that."""
        place = bisect.bisect_left(self.steps, step)
        if place == len(self.steps):
            return self.times[-1]
        if self.steps[place] == step or place == 0:
            return self.times[place]
        (a, b), (s, t) = self.steps[place - 1 : place + 1], self.times[place - 1 : place + 1]
        return s + (t - s) * (step - a) / (b - a)
