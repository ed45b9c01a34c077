"""`python -m bench.store.peers`: the same points and questions for TuneDeck, Trackio, TensorBoard and MLflow, in turn.

MLflow needs other versions of our libraries, so it has an environment of its own: `make bench-mlflow` makes it, or name
another Python that has it with $BENCH_MLFLOW. Without it its column is a dash.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.store.peer import Work
from bench.table import publish

HERE = Path(__file__).parent
WORK = Work(runs=300, steps=100, long_runs=10, long_steps=10_000)
TOOLS = ("tunedeck", "trackio", "tensorboard", "mlflow")
HIGHER = "points a second"


def python_for(tool: str) -> Path:
    own = Path(os.environ.get("BENCH_MLFLOW", HERE.parent.parent / ".venv-mlflow" / "bin" / "python"))
    return own if tool == "mlflow" else Path(sys.executable)


def measure(tool: str, directory: Path) -> dict[str, Any]:
    """What its script says; nothing where it cannot run."""
    python = python_for(tool)
    if not python.exists():
        return {}
    command = [str(python), str(HERE / f"peer_{tool}.py"), str(directory / tool), json.dumps(asdict(WORK))]
    done = subprocess.run(command, capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if not lines:
        raise SystemExit(f"{tool}: {done.stderr[-2000:]}")
    return dict(json.loads(lines[-1].removeprefix("RESULT ")))


def number(value: Any) -> float | None:
    return statistics.median(value) if isinstance(value, list) else value


def cell(what: str, value: float | None, ours: float) -> str:
    """The figure, and how many times ours it is; of a speed how many times slower."""
    if value is None:
        return "–"
    ratio = ours / value if what == HIGHER else value / ours
    return (f"{value:,.0f}" if value >= 100 else f"{value:.1f}") + (f"  x{ratio:.1f}" if value != ours else "")


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        found = {tool: measure(tool, Path(directory)) for tool in TOOLS}
    rows = []
    for what, ours in found["tunedeck"].items():
        base = number(ours)
        assert base is not None
        unit = "" if what in (HIGHER, "bytes a point") else ", ms"
        rows.append([what + unit, *(cell(what, number(found[tool].get(what)), base) for tool in TOOLS)])
    publish("store-peers", f"The same {WORK.points:,} points in {WORK.runs} usual runs and {WORK.long_runs} long ones; xN: N times our cost",
            ["what", "TuneDeck", "Trackio", "TensorBoard", "MLflow"], rows, [
                "TuneDeck ingests the event files that its workers write; Trackio its own bulk_log, MLflow log_batch of 1,000, TensorBoard its file writer.",
                "Each is read through what its own interface calls. Trackio's and MLflow's overlay: evenly thinned, and whole; TensorBoard has no filter, MLflow sorts by the last value only.",
            ])  # fmt: skip


if __name__ == "__main__":
    main()
