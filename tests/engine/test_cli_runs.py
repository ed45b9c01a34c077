"""The verbs about many runs: what they print for people, as JSON and as CSV; what they refuse; that nothing is lost by mistake."""

import csv
import io
import json
import os
import pty
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine import cli
from engine.store import runs
from engine.text import clean
from tests.engine.stored import NOW, add, database
from tests.engine.test_changes import directory

Tunedeck = Callable[..., str]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "experiments.db"


@pytest.fixture
def db(path: Path) -> Iterator[sqlite3.Connection]:
    """Four runs: a good one, a bad one with a strange name, one in the archive, one in the bin."""
    connection = database(path)
    spec = json.dumps({"method": {"rank": 8}})
    add(connection, "good", {"training.learning_rate": 2e-4, "method.rank": 8}, {"eval_loss": {"last": 1.2, "best": 1.1}},
        name="good-run", created_at=NOW, started_at=NOW, ended_at=NOW + 90, tags=["keep", "b"], spec=spec)  # fmt: skip
    add(connection, "bad", {"training.learning_rate": 2e-3, "method.rank": 16}, {"eval_loss": {"last": "nan", "best": 2.9}},
        name="bad\x1b[31m-run\x07, \"quoted\"\n=1+1", created_at=NOW - 9, status="failed", tags=["keep"], note="a\nb")  # fmt: skip
    add(connection, "kept", name="kept-run", archived=1, created_at=NOW - 20)
    add(connection, "gone", name="gone-run", deleted_at=NOW, created_at=NOW - 30)
    yield connection
    connection.close()


@pytest.fixture
def tunedeck(db: sqlite3.Connection, path: Path, capsys: pytest.CaptureFixture[str]) -> Tunedeck:
    """A verb in this process; what it prints. It has to succeed, unless `code` says how it fails: then what it says."""

    def run(*arguments: str, code: int = 0) -> str:
        found = cli.main([*arguments, "--db", str(path)])
        printed = capsys.readouterr()
        assert found == code, printed.err
        assert printed.out == clean(printed.out) or "--json" in arguments
        if code:
            assert len(printed.err.splitlines()) >= 3, printed.err  # title, sentence, hint
        return printed.err if code else printed.out

    return run


def ids(text: str) -> list[str]:
    """Those of the runs in a JSON list."""
    return [run["id"] for run in json.loads(text)]


def test_the_list_is_newest_first_without_archive_and_bin(tunedeck: Tunedeck) -> None:
    lines = tunedeck("runs").splitlines()
    assert [line.split()[0] for line in lines] == ["id", "good", "bad"]
    assert "✓ finished  good-run" in lines[1]
    assert 'bad-run, "quoted" =1+1' in lines[2]
    assert ids(tunedeck("runs", "--all", "--json")) == ["good", "bad", "kept"]
    assert ids(tunedeck("runs", "--deleted", "--json")) == ["gone"]
    assert ids(tunedeck("runs", "--limit", "1", "--json")) == ["good"]


def test_json_is_the_rows_as_they_were(tunedeck: Tunedeck, db: sqlite3.Connection) -> None:
    assert json.loads(tunedeck("runs", "--all", "--json")) == runs.listing(db, archived=True)
    assert json.loads(tunedeck("runs", "--filter", "nothing", "--json")) == []


def test_json_that_is_broken_in_the_database_breaks_no_list(tunedeck: Tunedeck, db: sqlite3.Connection) -> None:
    db.execute("""UPDATE runs SET plan = '{"a": NaN}' WHERE id = 'good'""")
    (run, _) = json.loads(tunedeck("runs", "--json"))
    assert run["plan"] == {"a": "nan"}


def test_filter_sort_and_columns(tunedeck: Tunedeck) -> None:
    assert ids(tunedeck("runs", "--filter", "tag:keep lr<1e-3", "--json")) == ["good"]
    assert ids(tunedeck("runs", "--filter", "-tag:b", "--json")) == ["bad"]
    assert ids(tunedeck("runs", "--sort", "-eval_loss.best", "--json")) == ["bad", "good"]
    assert ids(tunedeck("runs", "--sort=rank", "--json")) == ["good", "bad"]
    head, good, bad = tunedeck("runs", "--columns", "name, lr,eval_loss,time,tag,starred,created").splitlines()
    assert head.split() == ["name", "lr", "eval_loss", "time", "tag", "starred", "created"]
    assert "0.0002" in good
    assert "90 s" in good
    assert "keep, b" in good
    assert " nan " in bad
    assert " – " in bad
    assert json.loads(tunedeck("runs", "--columns", "lr,eval_loss,tag", "--json")) == [
        {"id": "good", "lr": 0.0002, "eval_loss": 1.2, "tag": ["keep", "b"]},
        {"id": "bad", "lr": 0.002, "eval_loss": "nan", "tag": ["keep"]}]  # fmt: skip
    assert tunedeck("runs", "--filter", "nothing") == "No run passes the filter.\n"


def test_csv_is_read_by_a_reader(tunedeck: Tunedeck) -> None:
    good, bad = csv.DictReader(io.StringIO(tunedeck("runs", "--csv")))
    assert (good["id"], good["lr"], good["time"], good["tag"], good["loss"]) == (
        "good",
        "0.0002",
        "90.0",
        "keep, b",
        "",
    )
    assert good["created"].endswith("Z")
    assert bad["note"] == "a\nb"
    assert bad["name"] == 'bad-run, "quoted"\n=1+1'
    assert tunedeck("runs", "--csv", "--columns", "rank,starred") == "rank,starred\n8,0\n16,0\n"


def test_groups_have_their_best_run_first(tunedeck: Tunedeck) -> None:
    lines = [line.split() for line in tunedeck("runs", "--group", "tag").splitlines()]
    assert lines == [["tag", "runs", "best_eval", "first", "run", "id"], ["keep", "2", "1.1", "good-run", "good"],
                     ["b", "1", "1.1", "good-run", "good"]]  # fmt: skip
    groups = json.loads(tunedeck("runs", "--group", "rank", "--sort", "-best_eval", "--json"))
    assert groups == [
        {"rank": 16, "runs": ["bad"], "first": {"id": "bad", "name": 'bad\x1b[31m-run\x07, "quoted"\n=1+1', "best_eval": 2.9}},
        {"rank": 8, "runs": ["good"], "first": {"id": "good", "name": "good-run", "best_eval": 1.1}}]  # fmt: skip
    assert "–" in tunedeck("runs", "--group", "tag", "--all")


def test_a_filter_with_a_mistake_points_at_it(tunedeck: Tunedeck) -> None:
    said = tunedeck("runs", "--filter", "tag:keep lr<abc", code=2).splitlines()
    assert said[2:4] == ["    tag:keep lr<abc", "                ^"]
    assert said[2][said[3].index("^")] == "a"
    assert "eval_loss" in tunedeck("runs", "--filter", "eval_los<1", code=2)
    assert "nowhere" in tunedeck("runs", "--sort", "nowhere", code=2)
    assert "nowhere" in tunedeck("runs", "--columns", "name,nowhere", code=2)


def test_fields_are_all_that_can_be_named(tunedeck: Tunedeck) -> None:
    found = json.loads(tunedeck("runs", "--fields", "--json"))
    assert found["metrics"] == ["eval_loss"]
    assert found["parameters"] == ["method.rank", "training.learning_rate"]
    assert "lr = training.learning_rate" in tunedeck("runs", "--fields")


def test_without_a_database_there_are_no_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = ["--db", str(tmp_path / "none.db")]
    assert cli.main(["runs", *place]) == cli.main(["runs", "--json", *place]) == 0
    printed = capsys.readouterr().out
    assert "No runs yet" in printed
    assert printed.endswith("[]\n")
    assert cli.main(["runs", "--filter", "(", *place]) == 2
    assert not (tmp_path / "none.db").exists()


def test_runs_without_any_parameter_are_listed(tunedeck: Tunedeck, db: sqlite3.Connection) -> None:
    db.execute("DELETE FROM params")
    db.execute("DELETE FROM search_names")
    for more in ([], ["--csv"], ["--group", "rank"], ["--sort", "lr"]):
        assert "good-run" in tunedeck("runs", *more)


def tags(db: sqlite3.Connection, run_id: str) -> list[str]:
    found: list[str] = runs.find(db, run_id, None)["tags"]
    return found


def test_tags_by_plus_and_minus(tunedeck: Tunedeck, db: sqlite3.Connection) -> None:
    assert tunedeck("tag", "good", "+new", "+two words", "-b") == "good-run  good  keep, new, two words\n"
    assert tunedeck("tag", "good") == "good-run  good  keep, new, two words\n"
    tunedeck("tag", "good", "bad", "-keep", "-new", "-two words")
    assert tags(db, "good") == tags(db, "bad") == []
    (row,) = json.loads(tunedeck("tag", "--json", "good", "+x"))
    assert row["tags"] == ["x"]
    (row,) = json.loads(tunedeck("tag", "good", "-x", "+y", "--json"))
    assert row["tags"] == ["y"]
    tunedeck("tag", "--filter", "status:failed OR is:archived", "+z")
    assert (tags(db, "bad"), tags(db, "kept"), tags(db, "good")) == (["z"], ["z"], ["y"])
    assert "no tag" in tunedeck("tag", "good", "+", code=2)
    assert "Which runs" in tunedeck("tag", "+x", code=2)
    assert "no such run" in tunedeck("tag", "good", "nobody", "+x", code=2)
    assert tags(db, "good") == ["y"]  # none of several is changed when one of them is wrong


def test_notes(tunedeck: Tunedeck, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert tunedeck("note", "good") == "No note.\n"
    tunedeck("note", "good", "a note\x1b[2J of two\nlines")
    assert tunedeck("note", "good") == "a note of two\nlines\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO("from a pipe\n"))
    tunedeck("note", "good", "-")
    assert tunedeck("note", "good") == "from a pipe\n"
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nsed -i s/pipe/editor/ "$2"\n')
    editor.chmod(0o700)
    monkeypatch.setenv("VISUAL", f"{editor} --wait")
    tunedeck("note", "good", "--edit")
    assert tunedeck("note", "good") == "from a editor\n"
    for broken in ("false", "/nowhere/editor", "'"):
        monkeypatch.setenv("VISUAL", broken)
        tunedeck("note", "good", "--edit", code=2)
    assert tunedeck("note", "good") == "from a editor\n"
    tunedeck("note", "good", "")
    assert tunedeck("note", "good") == "No note.\n"


def test_names_stars_and_the_archive(tunedeck: Tunedeck) -> None:
    assert tunedeck("rename", "good-run", "better") == "better  good  was good-run\n"
    assert "Another run" in tunedeck("rename", "better", "kept-run", code=2)
    tunedeck("star", "better", "bad")
    tunedeck("star", "bad", "--off")
    assert ids(tunedeck("runs", "--filter", "is:starred", "--json")) == ["good"]
    tunedeck("archive", "better")
    tunedeck("archive", "kept", "--off")
    assert ids(tunedeck("runs", "--json")) == ["bad", "kept"]


def test_delete_undo_and_purge(tunedeck: Tunedeck, path: Path) -> None:
    place = directory(path, "good", 2_000_000)
    said = tunedeck("delete", "good", "--filter", "status:failed")
    assert "1.9 MiB" in said
    assert "tunedeck undelete good bad" in said
    assert ids(tunedeck("runs", "--json")) == []
    assert "in the bin" in tunedeck("show", "good", code=2)
    assert "in the bin" in tunedeck("delete", "good", code=2)
    assert tunedeck("undelete", "good-run") == "good-run  good  is back\n"
    assert "not in the bin" in tunedeck("undelete", "good", code=2)
    tunedeck("undelete", "--filter", "tag:keep")
    assert ids(tunedeck("runs", "--json")) == ["good", "bad"]
    tunedeck("delete", "good")
    (purged,) = json.loads(tunedeck("purge", "good", "--yes", "--json"))
    assert (purged["id"], purged["name"]) == ("good", "good-run")
    assert 2_000_000 < purged["freed"] < 2_100_000
    assert not place.exists()
    assert "no such run" in tunedeck("show", "good", code=2)
    assert ids(tunedeck("runs", "--deleted", "--json")) == ["gone"]
    assert "1 run deleted" in tunedeck("purge", "--yes")
    assert tunedeck("purge") == "The bin is empty.\n"


def test_a_purge_says_what_it_frees_and_asks(db: sqlite3.Connection, path: Path) -> None:
    """In a process of its own: at a terminal, where it asks, and without one, where it does not delete."""
    directory(path, "gone", 2_000_000)
    add(db, "fork", name="forked", parent_id="gone")
    command = [sys.executable, "-m", "tuiapp", "purge", "--db", str(path)]
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "1.9 MiB" in result.stdout
    assert "forked  fork  is a fork of gone-run, and goes on without it" in result.stdout
    assert "--yes" in result.stderr
    for answer, deleted in ((b"\n", False), (b"n\n", False), (b"y\n", True)):
        ours, theirs = pty.openpty()
        with subprocess.Popen(command, stdin=theirs, stdout=subprocess.PIPE, text=True) as process:
            os.write(ours, answer)
            said, _ = process.communicate(timeout=60)
        os.close(ours)
        os.close(theirs)
        assert "Delete 1 run for good and free 1.9 MiB?" in said
        assert bool(db.execute("SELECT 1 FROM runs WHERE id = 'gone'").fetchone()) != deleted
        assert (path.parent / "runs" / "gone").exists() != deleted
    assert process.returncode == 0


def test_a_run_whose_files_another_reads_is_purged_only_if_one_says_so(
    tunedeck: Tunedeck, db: sqlite3.Connection, path: Path
) -> None:
    db.execute("INSERT INTO params VALUES ('good', 'model.path', ?)", (str(path.parent / "runs" / "bad" / "model"),))
    assert "good-run (good) has model.path in bad" in tunedeck("purge", "bad", "--yes", code=2)
    assert "1 run deleted" in tunedeck("purge", "bad", "--yes", "--anyway")


def test_ten_thousand_runs_are_chosen_by_number_not_by_name(tunedeck: Tunedeck, db: sqlite3.Connection) -> None:
    """More runs than SQLite takes variables, and than one part of the list."""
    db.execute("BEGIN")
    for i in range(1200):
        add(db, f"r{i:04}", {"method.rank": i}, {"loss": i}, created_at=NOW + i)
    db.execute("COMMIT")
    found: list[dict[str, Any]] = json.loads(tunedeck("runs", "--filter", "rank>=50", "--sort", "loss", "--json"))
    assert [run["id"] for run in found] == [f"r{i:04}" for i in range(50, 1200)]
    assert [run["latest"]["loss"]["last"] for run in found] == list(range(50, 1200))
    assert len(tunedeck("runs", "--filter", "rank>=50").splitlines()) == 1151
