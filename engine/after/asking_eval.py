"""An evaluation as a form asks for it."""

import sqlite3
from pathlib import Path
from typing import Any

from engine.after import held_out
from engine.after.asked import Asked, Field, Values, number
from engine.after.trained import Trained, trained
from engine.errors import RunError
from engine.fingerprint import check_base
from engine.report import duration
from engine.store import afterwards, runs
from engine.text import clean

CHARACTERS = 4
"""Of a token, about."""
LOOKED_AT = 20
"""Earlier evaluations that say how fast this machine is."""


def fields(db: sqlite3.Connection, of: Trained) -> tuple[Field, ...]:
    """Which rows, and whether general texts too."""
    return (
        Field("rows", "rows at most", str(held_out.MOST)),
        Field("data", "data file", "", path=True, hint="the rows that training held out"),
        Field("general", "general texts", "yes", (("yes", "yes: what was forgotten"), ("no", "no"))),
    )


def prepare(db: sqlite3.Connection, database: Path, run: runs.Row, values: Values) -> Asked:
    """As `tunedeck eval RUN` asks for it."""
    rows = number(values, "rows", held_out.MOST)
    data = str(Path(values["data"]).expanduser().absolute()) if values.get("data") else None
    meant = trained(database, run)
    notes = check_base(meant, False)
    found = held_out.choose(meant.spec, meant.run_dir, data, rows)
    ask: dict[str, Any] = {"data": data, "step": meant.step, "base": None, "rows": rows, "seed": 0, "max_new_tokens": None,
           "general": values.get("general", "yes") != "no", "lm_eval": [], "bertscore": False, "anyway": False, "gib": None}  # fmt: skip
    count = len(found.questions)
    of_all = f" of {found.total:,}" if found.total > count else ""
    held = "held-out " if found.held_out else ""
    file = clean(found.path.rpartition("/")[2], False)
    first = (
        f"{count:,}{of_all} {held}row{'' if count == 1 else 's'} of {file}: base and tuned model read and answer each."
    )
    return Asked(ask, (first, _takes(db, meant, found.questions), *notes, *found.notes))


def _takes(db: sqlite3.Connection, of: Trained, questions: tuple[held_out.Question, ...]) -> str:
    """About what it takes; how long, where one like it was done before."""
    from engine.data.formats import split_text

    texts = [split_text(one.row.value) for one in questions]
    read = sum(len(asked) + len(said) for asked, said in texts) // CHARACTERS
    longest = max(len(said) for _, said in texts) / CHARACTERS
    most = round(min(held_out.LONGEST, max(held_out.FEWEST, held_out.SPARE * longest)))
    known = _seconds_per_row(db, of)
    long = "how long that takes here is not known yet"
    if known is not None:
        long = f"{duration(known[0] * len(questions))} going by {known[1]}"
    return (
        f"An estimate: 2 x {read:,} tokens to read, {2 * len(questions):,} answers of at most {most:,} tokens; {long}."
    )


def _seconds_per_row(db: sqlite3.Connection, of: Trained) -> tuple[float, str] | None:
    """How long a row took in the newest evaluation of a run of the same base, and which that was."""
    for job in afterwards.newest(db, "eval", LOOKED_AT):
        seconds, rows = job["summary"].get("seconds"), (job["summary"].get("data") or {}).get("rows")
        if not (isinstance(seconds, int | float) and isinstance(rows, int) and rows):
            continue
        try:
            other = runs.find(db, job["run_id"])
        except RunError:
            continue
        if ((other["spec"] or {}).get("model") or {}).get("path") == of.spec.model.path:
            return seconds / rows, f"{job['job']} of {clean(other['name'], False)}"
    return None
