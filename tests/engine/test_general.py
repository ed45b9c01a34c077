"""The loss on general texts: what it is, that it disturbs nothing, and when it is measured."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.data.general import OWN, read_general
from engine.data.lengths import Lengths
from engine.errors import DataError, SpecError
from engine.events import Metric, Notice
from engine.launch import prepare
from engine.planner.steps import general_size
from engine.runnable import check_runnable
from engine.spec import apply_sets, parse
from tests.engine.planning import SMOLLM2
from tests.engine.test_complete import filled, spec
from tests.runs import complete, tiny
from tests.train import Trained, trained


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory.mktemp("place"))


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import torch
    from accelerate.state import AcceleratorState

    monkeypatch.setenv("TUNEDECK_CACHE", str(tmp_path / "cache"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    AcceleratorState._reset_state(reset_partial_state=True)


def points(done: Trained) -> dict[int, float]:
    found = [e for e in done.events() if isinstance(e, Metric) and "general_loss" in e.values]
    assert len({e.step for e in found}) == len(found), "once a step"
    return {e.step: e.values["general_loss"] for e in found}


def reference(model: Any, tokenizer: Any, texts: list[str], most: int) -> float:
    """Mean loss over all tokens, by the loss that the model itself returns for each text."""
    import torch

    total, count = 0.0, 0
    for text in texts:
        ids = tokenizer(text, return_tensors="pt", truncation=True, max_length=most)["input_ids"]
        labels = ids.clone()
        labels[0, 0] = -100  # which learned prompts would predict, and nothing else can
        with torch.no_grad():
            loss = model(input_ids=ids, labels=labels).loss
        total, count = total + float(loss) * (ids.shape[1] - 1), count + ids.shape[1] - 1
    return total / count


@pytest.mark.parametrize(
    ("name", "column"), [("lora", "sft"), ("full", "dpo"), ("lora", "kto"), ("lora", "orpo"), ("lora", "packing")]
)
def test_before_the_first_step_it_is_the_loss_of_the_base_model(
    name: str, column: str, place: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    sets = {"data__validation": 1, "evaluation__every": 2, "evaluation__general": True, "training__max_steps": 4}
    found = points(trained(complete(name, column, place, **sets), tmp_path / "run"))
    assert list(found) == [0, 2, 4]
    model = AutoModelForCausalLM.from_pretrained(place / "model", dtype="float32").eval()
    tokenizer = AutoTokenizer.from_pretrained(place / "model")
    texts, most = general_size(gpu=False)
    own = [json.loads(line)["text"] for line in OWN.read_text(encoding="utf-8").splitlines()][:texts]
    assert found[0] == pytest.approx(reference(model, tokenizer, own, most), rel=1e-5)
    assert found[4] != found[0]


def test_learned_prompts_stand_before_the_texts(place: Path, tmp_path: Path) -> None:
    """Prompt tuning and prefixes change what the texts follow: against the loss that peft itself computes."""
    from transformers import AutoTokenizer

    texts = ["A short text.", "Another one, a little longer."]
    file = tmp_path / "mine.txt"
    file.write_text("\n\n".join(texts))
    for name in ("prompt", "prefix"):
        sets = {"data__validation": 1, "evaluation__every": 2, "evaluation__general": str(file)}
        done = trained(complete(name, "sft", place, training__max_steps=2, **sets), tmp_path / name)
        model = done.trainer.model.eval()
        tokenizer = AutoTokenizer.from_pretrained(place / "model")
        assert points(done)[2] == pytest.approx(reference(model, tokenizer, texts, 64), rel=1e-4), name


def test_a_file_of_ones_own(place: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    rows = [{"text": "One."}, {"text": " "}, {"text": "Two, which is longer."}, {"text": "3"}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    sets = {"data__validation": 1, "evaluation__every": 2, "evaluation__general": str(file)}
    done = trained(complete("lora", "sft", place, training__max_steps=2, **sets), tmp_path / "run")
    notes = [e.text for e in done.events() if isinstance(e, Notice)]
    assert "general_loss is of 2 general texts, 25 tokens" in notes, "a single byte predicts nothing"
    assert list(points(done)) == [0, 2]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_it_changes_no_loss_and_no_best_checkpoint(precision: str, place: Path, tmp_path: Path) -> None:
    sets = {"data__validation": 1, "evaluation__every": 2, "method__dropout": 0.2, "training__max_steps": 6,
            "training__precision": precision, "evaluation__early_stopping": 5, "training__group_by_length": False}  # fmt: skip
    both = [
        trained(complete("lora", "sft", place, evaluation__general=on, **sets), tmp_path / str(on))
        for on in (True, False)
    ]
    for name in ("loss", "eval_loss", "grad_norm", "weight_change"):
        assert both[0].series(name) == both[1].series(name), name
    assert (len(points(both[0])), len(points(both[1]))) == (4, 0)


def test_a_resumed_run_does_not_begin_with_it_again(place: Path, tmp_path: Path) -> None:
    sets = {"data__validation": 1, "evaluation__every": 2, "evaluation__general": True, "saving__every": 2}
    spec = complete("lora", "sft", place, training__max_steps=4, **sets)
    calm = trained(spec, tmp_path / "run")
    again = trained(spec, tmp_path / "resumed", str(tmp_path / "run" / "checkpoints" / "checkpoint-2"), attempt=2)
    assert points(again) == {4: points(calm)[4]}


def test_our_own_texts() -> None:
    texts = read_general(True, 100)
    assert len(texts) == 24 == general_size(gpu=True)[0]
    assert len(set(texts)) == 24
    assert all(400 < len(text) < 1000 and text == text.strip() for text in texts)
    assert len(read_general(True, 8)) == 8


def test_they_are_packaged() -> None:
    import tomllib

    root = Path(__file__).parents[2]
    patterns = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["engine"]
    assert any(OWN in (root / "engine").glob(pattern) for pattern in patterns)


class TestWhen:
    """The planner measures it where it costs little, and says what it costs."""

    def chosen(self, rows: int, gpu: bool, tokens: int = 200, **sections: Any) -> tuple[Any, str]:
        made, reasons = filled(spec(**sections), SMOLLM2, rows, gpu, Lengths(rows, (tokens,) * 500, True))
        return made.evaluation.general, next(r.why for r in reasons if r.field == "evaluation.general")

    @pytest.mark.parametrize("gpu", [True, False])
    @pytest.mark.parametrize("objective", ["sft", "text", "dpo", "kto", "orpo", "cpo"])
    def test_on_in_a_run_of_some_length(self, objective: str, gpu: bool) -> None:
        on, why = self.chosen(50_000, gpu, objective=objective)
        assert on is True
        assert f"{general_size(gpu)[0]} texts" in why

    @pytest.mark.parametrize("objective", ["reward", "grpo"])
    def test_off_where_it_says_nothing(self, objective: str) -> None:
        assert self.chosen(50_000, True, objective=objective)[0] is False

    def test_off_where_nothing_is_evaluated_or_it_would_cost(self) -> None:
        assert self.chosen(50_000, True, evaluation={"every": 0}) == (False, "nothing is evaluated")
        assert self.chosen(50_000, True, data={"path": "d", "validation": 0})[0] is False
        on, why = self.chosen(60, False)
        assert on is False
        assert "of so short a run" in why
        assert self.chosen(50_000, True, evaluation={"every": 1})[0] is False, "after every step"
        assert self.chosen(50_000, True, evaluation={"every": 0.5})[0] is True, "twice an epoch"
        assert self.chosen(50_000, True, evaluation={"every": 0.0001})[0] is False

    @pytest.mark.parametrize("gpu", [True, False])
    def test_the_share_is_that_of_the_tokens(self, gpu: bool) -> None:
        """10 steps of 8 rows of 500 tokens, forward and backward, against an evaluation after 5, after 10 and before."""
        training = {"max_steps": 10, "micro_batch": 8, "accumulation": 1, "packing": False, "max_length": 1024}
        texts, tokens = general_size(gpu)
        share = 3 * texts * (512 if gpu else tokens) / (2 * 10 * 8 * 500)
        on, why = self.chosen(1000, gpu, 500, training=training, evaluation={"every": 5})
        assert on is (share <= 0.02)
        assert f"{100 * share:.0f} %" in why or f"{100 * share:.1f} %" in why

    def test_what_was_said_stays(self) -> None:
        for said in (True, False, "mine.txt"):
            made, reasons = filled(spec(evaluation={"general": said}), SMOLLM2, 50, False)
            assert made.evaluation.general == said
            assert "evaluation.general" not in [r.field for r in reasons]


class TestRefused:
    def test_no_such_file_and_no_text(
        self, tiny_model: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "empty.jsonl").write_text('{"text": " "}\n')
        (tmp_path / "mine.txt").write_text("A text.\n")
        raw = {"model": {"path": str(tiny_model)}, "data": {"path": str(rows)}, "compute": {"devices": "cpu"}}
        for file, says in (("absent.txt", "absent.txt"), ("empty.jsonl", "holds no text")):
            with pytest.raises(DataError) as raised:
                prepare(parse(apply_sets(raw, [f"evaluation.general={tmp_path / file}"])))
            assert says in raised.value.message
        monkeypatch.chdir(tmp_path)
        made = prepare(parse(apply_sets(raw, ["evaluation.general=mine.txt"]))).spec
        assert made.evaluation.general == str(tmp_path / "mine.txt"), "the worker runs elsewhere"

    def test_a_single_token_predicts_nothing(self) -> None:
        from engine.worker.general import token_rows

        def tokenizer(text: str) -> dict[str, list[int]]:
            return {"input_ids": [ord(letter) for letter in text]}

        assert token_rows(tokenizer, ["abc", "a", "ab"], 2) == [[97, 98], [97, 98]]
        with pytest.raises(DataError) as raised:
            token_rows(tokenizer, ["a", "b"], 2)
        assert raised.value.message == "No text has two tokens."

    def test_a_reward_model_reads_no_text(self) -> None:
        with pytest.raises(SpecError, match="no loss on text"):
            check_runnable(spec(objective="reward", evaluation={"general": True}))

    @pytest.mark.parametrize("given", [3.5, [], {"a": 1}, ""])
    def test_of_the_wrong_kind(self, given: Any) -> None:
        with pytest.raises(SpecError) as raised:
            spec(evaluation={"general": given})
        assert raised.value.message.startswith("evaluation.general is of the wrong kind")
