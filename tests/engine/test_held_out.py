"""Which rows a run is evaluated on. No model: what is held out is decided by the data alone."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from engine.after.held_out import choose
from engine.after.trained import trained
from engine.data.rows import content_hash, sources, validation_source
from engine.errors import DataError, RunError
from engine.events import Checkpoint
from engine.files import EventFile
from engine.spec import RunSpec, parse


def write(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def alpaca(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [{"instruction": f"Say {i}", "output": f"It is {i}."} for i in range(start, start + count)]


def made(tmp_path: Path, rows: list[dict[str, Any]], **data: Any) -> tuple[RunSpec, Path]:
    """A run's specification and directory, with the hash of its data."""
    path = write(tmp_path / "train.jsonl", rows)
    spec = parse({"model": {"path": "/m"}, "data": {"path": str(path), "validation": 4, **data}})
    (tmp_path / "run").mkdir()
    digest = content_hash([*sources(spec.data), *validation_source(spec.data)])
    (tmp_path / "run" / "data.sha256").write_text(digest + "\n")
    return spec, tmp_path / "run"


def asked(spec: RunSpec, run_dir: Path, **more: Any) -> list[str]:
    return [
        q.row.value["messages"][0]["content"] for q in choose(spec, run_dir, more.pop("data", None), **more).questions
    ]


def test_the_runs_own_rows_are_those_that_it_did_not_train_on(tmp_path: Path) -> None:
    spec, run_dir = made(tmp_path, alpaca(40))
    held = choose(spec, run_dir, None)
    assert (len(held.questions), held.total, held.held_out, held.notes) == (4, 4, True, ())
    lines = [q.row.line for q in held.questions]
    assert lines == sorted(lines)
    assert [q.place for q in held.questions] == [f"line {line}" for line in lines]
    assert held.sha256 == (run_dir / "data.sha256").read_text().strip()


def test_a_validation_file_counts_and_a_sample_is_drawn_by_the_seed(tmp_path: Path) -> None:
    other = write(tmp_path / "other.jsonl", alpaca(30, 100))
    spec, run_dir = made(tmp_path, alpaca(10), validation=str(other))
    assert asked(spec, run_dir) == [f"Say {i}" for i in range(100, 130)]
    few = asked(spec, run_dir, most=5)
    assert len(few) == 5
    assert few == sorted(few)
    assert few == asked(spec, run_dir, most=5) != asked(spec, run_dir, most=5, seed=1)
    assert choose(spec, run_dir, None, most=5).notes == ("5 of 30 rows, chosen at random.",)


def test_a_file_says_which_of_its_rows_were_trained_on(tmp_path: Path) -> None:
    spec, run_dir = made(tmp_path, alpaca(40))
    held = set(asked(spec, run_dir))
    mixed = [{"messages": [{"role": "user", "content": row["instruction"]}, {"role": "assistant", "content": row["output"]}]}
             for row in [*alpaca(40), *alpaca(3, 200)]]  # fmt: skip
    found = choose(spec, run_dir, str(write(tmp_path / "mixed.jsonl", mixed)), most=None)
    seen = {q.row.value["messages"][0]["content"] for q in found.questions if q.seen}
    assert seen == {row["instruction"] for row in alpaca(40)} - held, "whatever the format, and not the held-out ones"
    assert found.held_out is False
    assert "36 of these 43 rows are among the rows that were trained on" in found.notes[0]
    fresh = choose(spec, run_dir, str(write(tmp_path / "fresh.jsonl", alpaca(3, 200))))
    assert (fresh.held_out, fresh.notes) == (True, ())


def test_the_same_row_twice_in_the_data_is_told_of_held_out_rows_too(tmp_path: Path) -> None:
    spec, run_dir = made(tmp_path, [alpaca(1)[0]] * 40)
    found = choose(spec, run_dir, None)
    assert found.held_out is False
    assert found.notes[0].startswith("4 of these 4 held-out rows are among")


def test_a_file_is_read_with_the_columns_and_the_system_prompt_of_the_run(tmp_path: Path) -> None:
    rows = [{"frage": f"Sag {i}", "antwort": f"{i}"} for i in range(12)]
    spec, run_dir = made(tmp_path, rows, columns={"instruction": "frage", "output": "antwort"}, system="Be short.")
    mapped = choose(spec, run_dir, str(write(tmp_path / "same.jsonl", rows[:2])))
    plain = choose(spec, run_dir, str(write(tmp_path / "plain.jsonl", alpaca(2))))
    for found, question in ((mapped, "Sag 0"), (plain, "Say 0")):
        turns = found.questions[0].row.value["messages"]
        assert [turn["content"] for turn in turns[:2]] == ["Be short.", question]


def test_bad_answers_are_left_out(tmp_path: Path) -> None:
    rows = [{"prompt": f"Say {i}", "completion": f"{i}", "label": i % 2 == 0} for i in range(6)]
    spec, run_dir = made(tmp_path, alpaca(10))
    found = choose(spec, run_dir, str(write(tmp_path / "kto.jsonl", rows)))
    assert [q.row.line for q in found.questions] == [1, 3, 5]
    assert found.notes == ("3 rows were left out: their answers are bad ones.",)


def test_data_that_has_changed_is_refused_and_a_file_of_ones_own_is_not(tmp_path: Path) -> None:
    spec, run_dir = made(tmp_path, alpaca(40))
    write(tmp_path / "train.jsonl", alpaca(41))
    with pytest.raises(DataError, match="changed since the run was made"):
        choose(spec, run_dir, None)
    found = choose(spec, run_dir, str(write(tmp_path / "own.jsonl", alpaca(3))))
    assert found.held_out is None
    assert "cannot be told" in found.notes[0]


@pytest.mark.parametrize(
    ("content", "title"),
    [("", "The data is empty"), ("\n\n", "The data is empty"), ('{"a": 1}\n', "The format of the data is not known"),
     ('{"instruction": "Say", "output": ""}\n', "There are no rows to evaluate on"), (None, "The data was not found")],
)  # fmt: skip
def test_a_file_without_rows(tmp_path: Path, content: str | None, title: str) -> None:
    spec, run_dir = made(tmp_path, alpaca(10))
    file = tmp_path / "file.jsonl"
    if content is not None:
        file.write_text(content)
    with pytest.raises(DataError) as caught:
        choose(spec, run_dir, str(file))
    assert caught.value.title == title
    assert caught.value.hint


def test_a_run_that_held_nothing_out_or_gives_scores(tmp_path: Path) -> None:
    spec, run_dir = made(tmp_path, alpaca(10), validation=0)
    with pytest.raises(DataError, match="held no rows out") as caught:
        choose(spec, run_dir, None)
    assert "--data FILE" in caught.value.hint
    with pytest.raises(RunError, match="writes no answers"):
        choose(spec.model_copy(update={"objective": "reward"}), run_dir, None)


def test_too_few_rows_to_hold_any_out(tmp_path: Path) -> None:
    spec, run_dir = made(tmp_path, alpaca(1), validation=0.1)
    with pytest.raises(DataError, match="no rows to evaluate on"):
        choose(spec, run_dir, None)


def test_a_checkpoint_counts_once_it_is_announced_and_whole(tmp_path: Path) -> None:
    """Training writes them in place: what it has not announced may be half of one."""
    place = Path(tmp_path / "runs" / "r1")
    for step in (5, 10, 15):
        folder = place / "checkpoints" / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        (folder / "adapter_model.safetensors").write_bytes(b"0" * 8)
    log = EventFile(place / "events.jsonl")
    for step, size in ((5, 8), (10, 9)):
        log.append(Checkpoint(step, f"/elsewhere/checkpoint-{step}", size, {"adapter_model.safetensors": size}))
    log.close()
    run = {"id": "r1", "name": "one", "status": "crashed", "spec": {"model": {"path": "/m"}, "data": {"path": "/d"}}}
    assert trained(tmp_path / "experiments.db", run).step == 5
    for step in (10, 15, 20):
        with pytest.raises(RunError) as caught:
            trained(tmp_path / "experiments.db", run, step)
        assert (caught.value.title, caught.value.hint) == ("There is no such checkpoint", "There are: 5.")
