"""docs/database.md: every table, view and column is in it, nothing else is, and its queries find something."""

import re
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.store import records, runs
from engine.store.connection import open_database
from tests.engine.real_runs import copied

DOC = (Path(__file__).parent.parent.parent / "docs" / "database.md").read_text()
QUERIES = re.findall(r"```sql\n(.*?)```", DOC, re.S)
INNER = re.compile(r"sqlite_|_sqlite_|search_(config|data|docsize|idx)$")
"""SQLite's own, the migrations' and FTS5's."""


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    _, db = copied(tmp_path)
    yield db
    db.close()


def documented() -> dict[str, list[str]]:
    """The columns by table or view, as the page has them."""
    sections = re.findall(r"^### (\w+)\n(.*?)(?=^##|\Z)", DOC, re.M | re.S)
    cells = {name: re.findall(r"^\| (`[^|]*`) \|", text, re.M) for name, text in sections}
    return {name: re.findall(r"`(\w+)`", " ".join(found)) for name, found in cells.items()}


def test_every_table_and_view_is_there_with_its_columns(tmp_path: Path) -> None:
    db = open_database(tmp_path / "new.db")
    names = [row["name"] for row in db.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")]
    real = {
        name: sorted(row["name"] for row in db.execute(f"PRAGMA table_info({name})")) for name in names if not INNER.match(name)
    }  # fmt: skip
    assert {name: sorted(columns) for name, columns in documented().items()} == real


def test_views_and_tables_stand_under_their_headings(tmp_path: Path) -> None:
    db = open_database(tmp_path / "new.db")
    views = {row["name"] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'view'")}
    part = DOC.split("\n## Views")[1].split("\n## ")[0]
    assert set(re.findall(r"^### (\w+)", part, re.M)) == views


@pytest.mark.parametrize("query", QUERIES, ids=[f"query{i}" for i in range(len(QUERIES))])
def test_every_query_finds_something(query: str, db: sqlite3.Connection) -> None:
    assert db.execute(query).fetchall()


def test_the_first_command_works_in_the_shell(db: sqlite3.Connection, tmp_path: Path) -> None:
    if shutil.which("sqlite3") is None:
        pytest.skip("the program sqlite3 is not on this machine")
    (command,) = re.findall(r"^\$ (sqlite3 .*)$", DOC, re.M)
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "captain-lora-r16" in done.stdout


class TestOverview:
    def row(self, db: sqlite3.Connection, name: str) -> sqlite3.Row:
        found: sqlite3.Row = db.execute("SELECT * FROM run_overview WHERE name = ?", (name,)).fetchone()
        return found

    def test_it_agrees_with_the_tables(self, db: sqlite3.Connection) -> None:
        run, row = runs.one(db, "captain-lora-r16"), self.row(db, "captain-lora-r16")
        assert row["best_eval"] == run["latest"]["eval_loss"]["best"]
        assert row["last_loss"] == run["latest"]["loss"]["last"]
        assert row["peak_gib"] == run["latest"]["memory_allocated_gib"]["max"]
        assert (row["rank"], row["learning_rate"]) == (16, 0.001)
        assert (row["step"], row["steps"]) == (20, 20)
        assert row["minutes"] == round((run["ended_at"] - run["started_at"]) / 60, 1)
        assert row["created"].startswith("20")
        assert row["tags"] == "example"
        assert self.row(db, "captain-full")["rank"] is None

    def test_each_run_stands_once_and_those_in_the_bin_nowhere(self, db: sqlite3.Connection) -> None:
        everyone = {row["id"] for row in db.execute("SELECT id FROM runs")}
        assert sorted(row["id"] for row in db.execute("SELECT id FROM run_overview")) == sorted(everyone)
        run_id = self.row(db, "captain-full")["id"]
        db.execute("UPDATE runs SET deleted_at = 1 WHERE id = ?", (run_id,))
        for view, column in (("run_overview", "id"), ("eval_points", "run_id"), ("timeline", "run_id")):
            assert run_id not in {row[column] for row in db.execute(f"SELECT {column} FROM {view}")}

    def test_the_best_evaluation_is_marked(self, db: sqlite3.Connection) -> None:
        rows = db.execute("SELECT * FROM eval_points WHERE name = 'captain-lora-r16' ORDER BY step").fetchall()
        assert [row["step"] for row in rows] == [5, 10, 15, 20]
        (best,) = [row for row in rows if row["best"]]
        assert best["eval_loss"] == min(row["eval_loss"] for row in rows)
        assert best["checkpoint"].endswith("checkpoint-20")

    def test_what_a_card_gave(self, db: sqlite3.Connection) -> None:
        run_id = self.row(db, "captain-full")["id"]
        for second in range(10):
            records.add_gpu_samples(
                db,
                run_id,
                1e9 + second,
                [{"gpu": 0, "memory_used": 10.0 + second, "utilization": 90.0, "power": 360.0, "temperature": 60.0}],
            )
        (row,) = db.execute("SELECT * FROM gpu_use").fetchall()
        assert (row["seconds"], row["peak_gib"], row["mean_utilization"], row["watt_hours"]) == (10, 19.0, 90.0, 1.0)
