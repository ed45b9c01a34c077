"""Results of a job, line by line: what a job that goes on need not do again."""

import errno
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from engine.files import complete_lines

Row = dict[str, Any]


class Results:
    """A file of JSON lines, to be read once and appended to. Rows that come together are written with one write, so that a
    process that is killed leaves all of them or none, or a half line, which is passed over."""

    def __init__(self, path: Path, key: str = "row") -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        size = os.fstat(self._fd).st_size
        self._half_line = size > 0 and os.pread(self._fd, 1, size - 1) != b"\n"
        self._key = key
        self.rows: dict[Any, Row] = {row[key]: row for row in _read(path) if key in row}
        """By their key; of those that came twice the later one."""

    def append(self, rows: Iterable[Row]) -> None:
        """Raises OSError if there is no room for all of them."""
        rows = list(rows)
        if not rows:
            return
        lines = "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
        data = b"\n" * self._half_line + lines.encode(errors="replace")
        written = os.write(self._fd, data)
        if written < len(data):
            self._half_line = True
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._half_line = False
        self.rows |= {row[self._key]: row for row in rows if self._key in row}

    def close(self) -> None:
        os.close(self._fd)


def _read(path: Path) -> Iterable[Row]:
    offset = 0
    while True:
        lines, end = complete_lines(path, offset)
        if end == offset:
            return
        offset = end
        for line in lines:
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict):
                yield row
