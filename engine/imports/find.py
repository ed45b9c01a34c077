"""What runs a path holds: told by what is in the files, not by their names alone."""

import contextlib
import os
from dataclasses import dataclass, field
from pathlib import Path

from engine.errors import SourceError, TuneDeckError
from engine.imports import output_dir, tfevents, trackio, wire
from engine.imports.output_dir import STATE_KIND, TrainerRun
from engine.imports.source import Source, broken
from engine.imports.tfevents import TfRun
from engine.imports.trainer_state import FILE
from engine.store import foreign

MOST = 200_000
"""Files and directories that are looked at."""
KNOWN = ("Import reads event files of TensorBoard, Trackio databases, trainer_state.json, whole output directories of "
         "transformers and TRL, and YAML files of Axolotl and TRL.")  # fmt: skip
HEAD = 64 << 10
"""Bytes at the beginning of a file in which a trainer's state names its history."""
CONFIGURATIONS = (".yaml", ".yml")


@dataclass
class Found:
    """The runs, and what could not be read or is not taken: the path and why."""

    sources: list[Source] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)


def is_configuration(path: Path) -> bool:
    """Whether it is to be read as a YAML file of Axolotl or TRL: it is a text and holds no run."""
    if path.is_dir():
        return False
    if path.suffix in CONFIGURATIONS or not path.is_file():
        return True  # whoever reads it says what is wrong
    try:
        with path.open("rb") as file:
            state = path.name == FILE or b'"log_history"' in file.read(HEAD)
        return not (state or foreign.is_sqlite(path) or wire.is_event_file(path))
    except OSError:
        return False


def may_hold_neither(path: Path) -> bool:
    """Whether a file that could not be read as a configuration does not look like one either."""
    if path.suffix in CONFIGURATIONS or not path.is_file():
        return False
    with contextlib.suppress(OSError), path.open("rb") as file:
        head = file.read(HEAD)
        return not any(
            name in head for name in (b"base_model:", b'"base_model"', b"model_name_or_path:", b'"model_name_or_path"')
        )
    return False


def sources(path: Path) -> Found:
    """The runs of a file or of everything beneath a directory. Raises SourceError for a file that holds none."""
    path = Path(os.path.realpath(path.expanduser()))
    found = Found()
    if path.is_dir():
        _directory(path, found)
    else:
        _file(path, found)
    return found


def _file(path: Path, found: Found) -> None:
    try:
        if foreign.is_sqlite(path):
            found.sources += _database(path)
        elif path.suffix == ".json" or path.name == FILE:
            found.sources.append(_state(path))
        elif wire.is_event_file(path):
            if not wire.has_values(path):
                raise broken(path, "it is an event file without any value")
            found.sources.append(TfRun(path.parent, [path], path.parent.name))
        else:
            raise broken(path, "it is none that import knows", KNOWN)
    except OSError as error:
        raise broken(path, error.strerror or str(error)) from None


def _database(path: Path) -> list[trackio.TrackioRun]:
    with foreign.opened(path) as db:
        program = foreign.program(db)
    if program == "tunedeck":
        raise SourceError(
            "That is a database of TuneDeck's", f"{path} needs no import.", f"Look at it: tunedeck --db {path}"
        )
    if program != "trackio":
        raise broken(
            path, "it is an SQLite database, but none of Trackio's", "Of other trackers only Trackio's can be read."
        )
    return trackio.runs_in(path)


def _state(path: Path) -> TrainerRun:
    step = output_dir.step_of(path.parent)
    owner = path.parent if step is None else path.parent.parent
    return TrainerRun(
        path.parent, path, name=owner.name + (f"/{path.parent.name}" if step is not None else ""), kind=STATE_KIND
    )


def _directory(root: Path, found: Found) -> None:
    """Look through a directory; links are not followed, and what belongs to one run is not looked at again."""
    events: dict[Path, list[Path]] = {}
    seen = 0
    for here, folders, files in os.walk(root, onerror=lambda error: _unreadable(error, found)):
        place = Path(here)
        seen += len(folders) + len(files)
        if seen > MOST:
            raise broken(root, f"there are more than {MOST:,} files in it", "Name a smaller directory.")
        folders.sort()
        if {"spec.yaml", "events.jsonl"} <= set(files):
            found.skipped.append((here, "it is a run of TuneDeck's own"))
            folders.clear()
            continue
        if logs := _event_files(place, files):
            events[place] = logs
        folders[:] = [name for name in folders if output_dir.step_of(place / name) is None]
        try:
            _in_directory(place, sorted(files), root, found)
        except TuneDeckError as error:
            found.failed.append((here, error.message))
    _tensorboard(root, events, found)


def _unreadable(error: OSError, found: Found) -> None:
    found.failed.append((str(error.filename), error.strerror or str(error)))


def _event_files(place: Path, files: list[str]) -> list[Path]:
    return [
        place / name for name in sorted(files) if "tfevents" in name and not name.endswith((".profile-empty", ".part"))
    ]


def _in_directory(place: Path, files: list[str], root: Path, found: Found) -> None:
    """Databases and trainings of this directory itself."""
    for name in files:
        if name.endswith((".db", ".sqlite", ".sqlite3")):
            try:
                if not foreign.is_sqlite(place / name):
                    found.failed.append((str(place / name), "it is no SQLite database"))
                    continue
                found.sources += _database(place / name)
            except SourceError as error:
                found.failed.append((str(place / name), error.message))
            except OSError as error:
                found.failed.append((str(place / name), error.strerror or str(error)))
    state = output_dir.newest_state(place)
    if state is not None or "adapter_config.json" in files:
        found.sources.append(TrainerRun(place, state, name=_name(place, root)))


def _name(place: Path, root: Path) -> str:
    """As TensorBoard names runs: the path beneath the directory that was named."""
    return root.name if place == root else str(place.relative_to(root))


def _tensorboard(root: Path, events: dict[Path, list[Path]], found: Found) -> None:
    """Event files into the trainings that they belong to; the others are runs of their own."""
    trainings = {one.directory: one for one in found.sources if isinstance(one, TrainerRun)}
    inside: dict[Path, list[list[Path]]] = {}
    for place, files in list(events.items()):
        owner = next((one for one in (place, *place.parents) if one in trainings), None)
        try:
            ordered = tfevents.in_order(files)
        except OSError as error:
            found.failed.append((str(place), error.strerror or str(error)))
            continue
        if owner is not None:
            inside.setdefault(owner, []).append(ordered)
        else:
            events[place] = ordered
    for place, logs in inside.items():
        _belonging(trainings[place], logs, root, found)
    _alone({place: files for place, files in events.items() if not any(one in trainings for one in (place, *place.parents))},
           root, found)  # fmt: skip


def _belonging(training: TrainerRun, logs: list[list[Path]], root: Path, found: Found) -> None:
    logs.sort(key=lambda files: tfevents.began(files[0]) or files[0].stat().st_mtime)
    try:
        mine, others = output_dir.split(training.state, logs) if training.state else (logs[-1], logs[:-1])
    except SourceError as error:
        found.sources.remove(training)
        found.failed.append((str(training.directory), error.message))
        mine, others = [], logs
    training.logs = mine
    found.sources += [output_dir.separate(training.directory, files, root) for files in others]


def _alone(events: dict[Path, list[Path]], root: Path, found: Found) -> None:
    """Each directory is a run. `add_hparams` of PyTorch puts the settings of a run into a directory beneath it: joined."""
    children: dict[Path, list[Path]] = {}
    for place in events:
        if place.parent in events and _is_moment(place.name):
            children.setdefault(place.parent, []).append(place)
    joined = {ones[0] for ones in children.values() if len(ones) == 1}
    for place, files in events.items():
        if place in joined:
            continue
        more = [path for one in children.get(place, []) if one in joined for path in events[one]]
        if any(map(wire.has_values, (*files, *more))):
            found.sources.append(TfRun(place, [*files, *more], _name(place, root)))
        else:
            found.skipped.append((str(place), "its event files are empty"))


def _is_moment(name: str) -> bool:
    """Whether a directory is named by `str(time.time())`."""
    whole, _, part = name.partition(".")
    return whole.isdecimal() and part.isdecimal() and len(whole) == 10
