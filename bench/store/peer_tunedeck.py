"""TuneDeck at the work of bench.store.peers: event files as its workers write them, ingested; then read as its app reads."""

import time
from pathlib import Path
from typing import Any

from peer import BEGAN, Work, event, learning_rate, main, size, timed

from engine.ingest import ingest
from engine.spec import parse
from engine.store import metrics, query, runs
from engine.store.connection import open_database, transaction


def write_events(directory: Path, name: str, steps: int, keys: tuple[str, ...]) -> None:
    directory.mkdir(parents=True)
    (directory / "events.jsonl").write_text("".join(event(name, keys, step) for step in range(steps)))


def tool(directory: Path, work: Work) -> dict[str, Any]:
    home = directory / "home"
    db = open_database(home / "experiments.db")
    with transaction(db):
        for i, (name, steps, keys) in enumerate(work.names()):
            write_events(directory / "runs" / name, name, steps, keys)
            raw = {"model": {"path": "/models/m"}, "data": {"path": "/data/d.jsonl"}, "run": {"name": name},
                   "training": {"learning_rate": learning_rate(i)}}  # fmt: skip
            runs.insert(db, name, parse(raw), {}, "bench", BEGAN + i)
            runs.set_fields(db, name, status="finished")
    before = size(home)
    began = time.perf_counter()
    for name, _, _ in work.names():
        ingest(db, name, directory / "runs" / name)
    took = time.perf_counter() - began
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    longs = [name for name, _, _ in work.names() if name.startswith("long")]
    middle = f"run-{work.runs // 2:05}"
    return {
        "points a second": work.points / took,
        "bytes a point": (size(home) - before) / work.points,
        "list all runs with their last loss": timed(lambda: runs.lines(db, ("loss",))),
        "sort by the best loss": timed(lambda: query.select(db, "", "loss.min")),
        "filter by a parameter": timed(lambda: query.select(db, "learning_rate<3e-4 loss<1")),
        "open a run, all its curves": timed(lambda: metrics.curves(db, middle, metrics.keys(db, middle))),
        "overlay of the long runs": timed(lambda: [metrics.thinned(db, name, "loss", 2000) for name in longs]),
    }


if __name__ == "__main__":
    main(tool)
