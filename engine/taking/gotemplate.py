"""Go's text/template, as much of it as engine.taking.modelfile writes: so that what Ollama would render can be looked at.

Texts, `{{ if }} {{ else if }} {{ else }} {{ end }}`, `{{ range $i, $m := .X }}`, `{{ $v := ... }}`, fields, variables, strings,
numbers, and the functions in FUNCTIONS. White space is kept as it is: `{{-` and `-}}` are not understood.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

_ACTION = re.compile(r'\{\{((?:"(?:\\.|[^"\\\n])*"|[^"{}])*)\}\}')
_WORD = re.compile(
    r'\s*("(?:\\.|[^"\\\n])*"|:=|[()]|,|\$?\.?[A-Za-z_$][\w$]*(?:\.[A-Za-z]\w*)*|\$|\.[A-Za-z]\w*(?:\.[A-Za-z]\w*)*|\.|\d+)'
)

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "eq": lambda a, b: a == b,
    "not": lambda a: not a,
    "and": lambda a, b: a and b,
    "len": len,
    "slice": lambda items, start: items[start:],
}


class GoTemplateError(ValueError):
    """The template is wrong, or uses what is not understood here."""


@dataclass(frozen=True)
class _Text:
    text: str


@dataclass(frozen=True)
class _Put:
    """`name`: a variable that gets the value; without one it is written."""

    words: list[str]
    name: str = ""


@dataclass(frozen=True)
class _If:
    words: list[str]
    then: list[Any]
    other: list[Any]


@dataclass(frozen=True)
class _Range:
    index: str
    item: str
    words: list[str]
    body: list[Any]


def render(source: str, data: Mapping[str, Any]) -> str:
    """What the template writes for these values. Raises GoTemplateError."""
    pieces = _pieces(source)
    nodes, end = _block(pieces)
    if end:
        raise GoTemplateError(f"{end[0]} closes nothing")
    out: list[str] = []
    _write(nodes, data, {"$": data}, out)
    return "".join(out)


def escaped(text: str) -> str:
    """Text that a template writes as it is: braces that would open an action, and the quotes that would end it in a Modelfile."""
    return re.sub(r'\{\{|\{(?=\Z|""")|"""', lambda found: "{{ " + json.dumps(found[0]) + " }}", text)


def _pieces(source: str) -> list[_Text | list[str]]:
    """Texts, and the words of actions, in order."""
    found: list[_Text | list[str]] = []
    last = 0
    for match in _ACTION.finditer(source):
        found += [_Text(_no_action(source[last : match.start()])), _words(match[1])]
        last = match.end()
    return [*found, _Text(_no_action(source[last:]))]


def _no_action(text: str) -> str:
    if "{{" in text:
        raise GoTemplateError(f"an action is not understood: {text[text.index('{{') :][:40]}")
    return text


def _words(action: str) -> list[str]:
    words, at, action = [], 0, action.rstrip()
    while at < len(action):
        match = _WORD.match(action, at)
        if not match:
            raise GoTemplateError(f"not understood: {action}")
        words.append(match[1])
        at = match.end()
    if not words:
        raise GoTemplateError("an empty action")
    return words


def _block(pieces: list[_Text | list[str]]) -> tuple[list[Any], list[str]]:
    """The nodes up to the `else` or `end` that closes them, whose words come with them; [] at the end of all."""
    nodes: list[Any] = []
    while pieces:
        piece = pieces.pop(0)
        if isinstance(piece, _Text):
            nodes.append(piece)
        elif piece[0] in ("end", "else"):
            return nodes, piece
        elif piece[0] == "if":
            nodes.append(_branch(piece[1:], pieces))
        elif piece[0] == "range":
            nodes.append(_loop(piece, pieces))
        elif len(piece) > 2 and piece[1] == ":=":
            nodes.append(_Put(piece[2:], piece[0]))
        else:
            nodes.append(_Put(piece))
    return nodes, []


def _branch(condition: list[str], pieces: list[_Text | list[str]]) -> _If:
    then, end = _block(pieces)
    other: list[Any] = []
    if end[:2] == ["else", "if"]:
        other = [_branch(end[2:], pieces)]
    elif end == ["else"]:
        other, end = _block(pieces)
    if not end or (end[0] == "else" and not other):
        raise GoTemplateError("an if has no end")
    return _If(condition, then, other)


def _loop(words: list[str], pieces: list[_Text | list[str]]) -> _Range:
    if len(words) < 6 or words[2] != "," or words[4] != ":=":
        raise GoTemplateError("only range $index, $item := ... is understood")
    body, end = _block(pieces)
    if end != ["end"]:
        raise GoTemplateError("a range has no end")
    return _Range(words[1], words[3], words[5:], body)


def _write(nodes: list[Any], dot: Any, variables: dict[str, Any], out: list[str]) -> None:
    variables = dict(variables)
    for node in nodes:
        match node:
            case _Text():
                out.append(node.text)
            case _Put():
                value = _value(node.words, dot, variables)
                if node.name:
                    variables[node.name] = value
                else:
                    out.append(str(value))
            case _If():
                _write(node.then if _value(node.words, dot, variables) else node.other, dot, variables, out)
            case _Range():
                for i, item in enumerate(_value(node.words, dot, variables)):
                    _write(node.body, item, {**variables, node.index: i, node.item: item}, out)


def _value(words: list[str], dot: Any, variables: Mapping[str, Any]) -> Any:
    """A command: a function with its arguments, or one value."""
    words = list(words)
    name = words[0]
    if name not in FUNCTIONS:
        value = _operand(words, dot, variables)
        if words:
            raise GoTemplateError(f"not understood: {' '.join(words)}")
        return value
    words.pop(0)
    given = []
    while words:
        given.append(_operand(words, dot, variables))
    try:
        return FUNCTIONS[name](*given)
    except TypeError as error:
        raise GoTemplateError(f"{name}: {error}") from None


def _operand(words: list[str], dot: Any, variables: Mapping[str, Any]) -> Any:
    word = words.pop(0)
    if word == "(":
        inner, depth = [], 1
        while words:
            depth += {"(": 1, ")": -1}.get(words[0], 0)
            if not depth:
                break
            inner.append(words.pop(0))
        if depth or not inner:
            raise GoTemplateError("a parenthesis is not closed")
        words.pop(0)
        return _value(inner, dot, variables)
    if word.startswith('"'):
        return json.loads(word)
    if word.isdigit():
        return int(word)
    first, *fields = word.split(".")
    value = dot if not first else variables.get(first, GoTemplateError)
    for field in filter(None, fields):
        value = value.get(field, GoTemplateError) if isinstance(value, Mapping) else GoTemplateError
    if value is GoTemplateError:
        raise GoTemplateError(f"there is no {word}")
    return value
