"""What is measured for the health of a run, in real trainings of the tiny model: each figure against another way to get it."""

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.events import Metric
from tests.runs import complete, tiny
from tests.train import Trained, complete_spec, trained


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory.mktemp("place"))


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEDECK_CACHE", str(tmp_path / "cache"))


class Clock:
    """The time of the worker's two stop-watches, which passes only where a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def perf_counter(self) -> float:
        return self.now

    def strftime(self, _: str) -> str:
        return ""


@pytest.mark.parametrize(("loading", "accumulation"), [(3.0, 1), (0.0, 1), (1.0, 4)])
def test_the_share_of_the_time_that_the_loop_waits_for_data(
    loading: float, accumulation: int, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch takes so many seconds to load and one to train, an evaluation takes a hundred; accelerate loads one ahead."""
    from trl import SFTTrainer
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    from engine.worker import callback, watch

    clock = Clock()
    monkeypatch.setattr(callback, "time", clock)
    monkeypatch.setattr(watch, "time", clock)

    def takes(cls: Any, name: str, seconds: float) -> None:
        real = getattr(cls, name)

        def slow(*given: Any, **named: Any) -> Any:
            clock.now += seconds
            return real(*given, **named)

        monkeypatch.setattr(cls, name, slow)

    takes(SFTTrainer, "training_step", 1.0)
    takes(SFTTrainer, "prediction_step", 100.0)
    takes(DataCollatorForLanguageModeling, "torch_call", loading)
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps({"text": f"Row {i}."}) + "\n" for i in range(32)))
    spec = complete_spec(place / "model", data, training__max_steps=6, training__micro_batch=1, evaluation__every=2,
                         training__accumulation=accumulation, data__validation=1, training__group_by_length=False,
                         method__kind="lora", training__packing=False)  # fmt: skip
    first, *others = trained(spec, tmp_path / "run").series("data_wait")
    assert first == (accumulation + 1) * loading / ((accumulation + 1) * loading + accumulation)
    assert others == [loading / (loading + 1)] * 5


@pytest.mark.parametrize(("column", "batch"), [("text", 4), ("dpo", 2), ("orpo", 2), ("kto", 4), ("reward", 2)])
def test_padding_is_what_the_lengths_of_the_rows_make_it(column: str, batch: int, place: Path, tmp_path: Path) -> None:
    texts = ["a" * n for n in (3, 11, 20, 30)]
    answers = [
        {"prompt": "Say", "chosen": short, "rejected": long} for short, long in zip(texts[:2], texts[2:], strict=True)
    ]
    labelled = [{"prompt": "Say", "completion": text, "label": i % 2 == 0} for i, text in enumerate(texts)]
    rows: list[Any] = {"text": [{"text": text} for text in texts], "kto": labelled}.get(column, answers)
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    sets = {"training__max_steps": 2, "training__micro_batch": batch, "training__accumulation": 1,
            "training__precision": "fp32", "training__packing": False, "method__kind": "lora"}  # fmt: skip
    done = trained(complete_spec(place / "model", data, objective=column, **sets), tmp_path / "run")
    lengths = _lengths(done, column)
    padded = sum(max(group) * len(group) for group in lengths)
    expected = 1 - sum(map(sum, lengths)) / padded
    assert done.series("padding") == [pytest.approx(expected, abs=1e-9)] * 2
    assert 0.1 < expected < 0.8


def _lengths(done: Trained, column: str) -> list[list[int]]:
    """The lengths of what is padded to the same length, in the one batch that holds all rows."""
    rows = [dict(row) for row in done.trainer.train_dataset]
    if column == "text":
        return [[len(row["input_ids"]) for row in rows]]
    if column == "kto":
        kinds = ("completion_ids", "KL_completion_ids")
        return [[len(row["prompt_ids"]) + len(row[kind]) for row in rows] for kind in kinds]
    if column == "orpo":
        return [[len(row[f"{kind}_input_ids"]) for row in rows] for kind in ("chosen", "rejected")]
    prompt = len(rows[0].get("prompt_ids", ()))
    return [[prompt + len(row[kind]) for kind in ("chosen_ids", "rejected_ids") for row in rows]]


def test_padding_of_packed_rows_and_of_prompts_is_not_known(place: Path, tmp_path: Path) -> None:
    for column in ("packing", "grpo"):
        done = trained(complete("lora", column, place, training__max_steps=2), tmp_path / column)
        assert done.series("padding") == []
        assert len(done.series("data_wait")) == 2


@pytest.mark.parametrize(
    ("name", "column"), [("lora", "sft"), ("full", "sft"), ("lora", "nf4"), ("adalora", "sft"), ("lora", "dpo")]
)
def test_the_weights_move_as_far_as_the_saved_ones_say(name: str, column: str, place: Path, tmp_path: Path) -> None:
    """Against the weights themselves, all of them, at the first and at the last step."""
    import torch

    from engine.worker import watch

    weights: list[Any] = []
    real = watch.sampled

    def seen(model: Any) -> Any:
        weights.append({n: p.detach().clone().float() for n, p in model.named_parameters() if p.requires_grad})
        return real(model)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watch, "sampled", seen)
        done = trained(complete(name, column, place, training__max_steps=6), tmp_path / "run")
    moved = done.series("weight_change")
    assert len(moved) == 6
    assert moved[0] < moved[2] < moved[5]
    for step in (1, 6):
        then = [torch.cat([p.flatten() for p in weights[i].values()]) for i in (0, step)]
        exact = float((then[1] - then[0]).norm() / then[0].norm())
        assert moved[step - 1] == pytest.approx(exact, rel=0.1 if name == "full" else 1e-4)


def test_weights_that_are_not_trained_do_not_move(place: Path, tmp_path: Path) -> None:
    for name in ("lora", "shira"):
        spec = complete(name, "sft", place, training__max_steps=3, extra__trainer={"learning_rate": 0.0})
        assert trained(spec, tmp_path / name).series("weight_change") == [0.0] * 3
    moved = trained(complete("shira", "sft", place, training__max_steps=2), tmp_path / "moves").series("weight_change")
    assert moved == [1.0, 1.0], "they begin at zero: relative to what they are"


def test_a_resumed_run_is_compared_with_its_true_beginning(place: Path, tmp_path: Path) -> None:
    spec = complete("lora", "sft", place, training__max_steps=6, saving__every=3)
    calm = trained(spec, tmp_path / "run")
    again = trained(spec, tmp_path / "run", str(tmp_path / "run" / "checkpoints" / "checkpoint-3"), attempt=2)
    both = again.series("weight_change")
    assert both[:6] == calm.series("weight_change")[:6]
    assert both[6:] == both[3:6], "the same to the last bit"
    (tmp_path / "run" / "beginning.pt").unlink()
    third = trained(spec, tmp_path / "run", str(tmp_path / "run" / "checkpoints" / "checkpoint-3"), attempt=3)
    assert third.series("weight_change") == both, "not known, and nothing is said"


def test_the_weights_are_looked_at_less_often_later(place: Path, tmp_path: Path) -> None:
    done = trained(complete("lora", "sft", place, training__max_steps=32), tmp_path / "run")
    looked = [e.step for e in done.events() if isinstance(e, Metric) and "weight_change" in e.values]
    assert looked == [*range(1, 11), 20, 30]
    assert len(done.series("data_wait")) == len(done.series("padding")) == 32


def test_watching_changes_no_loss(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.worker import training

    spec = complete("lora", "sft", place, method__dropout=0.2, training__max_steps=6)
    watched = trained(spec, tmp_path / "watched")
    monkeypatch.setattr(training, "Watch", lambda *_: None)
    alone = trained(spec, tmp_path / "alone")
    assert alone.series("weight_change") == []
    assert watched.series("loss") == alone.series("loss")


def test_a_trainer_that_fetches_in_another_way_has_nothing_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.worker.watch import Watch

    trainer = SimpleNamespace(get_batch_samples=lambda *_: None)
    watch = Watch(trainer, SimpleNamespace(run_dir=Path("absent"), rank=0))  # type: ignore[arg-type]
    assert watch.values(None, 1, 1.0) == {}


def test_an_end_of_the_data_stays_one() -> None:
    from engine.worker.watch import Watch

    trainer = SimpleNamespace(get_batch_samples=lambda batches, count: [next(batches) for _ in range(count)])
    Watch(trainer, SimpleNamespace(run_dir=Path("absent"), rank=0))  # type: ignore[arg-type]
    batches = iter(["one", "two"])
    assert trainer.get_batch_samples(batches, 2) == ["one", "two"]
    with pytest.raises(StopIteration):
        trainer.get_batch_samples(batches, 1)


class TestSample:
    @pytest.mark.parametrize("shape", [(4096, 4096), (16, 4096), (64, 8), (1,), (32000, 576)])
    def test_large_tensors_are_thinned_in_all_columns(self, shape: tuple[int, ...]) -> None:
        import torch

        from engine.worker.watch import sampled

        count = math.prod(shape)
        model = torch.nn.ParameterList([torch.arange(count, dtype=torch.float32).view(shape)])
        sample = sampled(model)
        assert sample is not None
        ((_, taken, every),) = sample.layout
        assert taken == len(sample.values)
        assert min(1000, count) / 2 <= taken <= 2000
        assert every % 2 == 1
        if taken >= 2 * shape[-1]:
            assert len({int(one) % shape[-1] for one in sample.values}) == shape[-1]

    def test_it_stands_for_the_whole(self) -> None:
        import torch

        from engine.worker.watch import _scale, relative_change, sampled

        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(512, 512), torch.nn.LayerNorm(512))
        before = sampled(model)
        exact = torch.cat([p.detach().flatten() for p in model.parameters()])
        with torch.no_grad():
            for p in model.parameters():
                p += 0.01 * torch.randn_like(p)
        after = sampled(model)
        change = torch.cat([p.detach().flatten() for p in model.parameters()]) - exact
        assert before is not None
        assert after is not None
        found = relative_change(before.values, after.values, _scale(after.layout))
        assert found == pytest.approx(float(change.norm() / exact.norm()), rel=0.05)

    def test_many_tensors_share_a_limit(self) -> None:
        import torch

        from engine.worker.watch import ALL, sampled

        sample = sampled(torch.nn.ModuleList([torch.nn.Linear(64, 64, bias=False) for _ in range(2000)]))
        assert sample is not None
        assert 0.5 * ALL < len(sample.values) <= ALL

    def test_only_what_is_trained(self) -> None:
        import torch

        from engine.worker.watch import sampled

        model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
        model[0].requires_grad_(False)
        model[2].to(torch.bfloat16)
        sample = sampled(model)
        assert sample is not None
        assert {name for name, _, _ in sample.layout} == {"1.weight", "1.bias", "2.weight", "2.bias"}
        named = dict(model.named_parameters())
        assert sample.values.equal(torch.cat([named[name].detach().flatten().float() for name, _, _ in sample.layout]))
        assert sampled(model.requires_grad_(False)) is None

    def test_a_shard_is_not_taken_for_the_whole(self) -> None:
        import torch
        from torch.distributed.fsdp import fully_shard

        from engine.worker.watch import sampled

        torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
        try:
            mesh = torch.distributed.init_device_mesh("cpu", (1,))
            assert sampled(fully_shard(torch.nn.Linear(4, 4), mesh=mesh)) is None
        finally:
            torch.distributed.destroy_process_group()
        zero3 = torch.nn.Linear(4, 4)
        zero3.weight.ds_id = 0  # as DeepSpeed marks what it has taken apart
        assert sampled(zero3) is None

    @pytest.mark.parametrize(("first", "now", "expected"), [
        ([3.0, 4.0], [3.0, 4.0], 0.0),
        ([3.0, 4.0], [3.0, 5.0], 0.2),
        ([3.0, 4.0, 0.0], [3.0, 4.0, 5.0], 1.0),
        ([0.0], [0.0], 0.0),
        ([0.0], [1e-9], 1.0),
        ([1.0], [math.nan], math.nan),
    ])  # fmt: skip
    def test_relative_change(self, first: list[float], now: list[float], expected: float) -> None:
        import torch

        from engine.worker.watch import relative_change

        found = relative_change(torch.tensor(first), torch.tensor(now), torch.ones(len(first)))
        assert found == pytest.approx(expected, nan_ok=True)

    @pytest.mark.parametrize("content", [b"", b"no sample", "half"])
    def test_a_beginning_that_cannot_be_read_is_none(self, content: bytes | str, tmp_path: Path) -> None:
        import torch

        from engine.worker.watch import BEGINNING, _Weights

        model, reporter = torch.nn.Linear(2, 2), SimpleNamespace(run_dir=tmp_path, rank=0)
        first = _Weights(reporter)  # type: ignore[arg-type]
        first.begin(model, 0)
        assert first.values(model, 1) == {"weight_change": 0.0}
        whole = (tmp_path / BEGINNING).read_bytes()
        (tmp_path / BEGINNING).write_bytes(whole[: len(whole) // 2] if isinstance(content, str) else content)
        again = _Weights(reporter)  # type: ignore[arg-type]
        again.begin(model, 3)
        assert again.values(model, 4) == {}
