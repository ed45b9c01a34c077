"""Trackio at the same work, through its own storage class: what its server calls for a client's log and for its dashboard."""

import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

os.environ["TRACKIO_DIR"] = sys.argv[1]

from peer import BEGAN, Work, learning_rate, main, size, timed, value
from trackio.sqlite_storage import SQLiteStorage as Storage

PROJECT = "bench"


def stamp(step: int) -> str:
    return datetime.fromtimestamp(BEGAN + step, UTC).isoformat()


def tool(directory: Path, work: Work) -> dict[str, Any]:
    took = 0.0
    for i, (name, steps, keys) in enumerate(work.names()):
        rows = [{key: value(name, key, step) for key in keys} for step in range(steps)]
        stamps = [stamp(step) for step in range(steps)]
        began = time.perf_counter()
        Storage.bulk_log(PROJECT, name, rows, list(range(steps)), stamps, {"learning_rate": learning_rate(i)})
        took += time.perf_counter() - began
    names = [name for name, _, _ in work.names()]
    longs = [name for name in names if name.startswith("long")]

    def lasts() -> list[float]:
        """Its dashboard reads the rows of every run that it shows."""
        return [Storage.get_logs(PROJECT, name)[-1]["loss"] for name in names]

    def by_best() -> list[str]:
        best = {name: min(row["value"] for row in Storage.get_metric_values(PROJECT, name, "loss")) for name in names}
        return sorted(names, key=best.__getitem__)

    def filtered() -> list[str]:
        configs = Storage.get_all_run_configs(PROJECT)
        return [name for name, last in zip(names, lasts(), strict=True)
                if (configs.get(name) or {}).get("learning_rate", 1) < 3e-4 and last < 1]  # fmt: skip

    return {
        "points a second": work.points / took,
        "bytes a point": size(directory) / work.points,
        "list all runs with their last loss": timed(lasts, 1),
        "sort by the best loss": timed(by_best, 1),
        "filter by a parameter": timed(filtered, 1),
        "open a run, all its curves": timed(lambda: Storage.get_logs(PROJECT, names[work.runs // 2])),
        "overlay of the long runs": timed(
            lambda: [Storage.get_metric_values(PROJECT, n, "loss", max_points=2000) for n in longs]
        ),
    }


if __name__ == "__main__":
    main(tool)
