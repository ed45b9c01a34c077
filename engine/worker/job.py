"""The process of a job after training: `python -P -m engine.worker.<kind> JOB_DIR --attempt N`. Its last event says how it ended."""

import argparse
import contextlib
import os
import shutil
import signal
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.after import job as jobs
from engine.errors import TuneDeckError
from engine.events import Done, Stopped
from engine.worker.explain import explain
from engine.worker.reporter import Reporter


class StopAsked(Exception):
    """Somebody asked the job to stop: what it has done is kept."""


@dataclass(frozen=True)
class Job:
    """`ask` as in job.json; `stop` raises StopAsked where somebody has asked for it; `progress(done, total)` and `reporter.phase`
    say how far it is."""

    folder: Path
    run_dir: Path
    ask: dict[str, Any]
    reporter: Reporter

    def stop(self) -> None:
        if _asked or (self.folder / jobs.STOP).exists():
            raise StopAsked

    def progress(self, done: int, total: int) -> None:
        self.reporter.progress(done, total, 0.0)


_asked: list[int] = []


def main(do: Callable[[Job], Done]) -> int:
    """Do the job of the directory that the command line names; the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--attempt", type=int, default=1)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, _frame: _asked.append(number))
    folder: Path = options.folder
    reporter = Reporter(folder, options.attempt)
    try:
        reporter.say_last(do(Job(folder, folder.parent.parent, jobs.read(folder)["ask"], reporter)))
    except StopAsked:
        reporter.say_last(Stopped(0))
    except BaseException as error:  # KeyboardInterrupt and SystemExit too: the last event says how it ended
        reporter.say_last(explain(error, shutil.disk_usage(folder).free, reporter.doing))
        with contextlib.suppress(OSError):
            traceback.print_exception(error, limit=0 if isinstance(error, TuneDeckError) else None)
        return 1
    finally:
        with contextlib.suppress(OSError):
            os.unlink(folder / "reserve")
    return 0
