"""Rows and faults of files as people have them, each with its line."""

import csv
import datetime
import decimal
import gzip
import io
import json
import os
import pickle
import tarfile
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.data import read_json
from engine.data.findings import KINDS
from engine.data.read import Fault, Record, files, read
from engine.errors import DataError

ROWS: list[dict[str, Any]] = [{"instruction": f"Say {i}", "output": f"{i}é\U0001f600!"} for i in range(1, 4)]


def lines(rows: list[Any], **options: Any) -> str:
    return "".join(json.dumps(row, ensure_ascii=False, **options) + "\n" for row in rows)


def table(rows: list[dict[str, Any]], **options: Any) -> str:
    out = io.StringIO()
    writer = csv.writer(out, **options)
    writer.writerows([list(rows[0]), *(row.values() for row in rows)])
    return out.getvalue()


def file(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def both(path: Path) -> tuple[list[tuple[int, Any]], list[tuple[int, str, bool]]]:
    """(line, value) of the records and (line, kind, lost) of the faults."""
    items = list(read(path))
    faults = [item for item in items if isinstance(item, Fault)]
    for fault in faults:
        assert fault.kind in KINDS
        assert fault.text.isprintable()
        assert len(fault.text) < 200
    records = [(item.line, item.value) for item in items if isinstance(item, Record)]
    return records, [(fault.line, fault.kind, fault.lost) for fault in faults]


def texts(path: Path) -> list[str]:
    return [item.text for item in read(path) if isinstance(item, Fault)]


def refused(path: Path) -> DataError:
    with pytest.raises(DataError) as caught:
        list(read(path))
    error = caught.value
    assert error.message.endswith(".")
    assert error.hint.strip()
    str(error).encode()
    return error


READABLE: dict[str, tuple[str | bytes, list[int]]] = {
    "rows.jsonl": (lines(ROWS), [1, 2, 3]),
    "rows.ndjson": (lines(ROWS), [1, 2, 3]),
    "ROWS.JSONL": (lines(ROWS), [1, 2, 3]),
    "no-newline.jsonl": (lines(ROWS).rstrip(), [1, 2, 3]),
    "blank-lines.jsonl": ("\n \t\r\n" + lines(ROWS).replace("\n", "\n\n"), [3, 5, 7]),
    "crlf.jsonl": (lines(ROWS).replace("\n", "\r\n"), [1, 2, 3]),
    "bom.jsonl": (b"\xef\xbb\xbf" + lines(ROWS).encode(), [1, 2, 3]),
    "escaped.jsonl": ("".join(json.dumps(row) + "\n" for row in ROWS), [1, 2, 3]),
    "rows.json": (json.dumps(ROWS), [1, 2, 3]),
    "pretty.json": ("\n\n" + json.dumps(ROWS, indent=2) + "\n", [1, 2, 3]),
    "bom.json": (b"\xef\xbb\xbf" + json.dumps(ROWS).encode(), [1, 2, 3]),
    "wrapped.json": (json.dumps({"version": 1, "name": "mine", "data": ROWS}), [1, 2, 3]),
    "comma-at-the-end.json": (json.dumps(ROWS).replace("]", ",\n]"), [1, 2, 3]),
    "rows.csv": (table(ROWS), [2, 3, 4]),
    "bom.csv": (b"\xef\xbb\xbf" + table(ROWS).encode(), [2, 3, 4]),
    "semicolon.csv": (table(ROWS, delimiter=";", lineterminator="\n"), [2, 3, 4]),
    "tab.csv": (table(ROWS, delimiter="\t"), [2, 3, 4]),
    "pipe.csv": (table(ROWS, delimiter="|"), [2, 3, 4]),
    "blank-lines.csv": ("\n \n" + table(ROWS).replace("\r\n", "\r\n \r\n\r\n"), [6, 9, 12]),
    "rows.tsv": (table(ROWS, delimiter="\t", quoting=csv.QUOTE_ALL), [2, 3, 4]),
}


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("name", READABLE)
def test_every_wrapping(name: str, zipped: bool, tmp_path: Path) -> None:
    content, numbers = READABLE[name]
    raw = content.encode() if isinstance(content, str) else content
    path = file(tmp_path, name + ".gz" if zipped else name, gzip.compress(raw) if zipped else raw)
    assert both(path) == (list(zip(numbers, ROWS, strict=True)), [])
    assert {item.file for item in read(path)} == {0}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-16-be", "utf-32-be"])
@pytest.mark.parametrize(
    ("name", "text", "first"),
    [("a.jsonl", lines(ROWS), 1), ("a.json", json.dumps(ROWS, ensure_ascii=False), 1), ("a.csv", table(ROWS), 2)],
)
def test_utf_16_and_32_by_their_mark(name: str, text: str, first: int, encoding: str, tmp_path: Path) -> None:
    raw = ("\ufeff" * encoding.endswith("be") + text).encode(encoding)
    assert both(file(tmp_path, name, raw)) == ([(first + i, row) for i, row in enumerate(ROWS)], [(1, "utf16", False)])


def test_broken_utf_16_costs_its_row(tmp_path: Path) -> None:
    raw = "\ufeff".encode("utf-16-le") + '{"a": "x?"}\n{"a": 1}\n'.encode("utf-16-le").replace(b"?\0", b"\x00\xd8")
    found = ([(2, {"a": 1})], [(1, "utf16", False), (1, "encoding", True)])
    assert both(file(tmp_path, "a.jsonl", raw)) == found
    assert both(file(tmp_path, "odd.jsonl", raw + b"{"))[1][-1] == (3, "encoding", True)


def test_text_is_a_document_per_line(tmp_path: Path) -> None:
    for name in ("a.txt", "a.text"):
        records, faults = both(
            file(tmp_path, name, " one\r\n\n\u3000\n\u2028two\x0c \x85\nthree".encode() + b"\n\xff\n")
        )
        assert records == [(1, {"text": " one"}), (4, {"text": "\u2028two\x0c \x85"}), (5, {"text": "three"})]
        assert faults == [(6, "encoding", True)]


def test_separators_inside_strings_are_text(tmp_path: Path) -> None:
    odd = {"a": "a\u2028b\u2029c\x85d\x0be"}
    for name, text in (("a.jsonl", lines([odd, ROWS[0]])), ("a.json", json.dumps([odd, ROWS[0]], ensure_ascii=False))):
        assert both(file(tmp_path, name, text)) == ([(1, odd), (2, ROWS[0])], [])


FAULTS = {
    "{": "unparsable",
    '{"a": 1},': "unparsable",
    "{'a': 1}": "unparsable",
    '{"a": "x\ty"}': "unparsable",
    '{"a": 1\0}': "unparsable",
    f'{{"a": {"9" * 5000}}}': "unparsable",
    "[" * 100_000: "too_deep",
    '{"a":' * 5000: "too_deep",
    '{"a": ' + "[" * 100 + "]" * 100 + "}": "too_deep",
    "[1, 2]": "not_an_object",
    "null": "not_an_object",
    "NaN": "not_an_object",
    '"text"': "not_an_object",
}


@pytest.mark.parametrize("text", FAULTS, ids=lambda text: text[:12])
def test_a_bad_line_is_named_and_costs_only_itself(text: str, tmp_path: Path) -> None:
    path = file(tmp_path, "a.jsonl", (lines(ROWS[:1]) + " " * 9000 + "\n") + f"{text}\n\n" + lines(ROWS[1:2]))
    assert both(path) == ([(1, ROWS[0]), (5, ROWS[1])], [(3, FAULTS[text], True)])


MENDED: list[tuple[str, str, Any]] = [
    ('{"a": NaN, "b": [Infinity, -Infinity]}', "nan", {"a": None, "b": [None, None]}),
    ('{"a": 1e999}', "nan", {"a": None}),
    (r'{"a": "x\ud800y", "b": "\ud83d\ude00"}', "surrogate", {"a": "x\ufffdy", "b": "\U0001f600"}),
    (r'{"\udfff": 1}', "surrogate", {"\ufffd": 1}),
    ('{"a": [{"b": 1, "b": 2}]}', "duplicate_key", {"a": [{"b": 2}]}),
]


@pytest.mark.parametrize(("text", "kind", "value"), MENDED)
def test_what_can_be_mended_is_read_and_told(text: str, kind: str, value: Any, tmp_path: Path) -> None:
    good = json.dumps(ROWS[0])
    expected = ([(1, ROWS[0]), (2, value)], [(2, kind, False)])
    assert both(file(tmp_path, "a.jsonl", f"{good}\n{text}")) == expected
    assert both(file(tmp_path, "a.json", f"[{good}, {text}]")) == expected
    assert both(file(tmp_path, "w.json", f'{{"data": [{good}, {text}]}}')) == expected
    records, faults = both(file(tmp_path, "c.json", f"{good}\n{text}"))
    assert (records, faults) == (expected[0], [(1, "json_lines", False), *expected[1]])


@pytest.mark.parametrize(
    ("name", "before", "good", "line"),
    [
        ("a.jsonl", '{"a": "1"}\n', '{"a": "2"}\n', 2),
        ("a.json", '[{"a": "1"},', '{"a": "2"}]', 2),
        ("w.json", '{"rows": [{"a": "1"},', '{"a": "2"}]}', 2),
        ("c.json", '{"a":\n"1"}\n', '{"a": "2"}', 3),
        ("a.csv", "a\n1\n", "2\n", 3),
        ("a.txt", "1\n", "2\n", 2),
    ],
)
def test_another_encoding_costs_its_row(name: str, before: str, good: str, line: int, tmp_path: Path) -> None:
    bad = {".jsonl": '{"a": "café"}\n', ".json": '{"a": "café"},', ".csv": "café\n", ".txt": "café\n"}[
        Path(name).suffix
    ]
    path = file(tmp_path, name, before.encode() + bad.encode("latin-1") + good.encode())
    records, faults = both(path)
    assert [list(value.values()) for _, value in records] == [["1"], ["2"]]
    assert [fault for fault in faults if fault[1] != "json_lines"] == [(line, "encoding", True)]
    assert "byte 0xe9 at column" in texts(path)[-1]
    assert "“é” in Windows-1252" in texts(path)[-1]


def test_the_place_in_a_line(tmp_path: Path) -> None:
    path = file(tmp_path, "a.jsonl", '{"é": é}\n'.encode() + '{"ü": 1}'.encode() + b'{"\xe9')
    assert texts(path) == ["Expecting value (column 7)", "byte 0xe9 at column 11 (“é” in Windows-1252)"]


CUT_OFF = {
    '[{"a": 1},\n {"b" 2}, {"c": 3}]': "Expecting ':' delimiter at line 2, column 7",
    '[{"a": 1},\n\n {"b": 2': "Expecting ',' delimiter at line 3, column 9",
    '[{"a": 1}, {"b": "x': "Unterminated string starting at line 1, column 18",
    '[{"a": 1}': "the list is cut off at line 1, column 10",
    '[{"a": 1},': "Expecting value at line 1, column 11",
    '[{"a": 1}\n{"b": 2}]': "no comma between two rows at line 2, column 1",
    '[{"a": 1}] [': "more after the end of the list at line 1, column 12",
    '[{"a": 1}, ' + "[" * 5000: "over 100 levels",
    '[{"a": 1}, {"b": ' + "9" * 5000 + "}]": "a number of over 4,300 digits at line 1, column 12",
}


@pytest.mark.parametrize("text", CUT_OFF, ids=lambda text: text[:28])
@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
def test_a_json_list_is_read_up_to_the_first_bad_place(
    text: str, chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_json, "CHUNK", chunk)
    path = file(tmp_path, "a.json", text)
    records, faults = both(path)
    assert records == [(1, {"a": 1})]
    assert [fault[0] for fault in faults] == [2]
    assert texts(path)[0].startswith(CUT_OFF[text])
    assert texts(path)[0].endswith("not read")


def test_rows_of_a_list_that_are_none(tmp_path: Path) -> None:
    path = file(tmp_path, "a.json", '[{"a": 1}, 2, "x", {"a": 3}]')
    assert both(path) == ([(1, {"a": 1}), (4, {"a": 3})], [(2, "not_an_object", True), (3, "not_an_object", True)])
    assert texts(path) == ["a number", "text"]


def test_json_values_one_after_another(tmp_path: Path) -> None:
    rows = list(zip((1, 2, 3), ROWS, strict=True))
    told = [(1, "json_lines", False)]
    assert both(file(tmp_path, "lines.json", lines(ROWS))) == (rows, told)
    assert both(file(tmp_path, "commas.json", ",\n".join(map(json.dumps, ROWS)))) == (rows, told)
    pretty = "\n".join(json.dumps(row, indent=1) for row in ROWS)
    assert both(file(tmp_path, "pretty.json", pretty)) == ([(1, ROWS[0]), (5, ROWS[1]), (9, ROWS[2])], told)
    mixed = lines([ROWS[0], [1]]) + '{"a" 1}\n' + lines([ROWS[1]])
    faults = [*told, (2, "not_an_object", True), (3, "unparsable", True)]
    assert both(file(tmp_path, "bad.json", mixed)) == ([(1, ROWS[0]), (4, ROWS[1])], faults)
    first = both(file(tmp_path, "first.json", '{"a" 1}\n' + lines(ROWS)))
    assert first == ([(n + 1, row) for n, row in rows], [*told, (1, "unparsable", True)])
    assert both(file(tmp_path, "cut.json", lines(ROWS) + '{"a": "')) == (rows, [*told, (4, "unparsable", True)])
    assert both(file(tmp_path, "one.json", '{"a": "')) == ([], [(1, "unparsable", True)])


@pytest.mark.parametrize(
    "row",
    [
        {"text": "x"},
        {"messages": [{"role": "user", "content": "x"}]},
        {"conversations": [{"from": "human", "value": "x"}], "n": 1},
        {"prompt": [{"role": "user", "content": "x"}], "completion": [{"role": "assistant", "content": "x"}]},
        {"instruction": "x", "output": "y", "tags": [{"name": "z"}]},
        {"title": "x", "tags": [], "more": []},
    ],
)
def test_a_single_row_as_json(row: dict[str, Any], tmp_path: Path) -> None:
    assert both(file(tmp_path, "a.json", json.dumps(row, indent=1))) == ([(1, row)], [])


@pytest.mark.parametrize(
    "text",
    ["3", '"text"', "null", "hello", "<html>", "{}", '{"a": 1}', '{"a": {"b": "c"}}', '{"a": ["x"], "b": ["y"]}'],
)
def test_json_that_is_no_list_of_rows(text: str, tmp_path: Path) -> None:
    assert refused(file(tmp_path, "a.json", text)).title == "The data is no list of rows"


def test_csv_rows_and_their_faults(tmp_path: Path) -> None:
    text = 'a,b\n1,2\n"x\n\n""y",3\n4\n5,6,7\n"un"closed,8\n9,"stray\n10,11\n,\n'
    path = file(tmp_path, "a.csv", text)
    records = [
        (2, {"a": "1", "b": "2"}),
        (3, {"a": 'x\n\n"y', "b": "3"}),
        (10, {"a": "10", "b": "11"}),
        (11, {"a": "", "b": ""}),
    ]
    faults = [(6, "columns", True), (7, "columns", True), (8, "unparsable", True), (9, "unparsable", True)]
    assert both(path) == (records, faults)
    assert texts(path) == ["1 of 2", "3 of 2", "',' expected after '\"'", "a quote is never closed"]


def test_csv_is_text_whatever_is_in_it(tmp_path: Path) -> None:
    long = "x" * 300_000  # over csv's own limit
    text = f'"a, or b", c d \n{long},01\nnull,NaN\n{" " * 9000},x\0y\n'
    values = [(long, "01"), ("null", "NaN"), (" " * 9000, "x\0y")]
    expected = [(n, {"a, or b": x, "c d": y}) for n, (x, y) in enumerate(values, 2)]
    assert both(file(tmp_path, "a.csv", text)) == (expected, [])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (",a\n1,2", "no name for column 1"),
        ("a,b,a\n1,2,3", "names a twice"),
        ('"a\n1\n', "never closed"),
        ("a,b\r1,2\r", "carriage return"),
        (b"caf\xe9\n1", "iconv"),
    ],
)
def test_a_header_that_cannot_be_used(text: str | bytes, problem: str, tmp_path: Path) -> None:
    error = refused(file(tmp_path, "a.csv", text))
    assert error.title == "The header cannot be used"
    assert problem in error.message


def test_stray_quotes_cost_one_row_each_and_no_great_time(tmp_path: Path) -> None:
    rows = "".join(f'{i},"stray\n{i},fine\n' for i in range(20_000))
    records, faults = both(file(tmp_path, "a.csv", "a,b\n" + rows))
    assert [line for line, _ in records] == list(range(3, 40_003, 2))
    assert [fault[0] for fault in faults] == list(range(2, 40_002, 2))


def test_rows_that_are_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.data.records.MAX_ROW", 100)
    monkeypatch.setattr(read_json, "CHUNK", 16)
    big, good = json.dumps({"a": "x" * 300}), [(1, {"a": 1}), (3, {"a": 2})]
    assert both(file(tmp_path, "a.jsonl", f'{{"a": 1}}\n{big}\n{{"a": 2}}')) == (good, [(2, "too_big", True)])
    assert both(file(tmp_path, "end.jsonl", f'{{"a": 1}}\n{big}')) == (good[:1], [(2, "too_big", True)])
    assert both(file(tmp_path, "a.json", f'[{{"a": 1}}, {big}]')) == (good[:1], [(2, "too_big", True)])
    faults = [(1, "json_lines", False), (2, "too_big", True)]
    assert both(file(tmp_path, "c.json", f'{{"a": 1}}\n{big}\n{{"a": 2}}')) == (good, faults)
    long, quote = "x" * 300, '"y\n' + "1\n" * 70
    records, faults = both(file(tmp_path, "a.csv", f'a\n1\n{long}\n"{long}\n{long}"\n2\n{quote}'))
    assert records == [(2, {"a": "1"}), (6, {"a": "2"}), *((n, {"a": "1"}) for n in range(8, 78))]
    assert faults == [(3, "too_big", True), (4, "too_big", True), (5, "too_big", True), (7, "unparsable", True)]
    assert refused(file(tmp_path, "b.csv", f"{long}\n1")).title == "The header cannot be used"
    monkeypatch.setattr(read_json, "MAX_WHOLE", 100)
    assert refused(file(tmp_path, "w.json", f'{{"data": [{big}]}}')).title == "The data is one large object"


def test_parquet(tmp_path: Path) -> None:
    rows = [{**row, "turns": [{"role": "user", "content": None}], "nothing": None, "n": 1.5} for row in ROWS] * 200
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet", row_group_size=250)
    assert both(tmp_path / "a.parquet") == (list(enumerate(rows, 1)), [])


def test_parquet_values_that_json_does_not_have(tmp_path: Path) -> None:
    day = datetime.date(2024, 5, 1)
    columns = {
        "text": [b"ok", b"\xff\xfe", None],
        "number": [float("nan"), float("inf"), 0.5],
        "decimal": [decimal.Decimal("1.50")] * 3,
        "day": [day, day, None],
        "time": pa.array([1, 2**62, None], pa.timestamp("us")),
        "map": pa.array([[("k", 1)], [], None], pa.map_(pa.string(), pa.int64())),
    }
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    records, faults = both(tmp_path / "a.parquet")
    expected = {"text": "ok", "number": None, "decimal": "1.50", "day": "2024-05-01",
                "time": "1970-01-01 00:00:00.000001", "map": [["k", 1]]}  # fmt: skip
    assert records[0] == (1, expected)
    assert [line for line, _ in records] == [1, 3]
    assert faults == [(2, "unparsable", True)]
    pq.write_table(pa.table({"a": [b"\xff\xfe", b"ok"]}), tmp_path / "b.parquet")
    assert both(tmp_path / "b.parquet") == ([(1, {"a": "<2 bytes>"}), (2, {"a": "ok"})], [(1, "not_text", False)])


def test_parquet_text_that_is_no_utf_8_costs_its_row(tmp_path: Path) -> None:
    broken = pa.array([b"ok", b"caf\xe9", b"ok"]).view(pa.string())
    pq.write_table(pa.table({"a": broken}), tmp_path / "a.parquet")
    assert both(tmp_path / "a.parquet") == ([(1, {"a": "ok"}), (3, {"a": "ok"})], [(2, "encoding", True)])


def test_parquet_that_is_none(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": ["x" * 100, "y" * 100]}), tmp_path / "good.parquet")
    good = (tmp_path / "good.parquet").read_bytes()
    for content in (b"", b"PAR1", b"no parquet at all", good[:-30], good[20:], b"PAR1" + b"\xff" * (len(good) - 4)):
        assert refused(file(tmp_path, "a.parquet", content)).title == "The data is damaged"
    pq.write_table(pa.table({"a": pa.array([], pa.string())}), tmp_path / "a.parquet")
    assert refused(tmp_path / "a.parquet").title == "The data is empty"
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["a", "a"]), tmp_path / "a.parquet")
    assert refused(tmp_path / "a.parquet").title == "The header cannot be used"


@pytest.mark.parametrize("name", ["e.json", "e.jsonl", "e.csv", "e.tsv", "e.txt", "e.jsonl.gz", "e.json.gz"])
@pytest.mark.parametrize("text", ["", "\n \r\n\t", "\ufeff", "\ufeff\n"])
def test_an_empty_file(name: str, text: str, tmp_path: Path) -> None:
    raw = gzip.compress(text.encode()) if name.endswith(".gz") else text.encode()
    assert refused(file(tmp_path, name, raw)).title == "The data is empty"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("e.json", "[]"),
        ("e.json", '{"data": []}'),
        ("e.csv", "a,b\n\n"),
        ("e.jsonl.gz", b""),
        ("e.jsonl", "\n".encode("utf-16")),
    ],
)
def test_no_rows(name: str, content: str | bytes, tmp_path: Path) -> None:
    assert refused(file(tmp_path, name, content)).title == "The data is empty"


def zip_file() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.jsonl", lines(ROWS))
    return out.getvalue()


def tar_file() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        entry = tarfile.TarInfo("a.jsonl")
        entry.size = 4
        archive.addfile(entry, io.BytesIO(b"{}\n\n"))
    return out.getvalue()


def parquet_file() -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table({"a": ["x"]}), out)
    return out.getvalue()


BINARY = {
    "zip": zip_file(),
    "empty zip": b"PK\x05\x06" + bytes(18),
    "tar": tar_file(),
    "gzip": gzip.compress(b"{}"),
    "7z": b"7z\xbc\xaf\x27\x1c\x00",
    "rar": b"Rar!\x1a\x07\x01",
    "zst": b"\x28\xb5\x2f\xfd\x24",
    "xz": b"\xfd7zXZ\x00\x00",
    "picture": b"\x89PNG\r\n\x1a\n",
    "program": b"\x7fELF\x02\x01\x01",
    "pickle": pickle.dumps(ROWS),
    "safetensors": b"\x40\x00\x00\x00\x00\x00\x00\x00" + b'{"a": 1}',
    "parquet": parquet_file(),
    "NUL": b'{"a": "\x00"}',
    "UTF-16 without a mark": lines(ROWS).encode("utf-16-le"),
}


@pytest.mark.parametrize("what", BINARY)
@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.txt", "a.jsonl.gz"])
def test_what_is_no_text_whatever_its_name_says(what: str, name: str, tmp_path: Path) -> None:
    raw = BINARY[what]
    error = refused(file(tmp_path, name, gzip.compress(raw) if name.endswith(".gz") else raw))
    archive = what in ("zip", "empty zip", "tar", "gzip", "7z", "rar", "zst", "xz")
    assert error.title == ("The data is an archive" if archive else "The data is no text")


def test_text_that_begins_like_a_binary_file(tmp_path: Path) -> None:
    for text in ("GGUF is a format", "PAR1 and ARROW1", "SQLite format 3", "PK"):
        assert both(file(tmp_path, "a.txt", text))[0] == [(1, {"text": text})]


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tgz", "a.tar.gz", "a.7z", "a.rar", "a.jsonl.zst", "a.json.xz"])
def test_an_archive_by_its_name(name: str, tmp_path: Path) -> None:
    assert refused(file(tmp_path, name, "x")).title == "The data is an archive"


@pytest.mark.parametrize("name", ["a", "a.gz", "a.doc", "a.parquet.gz", ".jsonl", "a.jsonl.gz.bak"])
def test_an_unknown_suffix(name: str, tmp_path: Path) -> None:
    assert refused(file(tmp_path, name, lines(ROWS))).title == "This kind of file cannot be read"


def test_a_gzip_file_cut_short_or_damaged(tmp_path: Path) -> None:
    whole = gzip.compress(lines(ROWS * 9).encode())
    damaged = whole[:10] + b"\xff" + whole[11:]
    wrong_sum = whole[:-8] + b"\0\0\0\0" + whole[-4:]
    for content in (whole[:-20], whole[:5], damaged, wrong_sum, b"no gzip", whole + b"more"):
        assert refused(file(tmp_path, "a.jsonl.gz", content)).title == "The data is damaged"


def test_a_large_gzip_file_cut_short_yields_what_is_there(tmp_path: Path) -> None:
    raw = lines([{"a": os.urandom(500).hex()} for _ in range(2000)]).encode()
    found = []
    with pytest.raises(DataError, match="damaged"):
        found.extend(read(file(tmp_path, "a.jsonl.gz", gzip.compress(raw, 1)[:-1000])))
    assert len(found) > 1000


def test_what_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = tmp_path / "loop.jsonl"
    loop.symlink_to(loop)
    os.mkfifo(tmp_path / "pipe.jsonl")
    for path, title in (
        (tmp_path / "none.jsonl", "The data was not found"),
        (file(tmp_path, "x.jsonl", "{}") / "below.jsonl", "The data was not found"),
        (Path("~nobody-of-this-name/a.jsonl"), "The data was not found"),
        (tmp_path / "nul\0.jsonl", "The data was not found"),
        (tmp_path / ("x" * 300 + ".jsonl"), "The data cannot be read"),
        (loop, "The data cannot be read"),
        (tmp_path / "pipe.jsonl", "The data cannot be read"),
    ):
        assert refused(path).title == title

    def no_permission(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", no_permission)
    assert "Permission denied" in refused(tmp_path / "x.jsonl").message


def test_a_name_that_would_draw_on_the_terminal(tmp_path: Path) -> None:
    for name in (b"a\x1b[2J\xff.jsonl", b"\xff.zip"):
        path = tmp_path / os.fsdecode(name)
        path.write_text("")
        assert refused(path).message.isprintable()


def test_a_directory(tmp_path: Path) -> None:
    for name in (
        "b.jsonl",
        "a.txt",
        "sub/c.csv",
        ".hidden.jsonl",
        ".git/d.jsonl",
        "README.md",
        "e.bin",
        "f.parquet.gz",
        "README.txt",
        "LICENSE",
        "LICENSE.txt",
        "dataset_info.json",
        "sub/dataset_infos.json",
        "sub/state.json",
        "sub/state.jsonl",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        file(tmp_path, name, "a\n1" if name.endswith("csv") else '{"a": "1"}')
    file(tmp_path, "sub/empty.jsonl", "")
    assert [path.relative_to(tmp_path).as_posix() for path in files(tmp_path)] == [
        "a.txt",
        "b.jsonl",
        "sub/c.csv",
        "sub/empty.jsonl",
        "sub/state.jsonl",
    ]
    found = [(item.file, item.line, item.value) for item in read(tmp_path) if isinstance(item, Record)]
    assert found == [(0, 1, {"text": '{"a": "1"}'}), (1, 1, {"a": "1"}), (2, 2, {"a": "1"}), (4, 1, {"a": "1"})]


def test_a_directory_without_data(tmp_path: Path) -> None:
    file(tmp_path, "README.md", "x")
    assert refused(tmp_path).title == "The directory holds no data"
    (tmp_path / "folder.jsonl").mkdir()
    file(tmp_path / "folder.jsonl", "a.jsonl", "\n")
    assert refused(tmp_path).title == "The data is empty"
    (tmp_path / "gone.jsonl").symlink_to(tmp_path / "nowhere")
    assert refused(tmp_path).title == "The data was not found"


def test_a_directory_that_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_permission(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", no_permission)
    assert "Permission denied" in refused(tmp_path).message


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.txt", "a.parquet"])
def test_a_row_of_20_mb(name: str, tmp_path: Path) -> None:
    path, big = tmp_path / name, "é" * 10_000_000
    match name:
        case "a.parquet":
            pq.write_table(pa.table({"text": [big, "x"]}), path)
        case "a.txt":
            path.write_text(f"{big}\nx\n", encoding="utf-8")
        case "a.csv":
            path.write_text(f"text\n{big}\nx\n", encoding="utf-8")
        case "a.json":
            path.write_text(json.dumps([{"text": big}, {"text": "x"}], ensure_ascii=False), encoding="utf-8")
        case _:
            path.write_text(lines([{"text": big}, {"text": "x"}]), encoding="utf-8")
    records, faults = both(path)
    assert [value["text"] == text for (_, value), text in zip(records, (big, "x"), strict=True)] == [True, True]
    assert faults == []


def test_a_long_json_list_is_streamed(tmp_path: Path) -> None:
    rows = [{"n": n, "text": "word " * (1_000_000 if n == 700 else 40)} for n in range(50_000)]
    path = file(tmp_path, "a.json", json.dumps(rows))
    tracemalloc.start()
    try:
        found = sum(isinstance(item, Record) and item.line == item.value["n"] + 1 for item in read(path))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found == 50_000
    assert peak < 40e6  # of the row of 5 MB: the window twice, the value, and its text


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    line = json.dumps({"messages": [{"role": "user", "content": "x" * 3000}, {"role": "assistant", "content": "y"}]})
    with path.open("w") as out:
        out.writelines(line + "\n" for _ in range(20_000))
    assert path.stat().st_size > 60e6
    tracemalloc.start()
    try:
        assert sum(1 for _ in read(path)) == 20_000
        assert tracemalloc.get_traced_memory()[1] < 5e6
    finally:
        tracemalloc.stop()
