"""`import tunedeck`: the examples of docs/python.md run, nothing can be changed through it, and torch stays out."""

import contextlib
import io
import math
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

import tunedeck
from engine.store import metrics
from engine.store.connection import open_database
from tests.engine.real_runs import copied

DOC = (Path(__file__).parent.parent.parent / "docs" / "python.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", DOC, re.S)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path, db = copied(tmp_path)
    db.close()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TUNEDECK_DB", raising=False)
    return path


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_of_the_page_runs(example: str, place: Path) -> None:
    if ".frame()" in example:
        pytest.importorskip("pandas")
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(example, "docs/python.md", "exec"), {})
    assert "captain" in said.getvalue() or re.search(r"\d\.\d", said.getvalue())


def test_runs_by_filter_and_order_with_fields(place: Path) -> None:
    with tunedeck.open() as db:
        runs = db.runs("method:lora status:finished", "-eval_loss.best", ["grad_norm.max", "warmup"])
        assert len(runs) >= 3
        assert {run["method"] for run in runs} == {"lora"}
        losses = [run["best_eval"] for run in runs]
        assert losses == sorted(losses, reverse=True)
        assert all(run["grad_norm.max"] > 0 and run["warmup"] == 0.03 for run in runs)
        assert [run["id"] for run in runs[:2]] == [runs[0]["id"], runs[1]["id"]]


def test_points_are_numbers_even_where_they_are_none(place: Path) -> None:
    with contextlib.closing(open_database(place)) as db:
        (run_id,) = db.execute("SELECT id FROM runs WHERE name = 'captain-full'").fetchone()
        metrics.add(db, run_id, "loss", [(21, 1, 1e9, math.nan), (22, 1, 1e9, math.inf)])
    with tunedeck.open(place) as deck:
        points = deck.metrics("captain-full", ["loss"])
        assert [point["step"] for point in points][-2:] == [21, 22]
        assert math.isnan(points[-2]["value"])
        assert points[-1]["value"] == math.inf
        assert deck.runs("captain-full")[0]["last_loss"] == math.inf
        assert {point["key"] for point in deck.metrics(["captain-full", "captain-lora-r2"])} >= {"loss", "eval_loss"}


def test_a_frame_has_a_row_for_each(place: Path) -> None:
    pandas = pytest.importorskip("pandas")
    with tunedeck.open(place) as db:
        frame = db.runs().frame()
        assert isinstance(frame, pandas.DataFrame)
        assert list(frame["id"]) == [run["id"] for run in db.runs()]
        assert frame["best_eval"].dtype == float


def test_nothing_can_be_written(place: Path) -> None:
    with tunedeck.open(place) as db, pytest.raises(sqlite3.OperationalError, match="readonly"):
        db._db.execute("DELETE FROM runs")


def test_mistakes_are_errors_with_a_hint(place: Path, tmp_path: Path) -> None:
    with tunedeck.open(place) as db:
        with pytest.raises(tunedeck.TuneDeckError, match="no such run"):
            db.params("nobody")
        with pytest.raises(tunedeck.TuneDeckError):
            db.runs("lr<")
    with pytest.raises(tunedeck.TuneDeckError, match="no database"):
        tunedeck.open(tmp_path / "none.db")
    assert not (tmp_path / "none.db").exists()


def test_it_does_not_import_what_is_heavy(place: Path) -> None:
    code = "import sys, tunedeck; tunedeck.open().runs(); print([m for m in ('torch', 'pandas', 'textual', 'transformers') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=place.parent, capture_output=True, text=True, check=False,
                          env={"PYTHONPATH": str(Path(__file__).parent.parent.parent), "PATH": "/usr/bin:/bin", "HOME": "/tmp"})  # fmt: skip
    assert done.stdout.strip() == "[]", done.stderr
