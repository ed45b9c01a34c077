"""The real controller of a sweep; the runs that it starts have real supervisors, and workers that train nothing.

`python -m tests.engine.fake_sweeper SWEEP_DIR ...` is the controller, `... RUN_DIR ...` with SUPERVISE a supervisor: a run's
worker ends as the seed of its specification says (WORKER). A file DIE in the sweep's directory, `begun 2` say, makes the
controller kill itself at that moment of its second run, once.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

from engine import launch, outcome, sweep_log, sweeper, waiting

WORKER = """
import sys, time
from pathlib import Path
from engine.events import Failed, Finished, Stopped
from engine.files import EventFile
place, attempt = Path(sys.argv[1]), int(sys.argv[2])
text = (place / "spec.yaml").read_text()
events = EventFile(place / "events.jsonl", attempt)
if "seed: 13" in text and not (place / "MENDED").exists():
    events.append(Failed("other", "it is the thirteenth"))
elif "seed: 14" in text:
    while not any((place / name).exists() for name in ("END", "STOP")):
        time.sleep(0.02)
    events.append(Finished(1) if (place / "END").exists() else Stopped(1))
else:
    time.sleep(0.1)
    events.append(Finished(1))
"""
SUPERVISE = "--supervise"


def main() -> None:
    waiting.SETTLE = 0.2
    if SUPERVISE in sys.argv:
        from engine import supervisor

        sys.argv.remove(SUPERVISE)
        outcome.worker_command = lambda run_dir, spec, attempt, *_: [
            sys.executable,
            "-c",
            WORKER,
            str(run_dir),
            str(attempt),
        ]
        supervisor.TICK = 0.05
        supervisor.main()
        return
    sweeper.TICK = 0.05
    real, append = launch.start_detached, sweep_log.append

    def start_detached(module: str, database: Path, directory: Path, lock: int, *more: str) -> None:
        die("inserted")
        fake = module == "engine.supervisor"
        real("tests.engine.fake_sweeper" if fake else module, database, directory, lock, *more, *[SUPERVISE] * fake)
        die("started")

    def noted(directory: Path, **entry: Any) -> None:
        append(directory, **entry)
        if entry.get("event") in ("begun", "made", "again"):
            die(str(entry["event"]))

    launch.start_detached = start_detached
    sweep_log.append = noted
    sweeper.main()


_moments: dict[str, int] = {}


def die(moment: str) -> None:
    """Kill ourselves with -9 if that is asked for at this moment; the file goes first, so that the next one lives."""
    _moments[moment] = _moments.get(moment, 0) + 1
    wanted = Path(sys.argv[1]) / "DIE"
    if wanted.exists() and wanted.read_text() == f"{moment} {_moments[moment]}":
        wanted.unlink()
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
