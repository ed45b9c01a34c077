"""Conversations as people write them down, into the messages that chat templates and TRL take."""

import json
import math
import re
from typing import Any

from engine.data.records import MAX_DEPTH
from engine.text import clean

Turn = dict[str, Any]
"""`role` and `content`, for tools also `tool_calls` or `name`."""

SURROGATE = re.compile("[\ud800-\udfff]")
ROLES = {
    "system": "system", "developer": "system", "user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant",
    "chatgpt": "assistant", "model": "assistant", "bot": "assistant", "tool": "tool", "function": "tool", "ipython": "tool",
    "observation": "tool", "function_response": "tool", "function_call": "call", "tool_call": "call",
}  # fmt: skip
"""Names of roles in ShareGPT, OpenAI, Gemini and LLaMA-Factory files; `call` is an assistant's turn that only calls tools."""


class BadRow(ValueError):
    """Why a row cannot be used: `kind` as in engine.data.findings, the particulars as text."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def messages_of(turns: Any, column: str) -> list[Turn]:
    """A list of ShareGPT or OpenAI turns as messages. Raises BadRow."""
    if isinstance(turns, dict):
        turns = [turns]
    if turns is None:
        raise BadRow("missing_field", f"{column} is missing")
    if not isinstance(turns, list):
        raise BadRow("missing_field", f"{column} is no list of turns")
    if not turns:
        raise BadRow("empty_field", f"{column} is empty")
    return [_message(turn) for turn in turns]


def _message(turn: Any) -> Turn:
    if not isinstance(turn, dict):
        raise BadRow("missing_field", "a turn is no object")
    named = turn.get("role", turn.get("from"))
    if named is None:
        raise BadRow("missing_field", "a turn has no role")
    role = ROLES.get(str(named).strip().lower())
    if role is None:
        raise BadRow("unknown_role", f"role {clean(repr(named), False)[:24]}")
    content = _content(turn.get("content", turn.get("value")))
    if role == "call":
        return {"role": "assistant", "content": "", "tool_calls": calls_of(content or "")}
    message: Turn = {"role": role, "content": content or ""}
    calls = turn.get("tool_calls") or ([{"function": turn["function_call"]}] if turn.get("function_call") else None)
    if calls:
        message["tool_calls"] = calls_of(calls)
    elif content is None:
        raise BadRow("missing_field", f"a turn of the {role} has no text")
    reasoning = turn.get("reasoning_content") or turn.get("thinking")
    if isinstance(reasoning, str) and reasoning:
        message["reasoning_content"] = reasoning
    for name in ("name", "tool_call_id"):
        if isinstance(turn.get(name), str):
            message[name] = turn[name]
    return message


def _content(value: Any) -> str | None:
    """Text, or the text parts of a list; None if there is none."""
    if isinstance(value, list):
        parts = [part.get("text") if isinstance(part, dict) else part for part in value]
        texts = [part for part in parts if isinstance(part, str)]
        if len(texts) < len(parts):
            raise BadRow("missing_field", "a turn has a part that is no text")
        return "".join(texts)
    if value is not None and not isinstance(value, str):
        raise BadRow("missing_field", "a turn's content is no text")
    return value


def calls_of(calls: Any) -> list[dict[str, Any]]:
    """Tool calls in OpenAI's nesting, the arguments as an object: templates write them as JSON. Raises BadRow."""
    if isinstance(calls, str):
        calls = _json(calls, "a tool call")
    if isinstance(calls, dict):
        calls = [calls]
    if not isinstance(calls, list) or not calls:
        raise BadRow("tool_arguments", "tool_calls is no list of calls")
    return [_call(one) for one in calls]


def _call(call: Any) -> dict[str, Any]:
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"]:
        raise BadRow("tool_arguments", "a tool call names no function")
    arguments = function.get("arguments", function.get("parameters"))
    if isinstance(arguments, str):
        arguments = _json(arguments, f"the arguments of {clean(function['name'], False)[:40]}") if arguments else {}
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, dict):
        raise BadRow("tool_arguments", f"the arguments of {clean(function['name'], False)[:40]} are no object")
    made = {"type": "function", "function": {"name": function["name"], "arguments": arguments}}
    return made | ({"id": call["id"]} if isinstance(call.get("id"), str) else {})


def tools_of(tools: Any) -> list[dict[str, Any]] | None:
    """The tools that a conversation may use, in OpenAI's nesting; None without any. Raises BadRow."""
    if isinstance(tools, str):
        tools = _json(tools, "tools") if tools.strip() else None
    if not tools:
        return None
    if isinstance(tools, dict):
        tools = [tools]
    described = isinstance(tools, list) and all(isinstance(tool, dict) for tool in tools)
    if not described or not all(isinstance(tool.get("function", tool), dict) for tool in tools):
        raise BadRow("tool_arguments", "tools is no list of descriptions")
    return [tool if "function" in tool else {"type": "function", "function": tool} for tool in tools]


def _json(text: str, what: str) -> Any:
    try:
        value = json.loads(text, parse_constant=_refuse)
        _check(value)
    except (ValueError, RecursionError) as error:
        reason = str(error).partition(":")[0] if isinstance(error, ValueError) else "nested too deeply"
        raise BadRow("tool_arguments", f"{what} is not JSON: {clean(reason, False)[:60]}") from None
    return value


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is none of its values")


def _check(value: Any, depth: int = 0) -> None:
    """JSON in a string was not looked at by the reader: its depth, and characters that no encoding has."""
    if depth > MAX_DEPTH:
        raise RecursionError
    if isinstance(value, str) and not value.isascii() and SURROGATE.search(value):
        raise ValueError("half a character (a lone surrogate)")
    if isinstance(value, float) and not math.isfinite(value):
        _refuse("Infinity")
    if isinstance(value, list | dict):
        for one in value if isinstance(value, list) else [*value, *value.values()]:
            _check(one, depth + 1)


def order_problem(messages: list[Turn]) -> str:
    """What is wrong with the order of the roles; empty if nothing is."""
    before = ""
    for i, message in enumerate(messages):
        role = message["role"]
        if role == "system" and i > 0:
            return "a system turn that is not the first"
        if role == "assistant" and before in ("", "system"):
            return "an assistant's turn before any question"
        if role == before and role in ("user", "assistant") and not messages[i - 1].get("tool_calls"):
            return f"two {role} turns in a row"
        if role == "tool" and not (before == "tool" or (before == "assistant" and messages[i - 1].get("tool_calls"))):
            return "a tool's answer that nobody asked for"
        if before == "tool" and role == "user":
            return "a user's turn before the assistant used the tool's answer"
        before = role
    return ""
