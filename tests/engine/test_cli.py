"""The command line as a user has it: bad input is a title, a sentence and a hint, exit 2, and nothing is written."""

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import Deck


def refused(deck: Deck, *arguments: str) -> str:
    """Standard error of a command that must exit 2 without a traceback and leave nothing behind."""
    before = sorted(deck.database.parent.rglob("*"))
    result = deck(*arguments)
    assert result.returncode == 2, result.stderr + result.stdout
    assert "Traceback" not in result.stderr
    assert len(result.stderr.strip().splitlines()) >= 3, result.stderr  # title, sentence, hint
    assert result.stdout == ""
    assert sorted(deck.database.parent.rglob("*")) == before
    return result.stderr


def train(deck: Deck, model: Path | str, data: Path | str, *more: str) -> str:
    return refused(deck, "train", "--model", str(model), "--data", str(data), *more)


def test_missing_data_file(deck: Deck, tiny_model: Path) -> None:
    assert "/nowhere/data.jsonl" in train(deck, tiny_model, "/nowhere/data.jsonl")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "empty"),
        ("[]", "empty"),
        ("{not json", "JSON"),
        ('[{"question": "a", "answer": "b"}]', "question"),
        ('[{"instruction": "a", "output": ""}]', "output is empty"),
        ('[{"messages": [{"role": "robot", "content": "x"}]}]', "robot"),
    ],
)
def test_bad_data(deck: Deck, tiny_model: Path, tmp_path: Path, content: str, says: str) -> None:
    data = tmp_path / "bad.json"
    data.write_text(content)
    assert says in train(deck, tiny_model, data)


def test_unknown_key_in_a_spec(deck: Deck, tiny_model: Path, rows: Path, tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text(f"model: {{path: {tiny_model}}}\ndata: {{path: {rows}}}\ntraining: {{learning_rat: 1.0e-4}}\n")
    said = refused(deck, "train", str(spec))
    assert "training.learning_rat" in said
    assert "learning_rate" in said.splitlines()[-1]


def test_all_problems_of_a_spec_come_at_once(deck: Deck, tiny_model: Path, rows: Path) -> None:
    said = train(
        deck, tiny_model, rows, "--set", "training.epochs=-1", "--set", "method.rank=0", "--set", "method.kind=lore"
    )
    assert all(path in said for path in ("training.epochs", "method.rank", "method.kind"))


def test_model_directory_without_weights(deck: Deck, rows: Path, tiny_model: Path, tmp_path: Path) -> None:
    model = tmp_path / "no-weights"
    model.mkdir()
    (model / "config.json").write_text((tiny_model / "config.json").read_text())
    assert "weights" in train(deck, model, rows)


def test_no_model_there(deck: Deck, rows: Path, tmp_path: Path) -> None:
    assert "config.json" in train(deck, tmp_path, rows)
    assert "not found" in train(deck, tmp_path / "absent", rows)


def test_model_without_a_chat_template(deck: Deck, rows: Path, tiny_model: Path, tmp_path: Path) -> None:
    model = tmp_path / "base"
    model.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (model / name).write_bytes((tiny_model / name).read_bytes())
    assert "data.template=chatml" in train(deck, model, rows)


def test_database_from_a_newer_version(deck: Deck, tiny_model: Path, rows: Path) -> None:
    db = sqlite3.connect(deck.database)
    db.executescript("CREATE TABLE runs (id); PRAGMA user_version = 999")
    db.close()
    assert "newer" in train(deck, tiny_model, rows)
    assert "newer" in refused(deck, "runs")


def test_a_home_that_cannot_be_written(tiny_model: Path, rows: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    result = Deck(blocked / "sub" / "experiments.db")("train", "--model", str(tiny_model), "--data", str(rows))
    assert result.returncode == 2
    assert "--db" in result.stderr
    assert "Traceback" not in result.stderr
    assert (
        Deck(Path("/proc/tunedeck/experiments.db"))("train", "--model", str(tiny_model), "--data", str(rows)).returncode
        == 2
    )


def test_no_disk_space(deck: Deck, tiny_model: Path, rows: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        assert "disk space" in train(Deck(small / "experiments.db"), tiny_model, rows)
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_unknown_run_and_what_it_suggests(deck: Deck) -> None:
    db = sqlite3.connect(deck.database)
    db.close()
    result = deck("show", "nope")
    assert result.returncode == 2
    assert "tunedeck runs" in result.stderr


def test_a_first_look_is_no_error_and_writes_nothing(deck: Deck) -> None:
    assert deck.json("runs") == []
    assert not deck.database.exists()


def test_gpus_and_doctor_answer_in_json(deck: Deck) -> None:
    gpus = deck.json("gpus")
    assert gpus["ram_total"] > 0
    assert gpus["gpus"] or gpus["problem"]
    names = {check["name"] for check in deck.json("doctor")}
    assert {"torch", "trl", "disk", "RAM", "database"} <= names


def test_without_a_terminal_the_app_says_so(deck: Deck) -> None:
    result = deck()
    assert result.returncode == 2
    assert "terminal" in result.stderr


def test_a_foreign_engine_in_the_working_directory_is_not_imported(
    deck: Deck, tiny_model: Path, rows: Path, tmp_path: Path
) -> None:
    foreign = tmp_path / "elsewhere"
    (foreign / "engine").mkdir(parents=True)
    (foreign / "engine" / "__init__.py").write_text("raise SystemExit('the wrong engine')")
    script = Path(sys.executable).with_name("tunedeck")
    command = [script, "--db", deck.database, "train", "--model", tiny_model, "--data", rows, "--json"]
    result = subprocess.run(
        [*map(str, command), "--set", "training.max_steps=1"], cwd=foreign, capture_output=True, text=True, check=False,
        env={**os.environ}, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["status"] == "finished"
