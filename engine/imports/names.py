"""Names and settings of other tools as ours, and everything foreign made safe and small."""

import json
import math
from collections.abc import Mapping
from typing import Any

from engine.environment import redacted
from engine.exchange.from_trl import SAME
from engine.exchange.reading import every
from engine.methods import METHOD_NAMES
from engine.nested import flatten
from engine.text import clean

LONGEST_NAME = 80
LONGEST_KEY = 120
LONGEST_VALUE = 2_000
MOST_KEYS = 2_000
"""Metrics, and settings, that a run may have; more are a mistake of whoever wrote them."""
EPOCH, GLOBAL_STEP = "train/epoch", "train/global_step"
"""What transformers reports besides its metrics."""
_PREFIXES = {"train/": "", "eval/": "eval_", "test/": "test_"}
_ADAPTER = {"r": "method.rank", "lora_alpha": "method.alpha", "lora_dropout": "method.dropout",
            "target_modules": "method.targets", "modules_to_save": "method.modules_to_save",
            "num_virtual_tokens": "method.virtual_tokens", "base_model_name_or_path": "model.path"}  # fmt: skip
_FLOATS = frozenset(("method.alpha", "method.dropout", "training.learning_rate", "training.epochs", "training.weight_decay",
                     "training.max_grad_norm"))  # fmt: skip
"""Settings that a specification has as 8.0 where others write 8."""
_SETS = ("method.targets", "method.modules_to_save")
"""PEFT writes these in any order."""
_SECRETS = ("hub_token", "auth_token", "access_token", "api_key", "password", "secret")
_UNDERSTOOD = frozenset(
    ("max_steps", "warmup_steps", "warmup_ratio", "eval_strategy", "eval_steps", "save_strategy", "save_steps")
)
"""Arguments of the Trainer that are settings of ours, though not under one name."""


def line(text: object, most: int = LONGEST_NAME) -> str:
    """A foreign text on one line, clean and not too long."""
    return clean(str(text)[: 4 * most], keep_lines=False).strip()[:most]


def last_part(path: str) -> str:
    """The name of a model or a data set by its path or hub id."""
    return line(path.rstrip("/").rsplit("/", 1)[-1])


def metric(tag: str) -> str:
    """Our name of a metric: transformers' trackers write `train/loss` and `eval/loss` for `loss` and `eval_loss`."""
    for prefix, ours in _PREFIXES.items():
        if tag.startswith(prefix) and len(tag) > len(prefix):
            return ours + tag.removeprefix(prefix)
    return tag


class Keys:
    """The metric names of one run: each of its tags has one of its own, whatever the others are."""

    def __init__(self) -> None:
        self._keys: dict[str, str | None] = {}
        self._taken: set[str] = set()
        self.dropped = 0
        """Tags too many."""

    def of(self, tag: str) -> str | None:
        """The name for a tag; None if there are too many already."""
        if tag in self._keys:
            return self._keys[tag]
        if len(self._taken) >= MOST_KEYS:
            self.dropped += 1
            if self.dropped < MOST_KEYS:  # what is remembered is bounded too
                self._keys[tag] = None
            return None
        base = line(metric(tag), LONGEST_KEY) or "unnamed"
        others = (f"{line(tag, LONGEST_KEY - 6)} {n}" for n in range(2, MOST_KEYS + 3))
        key = next(one for one in (base, line(tag, LONGEST_KEY) or "unnamed", *others) if one not in self._taken)
        self._keys[tag] = key
        self._taken.add(key)
        return key


def number(value: Any) -> float | int | None:
    """A measured value, also as Trackio's JSON has what is not finite; None for what is no number."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else float(value)
    if isinstance(value, float):
        return value
    return (
        {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}.get(value) if isinstance(value, str) else None
    )


def count(value: Any) -> int | None:
    """A whole number above 0 that a database can hold; None for all else."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**63 else None


def settings(raw: Mapping[str, Any]) -> dict[str, str]:
    """Settings as parameters: by our path where TRL's name means the same, else `config.<name>`; what is not set is left out.

    The arguments of transformers' Trainer among them are understood beyond their names.
    """
    found = _of_trainer(raw)
    done = SAME.keys() | (_UNDERSTOOD if is_trainer(raw) else frozenset())
    for key, value in flatten(dict(raw)).items():
        text = _text(value)
        if key not in done and text is not None and len(found) < MOST_KEYS:
            name = line(key, LONGEST_KEY)
            secret = name.endswith(_SECRETS) and not isinstance(value, int | float)
            found["config." + name] = "[redacted]" if secret else text
    return found


def is_trainer(raw: Mapping[str, Any]) -> bool:
    """Whether these are arguments of transformers' Trainer."""
    return "per_device_train_batch_size" in raw


def _of_trainer(raw: Mapping[str, Any]) -> dict[str, str]:
    found = {path: text for key, path in SAME.items() if (text := _ours(path, raw.get(key))) is not None}
    if steps := count(raw.get("max_steps")):
        found["training.max_steps"] = str(steps)
    if is_trainer(raw):
        found["training.warmup"] = _text(raw.get("warmup_ratio") or raw.get("warmup_steps")) or "0"
        rhythm = (("eval", "evaluation.every"), ("save", "saving.every"))
        found |= {path: text for what, path in rhythm if (text := _text(_every(raw, what))) is not None}
    return found


def _every(raw: Mapping[str, Any], what: str) -> Any:
    """How often the Trainer evaluates or saves, as `every` has it."""
    strategy = raw.get(f"{what}_strategy")
    return {"no": 0, "epoch": every(1)}.get(str(strategy), raw.get(f"{what}_steps"))


def adapter(raw: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    """The kind of method and the parameters of PEFT's adapter_config.json."""
    kind = line(raw.get("peft_type") or "", 40).lower()
    kind = METHOD_NAMES.get(kind, kind)
    found = {path: text for key, path in _ADAPTER.items() if (text := _ours(path, raw.get(key))) is not None}
    if count(raw.get("r")) is None:
        found.pop("method.rank", None)
    variant = "dora" if raw.get("use_dora") else "rslora" if raw.get("use_rslora") else None
    return kind, found | ({"method.kind": kind} if kind else {}) | ({"method.variant": variant} if variant else {})


def _ours(path: str, value: Any) -> str | None:
    if isinstance(value, list) and path in _SETS:
        value = sorted(map(str, value))
    plain = isinstance(value, int) and not isinstance(value, bool)
    return _text(float(value) if path in _FLOATS and plain else value)


def _text(value: Any) -> str | None:
    """A value as `params` has it: a text as it is, all else as JSON; None for what is not set."""
    if value is None or value in ("", [], {}):
        return None
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return redacted(line(text, LONGEST_VALUE))
