"""`python -P -m engine.sweeper SWEEP_DIR --db DB --lock-fd N`: starts the runs of one sweep, a few at a time, until all ended.

Of the same kind as a supervisor: in its own session, one per sweep by flock, never imports torch. It may be killed at any
moment: what it did is in the sweep's log.jsonl and in the runs themselves, and who opens the database next starts another.
The runs have supervisors of their own and wait for their cards by themselves; this only decides how many there are.
"""

import argparse
import contextlib
import json
import shutil
import sqlite3
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from engine import launch, outcome, paths, sweep_log, sweeping
from engine.errors import RunError, SpaceError, TuneDeckError
from engine.processes import settle
from engine.reconcile import reconcile
from engine.store import runs, sweeps
from engine.store.connection import identity, open_database
from engine.sweep_log import Standing

TICK = 0.5
NO_ROOM_SECONDS = 60.0
"""After a full disk the next run waits so long before it is tried."""
TRIES = 3
"""How often a run is resumed that was interrupted, and not by what it does itself."""


class Sweeper:
    """Holds the sweep's lock (inherited) for as long as the process lives."""

    def __init__(self, directory: Path, database: Path) -> None:
        self.directory = directory
        self.database = database
        self.plan: dict[str, Any] = json.loads((directory / sweeping.PLAN).read_text(encoding="utf-8"))
        self.id: str = directory.name
        self.db: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._stopping = ""
        self._not_before = 0.0
        self._said = ""
        self._looked: set[tuple[str, int]] = set()

    def run(self) -> None:
        """Until every point has ended, or until somebody said STOP and the runs at work have obeyed."""
        while self.directory.is_dir() and not self._safely():
            time.sleep(TICK)

    def _safely(self) -> bool:
        """One look; a locked database or a full disk must not end the watch."""
        try:
            return self._look()
        except Exception as error:
            self._say(f"{type(error).__name__}: {error}")
            if self.db is not None:  # whatever was wrong with it, the next look has a new one
                self.db.close()
                self.db = None
            return False

    def _say(self, text: str) -> None:
        """Once, not at every look."""
        if text != self._said:
            with contextlib.suppress(OSError):
                print(f"sweeper: {text}", file=sys.stderr, flush=True)
        self._said = text

    def _look(self) -> bool:
        """Do what is to be done now; whether the sweep has ended."""
        if self.db is not None and identity(self.database) != self._file:  # made anew: tunedeck db rebuild
            self.db.close()
            self.db = None
        if self.db is None:
            self._file = identity(self.database)
            self.db = open_database(self.database, create=False)
            self._clear_away(self.db)
        reconcile(self.db, self.database)
        found = self._standings(self.db)
        active = [one for one in found if one.state == "active"]
        if how := self._stop_wanted():
            return self._stop(self.db, found, how)
        if self._resume_interrupted(found):
            found = self._standings(self.db)
        waiting = [one for one in found if one.state == "waiting"]
        if not active and not waiting:
            self._end(self.db, "finished")
            return True
        if waiting and time.monotonic() >= self._not_before:
            for one in waiting[: max(0, self.plan["at_once"] - len(active))]:
                self._begin(one)
        return False

    def _standings(self, db: sqlite3.Connection) -> list[Standing]:
        known = {run["id"]: run for run in sweeps.runs(db, self.id)}
        return sweep_log.standings(len(self.plan["points"]), sweep_log.read(self.directory), known)

    def _clear_away(self, db: sqlite3.Connection) -> None:
        """What a controller left of a run when it was killed before the run was recorded."""
        known = {run["id"] for run in sweeps.runs(db, self.id)}
        entries = sweep_log.read(self.directory)
        made = {entry.get("run") for entry in entries if entry.get("event") == "made"}
        for run_id in sweep_log.runs_of(entries):
            place = paths.run_directory(self.database, run_id)
            began = (place / "supervisor.jsonl").exists() or (place / "events.jsonl").exists()
            if run_id not in known and run_id not in made and place.is_dir() and not began:
                shutil.rmtree(place, ignore_errors=True)

    def _begin(self, point: Standing) -> None:
        """Make the point's run, or resume the one that it has. What speaks against it is noted."""
        try:
            if point.run:
                launch.resume(self.database, runs.find(self._open, point.run))
                return
            draft = sweeping.draft(self.directory, point.number, self.plan["environment"])
            self._check(draft)
            noted: list[str] = []

            def note(run_id: str) -> None:
                noted.append(run_id)
                sweep_log.append(self.directory, point=point.number, event="begun", run=run_id)

            launch.begin(self.database, draft, queue=True, sweep=self.id, noted=note)
            sweep_log.append(self.directory, point=point.number, event="made", run=noted[0])
        except (SpaceError, OSError) as error:  # it may pass
            self._not_before = time.monotonic() + NO_ROOM_SECONDS
            self._say(f"point {point.number} waits: {error}")
            sweep_log.append(self.directory, event="waits", point=point.number, text=str(error))
        except (TuneDeckError, ValueError, KeyError) as error:
            sweep_log.append(self.directory, point=point.number, event="refused", text=str(error))

    @property
    def _open(self) -> sqlite3.Connection:
        if self.db is None:
            self.db = open_database(self.database, create=False)
        return self.db

    def _check(self, draft: launch.Draft) -> None:
        """Whether there is room, and the data is what it was when the sweep was planned. Raises SpaceError, RunError."""
        launch.check_space(self.database, (draft.plan.get("disk_gib") or 0.0) * 2**30, "The run needs")
        raw = draft.spec.model_dump(mode="json")
        try:
            launch.same_data({"spec": raw, "plan": draft.plan, "name": draft.spec.run.name,
                              "dataset": runs.dataset_name(draft.spec)})  # fmt: skip
        except RunError as error:
            raise RunError("The data has changed since the sweep began", error.message, error.hint) from None
        except OSError as error:
            raise RunError("The data cannot be read any more", f"{error.filename}: {error.strerror}.", "") from None

    def _resume_interrupted(self, found: list[Standing]) -> bool:
        """Note that runs go on which never came to their worker, or which the machine took down; whether there are any."""
        rows = {run["id"]: run for run in sweeps.runs(self._open, self.id)}
        crashed = [one for one in found if one.status == "crashed" and one.state == "ended" and one.tries < TRIES
                   and (one.run, one.tries) not in self._looked]  # fmt: skip
        self._looked |= {(one.run, one.tries) for one in crashed}  # their files may be long
        again = [one for one in crashed if interrupted(paths.run_directory(self.database, one.run), psutil.boot_time())]
        for one in again:
            sweep_log.append(
                self.directory, point=one.number, event="again", by="controller", ended_at=rows[one.run]["ended_at"]
            )
        return bool(again)

    def _stop_wanted(self) -> str:
        """How to stop (sweeping.HOW_TO_STOP), or ""."""
        try:
            text = (self.directory / sweeping.STOP).read_text(encoding="utf-8").strip()
        except OSError:
            return ""
        return text if text in sweeping.HOW_TO_STOP else "soon"

    def _stop(self, db: sqlite3.Connection, found: list[Standing], how: str) -> bool:
        """Ask the runs at work, once for each way of asking; whether none is left."""
        active = [one for one in found if one.state == "active"]
        if self._stopping != how:
            sweeps.set_fields(db, self.id, status="stopping")
        if how != "finish":
            for one in active:
                place = paths.run_directory(self.database, one.run)
                if not (place / ("KILL" if how == "now" else "STOP")).exists():
                    with contextlib.suppress(RunError):  # it has just ended
                        launch.stop(self.database, runs.find(db, one.run), how == "now")
        self._stopping = how
        if active:
            return False
        cut_short = any(one.state == "waiting" or one.status == "stopped" for one in found)
        self._end(db, "stopped" if cut_short else "finished")
        return True

    def _end(self, db: sqlite3.Connection, status: str) -> None:
        sweeps.set_fields(db, self.id, status=status, ended_at=time.time())


def interrupted(run_dir: Path, booted: float) -> bool:
    """Whether a run that crashed never had a worker, or had one before the machine was started (`booted`, unix seconds)."""
    history = outcome.read_history(run_dir)
    return history.attempt == 0 or (history.worker is not None and history.worker[1] < booted - 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(prog="engine.sweeper")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--db", type=Path, required=True)
    parser.add_argument("--lock-fd", type=int, required=True)
    options = parser.parse_args()
    settle(options.lock_fd)
    try:
        sweeper = Sweeper(options.directory, options.db)
    except (OSError, ValueError) as error:  # without a plan there is nothing to do, and nobody should start us again
        print(f"sweeper: {error}", file=sys.stderr, flush=True)
        with contextlib.closing(open_database(options.db, create=False)) as db:
            sweeps.set_fields(db, options.directory.name, status="failed", ended_at=time.time())
        return
    sweeper.run()


if __name__ == "__main__":
    main()
