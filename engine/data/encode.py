"""A conversation as token ids and labels: the assistant's turns are trained on, everything else is masked.

The ids are exactly those of the model's own template. Which of them are the assistant's follows from rendering every
prefix of the conversation, so the template needs no generation markers; that it keeps its prefixes is checked row by row.
"""

from collections.abc import Callable
from dataclasses import dataclass

from engine.data.formats import Message

IGNORED = -100
"""The label that torch's cross-entropy leaves out."""

Render = Callable[[list[Message], bool], str]
"""(messages, add_generation_prompt) to text, through the chat template."""
Tokenize = Callable[[str], tuple[list[int], list[tuple[int, int]]]]
"""Text to ids and each id's (start, end) in characters, no special tokens added."""


@dataclass(frozen=True)
class Encoded:
    """Token ids, and labels of the same length: the id itself where it is trained, IGNORED elsewhere."""

    input_ids: list[int]
    labels: list[int]

    @property
    def trained(self) -> int:
        return sum(label != IGNORED for label in self.labels)


def assistant_spans(messages: list[Message], render: Render) -> tuple[str, list[tuple[int, int]]]:
    """The rendered conversation and the (start, end) in characters of each assistant turn, its end token included.

    Raises ValueError if the template renders earlier turns differently once later ones follow: then nobody can say from
    outside which characters are the assistant's.
    """
    text = render(messages, False)
    spans = []
    for i, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        before, after = render(messages[:i], True), render(messages[: i + 1], False)
        if not (text.startswith(after) and after.startswith(before)):
            raise ValueError("the chat template renders earlier turns differently when later ones follow")
        spans.append((len(before), len(after)))
    return text, spans


def encode(messages: list[Message], render: Render, tokenize: Tokenize) -> Encoded:
    """Ids and labels of a conversation. Raises ValueError as `assistant_spans` does, or if nothing is left to train on."""
    text, spans = assistant_spans(messages, render)
    ids, offsets = tokenize(text)
    labels = [IGNORED] * len(ids)
    for i, (start, end) in enumerate(offsets):
        if any(start < stop and end > begin for begin, stop in spans):
            labels[i] = ids[i]
    encoded = Encoded(ids, labels)
    if not encoded.trained:
        raise ValueError("nothing is left to train on")
    return encoded
