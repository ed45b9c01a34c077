"""`python -P -m engine.supervisor RUN_DIR --db DB --lock-fd N`: watches over one run until it ends.

Starts the worker, samples the GPUs each second, brings both event files into the database, obeys STOP, restarts after
CUDA ran out of memory with a smaller micro-batch, and records how it ended. The database may be locked or full: the
files have everything, and what could not be written is written later. Never imports torch.
"""

import argparse
import contextlib
import fcntl
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import psutil
import yaml

from engine import outcome, trackers
from engine.events import Attempt, Exit, GpuSamples, Notice, Stopping, SupervisorEvent, Waiting
from engine.files import EventFile
from engine.hardware import Gpu, GpuSample, Sampler, oom_kills, probe
from engine.ingest import ingest
from engine.leases import CPU
from engine.on_end import run_command
from engine.processes import kill_tree, settle, still
from engine.spec import parse
from engine.store import runs
from engine.store.connection import Following
from engine.store.place import place_of
from engine.tickets import Ticket
from engine.waiting import QUEUE, Turn, take_cpu

TICK = 0.2
SAMPLE_SECONDS = 1.0
NETWORK_SECONDS = 1.0
"""Between two looks at the run's files where the database lies on a network file system: each write is slow there, and shuts
everybody else out meanwhile."""
LONGEST_WAIT = 10.0
"""Seconds at most until a database that could not be written is tried again."""
AMOUNT = re.compile(r"uses [\d.]+ GiB")


class Watch:
    """One attempt: the process that runs it (None: it was gone before we could look), and its exit status if it is our child."""

    def __init__(self, process: psutil.Process | None, child: "subprocess.Popen[bytes] | None" = None) -> None:
        self.process, self.child = process, child

    def running(self) -> bool:
        return self.child.poll() is None if self.child else self.process is not None and still(self.process)

    def kill(self) -> None:
        if self.process:
            kill_tree(self.process)

    def status(self) -> tuple[int | None, int | None]:
        """(exit code, signal), either None."""
        code = self.child.returncode if self.child else None
        return (None, -code) if code is not None and code < 0 else (code, None)


class Supervisor:
    """Holds the run's lock (inherited, see launch.py) for as long as the process lives."""

    def __init__(self, run_dir: Path, database: Path) -> None:
        self.run_dir = run_dir
        self.database = database
        self.spec = parse(yaml.safe_load((run_dir / "spec.yaml").read_text(encoding="utf-8")))
        self.history = outcome.read_history(run_dir)
        self.log = EventFile(run_dir / "supervisor.jsonl", self.history.attempt)
        self.db = Following(database)
        self.sampler = Sampler()
        self.gpus: list[Gpu] | None = None
        self.leases: list[int] = []
        self.stopping: str | None = None
        self.ended: Exit | None = None
        self._next_sample = 0.0
        self._next_ingest, self._pause = 0.0, TICK
        self._every = NETWORK_SECONDS if place_of(database).network else 0.0
        self._told: set[str] = set()

    def run(self, adopt: bool) -> None:
        """Start a worker, or adopt the one that lives; again after an out-of-memory error, until the run has ended."""
        watch = self._adopted() if adopt else None
        if adopt and watch is None:
            return self._end(outcome.verdict(self.history, self.run_dir, None, None, False, False))
        overrides = self.history.overrides
        while True:
            kills_before = oom_kills()
            if watch is None:
                refused = self._lease_gpus()
                if refused:
                    return self._end(refused)
                watch = self._start(overrides)
            self._follow(watch)
            ended = self._verdict(watch, kills_before)
            again = self.history.smaller_may_fit and not self.stopping
            smaller = outcome.smaller_batch(self.spec, overrides) if again else None
            if smaller is None:
                return self._end(ended)
            sizes = f"{smaller['training.micro_batch']} x {smaller['training.accumulation']}"
            self._say(
                Notice(
                    "warning", f"CUDA ran out of memory: again with micro-batch {sizes}", "The effective batch stays."
                )
            )
            watch, overrides = None, smaller

    def _adopted(self) -> Watch | None:
        """The worker that an earlier supervisor of this run left behind."""
        worker = outcome.living_worker(self.run_dir, self.history)
        return Watch(worker) if worker else None

    def _lease_gpus(self) -> Exit | None:
        """Take what this run trains on, waiting for its turn if need be; how the run ended if it cannot start."""
        if self.gpus is not None:
            return None
        machine = probe()
        cards = outcome.usable(self.spec, machine.gpus)
        needed = outcome.cards_needed(self.spec, len(cards))
        if self.spec.compute.devices == "cpu":
            ticket = self._ticket([CPU], 1)
            if not (self.run_dir / QUEUE).exists():
                self.gpus, self.leases = [], take_cpu(ticket)
                return None
        elif len(cards) < needed:
            return Exit(
                "failed", f"the GPUs it was planned for are not usable now: {machine.problem or 'see tunedeck gpus'}"
            )
        else:
            ticket = self._ticket([card.uuid for card in cards], needed)
        return self._wait(Turn(ticket, machine.gpus, self.sampler))

    def _ticket(self, cards: list[str], count: int) -> Ticket:
        """What this run needs of these cards: the memory and the time that its plan predicts, as far as there is a plan."""
        name = self.spec.run.name or self.run_dir.name
        gib, seconds = self._predicted()
        return Ticket("", 0.0, self.run_dir.name, name, str(self.database), tuple(cards), count,
                      None if cards == [CPU] else gib, seconds, time.time())  # fmt: skip

    def _predicted(self) -> tuple[float | None, float | None]:
        """GiB that NVML will show on each card, and seconds."""
        plan: dict[str, Any] = {}
        self._safely(lambda: plan.update(runs.find(self.db.get(), self.run_dir.name)["plan"] or {}))
        return (plan.get("memory") or {}).get("device_gib"), (plan.get("speed") or {}).get("seconds")

    def _wait(self, turn: Turn) -> Exit | None:
        """Until the cards are ours (None), or until somebody says STOP."""
        said, next_look = "", 0.0
        try:
            while True:
                if time.monotonic() >= next_look:
                    found = turn.look()
                    if not isinstance(found, str):
                        self.gpus, self.leases = found
                        return None
                    said = self._say_why(found, said)
                    next_look = time.monotonic() + SAMPLE_SECONDS
                self._obey_stop()
                self._ingest()
                if self.stopping:
                    return Exit("stopped", "stopped while it waited")
                time.sleep(TICK)
        finally:
            turn.leave()

    def _say_why(self, why: str, said: str) -> str:
        """Note what the run waits for when that changes, not when a program takes a little more or less memory."""
        kind = AMOUNT.sub("", why)
        if kind != said:
            self._say(Waiting(f"waits for {why}"))
        return kind

    def _start(self, overrides: dict[str, int]) -> Watch:
        self.history = outcome.read_history(self.run_dir)
        attempt, gpus = self.history.attempt + 1, self.gpus or []
        self.log.attempt = attempt
        command = outcome.worker_command(self.run_dir, self.spec, attempt, self.history.checkpoint, overrides)
        with open(self.run_dir / "output.log", "ab") as output:
            log = output.seek(0, os.SEEK_END)
            # The worker holds the leases too: a card stays taken while either of us lives
            environment = outcome.worker_environment(gpus, trackers.variables(self.spec, self.run_dir))
            child = _spawn(command, environment, output, self.run_dir, self.leases)
        started, process = time.time(), None
        with contextlib.suppress(psutil.Error):  # it may be gone already
            process = psutil.Process(child.pid)
            started = process.create_time()
        self._say(Attempt(child.pid, started, self.history.checkpoint, dict(overrides), [g.index for g in gpus], log))
        return Watch(process, child)

    def _follow(self, watch: Watch) -> None:
        while watch.running():
            self._tick()
            if self.stopping == "now":
                watch.kill()
            time.sleep(TICK)

    def _tick(self) -> None:
        """What has to be done again and again, at most as often as each needs it."""
        self._obey_stop()
        now = time.monotonic()
        if now >= self._next_sample:
            self._next_sample = now + SAMPLE_SECONDS
            ours = [_fields(s) for s in self.sampler.sample() if self._is_ours(s)]
            if ours:
                self._say(GpuSamples(ours))
        self._ingest()

    def _is_ours(self, sample: GpuSample) -> bool:
        """Whether this run trains on that card; an adopted worker's cards are known by index only."""
        if self.gpus is not None:
            return sample.uuid in {gpu.uuid for gpu in self.gpus}
        return sample.gpu in self.history.gpus

    def _obey_stop(self) -> None:
        """The worker itself obeys STOP; KILL is ours to carry out."""
        wanted = "now" if (self.run_dir / "KILL").exists() else "soon" if (self.run_dir / "STOP").exists() else None
        if wanted and wanted != self.stopping:
            self.stopping = wanted
            self._say(Stopping(wanted == "now"))

    def _ingest(self) -> None:
        """What cannot be written now is written later: after a longer while each time, so that a full disk costs nothing."""
        now = time.monotonic()
        if now < self._next_ingest:
            return
        if self._safely(lambda: ingest(self.db.get(), self.run_dir.name, self.run_dir)):
            self._next_ingest, self._pause = now + self._every, TICK
            self._told.clear()
        else:
            self.db.close()  # it may be one that can only read
            self._next_ingest = now + self._pause
            self._pause = min(2 * self._pause, LONGEST_WAIT)

    def _say(self, event: SupervisorEvent) -> None:
        self._safely(lambda: self.log.append(event))

    def _safely(self, action: Callable[[], object]) -> bool:
        """A locked database or a full disk must not end the watch; whether it went well. What is wrong is said once."""
        try:
            action()
        except Exception as error:
            text = f"supervisor: {type(error).__name__}: {error}"
            if text not in self._told:
                self._told.add(text)
                with contextlib.suppress(OSError):  # the log may lie on the disk that is full
                    print(text, file=sys.stderr, flush=True)
            return False
        return True

    def _verdict(self, watch: Watch, kills_before: int | None) -> Exit:
        self.history = outcome.read_history(self.run_dir)
        code, number = watch.status()
        kills = oom_kills()
        host_oom = kills is not None and kills_before is not None and kills > kills_before
        return outcome.verdict(self.history, self.run_dir, code, number, host_oom, self.stopping == "now")

    def after_end(self, lock: int) -> None:
        """The user's command. The cards are free meanwhile, and so is the run: it may be resumed."""
        if self.ended is None:
            return
        for lease in self.leases:
            os.close(lease)
        fcntl.flock(lock, fcntl.LOCK_UN)
        wrong = run_command(self.run_dir, self.database, self.spec.run.name or "", self.ended.status)
        if not wrong:
            return
        with contextlib.suppress(OSError):  # a run that goes on has another supervisor by now, whose files these are
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.log = EventFile(self.run_dir / "supervisor.jsonl", self.log.attempt)  # others may have added to it
            self._say(Notice("warning", f"the command on_end of your config {wrong}", "Try it by hand in a shell."))
            self._next_ingest = 0.0
            self._ingest()

    def _end(self, ended: Exit) -> None:
        self.ended = ended
        self._say(ended)
        for _ in range(50):  # a locked database is waited for; whoever opens it next would do the same
            try:
                ingest(self.db.get(), self.run_dir.name, self.run_dir)
                return
            except Exception:
                self.db.close()
                time.sleep(TICK)


def _fields(sample: GpuSample) -> dict[str, Any]:
    """A sample for the log, which has one each second: what a card does not tell of its clocks takes no room."""
    return {name: value for name, value in vars(sample).items() if value is not None or name != "throttle"}


def _spawn(
    command: list[str], environment: dict[str, str], output: IO[bytes], cwd: Path, leases: list[int]
) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment, cwd=cwd,
        start_new_session=True, pass_fds=leases,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="engine.supervisor")
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--db", type=Path, required=True)
    parser.add_argument("--lock-fd", type=int, required=True)
    parser.add_argument("--adopt", action="store_true")
    options = parser.parse_args()
    settle(options.lock_fd)
    supervisor = Supervisor(options.run_dir, options.db)
    supervisor.run(options.adopt)
    supervisor.after_end(options.lock_fd)


if __name__ == "__main__":
    main()
