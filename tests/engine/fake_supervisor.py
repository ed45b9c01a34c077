"""`python -m tests.engine.fake_supervisor CARDS RUN_DIR ...`: the real supervisor on the invented cards of a file.

Its worker trains nothing: it ends as soon as there is a file END or STOP in the run's directory.
"""

import sys
from pathlib import Path

from engine import hardware, outcome, supervisor, waiting
from tests.engine.fake_nvml import FileNvml

SETTLE = 0.3
WORKER = """
import sys, time
from pathlib import Path
from engine.events import Finished, Stopped
from engine.files import EventFile
place = Path(sys.argv[1])
while not any((place / name).exists() for name in ("END", "STOP")):
    time.sleep(0.02)
EventFile(place / "events.jsonl", 1).append(Finished(1) if (place / "END").exists() else Stopped(1))
"""


def main() -> None:
    nvml = FileNvml(Path(sys.argv.pop(1)))
    supervisor.probe = lambda: hardware.probe(nvml)  # type: ignore[attr-defined]
    supervisor.Sampler = lambda: hardware.Sampler(nvml)  # type: ignore[attr-defined,assignment,misc]
    supervisor.SAMPLE_SECONDS = 0.1
    waiting.SETTLE = SETTLE
    outcome.worker_command = lambda run_dir, *_: [sys.executable, "-c", WORKER, str(run_dir)]
    supervisor.main()


if __name__ == "__main__":
    main()
