"""Data files into rows, one at a time and in bounded memory, with every fault named by its file and line.

JSON lines, JSON, CSV, TSV and plain text (also `.gz`), and Parquet. What a row means is not decided here. Every string in a
row can be encoded again; on the way there, a byte that is no UTF-8 is the lone surrogate that Python has for it.
"""

import codecs
import gzip
import io
import os
import re
import stat
import string
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from engine.data import records
from engine.data.read_json import read_json, read_json_line
from engine.data.read_tables import read_csv, read_parquet
from engine.data.records import TOO_BIG, Fault, Record, bad_byte, refused, unreadable

__all__ = ["Fault", "Record", "files", "read"]

SUFFIXES = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".txt", ".text", ".parquet")

_HEAD = 8 << 10  # bytes at the start in which a binary file gives itself away
_NO_DATA = re.compile(r"\..*|(dataset_infos?|state)\.json|(README|LICENSE).*")  # what lies beside data
_ARCHIVES = (".zip", ".tar", ".tgz", ".7z", ".rar", ".zst", ".xz", ".bz2")
_ARCHIVE_MARKS = (b"PK\x03\x04", b"PK\x05\x06", b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\0",
                  b"BZh91AY&SY", b"\x1f\x8b")  # fmt: skip
_BINARY_MARKS = (
    b"PAR1\x15",
    b"\x89PNG",
    b"\xff\xd8\xff",
    b"%PDF-",
    b"\x7fELF",
    *(bytes([0x80, n]) for n in range(2, 6)),
)
_WIDE = {  # utf-32 first: its little-endian mark begins with that of utf-16
    "utf-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE),
    "utf-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE),
}


def _mark_broken(error: UnicodeError) -> tuple[str, int]:
    """Broken UTF-16 as a byte that no encoding has (not even Windows-1252): found like any bad byte, row by row."""
    return "\udc81", error.end if isinstance(error, UnicodeDecodeError) else 0


codecs.register_error("tunedeck.broken", _mark_broken)


def files(path: Path) -> list[Path]:
    """The file itself, or what can be read in a directory and those below it (no links), sorted.

    Raises DataError if nothing can be read.
    """
    try:
        path = path.expanduser()
        if not stat.S_ISDIR(path.stat().st_mode):
            _refuse_name(path)
            return [path]
        found = sorted(_walk(path))
    except OSError as error:
        raise unreadable(path, error) from None
    except (RuntimeError, ValueError):  # the home of nobody, a NUL
        raise refused(path, "The data was not found", "is no path", "Check the path.") from None
    if not found:
        hint = f"Put files in it that end in {', '.join(SUFFIXES)}."
        raise refused(path, "The directory holds no data", "has no file that can be read", hint)
    return found


def read(path: Path) -> Iterator[Record | Fault]:
    """The rows of all files(path), and what is wrong with them; raises DataError, also midway, if a file is no data."""
    empty = True
    for index, file in enumerate(files(path)):
        try:
            for item in _read_file(index, file):
                empty = empty and isinstance(item, Fault) and not item.lost
                yield item
        except (OSError, EOFError, zlib.error) as error:
            raise unreadable(file, error) from None
    if empty:
        raise refused(path, "The data is empty", "holds no rows", "Give a file with at least one row.")


def _walk(folder: Path) -> Iterator[Path]:
    def fail(error: OSError) -> None:
        raise error  # os.walk would leave the directory out, and its rows would be missing without a word

    for parent, folders, names in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if not _NO_DATA.fullmatch(name) and _suffix(name) in SUFFIXES:
                yield Path(parent, name)


def _suffix(name: str) -> str:
    """The last suffix in small letters, `.gz` aside where it is allowed."""
    suffix = Path(name.lower().removesuffix(".gz")).suffix
    return ".parquet.gz" if suffix == ".parquet" and name.lower().endswith(".gz") else suffix


def _refuse_name(path: Path) -> None:
    suffix = _suffix(path.name)
    if suffix in _ARCHIVES:
        raise refused(path, "The data is an archive", "has to be unpacked first", "Give what is in it.")
    if suffix not in SUFFIXES:
        known = f"ends in none of {', '.join(SUFFIXES)}; .gz may follow, except after .parquet"
        hint = "Convert it to JSONL: one JSON object per line."
        raise refused(path, "This kind of file cannot be read", known, hint)


def _read_file(index: int, path: Path) -> Iterator[Record | Fault]:
    if not stat.S_ISREG(path.stat().st_mode):  # a pipe would wait for ever
        raise refused(path, "The data cannot be read", "is no regular file", "Copy it to a file.")
    suffix = _suffix(path.name)
    if suffix == ".parquet":
        yield from read_parquet(index, path)
        return
    with gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb") as stream:
        head = stream.read(_HEAD)
        encoding = next((name for name, marks in _WIDE.items() if head.startswith(marks)), "")
        if encoding:
            yield Fault(index, 1, "utf16", encoding.upper(), lost=False)
        else:
            _refuse_binary(path, head)
        stream.seek(len(codecs.BOM_UTF8) if head.startswith(codecs.BOM_UTF8) else 0)
        errors = "tunedeck.broken" if encoding else "surrogateescape"
        text = io.TextIOWrapper(stream, encoding or "utf-8", errors, newline="\n")
        if suffix == ".json":
            yield from read_json(index, path, text)
        elif suffix in (".csv", ".tsv"):
            yield from read_csv(index, path, _lines(text), "\t" if suffix == ".tsv" else "")
        else:
            yield from _each_line(index, text, plain=suffix in (".txt", ".text"))


def _refuse_binary(path: Path, head: bytes) -> None:
    if head.startswith(_ARCHIVE_MARKS) or (b"\0" in head and head[257:262] == b"ustar"):
        raise refused(path, "The data is an archive", "is an archive, whatever its name says", "Unpack it first.")
    if head.startswith(_BINARY_MARKS) or b"\0" in head:
        hint = "Name it .parquet if it is that; UTF-16 text: iconv -f utf-16 -t utf-8; convert all else to JSONL."
        raise refused(path, "The data is no text", "is binary, whatever its name says", hint)


def _lines(text: TextIO) -> Iterator[str | None]:
    r"""The lines, each with its `\n`; None for one over MAX_ROW, which is not held. U+2028 and the like end no line."""
    while line := text.readline(records.MAX_ROW + 1):
        whole = len(line) <= records.MAX_ROW or line.endswith("\n")
        yield line if whole else None
        while not whole:
            whole = text.readline(records.MAX_ROW)[-1:] in ("\n", "")


def _each_line(index: int, text: TextIO, plain: bool) -> Iterator[Record | Fault]:
    """JSON lines, or if `plain` a document per line; blank lines are no rows."""
    for number, line in enumerate(_lines(text), 1):
        if line is None:
            yield Fault(index, number, "too_big", TOO_BIG)
        elif bad := bad_byte(line):
            yield Fault(index, number, "encoding", bad)
        elif plain and line.strip():
            yield Record(index, number, {"text": line.removesuffix("\n").removesuffix("\r")})
        elif not plain and line.strip(string.whitespace):
            yield from read_json_line(index, number, line)
