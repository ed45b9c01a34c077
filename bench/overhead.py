"""`python -m bench.overhead`: what our worker costs over a bare SFTTrainer script with the same arguments.

Whole processes in pairs, in turn: SmolLM2-135M, LoRA, 60 steps. CPU
seconds (user and system of the process and its children) decide, since other work on the machine changes the wall
clock. Aim: below 2 %.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.table import median, publish, spread
from engine import demo
from engine.files import write_private
from engine.launch import prepare
from engine.outcome import worker_environment
from engine.spec import RunSpec, parse, to_yaml
from engine.worker.load import ready_model
from engine.worker.reporter import Reporter

STEPS = 60


def specification(directory: Path) -> RunSpec:
    data = directory / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in demo.rows()))
    spec = parse({
        "model": {"path": demo.demo_model()}, "data": {"path": str(data), "validation": 0},
        "method": {"kind": "lora"}, "training": {"max_steps": STEPS, "micro_batch": 2, "max_length": 256},
        "evaluation": {"every": 0, "prompts": []}, "saving": {"every": 0},
    })  # fmt: skip
    local = ready_model(spec, Reporter(directory, 1)).path
    return prepare(spec.model_copy(update={"model": spec.model.model_copy(update={"path": local})})).spec


def timed(command: list[str], log: Path) -> tuple[float, float]:
    """(CPU seconds, wall seconds) of a whole process."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with log.open("ab") as output:
        subprocess.run(command, check=True, stdout=output, stderr=output, env=worker_environment([]) | dict(os.environ))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=3)
    pairs = parser.parse_args().pairs
    ours: list[tuple[float, float]] = []
    bare: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        spec = specification(directory)
        write_private(directory / "spec.yaml", to_yaml(spec))
        python = [sys.executable, "-P", "-m"]
        for i in range(pairs):
            run_dir = directory / f"run{i}"
            run_dir.mkdir()
            write_private(run_dir / "spec.yaml", to_yaml(spec))
            bare.append(timed([sys.executable, "-m", "bench.bare_sft", str(directory / "spec.yaml"), str(directory / f"bare{i}")],
                              directory / "log"))  # fmt: skip
            ours.append(timed([*python, "engine.worker", str(run_dir)], directory / "log"))
    rows = []
    for i, what in enumerate(("CPU seconds", "wall seconds")):
        ratios = [100 * (o[i] / b[i] - 1) for o, b in zip(ours, bare, strict=True)]
        rows.append([what, spread([o[i] for o in ours], 1), spread([b[i] for b in bare], 1), spread(ratios, 1)])
    percent = 100 * (median([o[0] / b[0] for o, b in zip(ours, bare, strict=True)]) - 1)
    publish("overhead", f"Our worker against a bare SFTTrainer script, {STEPS} steps, {pairs} pairs: median (least–most)",
            ["figure", "worker", "bare script", "overhead in %"], rows, [f"Aim: below 2 %. CPU overhead here: {percent:.1f} %."])  # fmt: skip


if __name__ == "__main__":
    main()
