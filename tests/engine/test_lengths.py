"""Lengths of rows: by the model's tokenizer where it is at hand, else by characters, and said so."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.data.formats import Conversation
from engine.data.lengths import A_MESSAGE, CHARACTERS, SAMPLE, Lengths, measure


def conversation(line: int, *texts: str) -> Conversation:
    roles = ("user", "assistant")
    return Conversation(line, [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)])


def test_without_a_tokenizer_characters_are_counted(tmp_path: Path) -> None:
    made = measure([conversation(1, "a" * 400, "b" * 40), conversation(2, "", "c" * 4)], str(tmp_path))
    assert made is not None
    assert made.measured is False
    assert made.tokens == (1 + 2 * A_MESSAGE, round(440 / CHARACTERS) + 2 * A_MESSAGE)
    assert made.rows == 2


def test_no_rows_have_no_lengths(tmp_path: Path) -> None:
    assert measure([], str(tmp_path)) is None


def test_a_broken_tokenizer_is_as_good_as_none(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{not json")
    made = measure([conversation(1, "question", "answer")], str(tmp_path))
    assert made is not None
    assert made.measured is False


def test_the_models_tokenizer_counts(tiny_model: Path) -> None:
    from tokenizers import Tokenizer

    texts = ["What is the capital of France?", "Paris, of course. " * 20]
    made = measure([conversation(1, *texts)], str(tiny_model))
    assert made is not None
    assert made.measured is True
    tokenizer = Tokenizer.from_file(str(tiny_model / "tokenizer.json"))
    exact = sum(len(tokenizer.encode(text, add_special_tokens=False).ids) for text in texts)
    assert made.tokens == (exact + 2 * A_MESSAGE,)


def test_large_data_is_sampled_and_always_the_same_way(tmp_path: Path) -> None:
    rows = [conversation(i, "x" * i, "y") for i in range(5 * SAMPLE)]
    made = measure(rows, str(tmp_path))
    assert made is not None
    assert (made.rows, len(made.tokens)) == (5 * SAMPLE, SAMPLE)
    assert made == measure(rows, str(tmp_path))
    assert made.quantile(0.5) == pytest.approx(5 * SAMPLE / 2 / CHARACTERS, rel=0.15)


@settings(deadline=None)
@given(st.lists(st.integers(1, 10_000), min_size=1, max_size=50), st.floats(0, 1), st.floats(0, 1))
def test_quantiles(tokens: list[int], low: float, high: float) -> None:
    made = Lengths(len(tokens), tuple(sorted(tokens)), True)
    low, high = sorted((low, high))
    assert made.quantile(low) <= made.quantile(high) <= made.longest == made.quantile(1.0)
    assert made.quantile(0.0) == min(tokens) <= made.mean <= made.longest
    assert sum(n <= made.quantile(high) for n in tokens) >= high * len(tokens)
