"""`python -m bench.reporting`: what one logged step costs in the training process.

The real callback and the real event file, with the values that TRL logs; the trainer's own work is left out. Aim: below 50
microseconds a step.
"""

import contextlib
import statistics
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

from bench.table import publish
from engine.worker.callback import ReportingCallback
from engine.worker.reporter import Reporter

STEPS = 5000
LOGS = {
    "loss": 1.0834, "grad_norm": 0.4127, "learning_rate": 6.3e-5, "entropy": 1.2104, "mean_token_accuracy": 0.7211,
    "num_tokens": 4190000.0, "epoch": 1.9,
}  # fmt: skip


def one_run(directory: Path) -> list[float]:
    """Microseconds of each step's reporting: begin, end, log."""
    callback = ReportingCallback(Reporter(directory, 1), 2, (directory / "STOP").exists)
    control = SimpleNamespace(should_evaluate=False, should_save=False, should_training_stop=False)
    args = SimpleNamespace(should_save=True, output_dir=str(directory))
    took = []
    for step in range(1, STEPS + 1):
        state = SimpleNamespace(global_step=step, max_steps=STEPS, epoch=step / STEPS)
        logs = {**LOGS, "num_tokens": LOGS["num_tokens"] + 512.0 * step}
        began = time.perf_counter()
        callback.on_step_begin(args, state, control)
        callback.on_step_end(args, state, control)
        callback.on_log(args, state, control, logs)
        took.append((time.perf_counter() - began) * 1e6)
    return took


def main() -> None:
    rows = []
    for name in ("first", "second", "third"):
        with tempfile.TemporaryDirectory() as directory:
            # as in a worker: standard output is output.log, written through line by line
            with (Path(directory) / "output.log").open("w", buffering=1) as log, contextlib.redirect_stdout(log):
                took = one_run(Path(directory))
            size = (Path(directory) / "events.jsonl").stat().st_size / STEPS
        cut = statistics.quantiles(took, n=100)
        rows.append([name, f"{cut[49]:.0f}", f"{cut[98]:.0f}", f"{sum(took) / STEPS:.0f}", f"{size:.0f}"])
    publish("reporting", "Cost of one logged step in the training process, microseconds",
            ["run of 5,000 steps", "p50", "p99", "mean", "bytes a step"], rows, ["Aim: below 50."])  # fmt: skip


if __name__ == "__main__":
    main()
