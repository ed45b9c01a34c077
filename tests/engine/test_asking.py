"""What the forms of jobs ask for, what they say before a job starts, and what is told of one afterwards."""

import sqlite3
from pathlib import Path

import pytest

from engine.after import asking
from engine.after import job as jobs
from engine.errors import DataError, RunError, TuneDeckError
from engine.store import afterwards, runs
from engine.store.connection import open_database
from tests.tuiapp.after_runs import Trained


@pytest.fixture
def trained(tmp_path: Path) -> Trained:
    return Trained(tmp_path)


@pytest.fixture
def db(trained: Trained) -> sqlite3.Connection:
    return open_database(trained.database)


def prepared(db: sqlite3.Connection, trained: Trained, kind: str, **values: str) -> asking.Asked:
    usual = {one.name: one.value for one in asking.fields(db, trained.database, runs.find(db, "r1"), kind)}
    assert set(values) <= {*usual, "eval"}, "only what the form has"
    return asking.prepare(db, trained.database, runs.find(db, "r1"), kind, usual | values)


class TestEvaluation:
    def test_the_ask_is_that_of_the_verb(self, db: sqlite3.Connection, trained: Trained) -> None:
        from argparse import ArgumentParser

        from engine import cli_eval

        parser = ArgumentParser()
        cli_eval.add_verb(lambda *_: parser)
        verb = cli_eval.asked(parser.parse_args(["r1"])) | {"data": None, "step": None, "base": None}
        assert prepared(db, trained, "eval").ask == verb

    def test_rows_and_tokens_are_estimated(self, db: sqlite3.Connection, trained: Trained) -> None:
        lines = prepared(db, trained, "eval").lines
        assert lines[0].startswith("8 held-out rows of captain.jsonl")
        assert "16 answers of at most 32 tokens" in lines[1]
        assert "not known yet" in lines[1]

    def test_how_long_it_takes_goes_by_an_earlier_one(self, db: sqlite3.Connection, trained: Trained) -> None:
        trained.evaluated(82, quick=True, data={"rows": 82, "held_out": True}, seconds=41.0)
        assert "4 s going by eval-1 of captain" in prepared(db, trained, "eval").lines[1]

    def test_a_file_of_rows_and_how_many(self, db: sqlite3.Connection, trained: Trained) -> None:
        found = prepared(db, trained, "eval", data=str(trained.home / "captain.jsonl"), rows="3")
        assert found.ask["data"] == str(trained.home / "captain.jsonl")
        assert found.lines[0].startswith("3 of 40 row")
        assert any("trained on" in text for text in found.lines)

    @pytest.mark.parametrize("text", ["0", "-3", "many"])
    def test_a_number_that_is_none(self, db: sqlite3.Connection, trained: Trained, text: str) -> None:
        with pytest.raises(RunError, match="no number"):
            prepared(db, trained, "eval", rows=text)

    def test_data_that_is_gone(self, db: sqlite3.Connection, trained: Trained) -> None:
        with pytest.raises(DataError):
            prepared(db, trained, "eval", data="/nowhere.jsonl")


class TestJudge:
    @pytest.fixture(autouse=True)
    def _environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("TUNEDECK_JUDGE_KEY", "OPENAI_API_KEY", "OPENAI_BASE_URL", "TUNEDECK_JUDGE_URL"):
            monkeypatch.delenv(name, raising=False)

    def test_calls_and_prices_are_said_before(self, db: sqlite3.Connection, trained: Trained) -> None:
        evaluation = trained.evaluated(8)
        found = prepared(db, trained, "judge", url="http://localhost:9/v1", model="gauge", eval=evaluation,
                         price_in="2", price_out="8")  # fmt: skip
        assert (found.ask["eval"], found.ask["model"], found.ask["price_out"]) == (evaluation, "gauge", 8.0)
        text = " ".join(found.lines)
        assert "16 calls" in text
        assert "by the prices that were given" in text
        assert "No key is sent" in text

    def test_the_key_is_named_and_never_shown(
        self, db: sqlite3.Connection, trained: Trained, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        trained.evaluated(8)
        monkeypatch.setenv("TUNEDECK_JUDGE_KEY", "sk-secret")
        found = prepared(db, trained, "judge", url="http://localhost:9/v1", model="gauge")
        assert "key of $TUNEDECK_JUDGE_KEY" in " ".join(found.lines)
        assert "sk-secret" not in repr(found)

    def test_without_an_address(self, db: sqlite3.Connection, trained: Trained) -> None:
        trained.evaluated(8)
        with pytest.raises(RunError, match="address"):
            prepared(db, trained, "judge", model="gauge")

    def test_a_price_that_is_none(self, db: sqlite3.Connection, trained: Trained) -> None:
        trained.evaluated(8)
        with pytest.raises(RunError, match="no price"):
            prepared(db, trained, "judge", url="http://localhost:9/v1", model="gauge", price_in="cheap")

    def test_it_remembers_what_was_asked_the_last_time(self, db: sqlite3.Connection, trained: Trained) -> None:
        trained.job(
            "judge", {"eval": "eval-1", "model": "gauge", "pairwise": False, "price_in": 0.5}, [], None, status="failed"
        )
        values = {one.name: one.value for one in asking.fields(db, trained.database, runs.find(db, "r1"), "judge")}
        assert (values["model"], values["manner"], values["price_in"]) == ("gauge", "scores", "0.5")


class TestTaking:
    def test_an_adapter_goes_to_a_name_that_is_free(
        self, db: sqlite3.Connection, trained: Trained, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(trained.home)
        (trained.home / "captain-adapter").mkdir()
        found = prepared(db, trained, "export", to="adapter")
        assert found.ask["target"] == str(trained.home / "captain-adapter-2")
        assert found.ask["quantization"] is None

    def test_a_place_that_is_taken(self, db: sqlite3.Connection, trained: Trained) -> None:
        with pytest.raises(RunError, match="taken"):
            prepared(db, trained, "export", to="adapter", target=str(trained.run_dir))

    def test_a_base_that_cannot_be_merged_into(self, db: sqlite3.Connection, trained: Trained) -> None:
        with pytest.raises(TuneDeckError):
            prepared(db, trained, "merge", target=str(trained.home / "new"))


def test_the_story_of_a_job(db: sqlite3.Connection, trained: Trained) -> None:
    name = trained.job(
        "merge", {"target": "/nowhere", "by_shards": False}, [], None, status="failed", reason="The disk is full."
    )
    (jobs.directory(trained.database, "r1", name) / "output.log").write_text("writing\nno space left\n")
    story = asking.story(trained.database, afterwards.find(db, "r1", name))
    assert ("status", "failed") in story
    assert ("why", "The disk is full.") in story
    assert ("asked: target", "/nowhere") in story
    assert ("asked: by_shards", "no") in story
    assert ("output", "writing") in story
    assert ("", "no space left") in story


def test_show_lists_jobs_with_verdicts_and_files_with_hashes(
    trained: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    from engine.cli import main

    trained.evaluated(16)
    trained.exported()
    assert main(["--db", str(trained.database), "show", "r1"]) == 0
    shown = capsys.readouterr().out
    assert "eval-1         finished    Better than the base: loss" in shown
    assert "captain-q8_0.gguf  sha256 1a2b3c4d1a2b" in shown
