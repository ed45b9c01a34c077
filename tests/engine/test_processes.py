"""Who lives, told by pid and start time, also where the clock is set meanwhile."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from engine import outcome, processes
from engine.events import Attempt
from engine.outcome import History


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[psutil.Process]:
    """A process whose command line is a worker's."""
    command = [sys.executable, "-c", "import time; time.sleep(60)", "-m", "engine.worker", str(tmp_path), "--attempt=3",
               "--resume-from=/c/checkpoint-8", "--set", "training.micro_batch=2"]  # fmt: skip
    child = subprocess.Popen(command)
    yield psutil.Process(child.pid)
    child.kill()
    child.wait()


def set_clock(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """The machine's start, which all start times are counted from, as it is told after the clock was set."""
    linux = sys.modules["psutil._pslinux"]
    began = linux.boot_time()  # type: ignore[attr-defined]
    monkeypatch.setattr(linux, "boot_time", lambda: began + seconds)


@pytest.mark.parametrize("seconds", [-3600.0, -1.0, 1.0, 3600.0])
def test_a_process_lives_whatever_the_clock_does(
    worker: psutil.Process, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    known = worker.pid, processes.start_time(worker.pid)
    set_clock(monkeypatch, seconds)
    assert processes.still(worker)
    assert processes.alive(*known) == (abs(seconds) < processes.CLOCK_SET)
    found = outcome.living_worker(tmp_path, History(3, known, "", None, False))
    assert found is not None
    assert found.pid == worker.pid


def test_another_process_with_the_same_pid_is_not_meant(worker: psutil.Process, tmp_path: Path) -> None:
    assert not processes.alive(worker.pid, processes.start_time(worker.pid) - 60)
    worker.kill()
    worker.wait()
    assert not processes.still(worker)
    assert outcome.living_worker(tmp_path, History(3, (worker.pid, worker.create_time()), "", None, False)) is None


def test_a_worker_that_is_not_on_record_tells_its_attempt(worker: psutil.Process, tmp_path: Path) -> None:
    (tmp_path / "output.log").write_bytes(b"x" * 7)
    attempt, event = outcome.attempt_of(worker, tmp_path)
    assert attempt == 3
    assert event == Attempt(worker.pid, worker.create_time(), "/c/checkpoint-8", {"training.micro_batch": 2}, [], 7)
