"""How answers are drawn, as it is typed: text to values, and what is wrong with it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from tuiapp.chat_snapshot import Sampling


@dataclass(frozen=True)
class Setting:
    """A field of `Sampling`: the word before it, the cells it has, its limits, and what it is for."""

    field: str
    word: str
    short: str
    """The word where there is less room."""
    cells: int
    least: float
    most: float
    whole: bool
    about: str


SETTINGS = (
    Setting(
        "temperature", "temperature", "temp", 6, 0, 2, False,
        "0 always takes the likeliest token; towards 1 and above answers vary more and err more.",
    ),
    Setting("top_p", "top-p", "top-p", 6, 0.01, 1, False, "Only the likeliest tokens that together have this share are drawn from."),
    Setting("most", "at most", "most", 5, 1, 8192, True, "Tokens of an answer; a longer one is cut."),
    Setting("seed", "seed", "seed", 6, 0, 2**32 - 1, True, "The same seed, question and settings give the same answer."),
)  # fmt: skip


def sampling_of(texts: Mapping[str, str]) -> Sampling:
    """What is typed, by field. Raises ValueError with a sentence about the first that is no such value."""
    values = {one.field: _value(one, texts[one.field]) for one in SETTINGS}
    return Sampling(values["temperature"], values["top_p"], int(values["most"]), int(values["seed"]))


def _value(one: Setting, text: str) -> float:
    kind = "a whole number" if one.whole else "a number"
    try:
        value = float(int(text)) if one.whole else float(text.replace(",", "."))
    except ValueError:
        value = math.nan
    if not one.least <= value <= one.most:
        raise ValueError(f"{one.word} is {kind} from {one.least:,g} to {one.most:,.10g}")
    return value


def texts_of(sampling: Sampling) -> dict[str, str]:
    """As it is typed."""
    return {one.field: f"{getattr(sampling, one.field):.10g}" for one in SETTINGS}
