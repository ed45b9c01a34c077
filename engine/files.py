"""Append-only files of events, and private files."""

import contextlib
import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path

from engine.events import Event, Record, decode, encode


def write_private(path: Path, text: str) -> None:
    """Write a whole file that only its owner may read, under its final name only once it is complete."""
    temporary = path.with_name(path.name + ".tmp")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)


class EventFile:
    """Appends records to a file, each with one write. Continues the numbering of what is there."""

    def __init__(self, path: Path, attempt: int = 1) -> None:
        self.attempt = attempt
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        # A writer may have been killed in the middle of a line: what follows must not join it
        size = os.fstat(self._fd).st_size
        self._half_line = size > 0 and os.pread(self._fd, 1, size - 1) != b"\n"
        if self._half_line:
            self._write(b"")
        self._seq = max((record.seq for record in read_records(path)), default=0)

    def append(self, event: Event, moment: float | None = None) -> Record:
        """Write one line, of now or of a moment before. Raises OSError (no space, say); the next line then starts afresh."""
        self._seq += 1
        record = Record(self._seq, time.time() if moment is None else moment, self.attempt, event)
        self._write(encode(record).encode(errors="replace"))  # half a surrogate pair, which JSON allows, is no UTF-8
        return record

    def _write(self, line: bytes) -> None:
        data = b"\n" + line if self._half_line else line
        written = os.write(self._fd, data)
        self._half_line = written < len(data) and (written > 0 or self._half_line)
        if written < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self) -> None:
        os.close(self._fd)


def complete_lines(path: Path, offset: int = 0, limit: int = 8 << 20) -> tuple[list[bytes], int]:
    """The complete lines from `offset` on (at most about `limit` bytes of them), and the offset behind them."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            block = file.read(limit)
            if len(block) == limit and b"\n" not in block:
                block += file.read()
    except FileNotFoundError:
        return [], offset
    end = block.rfind(b"\n") + 1
    return block[:end].splitlines(), offset + end


def read_records(path: Path) -> Iterator[Record]:
    """All records of a file; lines that are not records (a half line that was closed later) are passed over."""
    offset = 0
    while True:
        lines, end = complete_lines(path, offset)
        if end == offset:
            return
        offset = end
        for line in lines:
            with contextlib.suppress(ValueError):
                yield decode(line)
