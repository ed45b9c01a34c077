"""Long curves in short: what a chart has to show of a curve, kept true however its points come."""

import math
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.store import metrics
from engine.store.connection import open_database, transaction
from engine.store.migrations import migrate

Batch = list[metrics.Point]
values = st.one_of(st.floats(-1e6, 1e6), st.sampled_from([math.nan, math.inf, -math.inf]))
batches = st.lists(
    st.tuples(st.integers(0, 300), st.integers(1, 60), st.sampled_from([1, 1, 1, 7]), st.integers(1, 3)),
    min_size=1,
    max_size=8,
)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sketches from few points on."""
    monkeypatch.setattr(metrics, "SKETCHED", 40)
    monkeypatch.setattr(metrics, "A_STRETCH", 8)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    return tmp_path_factory.mktemp("sketch")


def shown(db: sqlite3.Connection) -> dict[int, tuple[float, float]]:
    """By step the time and value of the latest attempt."""
    return {step: (time, value) for step, time, value in metrics.curves(db, "r", ["loss"])["loss"]}


def same(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches, st.data())
def test_whatever_comes_in_whatever_order(
    directory: Path, wanted: list[tuple[int, int, int, int]], data: st.DataObject
) -> None:
    path = directory / "x.db"
    path.unlink(missing_ok=True)
    db = open_database(path)
    for i, (first, count, stride, attempt) in enumerate(wanted):
        numbers = data.draw(st.lists(values, min_size=count, max_size=count))
        points = [(first + stride * n, attempt, 1000.0 * i + n, number) for n, number in enumerate(numbers)]
        with transaction(db):
            metrics.add(db, "r", "loss", points)
    everything = shown(db)
    stored, stretch = db.execute("SELECT stored, stretch FROM series").fetchone()
    assert stored == len(everything)
    assert (stretch is not None) == (len(everything) >= 40)
    sketch = {r[0]: (r[1], float(r[2])) for r in db.execute("SELECT step, time, value FROM sketch")}
    assert all(sketch[s][0] == everything[s][0] and same(sketch[s][1], everything[s][1]) for s in sketch)
    if stretch is not None:
        for part in {step // stretch for step in everything}:
            there = {s: v for s, (_, v) in everything.items() if s // stretch == part}
            kept = [v for s, (_, v) in sketch.items() if s // stretch == part]
            finite = [v for v in there.values() if math.isfinite(v)]
            assert [v for v in kept if math.isfinite(v)] == [] or {min(finite), max(finite)} <= set(kept)
            assert bool([v for v in kept if math.isfinite(v)]) == bool(finite)
            assert any(not math.isfinite(v) for v in kept) == (len(finite) < len(there))
    points, count = metrics.thinned(db, "r", "loss", 20)
    assert count == len(everything)
    assert [p[0] for p in points] == sorted({p[0] for p in points})
    assert {min(everything), max(everything)} <= {p[0] for p in points}
    finite = [v for _, v in everything.values() if math.isfinite(v)]
    assert not finite or {min(finite), max(finite)} <= {p[2] for p in points}
    db.close()


def test_a_short_curve_has_none(tmp_path: Path) -> None:
    db = open_database(tmp_path / "x.db")
    with transaction(db):
        metrics.add(db, "r", "loss", [(i, 1, float(i), 1.0) for i in range(39)])
    assert db.execute("SELECT count(*) FROM sketch").fetchone()[0] == 0


def test_the_smoothed_value_is_the_mean_of_the_last_fifty_that_are_finite(tmp_path: Path) -> None:
    db = open_database(tmp_path / "x.db")
    with transaction(db):
        metrics.add(db, "r", "loss", [(i, 1, float(i), 100.0 if i < 50 else 2.0) for i in range(75)])
        metrics.add(db, "r", "loss", [(i, 1, float(i), math.nan if i == 80 else 4.0) for i in range(75, 100)])
    assert db.execute("SELECT smoothed FROM latest").fetchone()[0] == pytest.approx((25 * 2 + 24 * 4) / 49)


def test_an_older_database_gets_smoothed_values_and_counts(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    old = sqlite3.connect(path, isolation_level=None)
    migrate(old, 2)
    old.execute("INSERT INTO series (id, run_id, key) VALUES (7, 'r', 'loss')")
    points = [(7, i, 1, float(i), 100.0 if i < 10 else 3.0) for i in range(60)] + [(7, 30, 2, 70.0, 53.0)]
    old.executemany("INSERT INTO points VALUES (?, ?, ?, ?, ?)", points)
    old.execute("INSERT INTO latest VALUES ('r', 'loss', 59, 3.0, 3.0, 100.0, 3.0)")
    old.close()
    db = open_database(path)
    smoothed, stored = db.execute("SELECT smoothed, stored FROM latest, series").fetchone()
    assert stored == 60
    assert smoothed == pytest.approx((53.0 + 49 * 3.0) / 50)


def test_the_small_curve_of_a_long_one_is_of_its_latest_attempt_from_end_to_end(tmp_path: Path) -> None:
    db = open_database(tmp_path / "x.db")
    with transaction(db):
        metrics.add(db, "r", "loss", [(i, 1, float(i), float(i)) for i in range(0, 1101, 10)])
        metrics.add(db, "r", "loss", [(i, 2, float(i), -float(i)) for i in range(600, 1101, 10)])
    assert metrics.sparks(db, ["r"]) == {"r": (0, 100, 200, 300, 400, 500, -600, -700, -800, -900, -1000, -1100)}
