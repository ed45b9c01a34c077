"""Rows from JSON: a list, an object with a list in it, or values one after another. Only a window of the text is held."""

import json
import re
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any, TextIO

from engine.data import records
from engine.data.records import TOO_BIG, TOO_DEEP, Fault, Record, Twice, bad_byte, record, refused
from engine.text import clean

MAX_WHOLE = 256 << 20
"""Characters of the largest object that is read to look for the list of rows in it."""
CHUNK = 256 << 10
"""Characters read at a time."""

_TEXT_COLUMNS = ("text", "instruction", "output", "prompt", "completion", "question", "answer")
_NO_SPACE = re.compile(r"[^ \t\n\r]")
_HUGE = "a number of over 4,300 digits"
_HINT = "Give a JSON list of objects, or JSONL."


class _BadValue(Exception):
    """A value that cannot be read: the kind of fault and its particulars."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    return value if len(value) == len(pairs) else Twice(value)


_DECODER = json.JSONDecoder(object_pairs_hook=_object)


def _wrong(error: ValueError, start: int) -> tuple[str, int]:
    """What the decoder did not like and where, for a value that begins at `start`."""
    if isinstance(error, json.JSONDecodeError):
        return error.msg.removesuffix(" at"), error.pos
    return _HUGE, start  # the only other ValueError


def read_json_line(index: int, number: int, line: str) -> Iterator[Record | Fault]:
    """The row in one of JSON lines."""
    try:
        value = _DECODER.decode(line.rstrip("\r\n"))
    except ValueError as error:
        what, at = _wrong(error, 0)
        yield Fault(index, number, "unparsable", f"{what} (column {at + 1})")
    except RecursionError:
        yield Fault(index, number, "too_deep", TOO_DEEP)
    else:
        yield from record(index, number, value)


def read_json(index: int, path: Path, text: TextIO) -> Iterator[Record | Fault]:
    """The rows of a `.json` file, whichever way it holds them."""
    window = _Window(text)
    first = window.peek()
    if first == "[":
        yield from _list(index, window)
    elif first == "{":
        yield from _objects(index, path, window)
    elif first:
        what = f"starts with “{clean(first, False)}”, neither with a list nor with an object"
        raise refused(path, "The data is no list of rows", what, _HINT)


def _list(index: int, window: "_Window") -> Iterator[Record | Fault]:
    """The rows of a list, to its end or to the first place that is no JSON: behind that, nothing can be trusted."""
    window.skip()
    for position in count(1):
        if window.peek() == "]":  # the end, also after a comma: nothing is lost
            break
        try:
            value, bad = window.value(records.MAX_ROW)
        except _BadValue as error:
            kind, text = error.args
            yield Fault(index, position, kind, f"{text}; the rest was not read")
            return
        yield from record(index, position, value, bad)
        mark = window.peek()
        if mark == ",":
            window.skip()
        elif mark != "]":
            wrong = "no comma between two rows" if mark else "the list is cut off"
            yield Fault(index, position + 1, "unparsable", f"{wrong} at {window.place()}; the rest was not read")
            return
    window.skip()
    if window.peek():
        after = f"more after the end of the list at {window.place()}; it was not read"
        yield Fault(index, position, "unparsable", after)


def _objects(index: int, path: Path, window: "_Window") -> Iterator[Record | Fault]:
    """A file that starts with an object: it may be all, or the first of values one after another.

    What cannot be parsed costs all before the next line that starts with a brace.
    """
    for number in count():
        line = window.line
        try:
            value, bad = window.value(records.MAX_ROW if number else MAX_WHOLE)
            found = record(index, line, value, bad)
        except _BadValue as error:
            kind, text = error.args
            if kind == "too_big" and not number:
                what = f"holds an object of over {MAX_WHOLE >> 20} MiB, not a list of rows"
                raise refused(path, "The data is one large object", what, _HINT) from None
            value, found = None, iter([Fault(index, line, kind, text)])
            window.skip_to_object()
        while (mark := window.peek()) == ",":  # a list without its brackets: nothing is lost
            window.skip()
        if value is not None and not number and not mark:
            found = _lone(index, path, value, bad)
        elif mark and not number:
            yield Fault(index, 1, "json_lines", "", lost=False)
        yield from found
        if not mark:
            return


def _lone(index: int, path: Path, value: dict[str, Any], bad: str) -> Iterator[Record | Fault]:
    """The rows of an object that is all of a file: the one list in it, or itself."""
    lists = [v for v in value.values() if isinstance(v, list)]
    chat = any(isinstance(turn, dict) and turn.keys() & {"role", "from"} for turns in lists for turn in turns[:1])
    named = any(isinstance(value.get(column), str) for column in _TEXT_COLUMNS)
    if len(lists) == 1 and not chat and not named:
        for position, row in enumerate(lists[0], 1):
            yield from record(index, position, row, bad)
    elif chat or any(isinstance(v, str) for v in value.values()):
        yield from record(index, 1, value, bad)
    else:
        keys = ", ".join(clean(key, False)[:40] for key in list(value)[:6])
        what = f"holds one object with {keys or 'nothing in it'}; rows are looked for in a single list"
        raise refused(path, "The data is no list of rows", what, _HINT)


class _Window:
    """The part of a JSON text that is held: it grows at its end and is dropped at its start."""

    def __init__(self, source: TextIO) -> None:
        self.source = source
        self.text, self.at = "", 0
        self.line, self.column = 1, 1  # of text[at]

    def peek(self) -> str:
        """The next character that is no space, or nothing at the end."""
        while not (found := _NO_SPACE.search(self.text, self.at)):
            self._move(len(self.text))
            if not self._grow():
                return ""
        self._move(found.start())
        return found.group()

    def skip(self) -> None:
        """Over the character that was peeked at."""
        self._move(self.at + 1)

    def skip_to_object(self) -> None:
        """To the next line that starts with a brace, or to the end."""
        while (found := self.text.find("\n{", self.at)) < 0:
            self._move(max(self.at, len(self.text) - 1))
            if not self._grow():
                self._move(len(self.text))
                return
        self._move(found + 1)

    def value(self, limit: int) -> tuple[Any, str]:
        """The value that comes next, and its bad byte if any.

        Raises _BadValue if it is no JSON, or over `limit` characters.
        """
        while True:
            try:
                value, end = _DECODER.raw_decode(self.text, self.at)
                if end + 2 < len(self.text) or not self._grow(limit):  # a number may go on: 1e+
                    bad = bad_byte(self.text[self.at : end])
                    self._move(end)
                    return value, bad
            except ValueError as error:
                what, at = _wrong(error, self.at)
                # Cut off by the window, or wrong for good? Only strings and numbers can be open from far back
                cut = at >= len(self.text) - 16 or what == _HUGE or what.startswith("Unterminated")
                if not cut or not self._grow(limit):
                    raise _BadValue("unparsable", f"{what} at {self.place(at - self.at)}") from None
            except RecursionError:
                raise _BadValue("too_deep", TOO_DEEP) from None

    def place(self, ahead: int = 0) -> str:
        """`line 3, column 9`, of what comes so many characters ahead."""
        line, column = self._place(self.at + ahead)
        return f"line {line}, column {column}"

    def _place(self, at: int) -> tuple[int, int]:
        newline = self.text.rfind("\n", self.at, at)
        column = at - newline if newline >= 0 else self.column + at - self.at
        return self.line + self.text.count("\n", self.at, at), column

    def _move(self, to: int) -> None:
        (self.line, self.column), self.at = self._place(to), to

    def _grow(self, limit: int = 1) -> bool:
        """Drop what is done and double the rest, else parsing a large row again and again would take for ever.

        False at the end of the file; raises _BadValue if the rest is over `limit` characters.
        """
        rest = self.text[self.at :]
        if len(rest) > limit:
            raise _BadValue("too_big", TOO_BIG)
        more = self.source.read(max(CHUNK, len(rest)))
        if more:
            self.text, self.at = rest + more, 0
        return bool(more)
