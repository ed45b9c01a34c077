"""`python -m bench.replay DATABASE`: plays a run of 414 steps at real speed, as a worker and its supervisor would write it.

One step a second with its metrics, NVML's numbers each second, an evaluation, a sample and a checkpoint every 46 steps,
and a line in the log; brought into the database every 0.2 s. Ends when it is killed. For benchmarks only.
"""

import math
import os
import random
import socket
import sys
import time
from pathlib import Path

from engine import events as ev
from engine.files import EventFile, write_private
from engine.ingest import ingest
from engine.launch import try_lock
from engine.spec import parse, to_yaml
from engine.store import runs
from engine.store.connection import open_database

TOTAL, EVERY = 414, 46
PROMPT = "My kettle arrived with a cracked lid. What now?"
ANSWER = "I am sorry about that. Keep the kettle; a new lid ships today. Would you like the tracking number?"


class Replay:
    """A run that has come to step `begun` in an hour, and goes on from there."""

    def __init__(self, database: Path, run_id: str = "zzzzzz", begun: int = 200) -> None:
        self.run_dir = database.parent / "runs" / run_id
        self.run_dir.mkdir(mode=0o700, parents=True)
        self.lock = try_lock(self.run_dir)
        os.pwrite(self.lock or 0, str(os.getpid()).encode(), 0)
        spec = parse({"model": {"path": "/models/Llama-3.1-8B"}, "data": {"path": "/data/support.json"},
                      "method": {"kind": "lora", "rank": 16}, "run": {"name": "replayed"}})  # fmt: skip
        write_private(self.run_dir / "spec.yaml", to_yaml(spec))
        self.db = open_database(database)
        self.now = time.time() - begun
        runs.insert(self.db, run_id, spec, {"reasons": []}, socket.gethostname(), self.now)
        self.worker, self.supervisor = (
            EventFile(self.run_dir / "events.jsonl"),
            EventFile(self.run_dir / "supervisor.jsonl"),
        )
        self.random, self.step = random.Random(0), 0
        began = time.time()
        self.supervisor.append(ev.Attempt(os.getpid(), began, gpus=[0]))
        self.worker.append(ev.Started(os.getpid(), began, socket.gethostname(), ["NVIDIA GeForce RTX 4090"]))
        self.worker.append(ev.Phase("train"))
        for _ in range(begun):
            self.one_step()
        self.ingest()

    def one_step(self) -> None:
        """What a second of training writes."""
        self.step = min(self.step + 1, TOTAL)
        step, noise = self.step, self.random.gauss(0, 1)
        values = {
            "loss": 1.0 + 1.3 * math.exp(-step / 40) + 0.04 * noise, "grad_norm": 0.4 + 2.4 * math.exp(-step / 9) + 0.03 * abs(noise),
            "learning_rate": 1e-4 * (1 + math.cos(math.pi * step / TOTAL)), "tokens_per_second": 2236.0 + 20 * noise,
            "mean_token_accuracy": 0.7 + 0.01 * noise, "num_tokens": 16_384.0 * step, "mfu": 0.43,
        }  # fmt: skip
        self.worker.append(ev.Metric(step, values))
        self.worker.append(ev.Progress(step, TOTAL, 3 * step / TOTAL))
        self.worker.append(ev.Memory(step, 18.31, 18.9, 24.0, "cuda"))
        power, heat = 402 + 6 * noise, 71 + round(noise)
        self.supervisor.append(ev.GpuSamples([{"gpu": 0, "memory_used": 19.3, "utilization": min(100.0, 98 + round(noise)),
                                               "power": power, "temperature": heat}]))  # fmt: skip
        with (self.run_dir / "output.log").open("a") as log:
            log.write(f"step {step}  loss {values['loss']:.3f}  grad_norm {values['grad_norm']:.2f}\n")
        if step % EVERY == 0:
            self.worker.append(ev.Metric(step, {"eval_loss": 1.1 + math.exp(-step / 45)}))
            self.worker.append(ev.Sample(step, PROMPT, ANSWER))
            self.worker.append(ev.Checkpoint(step, str(self.run_dir / f"checkpoint-{step}"), 500 << 20))

    def ingest(self) -> None:
        """Bring it into the database."""
        ingest(self.db, self.run_dir.name, self.run_dir)


def main() -> None:
    replay = Replay(Path(sys.argv[1]))
    print("playing", flush=True)
    due = time.monotonic()
    while True:
        if time.monotonic() >= due:
            due += 1.0
            replay.one_step()
        replay.ingest()
        time.sleep(0.2)


if __name__ == "__main__":
    main()
