"""The judge's verdicts: strictly checked, asked for again once, and never guessed."""

import json
import math
import re
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engine.judging import prompts
from engine.judging.client import Client, Reply, short

FENCE = re.compile(r"\A```[A-Za-z]*\s*\n(.*)\n\s*```\Z", re.S)
THOUGHT = re.compile(r"\A\s*<think>.*?</think>", re.S)
"""Some models think aloud before they answer."""


class Winner(BaseModel):
    """Of two answers."""

    model_config = ConfigDict(strict=True, frozen=True)
    reason: str
    winner: Literal["A", "B", "tie"]


class Score(BaseModel):
    """Of one answer."""

    model_config = ConfigDict(strict=True, frozen=True)
    reason: str
    score: float = Field(ge=1, le=10)


SCHEMAS: dict[type[BaseModel], dict[str, Any]] = {
    form: {
        "type": "object",
        "properties": {"reason": {"type": "string"}, name: rule},
        "required": ["reason", name],
        "additionalProperties": False,
    }
    for form, name, rule in (
        (Winner, "winner", {"type": "string", "enum": ["A", "B", "tie"]}),
        (Score, "score", {"type": "integer", "enum": list(range(1, 11))}),
    )
}
"""For endpoints that can see to the form of a reply: of what JSON Schema knows only what all of them understand."""
Verdict = TypeVar("Verdict", Winner, Score)


@dataclass
class Spent:
    """What it cost so far. `prompt` and `completion` are tokens; `untold` counts calls of which the endpoint told no tokens."""

    calls: int = 0
    prompt: int = 0
    completion: int = 0
    untold: int = 0
    seconds: float = 0.0
    fastest: float = math.inf
    why: list[str] = field(default_factory=list)

    def add(self, reply: Reply) -> None:
        self.calls += 1
        self.prompt += reply.prompt or 0
        self.completion += reply.completion or 0
        self.untold += reply.prompt is None or reply.completion is None
        self.seconds += reply.seconds
        self.fastest = min(self.fastest, reply.seconds)


class Unusable(ValueError):
    """A reply that is no verdict; says why."""


async def ask(client: Client, messages: prompts.Messages, form: type[Verdict], spent: Spent) -> Verdict | None:
    """The verdict, asked for once more if the first reply is none; None if the second is none either (`spent.why` says why).

    Raises EndpointError.
    """
    reply = await client.ask(messages, SCHEMAS[form])
    spent.add(reply)
    try:
        return read(reply, form)
    except Unusable as error:
        again = prompts.repair(messages, reply.text, str(error))
    reply = await client.ask(again, SCHEMAS[form])
    spent.add(reply)
    try:
        return read(reply, form)
    except Unusable as error:
        spent.why.append(f"{error}: {client.endpoint.mask(short(reply.text)) or 'it said nothing'}")
        return None


def read(reply: Reply, form: type[Verdict]) -> Verdict:
    """The verdict in a reply: one JSON object, in a code fence or not, and nothing else. Raises Unusable."""
    text = THOUGHT.sub("", reply.text).strip()
    if fenced := FENCE.match(text):
        text = fenced[1].strip()
    try:
        found = json.loads(text, object_pairs_hook=_once_each)
    except (ValueError, RecursionError) as error:
        if isinstance(error, Unusable):
            raise
        raise Unusable("it was cut off, the limit of tokens was reached" if reply.cut else "it is no JSON") from None
    try:
        return form.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise Unusable(f"{place}: {first['msg'].lower()}" if place else "it is no JSON object") from None


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) < len(pairs):
        raise Unusable("it says something twice")
    return dict(pairs)
