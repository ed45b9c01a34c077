"""Rows from tables: CSV and TSV with a header, and Parquet."""

import csv
import re
from collections import deque
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from string import whitespace
from typing import Any

from engine.data import records
from engine.data.records import TOO_BIG, Fault, Record, bad_byte, describe, record, refused, unreadable
from engine.text import clean


def read_csv(index: int, path: Path, lines: Iterator[str | None], delimiter: str) -> Iterator[Record | Fault]:
    """The rows below the header, all values as strings. `lines` has None for one that is too large."""
    csv.field_size_limit(records.MAX_ROW)  # of the process; its default of 128 KiB is less than many documents have
    numbered = ((n, line) for n, line in enumerate(lines, 1) if line is None or line.strip(whitespace))
    number, first = next(numbered, (1, ""))
    if first == "":
        return
    delimiter = delimiter or max(",;\t|", key=re.sub(r'"[^"]*"', "", first or "").count)
    rows = _csv_rows(index, chain([first], lines), number, delimiter)
    header = _header(path, next(rows))
    for row in rows:
        if isinstance(row, Fault):
            yield row
        elif len(row[1]) == len(header):
            yield Record(index, row[0], dict(zip(header, row[1], strict=True)))
        else:
            yield Fault(index, row[0], "columns", f"{len(row[1])} of {len(header)}")


def _header(path: Path, row: tuple[int, list[str]] | Fault) -> list[str]:
    names = [] if isinstance(row, Fault) else [name.strip() for name in row[1]]
    twice = [name for name in names if names.count(name) > 1]
    if isinstance(row, Fault):
        convert = "; iconv -f latin1 -t utf-8 converts it" if row.kind == "encoding" else ""
        problem = f"cannot be read ({row.text}{convert})"
    elif "" in names:
        problem = f"has no name for column {names.index('') + 1} (pandas writes such an index unless told index=False)"
    elif twice:
        problem = f"names {clean(twice[0], False)[:40]} twice"
    else:
        return names
    raise refused(path, "The header cannot be used", f"has a header that {problem}", "Mend the first line.")


def _csv_rows(
    index: int, lines: Iterator[str | None], number: int, delimiter: str
) -> Iterator[tuple[int, list[str]] | Fault]:
    """The line where each row starts and its fields, or what is wrong with it; `number` is that of the first line.

    A stray quote takes what follows for one row. It costs only its own line: the lines after it are read again.
    """
    taken: list[str | None] = []
    again: deque[str | None] = deque()
    size = 0

    def feed() -> Iterator[str]:
        nonlocal size
        while (line := again.popleft() if again else next(lines, "")) != "":
            taken.append(line)
            if line is None or size > records.MAX_ROW:
                raise csv.Error("unexpected end")
            size += len(line)
            yield line

    reader = csv.reader(feed(), delimiter=delimiter, strict=True)
    while True:
        try:
            fields = next(reader, None)
        except csv.Error as error:
            whole = taken[0] is not None
            yield Fault(index, number, *(("unparsable", _csv_problem(error)) if whole else ("too_big", TOO_BIG)))
            again.extendleft(reversed(taken[1:]))
            del taken[1:]
            reader = csv.reader(feed(), delimiter=delimiter, strict=True)
        else:
            if fields is None:
                return
            raw = "".join(line for line in taken if line)
            if bad := bad_byte(raw):
                yield Fault(index, number, "encoding", bad)
            elif raw.strip(whitespace):
                yield number, fields
        number += len(taken)
        taken.clear()
        size = 0


def _csv_problem(error: csv.Error) -> str:
    if "unexpected end" in str(error):
        return "a quote is never closed"
    return "a carriage return without a line feed" if "new-line character" in str(error) else describe(error)


def read_parquet(index: int, path: Path) -> Iterator[Record | Fault]:
    """The rows of a Parquet file, a few at a time."""
    import pyarrow as pa  # type: ignore[import-untyped]  # slow to import, and most data is JSON
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    try:
        with pq.ParquetFile(path, pre_buffer=False) as table:
            names = table.schema_arrow.names
            if len(set(names)) < len(names):
                twice = "has two columns of the same name"
                raise refused(path, "The header cannot be used", twice, "Rename one of them.")
            groups = [table.metadata.row_group(i) for i in range(table.num_row_groups)]
            size = sum(group.total_byte_size for group in groups) // max(1, table.metadata.num_rows)
            batches = table.iter_batches(batch_size=max(1, min(256, records.MAX_ROW // max(1, size))))
            for number, row in enumerate((row for batch in batches for row in _batch(batch)), 1):
                if isinstance(row, Exception):
                    kind = "encoding" if isinstance(row, UnicodeDecodeError) else "unparsable"
                    yield Fault(index, number, kind, describe(row))
                else:  # Parquet does know NaN, and writers of tables mean "missing" by it
                    yield from (item for item in record(index, number, row) if getattr(item, "kind", "") != "nan")
    except (pa.ArrowException, ValueError, OverflowError) as error:
        raise unreadable(path, error) from None


def _batch(batch: Any) -> Iterator[dict[str, Any] | Exception]:
    """The rows of a batch; in place of one that Python has no value for (year 10000, text that is no UTF-8), the error."""
    try:
        yield from batch.to_pylist()
    except (ValueError, OverflowError, LookupError):
        for i in range(batch.num_rows):
            try:
                yield batch.slice(i, 1).to_pylist()[0]
            except (ValueError, OverflowError, LookupError) as error:
                yield error
