"""The data sets of an Axolotl file: `type` says there what the columns are and how the prompt is written."""

import os
from pathlib import Path
from typing import Any

from engine.exchange.reading import Left, Reading

TEMPLATE = "answers are written with the chat template here"
COLUMNS = {  # by the last part of a preference type: what holds the question
    "intel": {"prompt": "question"}, "icr": {"prompt": "input"}, "argilla": {"prompt": "instruction"},
}  # fmt: skip


def read_data(reading: Reading, here: Path) -> None:
    """`datasets` with paths, weights, columns and template; `test_datasets` and `val_set_size` are the validation."""
    sets = reading.take("datasets") or reading.take("pretraining_dataset") or []
    sets = [
        dict(one) if isinstance(one, dict) else {"path": one} for one in (sets if isinstance(sets, list) else [sets])
    ]
    described = [_described(one, number, reading, here) for number, one in enumerate(sets)]
    if described:
        reading.put("data.path", described[0][0] if len(sets) == 1 and described[0][1] == 1 else
                    [{"path": path, "weight": weight} for path, weight, _ in described])  # fmt: skip
        for name, value in described[0][2].items():
            reading.put(f"data.{name}", value)
        for number, (_, _, data) in enumerate(described[1:], 1):
            if data != described[0][2]:
                reading.leave(
                    f"datasets.{number}.type",
                    sets[number].get("type"),
                    "the data sets of a run have one format, the first's",
                )
    _validation(reading, here)
    _template(reading, here)
    if reading.take("dataset_exact_deduplication"):
        reading.put("data.filters.duplicates", "exact")


def _described(one: dict[str, Any], number: int, reading: Reading, here: Path) -> tuple[str, float, dict[str, Any]]:
    """(path, weight, what else of the data section) of one data set."""
    inner = Reading(dict(one))
    path = _path(inner, here)
    weight = float(inner.take("weight", 1.0))
    kind = inner.take("type")
    data = _by_fields(kind, inner) if isinstance(kind, dict) else _by_name(str(kind or ""), inner)
    template = inner.take("conversation") or inner.take("chat_template")
    if template in ("chatml", "alpaca"):
        data["template"] = template
    elif template not in (None, "tokenizer_default"):
        inner.leave("chat_template", template, "the model's own template is taken; name another with data.template")
    inner.take("ds_type")  # told from the file
    for key, ours in (("roles_to_train", (["assistant"], [])), ("train_on_eos", ("turn",))):
        if inner.open.get(key) in ours:
            inner.take(key)
    inner.rest({"message_field_training": "all of the assistant's turns are trained",
                "roles_to_train": "the assistant's turns are trained", "train_on_eos": "the end of each answer is trained",
                "train_on_inputs": "the answers are trained, not the questions"}, "TuneDeck has no such setting")  # fmt: skip
    reading.left += [Left(f"datasets.{number}.{left.key}", left.value, left.why) for left in inner.left]
    return path, weight, data


def _path(one: Reading, here: Path) -> str:
    """A file that is here, or `owner/name@config:split` of the hub."""
    path, files = str(one.take("path") or ""), one.take("data_files")
    files = [files] if isinstance(files, str) else files or []
    name, split = one.take("name"), one.take("split")
    if files and (path in ("json", "parquet", "csv", "text") or Path(files[0]).exists()):
        if len(files) > 1:
            one.leave("data_files", files[1:], "one file a data set: list the others under data.path")
        return found(files[0], here)
    one.leave("data_files", files, "a data set of the hub is taken whole, by its split")
    local = found(path, here)
    if Path(local).exists() or path.startswith((".", "/", "~")):
        one.leave("split", split if split != "train" else None, "a file has no splits")
        return local
    return path + (f"@{name}" if name else "") + (f":{split}" if split else "")


def found(path: str, here: Path) -> str:
    """A path as it stands, or where it lies if that is beside the file that names it."""
    beside = here / path
    return os.path.abspath(beside) if path and not Path(path).exists() and beside.exists() else path


def _by_name(kind: str, one: Reading) -> dict[str, Any]:
    """A type that Axolotl knows by name."""
    head, _, tail = kind.partition(".")
    if head == "chat_template" or kind in ("", "messages"):
        return _conversation(one)
    if head == "sharegpt":
        return {"format": "sharegpt"}
    if head.startswith("alpaca"):
        return {"format": "alpaca", "template": "alpaca"}
    if head in ("completion", "pretrain"):
        text = one.take("field", one.take("text_column"))
        return {"format": "text", "columns": {"text": text}} if text not in (None, "text") else {"format": "text"}
    if head in ("chatml", "llama3", "zephyr") and tail:
        template = {"template": "chatml"} if head == "chatml" else {}
        columns = COLUMNS.get(tail)
        return template | ({"columns": columns} if columns else {})
    if head == "bradley_terry":
        return {"format": "preference", "columns": {"prompt": "input"}}
    one.leave("type", kind, f"the format is told from the columns, and {TEMPLATE}")
    return {}


def _conversation(one: Reading) -> dict[str, Any]:
    """Messages, and of preference data the answers."""
    names = {
        "messages": one.take("field_messages"),
        "chosen": one.take("field_chosen"),
        "rejected": one.take("field_rejected"),
    }
    columns = {ours: theirs for ours, theirs in names.items() if theirs not in (None, ours)}
    keys = one.take("message_property_mappings", {})
    keys = {"role": one.take("message_field_role", keys.get("role", "role")),
            "content": one.take("message_field_content", keys.get("content", "content"))}  # fmt: skip
    if keys["role"] not in ("role", "from") or keys["content"] not in ("content", "value"):
        one.leave("message_property_mappings", keys, "turns have role and content, or from and value")
    if columns == {"messages": "conversations"}:
        return {}  # told from the columns
    return {"columns": columns} if columns else {}


def _by_fields(kind: dict[str, Any], one: Reading) -> dict[str, Any]:
    """A type that the file describes by its fields; how it writes the prompt around them is left."""
    fields = {key.removeprefix("field_"): value for key, value in kind.items() if key.startswith("field_") and value}
    plain = ("{instruction}", "{prompt}", "{chosen}", "{rejected}", "{completion}", None)
    for key, value in kind.items():
        if not key.startswith("field_") and value not in plain:
            one.leave(f"type.{key}", value, TEMPLATE)
    if "chosen" in fields or "completion" in fields:
        format_ = "preference" if "chosen" in fields else "kto"
    elif kind.get("format") in plain and "input" not in fields and "system" not in fields:
        format_, fields = "prompt_completion", {"prompt": fields.get("instruction", "instruction"),
                                                "completion": fields.get("output", "output")}  # fmt: skip
    else:
        format_ = "alpaca"
    columns = {ours: theirs for ours, theirs in fields.items() if ours != theirs}
    return {"format": format_} | ({"columns": columns} if columns else {})


def _validation(reading: Reading, here: Path) -> None:
    tests, share = reading.take("test_datasets") or [], reading.take("val_set_size")
    if tests:
        one = Reading(dict(tests[0]))
        reading.put("data.validation", _path(one, here))
        reading.leave("test_datasets", tests[1:], "one file of validation rows: the first")
    elif share:
        reading.put("data.validation", share if share < 1 else int(share))


def _template(reading: Reading, here: Path) -> None:
    """The template of the whole file goes before what a data set's type suggests."""
    named, source = reading.take("chat_template"), reading.take("chat_template_jinja")
    if named in ("chatml", "alpaca"):
        reading.put("data.template", named)
    elif source and "\n" not in source and "{" not in source:
        reading.put("data.template", found(source, here))
    elif source:
        reading.leave("chat_template_jinja", source, "save it as a file, and name that as data.template")
    elif named not in (None, "tokenizer_default"):
        reading.leave("chat_template", named, "the model's own template is taken; name another with data.template")
