"""TensorBoard: a directory with event files is a run; what was written at several starts is in several files."""

import contextlib
import json
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.imports import names, wire
from engine.imports.source import Facts, Sample, broken

KIND = "tensorboard"
LONGEST_TEXT = 1 << 20
"""Characters of a text that is looked into."""
ARGS, MODEL = "args/text_summary", "model_config/text_summary"
"""Texts that transformers' callback writes: the trainer's arguments and the model's config."""
ENDED = "train/train_runtime"
"""What transformers reports at the end of a training."""


@dataclass
class Told:
    """What event files say besides their points; filled while they are read. Times are unix seconds."""

    first: float | None = None
    last: float | None = None
    step: int | None = None
    epoch: float | None = None
    texts: dict[str, str] = field(default_factory=dict)
    hparams: dict[str, Any] = field(default_factory=dict)
    status: int | None = None
    ended: bool = False
    read: int = 0
    others: int = 0
    damaged: int = 0
    large: int = 0
    lost: list[str] = field(default_factory=list)

    def hear(self, event: wire.Event) -> None:
        """Take in one event."""
        if math.isfinite(event.time) and event.time > 0:
            self.first = event.time if self.first is None else min(self.first, event.time)
            self.last = event.time if self.last is None else max(self.last, event.time)
        for tag, text in event.texts:
            if tag in (ARGS, MODEL) and len(text) <= LONGEST_TEXT:
                self.texts[tag] = text
        self.hparams |= event.hparams
        self.status = event.status if event.status is not None else self.status
        self.others += event.others
        for tag, value in event.scalars:
            self.step = event.step if self.step is None else max(self.step, event.step)
            self.ended = self.ended or tag == ENDED
            self.epoch = value if tag == names.EPOCH else self.epoch

    def settings(self) -> tuple[dict[str, str], str | None]:
        """Parameters, and the model's path or id."""
        args, model = (_mapping(self.texts.get(tag, "")) for tag in (ARGS, MODEL))
        path = model.get("_name_or_path")
        found = names.settings(self.hparams) | names.settings(args)
        if model.get("quantization_config"):
            found["config.quantization"] = names.line(json.dumps(model["quantization_config"]), names.LONGEST_VALUE)
        return found, path if isinstance(path, str) and path else None

    def notes(self) -> list[str]:
        """What could not be read, in sentences."""
        said = [f"damaged records, left out: {self.damaged:,}"] if self.damaged else []
        said += [f"records over {wire.LARGEST >> 20} MiB, left out: {self.large:,}"] if self.large else []
        said += [f"histograms, images and other values, left out: {self.others:,}"] if self.others else []
        return [*said, *(f"{one} is broken: what came later in it is lost" for one in self.lost)]


def _mapping(text: str) -> dict[str, Any]:
    with contextlib.suppress(ValueError, RecursionError):
        found = json.loads(text)
        if isinstance(found, dict):
            return found
    return {}


def events(files: list[Path], told: Told) -> Iterator[tuple[int, wire.Event]]:
    """The events of files in their order, each with the number of its file. Raises SourceError if one cannot be opened."""
    for number, path in enumerate(files):
        records = wire.Records(path)
        try:
            for data in records:
                try:
                    event = wire.decode(data)
                except ValueError:
                    told.damaged += 1
                    continue
                told.hear(event)
                yield number, event
        except OSError as error:
            raise broken(path, error.strerror or str(error)) from None
        told.damaged += records.damaged
        told.large += records.large
        if records.lost_at is not None:
            told.lost.append(f"{names.line(path.name)} from byte {records.lost_at:,} on")


def began(path: Path) -> float | None:
    """When a file was begun, unix seconds: the time of its first event."""
    for data in wire.Records(path):
        with contextlib.suppress(ValueError):
            time = wire.decode(data).time
            if math.isfinite(time) and time > 0:
                return time
    return None


def in_order(files: list[Path]) -> list[Path]:
    """As they were begun."""
    return sorted(files, key=lambda path: (began(path) or path.stat().st_mtime, path.name))


def stamp_of(paths: list[Path]) -> int:
    """A number that changes when a file grows, changes, comes or goes. Raises OSError."""
    looks = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(paths)]
    return zlib.crc32(repr(looks).encode("utf-8", errors="replace"))


@dataclass
class TfRun:
    """A directory with event files, the oldest first. `name` is the directory as TensorBoard shows it."""

    directory: Path
    files: list[Path]
    name: str
    project: str | None = None
    kind: str = KIND
    _told: Told = field(default_factory=Told)
    _keys: names.Keys = field(default_factory=names.Keys)
    _attempt: int = 1

    @property
    def place(self) -> str:
        return str(self.directory)

    @property
    def began(self) -> float:
        return min(began(path) or path.stat().st_mtime for path in self.files)

    def stamp(self) -> int:
        return stamp_of(self.files)

    def points(self) -> Iterator[Sample]:
        """A file whose steps begin before those of an earlier one is a later attempt: training was started again."""
        self._told, self._keys = Told(), names.Keys()
        self._attempt, file, highest = 1, 0, -1
        for number, event in events(self.files, self._told):
            if event.scalars and number != file:
                self._attempt, file = self._attempt + (event.step < highest), number
            for tag, value in event.scalars:
                highest = max(highest, event.step)
                if tag != names.EPOCH and (key := self._keys.of(tag)) is not None:
                    yield key, event.step, self._attempt, _time(event, self._told), value

    def facts(self) -> Facts:
        told = self._told
        params, model = told.settings()
        total = params.get("training.max_steps")
        status, reason = how_ended(told)
        notes = told.notes()
        if self._keys.dropped:
            notes.append(f"only the first {names.MOST_KEYS:,} metrics were taken")
        if model:
            params.setdefault("model.path", names.line(model, names.LONGEST_VALUE))
        return Facts(
            status, reason, told.first, told.last, model=names.last_part(model) if model else None, step=told.step,
            total=int(total) if total else told.step if told.ended else None, epoch=told.epoch, params=params, attempt=self._attempt,
            notes=tuple(notes),
        )  # fmt: skip


def _time(event: wire.Event, told: Told) -> float:
    """When; an event without a sound time has that of the last."""
    sound = math.isfinite(event.time) and event.time > 0
    return event.time if sound else told.last or 0.0


def how_ended(told: Told) -> tuple[str, str]:
    """Status and reason, as far as the files tell: an event file has no end mark of its own."""
    if told.status == wire.FAILURE:
        return "failed", "its hparams session says that it failed"
    if told.status == wire.SUCCESS or told.ended:
        return "finished", ""
    where = f" at step {told.step:,}" if told.step is not None else ""
    return "stopped", f"the record ends{where}; it does not say how the run ended"
