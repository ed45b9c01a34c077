"""The training step traced in a child process, once for what determines it; torch stays out of this process."""

import hashlib
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from engine.errors import TuneDeckError
from engine.files import write_private
from engine.paths import cache_directory
from engine.spec import RunSpec, to_yaml
from engine.text import clean

FORMAT = 1
"""Of what is cached: raised whenever engine.worker.memtrace would say something else about the same step."""
SECONDS = 600
PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "bitsandbytes")
TRAINING = ("micro_batch", "accumulation", "max_length", "packing", "checkpointing", "optimizer", "precision", "attention",
            "max_grad_norm")  # fmt: skip


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
    return in_child("engine.worker.memtrace", config, spec, options, os.environ | _environment(), "The trace")


def in_child(
    module: str, config: dict[str, Any], spec: RunSpec, options: list[str], environment: dict[str, str], what: str
) -> dict[str, Any]:
    """The JSON document that `python -m MODULE CONFIG.json SPEC.yaml` prints. `what` is its name in error messages.

    Raises TuneDeckError for the error that it prints, if it dies, and after SECONDS.
    """
    with tempfile.TemporaryDirectory(prefix="tunedeck-") as folder:
        files = [Path(folder) / "config.json", Path(folder) / "spec.yaml"]
        files[0].write_text(json.dumps(config), encoding="utf-8")
        files[1].write_text(to_yaml(spec), encoding="utf-8")
        command = [sys.executable, "-P", "-m", module, *map(str, files), *options]
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS, env=environment,
                check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise TuneDeckError(
                f"{what} took too long", f"It was ended after {SECONDS} s.", "Plan without it."
            ) from None
    return _answer(done, what)


def _environment() -> dict[str, str]:
    """No GPU and no network: neither is needed, and a trace must not take memory from a run."""
    return {
        "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive",
    }  # fmt: skip


def _answer(done: subprocess.CompletedProcess[str], what: str = "The trace") -> dict[str, Any]:
    """The child's document. Raises TuneDeckError for its error, or for its last words where there is no document."""
    try:
        document = dict(json.loads(done.stdout))
    except (ValueError, TypeError):
        last = clean((done.stderr.strip() or f"exit code {done.returncode}").split("\n")[-1], False)[:300]
        raise TuneDeckError(f"{what} failed", last, "Is torch installed? See tunedeck doctor.") from None
    if done.returncode:
        raise TuneDeckError(str(document.get("title")), str(document.get("message")), str(document.get("hint", "")))
    return document
