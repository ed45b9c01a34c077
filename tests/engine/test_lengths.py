"""Lengths of rows: by the model's tokenizer where it is at hand, else by characters, and said so."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.data.lengths import A_MESSAGE, CHARACTERS, Lengths, estimated
from engine.data.model_checks import ALL, EVERY
from engine.data.scan import as_json, scan
from engine.data.tokens import load_tokens
from engine.spec import DataSpec
from tests.engine.datafiles import rows, write
from tests.engine.wordy import CHATML, tokenizer


def test_without_a_tokenizer_characters_are_counted() -> None:
    turns = [{"role": "user", "content": "a" * 400}, {"role": "assistant", "content": "b" * 40}]
    assert estimated({"messages": turns}) == round(440 / CHARACTERS) + 2 * A_MESSAGE
    assert estimated({"prompt": turns[:1], "completion": turns[1:]}) == round(440 / CHARACTERS) + 2 * A_MESSAGE
    assert estimated({"text": "a" * 400}) == estimated({"prompt": "a" * 200, "completion": "a" * 200}) == 100
    assert estimated({"prompt": "a" * 200, "chosen": "a" * 200, "rejected": "a" * 900}) == 100


def test_the_report_says_what_was_counted(tmp_path: Path) -> None:
    data = DataSpec(path=str(write(tmp_path, "a.jsonl", [{"text": "x" * n} for n in (400, 40, 4)])))
    report = scan(data)
    assert report.lengths == Lengths(3, (1, 10, 100), False)
    assert report.characters == Lengths(3, (4, 40, 400), False)
    assert as_json(report)["lengths"] == {
        "unit": "characters", "min": 4, "max": 400, "mean": 148.0, "quantiles": {"0.05": 4, "0.5": 40, "0.95": 400, "0.99": 400},
    }  # fmt: skip
    report = scan(data, load_tokens(tokenizer(tmp_path / "model", CHATML), None))
    assert report.lengths == Lengths(3, (5, 41, 401), True)  # a token for each byte, and the end token
    assert report.characters == Lengths(3, (4, 40, 400), False)
    assert as_json(report)["lengths"]["unit"] == "tokens"


def test_the_models_template_counts(tmp_path: Path) -> None:
    directory = tokenizer(tmp_path / "model", CHATML)
    report = scan(DataSpec(path=str(write(tmp_path, "a.jsonl", rows("alpaca", 8)))), load_tokens(directory, None))
    from tokenizers import Tokenizer

    tokens = Tokenizer.from_file(str(directory / "tokenizer.json"))
    exact = []
    for row in report.first:
        text = "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in row.value["messages"])
        exact.append(len(tokens.encode(text).ids))
    assert report.lengths == Lengths(8, tuple(sorted(exact)), True)


def test_no_rows_have_no_lengths(tmp_path: Path) -> None:
    report = scan(DataSpec(path=str(write(tmp_path, "a.jsonl", [{"text": ""}, {"text": None}])), format="text"))
    assert (report.lengths, report.characters, report.kept, report.rows) == (None, None, 0, 2)
    assert as_json(report)["lengths"] is None


def test_large_data_is_sampled_and_always_the_same_way(tmp_path: Path) -> None:
    count = ALL + 10 * EVERY
    path = write(tmp_path, "a.txt", "".join(f"{i} {'x' * (i % 400)}\n" for i in range(count)))
    report = scan(DataSpec(path=str(path)))
    assert report.lengths is not None
    assert (report.lengths.rows, len(report.lengths.tokens)) == (count, ALL + 10)
    assert report.lengths == scan(DataSpec(path=str(path))).lengths
    assert report.lengths.quantile(0.5) == pytest.approx(206 / CHARACTERS, rel=0.1)


@settings(deadline=None)
@given(st.lists(st.integers(1, 10_000), min_size=1, max_size=50), st.floats(0, 1), st.floats(0, 1))
def test_quantiles(tokens: list[int], low: float, high: float) -> None:
    made = Lengths(len(tokens), tuple(sorted(tokens)), True)
    low, high = sorted((low, high))
    assert made.quantile(low) <= made.quantile(high) <= made.longest == made.quantile(1.0)
    assert made.quantile(0.0) == min(tokens) <= made.mean <= made.longest
    assert sum(n <= made.quantile(high) for n in tokens) >= high * len(tokens)
