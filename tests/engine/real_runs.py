"""Real runs to look at: a copy of experiments.db.example, at the current schema, that a test may change."""

import shutil
import sqlite3
from pathlib import Path

from engine.store.connection import open_database

EXAMPLE = Path(__file__).parent.parent.parent / "experiments.db.example"
NASTY = "a\x1b[31m</script><img src=x onerror=alert(1)>\u202e| `b` *c* & 'd' \"e\" שלום " + "long" * 60
"""A name with an escape sequence, markup, a direction mark, Markdown, quotes, right-to-left letters, and very long."""


def copied(place: Path) -> tuple[Path, sqlite3.Connection]:
    path = place / "experiments.db"
    shutil.copy(EXAMPLE, path)
    path.chmod(0o600)
    return path, open_database(path)


def make_nasty(db: sqlite3.Connection, name: str) -> str:
    """Put what is hostile wherever something foreign may stand in the run of this name; its id."""
    (run_id,) = db.execute("SELECT id FROM runs WHERE name = ?", (name,)).fetchone()
    db.execute(
        "UPDATE runs SET name = ?1, note = ?1, model = ?1, dataset = ?1, project = ?1, host = ?1, tags = json_array(?1),"
        " plan = json_set(plan, '$.reasons[0].why', ?1), environment = json_set(environment, '$.command', json_array(?1),"
        " '$.git', json_object('commit', ?1, 'branch', ?1, 'dirty', json('true'), 'diff', ?1), '$.versions.torch', ?1) WHERE id = ?2",
        (NASTY, run_id),
    )
    db.execute("UPDATE samples SET prompt = prompt || ?1, text = ?1 WHERE run_id = ?2", (NASTY, run_id))
    db.execute("UPDATE events SET text = ?1 WHERE run_id = ?2", (NASTY, run_id))
    db.execute("UPDATE params SET value = ?1 WHERE run_id = ?2 AND path = 'data.path'", (NASTY, run_id))
    db.execute("INSERT INTO series (run_id, key) VALUES (?, ?)", (run_id, NASTY))
    series = db.execute("SELECT id FROM series WHERE run_id = ? AND key = ?", (run_id, NASTY)).fetchone()[0]
    rows = [(series, step, 1, 1e9 + step, step / 7) for step in range(1, 4)]
    db.executemany("INSERT INTO points (series, step, attempt, time, value) VALUES (?, ?, ?, ?, ?)", rows)
    return str(run_id)
