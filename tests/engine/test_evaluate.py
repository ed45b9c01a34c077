"""The evaluation of a run on a tiny model, in this process: losses, answers, and what a job that goes on does not do again."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.after.trained import of_directory, pin
from engine.data.general import passages, questions
from engine.errors import DataError, RunError
from engine.events import DataReady
from engine.spec import RunSpec, to_yaml
from engine.worker.job import Job, StopAsked
from engine.worker.reporter import Reporter
from tests.runs import OPTIONS, complete, tiny
from tests.train import Trained, complete_spec, trained

HELD = 5
WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]


def says(i: int) -> str:
    return " ".join(WORDS[: 1 + i * 5 % 12])


DATA: dict[str, list[dict[str, Any]]] = {
    "alpaca": [{"instruction": f"Say {i}", "output": says(i)} for i in range(16)],
    "turns": [{"messages": [{"role": "user", "content": f"Say {i}"}, {"role": "assistant", "content": says(i)},
                            {"role": "user", "content": "And?"}, {"role": "assistant", "content": says(i + 3)}]}
              for i in range(16)],
    "strings": [{"prompt": f"Say {i}:", "completion": " " + says(i)} for i in range(16)],
    "text": [{"text": f"{i} {says(i)} and so on."} for i in range(16)],
    "pairs": [{"prompt": f"Say {i}", "chosen": says(i), "rejected": f"no, never {i}"} for i in range(16)],
    "kto": [{"prompt": f"Say {i}", "completion": says(i), "label": i % 3 > 0} for i in range(16)],
    "asked": [{"prompt": f"Say {i}", "answer": says(i)} for i in range(16)],
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny(tmp_path_factory.mktemp("place"))
    for name, rows in DATA.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module", autouse=True)
def _alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNEDECK_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
    torch.set_num_threads(threads)


def spec_for(place: Path, data: str, **sets: Any) -> RunSpec:
    more = OPTIONS | {"training__max_steps": 4, "training__learning_rate": 5e-3, "method__kind": "lora", "data__validation": HELD,
                      "training__micro_batch": 8, "evaluation__every": 4, "evaluation__general": False} | sets  # fmt: skip
    if more["method__kind"] in ("full", "prompt", "prefix"):
        more.pop("method__dropout")
    return complete_spec(place / "model", place / f"{data}.jsonl", **more)


def run_of(place: Path, directory: Path, data: str, **sets: Any) -> tuple[RunSpec, Trained]:
    """A finished run, with its directory as `tunedeck train` leaves it."""
    spec = spec_for(place, data, **sets)
    done = trained(spec, directory)
    (directory / "spec.yaml").write_text(to_yaml(spec))
    (ready,) = [event for event in done.events() if isinstance(event, DataReady)]
    (directory / "data.sha256").write_text(ready.sha256 + "\n")
    return spec, done


@pytest.fixture(scope="module")
def alpaca(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return run_of(place, tmp_path_factory.mktemp("runs") / "alpaca", "alpaca")[1]


def job_of(run_dir: Path, name: str = "eval-1", **ask: Any) -> Job:
    folder = run_dir / "jobs" / name
    folder.mkdir(parents=True, exist_ok=True)
    return Job(folder, run_dir, {"general": False, "rows": None, "max_new_tokens": 8} | ask, Reporter(folder, 1))


def evaluated(run_dir: Path, name: str = "eval-1", **ask: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The summary and the rows, in their order."""
    from engine.worker.evaluate import evaluate

    job = job_of(run_dir, name, **ask)
    summary = evaluate(job).summary
    rows = [json.loads(line) for line in (job.folder / "rows.jsonl").read_text().splitlines()]
    return summary, sorted(rows, key=lambda row: row["row"])


def weighted(rows: list[dict[str, Any]]) -> float:
    """The mean loss of a token: what the trainer has where all rows are in one batch."""
    sides = [row["tuned"] for row in rows]
    return float(sum(s["loss"] * s["trained"] for s in sides) / sum(s["trained"] for s in sides))


@pytest.mark.parametrize(
    ("data", "sets"),
    [("alpaca", {}), ("turns", {"training__max_length": 512}), ("strings", {}), ("text", {"objective": "text"}), ("alpaca", {"method__kind": "full"}),
     ("alpaca", {"method__kind": "prompt", "method__virtual_tokens": 4}), ("alpaca", {"method__kind": "prefix", "method__virtual_tokens": 4}),
     ("alpaca", {"data__template": "alpaca"}), ("turns", {"training__max_length": 64, "training__long_rows": "cut"}),
     ("alpaca", {"training__precision": "bf16"}), ("alpaca", {"method__kind": "qlora", "training__precision": "bf16"})],
)  # fmt: skip
def test_the_loss_is_the_trainers(place: Path, tmp_path: Path, data: str, sets: dict[str, Any]) -> None:
    spec, done = run_of(place, tmp_path / "run", data, **sets)
    summary, rows = evaluated(tmp_path / "run")
    near = 1e-5 if spec.training.precision == "fp32" else 5e-3
    assert len(rows) == HELD
    loss = summary["scores"]["loss"]
    assert weighted(rows) == pytest.approx(done.series("eval_loss")[-1], rel=near)
    assert loss["tuned"] == pytest.approx(weighted(rows))
    assert loss["base"] != pytest.approx(loss["tuned"], rel=1e-3), "the adapter is off, or it is another model"
    assert summary["data"]["held_out"] is True
    assert summary["data"]["rows"] == HELD


def test_the_base_is_the_base(place: Path, alpaca: Trained) -> None:
    """The loss that transformers itself gives for each row, on the base model alone."""
    import torch
    from transformers import AutoModelForCausalLM

    from engine.after.held_out import choose
    from engine.worker.evaluate_rows import measured

    _, rows = evaluated(alpaca.directory, "eval-base")
    spec, tokenizer = of_directory(alpaca.directory).spec, alpaca.trainer.processing_class
    asked, _ = measured(choose(spec, alpaca.directory, None).questions, spec, tokenizer)
    model = AutoModelForCausalLM.from_pretrained(place / "model", dtype=torch.float32).eval()
    for row, one in zip(rows, asked, strict=True):
        ((ids, labels),) = one.sequences
        with torch.no_grad():
            loss = model(input_ids=torch.tensor([ids]), labels=torch.tensor([labels])).loss
        assert row["base"]["loss"] == pytest.approx(float(loss), rel=1e-5)
        text = tokenizer.decode([label for label in labels if label != -100])
        assert text == f"{row['reference']}<|im_end|>"
        assert row["prompt"].endswith(f"{row['question']}<|im_end|>\n<|im_start|>assistant\n")
        assert row["messages"] == [{"role": "user", "content": row["question"]}]


def test_answers_of_a_batch_are_those_of_single_prompts(alpaca: Trained) -> None:
    from engine.worker import samples
    from engine.worker.generate import answers

    tokenizer, model = alpaca.trainer.processing_class, alpaca.trainer.model.eval()
    asked = [f"Say {i}" + " please" * i for i in range(6)]
    prompts = [samples.asked(tokenizer, one)["input_ids"][0].tolist() for one in asked]
    with model.disable_adapter():  # which says all kinds of things
        together = answers(model, tokenizer, prompts, 20)
        alone = [one for prompt in prompts for one in answers(model, tokenizer, [prompt], 20)]
        assert [one.text for one in together] == [one.text for one in alone]
        assert [one.text for one in together] == [one.text for one in samples.generate(model, tokenizer, asked, 0, 20)]
    assert len({one.text for one in together}) > 1
    assert all(one.tokens == 20 and not one.stopped for one in together)


def test_an_answer_ends_at_the_end_token(alpaca: Trained) -> None:
    from engine.worker.generate import _until_end, ends

    tokenizer, model = alpaca.trainer.processing_class, alpaca.trainer.model
    assert ends(model, tokenizer) == [2]
    assert _until_end([7, 8, 2, 0, 0], [2]) == ([7, 8], True)
    assert _until_end([7, 8, 9], [2]) == ([7, 8, 9], False)
    assert _until_end([2, 0], [2]) == ([], True)


def test_no_row_is_computed_twice(alpaca: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped after two of its rows, and with half a line at the end, it goes on with the others; the result is the same."""
    from engine.worker import evaluate, evaluate_general, generate

    monkeypatch.setitem(generate.ROWS, "cpu", 1)
    few, texts = questions()[:4], passages()[:4]
    monkeypatch.setattr(evaluate_general, "questions", lambda: few)
    monkeypatch.setattr(evaluate_general, "passages", lambda: texts)
    calm, expected = evaluated(alpaca.directory, "eval-calm", general=True)
    asked: list[str] = []
    real = evaluate.answers

    def counted(model: Any, tokenizer: Any, prompts: list[list[int]], most: int) -> Any:
        asked.extend(tokenizer.decode(prompt) for prompt in prompts)
        return real(model, tokenizer, prompts, most)

    monkeypatch.setattr(evaluate, "answers", counted)
    job = job_of(alpaca.directory, "eval-stop", general=True)
    rounds = [5, 9, 30, 400]
    for stop_at in rounds:
        looks = iter(range(10_000))
        monkeypatch.setattr(Job, "stop", _stop_after(looks, stop_at))
        try:
            done = evaluate.evaluate(job).summary
        except StopAsked:
            for name in ("rows.jsonl", "general.jsonl"):
                if (job.folder / name).exists():
                    with (job.folder / name).open("a") as file:
                        file.write('{"row": 1, "id": "half a li')
    assert (job.folder / "general.jsonl").exists()
    rows = [json.loads(line) for line in (job.folder / "rows.jsonl").read_text().splitlines() if line.endswith("}")]
    assert sorted(row["row"] for row in rows) == list(range(1, HELD + 1)), "each once"
    assert len(asked) < 2 * (HELD + len(few)) + 2 * len(rounds), "but what was at work when it was stopped"
    timeless = lambda summary: {k: v for k, v in summary.items() if k not in ("seconds", "tokens_per_second")}  # noqa: E731
    assert timeless(done) == timeless(calm)
    assert [(r["tuned"]["answer"], r["base"]["loss"]) for r in sorted(rows, key=lambda row: row["row"])] == [
        (r["tuned"]["answer"], r["base"]["loss"]) for r in expected
    ]


def _stop_after(looks: Iterator[int], most: int) -> Callable[[Any], None]:
    def stop(self: Any) -> None:
        if next(looks) >= most:
            raise StopAsked

    return stop


def test_a_batch_that_finds_no_room_on_the_gpu_is_halved(alpaca: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from engine.worker import evaluate

    _, expected = evaluated(alpaca.directory, "eval-room")
    sizes: list[int] = []
    real = evaluate.answers

    def tight(model: Any, tokenizer: Any, prompts: list[list[int]], most: int) -> Any:
        sizes.append(len(prompts))
        if len(prompts) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return real(model, tokenizer, prompts, most)

    monkeypatch.setattr(evaluate, "answers", tight)
    _, rows = evaluated(alpaca.directory, "eval-tight")
    assert sizes[0] == HELD
    assert max(sizes[1:]) <= 2
    assert [r["tuned"]["answer"] for r in rows] == [r["tuned"]["answer"] for r in expected]
    monkeypatch.setattr(evaluate, "answers", lambda *given: (_ for _ in ()).throw(torch.OutOfMemoryError("no room")))
    with pytest.raises(torch.OutOfMemoryError):
        evaluated(alpaca.directory, "eval-none")


def test_pairs_are_measured_on_the_chosen_answer(place: Path, tmp_path: Path) -> None:
    spec, _ = run_of(place, tmp_path / "run", "pairs", objective="dpo")
    assert spec.objective == "dpo"
    summary, rows = evaluated(tmp_path / "run")
    chosen = {row["prompt"]: row["chosen"] for row in DATA["pairs"]}
    assert {row["question"]: row["reference"] for row in rows} == {
        row["question"]: chosen[row["question"]] for row in rows
    }
    assert len(rows) == HELD
    assert all(row["tuned"]["trained"] >= len(row["reference"]) for row in rows), "a token for a letter, and the end"
    assert {"loss", "perplexity", "exact_match"} <= set(summary["scores"])


def test_of_answers_with_a_verdict_the_good_ones(place: Path, tmp_path: Path) -> None:
    run_of(place, tmp_path / "run", "kto", objective="kto")
    summary, rows = evaluated(tmp_path / "run")
    good = {row["prompt"] for row in DATA["kto"] if row["label"]}
    assert rows
    assert {row["question"] for row in rows} <= good
    assert any("bad ones" in note for note in summary["data"]["notes"]) == (len(rows) < HELD)


def test_plain_text_has_a_loss_and_no_answers(place: Path, tmp_path: Path) -> None:
    run_of(place, tmp_path / "run", "text", objective="text")
    summary, rows = evaluated(tmp_path / "run")
    assert set(summary["scores"]) == {"loss", "perplexity"}
    assert all(row["tuned"]["answer"] is None and row["prompt"] is None for row in rows)
    assert all(row["tuned"]["trained"] > 5 and row["badness"] == row["tuned"]["loss"] for row in rows)


def test_grpo_is_judged_by_its_own_rewards(place: Path, tmp_path: Path) -> None:
    spec = complete("lora", "grpo", place, data__path=str(place / "asked.jsonl"), data__format="prompt",
                    data__validation=HELD, training__max_steps=1, evaluation__general=False)  # fmt: skip
    trained(spec, tmp_path / "run")
    (tmp_path / "run" / "spec.yaml").write_text(to_yaml(spec))
    summary, rows = evaluated(tmp_path / "run", max_new_tokens=None)
    assert summary["max_new_tokens"] == spec.objective_options.completion_length
    assert "loss" not in summary["scores"]
    for row in rows:
        assert row["reference"] == next(one["answer"] for one in DATA["asked"] if one["prompt"] == row["question"])
        for voice in ("base", "tuned"):
            vowels = sum(letter in "aeiou" for letter in row[voice]["answer"]) / max(1, len(row[voice]["answer"]))
            assert row[voice]["scores"]["reward vowels"] == pytest.approx(vowels)
            assert row[voice]["loss"] is None


def test_what_was_forgotten(alpaca: Trained) -> None:
    from engine.worker import general

    summary, _ = evaluated(alpaca.directory, "eval-general", general=True)
    lost = summary["forgetting"]
    tokenizer, model = alpaca.trainer.processing_class, alpaca.trainer.model
    rows = general.token_rows(tokenizer, [one.text for one in passages()], 192)
    assert lost["tuned"] == pytest.approx(general.mean_loss(model, rows), rel=1e-5)
    with model.disable_adapter():
        assert lost["base"] == pytest.approx(general.mean_loss(model, rows), rel=1e-5)
    assert lost["rows"] == len(passages()) == 24
    assert set(lost["kinds"]) == {one.kind for one in passages()}
    assert (
        lost["answers"]["rows"] == len(questions()) == sum(kind["rows"] for kind in lost["answers"]["kinds"].values())
    )


def test_general_answers_are_known_as_words(place: Path) -> None:
    by_question = {one.question: one for one in questions()}
    italy = by_question["What is the capital of Italy? Answer with one word."]
    assert italy.right("The capital of Italy is **Rome**.")
    assert not italy.right("Romeo")
    assert not italy.right("")
    sums = by_question["What is 7 + 5? Answer with the number only."]
    assert sums.right("7 + 5 = 12")
    assert not sums.right("It is 125.")
    assert by_question["Sort these numbers from small to large: 9, 2, 5"].right("2, 5, 9")
    for one in questions():
        assert one.right(one.answers[0]), one.question
        assert not one.right("Ahoy, matey! Fair winds!")


def test_a_file_in_another_format_with_rows_that_were_trained_on(place: Path, alpaca: Trained, tmp_path: Path) -> None:
    mixed = [*DATA["turns"][:2], *({"messages": [{"role": "user", "content": r["instruction"]}, {"role": "assistant", "content": r["output"]}]}
             for r in DATA["alpaca"])]  # fmt: skip
    file = tmp_path / "mixed.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in mixed))
    summary, rows = evaluated(alpaca.directory, "eval-file", data=str(file))
    assert len(rows) == 18
    assert rows[0]["reference"] == DATA["turns"][0]["messages"][3]["content"]
    assert [turn["role"] for turn in rows[0]["messages"]] == ["user", "assistant", "user"]
    assert sum(row.get("seen", False) for row in rows) == 16 - HELD == summary["data"]["seen"]
    assert summary["data"]["held_out"] is False
    assert f"trained on {16 - HELD} of these rows" in summary["verdict"]


def test_a_checkpoint_and_what_is_not_there(alpaca: Trained, place: Path, tmp_path: Path) -> None:
    _, done = run_of(place, tmp_path / "run", "alpaca", saving__every=2, evaluation__every=2, saving__keep=5)
    early, rows = evaluated(tmp_path / "run", step=2)
    assert early["step"] == 2
    assert weighted(rows) == pytest.approx(done.series("eval_loss")[0], rel=1e-5)
    assert done.series("eval_loss")[0] != pytest.approx(done.series("eval_loss")[1], rel=1e-3)
    with pytest.raises(RunError, match="not there any more"):
        evaluated(tmp_path / "run", "eval-2", step=3)
    folder = job_of(tmp_path / "run", "eval-3").folder
    pin(of_directory(tmp_path / "run", 2), folder)
    assert not list(folder.glob("checkpoint/optimizer*"))
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "checkpoint-2")  # as training does it with older ones
    again, later = evaluated(tmp_path / "run", "eval-3", step=2)
    assert again["scores"] == early["scores"]
    assert [row["tuned"]["answer"] for row in later] == [row["tuned"]["answer"] for row in rows]
    assert not (folder / "checkpoint").exists()


def test_data_that_changes_between_two_goes_is_refused(alpaca: Trained, tmp_path: Path) -> None:
    file = tmp_path / "own.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in DATA["alpaca"][:3]))
    evaluated(alpaca.directory, "eval-change", data=str(file))
    file.write_text("".join(json.dumps(row) + "\n" for row in DATA["alpaca"][1:4]))
    with pytest.raises(DataError, match="changed since the evaluation began"):
        evaluated(alpaca.directory, "eval-change", data=str(file))


def test_a_loss_that_is_no_number_is_told(alpaca: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.worker import evaluate

    monkeypatch.setattr(evaluate, "summed_losses", lambda model, some, device: [float("nan")] * len(some))
    summary, rows = evaluated(alpaca.directory, "eval-nan")
    assert {row["tuned"]["loss"] for row in rows} == {"nan"}
    assert summary["broken"] == {"base": HELD, "tuned": HELD}


def test_an_adapter_that_takes_the_base_apart_is_held_against_the_whole_base(place: Path, tmp_path: Path) -> None:
    """A checkpoint of PiSSA: without it the weights under it are not the base's."""
    _, done = run_of(place, tmp_path / "run", "alpaca", method__variant="pissa", saving__every=2, evaluation__every=2)
    rows = evaluated(tmp_path / "run", "eval-1")[1]
    before = evaluated(tmp_path / "run", "eval-2", step=2)[1]
    assert weighted(before) == pytest.approx(done.series("eval_loss")[0], rel=1e-5)
    assert weighted(rows) == pytest.approx(done.series("eval_loss")[1], rel=1e-5)
    assert [row["base"] | {"seconds": 0} for row in before] == [row["base"] | {"seconds": 0} for row in rows]


def test_which_tasks_of_lm_eval_are_meant(tmp_path: Path) -> None:
    from engine.worker.evaluate_tasks import named

    (tmp_path / "one.yaml").write_text("task: first\noutput_type: multiple_choice\n")
    (tmp_path / "two.yml").write_text('include: _base.yaml\ntask: "second"\n')
    (tmp_path / "_base.yaml").write_text("task: base\n")
    assert named(["arc_easy", str(tmp_path)]) == (["arc_easy", "first", "second"], [str(tmp_path)])
    assert named([str(tmp_path / "two.yml")]) == (["second"], [str(tmp_path)])
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "x.yaml").write_text("group: g\n")
    with pytest.raises(RunError, match="names no task"):
        named([str(tmp_path / "none")])


TASK = """
task: says
dataset_path: json
dataset_kwargs: {data_files: FILE}
test_split: train
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: "{{choices}}"
doc_to_target: label
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""


def test_a_local_task_of_lm_eval(alpaca: Trained, tmp_path: Path) -> None:
    pytest.importorskip("lm_eval")
    docs = [{"question": f"Say {i}", "choices": [" one two", " zzz"], "label": 0} for i in range(8)]
    (tmp_path / "docs.jsonl").write_text("".join(json.dumps(doc) + "\n" for doc in docs))
    (tmp_path / "says.yaml").write_text(TASK.replace("FILE", str(tmp_path / "docs.jsonl")))
    summary, _ = evaluated(alpaca.directory, "eval-task", lm_eval=[str(tmp_path)])
    score = summary["lm_eval"]["says"]["acc"]
    assert score["tuned"] >= score["base"]
    assert score["rows"] == 8
    assert score["difference"] == score["tuned"] - score["base"]
    with pytest.raises(RunError, match="no such task"):
        evaluated(alpaca.directory, "eval-no-task", lm_eval=["nosuchtask"])


def test_bertscore_that_cannot_be_had_is_a_note(alpaca: Trained, tmp_path: Path) -> None:
    pytest.importorskip("bert_score")
    (tmp_path / "config.json").write_text("{}")
    summary, rows = evaluated(alpaca.directory, "eval-bert", bertscore=str(tmp_path))
    assert any(note.startswith("BERTScore could not be computed") for note in summary["data"]["notes"])
    assert len(rows) == HELD
