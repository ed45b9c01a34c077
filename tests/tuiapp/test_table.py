"""The rows of the table: whatever happens to the runs, what is kept is what a whole reading would give."""

import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.spec import parse
from engine.store import metrics, runs
from engine.store.connection import open_database
from tuiapp import table
from tuiapp.snapshot import RunLine
from tuiapp.table import Table

SPEC = parse({"model": {"path": "/m"}, "data": {"path": "/d.jsonl"}, "method": {"kind": "lora", "rank": 8}})


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """An empty database."""
    database = open_database(tmp_path / "experiments.db")
    yield database
    database.close()


def add(db: sqlite3.Connection, number: int, status: str = "finished") -> str:
    """A run with a curve of five points."""
    run_id = f"run{number:03}"
    named = SPEC.model_copy(update={"run": SPEC.run.model_copy(update={"name": f"name-{number}"})})
    runs.insert(db, run_id, named, {}, "host", 1000.0 + number)
    runs.set_fields(db, run_id, status=status, started_at=1000.0 + number)
    log(db, run_id, 0, 5)
    return run_id


def log(db: sqlite3.Connection, run_id: str, first: int, last: int) -> None:
    """Losses of these steps."""
    metrics.add(db, run_id, "loss", [(step, 1, 1000.0 + step, 2.0 / (step + 1)) for step in range(first, last)])


def whole(db: sqlite3.Connection) -> tuple[RunLine, ...]:
    """The rows as somebody reads them who has read nothing before."""
    fresh = Table()
    found = fresh.read(db)
    while not fresh.complete:
        found = fresh.read(db)
    return found


def test_the_newest_stand_first_with_their_curves(db: sqlite3.Connection) -> None:
    for number in (2, 1, 3):
        add(db, number)
    found = Table().read(db)
    assert [line.id for line in found] == ["run003", "run002", "run001"]
    assert found[0].spark == (2.0, 1.0, 2 / 3, 0.5, 0.4)
    assert (found[0].loss, found[0].rank) == (0.4, 8)


def test_whatever_happens_it_is_what_a_whole_reading_gives(db: sqlite3.Connection) -> None:
    dice, kept, steps, made = random.Random(1), Table(), 5, 10
    for number in range(made):
        add(db, number, dice.choice(["finished", "running", "queued"]))
    for _ in range(200):
        run_id = dice.choice([row[0] for row in db.execute("SELECT id FROM runs")])
        match dice.randrange(9):
            case 7:
                runs.set_fields(
                    db, run_id, tags=[dice.choice("abc")], starred=dice.randrange(2), note=str(dice.random())
                )
            case 8:
                runs.set_fields(db, run_id, deleted_at=dice.choice([None, 5.0]), sweep_id=dice.choice([None, "s"]))
            case 0:
                add(db, made, dice.choice(["finished", "running"]))
                made += 1
            case 1:
                runs.set_fields(db, run_id, name=f"renamed-{dice.random()}")
            case 2:
                runs.set_fields(db, run_id, archived=dice.randrange(2))
            case 3:
                runs.set_fields(
                    db, run_id, status=dice.choice(["running", "stopped", "failed"]), ended_at=dice.random()
                )
            case 4:
                db.execute("DELETE FROM runs WHERE id = ? AND (SELECT count(*) FROM runs) > 3", (run_id,))
            case _:  # only a run at work writes
                for (active,) in db.execute("SELECT id FROM runs WHERE status = 'running'").fetchall():
                    log(db, active, steps, steps + 2)
                steps += 2
        fresh = Table()
        assert kept.read(db) == fresh.read(db)
        assert kept.put_away == fresh.put_away


def test_of_many_runs_those_that_have_ended_are_looked_at_less_often(
    db: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(table, "MANY", 2)
    monkeypatch.setattr(table.time, "monotonic", lambda: now[0])
    first, second, kept = add(db, 1), add(db, 2), Table()
    kept.read(db)
    runs.set_fields(db, first, name="renamed")
    assert kept.read(db)[1].name == "name-1"
    assert not kept.complete, "who asks only after a change asks again"
    now[0] += table.SCAN_SECONDS
    assert kept.read(db) == whole(db)
    assert kept.complete
    runs.set_fields(db, second, status="queued", name="again")
    assert kept.read(db) == whole(db), "one that begins is seen at once"
    add(db, 3)
    assert kept.read(db) == whole(db), "and a new one"
    db.execute("DELETE FROM runs WHERE id = ?", (first,))
    assert kept.read(db) == whole(db), "and that one is gone"
    log(db, second, 5, 9)
    assert kept.read(db) == whole(db)
    runs.set_fields(db, second, status="failed", ended_at=5.0)
    assert kept.read(db) == whole(db), "and how it ended"


def test_the_last_words_of_a_run_come_in_after_its_end(db: sqlite3.Connection) -> None:
    run_id, kept = add(db, 1, "running"), Table()
    kept.read(db)
    runs.set_fields(db, run_id, status="crashed", ended_at=2000.0)
    assert kept.read(db)[0].status == "crashed"
    log(db, run_id, 5, 8)
    assert kept.read(db) == whole(db)
    assert len(kept.read(db)[0].spark) == 8


def test_many_curves_come_in_parts_the_newest_first(db: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "CURVES_AT_FIRST", 2)
    monkeypatch.setattr(table, "CURVES_AT_ONCE", 4)
    for number in range(10):
        add(db, number)
    kept = Table()
    assert [bool(line.spark) for line in kept.read(db)] == [True] * 2 + [False] * 8
    assert [bool(line.held) for line in kept.read(db)] == [True] * 6 + [False] * 4
    assert not kept.complete
    assert kept.read(db) == whole(db)
    assert kept.complete


def test_runs_that_have_ended_are_not_read_again(db: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        add(db, number)
    at_work, kept = add(db, 99, "running"), Table()
    kept.read(db)
    asked: list[Any] = []
    real = runs.lines

    def noted(db: sqlite3.Connection, keys: tuple[str, ...], ids: Any = None) -> Any:
        asked.append(ids)
        return real(db, keys, ids)

    monkeypatch.setattr(runs, "lines", noted)
    log(db, at_work, 5, 6)
    kept.read(db)
    assert asked == [[at_work]]
