"""`python -m bench.train [--rounds N]`: tokens a second and peak memory of our run, of TRL's and of the tutorial's script.

On a GPU the models are of 0.5B to 8B with random weights, memory is what NVML shows, and MFU is added.

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
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from bench.table import median, publish, spread
from engine import demo
from engine.cards import own_cards
from engine.catalog import find_model
from engine.events import Metric
from engine.files import read_records, write_private
from engine.hardware import Sampler, probe
from engine.launch import prepare
from engine.outcome import worker_environment
from engine.planner.speed import flops_per_token, mfu
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
    """Real tokens a second of the training loop, and GiB at the most: resident, on a GPU what NVML shows beyond before."""

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
    flops: float | None = None


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
        "evaluation": {"every": 0, "prompts": []}, "saving": {"every": 0},
    })  # fmt: skip
    return prepare(spec).spec


def finished(command: list[str], log: Path) -> float:
    """Run it to its end; its peak resident size in GiB. Raises CalledProcessError."""
    environment = worker_environment([]) | dict(os.environ)
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
        before = peak = _used(sampler := Sampler())
        while not (done := os.wait4(process.pid, os.WNOHANG if before is not None else 0))[0]:
            peak = max(peak or 0.0, _used(sampler) or 0.0)
            time.sleep(0.1)
    if done[1]:
        raise RuntimeError(f"{' '.join(command)} failed:\n{log.read_text(errors='replace')[-3000:]}")
    return done[2].ru_maxrss / 2**20 if before is None or peak is None else peak - before


def _used(sampler: Sampler) -> float | None:
    """GiB in use on the first card, None without one."""
    return next((one.memory_used for one in sampler.sample()), None)


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
               "--logging_steps", "1", "--save_strategy", "no", *([] if probe().gpus else ["--use_cpu", "--bf16", "false"])]  # fmt: skip
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


def lines(title: str, found: dict[str, list[Measured]], flops: float | None = None) -> list[list[str]]:
    """`flops` of a token, for the model FLOPs utilisation."""
    ours, card = found["TuneDeck"], own_cards(probe().gpus)
    peak = card.card.tflops if card and card.card else None

    def used(runs: list[Measured]) -> str:
        return f"{mfu(median([one.speed for one in runs]), flops, 1, peak):.1f}" if flops and peak else "–"

    return [[title, name, spread([one.speed for one in runs], 0),
             spread([mine.speed / one.speed for mine, one in zip(ours, runs, strict=True)]), f"{median([one.memory for one in runs]):.2f}", used(runs)]
            for name, runs in found.items()]  # fmt: skip


def works(folder: Path, data: Path) -> Iterator[tuple[str, Work]]:
    """What is trained here: real and tiny models on a CPU, models of the catalog with random weights on a GPU."""
    if probe().gpus:
        for name in ("Qwen/Qwen2.5-0.5B", "Llama-3.2-1B", "Llama-3.2-3B", "Llama-3.1-8B"):
            model, known = folder / name.rpartition("/")[2], find_model(name)
            subprocess.run([sys.executable, "-m", "bench.random_model", name, str(model)], check=True)
            flops = flops_per_token(known.config, LENGTH) if known else None
            yield name, _work(str(model), data, 50, 16, folder, flops)
        return
    spec = parse({"model": {"path": demo.demo_model()}, "data": {"path": str(data)}})
    yield "SmolLM2-135M", _work(ready_model(spec, Reporter(folder, 1)).path, data, 10, 4, folder)
    tiny = folder / "tiny"
    subprocess.run([sys.executable, "-m", "tests.tiny", str(tiny)], check=True)
    yield "tiny, 0.1 M", _work(str(tiny), data, 100, 4, folder)


def _work(model: str, data: Path, steps: int, batch: int, folder: Path, flops: float | None = None) -> Work:
    place = folder / f"runs-{Path(model).name}"
    place.mkdir()
    return Work(model, data, steps, batch, place, flops)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    table: list[list[str]] = []
    with tempfile.TemporaryDirectory(prefix="tunedeck-") as name:
        folder = Path(name)
        data = rows(folder / "rows.jsonl")
        for title, work in works(folder, data):
            table += lines(title, measured(work, rounds), work.flops)
    publish("train", f"Training LoRA r{RANK} on rows of 60 to 200 tokens, {rounds} rounds in turn: median (least–most)",
            ["model", "what", "tokens/s", "TuneDeck is so many times as fast", "peak GiB", "MFU %"], table,
            ["Aim: at least 1.0 against identical settings, at least 2 against the tutorial's script."])  # fmt: skip


if __name__ == "__main__":
    main()
