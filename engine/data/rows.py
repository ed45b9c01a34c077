"""From the files that a specification names to rows as TRL takes them, one after the other, whatever is wrong with some."""

import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from engine.data.formats import FORMS, Detected, Value, convert, detect, is_conversational, rename
from engine.data.read import Fault, Record, files, read
from engine.data.turns import BadRow
from engine.errors import DataError
from engine.spec import DataSpec, SourceSpec
from engine.text import clean

SAMPLE = 1000
"""Rows from which the format is told."""


class Place(NamedTuple):
    """What a number means: `line 3` of a file of lines, `row 3` of a list or a table; the file's name if there are several."""

    unit: str
    file: str


PLACE = Place("line", "")


class Row(NamedTuple):
    """One usable row: which of the sources, the line or position in its file, the row as TRL takes it, and the column that
    the split goes by."""

    source: int
    line: int
    value: Value
    group: str = ""
    place: "Place" = PLACE


class Bad(NamedTuple):
    """One that is not, or only after mending (`lost` false): the kind as in engine.data.findings."""

    source: int
    line: int
    kind: str
    text: str
    lost: bool = True
    place: "Place" = PLACE


@dataclass(frozen=True)
class Source:
    """A file or directory of the specification: how often each of its rows is taken, and what its format is."""

    path: Path
    weight: float
    detected: Detected


def named(data: DataSpec) -> list[SourceSpec]:
    """The sources as they are named: one, or several with weights."""
    return [SourceSpec(path=data.path)] if isinstance(data.path, str) else list(data.path)


def sources(data: DataSpec) -> list[Source]:
    """The sources with their formats, told from their first rows. Raises DataError for what cannot be read at all."""
    return [_source(one, data, data.split_by) for one in named(data)]


def validation_source(data: DataSpec) -> list[Source]:
    """The file of held-out rows, if the specification names one."""
    return [_source(SourceSpec(path=data.validation), data)] if isinstance(data.validation, str) else []


def _source(one: SourceSpec, data: DataSpec, split_by: str | None = None) -> Source:
    path = local(one.path)
    sample, mapped = list[dict[str, Any]](), False
    for item in itertools.islice(read(path), 2 * SAMPLE):
        if isinstance(item, Record):
            try:
                sample.append(rename(item.value, data.columns))
                mapped = True
            except BadRow:
                sample.append(item.value)
        if len(sample) == SAMPLE:
            break
    if sample and not mapped:
        absent = [theirs for theirs in data.columns.values() if not any(theirs in row for row in sample)]
        raise _absent(
            path, ", ".join(absent or data.columns.values()), sample, "Correct data.columns: our name to the file's."
        )
    if split_by and sample and not any(split_by in row for row in sample):
        raise _absent(path, split_by, sample, "Correct data.split_by: the file's name of a column.")
    return Source(path, one.weight, detect(sample, data.format))


def _absent(path: Path, column: str, rows: list[dict[str, Any]], hint: str) -> DataError:
    there = ", ".join(list(rows[0])[:12])
    message = clean(f"{path} has no column {column}; it has {there}", False)
    return DataError("A column that you named is not there", f"{message}.", hint)


def local(path: str) -> Path:
    """Where the data lies: a path here, or the copy of a data set of the hub."""
    from engine.data.hub import downloaded

    here = Path(path).expanduser()
    return here if here.exists() else downloaded(path) or here


def rows_of(found: list[Source], data: DataSpec) -> Iterator[Row | Bad]:
    """Every row of the sources in their order, in the form that TRL takes, with the system prompt if one is named."""
    for number, source in enumerate(found):
        places = _places(source.path, len(found) > 1)
        for item in read(source.path):
            place = places[item.file]
            if isinstance(item, Fault):
                yield Bad(number, item.line, item.kind, item.text, item.lost, place)
                continue
            if source.detected.format is None:
                yield Bad(number, item.line, "no_format", source.detected.evidence, True, place)
                continue
            try:
                value = convert(rename(item.value, data.columns), source.detected.format)
            except BadRow as reason:
                yield Bad(number, item.line, reason.kind, str(reason), True, place)
                continue
            group = str(item.value.get(data.split_by, "")) if data.split_by else ""
            yield Row(number, item.line, with_system(value, data.system), group, place)


def _places(path: Path, several: bool) -> list[Place]:
    """What the line numbers of each file mean."""
    paths = files(path)
    several = several or len(paths) > 1
    return [Place("row" if {".json", ".parquet"} & set(p.suffixes) else "line", clean(p.name, False) if several else "")
            for p in paths]  # fmt: skip


def with_system(value: Value, system: str | None) -> Value:
    """The row with a system prompt, unless it has one or is no conversation."""
    if not system or not is_conversational(value):
        return value
    name = "messages" if "messages" in value else "prompt"
    turns = value[name]
    return value if turns[0]["role"] == "system" else {**value, name: [{"role": "system", "content": system}, *turns]}


def form_of(found: list[Source]) -> str:
    """What the rows are, as TRL has it. Raises DataError if the sources are for different objectives."""
    forms = list(dict.fromkeys(FORMS[s.detected.format] for s in found if s.detected.format))
    if len(forms) > 1 and {"preference", "kto"} & set(forms):
        raise DataError("The data sets do not go together", f"They are {' and '.join(forms)}: one run has one objective.",
                        "Train on them one after the other.")  # fmt: skip
    return forms[0] if forms else ""


def content_hash(found: list[Source]) -> str:
    """SHA-256 over the kind, the size and the bytes of every file, in hex: whether it is still the same data.

    Kind and size, so that rows that move from one file into the next make a difference.
    """
    digest = hashlib.sha256()
    for source in found:
        for file in files(source.path):
            digest.update(f"{''.join(file.suffixes).lower()}:{file.stat().st_size}:".encode())
            with file.open("rb") as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()


def first_question(value: Value) -> str:
    """What the row asks, for a sample; "" for plain text."""
    turns: list[dict[str, Any]] = value.get("messages") or value.get("prompt") or []
    if isinstance(turns, str):
        return turns
    return next((str(t["content"]) for t in turns if t["role"] == "user"), "")
