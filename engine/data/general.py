"""General texts and questions that have nothing to do with a run's data: what a model loses on them, it has forgotten.

`general.jsonl` holds two dozen passages written for this (English of many kinds, code, mathematics, French, German), the most
different ones first; `general_questions.jsonl` forty short questions with the answers that count as right.
"""

import json
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from engine.data.formats import whole_text
from engine.data.rows import Row, rows_of, sources
from engine.errors import DataError
from engine.spec import DataSpec

OWN = Path(__file__).with_name("general.jsonl")
QUESTIONS = Path(__file__).with_name("general_questions.jsonl")


def read_general(which: bool | str, most: int) -> list[str]:
    """The first texts of our own set (True) or of a file that holds data in any format. Raises DataError if it has none."""
    data = DataSpec(path=str(OWN) if which is True else str(which))
    texts: list[str] = []
    for row in rows_of(sources(data), data):
        text = whole_text(row.value).strip() if isinstance(row, Row) else ""
        texts += [text] * bool(text)
        if len(texts) == most:
            break
    if not texts:
        raise DataError("The general texts cannot be used", f"{which} holds no text.",
                        "Name a text file or a JSONL file for evaluation.general, or set it to true for our own.")  # fmt: skip
    return texts


@dataclass(frozen=True)
class Passage:
    """A general text of our own, and what kind of text it is."""

    kind: str
    text: str


@dataclass(frozen=True)
class Asked:
    """A general question of our own; any of the answers is right."""

    kind: str
    question: str
    answers: tuple[str, ...]

    def right(self, answer: str) -> bool:
        """Whether one of them stands in it, as words of their own: `The capital is Rome.` is right, `Romeo` is not."""
        said = f" {_words(answer)} "
        return any(f" {_words(one)} " in said for one in self.answers)


def _words(text: str) -> str:
    return " ".join(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()))


def passages() -> list[Passage]:
    """Our own general texts."""
    return [Passage(row["kind"], row["text"]) for row in map(json.loads, OWN.read_text(encoding="utf-8").splitlines())]


def questions() -> list[Asked]:
    """Our own general questions."""
    lines = QUESTIONS.read_text(encoding="utf-8").splitlines()
    return [Asked(row["kind"], row["question"], tuple(row["answers"])) for row in map(json.loads, lines)]
