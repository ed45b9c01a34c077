"""Trackio: a database for each project, a row for each log call."""

import contextlib
import datetime
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.imports import names
from engine.imports.source import Facts, Sample
from engine.store import foreign

KIND = "trackio"


@dataclass
class _Told:
    """What was seen while the points were read."""

    last: float | None = None
    step: int | None = None
    epoch: float | None = None
    ended: bool = False
    skipped: int = 0
    broken: int = 0


@dataclass
class TrackioRun:
    """A run of a project's database."""

    path: Path
    run: foreign.TrackioRun
    kind: str = KIND
    _told: _Told = field(default_factory=_Told)
    _keys: names.Keys = field(default_factory=names.Keys)

    @property
    def place(self) -> str:
        return f"{self.path}#{names.line(self.run.id)}"

    @property
    def name(self) -> str:
        return self.run.name

    @property
    def project(self) -> str:
        return names.line(self.path.stem)

    @property
    def began(self) -> float:
        return moment(self.run.began) or self.path.stat().st_mtime

    def stamp(self) -> int:
        return zlib.crc32(f"{self.run.rows} {self.run.last} {self.run.name}".encode("utf-8", errors="replace"))

    def points(self) -> Iterator[Sample]:
        """transformers logs the trainer's step beside each value; Trackio's own only counts the log calls."""
        self._told, self._keys = told, keys = _Told(), names.Keys()
        with foreign.opened(self.path) as db:
            for time, count, values in foreign.trackio_rows(db, self.run.id):
                if values is None:
                    told.broken += 1
                    continue
                step = self._hear(moment(time), count, values)
                for tag, raw in values.items():
                    value = names.number(raw)
                    if value is None:
                        told.skipped += 1
                    elif tag not in (names.EPOCH, names.GLOBAL_STEP) and (key := keys.of(tag)) is not None:
                        yield key, step, 1, told.last or self.began, value

    def _hear(self, time: float | None, count: int, values: dict[str, Any]) -> int:
        """Take in a log call; its step."""
        told, given = self._told, names.number(values.get(names.GLOBAL_STEP))
        step = given if isinstance(given, int) else count if isinstance(count, int) else 0
        told.step = step if told.step is None else max(told.step, step)
        told.last = time or told.last
        epoch = names.number(values.get(names.EPOCH))
        told.epoch = told.epoch if epoch is None else float(epoch)
        # the summary at the end of a training has only these two left: transformers takes the rest out for Trackio
        told.ended = told.ended or values.keys() == {names.EPOCH, names.GLOBAL_STEP}
        return step

    def facts(self) -> Facts:
        told = self._told
        with foreign.opened(self.path) as db:
            config, others = foreign.trackio_config(db, self.run.id), foreign.trackio_others(db, self.run.id)
        method, model, params = _settings(config)
        total = params.get("training.max_steps")
        whole = bool(total) and told.step is not None and told.step >= int(total or 0)
        finished = told.ended or whole
        where = f" at step {told.step:,}" if told.step is not None else ""
        notes = [f"rows of {what}, left out: {count:,}" for what, count in others.items()]
        notes += [f"values that are no numbers, left out: {told.skipped:,}"] if told.skipped else []
        notes += [f"log calls that could not be read: {told.broken:,}"] if told.broken else []
        return Facts(
            "finished" if finished else "stopped",
            "" if finished else f"the record ends{where}; it does not say how the run ended",
            self.began, told.last, method, names.last_part(model) if model else None, step=told.step,
            total=int(total) if total else told.step if finished else None, epoch=told.epoch, params=params, notes=tuple(notes),
        )  # fmt: skip


def _settings(config: dict[str, Any]) -> tuple[str | None, str | None, dict[str, str]]:
    """Method, model and parameters of a run's configuration: the user's own, or what transformers' callback writes."""
    raw = {key: value for key, value in config.items() if not key.startswith("_") and key != "allow_val_change"}
    peft = raw.pop("peft_config", None)
    order = list(raw)
    trainer = "output_dir" in raw and names.is_trainer(raw)
    model: Any = config.get("_name_or_path")
    quantized = raw.get("quantization_config")
    if trainer:  # the model's own config stands before the trainer's arguments: it says nothing of this run
        raw = {key: raw[key] for key in order[order.index("output_dir") :]}
    params, method = names.settings(raw), "full" if trainer and not peft else None
    first = next(iter(peft.values()), None) if isinstance(peft, dict) else None
    if isinstance(first, dict):
        method, found = names.adapter(first)
        params |= found
        model = model or first.get("base_model_name_or_path")
    if method == "lora" and quantized:
        method = "qlora"
    if method:
        params["method.kind"] = method
    if isinstance(model, str) and model:
        params.setdefault("model.path", names.line(model, names.LONGEST_VALUE))
    return method or None, model if isinstance(model, str) else None, params


def moment(text: str) -> float | None:
    """ISO 8601 as unix seconds."""
    with contextlib.suppress(ValueError, OverflowError, OSError):
        return datetime.datetime.fromisoformat(text).timestamp()
    return None


def runs_in(path: Path) -> list[TrackioRun]:
    """The runs of a database. Raises SourceError if it is none of Trackio's."""
    with foreign.opened(path) as db:
        return [TrackioRun(path, run) for run in foreign.trackio_runs(db)]
