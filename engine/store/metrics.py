"""Metric points and their summaries.

A point is kept per attempt; what is shown of a step is its latest attempt. Non-finite values are stored as the texts
'nan', 'inf' and '-inf', since SQLite turns NaN into NULL.
"""

import itertools
import math
import sqlite3
from collections.abc import Iterable

SKETCHED = 4096
"""From so many points on a curve has a sketch: of each stretch of steps the points that a chart has to show."""
A_STRETCH = 64
"""Points that such a stretch has, about."""
SMOOTH = 50
"""Points whose mean `latest.smoothed` is."""

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
    """Store points and bring `latest` and the sketch up to date; the same points again change nothing."""
    series = series_id(db, run_id, key)
    span = series, min(point[0] for point in points), max(point[0] for point in points)
    before = db.execute(_STEPS, span).fetchone()[0]
    db.executemany(
        "INSERT OR REPLACE INTO points (series, step, attempt, time, value) VALUES (?, ?, ?, ?, ?)",
        [(series, step, attempt, time, encode(value)) for step, attempt, time, value in points],
    )
    _sketch(db, *span, db.execute(_STEPS, span).fetchone()[0] - before)
    summary = db.execute("SELECT step FROM latest WHERE run_id = ? AND key = ?", (run_id, key)).fetchone()
    steps = [summary[0] if summary else -1, *(point[0] for point in points)]
    if any(after <= before for before, after in itertools.pairwise(steps)) and any(point[1] > 1 for point in points):
        # points of an earlier attempt were superseded, so the summary is made afresh
        db.execute("DELETE FROM latest WHERE run_id = ? AND key = ?", (run_id, key))
        rows = db.execute("SELECT step, value FROM metrics WHERE run_id = ? AND key = ? ORDER BY step", (run_id, key))
        _summarize(db, series, run_id, key, [(int(step), float(value)) for step, value in rows])
    else:
        _summarize(db, series, run_id, key, [(step, value) for step, _, _, value in points])


_STEPS = "SELECT count(DISTINCT step) FROM points WHERE series = ? AND step BETWEEN ? AND ?"


def _summarize(db: sqlite3.Connection, series: int, run_id: str, key: str, points: list[tuple[int, float]]) -> None:
    step, last = max(reversed(points), key=lambda p: p[0])  # a step that came twice counts as it came last
    finite = [value for _, value in points if math.isfinite(value)]
    low, high = (min(finite), max(finite)) if finite else (None, None)
    best = "max" if higher_is_better(key) else "min"
    db.execute(
        """INSERT INTO latest (run_id, key, step, last, min, max) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
        last = CASE WHEN excluded.step >= step THEN excluded.last ELSE last END, step = max(step, excluded.step),
        min = min(coalesce(min, excluded.min), coalesce(excluded.min, min)),
        max = max(coalesce(max, excluded.max), coalesce(excluded.max, max))""",
        (run_id, key, step, encode(last), low, high),
    )
    db.execute(
        f"UPDATE latest SET best = {best}, smoothed = (SELECT avg(value) FROM (SELECT value, max(attempt) FROM points"
        " WHERE series = ? GROUP BY step ORDER BY step DESC LIMIT ?) WHERE typeof(value) != 'text') WHERE run_id = ? AND key = ?",
        (series, SMOOTH, run_id, key),
    )


def higher_is_better(key: str) -> bool:
    """Whether more of this metric is better; for losses and what is not known it is not."""
    return any(word in key for word in HIGHER_IS_BETTER)


def _sketch(db: sqlite3.Connection, series: int, low: int, high: int, new: int) -> None:
    """Keep the sketch of a long curve up to date: the stretches between these steps are made anew. `new`: steps more."""
    stored, stretch = db.execute(
        "UPDATE series SET stored = stored + ? WHERE id = ? RETURNING stored, stretch", (new, series)
    ).fetchone()
    if stretch is None:
        if stored < SKETCHED:
            return
        low, high = db.execute(_ENDS, (series, series)).fetchone()
        stretch = max(1, round(A_STRETCH * (high - low + 1) / stored))
        db.execute("UPDATE series SET stretch = ? WHERE id = ?", (stretch, series))
    first, last = low // stretch * stretch, (high // stretch + 1) * stretch - 1
    db.execute("DELETE FROM sketch WHERE series = ? AND step BETWEEN ? AND ?", (series, first, last))
    db.execute(f"INSERT INTO sketch {_extremes(_SHOWN)}",
               {"series": series, "first": first, "last": last, "origin": 0, "stretch": stretch})  # fmt: skip


_ENDS = "SELECT (SELECT min(step) FROM points WHERE series = ?), (SELECT max(step) FROM points WHERE series = ?)"
_SHOWN = (
    "points AS p WHERE series = :series AND step BETWEEN :first AND :last AND NOT EXISTS (SELECT 1 FROM points AS later"
    " WHERE later.series = :series AND later.step = p.step AND later.attempt > p.attempt)"
)
"""Points of a range of steps, each step's latest attempt."""


def _extremes(source: str) -> str:
    """Of each stretch of steps of a source the least and the greatest point, and the first that is not finite."""
    # the other columns of a query with one min() or max() are those of the row that has it
    return " UNION ".join(
        f"SELECT series, {step} AS step, time, {value} AS value FROM {source} AND typeof(p.value) {kind} 'text'"
        " GROUP BY (p.step - :origin) / :stretch"
        for step, value, kind in (
            ("step", "min(value)", "!="),
            ("step", "max(value)", "!="),
            ("min(step)", "value", "="),
        )
    )


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

    Of more than `most` points each stretch of steps gives its least and its greatest value and the first that is not
    finite: spikes and gaps stay. The first and the last point are always there. A million points take some 30 ms.
    """
    row = db.execute("SELECT id, stored, stretch FROM series WHERE run_id = ? AND key = ?", (run_id, key)).fetchone()
    if row is None:
        return [], 0
    series, count, sketched = row
    if count <= most:
        return curves(db, run_id, [key])[key], count
    first, last = db.execute(_ENDS, (series, series)).fetchone()
    stretch = max(1, math.ceil((last - first + 1) * 2 / most))
    where = {"series": series, "first": first, "last": last, "origin": first, "stretch": stretch}
    source = _SHOWN if sketched is None else "sketch AS p WHERE series = :series"
    rows = db.execute(f"SELECT step, time, value FROM ({_extremes(source)}) ORDER BY step", where).fetchall()
    ends = [db.execute(f"SELECT step, time, value FROM {_SHOWN}", {"series": series, "first": end, "last": end}).fetchone()
            for end in (first, last)]  # fmt: skip
    rows = sorted({row[0]: row for row in (*rows, *ends)}.values(), key=lambda row: row[0])
    return [(r[0], r[1], float(r[2])) for r in rows], count


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
        row = db.execute("SELECT id, stretch FROM series WHERE run_id = ? AND key = ?", (run_id, key)).fetchone()
        if row is None:
            continue
        if row["stretch"] is not None:
            found[run_id] = _few(db, row["id"], width)
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


def _few(db: sqlite3.Connection, series: int, width: int) -> tuple[float, ...]:
    """So many points of a long curve, at about equal distances, each found by its step: nothing between them is read."""
    first, last = db.execute(_ENDS, (series, series)).fetchone()
    query = "SELECT value FROM points WHERE series = ? AND step >= ? ORDER BY step, attempt DESC LIMIT 1"
    steps = [first + (last - first) * i // (width - 1) for i in range(width)]
    return tuple(float(db.execute(query, (series, step)).fetchone()[0]) for step in steps)
