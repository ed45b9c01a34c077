"""One attempt of a run in this process: real trainers on a tiny model, without the ten seconds that a process costs."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.events import Event, Finished, Metric, Sample
from engine.files import read_records
from engine.planner.ask import request_for
from engine.planner.recommend import recommend
from engine.spec import RunSpec, apply_sets, parse

QUIET = {"data.validation": 0, "evaluation.prompts": "[]", "saving.every": 0}


def complete_spec(model: Path, data: Path, **sets: Any) -> RunSpec:
    """What `tunedeck train` would store for these settings (dots written as two underscores) on a machine without a GPU."""
    from engine.data.examine import examine
    from engine.models import inspect_model

    named = {name.replace("__", "."): value for name, value in sets.items()}
    items = [
        f"{path}={json.dumps(value) if not isinstance(value, str) else value}"
        for path, value in (QUIET | named).items()
    ]
    raw = {"model": {"path": str(model)}, "data": {"path": str(data)}, "compute": {"devices": "cpu"}}
    spec = parse(apply_sets(raw, items))
    facts = inspect_model(str(model))
    return recommend(request_for(spec, facts, examine(spec.data, facts, spec.model), None)).choice.spec


@dataclass(frozen=True)
class Trained:
    """What an attempt left behind, and its trainer (which this module catches as it is made)."""

    directory: Path
    trainer: Any

    def events(self) -> list[Event]:
        return [record.event for record in read_records(self.directory / "events.jsonl")]

    def series(self, name: str) -> list[float]:
        """A metric's values in the order of the steps."""
        return [e.values[name] for e in self.events() if isinstance(e, Metric) and name in e.values]

    def samples(self) -> list[Sample]:
        return [e for e in self.events() if isinstance(e, Sample)]

    @property
    def model(self) -> Path:
        (finished,) = [e for e in self.events() if isinstance(e, Finished)]
        return Path(finished.model)


def trained(spec: RunSpec, directory: Path, resume_from: str = "", attempt: int = 1) -> Trained:
    """Train in this process. Raises what the worker would report as its failure."""
    from engine.worker import training
    from engine.worker.reporter import Reporter

    os.environ.setdefault("TUNEDECK_CACHE", str(directory.parent / "cache"))
    directory.mkdir(parents=True, exist_ok=True)
    caught: list[Any] = []
    real = training.attach

    def attach(trainer: Any, *given: Any) -> None:
        caught.append(trainer)
        real(trainer, *given)

    training.attach = attach
    try:
        training.train(spec, Reporter(directory, attempt), lambda: False, resume_from)
    finally:
        training.attach = real
    return Trained(directory, caught[-1])
