"""Which format a data set has, by the columns of its rows, and its rows in the form that TRL takes."""

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from engine.data.turns import BadRow, Turn, messages_of, tools_of
from engine.spec import Format
from engine.text import clean

Form = Literal["messages", "prompt_completion", "text", "preference", "kto", "prompt"]
"""How TRL has it: SFT on conversations, on prompts and completions, on text; DPO pairs; KTO; GRPO's prompts alone."""
Value = dict[str, Any]
"""A row as TRL takes it: `messages`, `prompt` and `completion`, `text`, or `prompt`, `chosen`, `rejected`; also `tools`."""

SHAPES: dict[str, tuple[tuple[str, ...], ...]] = {
    "preference": (("chosen", "rejected"), ("preferred_output", "non_preferred_output")),
    "kto": (("completion", "label"), ("messages", "label"), ("conversations", "label"), ("conversations", "kto_tag"),
            ("messages", "kto_tag")),
    "messages": (("messages",),),
    "sharegpt": (("conversations",),),
    "alpaca": (("instruction", "output"),),
    "prompt_completion": (("prompt", "completion"),),
    "text": (("text",),),
    "prompt": (("prompt",),),
}  # fmt: skip
"""The columns that make a format, any of the sets; where several fit equally, the first format counts."""
FORMS: dict[str, Form] = {"messages": "messages", "sharegpt": "messages", "alpaca": "messages", "text": "text",
                          "prompt_completion": "prompt_completion", "preference": "preference", "kto": "kto",
                          "prompt": "prompt"}  # fmt: skip
SPECIAL = ("preference", "kto")
"""Formats whose rows look like another format's if a column is missing in them: the label, or the rejected answer."""
OBJECTIVES: dict[str, str] = {"text": "text", "preference": "dpo", "kto": "kto", "prompt": "grpo"}
"""What a form is for, where it is not sft."""
SIMILAR = {"instruction": ("instruction", "question", "query", "prompt", "input", "problem", "user", "human", "request"),
           "output": ("output", "answer", "response", "completion", "reply", "target", "solution", "assistant", "label")}  # fmt: skip
NAMES = tuple(name for name in get_args(Format) if name != "prompt")
"""Those that are told from the columns: a prompt alone is more often a row that lacks its answer."""


@dataclass(frozen=True)
class Detected:
    """A format (None: no one knows), and what speaks for it; `suggestion` is a column mapping that might help."""

    format: Format | None
    evidence: str
    columns: tuple[str, ...]
    suggestion: dict[str, str]


def rename(row: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    """The row with our names beside the file's. Raises BadRow if a mapped column is absent."""
    absent = [theirs for theirs in columns.values() if theirs not in row]
    if absent:
        raise BadRow("missing_field", f"{clean(absent[0], False)[:40]} is missing")
    return {**row, **{ours: row[theirs] for ours, theirs in columns.items()}}


def fits(row: Mapping[str, Any], name: str) -> bool:
    """Whether the row has the columns of that format."""
    if not any(all(row.get(column) is not None for column in shape) for shape in SHAPES[name]):
        return False
    return name != "kto" or _truth(row.get("label", row.get("kto_tag"))) is not None


def _truth(label: Any) -> bool | None:
    """A label as true or false, None if it is neither."""
    if isinstance(label, str):
        return {"true": True, "false": False, "1": True, "0": False}.get(label.strip().lower())
    return bool(label) if label in (True, False) else None


def detect(rows: Iterable[Mapping[str, Any]], wanted: str | None = None) -> Detected:
    """The format that most of these rows have."""
    rows = list(rows)
    counts = {name: sum(fits(row, name) for row in rows) for name in ([wanted] if wanted else NAMES)}
    columns = tuple(dict.fromkeys(key for row in rows for key in row))
    best = max(counts, key=lambda name: counts[name])  # the first of equals
    if not counts[best]:
        return Detected(None, _without(columns, wanted), columns, _suggestion(columns))
    same = [row for row in rows if fits(row, best)]
    best = next((special for special in SPECIAL if special in counts and _are_rather(same, special)), best)
    shape = next(s for s in SHAPES[best] if any(all(column in row for column in s) for row in rows))
    extra = [
        c
        for c in ("input", "system", "tools", "prompt", "conversations", "messages")
        if c in columns and c not in shape
    ]
    have = f"every one of {len(rows):,}" if counts[best] == len(rows) else f"{counts[best]:,} of {len(rows):,}"
    also = f", with {', '.join(extra)}" if extra else ""
    return Detected(best, f"{', '.join(shape)} in {have} rows{also}", columns, {})  # type: ignore[arg-type]


def _are_rather(rows: list[Mapping[str, Any]], special: str) -> bool:
    """Whether rows of another format are of this one, and some of them lack a column. Labels of many kinds are no KTO."""
    labels = [row.get("label", row.get("kto_tag")) for row in rows]
    others = sum(label is not None and _truth(label) is None for label in labels) if special == "kto" else 0
    return 2 * sum(fits(row, special) for row in rows) > len(rows) >= 10 * others


def _without(columns: tuple[str, ...], wanted: str | None) -> str:
    there = ", ".join(clean(column, False)[:30] for column in columns[:12]) or "no columns"
    expected = "; ".join(f"{n} ({', '.join(SHAPES[n][0])})" for n in ([wanted] if wanted else NAMES))
    return (
        f"the columns are {there}; wanted is one of {expected}"
        if not wanted
        else f"the columns are {there}; {expected} is wanted"
    )


def _suggestion(columns: tuple[str, ...]) -> dict[str, str]:
    """A mapping for columns whose names say what they are."""
    lower = {column.lower(): column for column in columns}
    found: dict[str, str] = {}
    for ours, words in SIMILAR.items():
        near = next((word for word in words if word in lower), None)
        near = near or next((m for word in words for m in difflib.get_close_matches(word, list(lower), 1, 0.8)), None)
        if near and lower[near] not in found.values():
            found[ours] = lower[near]
    return found if len(found) == len(SIMILAR) else {}


def convert(row: Mapping[str, Any], name: Format) -> Value:
    """A row of that format as TRL takes it. Raises BadRow with the reason why it cannot be trained on."""
    if not fits(row, name):
        raise _unfit(row, name)
    value = CONVERT[name](row)
    tools = tools_of(row.get("tools"))
    return value | {"tools": tools} if tools else value


def _unfit(row: Mapping[str, Any], name: Format) -> BadRow:
    """What a row lacks that has none of the format's sets of columns: some columns, or it is of another format."""
    lacking = [[c for c in shape if row.get(c) is None] for shape in SHAPES[name]]
    lacks, shape = min(zip(lacking, SHAPES[name], strict=True), key=lambda pair: len(pair[0]))
    if not lacks:
        return BadRow("missing_field", "label is neither true nor false")
    other = next((n for n in NAMES if n != name and fits(row, n)), None)
    touched = len(lacks) < len(shape) and (name in SPECIAL or all(column in row for column in lacks))
    if other and not touched:
        return BadRow("mixed_formats", f"a row of the format {other}")
    return BadRow("missing_field", f"{', '.join(lacks)} {'is' if len(lacks) == 1 else 'are'} missing")


def _alpaca(row: Mapping[str, Any]) -> Value:
    return {"messages": [*_question(row), {"role": "assistant", "content": _answer(row, "output")}]}


def _question(row: Mapping[str, Any]) -> list[Turn]:
    """What Alpaca rows ask: system, earlier turns (history), instruction and input."""
    prompt, extra = _string(row, "instruction"), row.get("input") or ""
    if not isinstance(extra, str):
        raise BadRow("missing_field", "input is no text")
    if not (prompt.strip() or extra.strip()):
        raise BadRow("empty_field", "instruction is empty")
    turns: list[Turn] = (
        [{"role": "system", "content": s}] if isinstance(s := row.get("system"), str) and s.strip() else []
    )
    history = row.get("history") or []
    for pair in history if isinstance(history, list) else [history]:
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair)):
            raise BadRow("missing_field", "history is no list of question and answer")
        turns += [{"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]}]
    text = f"{prompt}\n\n{extra}" if extra.strip() and prompt.strip() else prompt or extra
    return [*turns, {"role": "user", "content": text}]


def _string(row: Mapping[str, Any], column: str) -> str:
    if row.get(column) is None:
        raise BadRow("missing_field", f"{column} is missing")
    if not isinstance(row[column], str):
        raise BadRow("missing_field", f"{column} is no text")
    return str(row[column])


def _answer(row: Mapping[str, Any], column: str) -> str:
    text = _string(row, column)
    if not text.strip():
        raise BadRow("empty_field", f"{column} is empty")
    return text


def _conversation(row: Mapping[str, Any]) -> Value:
    column = "messages" if row.get("messages") is not None else "conversations"
    messages = messages_of(row[column], column)
    system = row.get("system")
    if isinstance(system, str) and system.strip() and messages[0]["role"] != "system":
        messages = [{"role": "system", "content": system}, *messages]
    answers = [m for m in messages if m["role"] == "assistant"]
    if not answers:
        raise BadRow("no_assistant", "no assistant turn")
    if not any(m["content"].strip() or m.get("tool_calls") for m in answers):
        raise BadRow("empty_field", "the assistant's turns are empty")
    return {"messages": messages}


def _prompt_completion(row: Mapping[str, Any]) -> Value:
    prompt, completion = row["prompt"], row["completion"]
    if isinstance(prompt, str) and isinstance(completion, str):
        return {"prompt": prompt, "completion": _answer(row, "completion")}
    if isinstance(prompt, str):
        prompt = [{"role": "user", "content": prompt}]
    if isinstance(completion, str):
        completion = [{"role": "assistant", "content": completion}]
    return {"prompt": messages_of(prompt, "prompt"), "completion": _said(completion, "completion")}


def _said(turns: Any, column: str) -> list[Turn]:
    """The turns of an answer: the assistant's, not empty."""
    messages = messages_of([{"role": "assistant", "content": turns}] if isinstance(turns, str) else turns, column)
    if not any(m["role"] == "assistant" for m in messages):
        raise BadRow("no_assistant", f"{column} has no assistant turn")
    if not any(m["content"].strip() or m.get("tool_calls") for m in messages if m["role"] == "assistant"):
        raise BadRow("empty_field", f"{column} is empty")
    return messages


def _text(row: Mapping[str, Any]) -> Value:
    return {"text": _answer(row, "text")}


def _preference(row: Mapping[str, Any]) -> Value:
    """TRL's chosen and rejected; ShareGPT's ranking; OpenAI's preferred_output; Alpaca with chosen and rejected."""
    if row.get("chosen") is None or row.get("rejected") is None:
        source = row.get("input") or {}
        prompt: Any = messages_of(source.get("messages") if isinstance(source, dict) else source, "input.messages")
        chosen, rejected = row["preferred_output"], row["non_preferred_output"]
        value: Value = {"tools": t} if isinstance(source, dict) and (t := tools_of(source.get("tools"))) else {}
    else:
        prompt, chosen, rejected, value = _asked(row), row["chosen"], row["rejected"], {}
    if isinstance(prompt, str) and isinstance(chosen, str) and isinstance(rejected, str):
        if chosen == rejected:
            raise BadRow("no_difference", "chosen and rejected are the same")
        return {"prompt": prompt, "chosen": _answer(row, "chosen"), "rejected": _answer(row, "rejected")}
    if prompt is None and isinstance(chosen, str) and isinstance(rejected, str):
        return _texts_apart(row)
    if isinstance(prompt, str):
        prompt = [{"role": "user", "content": prompt}]
    good, bad = _said(chosen, "chosen"), _said(rejected, "rejected")
    if good == bad:
        raise BadRow("no_difference", "chosen and rejected are the same")
    repeated = good[0]["role"] in ("system", "user")  # the prompt, before the answers: so in UltraFeedback
    if prompt is None or repeated:
        shared = _shared(good, bad)
        prompt, good, bad = good[:shared], good[shared:], bad[shared:]
    if not prompt:
        raise BadRow("missing_field", "no prompt, and chosen and rejected begin differently")
    return value | {"prompt": prompt, "chosen": good, "rejected": bad}


def _shared(good: Sequence[Any], bad: Sequence[Any]) -> int:
    """How long the common beginning is; something of both is left."""
    differing = (i for i, (a, b) in enumerate(zip(good, bad, strict=False)) if a != b)
    return next(differing, min(len(good), len(bad)) - 1)


def _texts_apart(row: Mapping[str, Any]) -> Value:
    """A pair of texts without a prompt: their common beginning is it, cut as TRL's extract_prompt cuts it."""
    good, bad = _answer(row, "chosen"), _answer(row, "rejected")
    if good == bad:
        raise BadRow("no_difference", "chosen and rejected are the same")
    shared = _shared(good, bad)
    shared -= good[shared - 1 : shared] == " "
    if not good[:shared].strip():
        raise BadRow("missing_field", "no prompt, and chosen and rejected begin differently")
    if not (good[shared:].strip() and bad[shared:].strip()):
        raise BadRow("empty_field", "nothing is left of an answer behind what chosen and rejected share")
    return {"prompt": good[:shared], "chosen": good[shared:], "rejected": bad[shared:]}


def _asked(row: Mapping[str, Any]) -> Any:
    """The prompt of a pair: text, turns, or None if chosen and rejected carry it themselves."""
    for column in ("conversations", "messages"):
        if row.get(column) is not None:
            turns = messages_of(row[column], column)
            system = row.get("system")
            known = isinstance(system, str) and system.strip() and turns[0]["role"] != "system"
            return [{"role": "system", "content": system}, *turns] if known else turns
    if row.get("instruction") is not None:
        return _question(row)
    prompt = row.get("prompt")
    return prompt if prompt is None or isinstance(prompt, str) else messages_of(prompt, "prompt")


def _kto(row: Mapping[str, Any]) -> Value:
    label = _truth(row.get("label", row.get("kto_tag")))
    if label is None:
        raise BadRow("missing_field", "label is neither true nor false")
    if row.get("completion") is not None:
        if row.get("prompt") is None:
            raise BadRow("missing_field", "prompt is missing")
        return _prompt_completion(row) | {"label": label}
    messages = _conversation(row)["messages"]
    if messages[-1]["role"] != "assistant":
        raise BadRow("no_assistant", "the conversation does not end with the assistant")
    if len(messages) == 1:
        raise BadRow("missing_field", "no question comes before the answer")
    return {"prompt": messages[:-1], "completion": _said(messages[-1:], "the last turn"), "label": label}


def _prompt(row: Mapping[str, Any]) -> Value:
    """A question alone, and the other columns of the row: reward functions get them by name."""
    prompt = row["prompt"]
    if isinstance(prompt, str) and not prompt.strip():
        raise BadRow("empty_field", "prompt is empty")
    columns = {
        name: value for name, value in row.items() if name not in ("prompt", "completion", "completions", "tools")
    }
    return {"prompt": prompt if isinstance(prompt, str) else messages_of(prompt, "prompt"), "columns": columns}


CONVERT: dict[str, Callable[[Mapping[str, Any]], Value]] = {
    "alpaca": _alpaca, "sharegpt": lambda row: _conversation({**row, "messages": None}), "messages": _conversation, "prompt_completion": _prompt_completion,
    "text": _text, "preference": _preference, "kto": _kto, "prompt": _prompt,
}  # fmt: skip


def turns_of(value: Value) -> list[Turn]:
    """All messages of a row, in order; of a pair the chosen answer; none for plain text."""
    if "messages" in value:
        return list(value["messages"])
    parts = [value.get("prompt"), value.get("completion", value.get("chosen"))]
    return [turn for part in parts if isinstance(part, list) for turn in part]


def is_conversational(value: Value) -> bool:
    return bool(turns_of(value))


def split_text(value: Value) -> tuple[str, str]:
    """What is given and what is learned, as plain text without a template: for checks and for finding duplicates."""
    if "text" in value:
        return "", str(value["text"])
    turns = turns_of(value)
    if not turns:
        return str(value["prompt"]), str(value.get("completion", value.get("chosen", "")))
    asked = "\n".join(t["content"] for t in turns if t["role"] != "assistant")
    return asked, "\n".join(t["content"] + _called(t) for t in turns if t["role"] == "assistant")


def whole_text(value: Value) -> str:
    """All that a row says, the rejected answer of a pair too."""
    rejected = [split_text({**value, "chosen": value["rejected"]})[1]] if "rejected" in value else []
    return "\n".join((*split_text(value), *rejected))


def _called(turn: Turn) -> str:
    return "".join(f" {c['function']['name']} {c['function']['arguments']}" for c in turn.get("tool_calls") or [])
