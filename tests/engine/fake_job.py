"""A job after training that counts: the real runner and the real process around it.

`python -m tests.engine.fake_job JOB_DIR --db ...` is the runner, which starts this module again as the job's process. It does
what `ask` says: `rows` lines in rows.jsonl, `ends` as done, failed, killed or waiting (for a STOP or a file END).
"""

import json
import os
import signal
import sys
import time

from engine.after import job as jobs
from engine.after import runner
from engine.errors import RunError
from engine.events import Done
from engine.worker.job import Job, main


def work(job: Job) -> Done:
    job.reporter.phase("count", "counting")
    path = job.folder / jobs.ROWS
    there = len(path.read_text().splitlines()) if path.exists() else 0
    with path.open("a") as file:
        for number in range(there + 1, job.ask["rows"] + 1):
            job.stop()
            file.write(json.dumps({"row": number, "badness": -number, "gain": number, "pid": os.getpid()}) + "\n")
            file.flush()
            job.progress(number, job.ask["rows"])
    ends = job.ask["ends"] if not (job.folder / "END").exists() else "done"
    while ends == "waiting" and not (job.folder / "END").exists():
        job.stop()
        time.sleep(0.02)
    if ends == "failed":
        raise RunError("It cannot count", "The numbers are used up.", "Take others.")
    if ends == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    made = {"kind": "count", "path": str(path), "bytes": path.stat().st_size, "sha256": "ab" * 32}
    return Done({"counted": job.ask["rows"], "artifacts": [made]}, "counted them")


if __name__ == "__main__":
    if any(word.startswith("--db") for word in sys.argv):
        jobs.MODULES["eval"] = "tests.engine.fake_job"
        runner.main()
    else:
        sys.exit(main(work))
