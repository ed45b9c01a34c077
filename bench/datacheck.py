"""`python -m bench.datacheck [--gib 1]`: how fast data is checked, and in how much memory.

One JSONL file of chats of varied length, whole processes: `tunedeck data check` without a model, beside reading the same
lines with `json.loads`, and `datasets.load_dataset`, which converts them to Arrow. Then 1,000 rows against SmolLM2's
tokenizer and template. Aims: bounded memory; 1,000 rows in less than 5 s.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.table import median, publish, spread
from engine import demo

WORDS = Path(__file__).read_text(encoding="utf-8").split()
LOOP = "import json, sys\nn = 0\nfor line in open(sys.argv[1], 'rb'):\n    json.loads(line); n += 1\nprint(n)"
DATASETS = "import sys, datasets\nprint(datasets.load_dataset('json', data_files=sys.argv[1], cache_dir=sys.argv[2])['train'].num_rows)"
ROUNDS = 5


def write(path: Path, size: int, least: int = 0) -> int:
    """Chats of 20 to 400 words, until the file has `size` bytes and as many rows as that; how many."""
    random_, rows = random.Random(0), 0
    with path.open("w", encoding="utf-8") as file:
        while file.tell() < size or rows < least:
            turns = []
            for _ in range(random_.choice((1, 1, 1, 2, 4))):
                for role, most in (("user", 80), ("assistant", 320)):
                    text = " ".join(random_.choices(WORDS, k=random_.randint(10, most)))
                    turns.append({"role": role, "content": text})
            file.write(json.dumps({"messages": turns}) + "\n")
            rows += 1
    return rows


def measured(command: list[str]) -> tuple[float, float]:
    """(seconds, peak resident GiB) of a process."""
    began = time.perf_counter()
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=os.environ | {"TUNEDECK_CACHE": tempfile.gettempdir()},
    )
    _, status, usage = os.wait4(process.pid, 0)
    # 2: findings that are fatal, which the words of a program may well be
    if os.waitstatus_to_exitcode(status) not in (0, 2):
        raise SystemExit(f"{command} failed: {process.stderr.read().decode() if process.stderr else ''}")
    return time.perf_counter() - began, usage.ru_maxrss / 2**20


def row(name: str, rows: int, size: int, results: list[tuple[float, float]], base: float) -> list[str]:
    seconds = [s for s, _ in results]
    middle = median(seconds)
    return [name, f"{rows:,}", spread(seconds, 1), f"{rows / middle:,.0f}", f"{size / middle / 2**20:,.1f}", f"{median([m for _, m in results]):.2f}",
            f"{middle / base:.1f}"]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.datacheck")
    parser.add_argument("--gib", type=float, default=1.0)
    options = parser.parse_args()
    deck = [sys.executable, "-m", "tuiapp", "data", "check"]
    with tempfile.TemporaryDirectory() as folder:
        large, small = Path(folder) / "large.jsonl", Path(folder) / "small.jsonl"
        size = int(options.gib * 2**30)
        rows, few = write(large, size), write(small, 0, 1000)
        commands: list[tuple[str, Callable[[], list[str]]]] = [
            ("json.loads, line by line", lambda: [sys.executable, "-c", LOOP, str(large)]),
            (
                "datasets.load_dataset",
                lambda: [sys.executable, "-c", DATASETS, str(large), tempfile.mkdtemp(dir=folder)],
            ),
            ("tunedeck data check", lambda: [*deck, str(large)]),
        ]
        found = [(name, [measured(make())]) for name, make in commands]
        base = median([s for s, _ in found[0][1]])
        table = [row(name, rows, size, results, base) for name, results in found]
        with_model = [*deck, str(small), "--model", demo.demo_model()]
        measured(with_model)  # the tokenizer is made from the GGUF file once
        results = [measured(with_model) for _ in range(ROUNDS)]
        table.append(
            row("tunedeck data check --model", few, small.stat().st_size, results, median([s for s, _ in results]))
        )
    head = ["command", "rows", "seconds", "rows/s", "MiB/s", "peak GiB", "x of the first"]
    publish(
        "datacheck",
        "Checking data: whole processes",
        head,
        table,
        ["The last row is on 1,000 rows, against its own time. Aim: less than 5 s."],
    )


if __name__ == "__main__":
    main()
