"""`python -m bench.store`: 10,000 runs and 20 million points in one database: every question that the app asks of it.

`--database PATH` takes one that `python -m bench.store.fill` made, else one is made. Medians of warm calls in one process.
The other parts: bench.store.shapes, bench.store.peers, bench.store.screens.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.store import fill, writers
from bench.store.peer import BEGAN, KEYS, timed
from bench.table import publish, spread
from engine.compare import compare
from engine.ingest import ingest
from engine.store import metrics, query, runs
from engine.store.connection import Connection, open_database, transaction
from tuiapp.list_snapshot import Asked
from tuiapp.reading import Reader
from tuiapp.table import CURVES_AT_ONCE, LINE_KEYS

INGESTED = 100_000
"""Steps of eight keys that are read from a run's events."""
Case = tuple[str, Callable[[], Any], int]
"""What, how, and the aim in ms."""


def cases(db: Connection, database: Path) -> list[Case]:
    longs = [f"{i:06}" for i in range(fill.RUNS - fill.LONG, fill.RUNS)]
    some = [f"{i:06}" for i in range(100, 110)]
    hard = "status:finished lr<3e-4 tag:keep model~smol eval_loss<1.2 -note:debug"

    readers = iter([listed(db, database) for _ in range(12)])

    return [
        ("list: all rows as the table has them", lambda: runs.lines(db, LINE_KEYS), 200),
        ("sort by a metric's best value", lambda: query.select(db, "", "eval_loss.best"), 200),
        ("sort by a smoothed metric", lambda: query.select(db, "", "loss.smooth"), 200),
        ("sort by a parameter", lambda: query.select(db, "", "training.learning_rate"), 200),
        (f"filter: {hard}", lambda: query.select(db, hard, "eval_loss.best"), 200),
        ("filter: words in names", lambda: query.select(db, "run-0123"), 200),
        ("filter: text:memory, full text", lambda: query.select(db, 'text:"out of memory"'), 200),
        ("four more columns", lambda: query.values(db, ("loss.smooth", "eval_loss.best", "rank", "lr")), 200),
        ("open a usual run, eight curves", lambda: next(readers).read(db, some[0], None, Asked()), 100),
        ("open a run of 100,000 steps", lambda: next(readers).read(db, longs[0], None, Asked()), 100),
        ("overlay 10 runs of 100,000 points", lambda: [metrics.thinned(db, run, "loss", 2000) for run in longs], 300),
        ("compare 10 usual runs", lambda: compare(db, some), 300),
        ("compare 10 runs of 100,000 steps", lambda: compare(db, longs), 300),
    ]


def listed(db: Connection, database: Path) -> Reader:
    """What the app has at hand when a run is opened: the list, and nothing of that run."""
    reader = Reader(database)
    for _ in range(2 + fill.RUNS // CURVES_AT_ONCE):
        reader.read(db, None, None, Asked())
    return reader


def ingestion(directory: Path) -> list[str]:
    """Points a second from an event file of a run."""
    db = open_database(directory / "other" / "experiments.db")
    with transaction(db):
        runs.insert(db, "a", fill.specs()[0], {}, "bench", BEGAN)
    run_dir = directory / "other" / "runs" / "a"
    run_dir.mkdir(parents=True)
    writers.append(run_dir / "events.jsonl", "a", 0, INGESTED)
    began = time.perf_counter()
    ingest(db, "a", run_dir)
    took = time.perf_counter() - began
    assert db.execute("SELECT count(*) FROM metrics").fetchone()[0] == INGESTED * len(KEYS)
    return ["ingest from an event file, points a second", f"{INGESTED * len(KEYS) / took:,.0f}", "100,000 or more"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        database = Path(name) / "experiments.db"
        if options.database:
            shutil.copy(options.database, database)
        else:
            fill.fill(database)
        db = open_database(database)
        points = db.execute("SELECT sum(stored) FROM series").fetchone()[0]
        rows = [[what, spread(timed(call, 5), 1), f"{aim} ms"] for what, call, aim in cases(db, database)]
        rows.append(ingestion(Path(name)))
        rows.append(
            ["bytes a point, everything else of the runs included", f"{database.stat().st_size / points:.1f}", ""]
        )
        db.close()
        rows += [[*row, ""] for row in writers.measure(database)]
    publish(
        "store",
        f"{fill.RUNS:,} runs and {points:,} points in one database",
        ["what", "ms, median (least–most)", "aim"],
        rows,
    )


if __name__ == "__main__":
    main()
