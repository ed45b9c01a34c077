"""What goes with what: a table of methods against bases, checkpointing, packing, objectives and merging, each cell from a run.

`python -m bench.compatibility` trains a tiny model for each cell and writes catalog/compatibility.json. A cell holds "" where
the run learned and its saved output gave the same answers when it was loaded again, else why not.
"""

import json
from functools import cache
from pathlib import Path

from engine.spec import RunSpec

TABLE = Path(__file__).parent / "catalog" / "compatibility.json"
COLUMNS = ("bf16", "nf4", "fp4", "int8", "checkpointing", "packing", "merge",
           "sft", "text", "dpo", "kto", "reward", "orpo", "cpo", "grpo")  # fmt: skip
VARIANTS = ("dora", "rslora", "pissa", "lora+")


@cache
def table() -> dict[str, dict[str, str]]:
    """Rows by method, or by variant of LoRA; `qlora` is `lora` on a base of 4 or 8 bits."""
    cells: dict[str, dict[str, str]] = json.loads(TABLE.read_text(encoding="utf-8"))["methods"]
    return cells


def why_not(kind: str, variant: str | None, column: str) -> str:
    """Why the method does not go with what a column stands for; "" if it does."""
    row = table().get(variant or ("lora" if kind == "qlora" else kind), {})
    return row.get(column, "it was never tried")


def columns_of(spec: RunSpec) -> list[str]:
    """The columns that a specification touches."""
    base = spec.method.quantization if spec.method.kind == "full" else spec.method.base
    found = ["bf16" if base is None else "int8" if base.bits == 8 else base.type, spec.objective or "sft"]
    return found + [name for name in ("checkpointing", "packing") if getattr(spec.training, name)]


def refusals(spec: RunSpec) -> list[str]:
    """Why this specification cannot be trained: a sentence for each pair that does not go together."""
    method = spec.method
    if method.kind is None:
        return []
    if method.kind == "lora" and method.quantization is not None:
        return ["lora is on a 16-bit base: on a quantised one it is method.kind=qlora"]
    name = f"{method.kind} with {method.variant}" if method.variant else method.kind
    said = {"bf16": "a 16-bit base", "nf4": "an nf4 base", "fp4": "an fp4 base", "int8": "an 8-bit base"}
    return [f"{name} does not go with {said.get(column, column)}: {reason}"
            for column in columns_of(spec) if (reason := why_not(method.kind, method.variant, column))]  # fmt: skip
