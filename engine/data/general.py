"""General texts that have nothing to do with a run's data: what a model loses on them, it has forgotten.

`general.jsonl` holds two dozen passages written for this (English of many kinds, code, mathematics, French, German), the most
different ones first.
"""

from pathlib import Path

from engine.data.formats import whole_text
from engine.data.rows import Row, rows_of, sources
from engine.errors import DataError
from engine.spec import DataSpec

OWN = Path(__file__).with_name("general.jsonl")


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
