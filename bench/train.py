"""`python -m bench.train [--rounds N]`: tokens a second and peak memory of our run, of TRL's and of the tutorial's script.

Same model, same rows of 60 to 200 tokens, the same rows in a step; whole processes, in turn. Tokens are real ones: padding does not
count. `identical` is a bare SFTTrainer with the arguments that our worker has, TRL's own loss included.
"""

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from bench.table import median, publish, spread
from engine import demo
from engine.events import Metric
from engine.files import read_records, write_private
from engine.launch import prepare
from engine.outcome import worker_environment
from engine.spec import RunSpec, parse, to_yaml
from engine.worker.load import ready_model
from engine.worker.reporter import Reporter

RANK, LENGTH = 8, 512
WORDS = [
    "river",
    "stone",
    "quiet",
    "lamp",
    "orchard",
    "winter",
    "basket",
    "copper",
    "window",
    "garden",
    "silver",
    "meadow",
    "candle",
    "bridge",
    "harbour",
]


class Measured(NamedTuple):
    """Real tokens a second of the training loop, and the process's peak resident size in GiB."""

    speed: float
    memory: float


@dataclass(frozen=True)
class Work:
    """A model, a file of rows and how many steps of how many rows are trained."""

    model: str
    data: Path
    steps: int
    batch: int
    folder: Path


def rows(path: Path, count: int = 256) -> Path:
    """Alpaca rows of ragged length, some 60 to 200 tokens each."""
    draw = random.Random(0)
    lines = [{"instruction": " ".join(draw.choices(WORDS, k=draw.randint(10, 40))),
              "output": " ".join(draw.choices(WORDS, k=draw.randint(20, 90)))} for _ in range(count)]  # fmt: skip
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def specification(work: Work, **training: Any) -> RunSpec:
    """What TuneDeck recommends for LoRA of the given rank and batch."""
    spec = parse({
        "model": {"path": work.model}, "data": {"path": str(work.data), "validation": 0},
        "method": {"kind": "lora", "rank": RANK},
        "training": {"max_steps": work.steps, "micro_batch": work.batch, "accumulation": 1, "max_length": LENGTH} | training,
        "evaluation": {"every": 0, "prompts": []}, "saving": {"every": 0}, "compute": {"devices": "cpu"},
    })  # fmt: skip
    return prepare(spec).spec


def finished(command: list[str], log: Path) -> float:
    """Run it to its end; its peak resident size in GiB. Raises CalledProcessError."""
    environment = worker_environment([]) | dict(os.environ)
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"{' '.join(command)} failed:\n{log.read_text(errors='replace')[-3000:]}")
    return usage.ru_maxrss / 2**20


def tunedeck(work: Work, folder: Path) -> Measured:
    write_private(folder / "spec.yaml", to_yaml(specification(work)))
    memory = finished([sys.executable, "-P", "-m", "engine.worker", str(folder)], folder / "log")
    values: dict[str, float] = {}
    for record in read_records(folder / "events.jsonl"):
        values |= record.event.values if isinstance(record.event, Metric) else {}
    return Measured(values["num_tokens"] / values["train_runtime"], memory)


def identical(work: Work, folder: Path) -> Measured:
    write_private(folder / "spec.yaml", to_yaml(specification(work)))
    memory = finished([sys.executable, "-m", "bench.bare_sft", str(folder / "spec.yaml"), str(folder)], folder / "log")
    return Measured(_printed(folder / "log"), memory)


def trl_defaults(work: Work, folder: Path) -> Measured:
    """`trl sft` with a rank and a batch, everything else as it comes; prompt-completion rows, as its masking asks for."""
    data = folder / "data"
    data.mkdir()
    pairs = [json.loads(line) for line in work.data.read_text().splitlines()]
    (data / "train.jsonl").write_text("".join(json.dumps({
        "prompt": [{"role": "user", "content": one["instruction"]}], "completion": [{"role": "assistant", "content": one["output"]}],
    }) + "\n" for one in pairs))  # fmt: skip
    command = [str(Path(sys.executable).parent / "trl"), "sft", "--model_name_or_path", work.model, "--dataset_name", str(data),
               "--use_peft", "--lora_r", str(RANK), "--lora_target_modules", "all-linear", "--max_steps", str(work.steps),
               "--per_device_train_batch_size", str(work.batch), "--output_dir", str(folder / "out"), "--report_to", "none",
               "--logging_steps", "1", "--save_strategy", "no", "--use_cpu", "--bf16", "false"]  # fmt: skip
    memory = finished(command, folder / "log")
    return Measured(_logged(folder / "log"), memory)


def tutorial(work: Work, folder: Path) -> Measured:
    numbers = [str(n) for n in (work.steps, work.batch, LENGTH, RANK)]
    command = [sys.executable, "-m", "bench.tutorial_sft", work.model, str(work.data), *numbers, str(folder)]
    memory = finished(command, folder / "log")
    return Measured(_printed(folder / "log"), memory)


def _printed(log: Path) -> float:
    """Tokens a second from the JSON line that a script prints at its end."""
    last = json.loads(log.read_text(errors="replace").strip().splitlines()[-1])
    return float(last["tokens"] / last["seconds"])


def _logged(log: Path) -> float:
    """The same from the dictionaries that the trainer of `trl sft` prints."""
    text = log.read_text(errors="replace")
    tokens = [float(n) for n in re.findall(r"'num_tokens': '?([\d.e+]+)", text)]
    (seconds,) = re.findall(r"'train_runtime': '?([\d.e+]+)", text)
    return tokens[-1] / float(seconds)


PEERS: dict[str, Callable[[Work, Path], Measured]] = {
    "TuneDeck": tunedeck, "identical settings": identical, "trl sft, its defaults": trl_defaults, "the tutorial's script": tutorial,
}  # fmt: skip


def measured(work: Work, rounds: int) -> dict[str, list[Measured]]:
    """All peers in turn, so often."""
    found: dict[str, list[Measured]] = {name: [] for name in PEERS}
    for number in range(rounds):
        for name, peer in PEERS.items():
            folder = work.folder / f"{number}-{name.split()[0]}-{work.steps}"
            folder.mkdir()
            found[name].append(peer(work, folder))
    return found


def lines(title: str, found: dict[str, list[Measured]]) -> list[list[str]]:
    ours = found["TuneDeck"]
    return [[title, name, spread([one.speed for one in runs], 0),
             spread([mine.speed / one.speed for mine, one in zip(ours, runs, strict=True)]), f"{median([one.memory for one in runs]):.2f}"]
            for name, runs in found.items()]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    table: list[list[str]] = []
    with tempfile.TemporaryDirectory(prefix="tunedeck-") as name:
        folder = Path(name)
        data = rows(folder / "rows.jsonl")
        smollm = ready_model(
            parse({"model": {"path": demo.demo_model()}, "data": {"path": str(data)}}), Reporter(folder, 1)
        ).path
        tiny = folder / "tiny"
        subprocess.run([sys.executable, "-m", "tests.tiny", str(tiny)], check=True)
        for title, model, steps, batch in (("SmolLM2-135M", smollm, 10, 4), ("tiny, 0.1 M", str(tiny), 100, 4)):
            place = folder / f"runs-{steps}"
            place.mkdir()
            table += lines(title, measured(Work(model, data, steps, batch, place), rounds))
    publish("train", f"Training LoRA r{RANK} on rows of 60 to 200 tokens, {rounds} rounds in turn: median (least–most)",
            ["model", "what", "tokens/s", "TuneDeck is so many times as fast", "peak GiB"], table,
            ["Aim: at least 1.0 against identical settings, at least 2 against the tutorial's script."])  # fmt: skip


if __name__ == "__main__":
    main()
