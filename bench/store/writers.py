"""Many runs that write to one database while two apps read it: what is lost, and what it costs each.

Each writer is a process that appends to its run's events and ingests them as a supervisor does; each reader is a process
that collects what the app shows, once a second at most. `python -m bench.store.writers DATABASE write|read RUN` is one.
"""

import subprocess
import sys
import time
from pathlib import Path

from bench.store.peer import BEGAN, KEYS, event, value
from engine import paths
from engine.ingest import ingest
from engine.store import runs
from engine.store.connection import open_database, transaction

WRITERS, READERS = 16, 2
STEPS, A_BATCH = 2_000, 20
TICK = 0.1


def append(file: Path, run_id: str, first: int, last: int) -> None:
    """The events of these steps, as a worker reports them."""
    with file.open("a") as out:
        out.writelines(event(run_id, KEYS, step) for step in range(first, last))


def write(database: Path, run_id: str) -> None:
    """Steps in batches, each ingested at once; how long the slowest took."""
    db = open_database(database)
    directory = paths.run_directory(database, run_id)
    directory.mkdir(parents=True, exist_ok=True)
    slowest = 0.0
    for first in range(0, STEPS, A_BATCH):
        append(directory / "events.jsonl", run_id, first, first + A_BATCH)
        began = time.perf_counter()
        ingest(db, run_id, directory)
        slowest = max(slowest, time.perf_counter() - began)
        time.sleep(TICK)
    print(f"{1000 * slowest:.0f}")


def read(database: Path, run_id: str) -> None:
    """Look until standard input closes; how often, how many looks told of a problem, and the median look in ms."""
    import threading

    from tuiapp.looking import Look

    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    look, took, problems = Look(database), [], 0
    while not ended.is_set():
        began = time.perf_counter()
        problems += look.snapshot(run_id, None).problem is not None
        took.append(1000 * (time.perf_counter() - began))
        ended.wait(max(0.0, 1.0 - took[-1] / 1000))
    print(f"{len(took)} {problems} {sorted(took)[len(took) // 2]:.0f}")


def start(database: Path, job: str, run_id: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "bench.store.writers", str(database), job, run_id]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def measure(database: Path) -> list[list[str]]:
    """(what, result) rows. Raises SystemExit if a process failed."""
    from bench.store.fill import specs

    db = open_database(database)
    names = [f"w{i:02}" for i in range(WRITERS)]
    with transaction(db):
        for i, name in enumerate(names):
            base = specs()[i % len(specs())]
            runs.insert(db, name, base, {"reasons": []}, "bench", BEGAN + i)
            runs.set_fields(db, name, status="finished")
    began = time.perf_counter()
    readers = [start(database, "read", names[i]) for i in range(READERS)]
    writers = [start(database, "write", name) for name in names]
    slowest = [float(one.communicate()[0]) for one in writers]
    took = time.perf_counter() - began
    looks = [one.communicate()[0].split() for one in readers]
    if bad := [one.args for one in (*writers, *readers) if one.returncode]:
        raise SystemExit(f"these failed: {bad}")
    wanted = {(name, key, step, value(name, key, step)) for name in names for key in KEYS for step in range(STEPS)}
    marks = ", ".join("?" * len(names))
    stored = db.execute(f"SELECT run_id, key, step, value FROM metrics WHERE run_id IN ({marks})", names)
    found = {tuple(row) for row in stored}
    return [
        [f"{WRITERS} runs writing, {READERS} apps reading: points lost or wrong", f"{len(wanted - found) + len(found - wanted):,} of {len(wanted):,}"],
        ["the same: looks of the apps that told of a problem", f"{sum(int(one[1]) for one in looks)} of {sum(int(one[0]) for one in looks)}"],
        ["the same: a look, median, ms", " and ".join(one[2] for one in looks)],
        ["the same: the slowest ingest of a batch, ms", f"{max(slowest):.0f}"],
        ["the same: points a second, all together", f"{len(wanted) / took:,.0f}"],
    ]  # fmt: skip


if __name__ == "__main__":
    path, job, run = sys.argv[1:]
    {"write": write, "read": read}[job](Path(path), run)
