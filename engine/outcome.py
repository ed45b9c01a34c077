"""What a run directory tells of a run: its attempts, what to resume from, and how it ended. Decisions, mostly pure."""

import argparse
import contextlib
import os
import re
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from engine.events import Attempt, Checkpoint, Exit, Failed, Finished, Started, Stopped, Waiting
from engine.files import read_records
from engine.hardware import Gpu
from engine.processes import alive, find_worker
from engine.text import tail

if TYPE_CHECKING:
    from engine.spec import RunSpec


@dataclass(frozen=True)
class History:
    """The files of a run, read: `attempt` is the last attempt's number (0: none), `checkpoint` a directory or "".

    `overrides`, `gpus` and `log` (where it begins in output.log, bytes) are the last attempt's.
    """

    attempt: int
    worker: tuple[int, float] | None
    checkpoint: str
    last: Finished | Stopped | Failed | None
    ended: bool
    overrides: dict[str, int] = field(default_factory=dict)
    gpus: list[int] = field(default_factory=list)
    log: int = 0

    @property
    def smaller_may_fit(self) -> bool:
        """Whether a GPU ran out of memory over a batch: a smaller one changes nothing while a model loads or is saved."""
        last = self.last
        return isinstance(last, Failed) and last.device == "gpu" and last.phase in ("train", "evaluate")


def read_history(run_dir: Path) -> History:
    """Read both event files of a run."""
    attempt, worker, ended, checkpoint, log = 0, None, False, "", 0
    overrides: dict[str, int] = {}
    gpus: list[int] = []
    for record in read_records(run_dir / "supervisor.jsonl"):
        event = record.event
        if isinstance(event, Attempt):
            attempt, ended = record.attempt, False
            worker = event.pid, event.process_start
            overrides, gpus, log = event.overrides, event.gpus, event.log
        elif isinstance(event, Waiting):
            ended = False
        elif isinstance(event, Exit):
            ended = True
    last: Finished | Stopped | Failed | None = None
    for record in read_records(run_dir / "events.jsonl"):
        event = record.event
        if isinstance(event, Started):
            last = None
            if record.attempt > attempt:  # the supervisor was killed before it could note its own start of this worker
                attempt, ended = record.attempt, False
                worker = event.pid, event.process_start
        elif isinstance(event, Checkpoint) and whole(event):
            checkpoint = event.path
        elif isinstance(event, Finished | Stopped | Failed) and record.attempt >= attempt:
            last = event
    if last is None or isinstance(last, Failed):
        last = _first_failure(run_dir, attempt) or last
    return History(attempt, worker, checkpoint, last, ended, overrides, gpus, log)


def living_worker(run_dir: Path, history: History) -> psutil.Process | None:
    """The run's worker, if it lives: the one that is on record, else one that is there."""
    if history.worker and alive(*history.worker):
        with contextlib.suppress(psutil.Error):
            return psutil.Process(history.worker[0])
    return find_worker(run_dir)


def attempt_of(worker: psutil.Process, run_dir: Path) -> tuple[int, Attempt]:
    """(attempt, its event) of a worker that is not on record, by its command line: its supervisor was killed before it could
    note it. Raises psutil.Error, ValueError."""
    parser = argparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--attempt", type=int, default=1)
    parser.add_argument("--resume-from", default="")
    parser.add_argument("--set", dest="sets", action="append", default=[])
    known, _ = parser.parse_known_args(worker.cmdline())
    overrides = {path: int(value) for path, _, value in (one.partition("=") for one in known.sets)}
    log = (run_dir / "output.log").stat().st_size if (run_dir / "output.log").exists() else 0
    return known.attempt, Attempt(worker.pid, worker.create_time(), known.resume_from, overrides, [], log)


def _first_failure(run_dir: Path, attempt: int) -> Failed | None:
    """Why an attempt failed, as its ranks tell it: one fails, the others then see only that they lost it."""
    files = [run_dir / "events.jsonl", *run_dir.glob("failed.*.jsonl")]
    told = [(record.event.kind == "other", record.time, record.event) for file in files for record in read_records(file)
            if record.attempt == attempt and isinstance(record.event, Failed)]  # fmt: skip
    return min(told, key=lambda one: one[:2])[2] if told else None


_REPORTED = re.compile(r"rank\s*: (\d+) \(local_rank: \d+\)\s*exitcode\s*: -(\d+) \(pid: \d+\)")


def killed_rank(run_dir: Path, log: int, within: int = 32768) -> tuple[int, int] | None:
    """(rank, signal) of the rank whose death ended an attempt, as torchrun reports it in output.log from byte `log` on.

    The ranks that torchrun itself then ends with SIGTERM are not meant.
    """
    try:
        with open(run_dir / "output.log", "rb") as file:
            file.seek(max(log, file.seek(0, os.SEEK_END) - within))
            found = _REPORTED.findall(file.read().decode(errors="replace"))
    except OSError:
        return None
    died = [(int(rank), int(number)) for rank, number in found if int(number) != signal.SIGTERM]
    return died[-1] if died else None  # the root cause comes last


def whole(checkpoint: Checkpoint) -> bool:
    """Whether every file of an announced checkpoint is there in full."""
    folder = Path(checkpoint.path)
    try:
        return folder.is_dir() and all((folder / n).stat().st_size == size for n, size in checkpoint.files.items())
    except OSError:
        return False


def verdict(
    history: History, run_dir: Path, code: int | None, number: int | None, host_oom: bool, killed: bool
) -> Exit:
    """How an attempt ended: by its last event if it has one, else by how the process went.

    `killed`: we killed it because that was asked for. `host_oom`: the kernel killed something of this cgroup for memory.
    """
    last, who, died_of = history.last, "the worker", number
    if rank := killed_rank(run_dir, history.log):
        who, died_of = f"rank {rank[0]} of the worker", rank[1]
        last = None if isinstance(last, Failed) and last.kind == "other" else last  # that it lost that rank
    if isinstance(last, Finished):
        return Exit("finished", f"finished at step {last.step}", code, number)
    if isinstance(last, Stopped):
        return Exit("stopped", f"stopped at step {last.step}", code, number)
    if isinstance(last, Failed):
        return Exit("oom" if last.kind == "oom" else "failed", last.message, code, number, last_words(run_dir))
    if killed:
        return Exit("stopped", "killed on request, nothing saved since the last checkpoint", code, number)
    if died_of == signal.SIGKILL and host_oom:
        return Exit("oom", f"the kernel killed {who}: the host ran out of memory", code, number, last_words(run_dir))
    if died_of is not None:
        name = signal.Signals(died_of).name if died_of in set(signal.Signals) else f"signal {died_of}"
        how = f"{who} was killed by {name}"
    elif code is not None:
        how = f"the worker ended with exit code {code} and no last event"
    elif history.attempt == 0:
        how = "the run never started"
    else:
        how = "the worker is gone, and nobody saw how"
    return Exit("crashed", how, code, number, last_words(run_dir))


def last_words(run_dir: Path, lines: int = 5, within: int = 8192) -> list[str]:
    """The last lines of output.log, looked for in its last `within` bytes."""
    try:
        with open(run_dir / "output.log", "rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - within))
            return tail(file.read().decode(errors="replace"), lines)
    except OSError:
        return []


def usable(spec: "RunSpec", gpus: Sequence[Gpu]) -> list[Gpu]:
    """The cards that the spec and CUDA_VISIBLE_DEVICES (Slurm sets it) allow: all for `auto`, none for `cpu`."""
    devices = spec.compute.devices
    if devices == "cpu":
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible is not None else None
    allowed = [
        g for g in gpus if names is None or any(n and (n == str(g.index) or g.uuid.startswith(n)) for n in names)
    ]
    return [g for g in allowed if g.memory_total and (devices == "auto" or g.index in devices)]


def cards_needed(spec: "RunSpec", usable_cards: int) -> int:
    """How many cards a run takes: one a process, or all that it may use if its layers are laid over them."""
    return max(1, usable_cards) if spec.compute.sharding == "layers" else spec.compute.processes


def smaller_batch(spec: "RunSpec", overrides: dict[str, int]) -> dict[str, int] | None:
    """Half the micro-batch and twice the accumulation, or None if the least one did not fit either: 1, for KTO 2."""
    micro = overrides.get("training.micro_batch", spec.training.micro_batch or 1)
    accumulation = overrides.get("training.accumulation", spec.training.accumulation or 1)
    parts = 2 if micro % 2 == 0 else micro
    least = 2 if spec.objective == "kto" else 1  # which pairs each prompt with another row's answer
    if micro == 1 or micro // parts < least:
        return None
    return {"training.micro_batch": micro // parts, "training.accumulation": accumulation * parts}


def worker_command(
    run_dir: Path, spec: "RunSpec", attempt: int, resume_from: str, overrides: dict[str, int]
) -> list[str]:
    """The worker, under torchrun if it needs several processes. -P: a foreign `engine/` in the directory is no danger."""
    python = [sys.executable, "-P"]
    launcher = [
        "-m",
        "torch.distributed.run",
        "--standalone",
        f"--nproc-per-node={spec.compute.processes}",
        "--no-python",
    ]
    prefix = [*python, *launcher, *python] if spec.compute.processes > 1 else python
    sets = [part for path, value in overrides.items() for part in ("--set", f"{path}={value}")]
    return [*prefix, "-m", "engine.worker", str(run_dir), f"--attempt={attempt}", f"--resume-from={resume_from}", *sets]


def worker_environment(gpus: list[Gpu], more: dict[str, str] | None = None) -> dict[str, str]:
    """The environment of the worker: its GPUs, and threads that sleep while they wait (2.4 times faster when shared).

    `more` is what its trackers need.
    """
    added = (more or {}) | {
        "CUDA_VISIBLE_DEVICES": ",".join(g.uuid for g in gpus),
        "HF_HUB_DISABLE_TELEMETRY": "1",  # TRL reports each trainer that is made
        "OMP_WAIT_POLICY": "passive",
        "PYTHONUNBUFFERED": "1",
        "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
        "THP_MEM_ALLOC_ENABLE": "1",  # torch's large CPU buffers in huge pages: far fewer page faults
        "TOKENIZERS_PARALLELISM": "false",
        "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "300",  # seconds that ranks may take to save when torchrun gets SIGTERM
    }
    return added | dict(os.environ) | {"CUDA_VISIBLE_DEVICES": added["CUDA_VISIBLE_DEVICES"]}
