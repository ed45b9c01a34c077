"""Data files as people have them."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from engine.data.formats import Loaded, describe_dropped, load
from engine.errors import DataError

ALPACA = [{"instruction": f"Say {i}", "input": "", "output": f"{i}!"} for i in range(1, 4)]
CHAT = [
    {"messages": [{"role": "user", "content": f"Say {i}"}, {"role": "assistant", "content": f"{i}!"}]}
    for i in range(1, 4)
]


def lines(rows: list[Any]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def file(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def answers(loaded: Loaded) -> list[str]:
    return [row.messages[-1]["content"] for row in loaded.rows]


def refused(path: Path, **options: Any) -> DataError:
    with pytest.raises(DataError) as caught:
        load(path, **options)
    return caught.value


READABLE = {
    "rows.json": json.dumps(ALPACA),
    "pretty.json": json.dumps(ALPACA, indent=2),
    "rows.jsonl": lines(ALPACA),
    "no-newline.jsonl": lines(ALPACA).rstrip(),
    "blank-lines.jsonl": "\n" + lines(ALPACA).replace("\n", "\n\n"),
    "crlf.jsonl": lines(ALPACA).replace("\n", "\r\n"),
    "bom.jsonl": b"\xef\xbb\xbf" + lines(ALPACA).encode(),
    "bom.json": b"\xef\xbb\xbf" + json.dumps(ALPACA).encode(),
    "lines-called.json": lines(ALPACA),
    "wrapped.json": json.dumps({"version": 1, "data": ALPACA}),
    "zipped.jsonl.gz": gzip.compress(lines(ALPACA).encode()),
    "zipped.json.gz": gzip.compress(json.dumps(ALPACA).encode()),
}


@pytest.mark.parametrize("name", READABLE)
def test_alpaca_in_every_wrapping(name: str, tmp_path: Path) -> None:
    loaded = load(file(tmp_path, name, READABLE[name]))
    assert (loaded.format, answers(loaded), loaded.dropped) == ("alpaca", ["1!", "2!", "3!"], {})
    assert "3 of 3" in loaded.evidence


@pytest.mark.parametrize(("name", "text"), [("m.json", json.dumps(CHAT)), ("m.jsonl", lines(CHAT))])
def test_messages(name: str, text: str, tmp_path: Path) -> None:
    loaded = load(file(tmp_path, name, text))
    assert loaded.format == "messages"
    assert [row.messages for row in loaded.rows] == [row["messages"] for row in CHAT]


def test_an_alpaca_row_becomes_a_conversation(tmp_path: Path) -> None:
    rows = [
        {"instruction": "Sum up", "input": "A text", "output": "Short", "system": "Be brief"},
        {"instruction": "", "input": "only input", "output": "x"},
        {"instruction": "no input at all", "output": " padded "},
    ]
    first, second, third = (row.messages for row in load(file(tmp_path, "a.json", json.dumps(rows))).rows)
    assert first == [
        {"role": "system", "content": "Be brief"},
        {"role": "user", "content": "Sum up\n\nA text"},
        {"role": "assistant", "content": "Short"},
    ]
    assert second[0]["content"] == "only input"
    assert third[-1]["content"] == " padded "


def test_separators_inside_strings_are_text(tmp_path: Path) -> None:
    odd = "a\u2028b\u2029c\x85d\x0ce"
    loaded = load(file(tmp_path, "a.jsonl", lines([{"instruction": odd, "output": odd}, ALPACA[0]])))
    assert answers(loaded) == [odd, "1!"]
    assert [row.line for row in loaded.rows] == [1, 2]


def test_columns_are_mapped(tmp_path: Path) -> None:
    path = file(tmp_path, "qa.jsonl", lines([{"q": "1+1?", "a": "2"}]))
    loaded = load(path, columns={"instruction": "q", "output": "a"})
    assert [m["content"] for m in loaded.rows[0].messages] == ["1+1?", "2"]
    swapped = load(
        file(tmp_path, "s.jsonl", lines([ALPACA[0]])), columns={"instruction": "output", "output": "instruction"}
    )
    assert answers(swapped) == ["Say 1"]


def test_wrong_columns_are_named_with_the_way_out(tmp_path: Path) -> None:
    path = file(tmp_path, "qa.jsonl", lines([{"q\x1b[31m": "1+1?", "a": "2"}]))
    error = refused(path)
    assert "a, q;" in error.message
    assert "instruction, output" in error.message
    assert "data.columns" in error.hint
    assert "messages (messages)" not in refused(path, wanted="alpaca").message


def test_the_format_asked_for_is_taken(tmp_path: Path) -> None:
    both = [{**ALPACA[0], **CHAT[1]}]
    path = file(tmp_path, "both.jsonl", lines(both))
    assert answers(load(path, wanted="messages")) == ["2!"]
    assert answers(load(path, wanted="alpaca")) == ["1!"]


@pytest.mark.parametrize(("name", "text"), [("e.json", ""), ("e.json", "[]"), ("e.jsonl", ""), ("e.jsonl", "\n \n")])
def test_an_empty_file(name: str, text: str, tmp_path: Path) -> None:
    assert refused(file(tmp_path, name, text)).title == "The data is empty"


def test_malformed_lines_are_named_by_number(tmp_path: Path) -> None:
    good = json.dumps(ALPACA[0])
    error = refused(file(tmp_path, "a.jsonl", f'{good}\n{{"instruction": \n{good}\n\nnonsense\n'))
    assert "2 of 4 lines cannot be parsed: 2, 5 (" in error.message


@pytest.mark.parametrize("text", ["[1, 2]", '[{"a": 1}, null]', '"text"', "3", '[{"a": 1}'])
def test_json_that_is_no_list_of_rows(text: str, tmp_path: Path) -> None:
    refused(file(tmp_path, "a.json", text))


DROPPED = [
    ({"instruction": "x", "output": ""}, "output is empty: nothing to train on"),
    ({"instruction": "x", "output": " \n"}, "output is empty: nothing to train on"),
    ({"instruction": " ", "output": "x"}, "instruction is empty"),
    ({"instruction": "x", "output": None}, "output is missing"),
    ({"instruction": "x"}, "output is missing"),
    ({"instruction": 3, "output": "x"}, "instruction is no text"),
    ({"instruction": "x", "input": ["y"], "output": "x"}, "input is no text"),
]
DROPPED_CHAT = [
    ({"messages": []}, "messages is missing, empty or no list"),
    ({"messages": "hello"}, "messages is missing, empty or no list"),
    ({"messages": ["hello"]}, "a message has no text content"),
    ({"messages": [{"role": "user", "content": None}]}, "a message has no text content"),
    ({"messages": [{"role": "tool\x1b[2J", "content": "x"}]}, "role 'tool\\x1b[2J' is none of system, user, assistant"),
    ({"messages": [{"role": "user", "content": "x"}]}, "no assistant message: nothing to train on"),
    ({"messages": [{"role": "assistant", "content": " "}]}, "no assistant message: nothing to train on"),
]


@pytest.mark.parametrize(
    ("good", "bad", "reason"), [(ALPACA[0], *case) for case in DROPPED] + [(CHAT[0], *case) for case in DROPPED_CHAT]
)
def test_a_row_that_cannot_be_used_is_dropped_with_its_reason_and_line(
    good: Any, bad: Any, reason: str, tmp_path: Path
) -> None:
    loaded = load(file(tmp_path, "a.jsonl", lines([good, bad, good, good, bad])))
    assert [row.line for row in loaded.rows] == [1, 3, 4]
    assert loaded.dropped == {reason: [2, 5]}


def test_no_row_left(tmp_path: Path) -> None:
    error = refused(file(tmp_path, "a.json", json.dumps([DROPPED[0][0]] * 7)))
    assert error.title == "No row can be trained on"
    assert "7 rows: output is empty: nothing to train on (lines 1, 2, 3, 4, 5 …)" in error.message


def test_describe_dropped() -> None:
    assert describe_dropped({"a": [3], "b": [1, 2]}) == "1 row: a (lines 3); 2 rows: b (lines 1, 2)"
    assert describe_dropped({}) == ""


def test_max_rows_counts_usable_rows(tmp_path: Path) -> None:
    path = file(tmp_path, "a.jsonl", lines([DROPPED[0][0], *ALPACA]))
    assert answers(load(path, max_rows=2)) == ["1!", "2!"]
    assert len(load(path, max_rows=99).rows) == 3


def test_another_encoding(tmp_path: Path) -> None:
    for name in ("latin.jsonl", "latin.json"):
        error = refused(file(tmp_path, name, lines([{"instruction": "café", "output": "x"}]).encode("latin-1")))
        assert error.title == "The data is not UTF-8"
        assert "iconv" in error.hint


def test_what_is_no_file_of_data(tmp_path: Path) -> None:
    folder = tmp_path / "folder.jsonl"
    folder.mkdir()
    for path in (
        tmp_path,
        folder,
        tmp_path / "none.jsonl",
        file(tmp_path, "a.csv", "a,b"),
        file(tmp_path, "x.json.gz", "no gzip"),
    ):
        refused(path)


def test_a_gzip_file_cut_short_or_damaged(tmp_path: Path) -> None:
    whole = gzip.compress(lines(ALPACA).encode())
    damaged = whole[:10] + b"\xff" + whole[11:]
    for content in (whole[:-20], whole[:5], damaged, b""):
        refused(file(tmp_path, "a.jsonl.gz", content))


def test_a_single_conversation_as_json(tmp_path: Path) -> None:
    assert answers(load(file(tmp_path, "a.json", json.dumps(CHAT[0])))) == ["1!"]


def test_a_name_in_capitals(tmp_path: Path) -> None:
    assert len(load(file(tmp_path, "ROWS.JSONL", lines(ALPACA))).rows) == 3


def test_json_nested_too_deep(tmp_path: Path) -> None:
    refused(file(tmp_path, "a.jsonl", "[" * 100_000))
