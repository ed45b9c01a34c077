"""Rows to token ids and labels, as TRL takes them ready-made (`input_ids`, `labels`). Nothing is lost without a word."""

import functools
import random
from collections.abc import Callable
from typing import Any

from datasets import Dataset
from jinja2 import TemplateError

from engine.data.encode import Encoded, encode
from engine.data.formats import Conversation, Message, describe_dropped, load
from engine.errors import DataError
from engine.events import Notice
from engine.planner.steps import validation_rows
from engine.spec import RunSpec
from engine.worker.reporter import Reporter


def encoder(tokenizer: Any) -> Callable[[list[Message]], Encoded]:
    """`encode` with this tokenizer and its chat template."""

    def render(messages: list[Message], add_generation_prompt: bool) -> str:
        try:
            return str(
                tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=add_generation_prompt)
            )
        except TemplateError as error:
            raise ValueError(f"the chat template refuses it: {error}") from None

    def tokenize(text: str) -> tuple[list[int], list[tuple[int, int]]]:
        output = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        return output["input_ids"], output["offset_mapping"]

    return functools.partial(encode, render=render, tokenize=tokenize)


def split(
    rows: list[Conversation], validation: float | str | None, seed: int
) -> tuple[list[Conversation], list[Conversation]]:
    """Training and held-out rows; the same seed gives the same split."""
    count = validation_rows(validation, len(rows))
    order = random.Random(seed).sample(range(len(rows)), len(rows))
    held_out = set(order[:count])
    return [r for i, r in enumerate(rows) if i not in held_out], [rows[i] for i in order[:count]]


def datasets_for(spec: RunSpec, tokenizer: Any, reporter: Reporter) -> tuple[Dataset, Dataset | None]:
    """The training and the validation data set (None if nothing is held out), encoded.

    Raises DataError if no training row is left.
    """
    loaded = load(spec.data.path, spec.data.format, spec.data.columns, spec.data.max_rows)
    if loaded.dropped:
        reporter.say(Notice("warning", f"left out of {loaded.path.name}: {describe_dropped(loaded.dropped)}"))
    train, held_out = split(loaded.rows, spec.data.validation, spec.training.seed)
    if isinstance(spec.data.validation, str):
        held_out = load(spec.data.validation, spec.data.format, spec.data.columns).rows
    train_set = _encoded(spec, train, tokenizer, reporter, "training")
    return train_set, _encoded(spec, held_out, tokenizer, reporter, "validation") if held_out else None


def _encoded(spec: RunSpec, rows: list[Conversation], tokenizer: Any, reporter: Reporter, what: str) -> Dataset:
    """Raises DataError if no row is left."""
    make = encoder(tokenizer)
    limit = spec.training.max_length or 1024
    kept: list[dict[str, list[int]]] = []
    long: list[int] = []
    unusable: dict[str, list[int]] = {}
    for row in rows:
        try:
            one = make(row.messages)
        except ValueError as reason:
            unusable.setdefault(str(reason), []).append(row.line)
            continue
        if len(one.input_ids) > limit:
            long.append(row.line)
            if spec.training.long_rows == "drop":
                continue
            one = Encoded(one.input_ids[:limit], one.labels[:limit])
            if not one.trained:
                unusable.setdefault("the prompt alone is longer than max_length", []).append(row.line)
                continue
        kept.append({"input_ids": one.input_ids, "labels": one.labels})
    if not kept:
        reasons = unusable | ({f"longer than {limit} tokens": long} if long else {})
        hint = (
            "Raise training.max_length, or set training.long_rows=cut."
            if long
            else "Mend the rows, or name a data.template."
        )
        raise DataError(f"No {what} row is left", f"{describe_dropped(reasons)}.", hint)
    _tell(spec, reporter, what, kept, long, unusable)
    return Dataset.from_list(kept)


def _tell(spec: RunSpec, reporter: Reporter, what: str, kept: list[dict[str, list[int]]], long: list[int],
          unusable: dict[str, list[int]]) -> None:  # fmt: skip
    tokens = sum(len(row["input_ids"]) for row in kept)
    trained = sum(label != -100 for row in kept for label in row["labels"])
    reporter.say(Notice("note", f"{what}: {len(kept):,} rows, {tokens:,} tokens, {trained:,} of them trained"))
    if long:
        did = "dropped" if spec.training.long_rows == "drop" else "cut, so that they lose their end token"
        text = describe_dropped({f"longer than {spec.training.max_length} tokens, {did}": long})
        reporter.say(Notice("warning", f"{what}: {text}", "Raise training.max_length, or shorten the rows."))
    if unusable:
        reporter.say(Notice("warning", f"{what}, left out: {describe_dropped(unusable)}"))
