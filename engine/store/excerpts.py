"""What a search of a filter found in one run, as a piece of text."""

import sqlite3

from engine import filtering
from engine.store.query import as_phrase
from engine.text import clean

WORDS = 12
"""Of the piece, about."""


def excerpt(db: sqlite3.Connection, text: str, run_id: str) -> str:
    """The first piece of the run's texts that a `text:` or `log:` of a filter found; empty if the filter has none.

    Raises FilterError.
    """
    expression = filtering.parse(text)
    for name, part in (("log", " AND part = 'log'"), ("text", "")):
        for term in filtering.named(expression, name):
            for value in filter(None, term.values):
                row = db.execute(
                    f"SELECT snippet(search, 0, '', '', '…', {WORDS}) FROM search WHERE search MATCH ? AND rowid IN"
                    f" (SELECT id FROM search_texts WHERE run_id = ?{part})", (as_phrase(value), run_id)).fetchone()  # fmt: skip
                if row:
                    return clean(row[0], keep_lines=False).strip()
    return ""
