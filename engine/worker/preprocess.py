"""Rows to token ids and labels by TRL's own preprocessing, the same for `data show` as for training."""

import contextlib
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any
from unittest import mock

from jinja2 import TemplateError
from trl import DPOTrainer, KTOTrainer, SFTTrainer
from trl.trainer import dpo_trainer, kto_trainer, sft_trainer

from engine.data.formats import Value, is_conversational
from engine.data.markers import marked
from engine.data.tokens import last_answer, tools_used

BATCH = 500
"""Rows that go through TRL at once."""
SILENT = SimpleNamespace(warning_once=lambda *_: None)
Ids = dict[str, Any]
"""`input_ids` and `labels`; of a preference pair `prompt_ids`, `chosen_ids` and `rejected_ids`; of KTO `prompt_ids`,
`completion_ids` and the `label`; of a prompt alone `prompt_ids`."""


class Rows(list[dict[str, Any]]):
    """As much of a datasets.Dataset as TRL's preprocessing uses. Arrow would give all tool calls the same arguments, with
    null for those that a call does not have, and the template would write the nulls."""

    column_names = None

    def map(self, function: Callable[..., dict[str, Any]], fn_kwargs: dict[str, Any] | None = None,
            remove_columns: str | list[str] | None = None, **_: Any) -> "Rows":  # fmt: skip
        gone = {remove_columns} if isinstance(remove_columns, str) else set(remove_columns or ())
        made = ({**row, **function(row, **(fn_kwargs or {}))} for row in self)
        return Rows({name: value for name, value in row.items() if name not in gone} for row in made)

    def filter(self, function: Callable[[dict[str, Any]], bool], **_: Any) -> "Rows":
        return Rows(row for row in self if function(row))


class Unusable(ValueError):
    """A row that the template refuses, or that leaves nothing to train on: the kind of finding."""


def preprocess(values: list[Value], tokenizer: Any) -> Iterator[Ids | Unusable]:
    """Each row's ids, whole: nothing is cut here. What cannot be trained on is an Unusable in its place."""
    for start in range(0, len(values), BATCH):
        yield from _batch(values[start : start + BATCH], tokenizer)


def _batch(values: list[Value], tokenizer: Any) -> Iterator[Ids | Unusable]:
    """All at once if they are of one kind and none is bad, which is usual; else the halves."""
    kinds = {kind_of(value, tokenizer) for value in values}
    if len(kinds) == 1:
        try:
            yield from _prepare(values, kinds.pop(), tokenizer)
            return
        except (TemplateError, RuntimeError, TypeError, ValueError, KeyError, AttributeError) as error:
            if len(values) == 1:
                yield Unusable(_reason(error))
                return
    middle = len(values) // 2
    yield from _batch(values[:middle], tokenizer)
    yield from _batch(values[middle:], tokenizer)


def _reason(error: Exception) -> str:
    if isinstance(error, RuntimeError) and "assistant" in str(error):
        return "nothing_trained"
    return "template_refuses"


def kind_of(value: Value, tokenizer: Any) -> tuple[str, bool, str | None]:
    """The form, whether it is a conversation, and the template with generation markers where TRL is to use them."""
    if "messages" in value:
        template = training_template(tokenizer, tools_used(value["messages"], value.get("tools")))
        return ("messages" if template else "last answer"), True, template
    form = next(name for name in ("text", "rejected", "label", "completion", "prompt") if name in value)
    return form, is_conversational(value), None


def training_template(tokenizer: Any, tools: bool) -> str | None:
    """The tokenizer's template with generation markers, None if they cannot be added."""
    if not tokenizer.chat_template:
        return None
    return marked(tokenizer.chat_template, tuple(sorted(tokenizer.special_tokens_map.items(), key=str)), tools)


def _prepare(values: list[Value], kind: tuple[str, bool, str | None], tokenizer: Any) -> list[Ids]:
    form, _, template = kind
    if form == "last answer":
        pairs = [last_answer(value["messages"]) for value in values]
        extra = [{"tools": value["tools"]} if "tools" in value else {} for value in values]
        values = [{"prompt": p, "completion": c} | more for (p, c), more in zip(pairs, extra, strict=True)]
    arguments = SimpleNamespace(
        dataset_num_proc=None, dataset_text_field="text", assistant_only_loss=form == "messages", max_length=None,
        truncation_mode="keep_start", shuffle_dataset=False,
    )  # fmt: skip
    trainer = SimpleNamespace(
        _tokenizer=tokenizer, chat_template=template, completion_only_loss="completion" in values[0], calculate_KL=False
    )
    with contextlib.ExitStack() as stack:
        for module in (sft_trainer, dpo_trainer, kto_trainer):
            # Which process goes first is settled by the lock in dataset.py: a barrier inside it would wait for ever
            stack.enter_context(mock.patch.object(module, "global_then_local_main_first", contextlib.nullcontext))
            # accelerate's logger raises before there is a process group
            stack.enter_context(mock.patch.object(module, "logger", SILENT))
        return _prepared_by_trl(trainer, values, form, tokenizer, arguments)


def _prepared_by_trl(trainer: Any, values: list[Value], form: str, tokenizer: Any, arguments: Any) -> list[Ids]:
    if form == "rejected":
        made = DPOTrainer._prepare_dataset(trainer, Rows(values), tokenizer, arguments, "train")
        return [{name: list(row[name]) for name in ("prompt_ids", "chosen_ids", "rejected_ids")} for row in made]
    if form == "label":
        made = KTOTrainer._prepare_dataset(trainer, Rows(values), tokenizer, arguments, "eval")
        return [{n: list(row[n]) for n in ("prompt_ids", "completion_ids")} | {"label": row["label"]} for row in made]
    if form == "prompt":
        return [{"prompt_ids": _asked(value, tokenizer)} for value in values]
    made = SFTTrainer._prepare_dataset(trainer, Rows(values), tokenizer, arguments, False, None, "train")
    return [{name: list(row[name]) for name in ("input_ids", "labels")} for row in made]


def _asked(value: Value, tokenizer: Any) -> list[int]:
    """A prompt as GRPOTrainer gives it to the model."""
    if isinstance(value["prompt"], str):
        return list(tokenizer(value["prompt"])["input_ids"])
    ids = tokenizer.apply_chat_template(
        value["prompt"], add_generation_prompt=True, tools=value.get("tools"), return_dict=True
    )
    return list(ids["input_ids"])
