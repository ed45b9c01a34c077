"""How long the rows of a data set are for a model: tokens where its tokenizer is at hand, else an estimate. No torch."""

import statistics
from dataclasses import dataclass

from engine.data.formats import Value, split_text, turns_of

A_MESSAGE = 6
"""Tokens that a chat template adds to a message, about: role, start and end (ChatML 5, Llama 3 5, Gemma 5)."""
CHARACTERS = 4.0
"""Characters a token of English text, where there is no tokenizer to ask (GPT-2, Llama 3: 4.2 to 4.6; code and other
languages fewer)."""


@dataclass(frozen=True)
class Lengths:
    """`tokens` are those of the rows, or of a sample, sorted; `measured` says whether the model's tokenizer and template
    made them, or whether they are estimated from the characters."""

    rows: int
    tokens: tuple[int, ...]
    measured: bool

    @property
    def mean(self) -> float:
        return statistics.fmean(self.tokens)

    @property
    def longest(self) -> int:
        return self.tokens[-1]

    def quantile(self, share: float) -> int:
        """The length that this share of the rows does not exceed."""
        return self.tokens[min(len(self.tokens) - 1, int(share * len(self.tokens)))]


def estimated(value: Value) -> int:
    """A row's tokens by its characters."""
    return round(len("".join(split_text(value))) / CHARACTERS) + A_MESSAGE * len(turns_of(value))
