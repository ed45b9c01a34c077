"""Rows of every format, in every shape that people write them down in, as TRL takes them."""

import json
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.data.findings import KINDS
from engine.data.formats import (
    CONVERT,
    FORMS,
    NAMES,
    SHAPES,
    convert,
    detect,
    fits,
    rename,
    split_text,
    turns_of,
    whole_text,
)
from engine.data.rows import Bad, Row, first_question, rows_of, sources, with_system
from engine.data.turns import ROLES, BadRow, messages_of, order_problem, tools_of
from engine.errors import DataError
from engine.spec import DataSpec, Format
from tests.engine.datafiles import CLEAN, checked, rows, write

Json = dict[str, Any]


def user(text: str) -> Json:
    return {"role": "user", "content": text}


def assistant(text: str, **more: Any) -> Json:
    return {"role": "assistant", "content": text, **more}


def system(text: str) -> Json:
    return {"role": "system", "content": text}


def call(name: str = "find", arguments: Any = None, **more: Any) -> Json:
    """A tool call as templates take it."""
    return {"type": "function", "function": {"name": name, "arguments": {} if arguments is None else arguments}, **more}


FIND: Json = {"name": "find", "description": "Finds", "parameters": {"type": "object", "properties": {}}}
NESTED: Json = {"type": "function", "function": FIND}
ASKED, SAID = user("1+1?"), assistant("2")


def only(path: Path, **options: Any) -> list[Row | Bad]:
    data = DataSpec(path=str(path), **options)
    return list(rows_of(sources(data), data))


ACCEPTED: list[tuple[str, Format, Json, Json]] = [
    # Alpaca
    ("alpaca", "alpaca", {"instruction": "1+1?", "output": "2"}, {"messages": [ASKED, SAID]}),
    ("alpaca, empty input", "alpaca", {"instruction": "1+1?", "input": "", "output": "2"}, {"messages": [ASKED, SAID]}),
    ("alpaca, no input", "alpaca", {"instruction": "1+1?", "input": None, "output": "2"}, {"messages": [ASKED, SAID]}),
    ("alpaca, input", "alpaca", {"instruction": "Sum up", "input": "A text", "output": "Short"},
     {"messages": [user("Sum up\n\nA text"), assistant("Short")]}),
    ("alpaca, only input", "alpaca", {"instruction": "", "input": "only input", "output": "x"},
     {"messages": [user("only input"), assistant("x")]}),
    ("alpaca, blank input", "alpaca", {"instruction": "1+1?", "input": " \n", "output": " padded "},
     {"messages": [user("1+1?"), assistant(" padded ")]}),
    ("alpaca, system", "alpaca", {"instruction": "1+1?", "output": "2", "system": "Be brief"},
     {"messages": [system("Be brief"), ASKED, SAID]}),
    ("alpaca, blank system", "alpaca", {"instruction": "1+1?", "output": "2", "system": " "}, {"messages": [ASKED, SAID]}),
    ("alpaca, history", "alpaca", {"instruction": "And 2+2?", "output": "4", "history": [["1+1?", "2"], ["Sure?", "Yes"]],
                                   "system": "Count"},
     {"messages": [system("Count"), ASKED, SAID, user("Sure?"), assistant("Yes"), user("And 2+2?"), assistant("4")]}),
    ("alpaca, history of CSV", "alpaca", {"instruction": "1+1?", "output": "2", "history": ""}, {"messages": [ASKED, SAID]}),
    ("alpaca, tools", "alpaca", {"instruction": "1+1?", "output": "2", "tools": [FIND]},
     {"messages": [ASKED, SAID], "tools": [NESTED]}),
    # ShareGPT
    ("sharegpt", "sharegpt", {"conversations": [{"from": "human", "value": "1+1?"}, {"from": "gpt", "value": "2"}]},
     {"messages": [ASKED, SAID]}),
    ("sharegpt, system", "sharegpt",
     {"conversations": [{"from": "human", "value": "1+1?"}, {"from": "gpt", "value": "2"}], "system": "Be brief"},
     {"messages": [system("Be brief"), ASKED, SAID]}),
    ("sharegpt, system twice", "sharegpt",
     {"conversations": [{"from": "system", "value": "A"}, {"from": "human", "value": "1+1?"}, {"from": "gpt", "value": "2"}],
      "system": "B"},
     {"messages": [system("A"), ASKED, SAID]}),
    ("sharegpt, tools", "sharegpt",
     {"conversations": [{"from": "human", "value": "Where?"},
                        {"from": "function_call", "value": '{"name": "find", "arguments": {"what": "lamb"}}'},
                        {"from": "observation", "value": '{"place": "hill"}'}, {"from": "gpt", "value": "On the hill."}],
      "tools": json.dumps([FIND])},
     {"messages": [user("Where?"), assistant("", tool_calls=[call(arguments={"what": "lamb"})]),
                   {"role": "tool", "content": '{"place": "hill"}'}, assistant("On the hill.")], "tools": [NESTED]}),
    ("sharegpt, two calls at once", "sharegpt",
     {"conversations": [{"from": "human", "value": "Where?"},
                        {"from": "tool_call", "value": '[{"name": "a", "arguments": {}}, {"name": "b", "parameters": {"x": 1}}]'},
                        {"from": "function_response", "value": "here"}, {"from": "gpt", "value": "Here."}]},
     {"messages": [user("Where?"), assistant("", tool_calls=[call("a"), call("b", {"x": 1})]),
                   {"role": "tool", "content": "here"}, assistant("Here.")]}),
    ("sharegpt, roles of OpenAI", "sharegpt", {"conversations": [ASKED, SAID]}, {"messages": [ASKED, SAID]}),
    # OpenAI messages
    ("messages", "messages", {"messages": [ASKED, SAID]}, {"messages": [ASKED, SAID]}),
    ("messages, several turns", "messages", {"messages": [system("S"), ASKED, SAID, user("More?"), assistant("No")]},
     {"messages": [system("S"), ASKED, SAID, user("More?"), assistant("No")]}),
    ("messages, system aside", "messages", {"messages": [ASKED, SAID], "system": "S"}, {"messages": [system("S"), ASKED, SAID]}),
    ("messages, developer", "messages", {"messages": [{"role": "developer", "content": "S"}, ASKED, SAID]},
     {"messages": [system("S"), ASKED, SAID]}),
    ("messages, parts", "messages",
     {"messages": [{"role": "user", "content": [{"type": "text", "text": "1+"}, {"type": "text", "text": "1?"}]},
                   {"role": "assistant", "content": ["2"]}]},
     {"messages": [ASKED, SAID]}),
    ("messages, arguments as text", "messages",
     {"messages": [user("Where?"),
                   {"role": "assistant", "content": None, "tool_calls": [
                       {"id": "c1", "type": "function", "function": {"name": "find", "arguments": '{"what": "lamb"}'}}]},
                   {"role": "tool", "tool_call_id": "c1", "name": "find", "content": "hill"}, assistant("On the hill.")],
      "tools": [NESTED]},
     {"messages": [user("Where?"), assistant("", tool_calls=[call(arguments={"what": "lamb"}, id="c1")]),
                   {"role": "tool", "content": "hill", "name": "find", "tool_call_id": "c1"}, assistant("On the hill.")],
      "tools": [NESTED]}),
    ("messages, arguments as object", "messages",
     {"messages": [user("Where?"), {"role": "assistant", "content": "Wait.", "tool_calls": [
         {"function": {"name": "find", "arguments": {"what": ["lamb", 2]}}}]}], "tools": json.dumps(FIND)},
     {"messages": [user("Where?"), assistant("Wait.", tool_calls=[call(arguments={"what": ["lamb", 2]})])], "tools": [NESTED]}),
    ("messages, arguments empty", "messages",
     {"messages": [user("Where?"), {"role": "assistant", "tool_calls": [{"function": {"name": "find", "arguments": ""}}]}],
      "tools": ""},
     {"messages": [user("Where?"), assistant("", tool_calls=[call()])]}),
    ("messages, calls as text", "messages",
     {"messages": [user("Where?"), {"role": "assistant", "content": "", "tool_calls": '[{"name": "find"}]'}], "tools": []},
     {"messages": [user("Where?"), assistant("", tool_calls=[call()])]}),
    ("messages, function_call", "messages",
     {"messages": [user("Where?"), {"role": "assistant", "content": None,
                                    "function_call": {"name": "find", "arguments": '{"what": "lamb"}'}},
                   {"role": "function", "name": "find", "content": "hill"}]},
     {"messages": [user("Where?"), assistant("", tool_calls=[call(arguments={"what": "lamb"})]),
                   {"role": "tool", "content": "hill", "name": "find"}]}),
    ("messages, reasoning", "messages",
     {"messages": [ASKED, assistant("2", reasoning_content="Count."), user("3?"), assistant("3", thinking="Again.")]},
     {"messages": [ASKED, assistant("2", reasoning_content="Count."), user("3?"), assistant("3", reasoning_content="Again.")]}),
    ("messages, more keys", "messages", {"messages": [{**ASKED, "weight": 0, "id": 3}, {**SAID, "refusal": None}], "id": "x"},
     {"messages": [ASKED, SAID]}),
    ("messages, one empty answer", "messages", {"messages": [ASKED, assistant(""), user("Well?"), SAID]},
     {"messages": [ASKED, assistant(""), user("Well?"), SAID]}),
    # prompt and completion
    ("prompt and completion", "prompt_completion", {"prompt": "1+1=", "completion": " 2"}, {"prompt": "1+1=", "completion": " 2"}),
    ("prompt and completion, no prompt", "prompt_completion", {"prompt": "", "completion": "2"}, {"prompt": "", "completion": "2"}),
    ("prompt and completion, messages", "prompt_completion", {"prompt": [system("S"), ASKED], "completion": [SAID]},
     {"prompt": [system("S"), ASKED], "completion": [SAID]}),
    ("prompt and completion, mixed", "prompt_completion", {"prompt": "1+1?", "completion": [SAID]},
     {"prompt": [ASKED], "completion": [SAID]}),
    ("prompt and completion, the other way", "prompt_completion",
     {"prompt": [{"from": "human", "value": "1+1?"}], "completion": "2"}, {"prompt": [ASKED], "completion": [SAID]}),
    ("prompt and completion, one turn", "prompt_completion", {"prompt": ASKED, "completion": SAID, "tools": [FIND]},
     {"prompt": [ASKED], "completion": [SAID], "tools": [NESTED]}),
    # text
    ("text", "text", {"text": " Once\nupon a time\n", "url": "x"}, {"text": " Once\nupon a time\n"}),
    # preference
    ("preference, text", "preference", {"prompt": "1+1?", "chosen": "2", "rejected": "3"},
     {"prompt": "1+1?", "chosen": "2", "rejected": "3"}),
    ("preference, messages", "preference", {"prompt": [ASKED], "chosen": [SAID], "rejected": [assistant("3")]},
     {"prompt": [ASKED], "chosen": [SAID], "rejected": [assistant("3")]}),
    ("preference, one turn", "preference", {"prompt": [ASKED], "chosen": SAID, "rejected": "3"},
     {"prompt": [ASKED], "chosen": [SAID], "rejected": [assistant("3")]}),
    ("preference, implicit text", "preference", {"chosen": "The sky is blue.", "rejected": "The sky is green."},
     {"prompt": "The sky is", "chosen": " blue.", "rejected": " green."}),
    ("preference, implicit text, longer", "preference",
     {"chosen": "\n\nHuman: 1+1?\n\nAssistant: 2", "rejected": "\n\nHuman: 1+1?\n\nAssistant: 2 or 3"},
     {"prompt": "\n\nHuman: 1+1?\n\nAssistant:", "chosen": " 2", "rejected": " 2 or 3"}),
    ("preference, implicit messages", "preference", {"chosen": [ASKED, SAID], "rejected": [ASKED, assistant("3")]},
     {"prompt": [ASKED], "chosen": [SAID], "rejected": [assistant("3")]}),
    ("preference, implicit, several turns", "preference",
     {"chosen": [ASKED, SAID, user("Sure?"), assistant("Yes")], "rejected": [ASKED, SAID, user("Sure?"), assistant("No")]},
     {"prompt": [ASKED, SAID, user("Sure?")], "chosen": [assistant("Yes")], "rejected": [assistant("No")]}),
    ("preference, UltraFeedback", "preference",
     {"prompt": "1+1?", "messages": [ASKED, SAID], "chosen": [ASKED, SAID], "rejected": [ASKED, assistant("3")], "score_chosen": 9.0},
     {"prompt": [ASKED], "chosen": [SAID], "rejected": [assistant("3")]}),
    ("preference, ShareGPT ranking", "preference",
     {"conversations": [{"from": "human", "value": "1+1?"}], "chosen": {"from": "gpt", "value": "2"},
      "rejected": {"from": "gpt", "value": "3"}, "system": "S", "tools": "[]"},
     {"prompt": [system("S"), ASKED], "chosen": [SAID], "rejected": [assistant("3")]}),
    ("preference, messages beside", "preference", {"messages": [system("A"), ASKED], "chosen": "2", "rejected": "3", "system": "B"},
     {"prompt": [system("A"), ASKED], "chosen": [SAID], "rejected": [assistant("3")]}),
    ("preference, OpenAI", "preference",
     {"input": {"messages": [ASKED], "tools": [NESTED], "parallel_tool_calls": True}, "preferred_output": [SAID],
      "non_preferred_output": [assistant("3")]},
     {"prompt": [ASKED], "chosen": [SAID], "rejected": [assistant("3")], "tools": [NESTED]}),
    ("preference, Parquet of two forms", "preference",
     {"prompt": "1+1?", "chosen": "2", "rejected": "3", "preferred_output": None, "non_preferred_output": None},
     {"prompt": "1+1?", "chosen": "2", "rejected": "3"}),
    ("preference, Alpaca", "preference",
     {"instruction": "Sum up", "input": "A text", "system": "S", "chosen": "Short", "rejected": "Long"},
     {"prompt": [system("S"), user("Sum up\n\nA text")], "chosen": [assistant("Short")], "rejected": [assistant("Long")]}),
    # KTO
    ("kto", "kto", {"prompt": "1+1?", "completion": "2", "label": True}, {"prompt": "1+1?", "completion": "2", "label": True}),
    ("kto, messages", "kto", {"prompt": [ASKED], "completion": [SAID], "label": 0},
     {"prompt": [ASKED], "completion": [SAID], "label": False}),
    ("kto of CSV", "kto", {"prompt": "1+1?", "completion": "3", "label": "False"},
     {"prompt": "1+1?", "completion": "3", "label": False}),
    ("kto of CSV, numbers", "kto", {"prompt": "1+1?", "completion": "2", "label": "1"},
     {"prompt": "1+1?", "completion": "2", "label": True}),
    ("kto, conversation", "kto", {"messages": [ASKED, SAID, user("Sure?"), assistant("Yes")], "label": " TRUE "},
     {"prompt": [ASKED, SAID, user("Sure?")], "completion": [assistant("Yes")], "label": True}),
    ("kto, ShareGPT", "kto",
     {"conversations": [{"from": "human", "value": "1+1?"}, {"from": "gpt", "value": "3"}], "kto_tag": False, "system": "S"},
     {"prompt": [system("S"), ASKED], "completion": [assistant("3")], "label": False}),
    ("kto, messages and tag", "kto", {"messages": [ASKED, SAID], "kto_tag": "true", "tools": [FIND]},
     {"prompt": [ASKED], "completion": [SAID], "label": True, "tools": [NESTED]}),
]  # fmt: skip


@pytest.mark.parametrize(("form", "row", "value"), [case[1:] for case in ACCEPTED], ids=[case[0] for case in ACCEPTED])
def test_a_row_as_TRL_takes_it(form: Format, row: Json, value: Json, tmp_path: Path) -> None:  # noqa: N802
    assert convert(row, form) == value
    assert detect([row, row]).format == form
    assert only(write(tmp_path, "a.jsonl", [row])) == [Row(0, 1, value)]


def test_every_format_is_among_them() -> None:
    assert (
        {case[1] for case in ACCEPTED}
        == set(NAMES)
        == set(get_args(Format)) - {"prompt"}
        == set(SHAPES) - {"prompt"}
        == set(FORMS) - {"prompt"}
        == set(CONVERT) - {"prompt"}
    )


def test_prompts_alone_are_a_format_only_when_it_is_named(tmp_path: Path) -> None:
    """Else a row without an answer is one that lacks it."""
    row = {"prompt": "2+2?", "result": 4}
    assert detect([row]).format is None
    assert detect([row], "prompt").format == "prompt"
    assert convert(row, "prompt") == {"prompt": "2+2?", "columns": {"result": 4}}
    with pytest.raises(BadRow, match="prompt is empty"):
        convert({"prompt": " "}, "prompt")


REFUSED: list[tuple[Format, Json, str, str]] = [
    ("alpaca", {"instruction": "x", "output": ""}, "empty_field", "output is empty"),
    ("alpaca", {"instruction": "x", "output": " \n"}, "empty_field", "output is empty"),
    ("alpaca", {"instruction": " ", "output": "x"}, "empty_field", "instruction is empty"),
    ("alpaca", {"instruction": "", "input": "\t", "output": "x"}, "empty_field", "instruction is empty"),
    ("alpaca", {"instruction": "x", "output": None}, "missing_field", "output is missing"),
    ("alpaca", {"instruction": "x", "output": None, "text": "x"}, "missing_field", "output is missing"),
    ("alpaca", {"instruction": "x"}, "missing_field", "output is missing"),
    ("alpaca", {}, "missing_field", "instruction, output are missing"),
    ("alpaca", {"instruction": 3, "output": "x"}, "missing_field", "instruction is no text"),
    ("alpaca", {"instruction": "x", "output": ["x"]}, "missing_field", "output is no text"),
    ("alpaca", {"instruction": "x", "input": ["y"], "output": "x"}, "missing_field", "input is no text"),
    ("alpaca", {"instruction": "x", "output": "x", "history": 3}, "missing_field", "history is no list of question and answer"),
    ("alpaca", {"instruction": "x", "output": "x", "history": {"a": "b"}}, "missing_field", "history is no list of question and answer"),
    ("alpaca", {"instruction": "x", "output": "x", "history": [["a"]]}, "missing_field", "history is no list of question and answer"),
    ("alpaca", {"messages": [ASKED, SAID]}, "mixed_formats", "a row of the format messages"),
    ("alpaca", {"instruction": "x", "text": "x"}, "mixed_formats", "a row of the format text"),
    ("messages", {"messages": []}, "empty_field", "messages is empty"),
    ("messages", {"messages": "hello"}, "missing_field", "messages is no list of turns"),
    ("messages", {"messages": None}, "missing_field", "messages is missing"),
    ("messages", {"messages": ["hello"]}, "missing_field", "a turn is no object"),
    ("messages", {"messages": [{"content": "x"}]}, "missing_field", "a turn has no role"),
    ("messages", {"messages": [{"role": "user", "content": None}]}, "missing_field", "a turn of the user has no text"),
    ("messages", {"messages": [{"role": "user", "content": {"text": "x"}}]}, "missing_field", "a turn's content is no text"),
    ("messages", {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]}, "missing_field",
     "a turn has a part that is no text"),
    ("messages", {"messages": [{"role": "tool\x1b[2J", "content": "x"}]}, "unknown_role", "role 'tool\\x1b[2J'"),
    ("messages", {"messages": [{"role": ["user"], "content": "x"}]}, "unknown_role", "role ['user']"),
    ("messages", {"messages": [ASKED]}, "no_assistant", "no assistant turn"),
    ("messages", {"messages": [ASKED, assistant(" ")]}, "empty_field", "the assistant's turns are empty"),
    ("messages", {"messages": [ASKED, SAID], "tools": "[{]"}, "tool_arguments", "tools is not JSON"),
    ("messages", {"messages": [ASKED, SAID], "tools": ["find"]}, "tool_arguments", "tools is no list of descriptions"),
    ("messages", {"messages": [ASKED, SAID], "tools": [{"function": "find"}]}, "tool_arguments", "tools is no list of descriptions"),
    ("messages", {"messages": [ASKED, SAID], "tools": 3}, "tool_arguments", "tools is no list of descriptions"),
    ("sharegpt", {"conversations": [{"from": "narrator", "value": "x"}]}, "unknown_role", "role 'narrator'"),
    ("sharegpt", {"conversations": [{"from": "human", "value": "x"}]}, "no_assistant", "no assistant turn"),
    ("sharegpt", {"conversations": [{"from": "human", "value": "x"}, {"from": "gpt"}]}, "missing_field",
     "a turn of the assistant has no text"),
    ("sharegpt", {"conversations": [{"from": "human", "value": "x"}, {"from": "function_call", "value": "find(lamb)"}]},
     "tool_arguments", "a tool call is not JSON"),
    ("sharegpt", {"conversations": [{"from": "human", "value": "x"}, {"from": "function_call", "value": "[]"}]},
     "tool_arguments", "tool_calls is no list of calls"),
    ("sharegpt", {"text": "x"}, "mixed_formats", "a row of the format text"),
    ("prompt_completion", {"prompt": "x", "completion": ""}, "empty_field", "completion is empty"),
    ("prompt_completion", {"prompt": "x"}, "missing_field", "completion is missing"),
    ("prompt_completion", {"prompt": 3, "completion": "x"}, "missing_field", "prompt is no list of turns"),
    ("prompt_completion", {"prompt": [], "completion": "x"}, "empty_field", "prompt is empty"),
    ("prompt_completion", {"prompt": [ASKED], "completion": 3}, "missing_field", "completion is no list of turns"),
    ("prompt_completion", {"prompt": [ASKED], "completion": [ASKED]}, "no_assistant", "completion has no assistant turn"),
    ("prompt_completion", {"prompt": "x", "chosen": "y", "rejected": "z"}, "mixed_formats", "a row of the format preference"),
    ("text", {"text": "\n"}, "empty_field", "text is empty"),
    ("text", {"text": 3}, "missing_field", "text is no text"),
    ("text", {"text": None}, "missing_field", "text is missing"),
    ("preference", {"prompt": "x", "chosen": "y", "rejected": "y"}, "no_difference", "chosen and rejected are the same"),
    ("preference", {"prompt": [ASKED], "chosen": [SAID], "rejected": "2"}, "no_difference", "chosen and rejected are the same"),
    ("preference", {"chosen": "y", "rejected": "y"}, "no_difference", "chosen and rejected are the same"),
    ("preference", {"prompt": "x", "chosen": "y"}, "missing_field", "rejected is missing"),
    ("preference", {"prompt": "x", "chosen": "y", "rejected": None, "completion": "z"}, "missing_field", "rejected is missing"),
    ("preference", {"prompt": "x", "chosen": "y", "rejected": " "}, "empty_field", "rejected is empty"),
    ("preference", {"prompt": [ASKED], "chosen": [assistant("")], "rejected": [SAID]}, "empty_field", "chosen is empty"),
    ("preference", {"prompt": 3, "chosen": "y", "rejected": "z"}, "missing_field", "prompt is no list of turns"),
    ("preference", {"chosen": "blue", "rejected": "green"}, "missing_field", "no prompt, and chosen and rejected begin differently"),
    ("preference", {"chosen": "blue  ", "rejected": "blue x"}, "empty_field",
     "nothing is left of an answer behind what chosen and rejected share"),
    ("preference", {"chosen": [SAID], "rejected": [assistant("3")]}, "missing_field",
     "no prompt, and chosen and rejected begin differently"),
    ("preference", {"input": "x", "preferred_output": [SAID], "non_preferred_output": [assistant("3")]}, "missing_field",
     "input.messages is no list of turns"),
    ("preference", {"preferred_output": [SAID], "non_preferred_output": [assistant("3")]}, "missing_field", "input.messages is missing"),
    ("preference", {"prompt": "x", "completion": "y"}, "mixed_formats", "a row of the format prompt_completion"),
    ("kto", {"prompt": "x", "completion": "y"}, "missing_field", "label is missing"),
    ("kto", {"prompt": "x", "completion": "y", "label": None}, "missing_field", "label is missing"),
    ("kto", {"messages": [ASKED, SAID]}, "missing_field", "label is missing"),
    ("kto", {"prompt": "x", "completion": "y", "label": "maybe"}, "missing_field", "label is neither true nor false"),
    ("kto", {"completion": "y", "label": True}, "missing_field", "prompt is missing"),
    ("kto", {"messages": [SAID], "label": True}, "missing_field", "no question comes before the answer"),
    ("kto", {"messages": [ASKED, SAID, ASKED], "label": True}, "no_assistant", "the conversation does not end with the assistant"),
    ("kto", {"messages": [ASKED, SAID, ASKED, assistant("")], "label": True}, "empty_field", "the last turn is empty"),
    ("kto", {"prompt": "x", "chosen": "y", "rejected": "z"}, "mixed_formats", "a row of the format preference"),
]  # fmt: skip


@pytest.mark.parametrize(("form", "row", "kind", "text"), REFUSED)
def test_a_row_that_cannot_be_used_is_named_with_its_reason(
    form: Format, row: Json, kind: str, text: str, tmp_path: Path
) -> None:
    with pytest.raises(BadRow) as caught:
        convert(row, form)
    assert caught.value.kind == kind
    assert str(caught.value).partition(": ")[0] == text
    assert KINDS[kind].dropped
    good = rows(form, 3)
    items = only(write(tmp_path, "a.jsonl", [good[0], row, good[1], good[2], row]), format=form)
    assert [item.line for item in items if isinstance(item, Row)] == [1, 3, 4]
    assert [(item.line, item.kind, item.text) for item in items if isinstance(item, Bad)] == [
        (line, kind, str(caught.value)) for line in (2, 5)
    ]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ("{'what': 'lamb'}", "the arguments of find is not JSON: Expecting property name enclosed in double quotes"),
        ('{"what": ', "the arguments of find is not JSON: Expecting value"),
        ('{"what": NaN}', "the arguments of find is not JSON: NaN is none of its values"),
        ('{"what": 1e999}', "the arguments of find is not JSON: Infinity is none of its values"),
        ('{"what": "\\ud800"}', "the arguments of find is not JSON: half a character (a lone surrogate)"),
        ('{"what": ' + "[" * 150 + "]" * 150 + "}", "the arguments of find is not JSON: nested too deeply"),
        ("[" * 100_000, "the arguments of find is not JSON: nested too deeply"),
        ('["lamb"]', "the arguments of find are no object"),
        ([], "the arguments of find are no object"),
        ("3", "the arguments of find are no object"),
    ],
)
def test_arguments_of_tools_must_be_a_json_object(arguments: Any, reason: str) -> None:
    row = {"messages": [ASKED, assistant("", tool_calls=[{"function": {"name": "find", "arguments": arguments}}])]}
    with pytest.raises(BadRow) as caught:
        convert(row, "messages")
    assert (caught.value.kind, str(caught.value)) == ("tool_arguments", reason)


@pytest.mark.parametrize("call_", [{}, {"function": {}}, {"function": {"name": ""}}, {"name": 3}, "find", None])
def test_a_call_names_a_function(call_: Any) -> None:
    with pytest.raises(BadRow, match=r"a tool call names no function|is not JSON"):
        messages_of([assistant("", tool_calls=[call_])], "messages")


def test_names_of_functions_are_made_safe() -> None:
    row = assistant("", tool_calls=[{"function": {"name": "f\x1b[31m\n" + "x" * 500, "arguments": "{"}}])
    with pytest.raises(BadRow) as caught:
        messages_of([row], "messages")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("role", ROLES)
def test_every_name_of_a_role(role: str) -> None:
    content = '{"name": "find"}' if ROLES[role] == "call" else "x"
    for named in (role, role.upper(), f" {role.title()} "):
        wanted = assistant("", tool_calls=[call()]) if ROLES[role] == "call" else {"role": ROLES[role], "content": "x"}
        assert messages_of([{"from": named, "value": content}], "conversations") == [wanted]
        assert messages_of({"role": named, "content": content}, "conversations") == [wanted]


def test_tools_as_people_write_them() -> None:
    for tools in (FIND, NESTED, [FIND], [NESTED], json.dumps(FIND), json.dumps([NESTED])):
        assert tools_of(tools) == [NESTED]
    for nothing in (None, "", " ", [], {}, "[]", "null"):
        assert tools_of(nothing) is None


CALLS = assistant("", tool_calls=[call()])
RESULT: Json = {"role": "tool", "content": "x"}


@pytest.mark.parametrize(
    ("turns", "problem"),
    [
        ([ASKED, SAID], ""),
        ([system("S"), ASKED, SAID, ASKED, SAID], ""),
        ([ASKED, CALLS, RESULT, RESULT, SAID], ""),
        ([ASKED, CALLS, RESULT, CALLS, RESULT, SAID, ASKED], ""),
        ([ASKED, CALLS, SAID], ""),
        ([ASKED, system("S"), SAID], "a system turn that is not the first"),
        ([system("S"), system("S"), ASKED, SAID], "a system turn that is not the first"),
        ([SAID, ASKED, SAID], "an assistant's turn before any question"),
        ([system("S"), SAID], "an assistant's turn before any question"),
        ([ASKED, ASKED, SAID], "two user turns in a row"),
        ([ASKED, SAID, SAID], "two assistant turns in a row"),
        ([ASKED, RESULT, SAID], "a tool's answer that nobody asked for"),
        ([ASKED, SAID, RESULT, SAID], "a tool's answer that nobody asked for"),
        ([ASKED, CALLS, RESULT, ASKED, SAID], "a user's turn before the assistant used the tool's answer"),
    ],
)
def test_the_order_of_turns(turns: list[Json], problem: str) -> None:
    assert order_problem(turns) == problem


def test_detection_goes_by_most_rows_and_by_the_first_of_equals() -> None:
    alpaca, chat = {"instruction": "x", "output": "y"}, {"messages": [ASKED, SAID]}
    assert detect([alpaca, chat, alpaca]).format == "alpaca"
    assert detect([{**alpaca, **chat, "text": "x"}]).format == "messages"
    assert detect([{**alpaca, "text": "the whole prompt"}]).format == "alpaca"  # as tatsu-lab/alpaca has it
    found = detect([{**alpaca, "input": ""}] * 3)
    assert (found.evidence, found.columns) == (
        "instruction, output in every one of 3 rows, with input",
        ("instruction", "output", "input"),
    )
    assert detect([chat, chat, alpaca]).evidence == "messages in 2 of 3 rows"


def test_some_rows_without_a_label_make_no_other_format_of_kto() -> None:
    good, bad = {"prompt": "x", "completion": "y", "label": True}, {"prompt": "x", "completion": "y", "label": None}
    assert detect([good, good, bad]).format == "kto"
    assert detect([good, bad, bad]).format == "prompt_completion"
    assert detect([{**bad, "label": label} for label in (0, 1, 2, 1, 0)]).format == "prompt_completion"  # classes
    chat = {"messages": [ASKED, SAID]}
    assert detect([{**chat, "label": True}, {**chat, "label": False}, chat]).format == "kto"
    pair = {"messages": [ASKED, SAID], "chosen": "x", "rejected": "y"}
    assert detect([pair, pair, {**pair, "rejected": None}]).format == "preference"


def test_the_format_asked_for_is_taken(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "sharegpt"}]
    both = {"instruction": "q", "output": "alpaca", "messages": [ASKED, SAID], "text": "text", "conversations": turns}
    path = write(tmp_path, "both.jsonl", [both])
    for form, answer in (("messages", "2"), ("alpaca", "alpaca"), ("text", "text"), ("sharegpt", "sharegpt")):
        [row] = only(path, format=form)
        assert isinstance(row, Row)
        assert split_text(row.value)[1] == answer


def test_columns_are_mapped(tmp_path: Path) -> None:
    path = write(tmp_path, "qa.jsonl", [{"q": "1+1?", "a": "2"}])
    [row] = only(path, columns={"instruction": "q", "output": "a"})
    assert row == Row(0, 1, {"messages": [ASKED, SAID]})
    swapped = write(tmp_path, "s.jsonl", [{"instruction": "2", "output": "1+1?"}])
    [row] = only(swapped, columns={"instruction": "output", "output": "instruction"})
    assert row == Row(0, 1, {"messages": [ASKED, SAID]})
    assert rename({"a": 1, "b": 2}, {"a": "b", "b": "a"}) == {"a": 2, "b": 1}


def test_a_mapped_column_that_some_rows_lack(tmp_path: Path) -> None:
    path = write(tmp_path, "qa.jsonl", [{"q": "1+1?", "a": "2"}, {"a": "2"}, {"q": None, "a": "2"}])
    items = only(path, columns={"instruction": "q", "output": "a"})
    assert items[1:] == [
        Bad(0, 2, "missing_field", "q is missing"),
        Bad(0, 3, "missing_field", "instruction is missing"),
    ]


def test_a_mapped_column_that_no_row_has(tmp_path: Path) -> None:
    path = write(tmp_path, "qa.jsonl", [{"q\x1b[31m": "1+1?", "a": "2"}])
    with pytest.raises(DataError) as caught:
        only(path, columns={"instruction": "question", "output": "a"})
    assert caught.value.title == "A column that you named is not there"
    assert caught.value.message == f"{path} has no column question; it has q, a."
    assert "data.columns" in caught.value.hint


def test_a_column_to_split_by_that_no_row_has(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", rows("alpaca", 3))
    with pytest.raises(DataError, match=r"has no column topic; it has instruction, input, output"):
        only(path, split="group", split_by="topic")


def test_wrong_columns_are_named_with_the_way_out(tmp_path: Path) -> None:
    path = write(tmp_path, "qa.jsonl", [{"q\x1b[31m": "1+1?", "a": "2"}] * 2)
    [no_format, no_rows] = checked(path).findings
    assert no_format.message.startswith(
        "2 rows have columns of no known format (the columns are q, a; wanted is one of "
    )
    assert "alpaca (instruction, output)" in no_format.message
    assert "data.columns" in no_format.hint
    assert no_rows.kind == "no_rows"
    [no_format, _] = checked(path, format="alpaca").findings
    assert no_format.text == "the columns are q, a; alpaca (instruction, output) is wanted"


@pytest.mark.parametrize(
    ("columns", "suggestion"),
    [
        (("Question", "Answer"), {"instruction": "Question", "output": "Answer"}),
        (("instruction", "response", "context"), {"instruction": "instruction", "output": "response"}),
        (("input", "output"), {"instruction": "input", "output": "output"}),
        (("questions", "answers"), {"instruction": "questions", "output": "answers"}),
        (("problem", "solution", "level"), {"instruction": "problem", "output": "solution"}),
        (("a", "b"), {}),
        (("question", "options"), {}),
    ],
)
def test_a_mapping_is_suggested_where_names_say_it(
    columns: tuple[str, ...], suggestion: dict[str, str], tmp_path: Path
) -> None:
    row = dict.fromkeys(columns, "some text")
    assert detect([row]).suggestion == suggestion
    [no_format, _] = checked(write(tmp_path, "a.jsonl", [row] * 3)).findings
    assert ("perhaps --set data.columns=" in no_format.message) == bool(suggestion)
    if suggestion:
        assert checked(tmp_path / "a.jsonl", columns=suggestion).format == "alpaca"


def test_separators_inside_strings_are_text(tmp_path: Path) -> None:
    odd = "a\u2028b\u2029c\u0085d\u000ce"
    path = write(tmp_path, "a.jsonl", [{"instruction": odd, "output": odd}, {"instruction": "x", "output": "y"}])
    assert only(path) == [
        Row(0, 1, {"messages": [user(odd), assistant(odd)]}),
        Row(0, 2, {"messages": [user("x"), assistant("y")]}),
    ]


WRAPPED = {
    "rows.json": lambda rows_: json.dumps(rows_),
    "pretty.json": lambda rows_: json.dumps(rows_, indent=2),
    "wrapped.json": lambda rows_: json.dumps({"version": 1, "data": rows_}),
    "crlf.jsonl": lambda rows_: "".join(json.dumps(row) + "\r\n" for row in rows_),
}


@pytest.mark.parametrize("form", CLEAN)
@pytest.mark.parametrize("name", WRAPPED)
def test_every_format_in_every_wrapping(name: str, form: str, tmp_path: Path) -> None:
    path = write(tmp_path, name, WRAPPED[name](rows(form, 12)))
    assert [item[2] for item in only(path)] == [convert(row, form) for row in rows(form, 12)]  # type: ignore[arg-type]
    assert checked(path).format == form


def test_a_single_conversation_as_json(tmp_path: Path) -> None:
    path = write(tmp_path, "a.json", json.dumps({"messages": [ASKED, SAID]}))
    (row,) = only(path)
    assert (row.line, row.value, row.place.unit) == (1, {"messages": [ASKED, SAID]}, "row")


def test_the_system_prompt_of_the_specification() -> None:
    for form in NAMES:
        for row in rows(form, 6):
            value = convert(row, form)
            with_it, turns = with_system(value, "S"), turns_of(value)
            if not turns or turns[0]["role"] == "system":
                assert with_it == value
            else:
                assert turns_of(with_it) == [system("S"), *turns]
                assert {**with_it, "messages": 0, "prompt": 0} == {**value, "messages": 0, "prompt": 0}
            assert with_system(value, None) is value


def test_what_is_asked_and_what_is_said() -> None:
    def parts(row: Json, form: Format) -> tuple[str, str]:
        return split_text(convert(row, form))

    chat = {
        "messages": [system("S"), ASKED, SAID, user("Sure?"), assistant("Yes", tool_calls=[call(arguments={"a": 1})])]
    }
    assert parts(chat, "messages") == ("S\n1+1?\nSure?", "2\nYes find {'a': 1}")
    assert parts({"text": "x"}, "text") == ("", "x")
    assert parts({"prompt": "a", "completion": "b"}, "prompt_completion") == ("a", "b")
    pair = {"prompt": "a", "chosen": "b", "rejected": "c"}
    assert parts(pair, "preference") == ("a", "b")
    assert whole_text(convert(pair, "preference")) == "a\nb\nc"
    turns = {"prompt": [ASKED], "chosen": [SAID], "rejected": [assistant("3")]}
    assert whole_text(convert(turns, "preference")) == "1+1?\n2\n3"


def test_the_first_question() -> None:
    assert first_question({"messages": [system("S"), ASKED, SAID]}) == "1+1?"
    assert first_question({"prompt": "a", "completion": "b"}) == "a"
    assert first_question({"prompt": [ASKED], "chosen": [SAID], "rejected": [SAID]}) == "1+1?"
    assert first_question({"text": "x"}) == ""


def test_sources_of_two_objectives_do_not_go_together(tmp_path: Path) -> None:
    files = [write(tmp_path, f"{form}.jsonl", rows(form, 5)) for form in ("alpaca", "preference", "text")]
    with pytest.raises(DataError, match="messages and preference: one run has one objective"):
        checked_several(files[:2])
    report = checked_several([files[0], files[2]])
    assert (report.form, report.kept, report.objective) == ("messages", 10, "sft")


def checked_several(files: list[Path]) -> Any:
    from engine.data.scan import scan

    return scan(DataSpec.model_validate({"path": [{"path": str(file)} for file in files]}))


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
words = st.sampled_from(
    ["", " ", "two", "three words here", "\x1b[31m", '{"name": "f"}', '{"name": "f", "arguments": "{}"}', "[]"]
)
calls = st.fixed_dictionaries(
    {},
    optional={
        "name": words | anything,
        "function": st.fixed_dictionaries({"name": words}) | anything,
        "arguments": words | anything,
    },
)
turn = st.fixed_dictionaries(
    {},
    optional={
        "role": st.sampled_from(sorted(ROLES)) | anything,
        "content": words | st.lists(words, max_size=2) | anything,
        "tool_calls": st.lists(calls, max_size=2) | anything,
        "function_call": calls | anything,
        "reasoning_content": words | anything,
    },
)
good_turn = st.fixed_dictionaries(
    {"from": st.sampled_from(["human", "gpt", "system", "function_call"]), "value": words}
)
field = words | anything | st.lists(good_turn, max_size=4) | st.lists(turn, max_size=3) | turn
columns = sorted(
    {c for shapes in SHAPES.values() for shape in shapes for c in shape} | {"input", "system", "history", "tools"}
)


@settings(deadline=None, max_examples=200)
@given(st.fixed_dictionaries({}, optional=dict.fromkeys(columns, field)), st.sampled_from(NAMES))
def test_any_row_is_converted_or_refused_with_a_reason(row: Json, form: Format) -> None:
    value, bad = tried(row, form)
    if bad:
        assert KINDS[bad.kind].dropped
        assert str(bad).isprintable()
        assert len(str(bad)) < 200
        return
    assert fits(row, form)
    turns = turns_of(with_system(value, "S"))
    assert {one["role"] for one in turns} <= {"system", "user", "assistant", "tool"}
    assert all(isinstance(one["content"], str) for one in turns)
    assert all(isinstance(c["function"]["arguments"], dict) for one in turns for c in one.get("tool_calls", []))
    assert split_text(value)[1].strip()
    assert value.get("chosen") != value.get("rejected", ...)
    assert value.get("label", True) in (True, False)
    assert value.keys() - {"tools"} in (
        {"messages"}, {"text"}, {"prompt", "completion"}, {"prompt", "chosen", "rejected"}, {"prompt", "completion", "label"}
    )  # fmt: skip


def tried(row: Json, form: Format) -> tuple[Json, BadRow | None]:
    try:
        return convert(row, form), None
    except BadRow as bad:
        return {}, bad
