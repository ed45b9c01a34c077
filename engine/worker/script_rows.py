"""The rows of a run for a script that trains on them with TRL alone: as they are where TRL makes the same ids of them."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TextIO

from engine.data.formats import Value
from engine.data.prepare import chosen_rows, select
from engine.data.rows import Row, rows_of, sources, validation_source
from engine.data.tokens import last_answer
from engine.spec import RunSpec
from engine.worker.dataset import batches, datasets_for, fit
from engine.worker.preprocess import Unusable, kind_of, preprocess

OLDER = ("orpo", "cpo")
"""TRL's trainers of these tokenize in another way than TuneDeck's: their rows are given as ids."""
NAMES = ("train", "validation")


@dataclass(frozen=True)
class Rows:
    """What was written: how many training and validation rows; as ids or as they are; the template that marks answers."""

    train: int
    validation: int
    ids: bool
    why_ids: str = ""
    form: str = ""
    conversational: bool = False
    template: str | None = None


def write_rows(spec: RunSpec, tokenizer: Any, folder: Path) -> Rows:
    """train.jsonl and validation.jsonl: the rows that are trained on, in their order, as often as they are taken."""
    silent: Any = SimpleNamespace(say=lambda event: None)
    prepared = dict(zip(NAMES, datasets_for(spec, tokenizer, silent), strict=True))
    counts = {name: len(rows) if rows is not None else 0 for name, rows in prepared.items()}
    if spec.objective == "grpo":
        for name, rows in prepared.items():
            _write(folder / f"{name}.jsonl", (row["row"] for row in rows or ()))
        return Rows(counts["train"], counts["validation"], False, form="grpo")
    plain = _Plain(spec, tokenizer)
    if spec.objective not in OLDER:
        _write_plain(plain, folder)
    why = f"{spec.objective} needs it" if spec.objective in OLDER else plain.problem
    if not why and plain.counts != counts:
        why = "long rows were split"
    if spec.objective == "reward" and spec.training.long_rows == "cut":
        why = "TRL's reward trainer would drop long rows instead of cutting them"
    if why:
        for name, rows in prepared.items():
            _write(folder / f"{name}.jsonl", (json.dumps(row) for row in rows or ()))
        return Rows(counts["train"], counts["validation"], True, why)
    form, conversational, template = plain.kind
    return Rows(counts["train"], counts["validation"], False, "", form, conversational, template)


class _Plain:
    """Rows as TRL takes them, as long as they are of one kind and nothing in them would change on the way through a file."""

    def __init__(self, spec: RunSpec, tokenizer: Any) -> None:
        self._spec, self._tokenizer = spec, tokenizer
        self.kind: tuple[str, bool, str | None] = ("", False, None)
        self.problem = ""
        self.counts = dict.fromkeys(NAMES, 0)

    def lines(self) -> Iterator[tuple[str, str]]:
        """(data set, line) of each row; ends at the first row that cannot be written so: `problem` says why."""
        spec = self._spec
        found, outside = sources(spec.data), validation_source(spec.data)
        chosen = chosen_rows(found, spec.data, select(found, spec.data, spec.training.seed))
        held = ((row, 0) for row in rows_of(outside, spec.data) if isinstance(row, Row))
        for rows in (chosen, held):
            for batch in batches(rows):
                yield from self._batch(batch)
                if self.problem:
                    return

    def _batch(self, batch: list[tuple[Row, int]]) -> Iterator[tuple[str, str]]:
        values = [row.value for row, _ in batch]
        for (row, often), made in zip(batch, preprocess(values, self._tokenizer), strict=True):
            pieces = [] if isinstance(made, Unusable) else fit(made, self._spec)[0]
            if not pieces:
                continue
            self._look(row.value)
            line = json.dumps(self._shape(row.value), ensure_ascii=False)
            name = "train" if often else "validation"
            self.counts[name] += (often or 1) * len(pieces)
            if len(pieces) > 1:
                self.problem = "long rows were split"
            yield from [(name, line)] * (often or 1)

    def _look(self, value: Value) -> None:
        """Note what stands against the row: another kind than those before, tools, turns with more than role and content."""
        kind = kind_of(value, self._tokenizer)
        if kind != (self.kind if self.kind[0] else kind):
            self.problem = "the rows are of several kinds"
        self.kind = kind
        turns = [turn for part in value.values() if isinstance(part, list) for turn in part]
        if "tools" in value or any(not isinstance(turn, dict) or set(turn) != {"role", "content"} for turn in turns):
            self.problem = "some conversations have tools, names or thoughts"

    def _shape(self, value: Value) -> Value:
        """Where only the last answer is known to be the assistant's: as a prompt and its completion."""
        if self.kind[0] == "last answer":
            prompt, completion = last_answer(value["messages"])
            return {"prompt": prompt, "completion": completion}
        return value


def _write_plain(plain: _Plain, folder: Path) -> None:
    files: dict[str, TextIO] = {name: (folder / f"{name}.jsonl").open("w", encoding="utf-8") for name in NAMES}
    try:
        for name, line in plain.lines():
            files[name].write(line + "\n")
    finally:
        for file in files.values():
            file.close()


def _write(path: Path, lines: Iterable[str]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for line in lines:
            file.write(line + "\n")
