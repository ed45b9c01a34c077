"""`tunedeck eval` on a run of the tiny model, as a user has it: real processes, killed and continued; what it refuses."""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from engine.after import job as jobs
from tests.helpers import Deck, Run, kill_everything, wait_for

FRESH = [{"instruction": f"Say {i} again", "output": f"Again {i}."} for i in range(500, 580)]


@pytest.fixture
def run(reported_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """A finished run of its own, and a file of rows that it has not seen."""
    monkeypatch.setenv("TUNEDECK_LOCKS", str(tmp_path / "locks"))
    home = tmp_path / "home"
    shutil.copytree(reported_run.deck.database.parent, home)
    (tmp_path / "fresh.jsonl").write_text("".join(json.dumps(row) + "\n" for row in FRESH))
    yield Run(Deck(home / "experiments.db"), reported_run.id)
    kill_everything(home)


def folder(run: Run, job: str) -> Path:
    return jobs.directory(run.deck.database, run.id, job)


def worker(run: Run, job: str) -> psutil.Process | None:
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or []
        if jobs.MODULES["eval"] in command and str(folder(run, job)) in command:
            return process
    return None


def test_killed_in_the_middle_it_goes_on_and_comes_to_the_same(run: Run, tmp_path: Path) -> None:
    file = str(tmp_path / "fresh.jsonl")
    ask = ("eval", run.id, "--data", file, "--no-general", "--max-new-tokens", "48")
    started = run.deck.json(*ask, "--detach")
    assert (started["job"], started["kind"], started["ask"]["rows"]) == ("eval-1", "eval", 100)
    rows = folder(run, "eval-1") / "rows.jsonl"
    wait_for(lambda: rows.exists() and rows.read_text().count("\n") > 2, 120, "the first rows")
    process = worker(run, "eval-1")
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    wait_for(lambda: run.deck.json("jobs", run.id)[0]["status"] == "crashed", 30, "the crash on record")
    kept = rows.read_text().count("\n")
    assert 0 < kept < len(FRESH), "killed in the middle"
    resumed = run.deck.json("jobs", run.id, "--resume", "eval-1")
    found = [json.loads(line) for line in rows.read_text().splitlines()]
    assert sorted(row["row"] for row in found) == list(range(1, len(FRESH) + 1)), "no row twice, none missing"
    shown = run.deck(*ask)
    assert shown.returncode == 0, shown.stderr
    calm = run.deck.json("jobs", run.id)[0]
    assert (resumed["status"], calm["status"], calm["job"]) == ("finished", "finished", "eval-2")
    timed = ("seconds", "tokens_per_second")
    summaries = [{k: v for k, v in one["summary"].items() if k not in timed} for one in (resumed, calm)]
    assert summaries[0] == summaries[1]
    assert summaries[0]["data"]["held_out"] is True
    assert summaries[0]["scores"]["loss"]["rows"] == len(FRESH)
    assert " ".join(shown.stdout.split()).startswith(calm["summary"]["verdict"]), "the report begins with it"
    assert f"eval-2, {len(FRESH)} rows, fresh.jsonl" in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("eval", "nosuchrun"), "nosuchrun"),
        (("eval", "reported", "--step", "999"), "There is no such checkpoint"),
        (("eval", "reported", "--data", "missing.jsonl"), "The data was not found"),
        (("eval", "reported", "--data", "EMPTY"), "The data is empty"),
        (("eval", "reported", "--lm-eval", "arc_easy"), "pip install lm_eval"),
        (("eval", "reported", "--bertscore"), "pip install bert_score"),
        (("eval", "reported", "--rows", "0"), "no number from 1 on"),
        (("eval", "reported", "--base", "/nowhere/at/all"), "The base model is not there"),
    ],
)
def test_what_cannot_be_done_is_said_before_a_job_is_made(
    run: Run, tmp_path: Path, arguments: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    name = {"--lm-eval": "lm_eval", "--bertscore": "bert_score"}.get(arguments[2] if len(arguments) > 2 else "")
    if name and importlib.util.find_spec(name):
        pytest.skip(f"{name} is installed here")
    empty = tmp_path / "empty.jsonl"
    empty.touch()
    refused = run.deck(*(str(empty) if one == "EMPTY" else one for one in arguments))
    assert refused.returncode == 2
    assert said in refused.stderr
    assert "Traceback" not in refused.stderr
    assert run.deck.json("jobs", run.id) == []


def test_where_nothing_was_held_out_or_the_data_changed(run: Run) -> None:
    data = Path(json.loads(run.row()["spec"])["data"]["path"])
    before = data.read_text()
    try:
        data.write_text(before + before)
        refused = run.deck("eval", run.id)
    finally:
        data.write_text(before)
    assert refused.returncode == 2
    assert "The data has changed since the run was made" in refused.stderr
    assert "--data FILE" in refused.stderr


def test_a_run_that_still_trains_by_a_checkpoint(deck: Deck, tiny_model: Path, rows: Path) -> None:
    sets = ("training.max_steps=20000", "training.epochs=9999", "training.micro_batch=4", "data.validation=4", "saving.every=40",
            "evaluation.every=0", "evaluation.prompts=[]", "method.kind=lora")  # fmt: skip
    run = deck.start(tiny_model, rows, *sets)
    early = deck("eval", run.id)
    assert (early.returncode, "has saved nothing yet" in early.stderr) == (2, True), early.stderr
    wait_for(lambda: run.step() > 41, what="a checkpoint")
    wait_for(
        lambda: deck("eval", run.id, "--no-general", "--max-new-tokens", "4", "--detach").returncode == 0, what="a job"
    )
    wait_for(lambda: deck.json("jobs", run.id)[0]["status"] in ("finished", "failed", "crashed"), what="its end")
    job = deck.json("jobs", run.id)[0]
    assert job["status"] == "finished", job["reason"]
    assert job["summary"]["step"] % 40 == 0
    assert run.row()["status"] == "running", "nobody disturbed it"
    assert job["summary"]["step"] < run.step()
    deck("stop", run.id, "--now")
