"""The config file: what it may say, everything wrong with it at once, and what it does to runs."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine import config, on_end
from engine.defaults import beneath, problems
from engine.errors import ConfigError
from engine.keys import ACTIONS, conflicts, key_of, written
from engine.planner.rules import Reason
from tests.helpers import Deck, wait_for


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the config lies in this test; it is not there yet."""
    path = tmp_path / "config.yaml"
    monkeypatch.setenv("TUNEDECK_CONFIG", str(path))
    return path


def test_without_a_file_everything_is_usual_and_nothing_is_imported(file: Path) -> None:
    assert config.read() == config.Config(file)
    program = "import sys, engine.config; engine.config.read(); print(sorted({'yaml', 'pydantic', 'difflib'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_where_it_lies_without_the_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TUNEDECK_CONFIG")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert config.read().path == tmp_path / "tunedeck" / "config.yaml"


def test_a_whole_config(file: Path) -> None:
    file.write_text("""
theme: light
ascii: true
charts: blocks
bell: false
on_end: notify-send done
keys: {Stop: S, "y axis": [U, f5], quit-at-once: alt+q}
defaults: {training: {epochs: 2}, run.tags: [mine]}
""")
    read = config.required()
    assert (read.theme, read.ascii, read.charts, read.bell) == ("light", True, "blocks", False)
    assert read.on_end == "notify-send done"
    assert read.keys == {"stop": ("S",), "y-axis": ("U", "f5"), "quit": ("alt+q",)}
    assert read.defaults == {"training": {"epochs": 2}, "run.tags": ["mine"]}
    assert not problems(read.defaults)


def test_every_problem_at_once_with_the_nearest_name_and_the_rest_is_good(file: Path) -> None:
    file.write_text("theem: light\nbell: 3\ncharts: blocks\nkeys: {Stpo: S, Zoom: f5}\n")
    read = config.read()
    assert read.charts == "blocks"
    assert read.keys == {"zoom": ("f5",)}
    assert read.bell is True
    assert len(read.problems) == 3
    with pytest.raises(ConfigError) as raised:
        config.required()
    for part in ("theem", "did you mean theme?", "bell must be true or false", "Stpo", "did you mean Stop?", str(file)):
        assert part in raised.value.message
    assert raised.value.hint
    assert "3 problems" in read.problem


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("theme: [", "not YAML"),
        ("- a", "no mapping"),
        ("just text", "no mapping"),
        (b"\xff\xfe", "UTF-8"),
        ("a: 2026-13-45", "not YAML"),
        ("!!python/object/apply:os.system ['true']", "not YAML"),
        ("[" * 100_000, "too deeply nested"),
        ("keys: 3", "keys must be"),
        ("keys: {Zoom: []}", "no key left"),
        ("keys: {Zoom: no}", "in quotes"),
        ("keys: {Zoom: ctrl+i}", "sends for Tab"),
        ("keys: {Zoom: shift+a}", "is written A"),
        ("keys: {Zoom: hyper+a}", "no key"),
        ("keys: {Quit at once: Q}", "while one types too"),
        ("keys: {Zoom: f5, zoom: f6}", "twice"),
        ("theme: light\nkeys: {? [a, b] : c}", "line 2: found unhashable key"),
        ("on_end: 3", "shell command"),
        ("defaults: [a]", "fields and their values"),
        ("? {a: 1}\n: 2", "not YAML"),
        ("theme: \u001b[31m", "not YAML"),
    ],
)
def test_broken_files_are_a_sentence(file: Path, content: str | bytes, says: str) -> None:
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    assert says in config.read().problem
    assert "\n" not in config.read().problem


def test_a_directory_in_its_place_is_a_sentence(file: Path) -> None:
    file.mkdir()
    assert "cannot be read" in config.read().problem


def test_an_empty_file_and_empty_settings_set_nothing(file: Path) -> None:
    for content in ("", "# nothing\n", "theme:\nkeys:\n"):
        file.write_text(content)
        assert config.read() == config.Config(file)


def test_the_usual_keys_do_not_conflict() -> None:
    assert conflicts({action: about.keys for action, about in ACTIONS.items()}) == []


def test_a_conflict_names_both_and_changes_neither(file: Path) -> None:
    file.write_text("keys: {Zoom: s, Theme: x, Checkpoint: f5}")
    read = config.read()
    assert read.keys == {"checkpoint": ("f5",)}
    assert any("s is both Zoom and Stop" in problem for problem in read.problems)


def test_two_actions_may_change_places_and_screens_may_share_a_key(file: Path) -> None:
    file.write_text("keys: {Stop: w, Checkpoint: s, Review: m}")  # Machine is not in the wizard
    assert config.required().keys == {"stop": ("w",), "checkpoint": ("s",), "review": ("m",)}


def test_taking_a_change_back_can_make_the_next_conflict(file: Path) -> None:
    # Stop moves to z and leaves s to Checkpoint; z belongs to Zoom, so Stop goes back to s, where Checkpoint must not be
    file.write_text("keys: {Stop: z, Checkpoint: s}")
    assert config.read().keys == {}


def test_keys_as_people_write_them() -> None:
    for text, key in (("?", "question_mark"), ("ctrl+S", "ctrl+s"), ("PgUp", "pageup"), ("Esc", "escape"), (" ", "space"),
                      ("+", "plus"), ("ö", "ö"), ("G", "G"), ("F5", "f5"), (",", "comma")):  # fmt: skip
        assert key_of(text) == key
    assert written("question_mark") == "?"
    assert written("ctrl+right_square_bracket") == "ctrl+]"


def test_defaults_lie_beneath_what_is_said() -> None:
    raw = {"model": {"path": "m"}, "training": {"epochs": 7, "max_length": None}}
    laid, reasons = beneath(
        raw, {"training.epochs": 2, "training.max_length": 512, "training": {"learning_rate": "3e-4"}}
    )
    assert laid["training"] == {"epochs": 7, "max_length": 512, "learning_rate": 3e-4}
    assert reasons == [
        Reason("training.max_length", 512, "your config"),
        Reason("training.learning_rate", 3e-4, "your config"),
    ]
    assert raw["training"] == {"epochs": 7, "max_length": None}


def test_a_default_that_does_not_go_with_the_rest_is_left_out_and_named() -> None:
    laid, reasons = beneath({"method": {"kind": "full"}}, {"method.rank": 32, "training.epochs": 2})
    assert laid == {"method": {"kind": "full"}, "training": {"epochs": 2}}
    assert reasons[0].value is None
    assert "does not go with the rest" in reasons[0].why


def test_a_fork_has_what_its_parent_has() -> None:
    raw = {"run": {"parent": "abc123"}, "training": {"max_steps": None}}
    assert beneath(raw, {"training.max_steps": 5}) == (raw, [])


def test_what_is_wrong_by_itself_comes_back_as_it_is() -> None:
    raw = {"method": {"kind": "nix"}}
    assert beneath(raw, {"training.epochs": 2}) == (raw, [])


def test_defaults_that_no_run_could_have_are_named() -> None:
    said = problems({"training.epochz": 2, "learning_rate": 1, "training": {"epochs": -1}})
    assert any("training.epochz" in one and "did you mean training.epochs?" in one for one in said)
    assert any("did you mean training.learning_rate?" in one for one in said)
    assert any("greater than 0" in one for one in said)


def test_the_verb_shows_it_and_keeps_the_command_to_itself(file: Path, deck: Deck) -> None:
    file.write_text("on_end: curl -H secret-token https://x\nkeys: {Stop: S}\ndefaults: {training.epochs: 2}\n")
    done = deck("config")
    assert done.returncode == 0, done.stderr
    assert "secret-token" not in done.stdout
    assert str(file) in done.stdout
    assert "training.epochs" in done.stdout
    document = deck.json("config")
    assert document["set"]["keys"] == {"Stop": ["S"]}
    assert "secret-token" not in json.dumps(document)
    actions = {one["name"]: one for one in document["actions"]}
    assert actions["Stop"]["keys"] == ["S"]
    assert actions["Checkpoint"]["keys"] == actions["Checkpoint"]["usual"] == ["w"]


def test_verbs_name_what_is_wrong_and_do_nothing(file: Path, deck: Deck, tiny_model: Path, rows: Path) -> None:
    file.write_text("theem: light\ndefaults: {training.epochz: 2}\n")
    done = deck("config")
    assert done.returncode == 2
    assert "theme" in done.stderr
    assert "training.epochs" in done.stderr
    document = json.loads(deck("config", "--json").stdout)
    assert len(document["problems"]) == 2
    done = deck("train", "--model", str(tiny_model), "--data", str(rows))
    assert done.returncode == 2
    assert "theem" in done.stderr
    assert not deck.database.exists()
    assert deck("runs").returncode == 0, "a verb that needs no config does not ask it"


def test_a_run_starts_with_the_defaults_and_the_command_runs_at_its_end(
    file: Path, deck: Deck, tiny_model: Path, rows: Path
) -> None:
    told, text = file.with_name("told.txt"), "secret-token"
    file.write_text(json.dumps({
        "on_end": f"env | grep ^TUNEDECK_ > {told}.new; mv {told}.new {told}; : {text}; exit 3",
        "defaults": {"training.max_steps": 1, "training.epochs": 4, "method.kind": "lora", "evaluation.every": 0, "data.validation": 0},
    }))  # fmt: skip
    run = deck.start(tiny_model, rows, "run.name=mine", "training.epochs=1")
    row = run.wait("finished")
    spec: dict[str, Any] = json.loads(row["spec"])
    assert spec["training"]["max_steps"] == 1
    assert spec["training"]["epochs"] == 1, "what is said for the run counts more"
    reasons = {one["field"]: one["why"] for one in json.loads(row["plan"])["reasons"]}
    assert reasons["training.max_steps"] == reasons["method.kind"] == "your config"
    assert "training.epochs" not in reasons
    wait_for(told.exists, 30, "the command")
    heard = dict(line.split("=", 1) for line in told.read_text().splitlines())
    assert heard["TUNEDECK_RUN"] == run.id
    assert heard["TUNEDECK_NAME"] == "mine"
    assert heard["TUNEDECK_STATUS"] == "finished"
    assert heard["TUNEDECK_DIR"] == str(run.directory)
    assert heard["TUNEDECK_DB"] == str(deck.database)
    wait_for(lambda: not run.processes("engine.supervisor"), 30, "the supervisor's end")
    notices = [one for one in run.shown()["events"] if one["type"] == "notice" and "on_end" in one["text"]]
    assert ["exit code 3" in one["text"] for one in notices] == [True]
    assert run.row()["status"] == "finished"
    for path in deck.database.parent.rglob("*"):
        assert not path.is_file() or text.encode() not in path.read_bytes(), f"{path} has the command"


def test_a_command_that_hangs_is_ended_and_one_that_cannot_start_is_said(file: Path, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    file.write_text(f"on_end: 'sleep 60 & echo $! > {pid}; wait'")
    assert on_end.run_command(tmp_path, tmp_path / "db", "a", "finished", seconds=1) == "was ended after 1 s"
    state = Path(f"/proc/{pid.read_text().strip()}/stat")
    wait_for(lambda: not state.exists() or ") Z " in state.read_text(), 10, "the end of its child")
    assert "could not be started" in on_end.run_command(tmp_path / "gone", tmp_path / "db", "a", "failed")
    file.write_text("on_end: exec 3>&1; true")
    assert on_end.run_command(tmp_path, tmp_path / "db", "a", "finished") == ""
    os.unlink(file)
    assert on_end.run_command(tmp_path, tmp_path / "db", "a", "finished") == ""
