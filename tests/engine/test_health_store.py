"""A run's streams out of the database, and the findings as `tunedeck health` and `tunedeck show` print them."""

import json
import math
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.cli import main
from engine.diagnose import findings, streams
from engine.store import health as stored
from engine.store import metrics, records, runs
from engine.store.connection import open_database
from tests.engine.test_store import spec

PLAN = {"model": {"parameters": 135_000_000}, "data": {"kept": 500}, "memory": {"components": {"activations": 2.0}},
        "gpu": {"name": "RTX 4090"}}  # fmt: skip


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = open_database(tmp_path / "experiments.db")
    yield connection
    connection.close()


def add_run(
    db: sqlite3.Connection, run_id: str, status: str = "finished", speed: float = 100.0, **training: Any
) -> None:
    settings = {"learning_rate": 5e-7, "micro_batch": 4, "accumulation": 1, "max_steps": 60} | training
    made = spec(run_id, training=settings)
    runs.insert(db, run_id, made, PLAN, "here", float(sum(map(ord, run_id))))
    runs.set_fields(db, run_id, status=status)
    records.set_progress(db, run_id, 1, 60.0, step=60, total=60, epoch=3.0)
    metrics.add(db, run_id, "tokens_per_second", [(i, 1, float(i), speed) for i in range(1, 61)])


def add_losses(db: sqlite3.Connection, run_id: str, losses: list[float], attempt: int = 1, first: int = 1) -> None:
    metrics.add(db, run_id, "loss", [(first + i, attempt, float(first + i), loss) for i, loss in enumerate(losses)])


def flat(count: int = 60) -> list[float]:
    return [2.0 + 0.01 * (i % 3) for i in range(count)]


def one(db: sqlite3.Connection, run_id: str) -> Any:
    return streams(db, runs.one(db, run_id))


def test_what_is_stored_is_what_the_rules_see(db: sqlite3.Connection) -> None:
    add_run(db, "a")
    add_losses(db, "a", [3.0, math.nan, 2.0])
    found = one(db, "a")
    assert [(step, value) for step, _, value in found.points("loss")][0::2] == [(1, 3.0), (3, 2.0)]
    assert math.isnan(found.points("loss")[1][2])
    assert found.values("loss") == [3.0, 2.0]
    assert (found.total, found.epochs, found.ended, found.parameters, found.rows) == (60, 3.0, True, 135_000_000, 500)
    assert (found.spec["method.kind"], found.spec["training.learning_rate"]) == ("lora", 5e-7)
    assert not found.cuda
    assert found.gpu == ()


def test_a_step_counts_as_its_latest_attempt_has_it(db: sqlite3.Connection) -> None:
    add_run(db, "a")
    add_losses(db, "a", [3.0, 2.9, 2.8, 2.7])
    add_losses(db, "a", [2.5, 2.4], attempt=2, first=3)
    assert one(db, "a").values("loss") == [3.0, 2.9, 2.5, 2.4]


def test_of_some_curves_the_last_points_are_enough(db: sqlite3.Connection) -> None:
    add_run(db, "a")
    metrics.add(db, "a", "padding", [(i, 1, float(i), 0.1) for i in range(1, 1001)])
    add_losses(db, "a", flat(1000))
    found = stored.curves(db, "a")
    assert [found["padding"][i][0] for i in (0, -1)] == [801, 1000]
    assert len(found["loss"]) == 1000


def test_a_card(db: sqlite3.Connection) -> None:
    add_run(db, "a")
    runs.set_device(db, "a", "cuda", 24.0)
    for second in range(700):
        samples = [
            {"gpu": 0, "memory_used": 19.3, "utilization": 97, "power": 400.0, "temperature": 71, "throttle": "thermal"}
        ]
        records.add_gpu_samples(db, "a", float(second), samples)
    found = one(db, "a")
    assert (found.cuda, found.memory_total, found.memory_used, found.planned) == (
        True,
        24.0,
        19.3,
        {"activations": 2.0},
    )
    assert [found.gpu[i].time for i in (0, -1)] == [100.0, 699.0]
    assert (found.gpu[0].throttle, found.gpu[0].temperature) == ("thermal", 71)


def test_only_like_runs_make_a_speed_the_usual_one(db: sqlite3.Connection) -> None:
    add_run(db, "now", "running", 50.0)
    for name, speed in (("a", 100.0), ("b", 110.0), ("c", 90.0)):
        add_run(db, name, speed=speed)
    add_run(db, "failed", "failed", 9.0)
    add_run(db, "other-batch", speed=9.0, micro_batch=1)
    assert sorted(one(db, "now").usual_speeds) == [90.0, 100.0, 110.0]
    add_losses(db, "now", flat())
    slow = next(found for found in findings(db, "now") if found.kind == "slow")
    assert (slow.severity, slow.text) == ("ok", "50 tokens a second, usual 100")  # a CPU has others to serve


def test_curves_that_are_at_hand_are_not_read(db: sqlite3.Connection) -> None:
    add_run(db, "a")
    add_losses(db, "a", flat())
    assert findings(db, "a")[0].kind == "rate_low"
    assert findings(db, "a", {"loss": [(1, 1.0, math.nan)]})[0].kind == "nonfinite"


class TestVerbs:
    @pytest.fixture
    def database(self, db: sqlite3.Connection, tmp_path: Path) -> str:
        add_run(db, "sick")
        add_losses(db, "sick", flat())
        return str(tmp_path / "experiments.db")

    def test_health_for_people(self, database: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["--db", database, "health", "sick"]) == 0
        said = capsys.readouterr().out.splitlines()
        assert said[0] == "! warning  learning rate 5e-07 is too low: loss stays near 2"
        assert said[3].strip() == "tunedeck fork sick --set training.learning_rate=0.0005"

    def test_its_remedy_is_a_fork(self, database: str, db: sqlite3.Connection) -> None:
        from engine.cli_fork import forked

        worst = findings(db, "sick")[0]
        made = forked(runs.one(db, "sick"), [f"{path}={value}" for path, value in worst.changes])
        assert made.training.learning_rate == 5e-4

    @pytest.mark.parametrize(
        "change",
        [
            ("training.learning_rate", 0.9), ("training.warmup", 0.03), ("training.max_grad_norm", 1.0), ("method.alpha", 16.0),
            ("training.max_steps", 80), ("training.epochs", 0.01), ("training.micro_batch", 8), ("training.accumulation", 2),
            ("training.packing", True), ("training.group_by_length", True), ("extra.trainer.dataloader_num_workers", 4),
        ],
    )  # fmt: skip
    def test_every_setting_that_the_rules_change_is_one_that_a_fork_takes(
        self, database: str, db: sqlite3.Connection, change: tuple[str, Any]
    ) -> None:
        from engine.cli_fork import forked
        from engine.spec import flatten

        path, value = change
        made = forked(runs.one(db, "sick"), [f"{path}={json.dumps(value)}"])
        assert flatten(made.model_dump())[path] == value

    def test_health_as_json(self, database: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["--db", database, "health", "sick", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["id"] == "sick"
        assert found["findings"][0]["changes"] == {"training.learning_rate": 0.0005}

    def test_show_has_it_too(self, database: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["--db", database, "show", "sick"]) == 0
        assert "\nhealth\n! warning  learning rate 5e-07 is too low" in capsys.readouterr().out
        assert main(["--db", database, "show", "sick", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["health"][0]["kind"] == "rate_low"

    def test_a_run_of_which_nothing_is_known(
        self, db: sqlite3.Connection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        runs.insert(db, "new", spec("new"), None, "elsewhere", 1.0)
        assert main(["--db", str(tmp_path / "experiments.db"), "health", "new"]) == 0
        assert capsys.readouterr().out == "Nothing was recorded that could be looked at.\n"
