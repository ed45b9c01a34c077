"""What a comparison asks of several runs at once."""

import json
import sqlite3
from collections.abc import Sequence

from engine.store.metrics import SMOOTH
from engine.store.records import Row
from engine.store.runs import decode

AMONG = "IN (SELECT value FROM json_each(?))"


def rows(db: sqlite3.Connection, ids: Sequence[str]) -> list[Row]:
    """Those of the runs that there are, in the order of `ids`: as `runs.one` has them, `latest` with `smoothed`."""
    chosen = (json.dumps(list(ids)),)
    found = {r["id"]: decode(r) for r in db.execute(f"SELECT * FROM runs WHERE id {AMONG}", chosen)}
    for run in found.values():
        run["latest"], run["progress"] = {}, None
    for r in db.execute(
        f"SELECT run_id, key, step, last, min, max, best, smoothed FROM latest WHERE run_id {AMONG}", chosen
    ):
        if r["run_id"] in found:
            found[r["run_id"]]["latest"][r["key"]] = {
                k: r[k] for k in ("step", "last", "min", "max", "best", "smoothed")
            }
    for r in db.execute(f"SELECT * FROM progress WHERE run_id {AMONG}", chosen):
        if r["run_id"] in found:
            found[r["run_id"]]["progress"] = dict(r)
    return [found[one] for one in dict.fromkeys(ids) if one in found]


def params(db: sqlite3.Connection, ids: Sequence[str]) -> dict[str, dict[str, str | None]]:
    """What is known of the settings of each run, as it stands in the table params: of imported runs there is no more."""
    found: dict[str, dict[str, str | None]] = {}
    for r in db.execute(
        f"SELECT run_id, path, value FROM params WHERE run_id {AMONG} ORDER BY path", (json.dumps(list(ids)),)
    ):
        found.setdefault(r["run_id"], {})[r["path"]] = r["value"]
    return found


def trained_on(db: sqlite3.Connection, ids: Sequence[str]) -> dict[str, Row]:
    """What each run's worker last said of its data: rows, tokens, sha256. Runs that said nothing are left out."""
    found = db.execute(
        f"SELECT run_id, data FROM events WHERE run_id {AMONG} AND type = 'data' ORDER BY run_id, attempt, seq",
        (json.dumps(list(ids)),),
    )
    return {r["run_id"]: json.loads(r["data"]) for r in found}


def model_sizes(db: sqlite3.Connection, ids: Sequence[str]) -> dict[str, int]:
    """Bytes of what each run made last."""
    found = db.execute(
        f"SELECT run_id, bytes FROM artifacts WHERE run_id {AMONG} AND kind = 'model' ORDER BY time",
        (json.dumps(list(ids)),),
    )
    return {r["run_id"]: r["bytes"] for r in found}


def last_mean(db: sqlite3.Connection, run_id: str, key: str) -> tuple[float | None, int]:
    """The mean of the last SMOOTH points of a curve, of a short one of its later half, and of how many that is."""
    row = db.execute("SELECT id, stored FROM series WHERE run_id = ? AND key = ?", (run_id, key)).fetchone()
    if row is None:
        return None, 0
    count = max(1, min(SMOOTH, row[1] // 2))
    mean = db.execute(
        "SELECT avg(value) FROM (SELECT value FROM metrics WHERE run_id = ? AND key = ? ORDER BY step DESC LIMIT ?)"
        " WHERE typeof(value) != 'text'",
        (run_id, key, count),
    ).fetchone()[0]
    return mean, count


def first_as_good(
    db: sqlite3.Connection, run_id: str, key: str, value: float, more: bool = False
) -> tuple[int, float] | None:
    """(step, time) of the first point of a curve that is at most so much, or at least if `more` is better; None if none is."""
    row = db.execute(
        "SELECT step, time FROM metrics WHERE run_id = ? AND key = ? AND typeof(value) != 'text'"
        f" AND value {'>=' if more else '<='} ? ORDER BY step LIMIT 1",
        (run_id, key, value),
    ).fetchone()
    return (row[0], row[1]) if row else None


def samples(db: sqlite3.Connection, ids: Sequence[str], newest: bool = False) -> list[Row]:
    """run_id, prompt, step and text of what the models said, in order of run and step; `newest`: at their last step only."""
    last = (
        " AND step = (SELECT max(step) FROM samples AS s WHERE s.run_id = samples.run_id AND s.prompt = samples.prompt)"
    )
    found = db.execute(
        f"SELECT run_id, prompt, step, text FROM samples WHERE run_id {AMONG}{last if newest else ''} ORDER BY run_id, step",
        (json.dumps(list(ids)),),
    )
    return [dict(r) for r in found]


def with_cards(db: sqlite3.Connection, ids: Sequence[str]) -> set[str]:
    """Those of the runs whose cards NVML saw."""
    return {one for one in ids if db.execute("SELECT 1 FROM gpu_samples WHERE run_id = ? LIMIT 1", (one,)).fetchone()}


def tempo(db: sqlite3.Connection, run_id: str) -> tuple[float | None, int | None, float | None]:
    """When the run started, unix seconds, and at which step which epoch was reached; as far as known."""
    row = db.execute(
        "SELECT started_at, step, epoch FROM runs LEFT JOIN progress ON run_id = id WHERE id = ?", (run_id,)
    ).fetchone()
    return (row[0], row[1], row[2]) if row else (None, None, None)
