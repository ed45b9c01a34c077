"""Data files into conversations: reads, detects the format, and says line by line what cannot be used."""

import gzip
import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.errors import DataError
from engine.text import clean

Message = dict[str, str]
"""`role` (system, user, assistant) and `content`."""

FORMATS: dict[str, tuple[str, ...]] = {"alpaca": ("instruction", "output"), "messages": ("messages",)}
ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class Conversation:
    """One row: its place in the file (a line of JSONL, a position in a JSON list; from 1) and its turns."""

    line: int
    messages: list[Message]


@dataclass(frozen=True)
class Loaded:
    """The rows that can be used, and why the others cannot: reason to line numbers."""

    path: Path
    format: str
    evidence: str
    rows: list[Conversation]
    dropped: dict[str, list[int]] = field(default_factory=dict)


def load(path: str | Path, wanted: str | None = None, columns: dict[str, str] | None = None,
         max_rows: int | None = None) -> Loaded:  # fmt: skip
    """Read a `.json` or `.jsonl` file (also `.gz`) of Alpaca or messages rows.

    `wanted` is a format's name, None to detect it; `columns` maps our names (instruction, input, output, messages) to the file's. Raises DataError if the file cannot be
    read, no format fits, or no row is left.
    """
    path = Path(path).expanduser()
    raw = _read(path)
    if not raw:
        raise DataError("The data is empty", f"{path} holds no rows.", "Give a file with at least one row.")
    absent = sorted(set((columns or {}).values()) - {key for _, row in raw for key in row})
    if absent:
        there = ", ".join(clean(k, False) for k in sorted(raw[0][1])[:12])
        raise DataError("A column that you named is not there", f"{path} has no column {', '.join(absent)}; it has {there}.",
                        "Correct data.columns: our name to the file's.")  # fmt: skip
    renamed = [(line, _rename(row, columns or {})) for line, row in raw]
    chosen, evidence = _detect(path, renamed, wanted, columns or {})
    convert: Callable[[dict[str, Any]], list[Message]] = _from_alpaca if chosen == "alpaca" else _from_messages
    rows: list[Conversation] = []
    dropped: dict[str, list[int]] = {}
    for line, row in renamed:
        if max_rows and len(rows) >= max_rows:
            break
        try:
            rows.append(Conversation(line, convert(row)))
        except ValueError as reason:
            dropped.setdefault(str(reason), []).append(line)
    if not rows:
        raise DataError("No row can be trained on", f"{path}: {describe_dropped(dropped)}.", "Mend the rows named.")
    return Loaded(path, chosen, evidence, rows, dropped)


def describe_dropped(dropped: dict[str, list[int]]) -> str:
    """`23 rows: empty output (lines 1, 2, 3 …)` for each reason."""
    parts = []
    for reason, lines in dropped.items():
        some = ", ".join(map(str, lines[:5])) + (" …" if len(lines) > 5 else "")
        parts.append(f"{len(lines)} {'row' if len(lines) == 1 else 'rows'}: {reason} (lines {some})")
    return "; ".join(parts)


def _read(path: Path) -> list[tuple[int, dict[str, Any]]]:
    if not path.exists():
        raise DataError("The data was not found", f"There is no file {path}.", "Check the path.")
    if path.is_dir():
        raise DataError("The data is a directory", f"{path} is no file.", "Name a .json or .jsonl file in it.")
    suffixes = [s.lower() for s in path.suffixes if s.lower() != ".gz"]
    kind = suffixes[-1] if suffixes else ""
    if kind not in (".json", ".jsonl"):
        raise DataError(
            "This kind of file cannot be read", f"{path.name} is neither .json nor .jsonl.", "Convert it to JSONL."
        )
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if path.suffix.lower() == ".gz" else raw).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError("The data is not UTF-8", f"{path}: {error}.", "Convert it: iconv -f latin1 -t utf-8") from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            "The data cannot be read", f"{path}: {getattr(error, 'strerror', None) or error}.", "Check the file."
        ) from None
    return _parse_json(path, text) if kind == ".json" else _parse_lines(path, text)


def _parse_json(path: Path, text: str) -> list[tuple[int, dict[str, Any]]]:
    if not text.strip():
        return []
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        if "Extra data" in str(error):  # JSON lines under the name of JSON: common, and harmless
            return _parse_lines(path, text)
        raise DataError(
            "The data is not valid JSON", f"{path}: {error}.", "Mend the place named, or use JSONL."
        ) from None
    if isinstance(raw, dict) and not any(set(columns) <= raw.keys() for columns in FORMATS.values()):
        lists = [v for v in raw.values() if isinstance(v, list)]
        raw = lists[0] if len(lists) == 1 else [raw]
    if isinstance(raw, dict):
        raw = [raw]
    if not isinstance(raw, list):
        raise DataError(
            "The data is no list of rows",
            f"{path} holds a single {type(raw).__name__}.",
            "Give a JSON list of objects.",
        )
    return [(i, _object(path, i, row)) for i, row in enumerate(raw, 1)]


def _parse_lines(path: Path, text: str) -> list[tuple[int, dict[str, Any]]]:
    rows, bad = [], []
    # Not splitlines(): it also cuts at U+2028 and form feeds, which JSON allows inside a string
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            rows.append((number, _object(path, number, json.loads(line))))
        except (ValueError, RecursionError) as error:
            bad.append((number, str(error)))
    if bad:
        lines = ", ".join(str(n) for n, _ in bad[:5]) + (" …" if len(bad) > 5 else "")
        raise DataError(
            "The data is not valid JSONL",
            f"{path}: {len(bad)} of {len(bad) + len(rows)} lines cannot be parsed: {lines} ({bad[0][1]}).",
            "Each line must be one JSON object.",
        )
    return rows


def _object(path: Path, line: int, row: Any) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise DataError(
            "A row is no object", f"{path}, row {line} is a {type(row).__name__}.", "Each row must be a JSON object."
        )
    return row


def _rename(row: dict[str, Any], columns: dict[str, str]) -> dict[str, Any]:
    return row | {ours: row[theirs] for ours, theirs in columns.items() if theirs in row}


def _detect(path: Path, rows: list[tuple[int, dict[str, Any]]], wanted: str | None,
            columns: dict[str, str]) -> tuple[str, str]:  # fmt: skip
    """The format and the evidence for it: the columns that every row, or most rows, have."""
    best, count = "", 0
    for name, needed in FORMATS.items():
        if wanted in (None, name):
            have = sum(all(column in row for column in needed) for _, row in rows)
            best, count = (name, have) if have > count else (best, count)
    if not best:
        found = sorted({key for _, row in rows[:100] for key in row} - set(columns))
        expected = " or ".join(f"{n} ({', '.join(c)})" for n, c in FORMATS.items() if wanted in (None, n))
        raise DataError(
            "The columns are not those of a known format",
            f"{path} has {', '.join(clean(k, False) for k in found[:12]) or 'no columns'}; wanted is {expected}.",
            "Name them: --set data.columns='{instruction: question, output: answer}'",
        )
    return best, f"{', '.join(FORMATS[best])} in {count:,} of {len(rows):,} rows"


def _from_alpaca(row: dict[str, Any]) -> list[Message]:
    """Raises ValueError with the reason why this row cannot be trained on."""
    prompt = _string(row, "instruction")
    extra = row.get("input") or ""
    if not isinstance(extra, str):
        raise ValueError("input is no text")
    output = _string(row, "output")
    if not (prompt.strip() or extra.strip()):
        raise ValueError("instruction is empty")
    if not output.strip():
        raise ValueError("output is empty: nothing to train on")
    history: list[Message] = [{"role": "system", "content": s}] if isinstance(s := row.get("system"), str) and s else []
    return [
        *history,
        {"role": "user", "content": f"{prompt}\n\n{extra}" if extra.strip() and prompt.strip() else prompt or extra},
        {"role": "assistant", "content": output},
    ]


def _string(row: dict[str, Any], column: str) -> str:
    if row.get(column) is None:
        raise ValueError(f"{column} is missing")
    if not isinstance(row[column], str):
        raise ValueError(f"{column} is no text")
    return str(row[column])


def _from_messages(row: dict[str, Any]) -> list[Message]:
    """Raises ValueError with the reason why this row cannot be trained on."""
    turns = row.get("messages")
    if not isinstance(turns, list) or not turns:
        raise ValueError("messages is missing, empty or no list")
    messages: list[Message] = []
    for turn in turns:
        if not isinstance(turn, dict) or not isinstance(turn.get("content"), str):
            raise ValueError("a message has no text content")
        if turn.get("role") not in ROLES:
            raise ValueError(f"role {clean(repr(turn.get('role')), False)[:20]} is none of {', '.join(ROLES)}")
        messages.append({"role": str(turn["role"]), "content": turn["content"]})
    if not any(m["role"] == "assistant" and m["content"].strip() for m in messages):
        raise ValueError("no assistant message: nothing to train on")
    return messages
