"""Short runs of every method and objective on a tiny model: data for each objective, and settings under which it learns."""

import json
from pathlib import Path
from typing import Any

from engine.compatibility import VARIANTS
from engine.spec import RunSpec
from tests.train import complete_spec

REWARD = '''
def vowels(completions, **columns):
    """The share of vowels in the answer."""
    texts = [c if isinstance(c, str) else c[0]["content"] for c in completions]
    return [sum(letter in "aeiou" for letter in text) / max(1, len(text)) for text in texts]
'''
ROWS: dict[str, list[dict[str, Any]]] = {
    "sft": [{"instruction": f"Say {i}", "output": f"{i} it is, and {i * 7} comes later."} for i in range(4)],
    "text": [{"text": f"Line {i} of a long story about {i * 7}. " * 2} for i in range(4)],
    "pairs": [{"prompt": f"Say {i}", "chosen": f"{i} it is.", "rejected": f"no, never {i * 3}"} for i in range(4)],
    "kto": [{"prompt": f"Say {i}", "completion": f"{i} it is." if i % 2 else f"no, never {i}", "label": bool(i % 2)}
            for i in range(4)],
}  # fmt: skip
"""As many as a batch has, so that every step sees all of them and the loss falls without noise."""
DATA = {"sft": "sft", "text": "text", "dpo": "pairs", "reward": "pairs", "orpo": "pairs", "cpo": "pairs", "kto": "kto",
        "grpo": "sft"}  # fmt: skip
RATES = {"full": 1e-3, "prompt": 0.3, "ptuning": 0.03, "prefix": 0.05, "ia3": 0.1, "vera": 0.1, "oft": 0.02, "boft": 0.05,
         "fourierft": 0.05, "ln_tuning": 0.02, "road": 0.05, "randlora": 5e-4, "shira": 1e-2, "delora": 1e-2, "hra": 1e-2,
         "lokr": 2e-2, "loha": 2e-2, "adalora": 2e-2}  # fmt: skip
"""Learning rates at which these move a model of 100,000 random parameters in 16 steps; the others take 5e-3."""
OPTIONS: dict[str, Any] = {
    "training__max_steps": 16, "training__micro_batch": 4, "training__accumulation": 1, "training__max_length": 128,
    "training__precision": "fp32", "training__warmup": 0, "training__schedule": "constant", "training__packing": False,
    "training__checkpointing": False, "method__dropout": 0.0,
}  # fmt: skip


def tiny(place: Path) -> Path:
    """A folder with the tiny model, data for each objective and a reward function."""
    from tests.tiny import build

    build(place / "model")
    for name, rows in ROWS.items():
        (place / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (place / "reward.py").write_text(REWARD)
    return place


def complete(name: str, column: str, place: Path, **more: Any) -> RunSpec:
    """The specification of a method, or a variant of LoRA, in a column of the compatibility table; `place` as from `tiny`."""
    objective = column if column in DATA else "sft"
    kind, variant = ("lora", name) if name in VARIANTS else (name, None)
    sets = OPTIONS | {"objective": objective, "training__learning_rate": RATES.get(name, 5e-3), "method__kind": kind}
    if variant:
        sets["method__variant"] = variant
    if column in ("nf4", "fp4", "int8"):
        sets["method__kind"] = "qlora" if kind == "lora" else kind
        sets["method__quantization"] = {"bits": 8} if column == "int8" else {"bits": 4, "type": column}
        sets["training__precision"] = "bf16"
    if name == "road":
        sets["extra__peft"] = {"group_size": 32}  # keys and values of the tiny model have 32
    if column == "bf16":
        sets["training__precision"] = "bf16"
    if column in ("checkpointing", "packing"):
        sets[f"training__{column}"] = True
    if objective == "grpo":
        options = {"rewards": [f"{place / 'reward.py'}:vowels"], "generations": 4, "completion_length": 12}
        sets["objective_options"] = options
        sets["training__learning_rate"] *= 0.3
    if "dropout" not in _fields(sets["method__kind"]):
        sets.pop("method__dropout")
    return complete_spec(place / "model", place / f"{DATA[objective]}.jsonl", **(sets | more))


def _fields(kind: str) -> frozenset[str]:
    from engine.methods import METHODS

    return METHODS[kind].fields
