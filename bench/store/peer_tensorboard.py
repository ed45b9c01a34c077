"""TensorBoard at the same work: event files as its writer makes them, read with its EventAccumulator, as its server does."""

import time
from pathlib import Path
from typing import Any

from peer import BEGAN, Work, main, size, timed, value
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter


def read(directory: Path) -> EventAccumulator:
    """All scalars of a run, none thinned away."""
    found = EventAccumulator(str(directory), size_guidance={"scalars": 0})
    found.Reload()
    return found


def tool(directory: Path, work: Work) -> dict[str, Any]:
    took = 0.0
    for name, steps, keys in work.names():
        rows = [[(key, value(name, key, step)) for key in keys] for step in range(steps)]
        began = time.perf_counter()
        writer = EventFileWriter(str(directory / name))
        for step, row in enumerate(rows):
            for key, number in row:  # a scalar an event, as SummaryWriter.add_scalar writes it
                summary = Summary(value=[Summary.Value(tag=key, simple_value=number)])
                writer.add_event(Event(wall_time=BEGAN + step, step=step, summary=summary))
        writer.close()
        took += time.perf_counter() - began
    names = [name for name, _, _ in work.names()]
    longs = [name for name in names if name.startswith("long")]

    def losses(name: str) -> list[float]:
        return [point.value for point in read(directory / name).Scalars("loss")]

    def by_best() -> list[str]:
        best = {name: min(losses(name)) for name in names}
        return sorted(names, key=best.__getitem__)

    def every_curve() -> list[Any]:
        found = read(directory / names[work.runs // 2])
        return [found.Scalars(tag) for tag in found.Tags()["scalars"]]

    return {
        "points a second": work.points / took,
        "bytes a point": size(directory) / work.points,
        "list all runs with their last loss": timed(lambda: [losses(name)[-1] for name in names], 1),
        "sort by the best loss": timed(by_best, 1),
        "open a run, all its curves": timed(every_curve),
        "overlay of the long runs": timed(lambda: [losses(name) for name in longs], 1),
    }


if __name__ == "__main__":
    main(tool)
