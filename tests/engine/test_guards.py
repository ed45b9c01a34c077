"""What watches over a training, in real trainings of the tiny model in this process: a process each would cost seconds."""

import json
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.errors import SpaceError, SpecError
from engine.events import Checkpoint, Failed, Finished, Metric, Notice, Phase
from engine.files import read_records
from engine.launch import prepare
from engine.outcome import read_history
from engine.spec import RunSpec, apply_sets, parse

SETS = ("training.max_steps=8", "training.learning_rate=1e-2", "training.micro_batch=4", "training.accumulation=1",
        "evaluation.every=0", "saving.every=0", "evaluation.prompts=[]", "data.validation=8", "compute.devices=cpu",
        "method.kind=lora", "method.rank=4", "method.dropout=0.1")  # fmt: skip


@pytest.fixture(autouse=True)
def _alone_in_the_process() -> Iterator[None]:
    """accelerate keeps its state in the process; and threads that spin cost more than they bring beside other tests."""
    import torch
    from accelerate.state import AcceleratorState

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    AcceleratorState._reset_state(reset_partial_state=True)


class Training:
    """A run directory and trainings in it."""

    def __init__(self, directory: Path, spec: Callable[..., RunSpec]) -> None:
        self.directory, self._spec, self.trainer = directory, spec, SimpleNamespace()
        self._attempt = 0

    def run(self, *sets: str, resume_from: str = "") -> list[Any]:
        """Train in this process; the attempt's events."""
        from engine.worker.reporter import Reporter
        from engine.worker.training import train

        self._attempt += 1
        self.reporter = Reporter(self.directory, self._attempt)
        train(self._spec(*sets), self.reporter, lambda: False, resume_from)
        return self.said()

    def said(self) -> list[Any]:
        records = read_records(self.directory / "events.jsonl")
        return [record.event for record in records if record.attempt == self._attempt]

    def fails(self, error: type[Exception], *sets: str) -> Failed:
        """Train until it fails with that; the failure as the worker would tell it."""
        from engine.worker.__main__ import explain

        with pytest.raises(error) as raised:
            self.run(*sets)
        return explain(raised.value, 1 << 40, self.reporter.doing)

    @property
    def losses(self) -> dict[int, float]:
        return losses(self.said())

    @property
    def announced(self) -> list[int]:
        return [event.step for event in self.said() if isinstance(event, Checkpoint)]

    @property
    def kept(self) -> list[int]:
        return sorted(int(path.name.rpartition("-")[2]) for path in (self.directory / "checkpoints").glob("*-*"))

    @property
    def warnings(self) -> list[str]:
        return [event.text for event in self.said() if isinstance(event, Notice) and event.level == "warning"]


def losses(events: list[Any]) -> dict[int, float]:
    return {e.step: e.values["loss"] for e in events if isinstance(e, Metric) and "loss" in e.values}


@pytest.fixture
def training(tiny_model: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Training]:
    """Makes run directories; every training uses the tiny model and 64 rows, 8 of them held out."""
    monkeypatch.setenv("TUNEDECK_CACHE", str(tmp_path / "cache"))
    count = iter(range(100))

    def spec(*sets: str) -> RunSpec:
        raw = {"model": {"path": str(tiny_model)}, "data": {"path": str(rows)}}
        return prepare(parse(apply_sets(raw, [*SETS, *sets]))).spec

    def made() -> Training:
        directory = tmp_path / f"run{next(count)}"
        directory.mkdir()
        return Training(directory, spec)

    return made


@pytest.fixture
def loss_becomes(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Any, Any], Any]], None]:
    """Replaces each loss by a function of the trainer and the loss."""
    from trl import SFTTrainer

    compute = SFTTrainer.compute_loss

    def install(change: Callable[[Any, Any], Any]) -> None:
        def compute_loss(self: Any, model: Any, inputs: Any, return_outputs: bool = False, **given: Any) -> Any:
            found = compute(self, model, inputs, return_outputs=return_outputs, **given)
            if not model.training:
                return found
            return (change(self, found[0]), found[1]) if return_outputs else change(self, found)

        monkeypatch.setattr(SFTTrainer, "compute_loss", compute_loss)

    return install


def nan_at(*steps: int) -> Callable[[Any, Any], Any]:
    """The loss is NaN in these steps, counted from 1, and so are all gradients."""
    return lambda trainer, loss: loss * math.nan if trainer.state.global_step + 1 in steps else loss


class TestNumbers:
    def test_a_nan_ends_the_run_before_it_reaches_the_weights(self, training: Any, loss_becomes: Any) -> None:
        from engine.worker.guards import NonFiniteLoss

        calm, run = training(), training()
        calm.run("saving.every=2")
        states: list[Any] = []
        loss_becomes(lambda trainer, loss: (states.append(trainer), nan_at(5)(trainer, loss))[1])
        failed = run.fails(NonFiniteLoss, "saving.every=2")
        assert (failed.kind, failed.phase) == ("nonfinite", "train")
        assert "loss is nan and grad_norm is nan at step 5" in failed.message
        assert math.isnan(run.losses[5]), "the step is on record"
        assert run.announced == [2, 4]
        assert all(bool(p.isfinite().all()) for p in states[0].model.parameters())
        loss_becomes(lambda trainer, loss: loss)
        said = run.run("saving.every=2", resume_from=read_history(run.directory).checkpoint)
        assert isinstance(said[-1], Finished)
        assert Phase("resume", "from step 4: the data goes on where it stopped") in said
        assert run.losses == {step: loss for step, loss in calm.losses.items() if step > 4}, "the same to the last bit"

    def test_a_gradient_that_is_not_finite_under_a_finite_loss(self, training: Any, loss_becomes: Any) -> None:
        from engine.worker.guards import NonFiniteLoss

        def infinite_gradient(trainer: Any, loss: Any) -> Any:
            weight = next(p for p in trainer.model.parameters() if p.requires_grad)
            return loss + (weight * 0).sum().abs().sqrt() if trainer.state.global_step == 2 else loss

        loss_becomes(infinite_gradient)
        run = training()
        failed = run.fails(NonFiniteLoss)
        assert "grad_norm is nan at step 3" in failed.message
        assert math.isfinite(run.losses[3])

    def test_skip_leaves_the_weights_alone_and_goes_on(self, training: Any, loss_becomes: Any) -> None:
        seen: dict[int, list[Any]] = {}

        def watched(trainer: Any, loss: Any) -> Any:
            kept = [p.detach().clone() for p in trainer.model.parameters() if p.requires_grad]
            moments = [s["exp_avg"].clone() for s in trainer.optimizer.state.values()]
            seen[trainer.state.global_step + 1] = [*kept, *moments]
            return nan_at(3, 5)(trainer, loss)

        loss_becomes(watched)
        run = training()
        assert isinstance(run.run("training.nonfinite=skip")[-1], Finished)
        assert [step for step, loss in run.losses.items() if math.isnan(loss)] == [3, 5]
        assert run.warnings == [f"step {step} skipped: its gradient is not finite" for step in (3, 5)]
        same = {step: all(a.equal(b) for a, b in zip(seen[step], seen[step + 1], strict=True)) for step in range(2, 8)}
        assert same == {2: False, 3: True, 4: False, 5: True, 6: False, 7: False}

    def test_adalora_takes_no_rank_away_in_a_step_that_is_skipped(self, training: Any, loss_becomes: Any) -> None:
        loss_becomes(nan_at(3))
        run = training()
        assert isinstance(run.run("training.nonfinite=skip", "method.kind=adalora")[-1], Finished)
        assert [step for step, loss in run.losses.items() if math.isnan(loss)] == [3]

    def test_skip_gives_up(self, training: Any, loss_becomes: Any) -> None:
        from engine.worker.guards import NonFiniteLoss

        loss_becomes(nan_at(*range(3, 20)))
        run = training()
        failed = run.fails(NonFiniteLoss, "training.nonfinite=skip", "training.max_steps=20")
        assert "at step 12, 10 steps in a row" in failed.message
        assert max(run.losses) == 12

    def test_a_spike_is_told_once(self, training: Any, loss_becomes: Any) -> None:
        loss_becomes(lambda trainer, loss: loss * (10 if trainer.state.global_step + 1 in (24, 25) else 1))
        run = training()
        run.run("training.max_steps=26", "training.learning_rate=1e-4")
        (warning,) = run.warnings
        assert "jumped" in warning
        assert "at step 24" in warning


class TestEvaluation:
    def test_early_stopping_says_why_and_keeps_the_best(self, training: Any) -> None:
        run = training()
        said = run.run("evaluation.every=2", "saving.every=100", "saving.keep=1", "evaluation.early_stopping=2",
                       "training.max_steps=60", "training.learning_rate=0.3")  # fmt: skip
        scores = {e.step: e.values["eval_loss"] for e in said if isinstance(e, Metric) and "eval_loss" in e.values}
        best, last = min(scores, key=lambda step: scores[step]), max(scores)
        assert last == best + 4, "two evaluations without a better one"
        assert last < 60
        assert isinstance(said[-1], Finished)
        (why,) = [e.text for e in said if isinstance(e, Notice) and "stopped early" in e.text]
        assert f"stopped early at step {last}" in why
        assert f"{scores[best]:.4g} at step {best}" in why
        assert best in run.kept, "whatever saving.every says"
        assert any(f"the model of step {best} is saved" in e.text for e in said if isinstance(e, Notice))
        saved, kept = (sorted(folder.glob("*.safetensors")) for folder in (
            run.directory / "model", run.directory / "checkpoints" / f"checkpoint-{best}"))  # fmt: skip
        assert [f.read_bytes() for f in saved] == [f.read_bytes() for f in kept]

    def test_a_checkpoint_asked_for_is_saved_and_the_run_goes_on(self, training: Any) -> None:
        run = training()
        (run.directory / "CHECKPOINT").touch()
        assert isinstance(run.run()[-1], Finished)
        assert run.announced == [1]
        assert not (run.directory / "CHECKPOINT").exists()
        assert max(run.losses) == 8


class TestResume:
    def test_rows_grouped_by_length_go_on_in_a_later_epoch(
        self, training: Any, rows: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Seven steps an epoch: step 10 is in the second one."""
        lines = [{"instruction": f"Say {i}", "output": "word " * (1 + i * 7 % 40)} for i in range(64)]
        rows.write_text("".join(json.dumps(line) + "\n" for line in lines))
        grouped = ("training.group_by_length=true", "training.micro_batch=8", "training.max_steps=16",
                   "saving.every=10")  # fmt: skip
        calm = training()
        calm.run(*grouped)
        again = training()
        again.run(*grouped, resume_from=str(calm.directory / "checkpoints" / "checkpoint-10"))
        assert again.losses == {step: loss for step, loss in calm.losses.items() if step > 10}

    @pytest.mark.parametrize("processes", [1, 2])
    def test_the_order_of_a_later_epoch_in_each_process(self, processes: int) -> None:
        import torch
        from accelerate import Accelerator
        from accelerate.data_loader import (
            BatchSamplerShard,
            DataLoaderShard,
            SeedableRandomSampler,
            skip_first_batches,
        )

        from engine.worker.guards import DataOrder

        Accelerator(cpu=True)
        data = list(range(12))

        def loader() -> Any:
            sampler = SeedableRandomSampler(data, generator=torch.Generator(), data_seed=42)
            batches = torch.utils.data.BatchSampler(sampler, 2, drop_last=False)
            return DataLoaderShard(
                data, batch_sampler=BatchSamplerShard(batches, processes, 0) if processes > 1 else batches
            )

        def batches(made: Any) -> list[Any]:
            return [batch.tolist() for batch in made]

        uninterrupted, resumed = loader(), loader()
        uninterrupted.set_epoch(3)
        whole = batches(uninterrupted)
        DataOrder().on_epoch_begin(SimpleNamespace(), SimpleNamespace(epoch=3.2), None, train_dataloader=resumed)
        rest = skip_first_batches(resumed, 1)
        rest.set_epoch(3)
        assert batches(rest) == whole[1:]


def out_of_memory(*_: Any, **__: Any) -> Any:
    import torch

    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


class TestMemory:
    @pytest.mark.parametrize(
        ("place", "phase", "words", "retried"),
        [
            ("engine.worker.training.load_model", "load", "while loading the model", False),
            ("trl.SFTTrainer.training_step", "train", "while training", True),
            ("trl.SFTTrainer.prediction_step", "evaluate", "while evaluating", True),
            ("trl.SFTTrainer._save_optimizer_and_scheduler", "save", "while saving", False),
        ],
    )
    def test_it_is_told_where_cuda_ran_out_of_it(
        self, place: str, phase: str, words: str, retried: bool, training: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import torch

        import engine.worker.training  # noqa: F401  before something in it is replaced

        monkeypatch.setattr(place, out_of_memory)
        run = training()
        failed = run.fails(torch.OutOfMemoryError, "evaluation.every=2", "saving.every=2", "training.max_steps=2")
        assert (failed.kind, failed.device, failed.phase) == ("oom", "gpu", phase)
        assert f"CUDA ran out of memory {words}. OutOfMemoryError" in failed.message
        run.reporter.say_last(failed)
        assert read_history(run.directory).smaller_may_fit is retried

    def test_whose_memory_it_was(self) -> None:
        from engine.worker.__main__ import explain

        assert explain(MemoryError(), 1 << 40, "train").device == "host"
        full = explain(RuntimeError("CUDA error: out of memory\nCompile with"), 1 << 40, "train")
        assert (full.kind, full.device) == ("oom", "gpu")
        assert explain(RuntimeError("shapes differ"), 1 << 40, "train") == Failed(
            "other", "RuntimeError: shapes differ", "The whole traceback is in output.log: tunedeck logs", "train"
        )


class TestRoom:
    def test_without_room_nothing_is_written_and_the_last_checkpoint_stays(
        self, training: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = training()
        usage = shutil.disk_usage

        def filling_up(path: Any) -> Any:
            small = (Path(run.directory) / "checkpoints" / "checkpoint-2").exists()
            return usage(path)._replace(free=1 << 20) if small else usage(path)

        monkeypatch.setattr(shutil, "disk_usage", filling_up)
        failed = run.fails(SpaceError, "saving.every=2")
        assert (failed.kind, failed.phase) == ("disk", "save")
        assert "At step 4 it needs" in failed.message
        assert "tunedeck resume" in failed.hint
        assert run.kept == [2]
        assert read_history(run.directory).checkpoint.endswith("checkpoint-2")

    @pytest.mark.parametrize("kind", ["lora", "full"])
    def test_the_first_one_is_estimated(self, kind: str, training: Any, loss_becomes: Any) -> None:
        from engine.worker.guards import FIRST, checkpoint_bytes

        trainers: list[Any] = []
        loss_becomes(lambda trainer, loss: (trainers.append(trainer), loss)[1])
        run = training()
        rank = () if kind == "lora" else ("method.rank=null", "method.dropout=null")
        said = run.run(f"method.kind={kind}", "training.max_steps=1", "saving.every=1", *rank)
        (saved,) = [event.bytes for event in said if isinstance(event, Checkpoint)]
        estimated = checkpoint_bytes(trainers[0].model, trainers[0].optimizer) - FIRST
        assert 0.5 * saved < estimated < saved + (1 << 20)


def test_fsdp_is_checked_and_its_gradients_are() -> None:
    """Sharded over one process, on the CPU, with torch's own FSDP2: the trainer there would not."""
    import torch
    from torch.distributed.fsdp import fully_shard

    from engine.worker.guards import FsdpCheck, NonFinite

    model = torch.nn.Linear(4, 4)
    with pytest.raises(SpecError, match="did not shard"):
        FsdpCheck().on_train_begin(None, None, None, model=model)
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        mesh = torch.distributed.init_device_mesh("cpu", (1,))
        FsdpCheck().on_train_begin(None, None, None, model=fully_shard(model, mesh=mesh))
        said: list[Notice] = []
        guard = NonFinite(SimpleNamespace(say=said.append), None, "skip")
        for number, skipped in ((1.0, False), (math.nan, True)):
            model.zero_grad()
            model(torch.full((2, 4), number)).sum().backward()
            guard.on_pre_optimizer_step(None, SimpleNamespace(global_step=6), None, model=model)
            assert [p.grad is None for p in model.parameters()] == [skipped, skipped]
        assert [notice.text for notice in said] == ["step 7 skipped: its gradient is not finite"]
    finally:
        torch.distributed.destroy_process_group()
