"""A run as a script that needs TRL, transformers, peft and datasets only, with the rows that it trained on."""

import importlib.metadata
import json
import tempfile
from pathlib import Path
from typing import Any

from engine import outcome, paths
from engine.exchange.place import Exported, filled
from engine.exchange.reading import Left
from engine.jobs import OFFLINE, job
from engine.launch import same_data
from engine.spec import RunSpec, parse, to_yaml
from engine.store import runs

NAME = "train.py"


def to_trl(database: Path, run: runs.Row, target: Path) -> Exported:
    """Write train.py, its rows, templates and requirements.txt into `target`. Raises TuneDeckError."""
    same_data(run)
    spec, notes = as_trained(database, run)
    start = f"python {NAME}"
    if spec.compute.processes > 1:
        start = f"torchrun --nproc-per-node={spec.compute.processes} {NAME}"
    left = not_carried(spec)
    with tempfile.TemporaryDirectory(prefix="tunedeck-") as folder, filled(target) as place:
        spec_file, about = Path(folder) / "spec.yaml", Path(folder) / "about.json"
        spec_file.write_text(to_yaml(spec), encoding="utf-8")
        about.write_text(json.dumps(_about(run, spec, start, left)), encoding="utf-8")
        made = job("engine.worker.script", [str(spec_file), str(place), str(about)], "Exporting the run", OFFLINE)
    if made["ids"]:
        notes.append(f"the rows are token ids: {made['ids']}")
    return Exported(made["files"], made["rows"], start, left, notes)


def as_trained(database: Path, run: runs.Row) -> tuple[RunSpec, list[str]]:
    """The specification as the run went on in the end: after CUDA ran out of memory its micro-batch is smaller."""
    spec = parse(run["spec"])
    overrides = outcome.read_history(paths.run_directory(database, run["id"])).overrides
    if not overrides:
        return spec, []
    changes = {name.removeprefix("training."): value for name, value in overrides.items()}
    told = ", ".join(f"{name} {value}" for name, value in changes.items())
    spec = spec.model_copy(update={"training": spec.training.model_copy(update=changes)})
    return spec, [f"with {told}: the run ran out of memory before"]


def not_carried(spec: RunSpec) -> list[Left]:
    """What a run does besides training."""
    found = []
    if spec.evaluation.prompts:
        found.append(Left("evaluation.prompts", spec.evaluation.prompts, "no answers are written while it trains"))
    if spec.evaluation.general:
        found.append(Left("evaluation.general", spec.evaluation.general, "no loss on general texts is measured"))
    if spec.training.nonfinite == "skip":
        found.append(Left("training.nonfinite", "skip", "a step with a bad number is not passed over"))
    if spec.report_to:
        found.append(Left("report_to", spec.report_to, "set report_to in the script; a tracker may want to log in"))
    return found


def _about(run: runs.Row, spec: RunSpec, start: str, left: list[Left]) -> dict[str, Any]:
    """What the beginning of the script says of itself."""
    environment = run["environment"] or {}
    git = environment.get("git") or {}
    lines = [
        f"Written by TuneDeck {importlib.metadata.version('tunedeck')}, which it does not need. In this directory:",
        "    pip install -r requirements.txt",
        f"    {start}",
        f"The rows are those that the run trained on (its data: sha256 {environment.get('data_sha256', 'unknown')}).",
    ]
    if git.get("commit"):
        lines.append(f"The run was started at commit {git['commit']}{' with changes' if git.get('dirty') else ''}.")
    lines += [f"Not carried over: {one.key} ({one.why})." for one in left]
    title = f"The run {run['name']} ({run['id']}): {spec.objective}, {spec.method.kind}, on {run['model']}."
    lines = [line.replace("\\", "/").replace('"', "'") for line in lines]
    return {"title": title.replace("\\", "/").replace('"', "'"), "lines": lines, "script": NAME,
            "versions": environment.get("versions") or {}}  # fmt: skip
