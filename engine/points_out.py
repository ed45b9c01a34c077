"""Every point of runs as CSV, JSON lines or Parquet: streamed, unthinned, under its name only once it is whole."""

import contextlib
import csv
import itertools
import json
import os
import sqlite3
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from engine.errors import RunError, SpaceError
from engine.store import points
from engine.text import clean

FORMATS = ("csv", "jsonl", "parquet")
LONG = ("run_id", "run", "key", "step", "attempt", "time", "value")
WIDE = ("run_id", "run", "step", "attempt", "time")
"""Before a column for each metric. `time` is that of the first of a step's values."""
GROUP = 10_000
"""Rows that a Parquet file gets at once."""

Row = tuple[Any, ...]


@dataclass(frozen=True)
class Table:
    """The names of columns, and rows as they are asked for. Times are unix seconds, attempts count from 1."""

    columns: tuple[str, ...]
    rows: Iterator[Row]


def table(
    db: sqlite3.Connection, runs: Sequence[tuple[str, str]], keys: Sequence[str] = (), wide: bool = False
) -> Table:
    """The points of runs, each an id and a name. Of some `keys` only, if given. Raises RunError if no run has one of them."""
    known = points.keys(db, [run_id for run_id, _ in runs])
    absent = [key for key in keys if key not in known]
    if absent:
        have = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
        raise RunError(
            "There is no such metric", f"No run named has {', '.join(absent)}.", f"They have {have}." if known else ""
        )
    if not wide:
        return Table(LONG, _long(db, runs, keys or None))
    shown = list(dict.fromkeys(keys)) or known
    columns = (f"metric.{key}" if key in WIDE else clean(key, False) for key in shown)
    return Table((*WIDE, *columns), _wide(db, runs, shown))


def _long(db: sqlite3.Connection, runs: Sequence[tuple[str, str]], keys: Sequence[str] | None) -> Iterator[Row]:
    for run_id, name in runs:
        shown = clean(name, False)
        for key, step, attempt, time, value in points.every(db, run_id, keys):
            yield run_id, shown, clean(key, False), step, attempt, time, value


def _wide(db: sqlite3.Connection, runs: Sequence[tuple[str, str]], keys: Sequence[str]) -> Iterator[Row]:
    for run_id, name in runs:
        shown = clean(name, False)
        for (step, attempt), group in itertools.groupby(points.by_step(db, run_id, keys), lambda point: point[1:3]):
            here = list(group)
            values = {point[0]: point[4] for point in here}
            yield run_id, shown, step, attempt, min(point[3] for point in here), *(values.get(key) for key in keys)


def write(db: sqlite3.Connection, found: Table, form: str, target: Path | None, force: bool = False) -> int:
    """Write a table; None is standard output. How many rows that were. Raises SpaceError; then nothing is there.

    All of it is from one moment, whatever is written to the database meanwhile.
    """
    db.execute("BEGIN")
    try:
        if target is None:
            return WRITERS[form](sys.stdout, found)
        with _whole(target, force) as file:
            return _write_parquet(file, found) if form == "parquet" else _write_text(file, found, form)
    finally:
        db.execute("ROLLBACK")


@contextlib.contextmanager
def _whole(target: Path, force: bool) -> Iterator[Path]:
    """A file to write, which gets its name when all is written. Raises SpaceError."""
    if target.is_dir():
        raise SpaceError("That is a directory", f"{target} is one.", "Name a file.")
    if target.exists() and not force:
        raise SpaceError(
            "The file is there already", f"{target} exists.", "Name another, or overwrite it with --force."
        )
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:80]}.")
        os.close(handle)
        try:
            yield Path(name)
            with open(name, "rb") as written:
                os.fsync(written.fileno())
            _name(name, target, force)
        finally:
            Path(name).unlink(missing_ok=True)
    except FileExistsError:
        raise SpaceError(
            "The file is there already", f"{target} exists.", "Name another, or overwrite it with --force."
        ) from None
    except OSError as error:
        raise SpaceError(
            "The file cannot be written", f"{target}: {error.strerror or error}.", "Name another place."
        ) from None


def _name(name: str, target: Path, force: bool) -> None:
    if not force:
        try:
            return os.link(name, target)  # unlike a rename it does not take the place of what appeared meanwhile
        except FileExistsError:
            raise
        except OSError:  # a file system without links
            pass
    return os.replace(name, target)


def _write_text(path: Path, found: Table, form: str) -> int:
    with path.open("w", encoding="utf-8", newline="") as file:
        return WRITERS[form](file, found)


def _write_csv(file: TextIO, found: Table) -> int:
    """Numbers with as many digits as they have; what is not finite as nan, inf and -inf; what is not there empty."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(found.columns)
    count = 0
    for count, row in enumerate(found.rows, 1):  # noqa: B007
        writer.writerow(row)
    return count


def _write_jsonl(file: TextIO, found: Table) -> int:
    """JSON has no numbers that are not finite: they are the texts nan, inf and -inf. What is not there is left out."""
    count = 0
    for count, row in enumerate(found.rows, 1):  # noqa: B007
        named = {name: value for name, value in zip(found.columns, row, strict=True) if value is not None}
        file.write(json.dumps(named, ensure_ascii=False, allow_nan=False) + "\n")
    return count


def _write_parquet(path: Path, found: Table) -> int:
    """Values in double precision, what is not finite as such."""
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    kinds = {"run_id": pa.string(), "run": pa.string(), "key": pa.string(), "step": pa.int64(), "attempt": pa.int64()}
    schema = pa.schema([(name, kinds.get(name, pa.float64())) for name in found.columns])
    count = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        while rows := list(itertools.islice(found.rows, GROUP)):
            columns = [
                pa.array(
                    column if name in kinds else [None if v is None else float(v) for v in column],
                    schema.field(name).type,
                )
                for name, column in zip(found.columns, zip(*rows, strict=True), strict=True)
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
            count += len(rows)
    return count


WRITERS = {"csv": _write_csv, "jsonl": _write_jsonl}
"""The formats that are text, and may go to standard output."""
