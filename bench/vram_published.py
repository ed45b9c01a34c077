"""`python -m bench.vram_published`: predicted against published peak memory, row by row, beside the rules that people use.

The rows and their sources are in bench/data/vram_published.csv; which of them can be used is decided here, before any prediction,
and every row left out is printed with its reason. Measured is the allocator's peak (torch.cuda.max_memory_allocated).
"""

import collections
import csv
import statistics
from pathlib import Path
from typing import Any

from accelerate.commands.estimate import estimate_training_usage

from bench.table import publish
from engine import catalog
from engine.planner import hf448
from engine.planner.memory import GIB
from engine.planner.shape import Shape, shape
from engine.planner.trained import adapted, static
from engine.report import table
from engine.spec import RunSpec, parse

DATA = Path(__file__).parent / "data" / "vram_published.csv"
KINDS = {"full": "full", "LoRA": "lora", "QLoRA": "qlora"}
FITTED = "Mistral-7B"
Row = dict[str, str]


def excluded(row: Row) -> str | None:
    """Why a row cannot be used, or None. Looks at what was run, never at what was measured."""
    if row["source"].startswith("PEFT method"):
        return "reserved, not allocated, memory of a whole run; its longest batch was not published"
    if not row["source"].startswith("fms"):
        return {
            "ms-swift": "rows of unequal length, and the longest batch was not published",
            "Qwen": "the model's own code (trust_remote_code), and memory as nvidia-smi shows it",
            "LitGPT": "LitGPT's own model code, and the length is only an upper bound",
            "torchtune": "torchtune's own model code, and torch.compile",
            "Unsloth": "implied by a fitted line, not measured",
            "bitsandbytes": "rank, targets and checkpointing were not published",
            "PEFT": "batch or length was not published",
        }.get(row["source"].split()[0], "a method, a batch or a length that was not published or is not ours")
    if "gptq" in row["quant"]:
        return "GPTQ weights, which TuneDeck does not train"
    if "santacoder" in row["model"]:
        return "GPT-BigCode, a family that the closed form does not know"
    return None


def predicted(row: Row) -> float:
    """GiB of the allocator's peak, by engine.planner.hf448."""
    model, spec = _model(row), _spec(row)
    fixed = static(model, spec)
    autocast = "amp" in row["dtype"]
    kernels = _kernels(row)
    inputs = [one.inputs for one in adapted(model, spec.method)] if spec.method.kind != "full" else []
    moments = hf448.peak(
        model, str(spec.method.kind), int(row["micro_batch"]) * int(row["seq_len"]), fixed.weights, fixed.trained,
        hf448.adapter_inputs(inputs, spec.method.rank or 16, True, autocast), int(row["n_gpus"]), autocast,
        upcast="baseline" in row["framework"], kernels=kernels,
    )  # fmt: skip
    return max(sum(parts.values()) for parts in moments.values()) / GIB


def accelerate_rule(row: Row) -> float:
    """What `accelerate estimate-memory` shows for training with Adam: the largest of its four numbers, shared by the cards."""
    usage = estimate_training_usage(4 * _model(row).parameters, "bfloat16")
    return max(usage.values()) / GIB / int(row["n_gpus"])


def sixteen_bytes(row: Row) -> float:
    """16 bytes a trained parameter, 2 a frozen one (half a byte in 4 bits), shared by the cards."""
    model, spec = _model(row), _spec(row)
    trained = static(model, spec).trained
    frozen = 0.0 if spec.method.kind == "full" else model.parameters * (0.5 if spec.method.kind == "qlora" else 2)
    return (16 * trained + frozen) / GIB / int(row["n_gpus"])


def _group(row: Row) -> str:
    if _kernels(row) == "none":
        return "plain transformers and PEFT"
    return "fused kernels, Mistral (fitted on)" if FITTED in row["model"] else "fused kernels, Llama-3 (not fitted on)"


def _kernels(row: Row) -> hf448.Kernels:
    if row["framework"].endswith("liger"):
        return "liger"
    return "foak" if "foak" in row["framework"] else "none"


def _model(row: Row) -> Shape:
    found = catalog.find_model(row["model"])
    assert found is not None, row["model"]
    return shape(found.config)


def _spec(row: Row) -> RunSpec:
    method: dict[str, Any] = {"kind": KINDS[row["method"]]}
    if method["kind"] != "full":
        targets = [name for name in row["target_modules"].split("+") if name != "c_attn"]
        method |= {"rank": int(float(row["rank"])), "targets": targets}
    return parse({"model": {"path": "m"}, "data": {"path": "d"}, "method": method, "training": {"precision": "bf16"}})


RULES = {"TuneDeck": predicted, "accelerate": accelerate_rule, "16 bytes": sixteen_bytes}


def main() -> None:
    rows = list(csv.DictReader(DATA.open(encoding="utf-8")))
    reasons = [excluded(row) for row in rows]
    used = [row for row, reason in zip(rows, reasons, strict=True) if reason is None]
    print("Left out, with the reason:\n")
    left = [[row["model"][-28:], row["method"], row["micro_batch"][:6], row["seq_len"][:12], row["source"][:24], reason]
            for row, reason in zip(rows, reasons, strict=True) if reason]  # fmt: skip
    print(table(["model", "method", "batch", "length", "source", "reason"], left) + "\n")
    errors: dict[str, list[float]] = collections.defaultdict(list)
    groups: dict[str, list[float]] = collections.defaultdict(list)
    lines = []
    for row in used:
        measured, line = float(row["measured_gib"]), []
        for name, rule in RULES.items():
            error = 100 * (rule(row) / measured - 1)
            errors[name].append(abs(error))
            line.append(f"{rule(row):.2f} ({error:+.1f} %)")
        own = abs(100 * (predicted(row) / measured - 1))
        groups[_group(row)].append(own)
        precision = "bf16 autocast" if "amp" in row["dtype"] else "bf16"
        lines.append([f"{row['model'].split('/')[-1]} {row['method']} {row['micro_batch']} x {row['seq_len']} on {row['n_gpus']}, "
                      f"{precision}, {row['framework'].split('acceleration=')[-1]}", f"{measured:.2f}", *line])  # fmt: skip
    summary = [
        [name, f"{statistics.median(found):.2f} %", f"{max(found):.1f} %",
         f"{100 * sum(e <= 5 for e in found) / len(found):.0f} %"] for name, found in errors.items()
    ]  # fmt: skip
    notes = [
        table(["rule", "median error", "worst", "within 5 %"], summary, right=(1, 2, 3)),
        table(["of ours, by group", "rows", "median error", "worst"],
              [[name, str(len(e)), f"{statistics.median(e):.2f} %", f"{max(e):.1f} %"] for name, e in groups.items()], right=(1, 2, 3)),
        "Beyond the allocator, as a share of what comes and goes in a step (NVML less allocated less the context): " + slack(used),
        "The bytes a logit of the fused kernels (8 and 10) and the doubled checkpoints of FSDP 1 were read off the Mistral rows; "
        "the rest is derived from the code.",
        f"{len(used)} of {len(rows)} rows used; all are fms-acceleration's reference benchmarks on A100-80GB.",
    ]  # fmt: skip
    publish(
        "vram-published",
        "Peak memory, GiB: published against predicted (error)",
        ["run", "measured", *RULES],
        lines,
        notes,
    )


def slack(used: list[Row]) -> str:
    """The medians that engine.planner.memory takes its slack from, one card each."""
    shares: dict[str, list[float]] = collections.defaultdict(list)
    for row in used:
        kernels = _kernels(row)
        if row["nvml_gib"] and row["n_gpus"] == "1" and row["method"] != "full" and kernels != "foak":
            fixed = static(_model(row), _spec(row))
            held = (fixed.weights + fixed.adapter + fixed.optimizer) / GIB
            measured = float(row["measured_gib"])
            fused = "fused loss" if kernels == "liger" else "full logits"
            shares[fused].append((float(row["nvml_gib"]) - measured - 0.46) / (measured - held))
    return ", ".join(f"{name} {statistics.median(values):.2f} ({len(values)} rows)" for name, values in shares.items())


if __name__ == "__main__":
    main()
