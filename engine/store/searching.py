"""The logs of runs in the full-text search. What else it searches (names, notes, tags, reasons) triggers keep there."""

import os
import sqlite3
import time
from pathlib import Path

from engine import paths
from engine.store.connection import transaction, writable
from engine.store.runs import ACTIVE
from engine.text import tail

LOG_BYTES = 32 << 10
"""Of the end of output.log."""
AT_ONCE = 20
"""Logs that one transaction takes in."""
_UNREAD = (
    f"SELECT id FROM runs WHERE status NOT IN {ACTIVE} AND NOT EXISTS"
    " (SELECT 1 FROM search_texts WHERE run_id = runs.id AND part = 'log') ORDER BY created_at DESC"
)


def keep_log(db: sqlite3.Connection, run_id: str, run_dir: Path) -> None:
    """Take the end of a run's log as it is now; nothing if there is none. Within the caller's transaction."""
    db.execute(
        "INSERT INTO search_texts (run_id, part, text) SELECT id, 'log', ? FROM runs WHERE id = ?"
        " ON CONFLICT (run_id, part) DO UPDATE SET text = excluded.text WHERE text != excluded.text",
        (_log_text(run_dir), run_id))  # fmt: skip


def _log_text(run_dir: Path) -> str:
    """What can be seen of it, without what looks like a secret; of a progress bar its last state."""
    from engine.environment import redacted

    try:
        with open(run_dir / "output.log", "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LOG_BYTES))
            return redacted("\n".join(tail(file.read().decode(errors="replace"), LOG_BYTES)))
    except OSError:
        return ""


def unread(db: sqlite3.Connection) -> int:
    """How many runs have ended whose logs are not searched yet: those from before there was this search."""
    return int(db.execute(f"SELECT count(*) FROM ({_UNREAD})").fetchone()[0])


def catch_up(db: sqlite3.Connection, seconds: float = float("inf"), database: Path | None = None) -> int:
    """Take in the logs of runs that ended before there was this search, the newest first; how many are left after so long.

    `database` is where the run directories lie beside: the file itself if open. Nothing happens if it cannot be written.
    """
    ids = [row[0] for row in db.execute(_UNREAD)]
    database = database or Path(db.execute("PRAGMA database_list").fetchone()[2])
    end = time.monotonic() + seconds
    while ids and time.monotonic() < end and writable(database):
        with transaction(db):
            for run_id in ids[:AT_ONCE]:
                keep_log(db, run_id, paths.run_directory(database, run_id))
        ids = ids[AT_ONCE:]
    return len(ids)
