"""The header of GGUF files, held against the package that writes them."""

import contextlib
import random
from pathlib import Path

import pytest
from gguf import GGUFReader

from engine.errors import ModelError
from engine.gguf_header import read_header
from engine.models import inspect_model
from tests.gguf_file import TOKENS, write_gguf


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A whole one."""
    return write_gguf(tmp_path / "thing.gguf")


def test_it_says_what_the_package_says(file: Path) -> None:
    header, reader = read_header(file), GGUFReader(file)
    assert header.tensors == {one.name: int(one.n_elements) for one in reader.tensors}
    for name, field in reader.fields.items():
        if name in header.values:
            assert header.values[name] == field.contents(), name
        elif not name.startswith("GGUF."):
            assert header.lengths[name] == len(field.data), name
    assert header.lengths["tokenizer.ggml.tokens"] == len(TOKENS)
    assert header.end <= file.stat().st_size < header.end + 32


def test_the_facts_of_a_model(file: Path) -> None:
    facts = inspect_model(str(file))
    assert (facts.architecture, facts.layers, facts.hidden, facts.kv_heads, facts.vocab) == ("llama", 2, 64, 2, 300)
    assert (facts.parameters, facts.context, facts.has_template) == (300 * 64 + 64, 512, True)


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9, 0.99])
def test_a_file_that_is_cut_off_is_refused(file: Path, share: float) -> None:
    whole = file.read_bytes()
    file.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ModelError, match=r"cut off|bytes|GGUF|past"):
        inspect_model(str(file))


def test_garbage_is_refused_and_nothing_else_happens(file: Path) -> None:
    whole, chance = file.read_bytes(), random.Random(3)
    for _ in range(300):
        broken = bytearray(whole)
        for _ in range(4):
            broken[chance.randrange(2000)] = chance.randrange(256)
        file.write_bytes(broken)
        with contextlib.suppress(ValueError):
            read_header(file)


def test_another_version_is_named(file: Path) -> None:
    whole = file.read_bytes()
    file.write_bytes(whole[:4] + (9).to_bytes(4, "little") + whole[8:])
    with pytest.raises(ValueError, match="version 9"):
        read_header(file)
