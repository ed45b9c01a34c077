"""Runs, metrics and records: what goes in comes out, and how it is found."""

import json
import math
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine import events as ev
from engine.errors import RunError
from engine.spec import RunSpec, flatten, parse
from engine.store import metrics, records, runs
from engine.store.connection import open_database, transaction

WRITER = """
import sys, threading
from pathlib import Path
from engine.store import metrics
from engine.store.connection import open_database, transaction
def write(name):
    db = open_database(Path(sys.argv[1]), create=False)
    for step in range(50):
        with transaction(db):
            metrics.add(db, name, "loss", [(step, 1, 1.0, float(step))])
threads = [threading.Thread(target=write, args=[name]) for name in sys.argv[2:]]
[t.start() for t in threads]
[t.join() for t in threads]
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store") / "experiments.db"


@pytest.fixture
def db(path: Path) -> Iterator[sqlite3.Connection]:
    """An open database, emptied: making one anew costs more."""
    connection = open_database(path)
    for table in ("runs", "params", "series", "points", "latest", "events", "progress", "samples", "checkpoints"):
        connection.execute(f"DELETE FROM {table}")
    yield connection
    connection.close()


def spec(name: str, **sections: Any) -> RunSpec:
    raw = {
        "model": {"path": "/models/Tiny-1M/"},
        "method": {"kind": "lora"},
        "data": {"path": "/data/rows.jsonl"},
        "run": {"name": name, "tags": ["a", "ü"]},
    }
    return parse(raw | sections)


def add(db: sqlite3.Connection, *ids: str, name: str | None = None) -> None:
    for i, run_id in enumerate(ids):
        runs.insert(db, run_id, spec(name or f"name-{run_id}"), {"reasons": []}, "host", 100.0 + i)


def latest(db: sqlite3.Connection, key: str = "loss", run_id: str = "r") -> dict[str, Any]:
    return dict(
        db.execute(
            "SELECT step, last, min, max, best FROM latest WHERE run_id = ? AND key = ?", (run_id, key)
        ).fetchone()
    )


class TestRuns:
    def test_a_run_is_stored_whole(self, db: sqlite3.Connection) -> None:
        add(db, "abc")
        run = runs.find(db, "abc")
        assert (run["name"], run["status"], run["method"], run["project"]) == ("name-abc", "queued", "lora", "default")
        assert (run["model"], run["dataset"], run["host"], run["created_at"]) == (
            "Tiny-1M",
            "rows.jsonl",
            "host",
            100.0,
        )
        assert (run["tags"], run["plan"], run["environment"], run["note"], run["archived"]) == (
            ["a", "ü"],
            {"reasons": []},
            None,
            "",
            0,
        )
        assert parse(run["spec"]) == spec("name-abc")

    def test_its_parameters_are_the_flattened_spec(self, db: sqlite3.Connection) -> None:
        add(db, "abc")
        stored = dict(runs.params(db, "abc"))
        whole = flatten(spec("x").model_dump()).keys()
        assert stored.keys() == {path for path in whole if not path.startswith("method.quantization")}, (
            "a LoRA has none"
        )
        kept = {row[0] for row in db.execute("SELECT path FROM params WHERE run_id = 'abc'")}
        assert kept == whole, "the table has the whole of it"
        assert (stored["training.seed"], stored["method.kind"], stored["training.epochs"]) == ("42", "lora", None)
        assert json.loads(stored["run.tags"] or "") == ["a", "ü"]

    def test_found_by_id_beginning_or_name(self, db: sqlite3.Connection) -> None:
        add(db, "3abc", "3abd", "3ab")
        assert runs.find(db, "3ab")["id"] == "3ab"  # a whole id, though the others begin so
        assert runs.find(db, "3abd")["id"] == "3abd"
        assert runs.find(db, "name-3abc")["id"] == "3abc"
        add(db, "4x", name="3abd-again")
        add(db, "5y", name="4")
        assert runs.find(db, "4")["id"] == "5y"  # a name goes before the beginning of an id
        assert runs.find(db, "5")["id"] == "5y"

    def test_what_is_ambiguous_or_unknown_is_an_error(self, db: sqlite3.Connection) -> None:
        add(db, "3abc", "3abd")
        with pytest.raises(RunError, match="matches 2 runs: 3abd, 3abc"):
            runs.find(db, "3")
        for name in ("zzz", "3_bc", "3%", "NAME-3abc", "\x1b[31m"):
            with pytest.raises(RunError, match="no such run") as caught:
                runs.find(db, name)
            assert "\x1b" not in caught.value.message
        add(db, "7", "8", name="twice")
        with pytest.raises(RunError, match="several"):
            runs.find(db, "twice")

    def test_listing_is_newest_first_with_latest_and_progress(self, db: sqlite3.Connection) -> None:
        add(db, "a", "b")
        metrics.add(db, "a", "loss", [(1, 1, 5.0, 2.0), (2, 1, 6.0, 1.0)])
        records.set_progress(db, "a", 1, 6.0, step=2, total=9, epoch=0.5)
        second, first = runs.listing(db)
        assert (second["id"], second["latest"], second["progress"]) == ("b", {}, None)
        assert first["latest"] == {"loss": {"step": 2, "last": 1.0, "min": 1.0, "max": 2.0, "best": 1.0}}
        assert (first["progress"]["step"], first["progress"]["total"]) == (2, 9)
        assert runs.one(db, "a") == first
        line = runs.lines(db, ("loss", "loss.max"))[1]
        assert (line["id"], line["step"], line["loss"], line["loss.max"]) == ("a", 2, 1.0, 2.0)

    def test_archived_runs_are_listed_on_demand(self, db: sqlite3.Connection) -> None:
        add(db, "a", "b")
        runs.set_fields(db, "a", archived=1, tags=["new"])
        assert [r["id"] for r in runs.listing(db)] == ["b"]
        assert [r["id"] for r in runs.listing(db, archived=True)] == ["b", "a"]
        assert runs.find(db, "a")["tags"] == ["new"]

    def test_active_runs(self, db: sqlite3.Connection) -> None:
        statuses = ["queued", "starting", "running", "stopping", "finished", "stopped", "failed", "crashed", "oom"]
        for status in statuses:
            add(db, status)
            runs.set_fields(db, status, status=status)
        assert {r["id"] for r in runs.active(db)} == {"queued", "starting", "running", "stopping"}


class TestMetrics:
    def test_a_summary_of_each_key(self, db: sqlite3.Connection) -> None:
        metrics.add(db, "r", "loss", [(1, 1, 1.0, 3.0), (2, 1, 2.0, 1.0)])
        metrics.add(db, "r", "loss", [(3, 1, 3.0, 2.0)])
        metrics.add(db, "r", "eval_mean_token_accuracy", [(1, 1, 1.0, 0.5), (2, 1, 2.0, 0.25)])
        assert latest(db) == {"step": 3, "last": 2.0, "min": 1.0, "max": 3.0, "best": 1.0}
        assert latest(db, "eval_mean_token_accuracy")["best"] == 0.5
        assert metrics.keys(db, "r") == ["eval_mean_token_accuracy", "loss"]

    def test_points_of_the_past_do_not_become_the_last(self, db: sqlite3.Connection) -> None:
        metrics.add(db, "r", "loss", [(5, 1, 5.0, 1.0)])
        metrics.add(db, "r", "loss", [(4, 1, 4.0, 9.0)])
        assert latest(db) == {"step": 5, "last": 1.0, "min": 1.0, "max": 9.0, "best": 1.0}

    def test_non_finite_values_are_kept_and_do_not_count(self, db: sqlite3.Connection) -> None:
        values = [math.nan, 2.0, math.inf, -math.inf, 1.0, math.nan]
        metrics.add(db, "r", "loss", [(i, 1, float(i), value) for i, value in enumerate(values)])
        stored = [r[0] for r in db.execute("SELECT value FROM metrics WHERE run_id = 'r' ORDER BY step")]
        assert stored == ["nan", 2.0, "inf", "-inf", 1.0, "nan"]
        read = [value for _, _, value in metrics.curves(db, "r", ["loss"])["loss"]]
        assert repr(read) == repr(values)
        assert latest(db) == {"step": 5, "last": "nan", "min": 1.0, "max": 2.0, "best": 1.0}

    def test_only_non_finite_values(self, db: sqlite3.Connection) -> None:
        metrics.add(db, "r", "loss", [(1, 1, 1.0, math.nan)])
        assert latest(db) == {"step": 1, "last": "nan", "min": None, "max": None, "best": None}
        metrics.add(db, "r", "loss", [(2, 1, 2.0, 4.0)])
        assert latest(db) == {"step": 2, "last": 4.0, "min": 4.0, "max": 4.0, "best": 4.0}

    def test_of_each_step_the_latest_attempt_is_shown_and_summed_up(self, db: sqlite3.Connection) -> None:
        metrics.add(db, "r", "loss", [(step, 1, float(step), 10.0 - step) for step in range(1, 6)])
        assert latest(db)["min"] == 5.0
        metrics.add(db, "r", "loss", [(4, 2, 14.0, 6.5), (5, 2, 15.0, 6.25)])
        assert metrics.curves(db, "r", ["loss", "none"]) == {
            "loss": [(1, 1.0, 9.0), (2, 2.0, 8.0), (3, 3.0, 7.0), (4, 14.0, 6.5), (5, 15.0, 6.25)], "none": [],
        }  # fmt: skip
        assert latest(db) == {"step": 5, "last": 6.25, "min": 6.25, "max": 9.0, "best": 6.25}
        assert db.execute("SELECT count(*) FROM points").fetchone()[0] == 7, "the superseded are kept"

    def test_the_same_points_again_change_nothing(self, db: sqlite3.Connection) -> None:
        points = [(1, 1, 1.0, 3.0), (2, 1, 2.0, math.nan), (2, 2, 3.0, 1.0)]
        metrics.add(db, "r", "loss", points)
        before = list(db.iterdump())
        metrics.add(db, "r", "loss", points)
        assert list(db.iterdump()) == before

    def test_a_step_reported_twice_counts_as_reported_last(self, db: sqlite3.Connection) -> None:
        metrics.add(db, "r", "loss", [(5, 1, 1.0, 3.0), (5, 1, 2.0, 2.0)])
        assert metrics.curves(db, "r", ["loss"])["loss"] == [(5, 2.0, 2.0)]
        assert latest(db)["last"] == 2.0

    @settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        st.lists(st.tuples(st.integers(1, 3), st.integers(0, 20), st.floats()), unique_by=lambda p: p[:2], min_size=1)
    )
    def test_the_summary_is_that_of_the_curve(
        self, db: sqlite3.Connection, points: list[tuple[int, int, float]]
    ) -> None:
        db.execute("DELETE FROM points")
        db.execute("DELETE FROM latest")
        for attempt, step, value in sorted(points, key=lambda p: p[:2]):
            metrics.add(db, "r", "loss", [(step, attempt, 0.0, value)])
        curve = metrics.curves(db, "r", ["loss"])["loss"]
        finite = [value for _, _, value in curve if math.isfinite(value)]
        summary = latest(db)
        assert (summary["step"], repr(float(summary["last"]))) == (curve[-1][0], repr(curve[-1][2]))
        assert (summary["min"], summary["max"]) == ((min(finite), max(finite)) if finite else (None, None))

    def test_sparks_are_thin_and_have_both_ends(self, db: sqlite3.Connection) -> None:
        metrics.add(db, "r", "loss", [(step, 1, 0.0, float(step)) for step in range(1, 101)])
        metrics.add(db, "short", "loss", [(1, 1, 0.0, 7.0)])
        found = metrics.sparks(db, ["r", "none", "short"])
        assert found.keys() == {"r", "short"}
        assert (found["r"][0], found["r"][-1], found["short"]) == (1.0, 100.0, (7.0,))
        assert len(found["r"]) <= 13
        assert list(found["r"]) == sorted(found["r"])

    def test_sparks_show_the_latest_attempt(self, db: sqlite3.Connection) -> None:
        metrics.add(db, "r", "loss", [(1, 1, 0.0, 5.0), (2, 1, 0.0, 4.0), (2, 2, 0.0, 3.0)])
        assert metrics.sparks(db, ["r"]) == {"r": (5.0, 3.0)}


def test_events_come_in_order_and_the_newest_are_kept(db: sqlite3.Connection) -> None:
    for seq in range(1, 6):
        records.add_event(db, "r", "worker", ev.Record(seq, float(seq), 1, ev.Phase(f"p{seq}")), "note", "")
    records.add_event(db, "r", "supervisor", ev.Record(1, 2.5, 1, ev.Unknown("odd", {"a": [1]})), "note", "")
    assert [e["data"].get("name", "odd") for e in records.events(db, "r")] == ["p1", "p2", "odd", "p3", "p4", "p5"]
    assert [e["seq"] for e in records.events(db, "r", limit=2)] == [4, 5]
    assert (records.last_event(db, "r", ("odd", "none")) or {})["data"] == {"a": [1]}
    assert records.last_event(db, "r", ("none",)) is None


def test_progress_changes_what_is_named(db: sqlite3.Connection) -> None:
    add(db, "r")
    records.set_progress(db, "r", 1, 1.0, phase="train")
    records.set_progress(db, "r", 1, 2.0, step=3, total=9, epoch=0.5)
    progress = runs.one(db, "r")["progress"]
    assert (progress["phase"], progress["step"], progress["total"], progress["time"]) == ("train", 3, 9, 2.0)


def test_four_writers_lose_nothing(path: Path, db: sqlite3.Connection) -> None:
    processes = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), f"{i}a", f"{i}b"]) for i in range(2)]
    assert [process.wait(60) for process in processes] == [0, 0]
    with transaction(db):
        for run_id in ("0a", "0b", "1a", "1b"):
            assert [v for _, _, v in metrics.curves(db, run_id, ["loss"])["loss"]] == [float(i) for i in range(50)]
            assert latest(db, run_id=run_id) == {"step": 49, "last": 49.0, "min": 0.0, "max": 49.0, "best": 0.0}
