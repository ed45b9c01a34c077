"""Any bytes at all: rows, faults or a DataError come of them, never anything else, and what was written comes back."""

import csv
import gzip
import io
import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.data import read_json
from engine.data.findings import KINDS
from engine.data.read import Fault, Record, read
from engine.errors import DataError

SUFFIXES = [".jsonl", ".json", ".csv", ".tsv", ".txt", ".jsonl.gz", ".json.gz", ".csv.gz", ".parquet"]
relaxed = settings(deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(params=[3, 1 << 18])
def chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Read in mouthfuls, so that every boundary falls between two of them, and as usual."""
    monkeypatch.setattr(read_json, "CHUNK", request.param)
    return int(request.param)


def checked(path: Path) -> list[Record | Fault]:
    """What read() gives before it ends or raises a DataError, once it is sound."""
    items: list[Record | Fault] = []
    try:
        for item in read(path):
            items.append(item)
    except DataError as error:
        f"{error} {error.hint}".encode()
    for item in items:
        assert item.line >= 1
        if isinstance(item, Fault):
            assert item.kind in KINDS
            assert item.text.isprintable()
            assert len(item.text) < 200
        else:
            assert isinstance(item.value, dict)
            json.dumps(item.value, ensure_ascii=False, allow_nan=False).encode()
    return items


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
rows = st.lists(st.dictionaries(st.text(max_size=5), values, max_size=4), min_size=1, max_size=8)
TOKENS = ['{"a":1}', *'"\\[]{},:1-é;', "e9", "null", "NaN", "\\ud800", '"a"', "a,b", "0" * 20]
token = st.sampled_from([*TOKENS, "\n", "\r\n", " ", "\t", "\u2028"])


@relaxed
@given(content=st.binary(max_size=300) | st.lists(token, max_size=25).map(lambda parts: "".join(parts).encode()))
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_any_bytes(suffix: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(gzip.compress(content, 1) if suffix.endswith(".gz") else content)
    checked(path)


@relaxed
@given(content=st.lists(token, max_size=25).map(lambda parts: "".join(parts).encode()))
@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".txt"])
def test_the_size_of_a_chunk_does_not_matter(
    suffix: str, content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    found = []
    for size in (1, 5, 1 << 18):
        monkeypatch.setattr(read_json, "CHUNK", size)
        found.append(checked(path))
    assert found[0] == found[1] == found[2]


@relaxed
@given(content=st.lists(token, max_size=25).map("".join) | values.map(json.dumps))
def test_a_json_list_is_read_just_as_json_does(content: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(f"[{content}]", encoding="utf-8", newline="")
    try:
        expected = json.loads(f"[{content}]")
    except ValueError:
        expected = None
    items = checked(path)
    lost = [item for item in items if isinstance(item, Fault) and item.lost]
    if expected is None:
        assert lost or content.rstrip().endswith(",")  # this is all that json does not forgive
    else:
        assert [item.line for item in lost] == [n for n, row in enumerate(expected, 1) if not isinstance(row, dict)]


def samples() -> dict[str, bytes]:
    some = [{"a": f"é\U0001f600 {n}", "b": [{"c": n, "d": None}], "e": n / 7} for n in range(6)]
    text = io.StringIO()
    csv.writer(text).writerows([["a", "b"], *([row["a"], 'x\n"y"'] for row in some)])
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(some), out, row_group_size=3)
    whole = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in some)
    return {
        "a.jsonl": whole.encode(),
        "wide.jsonl": whole.encode("utf-16"),
        "a.json": json.dumps(some).encode(),
        "pretty.json": json.dumps({"data": some}, indent=1).encode(),
        "a.jsonl.gz": gzip.compress(whole.encode(), mtime=0),
        "a.csv": text.getvalue().encode(),
        "a.parquet": out.getvalue(),
    }


SAMPLES = samples()


@relaxed
@given(data=st.data())
@pytest.mark.parametrize("name", SAMPLES)
def test_files_that_were_damaged(name: str, data: st.DataObject, tmp_path: Path) -> None:
    raw = bytearray(SAMPLES[name])
    for place in data.draw(st.lists(st.integers(0, len(raw) - 1), max_size=4)):
        raw[place] ^= data.draw(st.integers(1, 255))
    cut = data.draw(st.none() | st.integers(0, len(raw)))
    path = tmp_path / name
    path.write_bytes(raw[:cut])
    checked(path)


@relaxed
@given(written=rows)
def test_what_is_written_comes_back(written: list[dict[str, Any]], chunk: int, tmp_path: Path) -> None:
    plain = [json.dumps(row, ensure_ascii=False) for row in written]
    for name, text in (
        ("a.jsonl", "\n".join(plain)),
        ("a.json", json.dumps(written)),
        ("pretty.json", json.dumps(written, indent=2, ensure_ascii=False)),
        ("wrapped.json", json.dumps({"version": 1, "data": written})),
    ):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8", newline="")
        chat = name == "wrapped.json" and written[0].keys() & {"role", "from"}
        assert chat or [*read(path)] == [Record(0, line, row) for line, row in enumerate(written, 1)]


@relaxed
@given(written=rows.filter(lambda found: len(found) > 1))
def test_values_one_after_another_come_back(written: list[dict[str, Any]], chunk: int, tmp_path: Path) -> None:
    parts = [json.dumps(row, indent=1) for row in written]
    path = tmp_path / "a.json"
    path.write_text("\n".join(parts), newline="")
    starts = [1 + sum(part.count("\n") + 1 for part in parts[:n]) for n in range(len(parts))]
    found = [item for item in read(path) if isinstance(item, Record)]
    assert found == [Record(0, line, row) for line, row in zip(starts, written, strict=True)]


@relaxed
@given(written=st.lists(st.tuples(st.text(max_size=9), st.text(max_size=9)), min_size=1, max_size=8))
def test_csv_comes_back(written: list[tuple[str, str]], chunk: int, tmp_path: Path) -> None:
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows([("a", "b"), *written])
    if "\0" in text.getvalue():
        return  # near the start it is a binary file
    path = tmp_path / "a.csv"
    path.write_text(text.getvalue(), encoding="utf-8", newline="")
    starts, line = [], 2
    for row in written:
        starts.append(line)
        line += 1 + "".join(row).count("\n")
    expected = [Record(0, line, {"a": a, "b": b}) for line, (a, b) in zip(starts, written, strict=True)]
    assert [*read(path)] == expected


columns = {"text": st.none() | st.text(max_size=9), "n": st.integers(-(2**60), 2**60), "x": st.floats(width=32)}
columns["turns"] = st.lists(st.fixed_dictionaries({"role": st.text(max_size=5), "content": st.none() | st.text()}))


@settings(relaxed, max_examples=50)
@given(written=st.lists(st.fixed_dictionaries(columns), min_size=1, max_size=5))
def test_parquet_comes_back(written: list[dict[str, Any]], tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist(written), path)
    expected = [{**row, "x": row["x"] if math.isfinite(row["x"]) else None} for row in written]
    assert [*read(path)] == [Record(0, line, row) for line, row in enumerate(expected, 1)]
