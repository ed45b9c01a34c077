"""Chat templates, rendered as transformers renders them but without it, with the parts that are the assistant's known."""

import functools
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment

from engine.data.turns import Turn

OPEN, CLOSE = (f"\ue000{secrets.token_hex(8)}{end}" for end in "<>")
"""Stand around what an assistant says while it is rendered; no text can contain them, since they are made up anew."""
REASONING = ("reasoning_content", "thinking", "reasoning")


class Rendered(NamedTuple):
    """The text, and the (start, end) in characters of each generation block in it."""

    text: str
    spans: list[tuple[int, int]]


class _Generation(Extension):
    """`{% generation %}`, which transformers uses to know the assistant's parts."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_marked"), [], [], body).set_lineno(line)

    def _marked(self, caller: Macro) -> str:
        return f"{OPEN}{caller()}{CLOSE}"


def _tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: Any = None,
            sort_keys: bool = False) -> str:  # fmt: skip
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: str) -> None:
    raise TemplateError(message)


@functools.cache
def environment() -> ImmutableSandboxedEnvironment:
    """As in transformers.utils.chat_template_utils: a template is foreign code and stays in the sandbox."""
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols])
    env.filters["tojson"] = _tojson
    env.globals["raise_exception"] = _raise
    env.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return env


@functools.lru_cache(maxsize=64)
def _compiled(source: str) -> Any:
    return environment().from_string(source)


@dataclass(frozen=True)
class Template:
    """A template's source and the special tokens it may name (bos_token and so on)."""

    source: str
    specials: Mapping[str, Any] = field(default_factory=dict)

    def render(
        self, messages: list[Turn], tools: list[dict[str, Any]] | None = None, add_generation_prompt: bool = False
    ) -> Rendered:
        """The conversation as text. Raises ValueError with what the template says if it refuses the conversation."""
        try:
            text = _compiled(self.source).render(
                messages=[_alias_reasoning(m) for m in messages], tools=tools, documents=None,
                add_generation_prompt=add_generation_prompt, **self.specials,
            )  # fmt: skip
        except (TemplateError, TypeError, KeyError, AttributeError, ValueError, RecursionError) as error:
            raise ValueError(f"the chat template refuses it: {error}") from None
        return _unmark(text)


def _alias_reasoning(message: Turn) -> Turn:
    """Reasoning goes by several names; transformers fills in the others in the same way."""
    reasoning = next((message[key] for key in REASONING if message.get(key) is not None), None)
    return message if reasoning is None else {"thinking": reasoning, **message, "reasoning_content": reasoning}


def _unmark(text: str) -> Rendered:
    plain, spans, length = [], [], 0
    for i, piece in enumerate(text.split(OPEN)):
        inside, closed, after = piece.partition(CLOSE) if i else ("", "", piece)
        if closed:
            spans.append((length, length + len(inside)))
        else:
            inside, after = piece, ""
        plain += [inside, after]
        length += len(inside) + len(after)
    return Rendered("".join(plain), spans)


def is_marked(source: str) -> bool:
    """Whether a template says itself which parts are the assistant's."""
    try:
        return any(kind == "name" and value == "generation" for _, kind, value in environment().lex(source))
    except TemplateError:
        return False
