"""What was said in a chat, as rows of its job: written line by line as it happens, read again to say how it ended."""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.events import Exit
from engine.files import complete_lines

Row = dict[str, Any]
ROWS = "rows.jsonl"


@dataclass
class Transcript:
    """Appends to a file. Each row has a number, from 1, and the number of the `turn` that it belongs to; a row that is taken
    back is written again, with `undone`."""

    path: Path
    written: int = 0

    def add(self, role: str, voice: str, text: str, turn: int, **more: Any) -> Row:
        """Write one row now; the row."""
        self.written += 1
        row = {"row": self.written, "role": role, "voice": voice, "text": text, "turn": turn, **more}
        self._append(row)
        return row

    def undo(self, rows: Iterable[Row]) -> None:
        """These were taken back: what follows was said without them."""
        for row in rows:
            self._append(row | {"undone": True})

    def _append(self, row: Row) -> None:
        line = json.dumps(row, ensure_ascii=False).encode(errors="replace") + b"\n"
        with open(self.path, "ab", opener=private) as file:
            file.write(line)


def private(path: str, flags: int) -> int:
    """As `open` wants it: a new file is its owner's alone."""
    return os.open(path, flags, 0o600)


def read(path: Path) -> list[Row]:
    """The rows as they stand: of one that came again the last; a half line is passed over."""
    found: dict[int, Row] = {}
    offset = 0
    while True:
        lines, end = complete_lines(path, offset)
        if end == offset:
            return [found[number] for number in sorted(found)]
        offset = end
        for line in lines:
            row = _row(line)
            if row is not None:
                found[row["row"]] = row


def _row(line: bytes) -> Row | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and isinstance(row.get("row"), int) else None


def summary(rows: Iterable[Row]) -> Row:
    """What came of a chat, without what was taken back: turns, answers, voices that answered, tokens that they wrote in
    `seconds`."""
    rows = [row for row in rows if not row.get("undone")]
    answers = [row for row in rows if row["role"] == "assistant"]
    return {
        "turns": sum(row["role"] == "user" for row in rows),
        "answers": len(answers),
        "voices": list(dict.fromkeys(row["voice"] for row in answers)),
        "tokens": sum(row.get("tokens") or 0 for row in answers),
        "seconds": round(sum(row.get("seconds") or 0.0 for row in answers), 3),
    }


def sentence(turns: int) -> str:
    """As it stands in the run's history."""
    return "chat of 1 turn" if turns == 1 else f"chat of {turns} turns"


def cut_off(folder: Path) -> Exit:
    """How a chat ended whose holder is gone: what was said stays."""
    turns = summary(read(folder / ROWS))["turns"]
    return Exit("stopped", f"{sentence(turns)}; the program that held it was killed")
