"""JSON and tool calls out of what a model wrote, whatever else it wrote."""

import itertools
import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

FENCE = re.compile(r"\A\s*```[\w-]*\s*\n(.*?)\n?\s*```\s*\Z", re.S)
LETTERS = 20_000
"""Characters in which calls are looked for."""
STARTS = 200
"""Brackets at which JSON is looked for: a model that writes brackets for ever must not cost a minute."""
DEPTH = 60
NAMED = re.compile(
    r"(?:<｜tool▁sep｜>([\w.-]++)\s*+```json\s*+"
    r"|(?<![\w.-])([A-Za-z_][\w.-]*+)\s*+(?:\[ARGS\]|<｜tool▁sep｜>)\s*+|(?<![\w.-])([A-Za-z_][\w.-]*+))(?=\{)"
)
"""A name before its arguments: Mistral's and DeepSeek's templates, also where special tokens are left out."""
FUNCTION = re.compile(r"<function=([\w.-]+)>(.*?)</function>", re.S)
PARAMETER = re.compile(r"<parameter=([\w.-]+)>\n?(.*?)\n?</parameter>", re.S)


class Nothing:
    """No JSON; `null` is JSON."""


NOTHING = Nothing()


class Call(NamedTuple):
    """A tool and what it is called with."""

    name: str
    arguments: dict[str, Any]


def document(text: str) -> Any:
    """The whole text as JSON, a code fence round it aside; NOTHING if it is none."""
    fenced = FENCE.match(text)
    try:
        value = json.loads(fenced[1] if fenced else text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return NOTHING
    return value if _depth(value) <= DEPTH else NOTHING


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is none of JSON's values")


def _depth(value: Any) -> int:
    """How deep it is nested; no more than a level above DEPTH is looked at."""
    level, deep = [value], 0
    while level and deep <= DEPTH:
        nested = [one for one in level if isinstance(one, dict | list)]
        level = [inner for one in nested for inner in (one.values() if isinstance(one, dict) else one)]
        deep += 1
    return deep


def calls_in(text: str) -> list[Call]:
    """The tool calls in a text, in any of the common templates' ways of writing them; those that are broken do not count."""
    text = text[:LETTERS]
    if found := [
        Call(name, {key: _value(value) for key, value in PARAMETER.findall(body)})
        for name, body in FUNCTION.findall(text)
    ]:
        return found
    if found := list(_named(text)):
        return found
    return [
        call
        for value in _values(text)
        for one in (value if isinstance(value, list) else [value])
        if (call := _call(one))
    ]


def _value(text: str) -> Any:
    """An argument that is written without quotes."""
    found = document(text)
    return text if found is NOTHING else found


def _named(text: str) -> Iterator[Call]:
    for match in itertools.islice(NAMED.finditer(text), STARTS):
        try:
            value, _ = _decoder.raw_decode(text, match.end())
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict) and (value or not match[3]) and _depth(value) <= DEPTH:  # `Foo{}` is code
            yield Call(match[1] or match[2] or match[3], value)


def _values(text: str) -> Iterator[Any]:
    """The outermost JSON objects and lists in a text."""
    place = tried = 0
    while (found := _OPEN.search(text, place)) and tried < STARTS:
        tried += 1
        try:
            value, place = _decoder.raw_decode(text, found.start())
            yield value
        except (ValueError, RecursionError):
            place = found.end()


_OPEN = re.compile(r"[\[{]")
_decoder = json.JSONDecoder(parse_constant=_refuse)


def _call(value: Any) -> Call | None:
    """A call in OpenAI's nesting or bare, the arguments an object or one written into a string."""
    function = value.get("function", value) if isinstance(value, dict) else None
    if not isinstance(function, dict):
        return None
    name = function.get("name")
    arguments = function.get("arguments", function.get("parameters", NOTHING))
    if isinstance(arguments, str):
        arguments = document(arguments) if arguments.strip() else {}
    if not isinstance(name, str) or not name or not isinstance(arguments, dict) or _depth(arguments) > DEPTH:
        return None
    return Call(name, arguments)


def leaves(value: Any, path: str = "") -> dict[str, Any]:
    """Every value that holds no others, by its path; an empty object or list is one too."""
    if isinstance(value, dict | list) and value:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {key: leaf for name, inner in items for key, leaf in leaves(inner, f"{path}/{name}").items()}
    return {path: value}
