"""Two processes of one training, over gloo: they train as one, and when one of them dies the run has ended."""

import contextlib
import math
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from engine import launch, runnable
from engine.errors import SpecError
from engine.events import Checkpoint, Finished, Metric, Notice, Stopped
from engine.files import read_records
from engine.hardware import Gpu, Hardware
from engine.launch import prepare
from engine.spec import parse
from tests.helpers import Deck, Run, wait_for

STEPS = 200
ONE = (f"training.max_steps={STEPS}", "training.epochs=20", "saving.every=8", "evaluation.every=0", "evaluation.prompts=[]",
       "data.validation=0", "training.learning_rate=1e-3", "compute.devices=cpu", "method.kind=lora", "method.rank=4",
       "method.dropout=0", "training.accumulation=1", "training.micro_batch=4", "training.nonfinite=skip")  # fmt: skip
TWO = (*ONE, "compute.processes=2", "training.micro_batch=2")
WORKER, AGENT = "engine.worker", "torch.distributed.run"
NAN_ON_ONE_RANK = """
import builtins, os, sys
real = builtins.__import__
def hooked(name, *args, **kwargs):
    module = real(name, *args, **kwargs)
    trainer = getattr(sys.modules.get("trl.trainer.sft_trainer"), "SFTTrainer", None)
    if trainer is not None and not hasattr(trainer, "spoilt"):
        step, trainer.spoilt = trainer.compute_loss, True
        def compute_loss(self, *a, **k):
            loss = step(self, *a, **k)
            last = int(os.environ.get("WORLD_SIZE", 1)) - 1
            return loss * float("nan") if self.state.global_step == 2 and int(os.environ.get("RANK", 0)) == last else loss
        trainer.compute_loss = compute_loss
    return module
builtins.__import__ = hooked
"""


def rank(run: Run, number: int) -> psutil.Process:
    """The process that is this rank."""
    (found,) = [p for p in run.processes(WORKER) if p.environ().get("RANK") == str(number)]
    return found


def agent(run: Run) -> psutil.Process:
    """torchrun, which started the ranks."""
    (found,) = run.processes(AGENT)
    return found


def all_gone(run: Run) -> None:
    wait_for(lambda: not run.processes(WORKER) and not run.processes(AGENT), 30, "the end of every process")


def kill(run: Run, victim: psutil.Process, why: str) -> None:
    """SIGKILL to one process: at once the run has ended, says why, and no process is left."""
    began = time.monotonic()
    victim.kill()
    row = run.wait("crashed", "failed", "oom", seconds=60)
    assert time.monotonic() - began < 30
    assert (row["status"], row["exit_reason"]) == ("crashed", why)
    all_gone(run)


def goes_on(run: Run, steps: int) -> None:
    """Resume, until so many more steps are done."""
    before = run.step()
    assert run.deck("resume", run.id, "--detach").returncode == 0
    wait_for(lambda: run.step() >= before + steps, what="more steps")


@pytest.mark.parametrize(
    ("sections", "installed", "says"),
    [
        ({"compute": {"sharding": "fsdp", "devices": "cpu", "processes": 2}}, True, "FSDP needs GPUs"),
        ({"compute": {"sharding": "zero2", "devices": "cpu"}}, True, "On a CPU"),
        ({"compute": {"sharding": "zero3"}}, False, "pip install deepspeed"),
        ({"compute": {"sharding": "zero3"}}, True, None),
        ({"compute": {"sharding": "zero3"}, "training": {"nonfinite": "skip"}}, True, "cannot skip"),
        ({"compute": {"sharding": "zero3"}, "method": {"kind": "qlora"}}, True, "quantised"),
        ({"compute": {"sharding": "zero2"}, "method": {"kind": "qlora"}}, True, None),
        ({"compute": {"sharding": "layers"}}, True, None),
        ({"compute": {"sharding": "layers", "devices": "cpu"}}, True, "devices is cpu"),
        ({"compute": {"sharding": "layers", "processes": 2}}, True, "processes is 2"),
    ],
)
def test_what_is_shared_how(
    sections: dict[str, Any], installed: bool, says: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runnable.importlib.util, "find_spec", lambda name: installed or None)
    spec = parse({"model": {"path": "/m"}, "data": {"path": "/d"}} | sections)
    with contextlib.nullcontext() if says is None else pytest.raises(SpecError, match=says):
        runnable.check_runnable(spec)


@pytest.mark.parametrize("sharding", ["fsdp", "layers"])
def test_sharding_is_refused_where_no_gpu_is_found(
    sharding: str, tiny_model: Path, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with devices=auto: there the trainer would train on the CPU as if nothing had been asked."""
    monkeypatch.setattr(launch, "probe", lambda: Hardware("h", (), "No NVIDIA driver.", None, "cpu", 2, 8.0))
    raw = {"model": {"path": str(tiny_model)}, "data": {"path": str(rows)}, "compute": {"sharding": sharding}}
    with pytest.raises(SpecError):
        prepare(parse(raw))


def test_one_gpu_has_nothing_to_share(tiny_model: Path, rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = Gpu(0, "GPU-a", "RTX 4090", 24.0)
    monkeypatch.setattr(launch, "probe", lambda: Hardware("h", (card,), None, "1", "cpu", 2, 8.0))
    raw = {"model": {"path": str(tiny_model)}, "data": {"path": str(rows)}, "compute": {"sharding": "fsdp"}}
    with pytest.raises(SpecError, match="one GPU may train"):
        prepare(parse(raw))


def test_layers_on_several_cards_bring_the_loss_home() -> None:
    """The meta device stands for the first card."""
    import torch
    from trl.trainer.utils import FusedCausalLMOutput

    from engine.worker.adapters import _come_home

    class Model(torch.nn.Module):
        def forward(self, ids: torch.Tensor) -> FusedCausalLMOutput:
            return FusedCausalLMOutput(loss=ids.sum(), log_probs=ids)

    model, home = Model(), torch.device("meta")
    _come_home(SimpleNamespace(model=model, accelerator=SimpleNamespace(device=home)))
    made = model(torch.ones(3))
    assert made.loss.device == made.log_probs.device == home


@pytest.mark.parametrize("stage", [2, 3])
def test_deepspeed_fills_its_numbers_from_the_trainer(stage: int) -> None:
    from engine.worker.arguments import deepspeed_config

    config = deepspeed_config(stage)
    assert config["zero_optimization"]["stage"] == stage
    assert config["train_micro_batch_size_per_gpu"] == config["bf16"]["enabled"] == "auto"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_processes_train_as_one_whichever_of_them_is_killed(
    deck: Deck, tiny_model: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed and resumed in several epochs (of 16 steps), and with a step that is NaN on one rank and that both skip."""
    (tmp_path / "sitecustomize.py").write_text(NAN_ON_ONE_RANK)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    alone = deck.start(tiny_model, rows, *ONE)
    run = deck.start(tiny_model, rows, *TWO)
    wait_for(lambda: run.step() >= 20)
    assert len(run.processes(WORKER)) == 2
    kill(run, rank(run, 1), "rank 1 of the worker was killed by SIGKILL")
    goes_on(run, 20)
    agent(run).send_signal(signal.SIGTERM)  # as Slurm does at the end of the allotted time
    assert run.wait("stopped", "crashed")["status"] == "stopped"
    all_gone(run)
    goes_on(run, 20)
    kill(run, rank(run, 0), "rank 0 of the worker was killed by SIGKILL")
    goes_on(run, 20)
    kill(run, agent(run), "the worker was killed by SIGKILL")
    goes_on(run, 0)
    assert run.wait("finished", "crashed", "failed")["status"] == "finished"
    check_one_stream(run)
    alone.wait("finished", seconds=10)
    wanted, losses = alone.losses(), run.losses()
    assert losses.keys() == wanted.keys() == set(range(1, STEPS + 1))
    assert [step for step, loss in losses.items() if not math.isfinite(float(loss))] == [3]
    worst = max(abs(losses[step] - wanted[step]) for step in losses if step != 3)
    assert worst < 0.02, worst  # bfloat16 sums in another order


def check_one_stream(run: Run) -> None:
    """One event file: each step of an attempt once, each checkpoint once, one model."""
    records = list(read_records(run.directory / "events.jsonl"))
    steps = [(r.attempt, r.event.step) for r in records if isinstance(r.event, Metric) and "loss" in r.event.values]
    assert len(steps) == len(set(steps))
    saved = [(r.attempt, r.event.step) for r in records if isinstance(r.event, Checkpoint)]
    assert len(saved) == len(set(saved))
    assert [type(r.event) for r in records if isinstance(r.event, Finished | Stopped)] == [Stopped, Finished]
    assert [r.event.text for r in records if isinstance(r.event, Notice) and "skipped" in r.event.text] == [
        "step 3 skipped: its gradient is not finite"
    ]
    assert (run.directory / "model" / "adapter_model.safetensors").is_file()
    stored, reported = (repr(sorted(found.items())) for found in (run.stored(), run.reported()))
    assert stored == reported  # as texts: nan is not equal to itself
