"""The rows of a run in the columns that Axolotl's prompt strategies read, and what its file says of them."""

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from engine.data.formats import Value, is_conversational
from engine.data.prepare import chosen_rows, select
from engine.data.rows import Row, rows_of, sources, validation_source
from engine.data.turns import Turn
from engine.errors import DataError
from engine.spec import RunSpec

Shaped = tuple[str, dict[str, Any], dict[str, Any]]
"""A name for the shape, what the data set's entry says of it, the row."""


def write_rows(spec: RunSpec, folder: Path) -> tuple[dict[str, Any], int]:
    """(`datasets` and `test_datasets`, number of training rows). Raises DataError for rows that Axolotl has no columns for."""
    shape = SHAPES.get(spec.objective or "sft", _instruction)
    counts, entry, first = {"train": 0, "validation": 0}, dict[str, Any](), ""
    with (
        (folder / "train.jsonl").open("w", encoding="utf-8") as train,
        (folder / "validation.jsonl").open("w", encoding="utf-8") as validation,
    ):
        for row, often in _rows(spec):
            name, described, made = shape(row.value)
            if first and name != first:
                raise DataError("Axolotl cannot read these rows", f"Some are {first}, some {name}: a data set has one type.",
                                "Export the run with --to trl.")  # fmt: skip
            first, entry = name, described
            file, which = (train, "train") if often else (validation, "validation")
            line = json.dumps(made, ensure_ascii=False) + "\n"
            for _ in range(often or 1):
                file.write(line)
                counts[which] += 1
    found: dict[str, Any] = {"datasets": [_entry("train.jsonl", entry)]}
    if counts["validation"]:
        found["test_datasets"] = [_entry("validation.jsonl", entry)]
    else:
        (folder / "validation.jsonl").unlink()
    return found, counts["train"]


def _entry(path: str, described: dict[str, Any]) -> dict[str, Any]:
    return {
        "path": path,
        "ds_type": "json",
        "split": "train",
        **copy.deepcopy(described),
    }  # YAML would write a reference


def _rows(spec: RunSpec) -> Iterator[tuple[Row, int]]:
    """The rows in their order, with how often each is trained on: 0 is held out."""
    found, outside = sources(spec.data), validation_source(spec.data)
    yield from chosen_rows(found, spec.data, select(found, spec.data, spec.training.seed))
    yield from ((row, 0) for row in rows_of(outside, spec.data) if isinstance(row, Row))


def _instruction(value: Value) -> Shaped:
    """Conversations; a prompt and its completion, of which only the latter is trained; text."""
    tools = {"tools": json.dumps(value["tools"], ensure_ascii=False)} if "tools" in value else {}
    if "text" in value:
        return "text", {"type": "completion", "field": "text"}, {"text": value["text"]}
    if "messages" in value:
        described = {
            "type": "chat_template",
            "field_messages": "messages",
            "roles_to_train": ["assistant"],
            "train_on_eos": "turn",
        }
        return "conversations", described, {"messages": value["messages"], **tools}
    if not is_conversational(value):
        fields = {"field_instruction": "prompt", "field_output": "completion", "format": "{instruction}",
                  "no_input_format": "{instruction}"}  # fmt: skip
        return "prompts and completions", {"type": fields}, {name: value[name] for name in ("prompt", "completion")}
    turns = [{**turn, "train": False} for turn in value["prompt"]] + [
        {**turn, "train": True} for turn in value["completion"]
    ]
    described = {"type": "chat_template", "field_messages": "messages", "message_field_training": "train",
                 "roles_to_train": [], "train_on_eos": "turn"}  # fmt: skip
    return "conversations with a completion", described, {"messages": turns, **tools}


def _pair(value: Value) -> Shaped:
    """Two answers to one prompt, for DPO."""
    if not is_conversational(value):
        fields = {f"field_{name}": name for name in ("prompt", "chosen", "rejected")}
        return "pairs of text", {"type": fields}, {name: value[name] for name in ("prompt", "chosen", "rejected")}
    described = {"type": "chat_template.default", "field_messages": "messages", "field_chosen": "chosen",
                 "field_rejected": "rejected"}  # fmt: skip
    row = {"messages": value["prompt"], "chosen": _single(value["chosen"]), "rejected": _single(value["rejected"])}
    return "pairs", described, row


def _single(turns: list[Turn]) -> Turn:
    if len(turns) != 1:
        raise DataError("Axolotl cannot read these rows", "Some answers have several turns; it takes the last one alone.",
                        "Export the run with --to trl.")  # fmt: skip
    return turns[0]


def _odds(value: Value) -> Shaped:
    """ORPO reads whole conversations, the system prompt apart, question and answer in turn."""
    prompt, system = _asked(value)
    row = {name: [*prompt, _single(value[name])] for name in ("chosen", "rejected")}
    return "pairs", {"type": "chat_template.argilla"}, row | ({"system": system} if system else {})


def _asked(value: Value) -> tuple[list[Turn], str]:
    """The prompt without its system prompt, and that."""
    turns = value["prompt"]
    if isinstance(turns, str):
        raise DataError("Axolotl cannot read these rows", "It takes conversations for this objective, and these are text.",
                        "Export the run with --to trl.")  # fmt: skip
    system = turns[0]["content"] if turns[0]["role"] == "system" else ""
    return (turns[1:] if system else turns), system


def _judged(value: Value) -> Shaped:
    """KTO reads text: its types for conversations write ChatML or Llama 3 whatever the model's template is."""
    if is_conversational(value):
        prompt, system = _asked(value)
        if len(prompt) != 1 or len(value["completion"]) != 1:
            raise DataError("Axolotl cannot read these rows", "For KTO it takes one question and one answer.",
                            "Export the run with --to trl.")  # fmt: skip
        row = {"system": system, "prompt": prompt[0]["content"], "completion": value["completion"][0]["content"]}
        return "judged answers", {"type": "chatml.prompt_pairs"}, row | {"label": value["label"]}
    fields = {f"field_{name}": name for name in ("prompt", "completion", "label")}
    return "judged texts", {"type": fields}, {name: value[name] for name in ("prompt", "completion", "label")}


def _scored(value: Value) -> Shaped:
    """A reward model reads one question with two answers."""
    prompt, system = _asked(value)
    if len(prompt) != 1:
        raise DataError("Axolotl cannot read these rows", "For a reward model it takes one question and one answer.",
                        "Export the run with --to trl.")  # fmt: skip
    row = {"system": system, "input": prompt[0]["content"]}
    return (
        "scored pairs",
        {"type": "bradley_terry.chat_template"},
        row | {name: _single(value[name])["content"] for name in ("chosen", "rejected")},
    )


SHAPES: dict[str, Callable[[Value], Shaped]] = {"dpo": _pair, "orpo": _odds, "kto": _judged, "reward": _scored}
"""By objective; all others are instructions."""
