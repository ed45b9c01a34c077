"""Metric points and their summaries.

A point is kept per attempt; what is shown of a step is its latest attempt. Non-finite values are stored as the texts
'nan', 'inf' and '-inf', since SQLite turns NaN into NULL.
"""

import itertools
import math
import sqlite3
from collections.abc import Iterable

Point = tuple[int, int, float, float]
"""step, attempt, time (unix seconds), value"""

HIGHER_IS_BETTER = ("accuracy", "tokens_per_second", "mfu", "num_tokens", "reward")


def encode(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def series_id(db: sqlite3.Connection, run_id: str, key: str) -> int:
    row = db.execute("SELECT id FROM series WHERE run_id = ? AND key = ?", (run_id, key)).fetchone()
    if row is None:
        row = db.execute("INSERT INTO series (run_id, key) VALUES (?, ?) RETURNING id", (run_id, key)).fetchone()
    return int(row[0])


def add(db: sqlite3.Connection, run_id: str, key: str, points: list[Point]) -> None:
    """Store points and bring `latest` up to date; the same points again change nothing."""
    series = series_id(db, run_id, key)
    db.executemany(
        "INSERT OR REPLACE INTO points (series, step, attempt, time, value) VALUES (?, ?, ?, ?, ?)",
        [(series, step, attempt, time, encode(value)) for step, attempt, time, value in points],
    )
    summary = db.execute("SELECT step FROM latest WHERE run_id = ? AND key = ?", (run_id, key)).fetchone()
    steps = [summary[0] if summary else -1, *(point[0] for point in points)]
    if any(after <= before for before, after in itertools.pairwise(steps)) and any(point[1] > 1 for point in points):
        # points of an earlier attempt were superseded, so the summary is made afresh
        db.execute("DELETE FROM latest WHERE run_id = ? AND key = ?", (run_id, key))
        rows = db.execute("SELECT step, value FROM metrics WHERE run_id = ? AND key = ? ORDER BY step", (run_id, key))
        _summarize(db, run_id, key, [(int(step), float(value)) for step, value in rows])
    else:
        _summarize(db, run_id, key, [(step, value) for step, _, _, value in points])


def _summarize(db: sqlite3.Connection, run_id: str, key: str, points: list[tuple[int, float]]) -> None:
    step, last = max(reversed(points), key=lambda p: p[0])  # a step that came twice counts as it came last
    finite = [value for _, value in points if math.isfinite(value)]
    low, high = (min(finite), max(finite)) if finite else (None, None)
    higher = any(word in key for word in HIGHER_IS_BETTER)
    db.execute(
        """INSERT INTO latest VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
        last = CASE WHEN excluded.step >= step THEN excluded.last ELSE last END, step = max(step, excluded.step),
        min = min(coalesce(min, excluded.min), coalesce(excluded.min, min)),
        max = max(coalesce(max, excluded.max), coalesce(excluded.max, max))""",
        (run_id, key, step, encode(last), low, high, None),
    )
    db.execute(f"UPDATE latest SET best = {'max' if higher else 'min'} WHERE run_id = ? AND key = ?", (run_id, key))


def curves(db: sqlite3.Connection, run_id: str, keys: Iterable[str]) -> dict[str, list[tuple[int, float, float]]]:
    """(step, time, value) of each key in order of step, each step's latest attempt."""
    return {
        key: [
            (r[0], r[1], float(r[2]))
            for r in db.execute(
                "SELECT step, time, value FROM metrics WHERE run_id = ? AND key = ? ORDER BY step", (run_id, key)
            )
        ]
        for key in keys
    }


def thinned(db: sqlite3.Connection, run_id: str, key: str, most: int) -> tuple[list[tuple[int, float, float]], int]:
    """(step, time, value) of a curve, each step's latest attempt, and how many points of it are stored.

    Of more than `most` points each stretch of steps gives its least and its greatest value and those that are not finite:
    spikes and gaps stay. The first and the last point are always there. A million points take about a second.
    """
    row = db.execute("SELECT id FROM series WHERE run_id = ? AND key = ?", (run_id, key)).fetchone()
    if row is None:
        return [], 0
    series = row[0]
    count, first, last, attempts = db.execute(
        "SELECT count(*), min(step), max(step), max(attempt) FROM points WHERE series = ?", (series,)
    ).fetchone()
    if count <= most:
        found = curves(db, run_id, [key])[key]
        return found, len(found)
    source = "FROM points WHERE series = ?1"
    if attempts > 1:
        source += (
            " AND NOT EXISTS (SELECT 1 FROM points AS later WHERE later.series = ?1 AND later.step = points.step"
            " AND later.attempt > points.attempt)"
        )
        count = db.execute(f"SELECT count(*) {source}", (series,)).fetchone()[0]
    stretch = max(1, math.ceil((last - first + 1) * 2 / most))
    # the other columns of a query with one min() or max() are those of the row that has it
    extreme = "SELECT step, time, {}(value) {} AND typeof(value) != 'text' GROUP BY (step - ?2) / ?3"
    rows = db.execute(
        f"{extreme.format('min', source)} UNION {extreme.format('max', source)}"
        f" UNION SELECT step, time, value {source} AND (typeof(value) = 'text' OR step IN (?2, ?4)) ORDER BY step",
        (series, first, stretch, last),
    )
    return [(r[0], r[1], float(r[2])) for r in rows], int(count)


def since(db: sqlite3.Connection, run_id: str, key: str, attempt: int, step: int) -> list[tuple[int, float, float]]:
    """(step, time, value) of the points that an attempt reported after a step."""
    rows = db.execute(
        "SELECT step, time, value FROM points JOIN series ON series.id = series"
        " WHERE run_id = ? AND key = ? AND step > ? AND attempt = ? ORDER BY step",
        (run_id, key, step, attempt),
    )
    return [(row[0], row[1], float(row[2])) for row in rows]


def last_step(db: sqlite3.Connection, run_id: str, key: str, attempt: int) -> int:
    """The last step of which an attempt reported this; -1 if of none."""
    row = db.execute(
        "SELECT step FROM points JOIN series ON series.id = series WHERE run_id = ? AND key = ? AND attempt = ?"
        " ORDER BY step DESC LIMIT 1",
        (run_id, key, attempt),
    ).fetchone()
    return int(row[0]) if row else -1


def keys(db: sqlite3.Connection, run_id: str) -> list[str]:
    return [r[0] for r in db.execute("SELECT key FROM series WHERE run_id = ? ORDER BY key", (run_id,))]


def sparks(
    db: sqlite3.Connection, run_ids: list[str], key: str = "loss", width: int = 12
) -> dict[str, tuple[float, ...]]:
    """Each run's curve thinned to about `width` points, its first and last among them."""
    found: dict[str, tuple[float, ...]] = {}
    for run_id in run_ids:
        row = db.execute("SELECT id FROM series WHERE run_id = ? AND key = ?", (run_id, key)).fetchone()
        if row is None:
            continue
        of_run = (run_id, key)
        count, last = db.execute(
            "SELECT count(*), max(step) FROM metrics WHERE run_id = ? AND key = ?", of_run
        ).fetchone()
        stride = max(1, math.ceil(count / width))
        values = db.execute(
            "SELECT value, step FROM (SELECT value, step, row_number() OVER (ORDER BY step) AS n FROM metrics"
            " WHERE run_id = ? AND key = ?) WHERE (n - 1) % ? = 0 OR step = ?", (*of_run, stride, last))  # fmt: skip
        found[run_id] = tuple(float(v[0]) for v in values)
    return found
