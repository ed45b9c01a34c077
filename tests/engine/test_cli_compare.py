"""`tunedeck diff` and `tunedeck compare` as a person types them, on real runs."""

import json
from pathlib import Path

import pytest

from engine.cli import main
from engine.compare import compare
from engine.report_compare import compare_page, cut, diff_page
from engine.store import runs
from engine.text import cells
from tests.engine.real_runs import copied, make_nasty
from tests.engine.test_compare import make


@pytest.fixture
def place(tmp_path: Path) -> str:
    """A copy of the example's runs."""
    path, db = copied(tmp_path)
    db.close()
    return str(path)


def test_diff_shows_what_differs_and_nothing_of_results(place: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", "captain-lora-r16", "captain-lora-r8", "--db", place]) == 0
    shown = capsys.readouterr().out
    lines = [line.split() for line in shown.splitlines()]
    assert ["method.rank", "16", "8"] in lines
    assert ["training.learning_rate", "1e-3", "5e-4"] in lines
    assert "parameters the same (--all shows them)" in shown
    assert "training.epochs" not in shown
    assert "eval loss" not in shown
    assert "run.name" not in shown


def test_diff_all_shows_the_rest_too(place: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", "captain-lora-r16", "captain-lora-r8", "--all", "--db", place]) == 0
    assert ["training.epochs", "3", "="] in [line.split() for line in capsys.readouterr().out.splitlines()]


def test_compare_shows_results_hints_and_samples(place: str, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["captain-lora-r8", "captain-lora-r16", "captain-full"]
    assert main(["compare", *names, "--baseline", "captain-full", "--db", place]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("C is best, 0.161 below B.")
    lines = [line.split() for line in shown.splitlines()]
    assert ["B", "captain-full", "3lhk3m", "✓", "finished", "baseline"] in lines
    assert ["best", "eval", "loss", "0.350", "0.189*", "–0.161", "0.919", "+0.569"] in lines
    assert "came to eval loss 0.350" in shown
    assert "a hint and no cause; so few runs say little" in shown
    assert "> What is the capital of Italy?" in shown
    assert "  D  Ahoy, matey! The capital of Italy is Rome!" in shown


def test_compare_what_a_filter_finds(place: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--filter", "method:lora status:finished", "--json", "--db", place]) == 0
    document = json.loads(capsys.readouterr().out)
    assert {run["name"] for run in document["runs"]} == {
        "captain-lora-r16", "captain-lora-attention", "captain-lora-lr", "captain-lora-r2"
    }  # fmt: skip
    assert document["metric"] == "eval_loss"


def test_json_is_one_document_with_no_nan(place: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "captain-lora-lr", "captain-too-long", "--json", "--db", place]) == 0

    def refuse(text: str) -> float:
        raise AssertionError(text)

    document = json.loads(capsys.readouterr().out, parse_constant=refuse)
    best = next(row for row in document["measures"] if row["key"] == "eval_loss.best")
    assert [cell["text"] for cell in best["cells"]] == ["9.955", "–"]
    assert main(["diff", "captain-lora-lr", "captain-too-long", "--json", "--db", place]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"runs", "settings", "notes"}


def test_another_metric_decides(place: str, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["captain-lora-r16", "captain-full", "--metric", "mean_token_accuracy", "--db", place]
    assert main(["compare", *flags]) == 0
    assert "best mean token accuracy" in capsys.readouterr().out
    assert main(["compare", *flags[:2], "--metric", "mean_tokn_accuracy", "--db", place]) == 2
    assert "Perhaps" in capsys.readouterr().err


@pytest.mark.parametrize("names", [[], ["captain-full"], ["captain-full", "3lhk3m"], ["captain-full", "nobody"]])
def test_fewer_than_two_runs_is_bad_input(place: str, names: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *names, "--db", place]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "tunedeck runs" in said.err


def test_pages_fit_the_terminal_with_any_number_of_runs(tmp_path: Path) -> None:
    _, db = copied(tmp_path)
    ids = [row["id"] for row in runs.lines(db, ())]
    for i in range(60):
        ids.append(
            make(
                db,
                f"more{i:02}",
                [1.0 + i / 100],
                method__rank=i + 1,
                data__path=f"/a/very/long/path/{'x' * 60}{i}.jsonl",
            )
        )
    for count in (2, 3, 8, 68):
        c = compare(db, ids[:count])
        for width in (60, 80, 160):
            for page in (compare_page(c, width), diff_page(c, width, True)):
                assert max(cells(line) for line in page.split("\n")) <= width, (count, width)
    by_run = compare_page(compare(db, ids), 100).split("\n")
    ranked = [
        line.split()[0]
        for line in by_run[by_run.index(next(line for line in by_run if "best eval loss" in line)) + 1 :][:68]
    ]
    assert len(set(ranked)) == 68
    assert ranked[0] == "B"


def test_nothing_foreign_reaches_the_terminal(tmp_path: Path) -> None:
    _, db = copied(tmp_path)
    nasty = make_nasty(db, "captain-full")
    other = runs.find(db, "captain-lora-r16")["id"]
    page = compare_page(compare(db, [other, nasty]), 80, True)
    assert "\x1b" not in page
    assert "\u202e" not in page
    assert max(cells(line) for line in page.split("\n")) <= 80


def test_of_a_long_path_the_end_stays() -> None:
    assert cut("/data/" + "x" * 40 + "/rows.jsonl").endswith("/rows.jsonl")
    assert cut("word " * 20).startswith("word word")
    assert len(cut("y" * 100)) == 36
