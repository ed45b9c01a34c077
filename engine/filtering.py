"""The filter language of the runs, shared by the app and the command line: a text into an expression and back. Pure.

```
status:finished lr<1e-3 tag:keep model~qwen eval_loss<1.2 -note:debug
(status:failed,crashed OR is:starred) text:"out of memory" created>2026-11-01 age<2d "a word with spaces"
```
Terms side by side must all be true (AND may be written); OR, NOT and `-` do what they say; AND binds before OR.
A bare word is looked for in what the row of a run says. `FIELD:VALUE` is equal, `~` contains; several values with
commas: any of them. `FIELD:none` is where nothing is known, `has:FIELD` where something is.
"""

import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NoReturn

from engine.errors import TuneDeckError
from engine.text import cells, clean

MOST_TERMS, MOST_LEVELS, MOST_CHARACTERS = 200, 40, 8000
"""Of one filter; SQLite takes no deeper expressions than 1,000."""


class FilterError(TuneDeckError):
    """The filter is wrong: what (`problem`), where (`column`, from 1, in characters of `text`), and what to do (`hint`)."""

    def __init__(self, problem: str, text: str, column: int, hint: str = "") -> None:
        self.problem, self.text, self.column = problem, text, column
        lines = "".join(f"\n    {line}" for line in pointed(text, column))
        super().__init__("The filter is not understood", f"{problem}{lines}", hint)

    def __reduce__(self) -> tuple[type["FilterError"], tuple[str, str, int, str]]:  # type: ignore[override]
        return FilterError, (self.problem, self.text, self.column, self.hint)


def pointed(text: str, column: int) -> tuple[str, str]:
    """The text on one line as it can be drawn, and a line with a caret under a column."""
    shown = "".join(_drawable(c) for c in text)
    return shown, " " * cells("".join(_drawable(c) for c in text[: column - 1])) + "^"


def _drawable(character: str) -> str:
    return " " if character.isspace() else clean(character, keep_lines=False) or "·"


@dataclass(frozen=True)
class Word:
    """A text that has to be somewhere in what the row of a run says."""

    text: str


@dataclass(frozen=True)
class Term:
    """A field compared with any of some values; None is the value that is not known."""

    name: str
    operator: str
    values: tuple[str | None, ...]
    column: int = field(default=1, compare=False)
    """Where the name begins."""
    columns: tuple[int, ...] = field(default=(), compare=False)
    """Where each of the values begins."""


@dataclass(frozen=True)
class Not:
    """The opposite."""

    part: "Expression"


@dataclass(frozen=True)
class Every:
    """All of at least two parts."""

    parts: tuple["Expression", ...]


@dataclass(frozen=True)
class Either:
    """Any of at least two parts."""

    parts: tuple["Expression", ...]


Expression = Word | Term | Not | Every | Either

NONE = "none"
_SPACE = re.compile(r"\s*")
_KEYWORD = re.compile(r"(AND|OR|NOT)(?=[\s()\"]|$)")
_NAME = re.compile(r'(?:[^\s()":=<>~!]|!(?![=~]))+')
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.S)
_OPERATOR = re.compile(r"\s*(?::?(==|!=|!~|<=|>=|<|>|=|~)|(:))\s*")
_VALUE = re.compile(r'[^\s(),"]+')
_COMMA = re.compile(r",\s*")
_PLAIN = re.compile(r'[^\s(),":=<>~!\\-][^\s(),":=<>~!\\]*')


def parse(text: str) -> Expression | None:
    """The expression that a filter says; None if it says nothing. Raises FilterError."""
    if len(text) > MOST_CHARACTERS:
        raise FilterError(
            f"A filter has at most {MOST_CHARACTERS:,} characters", text[:40], 40, "Leave some of it out."
        )
    lone = next((i for i, c in enumerate(text) if "\ud800" <= c <= "\udfff"), None)
    if lone is not None:
        raise FilterError("This is no character", text, lone + 1, "Leave it out.")
    parser = _Parser(text)
    return parser.whole()


class _Parser:
    """By recursive descent; `at` is where in the text it is."""

    def __init__(self, text: str) -> None:
        self.text, self.at, self.levels, self.terms = text, 0, 0, 0

    def whole(self) -> Expression | None:
        self._skip()
        if self.at == len(self.text):
            return None
        found = self._either()
        if self.at < len(self.text):
            self._fail("This bracket was never opened", self.at, "Take it out, or put it into quotes.")
        return found

    def _either(self) -> Expression:
        parts = [self._every()]
        while self._keyword("OR"):
            parts.append(self._every())
        return parts[0] if len(parts) == 1 else Either(tuple(parts))

    def _every(self) -> Expression:
        parts = [self._one()]
        while not self._ends():
            self._keyword("AND")
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else Every(tuple(parts))

    def _ends(self) -> bool:
        found = _KEYWORD.match(self.text, self.at)
        return self.at == len(self.text) or self.text[self.at] == ")" or bool(found and found[1] == "OR")

    def _one(self) -> Expression:
        self.levels += 1
        if self.levels > MOST_LEVELS:
            self._fail(f"More than {MOST_LEVELS} brackets lie in one another here", self.at, "Make it simpler.")
        found = self._within()
        self.levels -= 1
        return found

    def _within(self) -> Expression:
        start, text = self.at, self.text
        if text.startswith("(", start):
            self._step(1)
            if text.startswith(")", self.at):
                self._fail("There is nothing between these brackets", start, "Take them out.")
            found = self._either()
            if not text.startswith(")", self.at):
                self._fail("This bracket is not closed", start, "Close it with ).")
            self._step(1)
            return found
        if text.startswith("-", start) and not text[start + 1 : start + 2].isspace():
            self.at += 1
            return Not(self._one())
        if self._keyword("NOT"):
            return Not(self._one())
        return self._term()

    def _term(self) -> Expression:
        start = self.at
        self.terms += 1
        if self.terms > MOST_TERMS:
            self._fail(f"A filter has at most {MOST_TERMS} terms", start, "Leave some out.")
        if found := _KEYWORD.match(self.text, start):
            self._fail(f"Something is missing before {found[1]}", start, f'The word itself is written "{found[1]}".')
        name = self._quoted() if self.text.startswith('"', start) else self._match(_NAME)
        operator = _OPERATOR.match(self.text, self.at)
        if not name and self.at == start:
            self._missing(start, operator)
        if operator is None:
            self._apart()
            return Word(name)
        self.at = operator.end()
        return self._comparison(name, {"==": "="}.get(operator[1], operator[1]) or operator[2], start)

    def _comparison(self, name: str, operator: str, start: int) -> Term:
        values, columns = [], []
        while True:
            columns.append(self.at + 1)
            values.append(self._one_value(name, operator))
            if not self._match(_COMMA):
                break
        if len(values) > 1 and operator in ("<", "<=", ">", ">="):
            self._fail(f"{operator} takes one value", columns[1] - 1, "Take the others out.")
        if None in values and operator not in (":", "=", "!="):
            self._fail(
                f"Nothing is {operator} none", columns[values.index(None)] - 1, f"Say {name}:none, or has:{name}."
            )
        self.terms += len(values) - 1
        if self.terms > MOST_TERMS:
            self._fail(f"A filter has at most {MOST_TERMS} values", start, "Leave some out.")
        self._apart()
        return Term(name, operator, tuple(values), start + 1, tuple(columns))

    def _one_value(self, name: str, operator: str) -> str | None:
        if self.text.startswith('"', self.at):
            return self._quoted()
        found = self._match(_VALUE)
        if not found:
            self._fail(f"A value is missing after {name}{operator}", self.at, "Texts with spaces stand in quotes.")
        return None if found == NONE else found

    def _quoted(self) -> str:
        found = _QUOTED.match(self.text, self.at)
        if found is None:
            self._fail("This quote is not closed", self.at, 'Close it with ". A quote within quotes is \\".')
        self.at = found.end()
        return re.sub(r"\\(.)", r"\1", found[1], flags=re.S)

    def _match(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self.text, self.at)
        self.at = found.end() if found else self.at
        return found[0] if found else ""

    def _keyword(self, word: str) -> bool:
        found = _KEYWORD.match(self.text, self.at)
        if found is None or found[1] != word:
            return False
        self._step(len(word))
        return True

    def _step(self, characters: int) -> None:
        self.at += characters
        self._skip()

    def _skip(self) -> None:
        self._match(_SPACE)

    def _apart(self) -> None:
        """Behind a term comes a space, a bracket or the end."""
        if self.at < len(self.text) and not self.text[self.at].isspace() and self.text[self.at] not in "()":
            self._fail("A space is missing here", self.at, "Texts with spaces or signs stand in quotes as a whole.")
        self._skip()

    def _missing(self, start: int, operator: re.Match[str] | None) -> None:
        if operator:
            self._fail(
                f"The name of a field is missing before {operator[0].strip()}", start, "For example: eval_loss<1.2"
            )
        self._fail("Something is missing here", start, "A word, or a field and a value: status:finished")

    def _fail(self, problem: str, at: int, hint: str) -> NoReturn:
        raise FilterError(problem, self.text, at + 1, hint)


def written(expression: Expression | None) -> str:
    """An expression as a text that `parse` makes into the same expression."""
    match expression:
        case None:
            return ""
        case Word(text):
            return _text(text)
        case Term(name, operator, values):
            return f"{_text(name)}{operator}{','.join(NONE if v is None else _text(v) for v in values)}"
        case Not(part):
            return f"-{_part(part)}"
        case Every(parts):
            return " ".join(_part(part) for part in parts)
        case Either(parts):
            return " OR ".join(_part(part) for part in parts)


def _part(expression: Expression) -> str:
    return f"({written(expression)})" if isinstance(expression, Every | Either) else written(expression)


def _text(text: str) -> str:
    if _PLAIN.fullmatch(text) and not _KEYWORD.fullmatch(text) and text != NONE:
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def named(expression: Expression | None, name: str) -> list[Term]:
    """All terms about a field, wherever they stand."""
    match expression:
        case Term() if expression.name.casefold() == name:
            return [expression]
        case Not(part):
            return named(part, name)
        case Every(parts) | Either(parts):
            return [term for part in parts for term in named(part, name)]
    return []


_NUMBER = re.compile(r"([+-]?(?:[0-9][0-9_]*(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)([kM]?)")
_SPAN = re.compile(r"([0-9]+(?:\.[0-9]+)?)(s|min|m|h|d|w)")
SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 604800}


def number(text: str) -> float | None:
    """`2e-4`, `1_000`, `4k` (4,000), `3M`; None if it is no number."""
    found = _NUMBER.fullmatch(text)
    if found is None:
        return None
    return float(found[1].replace("_", "")) * {"": 1, "k": 1e3, "M": 1e6}[found[2]]


def span(text: str) -> float | None:
    """`90s`, `30m`, `1h30m`, `2d`, `1w` in seconds; None if it is no length of time."""
    parts = _SPAN.findall(text)
    if not parts or "".join(a + b for a, b in parts) != text:
        return None
    return sum(float(a) * SECONDS[b] for a, b in parts)


_FORMATS = (("%Y-%m-%dT%H:%M", timedelta(minutes=1)), ("%Y-%m-%d", timedelta(days=1)), ("%Y-%m", None))


def moment(text: str, now: float) -> tuple[float, float] | None:
    """`2026-11-01`, `2026-11`, `2026-11-01T14:30`, `today`, `yesterday`: from and to, unix seconds, in local time."""
    today = datetime.fromtimestamp(now).replace(hour=0, minute=0, second=0, microsecond=0)
    if text.casefold() in ("today", "yesterday"):
        start = today - timedelta(days=text.casefold() == "yesterday")
        return start.timestamp(), (start + timedelta(days=1)).timestamp()
    for form, length in _FORMATS:
        try:
            start = datetime.strptime(text, form)
            end = start + length if length else (start + timedelta(days=32)).replace(day=1)
            return start.timestamp(), end.timestamp()
        except (ValueError, OverflowError, OSError):
            continue
    return None
