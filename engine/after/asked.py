"""What the forms of jobs are made of."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.errors import RunError
from engine.text import clean

Values = Mapping[str, str]
"""What was typed or chosen, by the names of the fields."""


@dataclass(frozen=True)
class Field:
    """What can be said of a job. `choices`: (value, words); without any it is typed. `hint`: what it is when left empty."""

    name: str
    label: str
    value: str = ""
    choices: tuple[tuple[str, str], ...] = ()
    path: bool = False
    hint: str = ""


@dataclass(frozen=True)
class Asked:
    """A job's `ask`, and what it does and takes in sentences."""

    ask: dict[str, Any]
    lines: tuple[str, ...] = ()


def number(values: Values, name: str, usual: int) -> int:
    """A whole number from 1 on; the usual one where nothing was typed. Raises RunError."""
    text = values.get(name, "").strip()
    if not text:
        return usual
    if not text.isdigit() or int(text) < 1:
        raise RunError("That is no number", f"{name}: {clean(text, False)}.", "Give a whole number from 1 on.")
    return int(text)
