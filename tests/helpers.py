"""Real processes for the tests: the command line, its runs, and the means to kill them."""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from engine.events import Metric
from engine.files import read_records


def wait_for(condition: Callable[[], Any], seconds: float = 120, what: str = "the condition") -> Any:
    """The condition's first true value. Fails after so many seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError(f"{what} did not come true in {seconds} s")


def kill_everything(home: Path) -> None:
    """Every process whose command line names this place."""
    for process in psutil.process_iter(["cmdline"]):
        if any(str(home) in part for part in process.info["cmdline"] or []) and process.pid != os.getpid():
            try:
                process.kill()
            except psutil.Error:
                continue


@dataclass(frozen=True)
class Deck:
    """`tunedeck --db DATABASE ...` in processes of their own."""

    database: Path

    def __call__(
        self, *arguments: str, timeout: float = 300, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "tuiapp", "--db", str(self.database), *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL, cwd=cwd, check=False
        )

    def json(self, *arguments: str, timeout: float = 300) -> Any:
        """The JSON document that a verb prints; the verb must succeed."""
        result = self(*arguments, "--json", timeout=timeout)
        assert result.returncode == 0, result.stderr + result.stdout
        return json.loads(result.stdout)

    def start(self, model: str | Path, data: Path, *sets: str) -> "Run":
        """A detached run."""
        options = [part for item in sets for part in ("--set", item)]
        started = self.json("train", "--model", str(model), "--data", str(data), "--detach", *options)
        return Run(self, started["id"])


@dataclass(frozen=True)
class Run:
    """A run of a deck, with its files and processes."""

    deck: Deck
    id: str

    @property
    def directory(self) -> Path:
        return self.deck.database.parent / "runs" / self.id

    def row(self) -> dict[str, Any]:
        """The run's row as it stands in the database, nothing made true first."""
        db = sqlite3.connect(self.deck.database, timeout=10)
        db.row_factory = sqlite3.Row
        try:
            return dict(db.execute("SELECT * FROM runs WHERE id = ?", (self.id,)).fetchone())
        finally:
            db.close()

    def shown(self) -> dict[str, Any]:
        """`tunedeck show`, which makes the status true first."""
        shown: dict[str, Any] = self.deck.json("show", self.id)
        return shown

    def wait(self, *statuses: str, seconds: float = 180) -> dict[str, Any]:
        """The run's row once it has one of these statuses; what is known of it if it never has."""
        try:
            wait_for(lambda: self.row()["status"] in statuses, seconds)
        except AssertionError:
            alive = {name: self.processes(name) for name in ("engine.supervisor", "engine.worker")}
            tails = [(self.directory / name).read_text()[-2000:] for name in ("supervisor.jsonl", "output.log")]
            raise AssertionError(f"{statuses} not in {seconds} s: {self.row()}\n{alive}\n" + "\n".join(tails)) from None
        return self.row()

    def step(self) -> int:
        """The last step that the worker reported."""
        steps = [r.event.step for r in read_records(self.directory / "events.jsonl") if isinstance(r.event, Metric)]
        return max(steps, default=0)

    def processes(self, module: str) -> list[psutil.Process]:
        """Living processes of this run that run a module: engine.worker, engine.supervisor, torch.distributed.run."""
        found = []
        for process in psutil.process_iter(["cmdline", "status"]):
            command = process.info["cmdline"] or []
            if (
                str(self.directory) in command
                and _module(command) == module
                and process.info["status"] != psutil.STATUS_ZOMBIE
            ):
                found.append(process)
        return found

    def kill(self, *modules: str) -> None:
        """SIGKILL to all processes of these modules, until they are gone: a large one takes a moment to die."""
        killed = [p for module in modules for p in self.processes(module)]
        for process in killed:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        pids = {p.pid for p in killed}
        wait_for(lambda: not any(p.pid in pids for module in modules for p in self.processes(module)), 30, "their end")

    def reported(self) -> dict[tuple[int, str, int], float]:
        """Every metric value that the worker appended: (attempt, key, step) to value."""
        return {
            (r.attempt, key, r.event.step): value
            for r in read_records(self.directory / "events.jsonl")
            if isinstance(r.event, Metric)
            for key, value in r.event.values.items()
        }

    def stored(self) -> dict[tuple[int, str, int], float]:
        """Every metric value in the database, whatever the attempt."""
        db = sqlite3.connect(self.deck.database, timeout=10)
        try:
            rows = db.execute(
                "SELECT attempt, key, step, value FROM points JOIN series ON series.id = series WHERE run_id = ?",
                (self.id,),
            ).fetchall()
        finally:
            db.close()
        return {(a, k, s): float(v) for a, k, s, v in rows if not k.startswith("memory_")}

    def losses(self) -> dict[int, float]:
        """The loss of each step, as shown: of its latest attempt."""
        return {step: value for step, _, value in self.shown()["metrics"].get("loss", [])}


def _module(command: list[str]) -> str:
    """What `python -m` runs."""
    return command[command.index("-m") + 1] if "-m" in command[:-1] else ""
