"""Data sets of the hub and tokenizers that are not there as files: made into files once, by a child process."""

import json
from pathlib import Path

import pytest

from engine.data import hub
from engine.data.hub import downloaded, is_hub_name, ready_tokens, tokens_if_here
from engine.errors import DataError, ModelError
from engine.jobs import job
from engine.models import inspect_model
from engine.spec import ModelSpec
from tests.helpers import Deck


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TUNEDECK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize(("path", "is_one"), [
    ("openai/gsm8k", True), ("openai/gsm8k@main:train", True), ("a/b:train[:10%]", True), ("teknium/OpenHermes-2.5", True), ("rows.jsonl", False), ("data/rows.jsonl.gz", False),
    ("/data/rows", False), ("a/b/c", False), ("", False),
])  # fmt: skip
def test_what_may_be_a_name_of_the_hub(path: str, is_one: bool) -> None:
    assert is_hub_name(path) is is_one


def test_a_file_is_a_file_even_if_it_looks_like_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner").mkdir()
    (tmp_path / "owner" / "rows").write_text("x")
    assert not is_hub_name("owner/rows")


def test_a_data_set_becomes_a_file_and_is_read(deck: Deck, tmp_path: Path) -> None:
    """The fetching process on a directory that `datasets` knows; the hub itself is out of reach here."""
    folder = tmp_path / "set"
    folder.mkdir()
    rows = [
        {"messages": [{"role": "user", "content": f"Q {i}"}, {"role": "assistant", "content": f"A {i}, surely"}]}
        for i in range(7)
    ]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    target = hub._file("owner/set")
    target.parent.mkdir(parents=True)
    assert job("engine.worker.fetch", ["dataset", str(folder), str(target)], "Fetching") == {"rows": 7}
    assert downloaded("owner/set") == target
    report = deck.json("data", "check", "owner/set")
    assert (report["format"], report["rows"], report["findings"]) == ("messages", 7, [])


def test_a_data_set_that_cannot_be_had(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="cannot be fetched"):
        job("engine.worker.fetch", ["dataset", str(tmp_path / "none"), str(tmp_path / "x.parquet")], "Fetching")
    assert not (tmp_path / "x.parquet").exists()
    assert issubclass(DataError, Exception)


def test_the_tokenizer_beside_the_model_is_used(tiny_model: Path, cache: Path) -> None:
    tokens = tokens_if_here(inspect_model(str(tiny_model)), ModelSpec(path=str(tiny_model)), None)
    assert tokens is not None
    assert tokens.id_of("<|im_end|>") == 2
    assert "<|im_start|>" in tokens.source
    assert not cache.exists()


def test_a_template_that_is_not_there(tiny_model: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        ready_tokens(inspect_model(str(tiny_model)), ModelSpec(path=str(tiny_model)), "/nowhere/t.jinja")


@pytest.mark.slow
def test_a_gguf_files_tokenizer_is_made_once(smollm2: str, cache: Path) -> None:
    facts, model = inspect_model(smollm2), ModelSpec(path=smollm2)
    if facts.source != "gguf":
        pytest.skip("SmolLM2 is in the hub cache here")
    assert tokens_if_here(facts, model, None) is None
    tokens = ready_tokens(facts, model, None)
    again = tokens_if_here(facts, model, None)
    assert again is not None
    assert again.source == tokens.source != ""
    text = tokens.template.render([{"role": "user", "content": "What is the capital of France?"}]).text
    ids = tokens.tokenizer.encode(text, add_special_tokens=False).ids
    assert tokens.tokenizer.decode(ids, skip_special_tokens=False) == text
    assert ids[0] == tokens.id_of("<|im_start|>")
