"""`python -m bench.gpu_memory [--dry] [--raw FILE]`: predicted memory and speed against two real steps on this card.

Each configuration runs in a child process (engine.worker.probe) on random weights: no network, no download. What is measured
is appended to the raw file at once, and what is there already is not run again: a bench that was cut short goes on where
it was (delete the file to begin anew). Without a CUDA GPU, or with --dry, the list and its predictions are printed.
"""

import argparse
import itertools
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.table import RESULTS, publish, spread
from engine import catalog
from engine.cards import Cards, own_cards
from engine.errors import TuneDeckError
from engine.hardware import Gpu
from engine.hardware import probe as machine
from engine.planner.memory import GIB, Memory, estimate
from engine.planner.plan import verdict
from engine.planner.probe import card_for, probe
from engine.planner.shape import shape
from engine.planner.speed import estimate_speed
from engine.report import number, table
from engine.spec import RunSpec, parse

MODELS = {
    "SmolLM2-135M": "HuggingFaceTB/SmolLM2-135M", "Gemma-3-1B": "google/gemma-3-1b-pt",
    "Llama-3.2-1B": "meta-llama/Llama-3.2-1B", "Qwen2.5-1.5B": "Qwen/Qwen2.5-1.5B", "Llama-3.2-3B": "meta-llama/Llama-3.2-3B",
    "Qwen3-4B": "Qwen/Qwen3-4B", "Llama-3.1-8B": "meta-llama/Llama-3.1-8B", "Qwen3-14B": "Qwen/Qwen3-14B",
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One configuration: `length` in tokens, `rows` a micro-batch; `method` is full (fp32 masters), full-bf16, lora or
    qlora, the latter two of rank 16 on all linear layers."""

    model: str
    method: str
    length: int
    rows: int
    checkpointing: bool = True
    dropout: float = 0.0
    optimizer: str = "adamw_torch_fused"

    def __str__(self) -> str:
        more = f", dropout {self.dropout}" if self.dropout else ""
        more += f", {self.optimizer}" if self.optimizer != "adamw_torch_fused" else ""
        kept = "" if self.checkpointing else ", no checkpointing"
        return f"{self.model} {self.method}, {self.rows} x {self.length}{kept}{more}"


CASES = [
    Case("SmolLM2-135M", "full", 512, 8), Case("SmolLM2-135M", "full", 2048, 4, False),
    Case("SmolLM2-135M", "full-bf16", 8192, 2), Case("SmolLM2-135M", "lora", 512, 16, False),
    Case("SmolLM2-135M", "lora", 8192, 1), Case("SmolLM2-135M", "qlora", 1024, 8, False),
    Case("Gemma-3-1B", "full", 1024, 2), Case("Gemma-3-1B", "lora", 2048, 2, False),
    Case("Gemma-3-1B", "lora", 4096, 1), Case("Gemma-3-1B", "qlora", 8192, 1),
    Case("Llama-3.2-1B", "full", 1024, 4), Case("Llama-3.2-1B", "full-bf16", 2048, 2, False, 0.0, "adamw_torch"),
    Case("Llama-3.2-1B", "lora", 512, 8, False), Case("Llama-3.2-1B", "lora", 8192, 1, True, 0.05),
    Case("Llama-3.2-1B", "qlora", 2048, 4), Case("Qwen2.5-1.5B", "full", 2048, 2),
    Case("Qwen2.5-1.5B", "full", 512, 4, True, 0.0, "adamw_8bit"), Case("Qwen2.5-1.5B", "lora", 4096, 2, False),
    Case("Qwen2.5-1.5B", "qlora", 4096, 1, False, 0.05), Case("Qwen2.5-1.5B", "qlora", 512, 16),
    Case("Llama-3.2-3B", "full", 1024, 1), Case("Llama-3.2-3B", "full-bf16", 4096, 1),
    Case("Llama-3.2-3B", "lora", 2048, 4, True, 0.05), Case("Llama-3.2-3B", "lora", 1024, 2, False),
    Case("Llama-3.2-3B", "qlora", 8192, 2), Case("Qwen3-4B", "full", 2048, 1), Case("Qwen3-4B", "lora", 512, 4, False),
    Case("Qwen3-4B", "lora", 8192, 1), Case("Qwen3-4B", "qlora", 1024, 4, True, 0.05),
    Case("Qwen3-4B", "qlora", 2048, 1, False), Case("Llama-3.1-8B", "full-bf16", 1024, 1),
    Case("Llama-3.1-8B", "full", 512, 2), Case("Llama-3.1-8B", "lora", 512, 8), Case("Llama-3.1-8B", "lora", 8192, 1),
    Case("Llama-3.1-8B", "lora", 2048, 1, False, 0.05), Case("Llama-3.1-8B", "qlora", 512, 1),
    Case("Llama-3.1-8B", "qlora", 4096, 2), Case("Llama-3.1-8B", "qlora", 1024, 4, False),
    Case("Qwen3-14B", "full-bf16", 1024, 1), Case("Qwen3-14B", "lora", 2048, 2), Case("Qwen3-14B", "lora", 512, 1, False),
    Case("Qwen3-14B", "qlora", 8192, 1), Case("Qwen3-14B", "qlora", 1024, 4, True, 0.05),
]  # fmt: skip
HEAD = ("configuration", "peak GiB", "measured", "error", "NVML GiB", "measured", "error", "tok/s", "measured", "error")


def config_of(case: Case) -> dict[str, Any]:
    return catalog.models()[MODELS[case.model]].config


def spec_of(case: Case) -> RunSpec:
    """The complete specification of a case."""
    kind = case.method.partition("-")[0]
    adapter = {"rank": 16, "alpha": 32, "dropout": case.dropout, "targets": "all-linear"} if kind != "full" else {}
    return parse({
        "model": {"path": MODELS[case.model]}, "data": {"path": "random"}, "method": {"kind": kind} | adapter,
        "training": {
            "micro_batch": case.rows, "accumulation": 1, "max_length": case.length, "packing": False,
            "checkpointing": case.checkpointing, "optimizer": case.optimizer,
            "precision": "mixed" if case.method == "full" else "bf16", "attention": "sdpa", "learning_rate": 1e-5,
            "epochs": 1, "warmup": 0, "weight_decay": 0.01, "max_grad_norm": 1.0,
        },
        "compute": {"devices": "auto", "processes": 1},
    })  # fmt: skip


def predicted(case: Case, cards: Cards | None) -> tuple[Memory, float | None]:
    """Memory, and tokens a second where the card is known."""
    made, spec = shape(config_of(case)), spec_of(case)
    speed = estimate_speed(made, spec, cards, case.rows, [case.length]).tokens_per_second if cards else None
    return estimate(made, spec), speed


def line(case: Case, cards: Cards | None, found: dict[str, Any] | None) -> list[str]:
    """A row of the table; dashes for what was not measured."""
    memory, speed = predicted(case, cards)
    cells = [str(case)]
    for (value, seen), digits in zip(pairs(memory, speed, found), (2, 2, 0), strict=True):
        cells += [number(value, digits), number(seen, digits), f"{value / seen - 1:+.1%}" if value and seen else "–"]
    return cells


def pairs(
    memory: Memory, speed: float | None, found: dict[str, Any] | None
) -> list[tuple[float | None, float | None]]:  # fmt: skip
    """(predicted, measured): the allocator's peak in GiB, NVML's in GiB, tokens a second. An aborted probe measured nothing."""
    seen = found if found and not found.get("oom") and "title" not in found else {}
    peak, device = (seen.get(name) for name in ("max_memory_allocated", "nvml"))
    return [
        (memory.peak / GIB, peak / GIB if peak else None), (memory.device / GIB, device / GIB if device else None),
        (speed, seen.get("tokens_per_second")),
    ]  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.gpu_memory")
    parser.add_argument("--dry", action="store_true", help="the configurations and what is predicted, nothing run")
    parser.add_argument("--raw", type=Path, default=RESULTS / f"{time.strftime('%Y-%m-%d')}-gpu-memory.jsonl")
    options = parser.parse_args()
    cards = _one_card()
    gpu = None
    if not options.dry:
        try:
            gpu = card_for(spec_of(CASES[0]), machine().gpus)
        except TuneDeckError as error:
            print(f"{error.title}: {machine().problem or error.message} Predictions only.\n")
    if gpu is None or cards is None:
        print(table(HEAD, [line(case, cards, None) for case in CASES], right=range(1, len(HEAD))))
        return 0
    _publish(cards, measure(gpu, cards, options.raw))
    return 0


def _one_card() -> Cards | None:
    found = own_cards(machine().gpus)
    return Cards(1, found.name, found.memory, found.card) if found else None


def measure(gpu: Gpu, cards: Cards, raw: Path) -> dict[Case, dict[str, Any] | None]:
    """The probe's document of each case, its error as it stands, or None for what cannot fit by the estimate."""
    known: dict[Case, dict[str, Any] | None] = {}
    if raw.is_file():
        rows = [json.loads(text) for text in raw.read_text(encoding="utf-8").splitlines()]
        known = {Case(**row["case"]): row["found"] for row in rows if row["gpu"] == gpu.name}
    results: dict[Case, dict[str, Any] | None] = {}
    for case in CASES:
        if case not in known:
            fits = verdict(predicted(case, cards)[0], cards.memory) != "no"
            known[case] = _probed(case, gpu, raw) if fits else None
        results[case] = known[case]
        print("  ".join(line(case, cards, known[case])), file=sys.stderr, flush=True)
    return results


def _probed(case: Case, gpu: Gpu, raw: Path) -> dict[str, Any]:
    try:
        found = probe(config_of(case), spec_of(case), gpu)
    except TuneDeckError as error:
        return {"title": error.title, "message": error.message}
    raw.parent.mkdir(parents=True, exist_ok=True)
    with open(raw, "a", encoding="utf-8") as file:
        file.write(json.dumps({"gpu": gpu.name, "case": asdict(case), "found": found}) + "\n")
    return found


def _publish(cards: Cards, results: dict[Case, dict[str, Any] | None]) -> None:
    whole = {case: found for case, found in results.items() if found and not found.get("oom") and "title" not in found}
    notes = [*errors(cards, whole)]
    for case, found in results.items():
        if found is None:
            need = predicted(case, cards)[0].device / GIB
            notes.append(f"Not run: {case} needs {need:.1f} of {cards.memory:.1f} GiB by the estimate.")
        elif found.get("oom"):
            notes.append(f"OUT OF MEMORY, though predicted to fit: {case}: {found['message']}")
        elif "title" in found:
            notes.append(f"FAILED: {case}: {found['title']}: {found['message']}")
    title = f"Predicted against measured, {len(whole)} of {len(results)} configurations on {cards.name}, random weights"
    publish("gpu-memory", title, HEAD, [line(case, cards, found) for case, found in whole.items()], notes)


def errors(cards: Cards, whole: dict[Case, dict[str, Any]]) -> list[str]:
    """Median and worst error of each quantity, over all cases and by method."""
    lines = []
    for index, name in enumerate(("allocator's peak", "NVML", "tokens a second")):
        found: dict[str, list[float]] = {}
        for case, document in whole.items():
            value, seen = pairs(*predicted(case, cards), document)[index]
            if value and seen:
                found.setdefault(case.method.partition("-")[0], []).append(100 * abs(value / seen - 1))
        values = list(itertools.chain(*found.values()))
        if values:
            each = "; ".join(f"{kind} {spread(one, 1)}" for kind, one in found.items())
            within = sum(value <= 5 for value in values)
            lines.append(
                f"{name}: error {spread(values, 1)} %, {within} of {len(values)} within 5 %. By method: {each}"
            )
    return lines


if __name__ == "__main__":
    sys.exit(main())
