"""What happened in a sweep, as lines of its log.jsonl, and what follows from them: which points are yet to be made.

The controller notes a run before it writes it (`begun`) and when it is started (`made`), so that one who comes after a
controller that was killed makes no point twice and leaves none out. Whoever asks for a run again notes when that run had
ended (`again`): as long as it has ended then and no later, it is yet to be resumed.
"""

import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from engine.files import complete_lines
from engine.store.runs import ACTIVE

LOG = "log.jsonl"
State = Literal["waiting", "active", "ended", "refused", "gone"]
Entry = Mapping[str, Any]


@dataclass(frozen=True)
class Standing:
    """A point: `run` is the id of its run, "" as long as there is none; `status` is that run's.

    `state`: waiting to be made or resumed; its run is active; it has ended; it could not be started (`text` says why);
    its run was deleted. `tries` counts how often the controller resumed it of itself.
    """

    number: int
    run: str = ""
    state: State = "waiting"
    status: str = ""
    text: str = ""
    tries: int = 0


@dataclass(frozen=True)
class _Noted:
    run: str = ""
    made: bool = False
    refused: str = ""
    again: bool = False
    ended_at: float | None = None
    tries: int = 0


def append(directory: Path, **entry: Any) -> None:
    """Add a line, with one write. Raises OSError."""
    fd = os.open(directory / LOG, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        size = os.fstat(fd).st_size
        half = size > 0 and os.pread(fd, 1, size - 1) != b"\n"  # a writer was killed in the middle of a line
        os.write(fd, b"\n" * half + json.dumps({"t": time.time(), **entry}).encode() + b"\n")
        os.fsync(fd)
    finally:
        os.close(fd)


def read(directory: Path) -> list[Entry]:
    """All entries in order; what is none is passed over."""
    found: list[Entry] = []
    offset = 0
    while True:
        lines, end = complete_lines(directory / LOG, offset)
        if end == offset:
            return found
        offset = end
        for line in lines:
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, dict):
                found.append(entry)


def runs_of(entries: Iterable[Entry]) -> list[str]:
    """The ids of all runs that were begun."""
    return list(
        dict.fromkeys(str(entry["run"]) for entry in entries if entry.get("event") == "begun" and "run" in entry)
    )


def standings(count: int, entries: Iterable[Entry], runs: Mapping[str, Mapping[str, Any]]) -> list[Standing]:
    """Points 1 to `count`. `runs` are rows of the database by id, with `status` and `ended_at`."""
    noted = {number: _Noted() for number in range(1, count + 1)}
    for entry in entries:
        number = entry.get("point")
        if isinstance(number, int) and number in noted:
            noted[number] = _after(noted[number], entry)
    return [_standing(number, one, runs.get(one.run)) for number, one in noted.items()]


def _after(point: _Noted, entry: Entry) -> _Noted:
    match entry.get("event"):
        case "begun":
            return _Noted(run=str(entry.get("run", "")), tries=point.tries)
        case "made":
            return replace(point, made=True)
        case "refused":
            return replace(point, refused=str(entry.get("text", "")) or "–", again=False)
        case "again":
            tries = point.tries + (entry.get("by") == "controller")
            return replace(point, refused="", again=True, ended_at=entry.get("ended_at"), tries=tries)
    return point


def _standing(number: int, point: _Noted, run: Mapping[str, Any] | None) -> Standing:
    known = Standing(number, point.run if run or point.made else "", tries=point.tries, text=point.refused)
    if run is not None:
        known = replace(known, status=run["status"])
        if run["status"] in ACTIVE:
            return replace(known, state="active", text="")
    if point.refused:
        return replace(known, state="refused")
    if run is None:
        return replace(known, state="gone" if point.made else "waiting")
    asked_again = point.again and point.ended_at == run["ended_at"]
    return replace(known, state="waiting" if asked_again else "ended")


def counts(found: Sequence[Standing]) -> dict[str, int]:
    """How many points are in which state; those that have ended by their run's status."""
    made: dict[str, int] = {}
    for one in found:
        word = one.status if one.state == "ended" else one.state
        made[word] = made.get(word, 0) + 1
    return made
