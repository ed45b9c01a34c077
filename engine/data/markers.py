"""Generation markers for templates that have none: what they render stays the same to the character.

Every turn that a template writes in its loop over the messages is caught as text; of an assistant's turn all that comes
after the generation prompt is the assistant's own. Whether that holds for a template is tried out on conversations.
"""

import functools
import itertools
import json
from collections.abc import Iterator
from typing import Any

from jinja2 import TemplateError

from engine.data.template import Template, environment, is_marked
from engine.data.turns import Turn

CALL = {"type": "function", "function": {"name": "quexfind", "arguments": {"quexkey": "quexvalue"}}}
TOOL = {"type": "function", "function": {"name": "quexfind", "description": "Finds", "parameters": {
    "type": "object", "properties": {"quexkey": {"type": "string", "description": "What"}}, "required": ["quexkey"]}}}  # fmt: skip
PROBES: tuple[tuple[list[Turn], list[dict[str, Any]] | None], ...] = (
    ([{"role": "user", "content": "wolf one"}, {"role": "assistant", "content": "lamb one."}], None),
    (
        [
            {"role": "user", "content": "wolf one"}, {"role": "assistant", "content": "lamb one."},
            {"role": "user", "content": "wolf two"}, {"role": "assistant", "content": "lamb two!"},
        ],
        None,
    ),
    (
        [
            {"role": "system", "content": "bear"}, {"role": "user", "content": "wolf one"},
            {"role": "assistant", "content": "lamb one."}, {"role": "user", "content": "wolf two"},
        ],
        None,
    ),
    (
        [
            {"role": "user", "content": "wolf one"}, {"role": "assistant", "content": "", "tool_calls": [CALL]},
            {"role": "tool", "name": "quexfind", "content": "wolf tool"}, {"role": "assistant", "content": "lamb three."},
        ],
        [TOOL],
    ),
)  # fmt: skip
"""Lambs are the assistant's words, wolves and bears are not."""


@functools.lru_cache(maxsize=32)
def marked(source: str, specials: tuple[tuple[str, Any], ...] = (), tools: bool = False) -> str | None:
    """The template with generation markers: as it is if it has them, None if they cannot be added.

    `tools`: also for conversations with tool calls, whose results some templates write into the assistant's turn.
    """
    if is_marked(source):
        return source
    original = Template(source, dict(specials))
    try:
        prompt = generation_prompt(original)
        candidate = _wrap_loops(source, prompt)
    except (TemplateError, ValueError):
        return None
    probes = PROBES if tools else PROBES[:-1]
    return candidate if all(_agree(original, Template(candidate, dict(specials)), *probe) for probe in probes) else None


def generation_prompt(template: Template) -> str:
    """What the template writes before an answer, as far as it also stands before the answers of a conversation.

    Raises ValueError if the template refuses a question and its answer.
    """
    question, answer = PROBES[0][0]
    before = template.render([question]).text
    asked = template.render([question], add_generation_prompt=True).text
    whole = template.render([question, answer]).text
    same = len(_common(before, asked))  # some templates end what is not a prompt, with an end token say
    return _common(asked[same:], whole[same:])


def _common(a: str, b: str) -> str:
    return "".join(x for x, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))


def _wrap_loops(source: str, prompt: str) -> str:
    """Each outermost loop's body is caught, and written with markers if the loop variable is an assistant's message."""
    out: list[str] = []
    depth, variable = 0, ""
    for statement in _statements(source):
        keyword = statement.keyword
        if keyword == "endfor":
            depth -= 1
            if depth == 0:
                out.append(_closing(variable, prompt))
        out.append(statement.text)
        if keyword == "for":
            if depth == 0:
                variable = statement.argument
                out.append("{% set td_turn %}")
            depth += 1
    return "".join(out)


def _closing(variable: str, prompt: str) -> str:
    """Ends the capture and writes it, marked from behind the prompt up to the white space at its end."""
    literal = json.dumps(prompt, ensure_ascii=False)
    begins = f"td_turn.startswith({literal}[:td_i])"  # thoughts that the prompt opens are left out of earlier turns
    return (
        "{% endset %}"
        f"{{% if {variable} is mapping and {variable}['role'] == 'assistant' and td_turn %}}"
        f"{{% set td = namespace(at=td_turn.find({literal})) %}}"
        f"{{% if td.at >= 0 %}}{{% set td.at = td.at + {len(prompt)} %}}"
        f"{{% else %}}{{% set td.at = 0 %}}{{% for td_i in range(1, {len(prompt)}) if {begins} %}}"
        "{% set td.at = td_i %}{% endfor %}{% endif %}"
        "{% set td_to = td_turn.rstrip() | length %}"
        "{{ td_turn[:td.at] }}"
        "{% if td_to > td.at %}"
        "{% generation %}{{ td_turn[td.at:td_to] }}{% endgeneration %}{{ td_turn[td_to:] }}"
        "{% else %}{{ td_turn[td.at:] }}{% endif %}"
        "{% else %}{{ td_turn }}{% endif %}"
    )


class _Statement:
    """A piece of a template's source: a whole `{% ... %}` with its keyword and first word, or anything else."""

    def __init__(self, text: str, keyword: str = "", argument: str = "") -> None:
        self.text, self.keyword, self.argument = text, keyword, argument


def _statements(source: str) -> Iterator[_Statement]:
    """The source cut at its statements; white space that the template strips is left out, as the lexer leaves it out."""
    pieces: list[str] = []
    words: list[str] = []
    inside = False
    for _, kind, value in environment().lex(source):
        if kind == "block_begin":
            if pieces:
                yield _Statement("".join(pieces))
            pieces, words, inside = [], [], True
        # white space is gone that kept a brace apart from the statement behind it
        pieces.append(value[:-1] + "{{ '{' }}" if kind == "data" and value.endswith("{") else value)
        if inside and kind == "name":
            words.append(value)
        if kind == "block_end":
            yield _Statement("".join(pieces), *words[:2])
            pieces, inside = [], False
    if pieces:
        yield _Statement("".join(pieces))


def _agree(original: Template, candidate: Template, messages: list[Turn], tools: list[dict[str, Any]] | None) -> bool:
    """Whether both write the same, and the spans hold the assistant's words and nobody else's.

    A conversation that the original refuses says nothing, unless it is the simplest.
    """
    for prompt in (False, True):
        try:
            wanted = original.render(messages, tools, prompt).text
        except ValueError:
            return len(messages) > 2
        try:
            text, spans = candidate.render(messages, tools, prompt)
        except ValueError:
            return False
        said = "".join(text[start:end] for start, end in spans)
        lambs = sum(m["content"].count("lamb") for m in messages if m["role"] == "assistant")
        if text != wanted or said.count("lamb") != lambs or "wolf" in said or "bear" in said:
            return False
    return True
