"""What a run has learned, as the jobs after training take it: the saved model or adapter, or a checkpoint."""

import contextlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine import paths
from engine.elsewhere import refuse_imported
from engine.errors import RunError
from engine.events import Checkpoint
from engine.files import read_records
from engine.spec import RunSpec, parse, read_yaml
from engine.store.runs import ACTIVE

ADAPTER = "adapter_config.json"
PINNED = "checkpoint"
TRAINERS_OWN = ("optimizer", "scheduler", "rng_state", "scaler")
"""What a checkpoint has for going on training alone."""


@dataclass(frozen=True)
class Trained:
    """`path` holds an adapter (`adapter`) or a whole model; `step` None: what the run saved at its end."""

    run_id: str
    name: str
    spec: RunSpec
    run_dir: Path
    path: Path
    adapter: bool
    step: int | None = None


def trained(database: Path, run: dict[str, Any], step: int | None = None) -> Trained:
    """What a run saved at its end; of one that has not ended well its last checkpoint, or the one of `step`. Raises RunError."""
    refuse_imported(run, "used")
    run_dir = paths.run_directory(database, run["id"])
    whole = run_dir / "model"
    checkpoints = _checkpoints(run_dir) if step is not None or not _weights(whole) else {}
    if step is not None and step not in checkpoints:
        there = ", ".join(map(str, sorted(checkpoints))) or "none"
        raise RunError("There is no such checkpoint", f"{run['name']} has none of step {step}.", f"There are: {there}.")
    if step is None and not _weights(whole):
        if run["status"] in ACTIVE and not checkpoints:
            raise RunError("The run has saved nothing yet", f"{run['name']} is {run['status']}.",
                           f"Wait, or save now: tunedeck checkpoint {run['id']}")  # fmt: skip
        if not checkpoints:
            raise RunError("The run has nothing to use", f"{run_dir} has neither a model nor a checkpoint.",
                           f"Train it: tunedeck resume {run['id']}")  # fmt: skip
        step = max(checkpoints)
    path = whole if step is None else checkpoints[step]
    return Trained(run["id"], run["name"], parse(run["spec"]), run_dir, path, (path / ADAPTER).is_file(), step)


def of_directory(run_dir: Path, step: int | None = None, job: Path | None = None) -> Trained:
    """The same for a process that does a job and has no database: `step` as `trained` found it. Raises RunError."""
    spec = parse(read_yaml(run_dir / "spec.yaml"))
    path = run_dir / "model" if step is None else run_dir / "checkpoints" / f"checkpoint-{step}"
    if job is not None and _weights(job / PINNED):
        path = job / PINNED
    if not _weights(path):
        raise RunError("What the run saved is not there any more", f"{path} holds no weights.", "Start the job anew.")
    return Trained(run_dir.name, spec.run.name or run_dir.name, spec, run_dir, path, (path / ADAPTER).is_file(), step)


def pin(of: Trained, job: Path) -> None:
    """Hold on to a checkpoint for a job, by hard links in its directory: a run that still trains deletes its older ones.

    Where that cannot be done, the job reads the checkpoint itself, or says that it is gone.
    """
    if of.step is None:
        return
    with contextlib.suppress(OSError):
        (job / PINNED).mkdir(mode=0o700)
        # weights last: with them it is whole
        for file in sorted(of.path.iterdir(), key=lambda file: file.suffix == ".safetensors"):
            if file.is_file() and not file.name.startswith(TRAINERS_OWN):
                os.link(file, job / PINNED / file.name)
        return
    shutil.rmtree(job / PINNED, ignore_errors=True)


def unpin(job: Path) -> None:
    """The job is done with its checkpoint."""
    shutil.rmtree(job / PINNED, ignore_errors=True)


def _checkpoints(run_dir: Path) -> dict[int, Path]:
    """Checkpoints that hold weights and are whole, by step: they are written in place, and announced when they are complete."""
    found = (run_dir / "checkpoints").glob("checkpoint-*")
    there = {int(p.name.rpartition("-")[2]): p for p in found if p.name.rpartition("-")[2].isdigit() and _weights(p)}
    if not there or not (run_dir / "events.jsonl").is_file():
        return there
    said = [r.event for r in read_records(run_dir / "events.jsonl") if isinstance(r.event, Checkpoint)]
    files = {Path(one.path).name: one.files for one in said}
    return {step: path for step, path in there.items() if path.name in files and _complete(path, files[path.name])}


def _complete(folder: Path, files: dict[str, int]) -> bool:
    try:
        return all((folder / name).stat().st_size == size for name, size in files.items())
    except OSError:
        return False


def _weights(folder: Path) -> bool:
    return any(folder.glob("*.safetensors"))
