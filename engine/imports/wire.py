"""TensorBoard's event files without TensorBoard: TFRecords of the protobuf message Event, of which we read a few fields.

A record is its length (8 bytes), the masked CRC-32C of that, the message, and the masked CRC-32C of the message.
"""

import itertools
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

LARGEST = 16 << 20
"""Bytes of a record; larger ones (graphs, images) are passed over unread."""
SUCCESS, FAILURE = 1, 2
"""How an hparams session says that it ended."""
_SIZES = {1: 8, 5: 4}
_NUMBERS = {1: ("<f", 4, 5), 2: ("<d", 8, 6), 3: ("<i", 4, 7), 9: ("<q", 8, 10)}
"""Of a tensor's type: how a number lies in tensor_content, its bytes, and the field that else has it."""


def _table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


_TABLE = _table()


def masked_crc(data: bytes) -> int:
    """The CRC-32C as TFRecords have it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


_length_crc = lru_cache(4096)(masked_crc)


@dataclass
class Records:
    """The records of a file, each whole and as it was written, or counted as damaged."""

    path: Path
    damaged: int = 0
    large: int = 0
    cut: bool = False
    """The last record is not complete: the file is still written, or its writer was killed."""
    lost_at: int | None = None
    """The byte from which on no record can be found."""

    def __iter__(self) -> Iterator[bytes]:
        self.damaged, self.large, self.cut, self.lost_at, at = 0, 0, False, None, 0
        with self.path.open("rb") as file:
            while header := file.read(12):
                if len(header) < 12:
                    self.cut = True
                    return
                length, crc = struct.unpack("<QI", header)
                if _length_crc(header[:8]) != crc:
                    self.lost_at = at
                    return
                at += 16 + length
                if length > LARGEST:
                    self.large += 1
                    file.seek(at)
                    continue
                body = file.read(length + 4)
                if len(body) < length + 4:
                    self.cut = True
                    return
                if masked_crc(body[:-4]) == int.from_bytes(body[-4:], "little"):
                    yield body[:-4]
                else:
                    self.damaged += 1


def is_event_file(path: Path) -> bool:
    """Whether the first record is there and whole; of an empty file the name says it."""
    if path.stat().st_size == 0:
        return "tfevents" in path.name
    return next(iter(Records(path)), None) is not None


def single(value: float) -> bytes:
    """A value as event files have it: in single precision."""
    try:
        return struct.pack("<f", value)
    except OverflowError:
        return b""


def has_values(path: Path) -> bool:
    """Whether there is more in it than the record that every event file begins with."""
    return len(list(itertools.islice(Records(path), 2))) == 2


@dataclass
class Event:
    """A moment: numbers and texts by tag, hyperparameters, how a session ended. `others`: values of other kinds."""

    time: float = 0.0
    step: int = 0
    scalars: list[tuple[str, float]] = field(default_factory=list)
    texts: list[tuple[str, str]] = field(default_factory=list)
    hparams: dict[str, Any] = field(default_factory=dict)
    status: int | None = None
    others: int = 0


def decode(data: bytes) -> Event:
    """Raises ValueError for what is no such message."""
    event = Event()
    try:
        for number, value in _fields(data):
            if number == 1 and isinstance(value, bytes):
                (event.time,) = struct.unpack("<d", value)
            elif number == 2 and isinstance(value, int):
                event.step = _signed(value)
            elif number == 5 and isinstance(value, bytes):
                for inner, one in _fields(value):
                    if inner == 1:
                        _value(event, one)
    except (struct.error, IndexError, TypeError, AttributeError) as error:
        raise ValueError(str(error)) from None
    return event


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Number and value of each field: an int for a varint, else its bytes."""
    at, end = 0, len(data)
    while at < end:
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        if kind == 2:
            size, at = _varint(data, at)
        elif kind in _SIZES:
            size = _SIZES[kind]
        else:
            raise ValueError(f"wire type {kind}")
        if at + size > end:
            raise ValueError("a field is longer than its message")
        yield key >> 3, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    byte = data[at]
    if byte < 128:
        return byte, at + 1
    result, shift = 0, 0
    while shift < 70:
        byte = data[at]
        at += 1
        result |= (byte & 127) << shift
        if byte < 128:
            return result & 0xFFFFFFFFFFFFFFFF, at
        shift += 7
    raise ValueError("a number without end")


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _value(event: Event, data: bytes) -> None:
    """One value of a Summary: a plain number, or a tensor that holds a number or a text."""
    tag, plain, tensor, plugin, content = "", None, None, "", b""
    for number, value in _fields(data):
        if number == 1:
            tag = value.decode("utf-8", errors="replace")
        elif number == 2:
            (plain,) = struct.unpack("<f", value)
        elif number == 8:
            tensor = value
        elif number == 9:
            plugin, content = _plugin(value)
    if plugin == "hparams":
        _hparams(event, content)
    elif plain is not None:
        event.scalars.append((tag, plain))
    elif tensor is None:
        event.others += 1
    else:
        found = _tensor(tensor)
        if isinstance(found, str):
            event.texts.append((tag, found))
        elif found is not None:
            event.scalars.append((tag, found))
        else:
            event.others += 1


def _plugin(data: bytes) -> tuple[str, bytes]:
    """Name and content of a SummaryMetadata's plugin."""
    name, content = "", b""
    for number, value in _fields(data):
        if number == 1:
            for inner, one in _fields(value):
                if inner == 1:
                    name = one.decode("utf-8", errors="replace")
                elif inner == 2:
                    content = one
    return name, content


def _tensor(data: bytes) -> float | str | None:
    """The one number or text of a TensorProto; None for any other."""
    kind, elements, parts = 0, 1, dict[int, bytes | int]()
    for number, value in _fields(data):
        if number == 1:
            kind = value
        elif number == 2:
            for inner, one in _fields(value):
                if inner == 2:
                    elements *= dict(_fields(one)).get(1, 0)
        elif number in (4, 5, 6, 7, 8, 10):
            parts.setdefault(number, value)
    if elements != 1:
        return None
    if kind == 7:
        text = parts.get(8)
        return text.decode("utf-8", errors="replace") if isinstance(text, bytes) else None
    if kind not in _NUMBERS:
        return None
    form, size, place = _NUMBERS[kind]
    raw = parts.get(4) or parts.get(place)
    if isinstance(raw, int):
        return float(_signed(raw))
    if isinstance(raw, bytes) and kind in (3, 9) and 4 not in parts:
        return float(_signed(_varint(raw, 0)[0]))
    return float(struct.unpack(form, raw[:size])[0]) if raw else None


def _hparams(event: Event, content: bytes) -> None:
    """What an hparams session began with (field 3) or how it ended (field 4)."""
    for number, value in _fields(content):
        if number == 3:
            for inner, entry in _fields(value):
                if inner == 1:
                    pair = dict(_fields(entry))
                    event.hparams[pair.get(1, b"").decode("utf-8", errors="replace")] = _struct_value(pair.get(2, b""))
        elif number == 4:
            event.status = dict(_fields(value)).get(1, 0)


def _struct_value(data: bytes) -> Any:
    """A google.protobuf.Value: number, text or truth value; None for others."""
    for number, value in _fields(data):
        if number == 2:
            return struct.unpack("<d", value)[0]
        if number == 3:
            return value.decode("utf-8", errors="replace")
        if number == 4:
            return bool(value)
    return None
