"""A JSON object with one very long list in it, piece by piece: `trainer_state.json` of a million steps is never held whole."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from engine.imports.source import broken

CHUNK = 1 << 20
LARGEST = 16 << 20
"""Characters of one value, or of one item of the list."""
_SPACE = " \t\r\n"


class _Text:
    """The part of a file that is being looked at."""

    def __init__(self, path: Path, file: TextIO) -> None:
        self.path, self._file, self._decoder = path, file, json.JSONDecoder()
        self.text, self.at = "", 0

    def peek(self) -> str:
        """The next character that is no space; "" at the end."""
        while True:
            while self.at < len(self.text):
                if self.text[self.at] not in _SPACE:
                    return self.text[self.at]
                self.at += 1
            if not self._more():
                return ""

    def take(self, characters: str) -> str:
        """The next character, which must be one of these. Raises SourceError."""
        found = self.peek()
        if not found or found not in characters:
            raise broken(self.path, "it ends in the middle" if not found else "it is not sound JSON")
        self.at += 1
        return found

    def value(self) -> Any:
        """The next value. Raises SourceError."""
        self.peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self.text, self.at)
                if end < len(self.text) or not self._more():  # a number may go on
                    self.at = end
                    return value
            except RecursionError:
                raise broken(self.path, "it is nested too deeply") from None
            except ValueError:
                if not self._more():
                    raise broken(self.path, "it ends in the middle, or is not sound JSON") from None

    def _more(self) -> bool:
        """Drop what is done and read on, as much again as is held: else a long value would be parsed again and again."""
        rest = self.text[self.at :]
        if len(rest) > LARGEST:
            raise broken(self.path, f"a value in it is over {LARGEST >> 20} MiB")
        try:
            more = self._file.read(max(CHUNK, len(rest)))
        except UnicodeDecodeError:
            raise broken(self.path, "it is no text") from None
        self.text, self.at = rest + more, 0
        return bool(more)


def pieces(path: Path, long: str) -> Iterator[tuple[str, Any]]:
    """(name, value) of each field of the object in a file; of the list named `long` one pair for each item.

    Raises SourceError if the file cannot be read or is no such object.
    """
    try:
        with path.open(encoding="utf-8") as file:
            text = _Text(path, file)
            text.take("{")
            while text.peek() != "}":
                name = text.value()
                text.take(":")
                if name == long and text.peek() == "[":
                    yield from ((long, item) for item in _items(text))
                else:
                    yield str(name), text.value()
                if text.peek() != "}":
                    text.take(",")
            text.take("}")
    except OSError as error:
        raise broken(path, error.strerror or str(error)) from None


def _items(text: _Text) -> Iterator[Any]:
    text.take("[")
    while text.peek() != "]":
        yield text.value()
        if text.peek() != "]":
            text.take(",")
    text.take("]")
