"""How long the rows of a data set are for a model: tokens where its tokenizer is at hand, else an estimate. No torch."""

import functools
import random
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.data.formats import Conversation

SAMPLE = 500
"""Rows that are tokenized: enough for the 99 % quantile, and a fifth of a second."""
A_MESSAGE = 6
"""Tokens that a chat template adds to a message, about: role, start and end (ChatML 5, Llama 3 5, Gemma 5)."""
CHARACTERS = 4.0
"""Characters a token of English text, where there is no tokenizer to ask (GPT-2, Llama 3: 4.2 to 4.6; code and other
languages fewer)."""


@dataclass(frozen=True)
class Lengths:
    """`tokens` are those of a sample of the rows, sorted; `measured` says whether a tokenizer counted them. Both leave out
    what the template adds beyond a fixed number a message."""

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


def measure(rows: list[Conversation], model: str) -> Lengths | None:
    """The lengths of a sample of the rows (the same each time), None without rows. `model` is the model's directory."""
    if not rows:
        return None
    sample = rows if len(rows) <= SAMPLE else random.Random(0).sample(rows, SAMPLE)
    texts = [[message["content"] for message in row.messages] for row in sample]
    tokenizer = _tokenizer(str(Path(model).expanduser() / "tokenizer.json"))
    if tokenizer is None:
        counts = [sum(round(len(text) / CHARACTERS) + A_MESSAGE for text in row) for row in texts]
    else:
        encoded = iter(tokenizer.encode_batch_fast([t for row in texts for t in row], add_special_tokens=False))
        counts = [sum(len(next(encoded)) + A_MESSAGE for _ in row) for row in texts]
    return Lengths(len(rows), tuple(sorted(counts)), tokenizer is not None)


@functools.lru_cache(maxsize=4)
def _tokenizer(path: str) -> Any:
    if not Path(path).is_file():
        return None
    from tokenizers import Tokenizer  # 0.2 s

    try:
        return Tokenizer.from_file(path)
    except Exception:  # tokenizers raises plain Exception for a file that it cannot read
        return None
