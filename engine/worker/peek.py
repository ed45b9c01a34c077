"""`python -m engine.worker.peek SPEC.yaml`: rows as the model will see them, by the code that training uses."""

import argparse
import contextlib
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from engine.data.prepare import chosen_rows, select
from engine.data.rows import Row, sources
from engine.errors import DataError
from engine.spec import RunSpec, parse, read_yaml
from engine.worker.child import say
from engine.worker.dataset import datasets_for, fit
from engine.worker.preprocess import Ids, Unusable, preprocess

PACKED = 20_000
"""Rows up to which neighbours are shown: packing needs the tokens of all."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="engine.worker.peek")
    parser.add_argument("spec", type=Path)
    parser.add_argument("tokenizer", help="a directory with tokenizer.json")
    parser.add_argument("--from", dest="first", type=int, default=0, help="the first row, from 0")
    parser.add_argument("-n", type=int, default=1)
    options = parser.parse_args()
    return say("Showing the data", lambda: peek(parse(read_yaml(options.spec)), options))


def peek(spec: RunSpec, options: argparse.Namespace) -> dict[str, Any]:
    """Rows `first` to `first + n` of those that are trained on, each with its sequences of tokens."""
    from engine.worker.load import load_tokenizer

    place: Any = SimpleNamespace(path=options.tokenizer)  # a tokenizer in the cache has no model beside it
    tokenizer = load_tokenizer(spec, place)
    found = sources(spec.data)
    selection = select(found, spec.data, spec.training.seed)
    train = (row for row, often in chosen_rows(found, spec.data, selection) if often)
    rows = list(itertools.islice(train, options.first, options.first + options.n))
    if not rows:
        raise DataError(
            "There is no such row", f"{len(set(selection.train)):,} rows are trained on.", "Ask for an earlier one."
        )
    made = list(preprocess([row.value for row in rows], tokenizer))
    shown = [
        {"number": options.first + i, **_shown(row, ids, tokenizer, spec)}
        for i, (row, ids) in enumerate(zip(rows, made, strict=True), 1)
    ]
    if spec.training.packing and len(selection.train) <= PACKED:
        with contextlib.suppress(DataError):  # no row is short enough: that is shown without neighbours
            _pack(shown, spec, tokenizer)
    return {"total": len(set(selection.train)), "rows": shown, "max_length": spec.training.max_length}


def _shown(row: Row, ids: Ids | Unusable, tokenizer: Any, spec: RunSpec) -> dict[str, Any]:
    """The row as sequences of tokens with their ids, texts and whether they are trained, and what becomes of it."""
    if isinstance(ids, Unusable):
        return {"unit": row.place.unit, "line": row.line, "problem": str(ids), "sequences": []}
    _, problem = fit(ids, spec)
    limit = spec.training.max_length or 1024
    if "labels" in ids:
        named = [("", ids["input_ids"], ids["labels"])]
    else:
        prompt = ids["prompt_ids"]
        answers = [name for name in ("chosen", "rejected", "completion") if f"{name}_ids" in ids]
        named = [
            (name, prompt + ids[f"{name}_ids"], [-100] * len(prompt) + ids[f"{name}_ids"]) for name in answers
        ] or [("prompt", prompt, [-100] * len(prompt))]
        if "label" in ids:
            named = [(f"completion, {'desirable' if ids['label'] else 'undesirable'}", *named[0][1:])]
    cut = limit if spec.training.long_rows != "split" else None
    sequences = [
        {"name": name, "cut": cut if len(tokens) > limit else None, **_sequence(tokenizer, tokens, labels)}
        for name, tokens, labels in named
    ]
    return {"unit": row.place.unit, "line": row.line, "problem": problem, "sequences": sequences}


def _sequence(tokenizer: Any, ids: list[int], labels: list[int]) -> dict[str, Any]:
    return {"ids": ids, "labels": labels, "texts": texts_of(tokenizer, ids)}


def texts_of(tokenizer: Any, ids: list[int]) -> list[str]:
    """Each token's text; a character that takes several tokens stands at the last of them, the others are empty."""
    texts, start = [], 0
    for end in range(1, len(ids) + 1):
        text = tokenizer.decode(ids[start:end], skip_special_tokens=False, clean_up_tokenization_spaces=False)
        unfinished = text.endswith("\ufffd") and end - start < 4 and end < len(ids)
        texts.append("" if unfinished else str(text))
        start = start if unfinished else end
    return texts


def _pack(shown: list[dict[str, Any]], spec: RunSpec, tokenizer: Any) -> None:
    """Say of each row with which others it is packed: made of all rows, as TRL packs them for training."""
    from trl import pack_dataset

    silent: Any = SimpleNamespace(say=lambda event: None)
    train, _ = datasets_for(spec, tokenizer, silent)
    size = spec.training.max_length or 1024
    packed = pack_dataset(train.select_columns(["input_ids", "labels"]), size, "bfd_split")
    wanted = {tuple(row["sequences"][0]["ids"][:size]): row for row in shown if row["sequences"] and not row["problem"]}
    for one in packed:
        pieces = list(_pieces(one))
        for here in {ids for _, ids, _ in pieces} & wanted.keys():
            wanted[here]["packed"] = {
                "tokens": len(one["input_ids"]), "size": size,
                "sequences": [{"start": start, "this": ids == here, **_sequence(tokenizer, list(ids), labels)}
                              for start, ids, labels in pieces],
            }  # fmt: skip


def _pieces(packed: dict[str, Any]) -> Iterator[tuple[int, tuple[int, ...], list[int]]]:
    """(start, ids, labels) of the rows in a packed row."""
    start = 0
    for length in packed["seq_lengths"]:
        yield start, tuple(packed["input_ids"][start : start + length]), packed["labels"][start : start + length]
        start += length


if __name__ == "__main__":
    sys.exit(main())
