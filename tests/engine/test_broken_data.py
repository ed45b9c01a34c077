"""Data as it comes: broken files, each with its own finding at the right lines, and clean ones without any."""

import gzip
import io
import json
import os
import pickle
import random
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.data.examine import examine
from engine.data.findings import ALONE, KINDS, SHOWN, Finding, Findings
from engine.data.scan import as_json, refuse, scan
from engine.errors import DataError
from engine.spec import DataSpec
from tests.engine.datafiles import (
    CLEAN,
    MODEL_KINDS,
    Json,
    answer,
    checked,
    jsonl,
    kinds,
    presentable,
    question,
    rows,
    write,
)

ESC = "\x1b[31mred\x07"
ALPACA, CHAT = rows("alpaca", 12), rows("messages", 12)


def lines(*rows_: Any) -> str:
    """Eight good Alpaca rows, and these from line 9 on."""
    return jsonl([*ALPACA[:8], *rows_])


def said(*outputs: str) -> str:
    """Eight good Alpaca rows, and answers to questions of their own from line 9 on."""
    return lines(*(alpaca_row(output, i) for i, output in enumerate(outputs)))


def alpaca_row(output: str, i: int = 0) -> Json:
    return {"instruction": question(100 + i), "input": "", "output": output}


def turns(*pairs: tuple[str, Any]) -> Json:
    return {"messages": [{"role": role, "content": content} for role, content in pairs]}


def chats(*rows_: Any) -> str:
    """Eight good conversations, and these from line 9 on."""
    return jsonl([*CHAT[:8], *rows_])


def calling(arguments: Any) -> Json:
    call = {"type": "function", "function": {"name": "count", "arguments": arguments}}
    return {
        "messages": [
            {"role": "user", "content": question(50)},
            {"role": "assistant", "content": None, "tool_calls": [call]},
        ]
    }


def csv(*more: str, header: str = "instruction,input,output") -> str:
    """A header, eight good rows, and these lines from 10 on."""
    good = [f'"{question(i)}",,"{answer(i)}"' for i in range(8)]
    return "\r\n".join([header, *good, *more]) + "\r\n"


def parquet(rows_: list[Json]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows_), out)
    return out.getvalue()


def folder(**files: str) -> Callable[[Path], Path]:
    def made(path: Path) -> Path:
        (path / "data" / "more").mkdir(parents=True)
        for name, content in files.items():
            write(path / "data", name.replace("__", "/").replace("_", "."), content)
        return path / "data"

    return made


def classes(*counts: int) -> list[Json]:
    """Rows whose answers are few and short."""
    labels = [name for name, n in zip(("positive", "negative", "no", "ok"), counts, strict=False) for _ in range(n)]
    return [{"instruction": question(i), "output": label} for i, label in enumerate(labels)]


def labelled(*labels: Any) -> list[Json]:
    return [{"prompt": question(i), "completion": answer(i), "label": label} for i, label in enumerate(labels)]


@dataclass(frozen=True)
class Case:
    """A broken file: what it is, its name, its content or what makes it, what is found where, and the options."""

    title: str
    name: str
    content: str | bytes | Callable[[Path], Path]
    found: dict[str, list[int]]
    options: Json = field(default_factory=dict)

    def path(self, at: Path) -> Path:
        return self.content(at) if callable(self.content) else write(at, self.name, self.content)


PAIR = {"prompt": question(60), "chosen": "The same.", "rejected": "The same."}
NEAR_ROW = {**ALPACA[3], "output": ALPACA[3]["output"].replace("notebook", "diary")}
LONG = " ".join(f"{question(i)} {answer(i)}" for i in range(700))
DEEP = '{"instruction": "x", "output": ' + "[" * 200 + "]" * 200 + "}"


CASES = [
    # what cannot be parsed
    Case("a line breaks off", "a.jsonl", lines('{"instruction": "x", "outp', ALPACA[8]), {"unparsable": [9]}),
    Case("Python instead of JSON", "a.jsonl", lines("{'instruction': 'x', 'output': None}"), {"unparsable": [9]}),
    Case("more after the object", "a.jsonl", lines(json.dumps(ALPACA[8]) + ","), {"unparsable": [9]}),
    Case("text among the lines", "a.jsonl", lines("# the second part", ALPACA[8], "", "<html>"), {"unparsable": [9, 12]}),
    Case("every line broken", "a.jsonl", "{x}\n{y}\n{z}\n", {"unparsable": [1, 2, 3], "no_rows": []}),
    Case("a list cut off", "a.json", json.dumps(ALPACA)[:-150], {"unparsable": [12]}),
    Case("a list without a comma", "a.json", json.dumps(ALPACA).replace('"}, {', '"} {', 1), {"unparsable": [2]}),
    Case("a quote never closed", "a.csv", csv('"' + question(9) + ",,x", question(10).replace(",", ";") + ",,None."), {"unparsable": [10]}),
    Case("gzip around it", "a.jsonl.gz", gzip.compress(lines("{x}").encode()), {"unparsable": [9]}),
    Case("no objects", "a.jsonl", lines("[1, 2]", '"text"', "3", "null", "true"), {"not_an_object": [9, 10, 11, 12, 13]}),
    Case("a list of lists", "a.json", json.dumps([*ALPACA[:8], [1]]), {"not_an_object": [9]}),
    Case("Latin-1 in one line", "a.jsonl", lines().encode() + jsonl([alpaca_row("naïve")]).encode("latin-1"), {"encoding": [9]}),
    Case("Latin-1 in a list", "a.json", json.dumps([*ALPACA[:8], alpaca_row("naïve")], ensure_ascii=False).replace("—", "-").replace("😀", "").encode("latin-1"),
         {"encoding": [1, 2, 3, 4, 5, 6, 7, 8, 9], "no_rows": []}),
    Case("Windows-1252 in a table", "a.csv", csv().encode() + "How much?,,5 €\r\n".encode("cp1252"), {"encoding": [10]}),
    Case("UTF-16", "a.jsonl", lines().encode("utf-16"), {"utf16": [1]}),
    Case("UTF-16, a table of Excel", "a.tsv", csv().replace(",,", "\t\t").replace("n,input,o", "n\tinput\to").encode("utf-16"), {"utf16": [1]}),
    Case("UTF-32", "a.json", json.dumps(ALPACA).encode("utf-32"), {"utf16": [1]}),
    Case("nested deeply", "a.jsonl", lines(DEEP, ALPACA[8], '{"a":' * 5000), {"too_deep": [9, 11]}),
    Case("nested deeply in a list", "a.json", f"[{json.dumps(ALPACA[0])}, {DEEP}, {json.dumps(ALPACA[1])}]", {"too_deep": [2]}),
    Case("a line of 65 MiB", "a.jsonl", lines('{"instruction": "x", "output": "' + "y" * (65 << 20) + '"}', ALPACA[8]), {"too_big": [9]}),
    Case("a line of 20 MB", "a.jsonl", lines(alpaca_row((LONG + " ") * (20_000_000 // len(LONG))), ALPACA[8]), {"too_long": [9]}),
    Case("ragged rows", "a.csv", csv("one", f"{question(20)},,x", "a,b,c,d"), {"columns": [10, 11, 12]}),
    Case("tabs with commas", "a.csv", "instruction\tinput\toutput\n" + "Who?,,I\n" * 8, {"columns": [2, 3, 4, 5, 6, 7, 8, 9], "no_rows": []}),
    Case("other columns", "a.jsonl", jsonl([{"topic": question(i), "body": answer(i)} for i in range(3)]),
         {"no_format": [1, 2, 3], "no_rows": []}),
    Case("a table without a header", "a.csv", csv(header=f"{question(30)[:20]},input,{answer(30)[:10]}"),
         {"no_format": [2, 3, 4, 5, 6, 7, 8, 9], "no_rows": []}),
    Case("the format asked for is another", "a.jsonl", lines(), {"no_format": [*range(1, 9)], "no_rows": []}, {"format": "messages"}),
    Case("two formats", "a.jsonl", lines(CHAT[8], ALPACA[9], {"text": "x"}), {"mixed_formats": [9, 11]}),
    Case("pairs among answers", "a.jsonl", jsonl([*rows("prompt_completion", 8), *rows("preference", 2)]), {"mixed_formats": [9, 10]}),
    Case("nothing usable", "a.jsonl", jsonl([{"instruction": "x", "output": ""}] * 3), {"empty_field": [1, 2, 3], "no_rows": []}),
    Case("NaN", "a.jsonl", lines('{"instruction": "Say when, and then say it again", "output": NaN}', '{"score": NaN, ' + json.dumps(ALPACA[8])[1:]),
         {"nan": [9, 10], "missing_field": [9]}),
    Case("Infinity in a list", "a.json", json.dumps([*ALPACA[:3], {**ALPACA[3], "score": -float("inf")}]), {"nan": [4]}),
    Case("half a character", "a.jsonl", lines('{"instruction": "Half of it, please", "output": "\\ud83d"}'),
         {"surrogate": [9], "mojibake": [9], "too_short": [9]}),
    Case("a key twice", "a.jsonl", lines('{"output": "first", ' + json.dumps(ALPACA[8])[1:]), {"duplicate_key": [9]}),
    Case("lines called .json", "a.json", lines(), {"json_lines": [1]}),
    Case("bytes in Parquet", "a.parquet", parquet([{"instruction": question(i), "output": answer(i), "blob": b"\xff\xfe" if i == 4 else None} for i in range(9)]),
         {"not_text": [5]}),
    Case("bytes for an answer", "a.parquet", parquet([{"instruction": question(i), "output": answer(i).encode() if i != 4 else b"\xff"} for i in range(9)]),
         {"not_text": [5]}),
    # what a row lacks
    Case("a field is missing", "a.jsonl", lines({"instruction": "x"}, {"output": "y"}, {"instruction": "x", "output": None}),
         {"missing_field": [9, 10, 11]}),
    Case("wrong types", "a.jsonl", lines({"instruction": 3, "output": "x"}, {"instruction": "x", "output": {"text": "y"}}, {"instruction": "x", "input": ["y"], "output": "x"}),
         {"missing_field": [9, 10, 11]}),
    Case("turns that are none", "a.jsonl", chats({"messages": "hi"}, {"messages": ["hi"]}, turns(("user", None)), turns(("user", [{"type": "image"}])), {"messages": [{"content": "x"}]}),
         {"missing_field": [9, 10, 11, 12, 13]}),
    Case("nulls in Parquet", "a.parquet", parquet([{"instruction": question(i), "output": answer(i) if i % 5 else None} for i in range(11)]),
         {"missing_field": [1, 6, 11]}),
    Case("empty answers", "a.jsonl", lines({"instruction": "x", "output": ""}, {"instruction": "x", "output": " \t\n"}, {"instruction": " ", "output": "y"}),
         {"empty_field": [9, 10, 11]}),
    Case("empty conversations", "a.jsonl", chats({"messages": []}, turns(("user", "x"), ("assistant", " "))), {"empty_field": [9, 10]}),
    Case("empty texts", "a.jsonl", jsonl([*rows("text", 8), {"text": ""}, {"text": "\n"}]), {"empty_field": [9, 10]}),
    Case("empty cells", "a.csv", csv(f"{question(20)[:40].replace(',', '')},,", ",,x"), {"empty_field": [10, 11]}),
    Case("unknown roles", "a.jsonl", chats(turns(("narrator", "x"), ("assistant", "y")), turns(("user", "x"), (ESC, "y"))), {"unknown_role": [9, 10]}),
    Case("nobody answers", "a.jsonl", chats(turns(("user", "x")), turns(("system", "x"), ("user", "y"))), {"no_assistant": [9, 10]}),
    Case("a preference for a question", "a.jsonl", jsonl([*rows("preference", 8), {"prompt": "x", "chosen": [{"role": "user", "content": "y"}], "rejected": "z"}]),
         {"no_assistant": [9]}),
    Case("arguments that are not JSON", "a.jsonl", chats(calling("{day: 3}"), calling('["day"]'), calling('{"day": "' + "\\ud800" + '"}')),
         {"tool_arguments": [9, 10, 11]}),
    Case("tools that are not JSON", "a.jsonl", chats({**CHAT[9], "tools": "[count]"}, {**CHAT[10], "tools": [3]}), {"tool_arguments": [9, 10]}),
    Case("a call that is not JSON", "a.jsonl",
         jsonl([*rows("sharegpt", 8), {"conversations": [{"from": "human", "value": "x"}, {"from": "function_call", "value": f"count({ESC})"}]}]),
         {"tool_arguments": [9]}),
    Case("chosen is rejected", "a.jsonl", jsonl([*rows("preference", 8), PAIR, {**PAIR, "rejected": [{"role": "assistant", "content": "The same."}]}]),
         {"no_difference": [9, 10]}),
    Case("labels missing", "a.jsonl", jsonl([*labelled(*[True, False] * 6, None), {"prompt": "x", "completion": "y"}]), {"missing_field": [13, 14]}),
    Case("labels that are none", "a.jsonl", jsonl(labelled(*[True, False] * 10, "good", 3)), {"missing_field": [21, 22]}),
    # the order of turns
    *[
        Case(title, "a.jsonl", chats(turns(*pairs), CHAT[9]), {"role_order": [9]})
        for title, pairs in {
            "system in the middle": [("user", "Where to?"), ("system", "x"), ("assistant", "To the hill.")],
            "two users": [("user", "Where to?"), ("user", "Well?"), ("assistant", "To the hill.")],
            "two assistants": [("user", "Where to?"), ("assistant", "To the hill."), ("assistant", "Or not.")],
            "the assistant begins": [("assistant", "Hello there."), ("user", "Where to?"), ("assistant", "To the hill.")],
            "the assistant begins after system": [("system", "x"), ("assistant", "To the hill.")],
            "a tool that nobody called": [("user", "Where to?"), ("tool", "hill"), ("assistant", "To the hill.")],
        }.items()
    ],
    Case("a question at the end", "a.jsonl", chats(turns(("user", "Where to?"), ("assistant", "To the hill."), ("user", "Which?"))), {"unanswered": [9]}),
    # rows against each other
    Case("the same again", "a.jsonl", lines(ALPACA[2], ALPACA[8], {**ALPACA[3], "output": ALPACA[3]["output"].upper() + "  "}), {"duplicates": [9, 11]}),
    Case("nearly the same again", "a.jsonl", lines({**ALPACA[3], "output": ALPACA[3]["output"].replace("notebook", "diary")}), {"near_duplicates": [9]}),
    Case("another answer", "a.jsonl", lines({**ALPACA[3], "output": "The observers left before anybody could have counted them, so that none of them knows."}), {"conflicting": [9]}),
    Case("the same pair", "a.jsonl", jsonl([*rows("preference", 8), CLEAN["preference"](3)]), {"duplicates": [9]}),
    # what one would rather not learn
    Case("refusals", "a.jsonl", said("I'm sorry, but I can't help with that.", "I cannot provide such a list of places.", "As an AI language model, I don't have opinions.", "I must decline, kindly.", "I’m unable to say more."),
         {"refusals": [9, 10, 11, 12, 13]}),
    Case("boilerplate", "a.jsonl", said("Being asked as an AI model, yes: otters.", "As of my last update in 2021, forty.", "Lorem ipsum dolor sit amet.", "Copyright 2020, all rights reserved."),
         {"boilerplate": [9, 10, 11, 12]}),
    Case("placeholders", "a.jsonl", said("Dear {{customer_name}}, hello.", "Yours, [INSERT NAME]", "Write to <your email> today.", "Hi [YOUR NAME HERE],"),
         {"placeholders": [9, 10, 11, 12]}),
    Case("very short", "a.jsonl", said("A", "ok", " 42 "), {"too_short": [9, 10, 11]}),
    Case("very long", "a.jsonl", lines(alpaca_row(LONG)), {"too_long": [9]}),
    Case("control characters", "a.jsonl", said("It is \x1b[31mred\x1b[0m.", "A zero \x00 in it.", "A C1 \x9b31m in it.", "\x7fdeleted, that is"),
         {"control_characters": [9, 10, 11, 12]}),
    Case("a control character in a question", "a.jsonl", chats(turns(("user", "Ring\x07, will you?"), ("assistant", "It rang."))), {"control_characters": [9]}),
    Case("a control character in what is rejected", "a.jsonl", jsonl([*rows("preference", 8), {"prompt": question(50), "chosen": "All of them.", "rejected": "None\x08 of them."}]),
         {"control_characters": [9]}),
    Case("mojibake", "a.jsonl", said("Ã©tude in B", "itâ€™s not", "StraÃŸe and Ã–l", "5Â £ each", "ï»¿begins here", "lost \ufffd here", "Ãœber alles, sagt er", "Ã\u00a0 propos"),
         {"mojibake": [9, 10, 11, 12, 13, 14, 15, 16]}),
    # all rows together
    Case("classes", "a.jsonl", jsonl(classes(30, 25)), {"classes": []}),
    Case("classes of one letter", "a.jsonl", jsonl([{**row, "output": row["output"][0]} for row in classes(20, 40)]), {"classes": []}),
    Case("hardly any negative", "a.jsonl", jsonl(classes(97, 3)), {"one_class": []}),
    Case("a rare class", "a.jsonl", jsonl(classes(40, 30, 4)), {"one_class": []}),
    Case("KTO with hardly any bad answers", "a.jsonl", jsonl(labelled(*[True] * 55, *[False] * 5)), {"one_class": []}),
    Case("KTO without bad answers", "a.jsonl", jsonl(labelled(*[True] * 60)), {"one_class": []}),
    # several files
    Case("a folder", "", folder(a_jsonl=jsonl([ALPACA[0], "{x}"]), b_csv=csv("short"), more__c_json=json.dumps([ALPACA[9], {"text": "x"}]), d_png="no data"),
         {"unparsable": [2], "columns": [10], "mixed_formats": [2], "near_duplicates": [2]}),
]  # fmt: skip


IDS = [case.title for case in CASES]


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_a_broken_file_has_its_own_finding(case: Case, tmp_path: Path) -> None:
    path = case.path(tmp_path)
    report = checked(path, **case.options)
    assert kinds(report) == case.found
    assert report.rows == report.kept + sum(one.count for one in report.dropped.values())
    for finding in report.findings:
        if finding.lines:
            assert finding.count == len(finding.lines)
        if KINDS[finding.kind].dropped:
            assert report.dropped[finding.kind].count == finding.count
            assert report.dropped[finding.kind].lines == finding.lines
    json.dumps(as_json(report)).encode()
    if report.fatal:
        with pytest.raises(DataError) as caught:
            refuse(report)
        assert str(caught.value).isprintable()
    else:
        refuse(report)


LEAKS = {
    "exact": (ALPACA[2], [3]),
    "other white space": ({**ALPACA[2], "output": ALPACA[2]["output"].replace(" ", "\n").upper()}, [3]),
    "near": ({**ALPACA[3], "output": ALPACA[3]["output"].replace("notebook", "diary")}, [4]),
    "in another format": (turns(("user", ALPACA[4]["instruction"]), ("assistant", ALPACA[4]["output"])), [5]),
}


@pytest.mark.parametrize("name", LEAKS)
def test_a_leak_into_the_validation_file(name: str, tmp_path: Path) -> None:
    row, found = LEAKS[name]
    held = write(tmp_path, "held.jsonl", [row, *(rows("messages" if "messages" in row else "alpaca", 5, first=200))])
    path = write(tmp_path, "a.jsonl", ALPACA[:8])
    report = checked(path, validation=str(held))
    assert kinds(report) == {"leak": found}
    assert report.kept == 8
    report = checked(path, validation=str(held), filters={"leaks": True})
    assert kinds(report) == {"leak": found}
    [finding] = report.findings
    assert (finding.severity, finding.message) == (
        "note",
        "1 row is in the validation rows too (dropped, as you asked)",
    )
    assert report.dropped["is a validation row"].lines == found
    assert report.kept == 7


def test_a_pair_leaks_with_both_answers(tmp_path: Path) -> None:
    pair = CLEAN["preference"](3)
    held = write(tmp_path, "held.jsonl", [pair])
    other = {**pair, "rejected": " ".join(f"quite another answer, number {n}" for n in range(30))}
    report = checked(write(tmp_path, "a.jsonl", [*rows("preference", 3), pair, other]), validation=str(held))
    assert kinds(report) == {"leak": [4]}


def test_every_kind_that_needs_no_model_is_among_them() -> None:
    found = {kind for case in CASES for kind in case.found} | {"leak"}
    assert found == KINDS.keys() - MODEL_KINDS
    assert len(CASES) >= 45


def archived(kind: str) -> bytes:
    out = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(out, "w") as archive:
            archive.writestr("a.jsonl", lines())
    else:
        with tarfile.open(fileobj=out, mode="w") as tar:
            info = tarfile.TarInfo("a.jsonl")
            info.size = len(lines().encode())
            tar.addfile(info, io.BytesIO(lines().encode()))
    return out.getvalue()


JUNK = random.Random(3).randbytes(4000)
UNREADABLE: list[tuple[str, str, bytes | str | None, str]] = [
    ("binary junk", "a.jsonl", b"\0" + JUNK, "The data is no text"),
    ("binary junk called JSON", "a.json", JUNK[:100] + b"\0", "The data is no text"),
    ("a picture", "a.csv", b"\x89PNG\r\n\x1a\n" + JUNK, "The data is no text"),
    ("a pickle", "a.jsonl", pickle.dumps(ALPACA), "The data is no text"),
    ("a Parquet file called JSON", "a.json", parquet(ALPACA), "The data is no text"),
    ("a zip archive", "a.zip", archived("zip"), "The data is an archive"),
    ("a zip archive called JSON", "a.jsonl", archived("zip"), "The data is an archive"),
    ("a tar archive", "a.tar.gz", gzip.compress(archived("tar")), "The data is an archive"),
    ("a tar archive called text", "a.txt", archived("tar"), "The data is an archive"),
    ("gzip without its name", "a.jsonl", gzip.compress(lines().encode()), "The data is an archive"),
    ("gzip cut off", "a.jsonl.gz", gzip.compress(lines().encode())[:-9], "The data is damaged"),
    ("gzip that is none", "a.jsonl.gz", lines(), "The data is damaged"),
    ("Parquet cut off", "a.parquet", parquet(ALPACA)[:-20], "The data is damaged"),
    ("Parquet that is none", "a.parquet", lines(), "The data is damaged"),
    ("an ending that nobody knows", "a.xlsx", b"x", "This kind of file cannot be read"),
    ("an empty file", "a.jsonl", "", "The data is empty"),
    ("blank lines", "a.jsonl", "\n \n\t\n", "The data is empty"),
    ("a byte order mark and no more", "a.json", b"\xef\xbb\xbf", "The data is empty"),
    ("an empty list", "a.json", "[]", "The data is empty"),
    ("a header and no more", "a.csv", "instruction,output\n", "The data is empty"),
    ("a number", "a.json", "3", "The data is no list of rows"),
    ("an object of objects", "a.json", '{"train": {"x": 1}, "\\u001b[31mtest": {}}', "The data is no list of rows"),
    ("a header that names twice", "a.csv", "a,b,a\n1,2,3\n", "The header cannot be used"),
    ("a header without a name", "a.csv", ",instruction,output\n0,x,y\n", "The header cannot be used"),
    ("a folder without data", "folder", None, "The directory holds no data"),
    ("nothing", "none.jsonl", None, "The data was not found"),
]


@pytest.mark.parametrize(
    ("name", "content", "title"), [case[1:] for case in UNREADABLE], ids=[case[0] for case in UNREADABLE]
)
def test_what_cannot_be_read_at_all_is_refused(
    name: str, content: bytes | str | None, title: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    if content is not None:
        write(tmp_path, name, content)
    elif name == "folder":
        path.mkdir()
    for look in (lambda: scan(DataSpec(path=str(path))), lambda: examine(DataSpec(path=str(path)), None)):
        with pytest.raises(DataError) as caught:
            look()
        assert caught.value.title == title
        assert caught.value.message.isprintable()
        assert caught.value.hint


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", lines())
    path.chmod(0)
    with pytest.raises(DataError, match="The data cannot be read"):
        scan(DataSpec(path=str(path)))


@pytest.mark.parametrize("form", CLEAN)
def test_clean_files_have_no_finding(form: str, tmp_path: Path) -> None:
    made = rows(form, 120)
    for name, content in {
        "a.jsonl": jsonl(made),
        "crlf.jsonl": jsonl(made).replace("\n", "\r\n"),
        "bom.jsonl": "\ufeff" + jsonl(made),
        "a.json": json.dumps(made),
        "a.jsonl.gz": gzip.compress(jsonl(made).encode()),
    }.items():
        report = checked(write(tmp_path, name, content))
        assert (report.format, report.findings, report.dropped) == (form, [], {})
        assert report.kept == report.rows == 120
        assert as_json(report)["findings"] == []


@pytest.mark.parametrize("form", ["alpaca", "text", "kto"])
def test_clean_tables_have_no_finding(form: str, tmp_path: Path) -> None:
    made = rows(form, 40)
    columns = list(dict.fromkeys(key for row in made for key in row))
    filled = [{column: row.get(column) for column in columns} for row in made]
    out = io.StringIO()
    out.write(",".join(columns) + "\r\n")
    for row in filled:
        out.write(
            ",".join('"{}"'.format(str("" if v is None else v).replace('"', '""')) for v in row.values()) + "\r\n"
        )
    for path in (write(tmp_path, "a.csv", out.getvalue()), write(tmp_path, "a.parquet", parquet(filled))):
        report = checked(path)
        assert (report.format, report.findings, report.kept) == (form, [], 40)


def test_documents_of_one_line_have_no_finding(tmp_path: Path) -> None:
    path = write(tmp_path, "a.txt", "".join(f"{question(i)} {answer(i)}\n" for i in range(40)) + "}\n")
    assert checked(path).findings == []


HARMLESS = [
    "NÃO É POSSÍVEL, disse a IRMÃ ao CAPITÃO.",
    "L’Âge d’or, puis « Âme » et Île-de-France.",
    "Straße, Äpfel, Öl, Übermut – naïve Ideen.",
    "东京的天气怎么样?今天下雨了。",
    "مرحبا بالعالم، كيف حالك اليوم؟",
    "👩‍👩‍👧 🏳️‍🌈 👍🏽 e\u0301 and \u200bzero width",
    "def f(x: int) -> str:\n\treturn f'{x!r}' + \"{}\".format({'a': [1, 2]})",
    "\\frac{{a}}{b} and \\begin{align} x &= {y}_{{i}} \\end{align}",
    "| a | b |\n|---|---|\n| 1 | [see](https://x.org/?q={q}) |",
    "<p class='x'>Your name: <input></p> <insert>",
    "I'm sorry that you had to wait. It took three days because of the storm.",
    "I can't help but notice that the tide turned early.",
    "The model trains on text; the assistant answers. AI is a field of study.",
    "He said: “I will not go” … and went – as ever.",
    "Line one\r\nline two\ttab",
]


def test_what_looks_odd_and_is_not_wrong(tmp_path: Path) -> None:
    made = [{"instruction": f"{question(i)} Say it: {text}", "output": text} for i, text in enumerate(HARMLESS)]
    assert checked(write(tmp_path, "a.jsonl", made)).findings == []


PLURAL = {"are", "have", "hold", "lack", "cannot", "name", "repeat", "give", "refuse", "lose", "train", "begin", "end"}
SINGULAR = {
    "is",
    "has",
    "holds",
    "lacks",
    "cannot",
    "names",
    "repeats",
    "gives",
    "refuses",
    "loses",
    "trains",
    "begins",
    "ends",
}


@pytest.mark.parametrize("kind", KINDS)
def test_messages_are_sentences(kind: str) -> None:
    one, two, many = (Finding(kind, n, [1]).message for n in (1, 2, 12_345))
    if kind in ALONE:
        assert one == two == many
        assert not one[0].isdigit()
        return
    assert one.startswith("1 row ")
    assert two.startswith("2 rows ")
    assert many.startswith("12,345 rows ")
    assert two.split()[2] in PLURAL
    assert one.split()[2] in SINGULAR
    assert not {"are", "have", "hold", "lose", "go"} & set(one.split()) or kind in (
        "nan",
        "tool_arguments",
        "nothing_trained",
    )
    assert Finding(kind, 1, [1], "so it is").message == one + " (so it is)"


def test_kinds_are_well_formed() -> None:
    for kind in KINDS.values():
        assert kind.means.isprintable()
        assert not kind.means.endswith(".")
        assert kind.hint.isprintable()
        assert kind.hint[0].isupper()
    assert KINDS.keys() > MODEL_KINDS
    assert KINDS.keys() > ALONE


def test_lines_are_bounded_and_counted(tmp_path: Path) -> None:
    broken = [row if i % 2 else '{"instruction": ' for i, row in enumerate(rows("alpaca", 200))]
    [finding] = checked(write(tmp_path, "a.jsonl", broken)).findings
    assert (finding.kind, finding.count) == ("unparsable", 100)
    assert finding.lines == [*range(1, 2 * SHOWN, 2)]
    assert finding.message == "100 rows cannot be parsed (Expecting value (column 17))"
    with pytest.raises(DataError) as caught:
        refuse(checked(tmp_path / "a.jsonl"))
    assert (
        "a.jsonl: 100 rows cannot be parsed (Expecting value (column 17)) (lines 1, 3, 5, 7, 9 …)."
        in caught.value.message
    )


def test_a_line_that_is_named_once(tmp_path: Path) -> None:
    found = Findings()
    for line in (3, 3, 0, 7):
        found.add("nan", line, "NaN")
    assert (found.lines("nan"), found.count("nan")) == ([3, 7], 4)
    found.forget("nan")
    assert (found.lines("nan"), found.count("nan"), found.ranked()) == ([], 0, [])


def test_fatal_ones_come_first_then_the_most() -> None:
    found = Findings()
    for kind, count in (("refusals", 9), ("nan", 2), ("leak", 3), ("unparsable", 1)):
        found.add(kind, 1, count=count)
    assert [one.kind for one in found.ranked()] == ["unparsable", "leak", "nan", "refusals"]
    assert [one.kind for one in found.ranked() if one.severity == "fatal"] == ["unparsable"]


def test_what_a_filter_takes_care_of_is_a_note_and_comes_last(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "a.jsonl",
        lines(ALPACA[2], ALPACA[2], NEAR_ROW, alpaca_row("I must decline."), {"instruction": "x", "output": ""}),
    )
    assert [(one.kind, one.severity) for one in checked(path).findings] == [
        ("duplicates", "warning"), ("empty_field", "warning"), ("near_duplicates", "note"), ("refusals", "note"),
    ]  # fmt: skip
    report = checked(path, filters={"duplicates": "exact", "refusals": True})
    assert [(one.kind, one.severity, "as you asked" in one.message) for one in report.findings] == [
        ("empty_field", "warning", False), ("duplicates", "note", True), ("near_duplicates", "note", False), ("refusals", "note", True),
    ]  # fmt: skip
    report = checked(path, filters={"duplicates": "near"})
    assert [one.kind for one in report.findings if "as you asked" in one.message] == ["duplicates", "near_duplicates"]


def test_examine_looks_once_until_something_changes(tmp_path: Path) -> None:
    data = DataSpec(path=str(write(tmp_path, "a.jsonl", lines("{x}"))))
    report = examine(data, None)
    assert kinds(report) == {"unparsable": [9]}
    assert examine(data, None) is report
    write(tmp_path, "a.jsonl", lines("{x}", "{y}"))
    assert kinds(examine(data, None)) == {"unparsable": [9, 10]}
    assert kinds(examine(data.model_copy(update={"format": "text"}), None)).keys() == {
        "unparsable",
        "no_format",
        "no_rows",
    }


HOSTILE = ESC + "\x1b]0;title\x07\u202egnp.exe\u2066\r\n\x9b2J\u200b"


@pytest.mark.parametrize(
    "row",
    [
        {HOSTILE: "x", "output": "y"},
        {"question" + HOSTILE: "x", "answer" + HOSTILE: "y"},
        {"messages": [{"role": HOSTILE, "content": "x"}]},
        {
            "messages": [
                {"role": "user", "content": "x"},
                {"role": "assistant", "tool_calls": [{"name": HOSTILE, "arguments": "{"}]},
            ]
        },
        {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}], "tools": HOSTILE},
        {"instruction": "x", "output": "Ã©{{x}}" + HOSTILE},
        {"instruction": "x", "output": HOSTILE, HOSTILE: HOSTILE},
        "[\x1b[31m" + HOSTILE.replace("\n", ""),
    ],
)
@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_foreign_control_characters_never_reach_a_message(name: str, row: Any, tmp_path: Path) -> None:
    content = jsonl([row] * 3) if name == "a.jsonl" else json.dumps([row] * 3) if isinstance(row, dict) else "[" + row
    report = checked(write(tmp_path, name, content))
    assert report.findings
    assert report.evidence.isprintable()
    for option in ({"columns": {"instruction": HOSTILE + "?"}}, {"split": "group", "split_by": HOSTILE + "?"}):
        if isinstance(row, dict):
            with pytest.raises(DataError) as caught:
                scan(DataSpec.model_validate({"path": str(tmp_path / name)} | option))
            assert str(caught.value).isprintable()


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)
whole = st.sampled_from(
    [*ALPACA, *CHAT, *rows("sharegpt", 6), *rows("preference", 4), *rows("kto", 4), *rows("text", 3)]
)
spoiled = st.tuples(
    whole,
    st.sampled_from(["instruction", "output", "messages", "conversations", "label", "tools", "chosen", "text"]),
    junk,
)
row_of_any_kind = (
    whole.map(json.dumps)
    | junk.map(json.dumps)
    | spoiled.map(lambda s: json.dumps({**s[0], s[1]: s[2]}))
    | st.text(max_size=20)
)


@settings(deadline=None, max_examples=100)
@given(st.lists(row_of_any_kind, min_size=1, max_size=12))
def test_any_lines_are_reported_and_every_row_is_counted(
    tmp_path_factory: pytest.TempPathFactory, rows_: list[str]
) -> None:
    path = write(
        tmp_path_factory.mktemp("any"), "a.jsonl", "\n".join(rows_).encode("utf-8", "surrogatepass") + b"\n{}\n"
    )
    try:
        report = scan(DataSpec(path=str(path)))
    except DataError as error:
        assert error.title in ("The data is no text", "The data is an archive", "The data sets do not go together")  # noqa: PT017
        return
    for finding in report.findings:
        presentable(finding)
    assert report.rows == report.kept + sum(one.count for one in report.dropped.values())
    json.dumps(as_json(report)).encode()
