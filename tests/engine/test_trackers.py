"""Other trackers: refused before anything loads if they are not there, told where to write, never asking for a login."""

import json
import sqlite3
from pathlib import Path

import pytest

from engine import trackers
from engine.errors import SpecError
from engine.spec import RunSpec, parse
from tests.engine.conftest import trackers as installed
from tests.helpers import Run


def spec(*names: str) -> RunSpec:
    return parse({"model": {"path": "m"}, "data": {"path": "d"}, "report_to": list(names),
                  "run": {"name": "mine", "project": "ships"}})  # fmt: skip


def present(monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name if name in modules else None)


def test_an_unknown_tracker_is_refused_with_the_names_of_the_others() -> None:
    with pytest.raises(SpecError, match="comet_ml") as refused:
        trackers.check(["tensorboard", "comet_ml"])
    assert "tensorboard, wandb, mlflow, trackio" in refused.value.hint


def test_one_that_is_not_installed_is_refused_with_the_way_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    present(monkeypatch, "trackio", "tensorboardX")
    trackers.check(["trackio", "tensorboard"])
    trackers.check([])
    with pytest.raises(SpecError, match="wandb, mlflow") as refused:
        trackers.check(["trackio", "wandb", "mlflow"])
    assert refused.value.hint == "pip install wandb mlflow-skinny"


def test_the_command_refuses_it_before_the_model_is_looked_at(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from engine.cli import main

    code = main(
        [
            "--db",
            str(tmp_path / "e.db"),
            "train",
            "--model",
            "/nowhere",
            "--data",
            "/nowhere",
            "--set",
            "report_to=[all]",
        ]
    )
    assert code == 2
    assert "There is no such tracker" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_each_writes_into_the_runs_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    present(monkeypatch)
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    made = trackers.variables(spec("tensorboard", "wandb", "mlflow", "trackio"), tmp_path, {})
    assert made["TENSORBOARD_LOGGING_DIR"] == str(tmp_path / "tensorboard")
    assert (made["WANDB_DIR"], made["WANDB_PROJECT"]) == (str(tmp_path), "ships")
    assert made["WANDB_MODE"] == "offline"
    assert made["MLFLOW_TRACKING_URI"] == (tmp_path / "mlruns").as_uri()
    assert (made["MLFLOW_EXPERIMENT_NAME"], made["MLFLOW_ALLOW_FILE_STORE"]) == ("ships", "true")
    assert made["TRACKIO_DIR"] == str(tmp_path / "trackio")
    assert trackers.variables(spec(), tmp_path, {}) == {}
    assert trackers.arguments(spec("wandb")) == {"run_name": "mine", "project": "ships"}
    assert trackers.arguments(spec()) == {}


def test_mlflow_has_a_database_where_it_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    present(monkeypatch, "mlflow", "sqlalchemy", "alembic")
    made = trackers.variables(spec("mlflow"), tmp_path, {})
    assert made["MLFLOW_TRACKING_URI"] == f"sqlite:///{tmp_path}/mlflow.db"
    assert "MLFLOW_ALLOW_FILE_STORE" not in made


def test_what_the_user_has_set_stays(tmp_path: Path) -> None:
    given = {"MLFLOW_TRACKING_URI": "http://box:5000", "TRACKIO_DIR": "/here", "WANDB_MODE": "disabled"}
    made = trackers.variables(spec("wandb", "mlflow", "trackio"), tmp_path, given)
    assert not given.keys() & made.keys()


@pytest.mark.parametrize("given", ["environment", "netrc", "own server"])
def test_wandb_goes_online_only_where_it_can_log_in_by_itself(given: str, tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine api.wandb.ai login user password 0123456789\n")
    netrc.chmod(0o600)
    environment = {"NETRC": str(netrc)}
    if given == "environment":
        environment = {"NETRC": "/nowhere", "WANDB_API_KEY": "0123456789"}
    assert trackers.has_wandb_key(environment) is True
    assert "WANDB_MODE" not in trackers.variables(spec("wandb"), tmp_path, environment)
    if given == "own server":
        assert not trackers.has_wandb_key(environment | {"WANDB_BASE_URL": "https://wandb.mine.example"})
        netrc.write_text("machine\n\0 nonsense")
        assert not trackers.has_wandb_key(environment)


def test_tensorboard_and_trackio_have_the_losses_of_a_run(reported_run: Run) -> None:
    """All that are installed were reported to; those of the test dependencies are read again."""
    losses = reported_run.losses()
    assert len(losses) == 6
    assert {"tensorboard", "trackio"} <= set(installed())
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(reported_run.directory / "tensorboard"))
    board.Reload()
    assert {e.step: e.value for e in board.Scalars("train/loss")} == pytest.approx(losses, rel=1e-6)
    assert [e.step for e in board.Scalars("eval/loss")] == [3, 6]
    with sqlite3.connect(reported_run.directory / "trackio" / "tests.db") as db:
        assert {r[0] for r in db.execute("SELECT DISTINCT run_name FROM metrics")} == {"reported"}
        told = [json.loads(row[0]) for row in db.execute("SELECT metrics FROM metrics")]
    assert {r["train/global_step"]: r["train/loss"] for r in told if "train/loss" in r} == pytest.approx(losses)
