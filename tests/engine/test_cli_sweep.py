"""The verbs of sweeps, lineage and forks, in this process; the controller is real, its workers train nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from engine import cli, sweeping
from engine.store import runs
from engine.store.connection import open_database
from tests.helpers import Deck, kill_everything, wait_for

ROOT = Path(__file__).parent.parent.parent
SETS = ("compute.devices=cpu", "method.kind=lora", "training.max_steps=2")


@dataclass
class Said:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Verb = Callable[..., Said]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("TUNEDECK_LOCKS", str(tmp_path / "locks"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(sweeping, "MODULE", "tests.engine.fake_sweeper")
    home = tmp_path / "home"
    home.mkdir()
    yield home
    kill_everything(home)


@pytest.fixture
def verb(home: Path, capsys: pytest.CaptureFixture[str]) -> Verb:
    def call(*arguments: str) -> Said:
        try:
            code = cli.main(["--db", str(home / "experiments.db"), *arguments])
        except SystemExit as error:  # argparse
            code = int(error.code or 0)
        told = capsys.readouterr()
        return Said(code, told.out, told.err)

    return call


@pytest.fixture
def sweep(verb: Verb, tiny_model: Path, rows: Path) -> Verb:
    """`tunedeck sweep` on the tiny model."""
    sets = [part for one in SETS for part in ("--set", one)]

    def call(*arguments: str) -> Said:
        return verb("sweep", "--model", str(tiny_model), "--data", str(rows), *sets, *arguments)

    return call


class TestBadInput:
    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["--over", "training.lr=1,2"], "training.lr is not a known key"),
            (["--over", "method.rank="], "has no values"),
            (["--over", "method.rank=a,b"], "method.rank"),
            (["--over", "method.rank=8", "--over", "method.rank=16"], "more than once"),
            (["--over", "method.rank=" + ",".join(map(str, range(1, 101))), "training.seed=" + ",".join(map(str, range(100)))], "10,000"),
            (["--over", "training=[1]"], "training"),
            (["--over", "data.path.0.weight=1,2"], "data.path"),
            (["--over", "run.name=a,b"], "whose run"),
            (["--over", "method.rank=8,16", "rows.yaml"], "stands before --over"),
            (["--over", "method.rank=4..64"], "--random"),
            (["--over", "method.rank=4..64", "--random", "0"], "--random"),
            (["--over", "method.rank=4,8", "--at-once", "0"], "--at-once"),
            (["--over", "method.rank=4,8", "--seeds", "x"], "--seeds"),
            (["--over", "training.seed=1,2", "--seeds", "2"], "Give the seeds once"),
            (["--over", "method.rank=8,16", "--set", "training.max_step=3"], "training.max_step"),
            (["--over", "model.path=/nowhere/a,/nowhere/b"], "/nowhere/a"),
        ],
    )  # fmt: skip
    def test_is_a_sentence_and_nothing_is_written(
        self, sweep: Verb, home: Path, arguments: list[str], words: str
    ) -> None:
        said = sweep(*arguments)
        assert (said.code, said.out) == (2, "")
        assert words in said.err
        assert len(said.err.strip().splitlines()) >= 2
        assert list(home.iterdir()) == []

    def test_nothing_to_sweep_over_is_argparse_s_business(self, sweep: Verb) -> None:
        said = sweep()
        assert said.code == 2
        assert "--over" in said.err

    @pytest.mark.parametrize(
        "arguments",
        [
            ["show"],
            ["stop", "nobody"],
            ["dance", "x"],
            ["nobody"],
            ["show", "x", "--now"],
            ["stop", "x", "--now", "--finish"],
        ],
    )
    def test_of_sweeps(self, verb: Verb, home: Path, arguments: list[str]) -> None:
        open_database(home / "experiments.db").close()
        said = verb("sweeps", *arguments)
        assert said.code == 2
        assert said.err
        assert said.out == ""


class TestDryRun:
    def test_points_with_time_and_memory(self, sweep: Verb, home: Path) -> None:
        said = sweep(
            "--over", "training.learning_rate=1e-3,2e-3", "method.rank=4,8", "--seeds", "2", "--name", "x", "--dry-run"
        )
        assert said.code == 0
        lines = said.out.splitlines()
        assert lines[0].split() == ["run", "lr", "rank", "seed", "time", "GiB"]
        assert lines[1].split()[:5] == ["1", "x-lr1e-3-r4-s1", "1e-3", "4", "1"]
        assert "about" in lines[1]
        assert "8 runs, one at a time on the CPU" in said.out
        assert "alpha 8, 16" in said.out
        assert list(home.iterdir()) == []

    def test_as_json(self, sweep: Verb) -> None:
        made = sweep("--over", "training.learning_rate=1e-5..1e-3", "--random", "3", "--dry-run", "--json").json
        assert len(made["points"]) == 3
        assert made["at_once"] == 1
        assert all(1e-5 <= one["sets"]["training.learning_rate"] <= 1e-3 for one in made["points"])
        assert made["points"][0]["seconds"] > 0
        again = sweep("--over", "training.learning_rate=1e-5..1e-3", "--random", "3", "--dry-run", "--json").json
        assert again["points"] == made["points"]
        other = sweep(
            "--over", "training.learning_rate=1e-5..1e-3", "--random", "3", "--sample-seed", "1", "--dry-run", "--json"
        )
        assert other.json["points"] != made["points"]

    def test_a_specification_s_file_and_its_name(
        self, verb: Verb, tiny_model: Path, rows: Path, tmp_path: Path
    ) -> None:
        spec = tmp_path / "spec.yaml"
        spec.write_text(
            f"model: {{path: {tiny_model}}}\ndata: {{path: {rows}}}\ncompute: {{devices: cpu}}\nrun: {{name: mine}}\n"
        )
        made = verb("sweep", str(spec), "--over", "training.learning_rate=1e-4,2e-4", "--dry-run", "--json").json
        assert (made["name"], made["points"][1]["name"]) == ("mine", "mine-lr2e-4")


class TestSweeps:
    def test_none_yet(self, verb: Verb) -> None:
        assert "No sweeps yet" in verb("sweeps").out
        assert verb("sweeps", "--json").json == []

    def test_followed_to_its_end_and_listed(self, sweep: Verb, verb: Verb) -> None:
        said = sweep("--over", "training.seed=1,13", "--name", "two")
        assert said.code == 1, "one failed"
        assert "✓ 1 of 2  two-s1  finished" in said.out
        assert "✗ 2 of 2  two-s13  failed  it is the thirteenth" in said.out
        assert "2 of 2, 1 failed" in verb("sweeps").out
        shown = verb("sweeps", "show", "two")
        assert "two-s13" in shown.out
        assert verb("sweeps", "two").out == shown.out
        [listed] = verb("sweeps", "--json").json
        assert (listed["status"], [one["state"] for one in listed["points"]]) == ("finished", ["ended", "ended"])
        with_tag = verb("runs", "--json").json
        assert all(run["tags"] == ["two"] and run["sweep_id"] == listed["id"] for run in with_tag)

    def test_json_while_it_is_followed_is_one_document(self, sweep: Verb) -> None:
        said = sweep("--over", "training.learning_rate=1e-3,2e-3", "--json")
        assert said.code == 0
        assert said.json["status"] == "finished"

    def test_detached_stopped_and_gone_on_with(self, sweep: Verb, verb: Verb, home: Path) -> None:
        begun = sweep("--over", "training.learning_rate=1e-3,2e-3", "--seeds", "14,", "--detach", "--json").json
        wait_for(
            lambda: any(
                one["status"] == "starting" for one in verb("sweeps", "show", begun["id"], "--json").json["points"]
            ),
            30,
        )
        assert "save and stop" in verb("sweeps", "stop", begun["name"]).out
        wait_for(lambda: verb("sweeps", "show", begun["id"], "--json").json["status"] == "stopped", 30)
        assert verb("sweeps", "stop", begun["id"]).code == 2
        assert verb("sweeps", "retry", begun["id"]).code == 2, "none has failed"
        assert "goes on with 2 points" in verb("sweeps", "resume", begun["id"]).out

        def ended() -> bool:
            for place in (home / "runs").iterdir():
                (place / "END").touch()
            return bool(verb("sweeps", "show", begun["id"], "--json").json["status"] == "finished")

        wait_for(ended, 60)
        assert len(verb("runs", "--json").json) == 2


@pytest.mark.slow
def test_ctrl_c_leaves_the_sweep_going(deck: Deck, tiny_model: Path, rows: Path) -> None:
    sets = [part for one in (*SETS, "training.max_steps=100000", "training.epochs=9000") for part in ("--set", one)]
    command = [sys.executable, "-m", "tuiapp", "--db", str(deck.database), "sweep", "--model", str(tiny_model), "--data", str(rows),
               "--over", "method.rank=2,4", *sets]  # fmt: skip
    terminal = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    wait_for(lambda: deck.database.exists() and deck.json("runs"), 60)
    os.killpg(terminal.pid, signal.SIGINT)
    _, said = terminal.communicate(timeout=30)
    assert terminal.returncode == 130
    assert "goes on alone" in said
    time.sleep(0.5)
    [shown] = deck.json("sweeps")
    assert shown["status"] == "running"
    assert deck("sweeps", "stop", shown["id"], "--now").returncode == 0
    wait_for(lambda: deck.json("sweeps", "show", shown["id"])["status"] == "stopped", 60)
    assert len(deck.json("runs")) == 1


class TestLineageAndFork:
    def test_a_fork_says_what_changed_and_the_tree_shows_it(
        self, verb: Verb, home: Path, tiny_model: Path, rows: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from engine import launch

        monkeypatch.setattr(launch, "start_supervisor", lambda *_: None)
        sets = [part for one in SETS for part in ("--set", one)]
        verb(
            "train",
            "--model",
            str(tiny_model),
            "--data",
            str(rows),
            *sets,
            "--set",
            "run.name=first",
            "--set",
            "training.learning_rate=1e-3",
            "--detach",
        )
        said = verb("fork", "first", "--set", "training.learning_rate=5e-4", "--name", "second: try", "--detach")
        assert said.code == 0, said.err
        assert "fork of first: lr " in said.out
        assert "→ 5e-4" in said.out
        same = verb("fork", "first", "--detach")
        assert "nothing is changed" in same.out
        assert (same.code, verb("fork", "first", "--set", "training.nonsense=3").code) == (0, 2)
        as_json = verb("fork", "first", "--detach", "--json")
        assert as_json.json["name"] == "first-3"
        assert "nothing is changed" in as_json.err
        with open_database(home / "experiments.db") as db:
            assert runs.find(db, "second: try")["parent_id"] == runs.find(db, "first")["id"]
        tree = verb("lineage", "second: try")
        assert tree.code == 0
        assert "▸ ├ " in tree.out
        assert "lr " in tree.out
        found = verb("lineage", "first", "--json").json
        assert [child["name"] for child in found["children"]] == ["second: try", "first-2", "first-3"]
        assert verb("lineage", "nobody").code == 2
