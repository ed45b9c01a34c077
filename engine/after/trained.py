"""What a run has learned, as the jobs after training take it: the saved model or adapter, or a checkpoint."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine import paths
from engine.elsewhere import refuse_imported
from engine.errors import RunError
from engine.spec import RunSpec, parse
from engine.store.runs import ACTIVE

ADAPTER = "adapter_config.json"


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
    whole, checkpoints = run_dir / "model", _checkpoints(run_dir)
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


def _checkpoints(run_dir: Path) -> dict[int, Path]:
    """Checkpoints that hold weights, by step."""
    found = (run_dir / "checkpoints").glob("checkpoint-*")
    return {int(p.name.rpartition("-")[2]): p for p in found if p.name.rpartition("-")[2].isdigit() and _weights(p)}


def _weights(folder: Path) -> bool:
    return any(folder.glob("*.safetensors"))
