"""MLflow on SQLite at the same work, through MlflowClient: batches of 1,000, the most that it takes at once."""

import time
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunStatus
from peer import BEGAN, Work, learning_rate, main, size, timed, value

BATCH = 1000


def everything(
    client: MlflowClient, experiment: str, filter_string: str = "", order: str = "start_time DESC"
) -> list[Any]:
    found: list[Any] = []
    token = None
    while True:
        page = client.search_runs([experiment], filter_string, order_by=[order], max_results=1000, page_token=token)
        found += page
        token = page.token
        if not token:
            return found


def tool(directory: Path, work: Work) -> dict[str, Any]:
    directory.mkdir(exist_ok=True)
    client = MlflowClient(tracking_uri=f"sqlite:///{directory}/mlflow.db")
    experiment = client.create_experiment("bench", artifact_location=str(directory / "artifacts"))
    before, took, ids = size(directory), 0.0, {}
    for i, (name, steps, keys) in enumerate(work.names()):
        points = [
            Metric(key, value(name, key, step), int(1000 * (BEGAN + step)), step)
            for step in range(steps)
            for key in keys
        ]
        began = time.perf_counter()
        run = client.create_run(experiment, run_name=name).info.run_id
        client.log_batch(run, params=[Param("learning_rate", str(learning_rate(i)))])
        for start in range(0, len(points), BATCH):
            client.log_batch(run, metrics=points[start : start + BATCH])
        client.set_terminated(run, RunStatus.to_string(RunStatus.FINISHED))
        took += time.perf_counter() - began
        ids[name] = run
    middle, longs = ids[f"run-{work.runs // 2:05}"], [run for name, run in ids.items() if name.startswith("long")]

    def every_curve() -> list[Any]:
        return [client.get_metric_history(middle, key) for key in client.get_run(middle).data.metrics]

    return {
        "points a second": work.points / took,
        "bytes a point": (size(directory) - before) / work.points,
        "list all runs with their last loss": timed(lambda: everything(client, experiment)),
        "sort by the best loss": timed(
            lambda: everything(client, experiment, order="metrics.loss ASC")
        ),  # it has the last only
        "filter by a parameter": timed(
            lambda: everything(client, experiment, "metrics.loss < 1 and params.learning_rate = '0.0001'")
        ),
        "open a run, all its curves": timed(every_curve),
        "overlay of the long runs": timed(lambda: [client.get_metric_history(run, "loss") for run in longs], 1),
    }


if __name__ == "__main__":
    main(tool)
