"""`data check`, `data show`, and what `train` does with data, as a user has them: real processes."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from engine.data.tokens import BUILT_IN
from engine.events import DataReady, Notice
from engine.files import read_records
from tests.helpers import Deck, Run, wait_for

CHAT = [
    {"role": "user", "content": "Where is the lamb number {i}?"},
    {"role": "assistant", "content": "On meadow {i}, eating."},
]


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text(
        "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), encoding="utf-8"
    )
    return path


def chats(n: int) -> list[Any]:
    return [{"messages": [{**turn, "content": turn["content"].format(i=i)} for turn in CHAT]} for i in range(n)]


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """30 good rows, then line 31 that is no JSON and line 32 that has no answer."""
    return write(tmp_path / "broken.jsonl", [*chats(30), '{"messages": ', {"messages": CHAT[:1]}])


def test_check_says_what_is_there(deck: Deck, tmp_path: Path, tiny_model: Path) -> None:
    data = write(tmp_path / "rows.jsonl", chats(30))
    report = deck.json("data", "check", str(data))
    assert (report["format"], report["rows"], report["findings"], report["dropped"]) == ("messages", 30, [], {})
    assert report["lengths"]["unit"] == "characters"
    assert report["trained_tokens"] is None
    report = deck.json("data", "check", str(data), "--model", str(tiny_model), "--max-length", "256")
    assert report["lengths"]["unit"] == "tokens"
    assert report["findings"] == []
    assert 0 < report["trained_tokens"] < report["tokens"]
    said = deck("data", "check", str(data), "--model", str(tiny_model))
    assert said.returncode == 0
    assert "✓ nothing found" in said.stdout
    assert "tokens an epoch" in said.stdout


def test_fatal_findings_are_exit_code_2_with_lines(deck: Deck, broken: Path) -> None:
    result = deck("data", "check", str(broken), "--json")
    assert result.returncode == 2
    report = json.loads(result.stdout)
    assert [(f["kind"], f["severity"], f["lines"]) for f in report["findings"]] == [
        ("unparsable", "fatal", [31]),
        ("no_assistant", "warning", [32]),
    ]
    assert all(f["hint"] for f in report["findings"])
    assert report["dropped"] == {"unparsable": 1, "no_assistant": 1}
    said = deck("data", "check", str(broken))
    assert said.returncode == 2
    assert "✗ fatal   1 row cannot be parsed" in said.stdout
    assert "line 31" in said.stdout


@pytest.mark.parametrize(
    "content", [b"\x89PNG\r\n\x1a\n\x00\x00", b"", b"PK\x03\x04xxxx", b"[1, 2", b"\xff\xfe\x00", b"{" * 5000]
)
def test_junk_is_a_sentence_and_never_a_traceback(deck: Deck, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    result = deck("data", "check", str(path))
    assert result.returncode == 2
    assert "Traceback" not in result.stderr + result.stdout
    assert len((result.stderr + result.stdout).strip().split("\n")) >= 2


def test_train_refuses_before_anything_is_written(deck: Deck, broken: Path, tiny_model: Path) -> None:
    result = deck("train", "--model", str(tiny_model), "--data", str(broken))
    assert result.returncode == 2
    assert "1 row cannot be parsed" in result.stderr
    assert "(line 31)" in result.stderr
    assert "--accept" in result.stderr
    assert not (deck.database.parent / "runs").exists()


def test_no_row_short_enough(deck: Deck, tmp_path: Path, tiny_model: Path) -> None:
    data = write(tmp_path / "rows.jsonl", chats(30))
    result = deck("train", "--model", str(tiny_model), "--data", str(data), "--set", "training.max_length=16")
    assert result.returncode == 2
    assert "no row is short enough to train on (max_length is 16)" in result.stderr
    assert "Raise training.max_length" in result.stderr


def test_accepted_the_rows_are_left_out_and_counted(deck: Deck, broken: Path, tiny_model: Path) -> None:
    flags = [
        "--set",
        "training.max_steps=2",
        "--set",
        "evaluation.prompts=[]",
        "--set",
        "data.validation=4",
        "--set",
        "training.max_length=256",
    ]
    done = deck.json("train", "--model", str(tiny_model), "--data", str(broken), "--accept", *flags)
    run = Run(deck, done["id"])
    events = [r.event for r in read_records(run.directory / "events.jsonl")]
    (ready,) = [e for e in events if isinstance(e, DataReady)]
    assert (ready.train, ready.validation, ready.dropped) == (26, 4, {"unparsable": 1, "no_assistant": 1})
    assert ready.lines == {"unparsable": [31], "no_assistant": [32]}
    assert any(isinstance(e, Notice) and "1 row: unparsable (lines 31)" in e.text for e in events)
    shown = run.shown()
    assert shown["plan"]["data"]["sha256"] == ready.sha256
    assert shown["plan"]["data"]["format"] == "messages"
    assert any("26 rows, 4 held out" in e["text"] for e in shown["events"])
    again = deck.json("train", "--model", str(tiny_model), "--data", str(broken), "--accept", *flags)
    second = [
        r.event
        for r in read_records(Run(deck, again["id"]).directory / "events.jsonl")
        if isinstance(r.event, DataReady)
    ]
    assert (second[0].cached, second[0].tokens) == (True, ready.tokens)


def test_there_is_no_plan_for_data_without_a_usable_row(deck: Deck, tmp_path: Path) -> None:
    data = write(tmp_path / "rows.jsonl", [{"a": 1}])
    result = deck("plan", "HuggingFaceTB/SmolLM2-135M", "--gpu", "rtx4090", "--data", str(data))
    assert result.returncode == 2
    assert "columns of no known format" in result.stderr


def test_the_wrong_objective_for_the_data_is_refused(deck: Deck, tmp_path: Path, tiny_model: Path) -> None:
    data = write(tmp_path / "rows.jsonl", chats(30))
    result = deck("train", "--model", str(tiny_model), "--data", str(data), "--set", "objective=dpo")
    assert result.returncode == 2
    assert "needs pairs with chosen and rejected answers; this is messages" in result.stderr


PAIRS = [
    {"prompt": f"Name lamb {i}", "chosen": f"It is called Ann {i}.", "rejected": f"Lamb? {i * 7}"} for i in range(40)
]
TEXTS = [{"text": f"Lamb {i} ate {i * 3} leaves of grass on a meadow. " * (1 + i % 5)} for i in range(40)]


@pytest.mark.parametrize(("objective", "rows"), [("dpo", PAIRS), ("text", TEXTS)])
def test_the_data_decides_the_objective(
    objective: str, rows: list[Any], deck: Deck, tmp_path: Path, tiny_model: Path
) -> None:
    data = write(tmp_path / "rows.jsonl", rows)
    done = deck.json("train", "--model", str(tiny_model), "--data", str(data), "--set", "training.max_steps=4",
                     "--set", "training.max_length=128", "--set", "training.learning_rate=1e-3", "--set", "evaluation.every=2")  # fmt: skip
    assert done["status"] == "finished"
    assert done["spec"]["objective"] == objective
    assert done["latest"]["loss"]["step"] == 4
    assert done["latest"]["eval_loss"]["step"] == 4
    if objective == "dpo":
        assert "rewards/margins" in done["latest"]
    run = Run(deck, done["id"])
    (ready,) = [r.event for r in read_records(run.directory / "events.jsonl") if isinstance(r.event, DataReady)]
    if objective == "text":
        assert ready.train > 40 - ready.validation  # long texts go on in the next row
        assert ready.trained_tokens == ready.tokens
        assert ready.dropped == {}


def test_show_marks_what_is_trained(deck: Deck, tmp_path: Path, tiny_model: Path) -> None:
    data = write(tmp_path / "rows.jsonl", chats(30))
    common = ["data", "show", str(data), "--model", str(tiny_model), "--set", "data.validation=0", "--max-length", "96"]
    said = deck(*common, "--row", "3")
    assert said.returncode == 0, said.stderr
    marked = [line for line in said.stdout.split("\n") if line.startswith("┃ ") and "trained   ·" not in line]
    trained = "".join(line[8:] for line in marked).replace("┊", "")
    assert trained == "On meadow 2, eating.<|im_end|>"
    assert "line 3   " in said.stdout
    shown = deck.json(*common, "-n", "2", "--set", "training.packing=true")
    assert [row["number"] for row in shown["rows"]] == [1, 2]
    packed = [row["packed"] for row in shown["rows"] if "packed" in row]
    assert packed
    assert all(sum(len(s["ids"]) for s in one["sequences"]) == one["tokens"] <= one["size"] == 96 for one in packed)
    assert all(sum(s["this"] for s in one["sequences"]) == 1 for one in packed)
    late = deck("data", "show", str(data), "--model", str(tiny_model), "--row", "99")
    assert late.returncode == 2
    assert "There is no such row" in late.stderr


def test_several_files_with_weights(deck: Deck, tmp_path: Path, tiny_model: Path) -> None:
    a, b = (
        write(tmp_path / "a.jsonl", chats(20)),
        write(tmp_path / "b.jsonl", [{"prompt": f"Say {i}", "completion": f"It is {i}."} for i in range(10)]),
    )
    spec = tmp_path / "spec.yaml"
    spec.write_text(json.dumps({
        "model": {"path": str(tiny_model)}, "data": {"path": [{"path": str(a)}, {"path": str(b), "weight": 2}], "validation": 0},
        "training": {"max_steps": 1, "max_length": 256}, "evaluation": {"prompts": []},
    }))  # fmt: skip
    done = deck.json("train", str(spec))
    (ready,) = [
        r.event
        for r in read_records(Run(deck, done["id"]).directory / "events.jsonl")
        if isinstance(r.event, DataReady)
    ]
    assert ready.train == 40
    assert done["dataset"] == "a.jsonl + b.jsonl"


def test_the_template_that_trained_is_the_one_that_is_saved(deck: Deck, tmp_path: Path, tiny_model: Path) -> None:
    base = shutil.copytree(tiny_model, tmp_path / "base")
    (base / "chat_template.jinja").unlink()
    data = write(tmp_path / "rows.jsonl", chats(30))
    refused = deck("train", "--model", str(base), "--data", str(data))
    assert refused.returncode == 2
    assert "the model has no chat template" in refused.stderr
    assert "data.template=chatml" in refused.stderr
    done = deck.json("train", "--model", str(base), "--data", str(data), "--set", "data.template=alpaca", "--set", "training.max_steps=2",
                     "--set", "evaluation.prompts=[Where now]", "--set", "training.max_length=256")  # fmt: skip
    assert done["status"] == "finished", done["exit_reason"]
    saved = Run(deck, done["id"]).directory / "model"
    assert (saved / "chat_template.jinja").read_text() == (BUILT_IN / "alpaca.jinja").read_text()
    shown = deck.json(
        "data", "show", str(data), "--model", str(base), "--set", "data.template=alpaca", "--max-length", "256"
    )
    (sequence,) = shown["rows"][0]["sequences"]
    assert "".join(sequence["texts"]).startswith("<|im_start|>### Instruction:\nWhere is the lamb number")
    assert sequence["ids"][-1] == sequence["labels"][-1] == 2  # the model's end token, trained


def test_a_run_does_not_go_on_with_other_data(deck: Deck, tmp_path: Path, tiny_model: Path) -> None:
    data = write(tmp_path / "rows.jsonl", chats(30))
    run = deck.start(
        tiny_model, data, "training.max_steps=5000", "training.max_length=256", "saving.every=500", "evaluation.every=0"
    )
    run.wait("running")
    wait_for(lambda: run.step() > 2)
    deck.json("stop", run.id)
    run.wait("stopped")
    before = data.read_text()
    write(data, chats(31))
    refused = deck("resume", run.id)
    assert refused.returncode == 2
    assert "The data has changed since the run began" in refused.stderr
    data.write_text(before)
    deck.json("resume", run.id, "--detach")
    run.wait("running", "starting")
    deck.json("stop", run.id, "--now")
