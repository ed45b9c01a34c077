"""Every stored point, out and compared with the database bit for bit."""

import csv
import json
import math
import os
import random
import struct
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from engine import cli, points_out
from engine.errors import RunError, SpaceError
from engine.store import imported, metrics
from engine.store.connection import Connection, open_database

ODD = (math.nan, math.inf, -math.inf, -0.0, 5e-324, 1.7976931348623157e308, 0.1 + 0.2, 1e-17, 2.0**53, 12_345_678_901)


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Connection]:
    """Two runs: curves of different length, steps that are not in order, a second attempt, values of all kinds."""
    connection = open_database(tmp_path / "experiments.db")
    draw = random.Random(1)
    for run_id, name in (("aaaaaa00", "first"), ("bbbbbb00", "second\x1b[31m, with a comma")):
        imported.insert(connection, run_id, name, "default", f"tensorboard /{run_id}", 1.0)
        for key, count in (("loss", 300), ("eval_loss", 30), ("time", 5)):
            steps = draw.sample(range(1000), count)
            odd = [(step, 1, 1e9 + step + 1 / 3, value) for step, value in zip(steps, ODD, strict=False)]
            rest = [(step, 1, 1e9 + step, draw.gauss(0, 1e3)) for step in steps[len(odd) :]]
            metrics.add(connection, run_id, key, odd + rest)
            metrics.add(connection, run_id, key, [(step, 2, 2e9 + step, draw.random()) for step in sorted(steps)[-3:]])
    yield connection
    connection.close()


RUNS = [("aaaaaa00", "first"), ("bbbbbb00", "second\x1b[31m, with a comma")]


def bits(value: Any) -> bytes:
    return struct.pack("<d", float(value))


def stored(db: Connection) -> set[tuple[Any, ...]]:
    """What the tables hold, values as bits."""
    rows = db.execute("SELECT run_id, key, step, attempt, time, value FROM points JOIN series ON series.id = series")
    return {(run, key, step, attempt, bits(time), bits(value)) for run, key, step, attempt, time, value in rows}


def out(db: Connection, target: Path, wide: bool = False) -> list[dict[str, Any]]:
    """Written by its suffix and read back by another library."""
    form = target.suffix[1:]
    written = points_out.write(db, points_out.table(db, RUNS, wide=wide), form, target)
    if form == "csv":
        rows: list[dict[str, Any]] = list(csv.DictReader(target.open(encoding="utf-8", newline="")))
    elif form == "jsonl":
        rows = [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()]
    else:
        rows = pq.read_table(target).to_pylist()
    assert len(rows) == written
    return rows


@pytest.mark.parametrize("form", points_out.FORMATS)
def test_every_point_comes_out_as_it_is_stored(db: Connection, tmp_path: Path, form: str) -> None:
    rows = out(db, tmp_path / f"points.{form}")
    found = [
        (r["run_id"], r["key"], int(r["step"]), int(r["attempt"]), bits(r["time"]), bits(r["value"])) for r in rows
    ]
    assert len(found) == len(set(found)) == 688
    assert set(found) == stored(db)
    assert {r["run"] for r in rows} == {"first", "second, with a comma"}
    assert {str(float(r["value"])) for r in rows} >= {"nan", "inf", "-inf", "-0.0", "5e-324"}


@pytest.mark.parametrize("form", points_out.FORMATS)
def test_wide_has_a_row_for_each_step_with_the_same_values(db: Connection, tmp_path: Path, form: str) -> None:
    rows = out(db, tmp_path / f"points.{form}", wide=True)
    columns = {"loss": "loss", "eval_loss": "eval_loss", "metric.time": "time"}
    found = {(r["run_id"], key, int(r["step"]), int(r["attempt"]), bits(r[column]))
             for r in rows for column, key in columns.items() if r.get(column) not in (None, "")}  # fmt: skip
    assert found == {(run, key, step, attempt, value) for run, key, step, attempt, _, value in stored(db)}
    places = [(r["run_id"], int(r["step"]), int(r["attempt"])) for r in rows]
    assert len(places) == len(set(places))
    assert places == sorted(places)


def test_only_some_metrics(db: Connection) -> None:
    found = list(points_out.table(db, RUNS, ["eval_loss"]).rows)
    assert {row[2] for row in found} == {"eval_loss"}
    assert len(found) == 66
    with pytest.raises(RunError, match="reward") as refused:
        points_out.table(db, RUNS, ["loss", "reward"])
    assert refused.value.hint == "They have eval_loss, loss, time."


def test_nothing_is_overwritten_unless_forced(db: Connection, tmp_path: Path) -> None:
    target = tmp_path / "points.csv"
    target.write_text("mine")
    with pytest.raises(SpaceError, match="exists"):
        points_out.write(db, points_out.table(db, RUNS), "csv", target)
    assert target.read_text() == "mine"
    points_out.write(db, points_out.table(db, RUNS), "csv", target, force=True)
    assert target.read_text().startswith("run_id,run,key,step,attempt,time,value\n")


@pytest.mark.parametrize("form", points_out.FORMATS)
def test_what_breaks_off_leaves_nothing_behind(db: Connection, tmp_path: Path, form: str) -> None:
    def rows() -> Iterator[points_out.Row]:
        yield from points_out.table(db, RUNS).rows
        raise OSError(28, os.strerror(28))

    before = sorted(tmp_path.iterdir())
    with pytest.raises(SpaceError, match="No space left"):
        points_out.write(db, points_out.Table(points_out.LONG, rows()), form, tmp_path / f"points.{form}")
    assert sorted(tmp_path.iterdir()) == before
    assert not db.in_transaction


def test_what_appears_meanwhile_is_not_overwritten(db: Connection, tmp_path: Path) -> None:
    target = tmp_path / "points.jsonl"

    def rows() -> Iterator[points_out.Row]:
        yield from points_out.table(db, RUNS).rows
        target.write_text("mine")

    with pytest.raises(SpaceError, match="exists"):
        points_out.write(db, points_out.Table(points_out.LONG, rows()), "jsonl", target)
    assert target.read_text() == "mine"


def test_all_of_it_is_from_one_moment(db: Connection, tmp_path: Path) -> None:
    other = open_database(tmp_path / "experiments.db")

    def rows() -> Iterator[points_out.Row]:
        for number, row in enumerate(points_out.table(db, RUNS).rows):
            if number == 1:
                metrics.add(other, "bbbbbb00", "loss", [(5000, 1, 1.0, 1.0)])
            yield row

    count = points_out.write(db, points_out.Table(points_out.LONG, rows()), "csv", tmp_path / "points.csv")
    other.close()
    assert (count, len(list(points_out.table(db, RUNS).rows))) == (688, 689)


@pytest.mark.parametrize(("form", "wide"), [("csv", False), ("jsonl", True), ("parquet", False)])
def test_many_points_are_never_held_at_once(db: Connection, tmp_path: Path, form: str, wide: bool) -> None:
    import pyarrow  # noqa: F401  what importing it takes is not counted

    metrics.add(db, "aaaaaa00", "long", [(step, 1, 1e9 + step, step / 7) for step in range(60_000)])
    runs = [("aaaaaa00", "first")]
    tracemalloc.start()
    points_out.write(db, points_out.table(db, runs, ["long"], wide), form, tmp_path / f"points.{form}")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8e6, "all rows at once take more than 15 MB"


def test_the_verb(db: Connection, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*words: str) -> tuple[int, str, str]:
        code = cli.main(["--db", str(tmp_path / "experiments.db"), "export", *words])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    file = tmp_path / "out.parquet"
    assert run("first", "bbbbbb00", "first", "--to", "parquet", str(file))[:2] == (
        0,
        f"688 points of 2 runs in {file}\n",
    )
    assert pq.read_metadata(file).num_rows == 688
    code, _, said = run("first", "--to", "parquet", str(file))
    assert (code, "already" in said) == (2, True)
    code, said, _ = run("first", "--to", "csv", "-", "--keys", "eval_loss,loss")
    lines = said.splitlines()
    assert (code, len(lines), lines[0]) == (0, 337, "run_id,run,key,step,attempt,time,value")
    code, said, _ = run("--filter", "is:imported", "--to", "jsonl", str(tmp_path / "o.jsonl"), "--wide", "--json")
    told = json.loads(said)
    assert (code, sorted(told["runs"]), told["to"]) == (0, ["aaaaaa00", "bbbbbb00"], "jsonl")
    assert told["rows"] == len((tmp_path / "o.jsonl").read_text().splitlines())
    for words in (("--to", "csv", "-"), ("first", "--filter", "x", "--to", "csv", "-"), ("first", "--to", "parquet", "-"),
                  ("first", "--to", "csv", "-", "--json"), ("first", "--to", "trl", str(tmp_path / "d"), "--wide"),
                  ("--filter", "name:nobody", "--to", "csv", "-"), ("first", "--to", "csv", str(tmp_path))):  # fmt: skip
        code, said, wrong = run(*words)
        assert (code, said, "Traceback" in wrong, len(wrong.splitlines()) >= 2) == (2, "", False, True), (
            words,
            said,
            wrong,
        )
