"""What stands before the tensors of a GGUF file, read without touching what it does not tell.

The `gguf` package builds an object for every token of the vocabulary: seconds, where this takes hundredths of one. The format
is https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little-endian.
"""

import mmap
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

STRING, ARRAY = 8, 9
SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
BLOCKS = {0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 10: (256, 84),
          11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 30: (1, 2)}  # fmt: skip
"""Elements and bytes of a block by the tensor's type: F32, F16, Q4_0 to Q8_0, Q2_K to Q6_K, BF16. Others are not measured."""
ALIGNMENT = 32
_LONG = struct.Struct("<Q")


@dataclass(frozen=True)
class Header:
    """The key-value pairs but for arrays, of which there is the length; elements by tensor; where the tensors end at least."""

    values: dict[str, Any]
    lengths: dict[str, int]
    tensors: dict[str, int]
    end: int


class _Cursor:
    def __init__(self, data: mmap.mmap) -> None:
        self.data = data
        self.at = 0

    def take(self, form: str) -> Any:
        (value,) = struct.unpack_from(form, self.data, self.at)
        self.at += struct.calcsize(form)
        return value

    def text(self) -> str:
        length = self.take("<Q")
        if length > len(self.data) - self.at:
            raise ValueError("a text goes on past the file's end")
        self.at += length
        return self.data[self.at - length : self.at].decode("utf-8", "replace")

    def skip_array(self) -> int:
        """Past an array; its length."""
        kind, length = self.take("<I"), int(self.take("<Q"))
        if kind == STRING:
            data, at = self.data, self.at
            for _ in range(length):
                at += 8 + _LONG.unpack_from(data, at)[0]
            self.at = at
        elif kind in SCALARS:
            self.at += length * struct.calcsize(SCALARS[kind])
        else:
            raise ValueError(f"an array of type {kind}")
        return length


def read_header(path: Path) -> Header:
    """The header of a file. Raises OSError or ValueError for one that is none or is cut off in it."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[:4] != b"GGUF":
            raise ValueError("it does not begin with GGUF")
        try:
            return _read(_Cursor(data))
        except (struct.error, OverflowError):
            raise ValueError("it is cut off") from None


def _read(cursor: _Cursor) -> Header:
    cursor.at = 4
    version, tensors, pairs = cursor.take("<I"), cursor.take("<Q"), cursor.take("<Q")
    if version not in (2, 3):
        raise ValueError(f"version {version} of the format")
    values: dict[str, Any] = {}
    lengths: dict[str, int] = {}
    for _ in range(pairs):
        name, kind = cursor.text(), cursor.take("<I")
        if kind == ARRAY:
            lengths[name] = cursor.skip_array()
        elif kind == STRING:
            values[name] = cursor.text()
        elif kind in SCALARS:
            values[name] = cursor.take(SCALARS[kind])
        else:
            raise ValueError(f"a value of type {kind}")
    found: dict[str, int] = {}
    last = 0
    for _ in range(tensors):
        name, dimensions = cursor.text(), cursor.take("<I")
        found[name] = elements = prod(cursor.take("<Q") for _ in range(dimensions))
        block, size = BLOCKS.get(cursor.take("<I"), (1, 0))
        last = max(last, cursor.take("<Q") + elements // block * size)
    step = int(values.get("general.alignment") or ALIGNMENT)
    start = -(-cursor.at // step) * step
    return Header(values, lengths, found, start + last)
