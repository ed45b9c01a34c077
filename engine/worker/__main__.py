"""`python -P -m engine.worker RUN_DIR`: one attempt of a run, in its own process.

Exit codes: 0 finished or stopped, 1 failed. The last event says how it ended, whatever happened.
"""

import argparse
import contextlib
import importlib.metadata
import os
import shutil
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import yaml

from engine.errors import TuneDeckError
from engine.events import Started, Stopped
from engine.processes import die_with_parent, start_time
from engine.spec import RunSpec, apply_sets, parse
from engine.worker.explain import explain
from engine.worker.reporter import Reporter

PACKAGES = ("tunedeck", "torch", "transformers", "trl", "peft", "datasets", "bitsandbytes", "accelerate")


def main() -> int:
    parser = argparse.ArgumentParser(prog="engine.worker")
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--attempt", type=int, default=1)
    parser.add_argument("--resume-from", default="")
    parser.add_argument("--set", dest="sets", action="append", default=[])
    options = parser.parse_args()
    rank = int(os.environ.get("RANK", "0"))
    if "TORCHELASTIC_RUN_ID" in os.environ:
        die_with_parent()
    stop = _stop_on_sigterm(options.run_dir)
    reporter = Reporter(options.run_dir, options.attempt, rank)
    try:
        spec = parse(apply_sets(yaml.safe_load((options.run_dir / "spec.yaml").read_text()), options.sets))
        reporter.say(_started(spec))
        reporter.phase("import", "torch, transformers, trl")
        return _train(spec, reporter, stop, options.resume_from)
    except BaseException as error:  # KeyboardInterrupt and SystemExit too: the last event says how it ended
        reporter.say_last(explain(error, shutil.disk_usage(options.run_dir).free, reporter.doing))
        with contextlib.suppress(OSError):  # output.log may lie on the disk that is full
            traceback.print_exception(error, limit=0 if isinstance(error, TuneDeckError) else None)
        return 1


def _train(spec: RunSpec, reporter: Reporter, stop: Callable[[], bool], resume_from: str) -> int:
    from engine.worker.training import StopRequested, train

    try:
        train(spec, reporter, stop, resume_from)
    except StopRequested:
        reporter.say_last(Stopped(int(resume_from.rpartition("-")[2] or 0), resume_from))
    return 0


def _stop_on_sigterm(run_dir: Path) -> Callable[[], bool]:
    """A function that tells whether to stop: a STOP file is there, or SIGTERM came."""
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: asked.append(number))
    stop_file = str(run_dir / "STOP")
    return lambda: bool(asked) or os.path.exists(stop_file)


def _started(spec: RunSpec) -> Started:
    versions = {"python": sys.version.split()[0]}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return Started(
        pid=os.getpid(),
        process_start=start_time(os.getpid()),
        host=socket.gethostname(),
        gpus=[g for g in visible.split(",") if g],
        versions=versions,
        spec=spec.model_dump(mode="json"),
    )


if __name__ == "__main__":
    sys.exit(main())
