"""The training step traced in a child process, once for what determines it; torch stays out of this process."""

import hashlib
import importlib.metadata
import json
import tempfile
from pathlib import Path
from typing import Any

from engine.files import write_private
from engine.jobs import OFFLINE, job
from engine.paths import cache_directory
from engine.spec import RunSpec, to_yaml

FORMAT = 2
"""Of what is cached: raised whenever engine.worker.memtrace would say something else about the same step."""
PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "bitsandbytes")
TRAINING = ("micro_batch", "accumulation", "max_length", "packing", "checkpointing", "optimizer", "precision", "attention",
            "max_grad_norm", "fused_head", "compile", "kernels")  # fmt: skip


def exact(config: dict[str, Any], spec: RunSpec, ragged: bool | None = None) -> dict[str, Any]:
    """What engine.worker.memtrace.Trace holds, in bytes, as a dictionary. Takes 10 to 30 s, nothing if it is known.

    `config` is the content of a config.json. `ragged`: rows of different lengths, padded; by default whenever there are
    several in a micro-batch. Raises TuneDeckError where the step cannot be traced.
    """
    if ragged is None:
        ragged = (spec.training.micro_batch or 1) > 1
    file = cache_directory() / "traces" / f"{_key(config, spec, ragged)}.json"
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        result = _run(config, spec, ragged)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_private(file, json.dumps(result))
    except OSError:
        pass  # a full disk costs the next trace, not this one
    return result


def _key(config: dict[str, Any], spec: RunSpec, ragged: bool) -> str:
    training = spec.training.model_dump()
    determining = {
        "format": FORMAT,
        "config": config,
        "method": spec.method.model_dump(),
        "training": {name: training[name] for name in TRAINING},
        "extra": spec.extra.model_dump(),
        "objective": spec.objective,
        "compute": [spec.compute.processes, spec.compute.sharding],
        "ragged": ragged,
        "versions": {name: _version(name) for name in PACKAGES},
    }
    return hashlib.sha256(json.dumps(determining, sort_keys=True, default=str).encode()).hexdigest()[:24]


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _run(config: dict[str, Any], spec: RunSpec, ragged: bool) -> dict[str, Any]:
    options = ["--ragged"] if ragged else []
    return in_child("engine.worker.memtrace", config, spec, options, OFFLINE, "The trace")


def in_child(
    module: str, config: dict[str, Any], spec: RunSpec, options: list[str], environment: dict[str, str], what: str
) -> dict[str, Any]:
    """The job `python -m MODULE CONFIG.json SPEC.yaml`. Raises TuneDeckError as `engine.jobs.job` does."""
    with tempfile.TemporaryDirectory(prefix="tunedeck-") as folder:
        files = [Path(folder) / "config.json", Path(folder) / "spec.yaml"]
        files[0].write_text(json.dumps(config), encoding="utf-8")
        files[1].write_text(to_yaml(spec), encoding="utf-8")
        return job(module, [*map(str, files), *options], what, environment)
