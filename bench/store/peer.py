"""What each tracker is given in bench.store, and how it is timed. Imported by scripts that may run under another Python."""

import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KEYS = (
    "loss",
    "learning_rate",
    "grad_norm",
    "tokens_per_second",
    "mean_token_accuracy",
    "entropy",
    "num_tokens",
    "epoch",
)
"""What a step of a usual run logs."""
BEGAN = 1_790_000_000.0


@dataclass(frozen=True)
class Work:
    """`runs` usual runs of `steps` steps with all keys, and `long_runs` of `long_steps` steps with the loss alone."""

    runs: int
    steps: int
    long_runs: int
    long_steps: int

    @property
    def points(self) -> int:
        return self.runs * self.steps * len(KEYS) + self.long_runs * self.long_steps

    def names(self) -> Iterator[tuple[str, int, tuple[str, ...]]]:
        """(name, steps, keys) of each run."""
        for i in range(self.runs):
            yield f"run-{i:05}", self.steps, KEYS
        for i in range(self.long_runs):
            yield f"long-{i:02}", self.long_steps, KEYS[:1]


def value(run: str, key: str, step: int) -> float:
    """Something that looks measured: no two points alike, so that no store is helped by repetition."""
    noise = math.sin(step * 12.9898 + hash_of(run + key)) * 43758.5453
    return 2.0 / (1 + step / 50) + 0.1 * (noise - math.floor(noise))


def event(run: str, keys: tuple[str, ...], step: int) -> str:
    """The line that a worker of TuneDeck writes for a step."""
    values = {key: value(run, key, step) for key in keys}
    made = {"v": 1, "seq": step, "t": BEGAN + step, "attempt": 1, "type": "metric", "step": step, "values": values}
    return json.dumps(made) + "\n"


def hash_of(text: str) -> float:
    return sum(ord(c) * (i + 1) for i, c in enumerate(text)) % 997


def learning_rate(i: int) -> float:
    return (1e-4, 2e-4, 5e-4, 1e-3)[i % 4]


def timed(call: Callable[[], Any], rounds: int = 3) -> list[float]:
    """Milliseconds of each call; the first call of all warms up and does not count."""
    call()
    took = []
    for _ in range(rounds):
        began = time.perf_counter()
        call()
        took.append(1000 * (time.perf_counter() - began))
    return took


def size(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def main(tool: Callable[[Path, Work], dict[str, Any]]) -> None:
    """`SCRIPT DIRECTORY WORK-AS-JSON`: do the work there and print what it took as one line of JSON."""
    work = Work(**json.loads(sys.argv[2]))
    print("RESULT " + json.dumps(tool(Path(sys.argv[1]), work)))
