"""Jobs as a form asks for them: the fields, and what a job would do and take before it starts. The verbs ask for the same.

Nothing starts but by `begin`. What is in the way is raised as by the verbs.
"""

import sqlite3
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.after import asking_eval, asking_judge, asking_take
from engine.after import job as jobs
from engine.after.asked import Asked, Field, Values
from engine.after.trained import pin, trained
from engine.outcome import last_words
from engine.report import duration, short
from engine.store import afterwards, runs

KINDS = {
    "eval": (asking_eval.fields, asking_eval.prepare),
    "judge": (asking_judge.fields, asking_judge.prepare),
    "merge": (asking_take.merge_fields, asking_take.prepare_merge),
    "export": (asking_take.export_fields, asking_take.prepare_export),
}


def fields(db: sqlite3.Connection, database: Path, run: runs.Row, kind: str) -> tuple[Field, ...]:
    """The fields of a kind's form. Raises TuneDeckError."""
    return KINDS[kind][0](db, trained(database, run))


def prepare(db: sqlite3.Connection, database: Path, run: runs.Row, kind: str, values: Values) -> Asked:
    """The job as it would start. Raises TuneDeckError, OSError."""
    return KINDS[kind][1](db, database, run, values)


def begin(db: sqlite3.Connection, database: Path, run: runs.Row, kind: str, ask: dict[str, Any]) -> str:
    """Make the job of an ask that `prepare` made, and start it; its name. Raises TuneDeckError."""
    meant = trained(database, run, ask["step"]) if kind == "eval" else None
    if kind == "export":
        from engine.taking.ask import create

        job = create(db, database, run, ask)
    else:
        job = jobs.create(database, run["id"], kind, ask)
    if meant:
        pin(meant, jobs.directory(database, run["id"], job))
    jobs.start(database, run["id"], job)
    return job


def story(database: Path, job: afterwards.Row) -> list[tuple[str, str]]:
    """Everything about a job, as names and values: what came of it, what was asked, what its process wrote last."""
    ended, began = job["ended_at"], job["started_at"]
    asked = time.strftime("%Y-%m-%d %H:%M", time.localtime(job["created_at"]))
    facts = [
        ("status", job["status"]), ("why", job["reason"] or ""), ("asked", asked),
        ("took", duration(ended - began) if ended and began else ""), ("phase", "" if ended else job["phase"] or ""),
    ]  # fmt: skip
    facts += [(name, _said(value)) for name, value in job["summary"].items() if name != "artifacts"]
    facts += [(f"asked: {name}", _said(value)) for name, value in job["ask"].items()]
    folder = jobs.directory(database, job["run_id"], job["job"])
    facts += [("in", str(folder))]
    words = last_words(folder) if job["status"] in ("failed", "crashed") else []
    return [(name, text) for name, text in facts if text] + [
        ("output" if i == 0 else "", one) for i, one in enumerate(words)
    ]


def _said(value: Any) -> str:
    """A value in a line; of a table of values those of its first level; nothing for what was left open."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return short(value)
    if isinstance(value, Mapping):
        parts = [
            f"{name} {_said(one)}"
            for name, one in value.items()
            if not isinstance(one, Mapping | list) and one is not None
        ]
        return ", ".join(parts) or ", ".join(map(str, value))
    if isinstance(value, list):
        return ", ".join(map(_said, value))
    return "" if value is None else str(value)
