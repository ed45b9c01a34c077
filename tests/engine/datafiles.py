"""Files of data for the tests: rows written down, and clean rows of every format, each different from the others."""

import json
from pathlib import Path
from typing import Any

from engine.data.findings import KINDS, SHOWN, Finding
from engine.data.scan import Report, scan
from engine.spec import DataSpec
from engine.text import clean

Json = dict[str, Any]

ANIMALS = ("otter", "heron", "badger", "lynx", "marten", "plover", "vole", "ibex", "stoat", "kestrel")
PLACES = ("river", "cliff", "meadow", "harbour", "quarry", "orchard", "glacier", "marsh", "cellar", "island")
TIMES = ("at dawn", "in the rain", "after harvest", "under a full moon", "during the frost", "before supper")
DEEDS = (
    "hides its food",
    "calls twice",
    "swims upstream",
    "mends the nest",
    "sleeps through noise",
    "guards the young",
)

MODEL_KINDS = {*list(KINDS)[list(KINDS).index("no_template") :], "none_short"}
"""Kinds of findings that only a model has."""


def jsonl(rows: list[Any]) -> str:
    """Each row on its line; text and bytes stand as they are."""
    return "".join((row if isinstance(row, str) else json.dumps(row, ensure_ascii=False)) + "\n" for row in rows)


def write(folder: Path, name: str, content: list[Any] | str | bytes) -> Path:
    """A file with these rows as JSON lines, or with this content."""
    text = jsonl(content) if isinstance(content, list) else content
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def checked(path: Path | str, **options: Any) -> Report:
    """The report on a file, every finding in it fit to be shown."""
    report = scan(DataSpec(path=str(path), **options))
    for finding in report.findings:
        presentable(finding)
    return report


def presentable(finding: Finding) -> None:
    """A sentence in one line, with a hint, bounded lines in order, and nothing that a terminal obeys."""
    assert finding.kind in KINDS
    assert finding.message == clean(finding.message, False)
    assert len(finding.message) < 500
    assert finding.hint
    assert finding.lines == sorted(set(finding.lines))
    assert len(finding.lines) <= min(SHOWN, max(1, finding.count))
    assert finding.count >= 1


def kinds(report: Report) -> dict[str, list[int]]:
    """The lines of every kind of finding."""
    return {finding.kind: finding.lines for finding in report.findings}


def question(i: int) -> str:
    return (
        f"What does the {ANIMALS[i % 10]} of the {PLACES[(i // 10 + 3 * i) % 10]} do {TIMES[i % 6]}, "
        f"and how many of them did observer {101 + 7 * i} count?"
    )


def answer(i: int) -> str:
    return (
        f"It {DEEDS[(i * 5 + i // 6) % 6]} near the {PLACES[(7 * i + 2) % 10]}; the notebook of day {i + 1} says {i * i + 13} of them, "
        f"with {ANIMALS[(i + 4) % 10]} tracks beside {'—' if i % 3 else 'and'} naïve as it sounds {'😀' if i % 7 == 0 else ''}".strip()
        + "."
    )


def alpaca(i: int) -> Json:
    row = {"instruction": question(i), "input": f"Field card {i}, page {i % 9}" if i % 2 else "", "output": answer(i)}
    return row | ({"system": "You know animals."} if i % 5 == 0 else {})


def chat(i: int) -> Json:
    """OpenAI messages: short and long, with and without system, some with tools."""
    turns: list[Json] = [{"role": "system", "content": "Answer from the notebooks."}] if i % 4 == 0 else []
    turns += [{"role": "user", "content": question(i)}, {"role": "assistant", "content": answer(i)}]
    if i % 3 == 0:
        turns += [
            {"role": "user", "content": f"And on day {900 + i}?"},
            {"role": "assistant", "content": f"Only {i + 2} came."},
        ]
    if i % 5:
        return {"messages": turns}
    call = {"id": f"call_{i}", "type": "function", "function": {"name": "count", "arguments": json.dumps({"day": i})}}
    turns[-1:] = [{"role": "assistant", "content": None, "tool_calls": [call]},
                  {"role": "tool", "tool_call_id": f"call_{i}", "content": f"{i + 40}"}, turns[-1]]  # fmt: skip
    return {"messages": turns, "tools": [COUNT]}


COUNT: Json = {"type": "function", "function": {"name": "count", "description": "Counts animals", "parameters": {
    "type": "object", "properties": {"day": {"type": "integer"}}, "required": ["day"]}}}  # fmt: skip


def sharegpt(i: int) -> Json:
    turns = [{"from": "human", "value": question(i)}, {"from": "gpt", "value": answer(i)}]
    if i % 2:
        turns += [
            {"from": "human", "value": f"Who was observer {i}?"},
            {"from": "gpt", "value": f"The {i}th of the list."},
        ]
    return {"conversations": turns} | ({"system": "Be brief."} if i % 3 == 0 else {})


def prompt_completion(i: int) -> Json:
    if i % 2:
        return {"prompt": question(i), "completion": " " + answer(i)}
    return {
        "prompt": [{"role": "user", "content": question(i)}],
        "completion": [{"role": "assistant", "content": answer(i)}],
    }


def text(i: int) -> Json:
    return {"text": f"{question(i)}\n\n{answer(i)}\n{answer(i + 400)}"}


def preference(i: int) -> Json:
    if i % 2:
        return {"prompt": question(i), "chosen": answer(i), "rejected": f"Nobody knows what number {i} means."}
    asked = {"role": "user", "content": question(i)}
    return {"chosen": [asked, {"role": "assistant", "content": answer(i)}],
            "rejected": [asked, {"role": "assistant", "content": f"Number {i} is not in my notebook."}]}  # fmt: skip


def kto(i: int) -> Json:
    return {"prompt": question(i), "completion": answer(i), "label": i % 3 > 0}


CLEAN = {"alpaca": alpaca, "messages": chat, "sharegpt": sharegpt, "prompt_completion": prompt_completion, "text": text,
         "preference": preference, "kto": kto}  # fmt: skip
"""By format, a function from a number to a row."""


def rows(form: str, count: int = 30, first: int = 0) -> list[Json]:
    return [CLEAN[form](i) for i in range(first, first + count)]
