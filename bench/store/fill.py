"""`python -m bench.store.fill DATABASE [--runs N] [--points N]`: a database as large as years of work leave it."""

import argparse
import itertools
import time
from pathlib import Path
from typing import Any

from bench.store.peer import BEGAN, KEYS, value
from engine.spec import RunSpec, parse
from engine.store import metrics, runs
from engine.store.connection import Connection, open_database, transaction

RUNS, POINTS = 10_000, 20_000_000
LONG, LONG_STEPS, LONG_KEYS = 10, 100_000, ("loss", "grad_norm")
AT_ONCE = 100
STATUSES = ("finished",) * 7 + ("stopped", "failed", "crashed")
LOG = (
    "step {i} of 228: loss went down as it should\nsaved checkpoint {i} to checkpoints\nwarning: row {i} was cut\n" * 8
)


def specs() -> list[RunSpec]:
    """Two models, four rates and three ranks."""
    models, rates, ranks = ("/models/SmolLM2-135M", "/models/Qwen2.5-7B"), (1e-4, 2e-4, 5e-4, 1e-3), (8, 16, 32)
    return [parse({"model": {"path": model}, "data": {"path": "/data/rows.jsonl"}, "training": {"learning_rate": rate},
                   "method": {"kind": "lora", "rank": rank}, "run": {"name": "x"}})
            for model, rate, rank in itertools.product(models, rates, ranks)]  # fmt: skip


def add_run(db: Connection, i: int, base: RunSpec, curves: dict[str, list[float]]) -> None:
    run_id, began = f"{i:06}", BEGAN + 3600.0 * i
    named = base.run.model_copy(
        update={"name": f"run-{i:05}", "tags": ["keep"] if i % 50 == 0 else [], "note": f"try {i}"}
    )
    runs.insert(db, run_id, base.model_copy(update={"run": named}), {"reasons": []}, "bench", began)
    status = STATUSES[i % len(STATUSES)]
    reason = "CUDA out of memory" if status == "crashed" else status
    runs.set_fields(db, run_id, status=status, started_at=began, ended_at=began + 3000, exit_reason=reason)
    db.execute("INSERT INTO search_texts (run_id, part, text) VALUES (?, 'log', ?)", (run_id, LOG.format(i=i)))
    for key, values in curves.items():
        shift = 0.001 * (i % 997)
        metrics.add(db, run_id, key, [(step, 1, began + step, number + shift) for step, number in enumerate(values)])


def fill(database: Path, count: int = RUNS, points: int = POINTS) -> dict[str, Any]:
    """What was made, and how fast."""
    db = open_database(database)
    long_points = LONG * LONG_STEPS * len(LONG_KEYS)
    keys = (*KEYS[:-1], "eval_loss")
    steps = max(1, (points - long_points) // ((count - LONG) * len(keys)))
    shapes = [{key: [value(str(n), key, step) for step in range(steps)] for key in keys} for n in range(16)]
    longs = {key: [value("long", key, step) for step in range(LONG_STEPS)] for key in LONG_KEYS}
    bases, began = specs(), time.perf_counter()
    for first in range(0, count, AT_ONCE):
        with transaction(db):
            for i in range(first, min(count, first + AT_ONCE)):
                add_run(db, i, bases[i % len(bases)], longs if i >= count - LONG else shapes[i % len(shapes)])
    took = time.perf_counter() - began
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    stored = db.execute("SELECT sum(stored) FROM series").fetchone()[0]
    db.close()
    return {"runs": count, "points": stored, "seconds": took, "bytes": database.stat().st_size}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("database", type=Path)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--points", type=int, default=POINTS)
    options = parser.parse_args()
    made = fill(options.database, options.runs, options.points)
    print(f"{made['runs']:,} runs, {made['points']:,} points in {made['seconds']:.0f} s "
          f"({made['points'] / made['seconds']:,.0f} a second), {made['bytes'] / 2**20:,.0f} MiB")  # fmt: skip


if __name__ == "__main__":
    main()
