"""`python -P -m engine.after.runner JOB_DIR --db DB --lock-fd N`: does one job on a trained run, and records how it went.

Of the same kind as a supervisor: in its own session, one per job by flock, never imports torch. If it is killed, the process
that does the job goes on, and whoever opens the database next records what came of it (`look_after`).
"""

import argparse
import contextlib
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from engine import outcome
from engine.after import job as jobs
from engine.after.ingest import ingest
from engine.chatting import transcript
from engine.events import Attempt, Done, Event, Exit, Failed, Stopped, Waiting
from engine.files import EventFile, read_records
from engine.hardware import Gpu, Sampler, probe
from engine.launch import try_lock
from engine.processes import alive, find_worker, settle, start_time
from engine.spec import parse, read_yaml
from engine.store import afterwards
from engine.store.connection import Following
from engine.tickets import Ticket
from engine.waiting import Turn

TICK = 0.2


class Runner:
    """Holds the job's lock (inherited) for as long as the process lives."""

    def __init__(self, folder: Path, database: Path) -> None:
        self.folder, self.run_id = folder, folder.parent.parent.name
        self.job = jobs.read(folder)
        self.attempt = 1 + max((r.attempt for r in read_records(folder / jobs.RUNNER_EVENTS) if isinstance(r.event, Attempt)),
                               default=0)  # fmt: skip
        self.log = EventFile(folder / jobs.RUNNER_EVENTS, self.attempt)
        self.db = Following(database)
        self.database = database
        self.leases: list[int] = []

    def run(self) -> None:
        gpus = self._cards()
        if gpus is None:
            return self._end(Exit("stopped", "stopped while it waited"))
        command = [
            sys.executable,
            "-P",
            "-m",
            jobs.MODULES[self.job["kind"]],
            str(self.folder),
            f"--attempt={self.attempt}",
        ]
        with open(self.folder / "output.log", "ab") as output:
            child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, cwd=self.folder,
                env=outcome.worker_environment(gpus), start_new_session=True, pass_fds=self.leases,
            )  # fmt: skip
        began = time.time()
        with contextlib.suppress(Exception):  # it may be gone already
            began = start_time(child.pid)
        self.log.append(Attempt(child.pid, began, gpus=[gpu.index for gpu in gpus]))
        while child.poll() is None:
            self._safely(lambda: ingest(self.db.get(), self.run_id, self.folder))
            time.sleep(TICK)
        return self._end(verdict(self.folder, self.attempt, child.returncode))

    def _cards(self) -> list[Gpu] | None:
        """The cards that it may use, none on the CPU; None if somebody said STOP while it waited."""
        spec = parse(read_yaml(self.folder.parent.parent / "spec.yaml"))
        machine = probe()
        cards = outcome.usable(spec, machine.gpus) if self.job["kind"] in jobs.ON_CARDS else []
        if not cards:
            return []
        ticket = Ticket("", 0.0, f"{self.run_id}/{self.folder.name}", f"{spec.run.name} {self.folder.name}", str(self.database),
                        tuple(card.uuid for card in cards), 1, self.job["ask"].get("gib"), None, time.time())  # fmt: skip
        turn, said = Turn(ticket, machine.gpus, Sampler()), ""
        try:
            while isinstance(found := turn.look(), str):
                if (why := outcome_of_waiting(found)) != said:
                    self.log.append(Waiting(f"waits for {found}"))
                    said = why
                self._safely(lambda: ingest(self.db.get(), self.run_id, self.folder))
                if (self.folder / jobs.STOP).exists():
                    return None
                time.sleep(1.0)
        finally:
            turn.leave()
        gpus, self.leases = found
        return gpus

    def _end(self, ended: Exit) -> None:
        self.log.append(ended)
        for _ in range(50):  # a locked database is waited for; whoever opens it next would do the same
            if self._safely(lambda: ingest(self.db.get(), self.run_id, self.folder)):
                return
            time.sleep(TICK)

    def _safely(self, action: Callable[[], object]) -> bool:
        """A locked database or a full disk must not end the watch; whether it went well."""
        try:
            action()
        except Exception as error:
            self.db.close()
            print(f"runner: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            return False
        return True


def outcome_of_waiting(reason: str) -> str:
    """What it waits for, without the amounts, which change at each look."""
    return reason.partition(";")[0]


def verdict(folder: Path, attempt: int, code: int | None) -> Exit:
    """How a job ended: by the last event of its process if it has one, else by how that process went."""
    last = None
    for record in read_records(folder / jobs.EVENTS):
        if record.attempt == attempt and isinstance(record.event, Done | Stopped | Failed):
            last = record.event
    if isinstance(last, Done):
        return Exit("finished", last.text or "finished", code)
    if isinstance(last, Stopped):
        return Exit("stopped", "stopped; what it did is kept", code)
    if isinstance(last, Failed):
        return Exit("failed", f"{last.message} {last.hint}".strip(), code, None, outcome.last_words(folder))
    if code is None:
        how = "is gone, and nobody saw how"
    elif code < 0:
        how = f"was killed by {signal.Signals(-code).name if -code in set(signal.Signals) else f'signal {-code}'}"
    else:
        how = f"ended with exit code {code} and no last event"
    return Exit("crashed", f"the job's process {how}", code, None, outcome.last_words(folder))


def look_after(db: sqlite3.Connection, database: Path) -> None:
    """Bring every job of this host that is held for alive and whose runner is gone up to date."""
    for row in afterwards.active(db):
        folder = jobs.directory(database, row["run_id"], row["job"])
        if row["host"] != socket.gethostname():
            continue
        if not (folder / jobs.JOB).is_file():
            afterwards.change(db, row["run_id"], row["job"], status="crashed", reason="its directory is gone")
            continue
        with contextlib.suppress(OSError):  # one that cannot be read must not hide the others
            _look_after(db, row, folder)


def _look_after(db: sqlite3.Connection, row: afterwards.Row, folder: Path) -> None:
    lock = try_lock(folder)
    if lock is None:
        return  # its runner watches it
    try:
        last = list(read_records(folder / jobs.RUNNER_EVENTS))[-1:]
        if not (last and isinstance(last[0].event, Exit)):
            attempts = [r for r in read_records(folder / jobs.RUNNER_EVENTS) if isinstance(r.event, Attempt)]
            newest = attempts[-1] if attempts else None
            if newest is None or not _lives(newest.event, folder, row["kind"]):
                number = newest.attempt if newest else 1
                chat = row["kind"] == "chat"  # whoever held it did not tell how it ended
                ended = transcript.cut_off(folder) if chat else verdict(folder, number, None)
                EventFile(folder / jobs.RUNNER_EVENTS, number).append(ended)
        ingest(db, row["run_id"], folder)
    finally:
        os.close(lock)


def _lives(attempt: Event, folder: Path, kind: str) -> bool:
    """Whether the process of an attempt lives: the one on record, or, where the clock was set, the one that is there."""
    on_record = isinstance(attempt, Attempt) and alive(attempt.pid, attempt.process_start)
    return on_record or (kind in jobs.MODULES and find_worker(folder, jobs.MODULES[kind]) is not None)


def main() -> None:
    parser = argparse.ArgumentParser(prog="engine.after.runner")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--db", type=Path, required=True)
    parser.add_argument("--lock-fd", type=int, required=True)
    options = parser.parse_args()
    settle(options.lock_fd)
    Runner(options.folder, options.db).run()


if __name__ == "__main__":
    main()
