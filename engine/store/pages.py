"""SQLite's file format read page by page, so that rows can be had of a database that SQLite itself refuses.

Nothing in a damaged file is believed: what does not decode to the byte is no row. See https://www.sqlite.org/fileformat2.html
"""

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MAGIC = b"SQLite format 3\x00"
SIZES = tuple(1 << n for n in range(9, 17))
INDEX_INTERIOR, TABLE_INTERIOR, INDEX_LEAF, TABLE_LEAF = 2, 5, 10, 13
"""The first byte of a page of a tree. A table WITHOUT ROWID has the shape of an index."""
_TREE = (INDEX_INTERIOR, TABLE_INTERIOR, INDEX_LEAF, TABLE_LEAF)
LARGEST = 1 << 30
"""Bytes that no row has."""
_WIDTHS = (0, 1, 2, 3, 4, 6, 8, 8, 0, 0)
"""Bytes of a value, by its serial type."""
Cell = tuple[int | None, bytes]
"""rowid (None in an index), payload"""
Values = tuple[Any, ...]


class Pages:
    """The pages of a database, those that its -wal file has in their newest committed state. Raises OSError."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "rb")  # noqa: SIM115  kept open as long as this lives
        self._end = os.fstat(self._file.fileno()).st_size
        header = self._file.read(100)
        wal = path.with_name(path.name + "-wal")
        self._log = open(wal, "rb") if wal.is_file() else None  # noqa: SIM115
        told = struct.unpack(">H", header[16:18])[0] if len(header) == 100 else 0
        told = 65536 if told == 1 else told
        self.whole_header = header.startswith(MAGIC) and told in SIZES
        self.size = told if self.whole_header else self._log_page_size() or 4096
        self.usable = self.size - (header[20] if self.whole_header and header[20] <= 32 else 0)
        self._newer = self._read_log() if self._log else {}
        self.count = max([(self._end + self.size - 1) // self.size, *self._newer])

    def close(self) -> None:
        self._file.close()
        if self._log:
            self._log.close()

    def page(self, number: int) -> bytes:
        """A page, counted from 1; empty if there is none or only a part of it."""
        if not 1 <= number <= self.count:
            return b""
        if self._log and number in self._newer:
            self._log.seek(self._newer[number])
            block = self._log.read(self.size)
        else:
            self._file.seek((number - 1) * self.size)
            block = self._file.read(self.size)
        return block if len(block) == self.size else b""

    def _log_page_size(self) -> int:
        if self._log is None:
            return 0
        self._log.seek(8)
        size = int.from_bytes(self._log.read(4), "big")
        return size if size in SIZES else 0

    def _read_log(self) -> dict[int, int]:
        """Page number to its place in the -wal file: of the frames that are sound, up to the last commit."""
        assert self._log is not None
        self._log.seek(0)
        header = self._log.read(32)
        if len(header) < 32 or header[:3] != b"\x37\x7f\x06" or int.from_bytes(header[8:12], "big") != self.size:
            return {}
        order = ">" if header[3] & 1 else "<"
        sums = _checksum(order, header[:24], (0, 0))
        if struct.pack(">II", *sums) != header[24:32]:
            return {}
        committed: dict[int, int] = {}
        waiting: dict[int, int] = {}
        while len(frame := self._log.read(24)) == 24:
            place = self._log.tell()
            block = self._log.read(self.size)
            sums = _checksum(order, block, _checksum(order, frame[:8], sums)) if len(block) == self.size else (0, 0)
            if frame[8:16] != header[16:24] or struct.pack(">II", *sums) != frame[16:24]:
                break
            number, after_commit = struct.unpack(">II", frame[:8])
            waiting[number] = place
            if after_commit:
                committed |= waiting
                waiting = {}
        return committed


def _checksum(order: str, data: bytes, sums: tuple[int, int]) -> tuple[int, int]:
    a, b = sums
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for i in range(0, len(words), 2):
        a = (a + words[i] + b) & 0xFFFFFFFF
        b = (b + words[i + 1] + a) & 0xFFFFFFFF
    return a, b


def varint(data: bytes, at: int) -> tuple[int, int]:
    """(value, where the next begins). Raises IndexError."""
    value = 0
    for i in range(8):
        byte = data[at + i]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + i + 1
    value = value << 8 | data[at + 8]
    return (value - (1 << 64) if value >> 63 else value), at + 9


def values(payload: bytes, whole: bool = True) -> Values:
    """A row's values. Raises ValueError if it is not one to the byte; without `whole` its end may be missing: None."""
    try:
        length, at = varint(payload, 0)
        if not at <= length <= len(payload):
            raise ValueError("no header")
        body, found = length, []
        while at < length:
            kind, at = varint(payload, at)
            width = (kind - 12) // 2 if kind >= 12 else _WIDTHS[kind]
            if width < 0 or (whole and body + width > len(payload)):
                raise ValueError("no value")
            found.append(_value(kind, payload[body : body + width]) if body + width <= len(payload) else None)
            body += width
    except IndexError:
        raise ValueError("no row") from None
    if at != length or body < len(payload) or (whole and body > len(payload)):
        raise ValueError("no row")
    return tuple(found)


def _value(kind: int, data: bytes) -> Any:
    if kind >= 12:
        return data if kind % 2 == 0 else data.decode("utf-8", "replace")
    if kind == 7:
        number = struct.unpack(">d", data)[0]
        return None if number != number else number
    if kind in (8, 9):
        return kind - 8
    return int.from_bytes(data, "big", signed=True) if kind else None


class Tree:
    """A walk through trees: the pages that it has `seen`, and how many pages and cells it could not read."""

    def __init__(self, pages: Pages, whole: bool = True) -> None:
        """Without `whole` a row whose end lies on pages that cannot be read is given without it."""
        self.pages, self._whole = pages, whole
        self.seen: set[int] = set()
        self.broken = 0

    def pages_with_rows(self, root: int) -> Iterator[int]:
        """The numbers of the pages of one tree that hold rows, in order of the keys as far as they can be followed."""
        waiting = [root]
        while waiting:
            number = waiting.pop()
            block, start = self.pages.page(number), 100 if number == 1 else 0
            if number in self.seen or not block or block[start] not in _TREE:
                self.broken += 1
                continue
            self.seen.add(number)
            if block[start] != TABLE_INTERIOR:
                yield number
            if block[start] in (INDEX_INTERIOR, TABLE_INTERIOR):
                children = [int.from_bytes(block[at : at + 4], "big") for at in _places(block, start) if at is not None]
                waiting += [int.from_bytes(block[start + 8 : start + 12], "big"), *reversed(children)]

    def cells_on(self, number: int) -> Iterator[Cell]:
        """The rows on a page."""
        block, start = self.pages.page(number), 100 if number == 1 else 0
        if not block or block[start] not in _TREE:
            self.broken += 1
            return
        for at in _places(block, start):
            try:
                if at is None:
                    raise ValueError("outside of the page")
                yield self._cell(block, at + 4 * (block[start] == INDEX_INTERIOR), block[start] == TABLE_LEAF)
            except (ValueError, IndexError):
                self.broken += 1

    def _cell(self, block: bytes, at: int, rowid: bool) -> Cell:
        """Raises ValueError, IndexError."""
        length, at = varint(block, at)
        if not 0 < length < LARGEST:
            raise ValueError("no length")
        key = None
        if rowid:
            key, at = varint(block, at)
        usable = self.pages.usable
        most = usable - 35 if rowid else (usable - 12) * 64 // 255 - 23
        if length <= most:
            if at + length > usable:
                raise ValueError("beyond the page")
            return key, block[at : at + length]
        least = (usable - 12) * 32 // 255 - 23
        local = least + (length - least) % (usable - 4)
        local = local if local <= most else least
        follows = int.from_bytes(block[at + local : at + local + 4], "big")
        return key, block[at : at + local] + self._overflow(follows, length - local)

    def _overflow(self, number: int, left: int) -> bytes:
        found, been = [], set()
        while left > 0:
            block = self.pages.page(number)
            if not block or number in been:
                if self._whole:
                    raise ValueError("a chain that breaks off")
                break
            been.add(number)
            found.append(block[4 : 4 + min(left, self.pages.usable - 4)])
            left -= len(found[-1])
            number = int.from_bytes(block[:4], "big")
        return b"".join(found)


def _places(block: bytes, start: int) -> Iterator[int | None]:
    """Where the cells of a page begin; None for one that lies outside of it."""
    head = start + (12 if block[start] in (INDEX_INTERIOR, TABLE_INTERIOR) else 8)
    count = int.from_bytes(block[start + 3 : start + 5], "big")
    count = min(count, (len(block) - head) // 2)
    for i in range(count):
        at = int.from_bytes(block[head + 2 * i : head + 2 * i + 2], "big")
        yield at if head + 2 * count <= at < len(block) - 3 else None


def count_on(block: bytes) -> int:
    """How many rows a page of a tree (but the first) says that it has."""
    if not block or block[0] not in (INDEX_INTERIOR, INDEX_LEAF, TABLE_LEAF):
        return 0
    return min(int.from_bytes(block[3:5], "big"), len(block) // 4)


def free_pages(pages: Pages) -> set[int]:
    """Pages that hold nothing any more, as far as their list can be followed."""
    found: set[int] = set()
    head = pages.page(1)
    trunk = int.from_bytes(head[32:36], "big") if pages.whole_header and head else 0
    while trunk and trunk not in found and (block := pages.page(trunk)):
        found.add(trunk)
        count = min(int.from_bytes(block[4:8], "big"), pages.size // 4 - 2)
        found |= set(struct.unpack(f">{count}I", block[8 : 8 + 4 * count]))
        trunk = int.from_bytes(block[:4], "big")
    return found
