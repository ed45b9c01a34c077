"""What reading gives, rows and faults, and what all readers of data files share."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import DataError
from engine.text import clean

MAX_ROW = 64 << 20
"""Characters of the largest row that is read."""
MAX_DEPTH = 100
"""Levels of nesting; well under Python's recursion limit, so that whoever gets the row can walk it, too."""
TOO_BIG = f"over {MAX_ROW >> 20} MiB"
"""The text of a Fault of that kind."""
TOO_DEEP = f"over {MAX_DEPTH} levels"
"""The text of a Fault of that kind."""

_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Record:
    """One row as the file has it: `file` is an index into files(path).

    `line`, from 1, is the physical line where the row starts (JSON lines, CSV, text, JSON values one after another), the
    position in a JSON list or the row of a Parquet file.
    """

    file: int
    line: int
    value: dict[str, Any]


@dataclass(frozen=True)
class Fault:
    """Something wrong at one place of a file: `kind` as in engine.data.findings, `text` the particulars, cleaned and short.

    If `lost`, the row is not among the records; otherwise it is, right after this.
    """

    file: int
    line: int
    kind: str
    text: str
    lost: bool = True


class Twice(dict[str, Any]):
    """An object in which a key was named twice."""


def record(index: int, line: int, value: Any, bad: str = "") -> Iterator[Record | Fault]:
    """The row with what had to be mended in it, or why it is none; `bad` is the bad_byte of the text that it is from."""
    if not isinstance(value, dict):
        called = {type(None): "null", bool: "true or false", list: "a list", str: "text"}
        yield Fault(index, line, "not_an_object", called.get(type(value), "a number"))
        return
    found: dict[str, str] = {}
    try:
        plain = _plain(value, found)
    except RecursionError:
        yield Fault(index, line, "too_deep", TOO_DEEP)
        return
    if bad and "surrogate" in found:
        yield Fault(index, line, "encoding", bad)
        return
    yield from (Fault(index, line, kind, text, lost=False) for kind, text in found.items())
    yield Record(index, line, plain)


def _plain(value: Any, found: dict[str, str], depth: int = 0) -> Any:
    """The value as JSON has it, all its text fit for UTF-8; what had to be changed is put in `found`, by kind."""
    if isinstance(value, str):
        return _encodable(value, found)
    if isinstance(value, float) and not math.isfinite(value):
        found.setdefault("nan", str(value))
        return None
    if value is None or isinstance(value, int | float):
        return value
    if depth == MAX_DEPTH:
        raise RecursionError
    if isinstance(value, dict):
        if isinstance(value, Twice):
            found.setdefault("duplicate_key", "")
        return {_encodable(str(key), found): _plain(v, found, depth + 1) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v, found, depth + 1) for v in value]
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            found.setdefault("not_text", f"{len(value)} bytes")
            return f"<{len(value)} bytes>"
    return str(value)  # dates, decimals and the like, from Parquet


def _encodable(text: str, found: dict[str, str]) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        found.setdefault("surrogate", f"U+{ord(text[error.start]):04X}")
        text = _SURROGATE.sub("\ufffd", text)
    return text


def bad_byte(text: str) -> str:
    """`byte 0xe9 at column 4 (“é” in Windows-1252)`: the first of the file's bytes that is no text, if any.

    The text was decoded with errors="surrogateescape"; the column is in characters.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        byte = text[error.start].encode("utf-8", "surrogateescape")
        letter = byte.decode("cp1252", "ignore")
        shown = f" (“{letter}” in Windows-1252)" if letter and letter.isprintable() else ""
        return f"byte 0x{byte.hex()} at column {error.start + 1}{shown}"
    return ""


def describe(error: Exception) -> str:
    """The error in a few words that are safe to show."""
    return clean(getattr(error, "strerror", None) or str(error) or type(error).__name__, False)[:120]


def refused(path: Path, title: str, what: str, hint: str) -> DataError:
    """The error for a file or directory that is no data; `what` follows its name in a sentence."""
    return DataError(title, f"{clean(str(path), False)[:300]} {what}.", hint)


def unreadable(path: Path, error: Exception) -> DataError:
    """The error for a file that the system or a library could not read."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return refused(path, "The data was not found", "does not exist", "Check the path.")
    what = f"cannot be read ({describe(error)})"
    if isinstance(error, OSError) and error.errno:
        return refused(path, "The data cannot be read", what, "Check its permissions, and the disk.")
    return refused(path, "The data is damaged", what, "Fetch or write it again; it may be cut off.")
