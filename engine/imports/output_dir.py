"""What a Trainer of transformers or TRL leaves behind: the newest state, the adapter's config, event files, a README.

The state has exact values, the event files times, and what came after the last checkpoint. Pickles are never opened.
"""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from engine.imports import names, tfevents, trainer_state, wire
from engine.imports.source import Facts, Sample, Saved, broken
from engine.imports.tfevents import TfRun
from engine.imports.trainer_state import FILE, Clock

KIND, STATE_KIND = "output_dir", "trainer_state"
LARGEST_CONFIG = 1 << 20
"""Bytes of a config that is looked into."""
LARGEST_HEAD = 64 << 10
"""Characters of a README that are looked into."""
PROBED = 500
"""Points of a directory of event files by which it is told whose it is."""
WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin", "model.safetensors", "model.safetensors.index.json",
           "pytorch_model.bin", "pytorch_model.bin.index.json")  # fmt: skip
_OBJECTIVES = ("sft", "dpo", "kto", "reward-trainer", "orpo", "cpo", "grpo")


def step_of(path: Path) -> int | None:
    """The step in `checkpoint-500`."""
    number = path.name.removeprefix("checkpoint-")
    return int(number) if number != path.name and number.isdecimal() and len(number) < 19 else None


def checkpoints(directory: Path) -> list[Path]:
    """Its checkpoints in the order of their steps. Raises OSError."""
    found = [(step, path) for path in directory.iterdir() if (step := step_of(path)) is not None and path.is_dir()]
    return [path for _, path in sorted(found)]


def newest_state(directory: Path) -> Path | None:
    """The state that was written last: the directory's own, or that of the last checkpoint. Raises OSError."""
    saved = [path / FILE for path in checkpoints(directory) if (path / FILE).is_file()]
    own = directory / FILE
    if own.is_file() and (not saved or own.stat().st_mtime >= saved[-1].stat().st_mtime):
        return own
    return saved[-1] if saved else own if own.is_file() else None


@dataclass
class TrainerRun:
    """One training: its state, the event files that belong to it, the oldest first, and the files beside them."""

    directory: Path
    state: Path | None
    logs: list[Path] = field(default_factory=list)
    name: str = ""
    kind: str = KIND
    project: str | None = None
    _state: trainer_state.Told = field(default_factory=trainer_state.Told)
    _events: tfevents.Told = field(default_factory=tfevents.Told)
    _keys: names.Keys = field(default_factory=names.Keys)
    _clock: Clock = field(default_factory=Clock)

    @property
    def place(self) -> str:
        return str(self.state if self.kind == STATE_KIND else self.directory)

    @property
    def began(self) -> float:
        if self.logs:
            return min(tfevents.began(path) or path.stat().st_mtime for path in self.logs)
        return min(path.stat().st_mtime for path in [*self._states(), self.state or self.directory])

    def stamp(self) -> int:
        config = (self.directory / name for name in ("adapter_config.json", "README.md", *WEIGHTS))
        beside = [path for path in config if path.is_file()] if self.kind == KIND else []
        return tfevents.stamp_of([*self.logs, *([self.state] if self.state else []), *self._states(), *beside])

    def _states(self) -> list[Path]:
        saved = checkpoints(self.directory) if self.kind == KIND else []
        return [path / FILE for path in saved if (path / FILE).is_file()]

    def points(self) -> Iterator[Sample]:
        self._state, self._events, self._keys, self._clock = (
            trainer_state.Told(),
            tfevents.Told(),
            names.Keys(),
            Clock(),
        )
        for _, event in tfevents.events(self.logs, self._events):
            if event.scalars and event.time > 0:
                self._clock.add(event.step, event.time)
        known: set[str] = set()
        if self.state:
            if not self._clock.steps:
                self._guess_times()
            for key, step, value in trainer_state.history(self.state, self._state):
                known.add(key)
                yield from self._point(key, step, self._clock.at(step), value)
        for _, event in tfevents.events(self.logs, tfevents.Told()):
            for tag, value in event.scalars:
                after = not self.state or event.step > self._state.last
                if tag != names.EPOCH and (after or names.metric(tag) not in known):
                    yield from self._point(tag, event.step, event.time, value)

    def _point(self, tag: str, step: int, time: float, value: float) -> Iterator[Sample]:
        # by our name in both: the state has `loss` where the event files have `train/loss`
        if (key := self._keys.of(names.metric(tag))) is not None:
            yield key, step, 1, time, value

    def _guess_times(self) -> None:
        """From the dates of the checkpoints, and from how long the training says that it took."""
        assert self.state
        told = trainer_state.Told()
        for _ in trainer_state.history(self.state, told):
            pass
        seen: list[tuple[int, float]] = [(step_of(path.parent) or 0, path.stat().st_mtime) for path in self._states()]
        seen.append((told.step, self.state.stat().st_mtime))
        moments = sorted(dict(seen).items())
        if told.runtime is not None:
            self._clock.add(0, moments[-1][1] - told.runtime)
        for step, time in moments:
            self._clock.add(step, max(time, self._clock.times[-1] if self._clock.times else time))

    def facts(self) -> Facts:
        state, told = self._state, self._events
        params, model = told.settings()
        params = state.params() | params
        params, method, model, dataset = self._beside(params, model)
        total = state.total or _int(params.get("training.max_steps"))
        step = max(state.step, told.step or 0)
        finished = state.ended or told.ended or (total is not None and step >= total)
        of = f" of {total:,}" if total else ""
        timed = told.step is not None
        return Facts(
            "finished" if finished else "stopped", "" if finished else f"the record ends at step {step:,}{of}",
            told.first if timed else self._clock.times[0] if state.runtime is not None else None,
            told.last if timed else self._clock.times[-1] if self._clock.times else None,
            method, model, dataset, step, total, state.epoch if state.epoch is not None else told.epoch, params,
            self._saved(), self._model(), self._model_bytes(), notes=tuple(self._notes(told)),
        )  # fmt: skip

    def _beside(
        self, params: dict[str, str], model: str | None
    ) -> tuple[dict[str, str], str | None, str | None, str | None]:
        """Parameters, method, model and data set with what adapter_config.json and README.md say."""
        if self.kind != KIND:
            return params, None, names.last_part(model) if model else None, None
        method, config, card = None, _json(self.directory / "adapter_config.json"), _card(self.directory / "README.md")
        if config:
            method, found = names.adapter(config)
            params = params | found
            if method == "lora" and "config.quantization" in params:
                method = "qlora"
        elif self._model():
            method = "full"
        base = model or params.get("model.path") or _text(card.get("base_model"))
        if base:
            params.setdefault("model.path", names.line(base, names.LONGEST_VALUE))
        if method:
            params["method.kind"] = method
        tags = card.get("tags")
        objective = next((one for one in _OBJECTIVES if isinstance(tags, list) and one in tags), None)
        if objective:
            params.setdefault("objective", objective.removesuffix("-trainer"))
        dataset = _text(card.get("datasets"))
        if dataset:
            params.setdefault("data.path", names.line(dataset, names.LONGEST_VALUE))
        return params, method, names.last_part(base) if base else None, names.last_part(dataset) if dataset else None

    def _saved(self) -> tuple[Saved, ...]:
        saved = checkpoints(self.directory) if self.kind == KIND else []
        return tuple(Saved(step_of(path) or 0, str(path), _size(path), path.stat().st_mtime) for path in saved)

    def _model(self) -> str:
        """The directory if a model or an adapter lies in it."""
        there = self.kind == KIND and any((self.directory / name).is_file() for name in WEIGHTS)
        return str(self.directory) if there else ""

    def _model_bytes(self) -> int:
        return sum(path.stat().st_size for name in WEIGHTS if (path := self.directory / name).is_file())

    def _notes(self, told: tfevents.Told) -> list[str]:
        notes = told.notes()
        if self.state and told.step is None:
            notes.append("the state has no times: they are reckoned from the dates of the checkpoints")
        if self._state.skipped:
            notes.append(f"entries of the state without a step, left out: {self._state.skipped:,}")
        if self._keys.dropped:
            notes.append(f"only the first {names.MOST_KEYS:,} metrics were taken")
        if self.kind == KIND and (self.directory / "training_args.bin").is_file():
            notes.append("training_args.bin was not opened: it is a pickle, and opening one runs what is in it")
        return notes


def split(state: Path, logs: list[list[Path]]) -> tuple[list[Path], list[list[Path]]]:
    """Which of several directories of event files, the oldest first, a state tells of, and which are of other trainings.

    A directory belongs to it if most values of its first points are the state's; one that has none of the state's steps
    only if it is the newest. Raises SourceError.
    """
    wanted: dict[tuple[str, int], list[tuple[int, bytes]]] = {}
    for place, files in enumerate(logs):
        for key, step, value in _first(files):
            wanted.setdefault((key, step), []).append((place, value))
    same, other = [0] * len(logs), [0] * len(logs)
    for key, step, number in trainer_state.history(state, trainer_state.Told()):
        for place, value in wanted.get((key, step), ()):
            (same if wire.single(number) == value else other)[place] += 1
    ours = [s > o or (s == o == 0 and i == len(logs) - 1) for i, (s, o) in enumerate(zip(same, other, strict=True))]
    mine = [path for files, belongs in zip(logs, ours, strict=True) if belongs for path in files]
    return mine, [files for files, belongs in zip(logs, ours, strict=True) if not belongs]


def _first(files: list[Path]) -> Iterator[tuple[str, int, bytes]]:
    """The first points of event files, their values as event files have them: in single precision."""
    count = 0
    for _, event in tfevents.events(files, tfevents.Told()):
        for tag, value in event.scalars:
            yield names.metric(tag), event.step, wire.single(value)
            count += 1
        if count >= PROBED:
            return


def separate(directory: Path, files: list[Path], root: Path) -> TfRun:
    """Event files of an earlier training into the same directory, as a run of their own."""
    place = files[0].parent
    return TfRun(place, files, f"{directory.name or root.name}/{place.relative_to(directory)}")


def _int(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() else None


def _text(value: Any) -> str | None:
    """A text, or the first of a list of them."""
    first = value[0] if isinstance(value, list) and value else value
    return first if isinstance(first, str) and first else None


def _size(directory: Path) -> int:
    """Bytes of the files in a checkpoint."""
    return sum(path.stat().st_size for path in directory.iterdir() if path.is_file())


def _json(path: Path) -> dict[str, Any]:
    """An object; empty if there is no such file. Raises SourceError if it is none."""
    if not path.is_file():
        return {}
    try:
        if path.stat().st_size > LARGEST_CONFIG:
            raise broken(path, "it is too large for a config")
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise broken(path, str(error)) from None
    if not isinstance(found, dict):
        raise broken(path, "it is no JSON object")
    return found


def _card(path: Path) -> dict[str, Any]:
    """The head of a model card; empty if there is none that can be read."""
    with contextlib.suppress(OSError, ValueError, yaml.YAMLError, RecursionError):
        with path.open(encoding="utf-8") as file:
            text = file.read(LARGEST_HEAD)
        if text.startswith("---"):
            found = yaml.safe_load(text[3:].split("\n---", 1)[0])
            return found if isinstance(found, dict) else {}
    return {}
