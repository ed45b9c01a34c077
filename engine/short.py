"""Fields of a specification and their values in few characters: `lr 2e-4`, `rank 8 → 16`. Light to import."""

import json
import re
from decimal import Decimal
from typing import Any

from engine.text import clean

_FIELDS = {"training.learning_rate": "lr", "model.path": "model", "data.path": "data"}
_WHOLE = ("evaluation.every", "saving.every")
"""Fields whose last part means nothing alone."""
LONGEST = 40
"""Characters of a value; more are cut."""


def number(value: float) -> str:
    """A number as people write it: 2, 0.05, 1e-4; nothing of it is lost."""
    if value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return _scientific(value) if abs(value) < 1e-2 else repr(value)


def field(path: str) -> str:
    """`training.learning_rate` is `lr`, `method.quantization.bits` is `quantization.bits`."""
    return _FIELDS.get(path) or (path if path in _WHOLE else path.partition(".")[2] or path)


def value(value: Any) -> str:
    """A value in one line; of a path its last part, a dash for nothing."""
    if value is None or value == "":
        return "–"
    if isinstance(value, float):
        if value - value != 0:  # not finite
            return str(value)
        return min(number(value), _scientific(value), key=len) if 0 < abs(value) < 0.01 else number(value)
    if isinstance(value, str):
        text = _last_part(clean(value, keep_lines=False))
    else:
        text = clean(json.dumps(value, ensure_ascii=False, default=str), keep_lines=False)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _scientific(value: float) -> str:
    return f"{Decimal(repr(value)).normalize():e}"


def _last_part(text: str) -> str:
    """Of a path on this machine the last part; a hub id stays whole."""
    return text.rstrip("/").rsplit("/", 1)[-1] if re.match(r"[/~.]", text) and text.strip("/~.") else text


def change(path: str, before: Any, after: Any) -> str:
    """`rank 8 → 16`."""
    return f"{field(path)} {value(before)} → {value(after)}"
