"""What a filter that is being typed could go on with. Pure functions; the language is that of `engine.filtering`."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from os.path import commonprefix

STATUSES = ("queued", "starting", "running", "stopping", "finished", "stopped", "failed", "crashed", "oom")
STATES = ("archived", "deleted", "starred", "active", "ended", "imported", "fork", "sweep", *STATUSES)
"""What `is:` may ask, as `engine.store.query` has it; a test compares the two."""
ASKING = ("is", "has", "text", "log")
"""Names that are no fields."""
EXAMPLE = "status:finished lr<1e-3 tag:keep model~qwen eval_loss<1.2 -note:debug"
_OPERATOR = re.compile(r":?(?:==|!=|!~|<=|>=|<|>|=|~)|:")
_PLAIN = re.compile(r"[^\s(),\":=<>~!\\]+")


@dataclass(frozen=True)
class Completion:
    """The text from `start` up to the cursor could become one of these."""

    start: int
    candidates: tuple[str, ...] = ()

    def taken(self, text: str, cursor: int) -> tuple[str, int]:
        """The text and the cursor with as much as all candidates agree on."""
        if not self.candidates:
            return text, cursor
        typed = text[self.start : cursor]
        common = commonprefix(self.candidates)  # noqa: RUF071  by character is what completion means
        if len(self.candidates) > 1 and (len(common) <= len(typed) or not _begins(common, typed)):
            return text, cursor
        return text[: self.start] + common + text[cursor:], self.start + len(common)


def completion(text: str, cursor: int, names: Sequence[str], values: Callable[[str], Iterable[str]]) -> Completion:
    """What can stand at the cursor: the name of a field, or a value of the field before it."""
    start = _token(text, cursor)
    token = text[start:cursor]
    operator = _OPERATOR.search(token)
    if operator is None:
        found = [name for name in dict.fromkeys((*(f"{one}:" for one in ASKING), *names)) if _begins(name, token)]
        found += [name for name in names if token and name not in found and _part_begins(name, token)]
        return Completion(start, tuple(found) if token else ())
    at = max(operator.end(), token.rfind(",") + 1)
    written = token[at:].lstrip('"')
    field = token[: operator.start()].lstrip("-")
    of_field = (one for one in dict.fromkeys(map(str, values(field))) if one and _begins(one, written))
    return Completion(start + at, tuple(_written(one) for one in of_field))


def _begins(name: str, text: str) -> bool:
    return name.casefold().startswith(text.casefold())


def _part_begins(name: str, text: str) -> bool:
    return any(_begins(part, text) for part in re.split(r"[._]", name)[1:])


def _token(text: str, cursor: int) -> int:
    """Where the term at the cursor begins, its minus left out; a quote keeps spaces in."""
    start, quoted = 0, False
    for i, character in enumerate(text[:cursor]):
        if character == '"':
            quoted = not quoted
        elif not quoted and (character.isspace() or character in "()"):
            start = i + 1
    return start + 1 if text[start : start + 1] == "-" and start < cursor else start


def _written(value: str) -> str:
    """As the language takes it."""
    if _PLAIN.fullmatch(value) and value not in ("AND", "OR", "NOT", "none"):
        return value
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
