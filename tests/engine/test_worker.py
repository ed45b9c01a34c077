"""Real workers on a tiny model: what they report, how they end, and that they obey."""

import contextlib
import json
import signal
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import pytest

from engine.events import Checkpoint, Failed, Finished, Memory, Metric, Phase, Sample, Started, Stopped
from engine.files import read_records
from tests.helpers import Deck, Run, kill_everything, wait_for

SHORT = ("training.max_steps=6", "training.learning_rate=1e-2", "evaluation.every=3", "saving.every=2", "data.validation=8",
         "evaluation.prompts=[Say 3]", "compute.devices=cpu")  # fmt: skip
LONG = (
    "training.max_steps=2000",
    "saving.every=500",
    "evaluation.every=0",
    "evaluation.prompts=[]",
    "compute.devices=cpu",
)


def events(run: Run) -> list[Any]:
    return [r.event for r in read_records(run.directory / "events.jsonl")]


@pytest.mark.parametrize("sets", [
    ("method.kind=lora", "method.rank=4"),
    ("method.kind=lora", "method.variant=dora", "training.packing=true"),
    ("method.kind=qlora", "method.targets=attention"),
    ("method.kind=full", "training.precision=bf16", "training.checkpointing=true"),
], ids=["lora", "dora-packed", "qlora", "full"])  # fmt: skip
def test_a_run_from_start_to_end(deck: Deck, tiny_model: Path, rows: Path, sets: tuple[str, ...]) -> None:
    run = deck.start(tiny_model, rows, *SHORT, *sets)
    row = run.wait("finished", "failed", "crashed")
    assert (row["status"], row["exit_code"]) == ("finished", 0), (run.directory / "output.log").read_text()
    said = events(run)
    assert isinstance(said[0], Started)
    assert isinstance(said[-1], Finished)
    assert [e.name for e in said if isinstance(e, Phase)][:3] == ["import", "tokenize", "load"]
    losses = [e.values["loss"] for e in said if isinstance(e, Metric) and "loss" in e.values]
    assert len(losses) == 6
    assert losses[-1] < losses[0]
    assert {e.step for e in said if isinstance(e, Metric) and "eval_loss" in e.values} == {3, 6}
    assert [e.step for e in said if isinstance(e, Checkpoint)] == [2, 4, 6]
    assert {e.step for e in said if isinstance(e, Sample)} == {0, 3, 6}
    assert all(0 < e.allocated_gib < e.total_gib for e in said if isinstance(e, Memory))
    kept = sorted(p.name for p in (run.directory / "checkpoints").iterdir())
    assert set(kept) >= {"checkpoint-4", "checkpoint-6"}
    assert "checkpoint-2" not in kept
    names = {p.name for p in (run.directory / "model").iterdir()}
    assert "tokenizer.json" in names
    assert ("model.safetensors" if "method.kind=full" in sets else "adapter_model.safetensors") in names


def test_the_database_holds_what_the_worker_said(deck: Deck, tiny_model: Path, rows: Path) -> None:
    done = deck.json("train", "--model", str(tiny_model), "--data", str(rows), *sets(SHORT))
    run = Run(deck, done["id"])
    assert done["status"] == "finished"
    assert run.stored() == run.reported()
    (listed,) = deck.json("runs")
    assert {"loss", "eval_loss", "tokens_per_second", "memory_allocated_gib", "grad_norm"} <= listed["latest"].keys()
    assert listed["latest"]["loss"]["step"] == 6
    shown = run.shown()
    assert shown["environment"]["versions"]["torch"].startswith("2.")
    assert [c["step"] for c in shown["checkpoints"]] == [2, 4, 6]
    assert shown["artifacts"][0]["bytes"] > 0
    assert all((p.stat().st_mode & 0o077) == 0 for p in run.directory.rglob("*"))


def sets(items: tuple[str, ...]) -> list[str]:
    return [part for item in items for part in ("--set", item)]


def test_stop_saves_and_resume_goes_on_as_the_same_run(deck: Deck, tiny_model: Path, rows: Path) -> None:
    run = deck.start(tiny_model, rows, *LONG)
    wait_for(lambda: run.step() >= 5)
    assert deck.json("checkpoint", run.id)["asked"] == "checkpoint"
    saved = wait_for(lambda: [e.step for e in events(run) if isinstance(e, Checkpoint)], what="a checkpoint in between")
    wait_for(lambda: run.step() > saved[0], what="the run going on")
    deck.json("stop", run.id)
    assert run.wait("stopped")["exit_code"] == 0
    stopped = events(run)[-1]
    assert isinstance(stopped, Stopped)
    assert Path(stopped.checkpoint).name == f"checkpoint-{stopped.step}"
    deck("resume", run.id, "--detach")
    wait_for(lambda: run.step() > stopped.step)
    assert [r["id"] for r in deck.json("runs")] == [run.id]
    first = min(
        r.event.step
        for r in read_records(run.directory / "events.jsonl")
        if r.attempt == 2 and isinstance(r.event, Metric)
    )
    assert first == stopped.step + 1
    deck.json("stop", run.id, "--now")
    assert "on request" in run.wait("stopped")["exit_reason"]
    assert not run.processes("engine.worker")
    too_late = deck("checkpoint", run.id)
    assert too_late.returncode == 1
    assert "is not running" in too_late.stderr


def test_sigterm_to_all_processes_saves_and_stops(deck: Deck, tiny_model: Path, rows: Path) -> None:
    """As Slurm does at the end of the allotted time, and systemd when the machine goes down."""
    run = deck.start(tiny_model, rows, *LONG)
    wait_for(lambda: run.step() >= 3)
    for process in run.processes("engine.supervisor") + run.processes("engine.worker"):
        process.send_signal(signal.SIGTERM)
    wait_for(lambda: not run.processes("engine.worker"), what="the end of the worker")
    assert not run.processes("engine.supervisor"), "nobody is left to watch"
    assert run.shown()["status"] == "stopped"
    stopped = events(run)[-1]
    assert isinstance(stopped, Stopped)
    assert Path(stopped.checkpoint).is_dir()
    assert run.stored() == run.reported()


def test_a_stop_while_it_loads(deck: Deck, tiny_model: Path, rows: Path) -> None:
    run = deck.start(tiny_model, rows, *LONG)
    deck.json("stop", run.id)
    run.wait("stopped")
    assert events(run)[-1] == Stopped(0)


@pytest.mark.parametrize(("items", "kind", "says"), [
    (("extra.trainer={learning_rat: 1}",), "config", "learning_rat"),
    (("extra.peft={lora_alfa: 1}",), "config", "lora_alpha"),
])  # fmt: skip
def test_a_failure_is_the_last_event_and_comes_before_loading(
    deck: Deck, tiny_model: Path, rows: Path, items: tuple[str, ...], kind: str, says: str
) -> None:
    result = deck("train", "--model", str(tiny_model), "--data", str(rows), *sets((*SHORT, *items)))
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    (listed,) = deck.json("runs")
    run = Run(deck, listed["id"])
    assert (listed["status"], listed["exit_code"]) == ("failed", 1)
    failed = events(run)[-1]
    assert isinstance(failed, Failed)
    assert failed.kind == kind
    assert says in failed.message + failed.hint
    assert "load" not in [e.name for e in events(run) if isinstance(e, Phase)]


def test_long_rows_are_dropped_with_a_word_never_cut_in_silence(deck: Deck, tiny_model: Path, tmp_path: Path) -> None:
    data = tmp_path / "long.jsonl"
    lines = [{"instruction": "a", "output": "b" * (400 if i % 4 == 0 else 10)} for i in range(32)]
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = deck.start(tiny_model, data, *SHORT, "training.max_length=128", "data.validation=0")
    run.wait("finished")
    notices = [e.text for e in events(run) if getattr(e, "level", "") == "warning"]
    assert any("8 rows: longer than 128 tokens (lines 1, 5, 9" in text for text in notices), notices


def test_out_of_memory_halves_the_micro_batch_and_keeps_the_effective_one(
    deck: Deck, tiny_model: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real exception, raised by a real worker at its sixth step, whenever the micro-batch is 4."""
    (tmp_path / "sitecustomize.py").write_text(OUT_OF_MEMORY)
    sets = (*SHORT, "training.max_steps=8", "training.micro_batch=4", "training.accumulation=3", "method.dropout=0")
    reference = deck.start(tiny_model, rows, *sets)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    run = deck.start(tiny_model, rows, *sets)
    assert run.wait("finished", "oom", "failed")["status"] == "finished"
    reference.wait("finished")
    shown = run.shown()
    attempts = [e["data"] for e in shown["events"] if e["type"] == "attempt"]
    assert [a["overrides"] for a in attempts] == [{}, {"training.micro_batch": 2, "training.accumulation": 6}]
    assert attempts[1]["resume_from"].endswith("checkpoint-4"), "not from the beginning"
    (failed,) = [e["data"] for e in shown["events"] if e["type"] == "failed"]
    assert (failed["kind"], failed["phase"]) == ("oom", "train")
    assert any("again with micro-batch 2 x 6" in e["text"] for e in shown["events"])
    said = [r for r in read_records(run.directory / "events.jsonl") if isinstance(r.event, Started | Finished)]
    batches = [r.event.spec["training"] for r in said if isinstance(r.event, Started)]
    assert [b["micro_batch"] * b["accumulation"] for b in batches] == [12, 12]
    assert [r.event.step for r in said if isinstance(r.event, Finished)] == [8]
    before, after = reference.losses(), run.losses()
    assert after.keys() == before.keys() == set(range(1, 9))
    assert max(abs(after[s] - before[s]) for s in before) < 0.02  # bfloat16 sums in another order


OUT_OF_MEMORY = """
import builtins, sys
real = builtins.__import__
def hooked(name, *args, **kwargs):
    module = real(name, *args, **kwargs)
    trainer = getattr(sys.modules.get("trl.trainer.sft_trainer"), "SFTTrainer", None)
    if trainer is not None and not hasattr(trainer, "out_of_memory"):
        step, trainer.out_of_memory = trainer.training_step, True
        def training_step(self, *a, **k):
            import torch
            if self.state.global_step == 5 and self.args.per_device_train_batch_size == 4:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return step(self, *a, **k)
        trainer.training_step = training_step
    return module
builtins.__import__ = hooked
"""


def test_a_locked_database_delays_the_record_and_loses_nothing(deck: Deck, tiny_model: Path, rows: Path) -> None:
    run = deck.start(tiny_model, rows, *LONG)
    wait_for(lambda: run.step() >= 2)
    holder = sqlite3.connect(deck.database, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    step = run.step()
    wait_for(lambda: run.step() > step + 20, what="training beside a locked database")
    holder.execute("ROLLBACK")
    deck.json("stop", run.id)
    run.wait("stopped")
    assert run.stored() == run.reported()


def test_a_disk_that_fills_up_ends_the_run_with_a_word_and_resume_goes_on(
    tiny_model: Path, rows: Path, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=120m", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        deck = Deck(disk / "experiments.db")
        run = deck.start(tiny_model, rows, *LONG, "saving.every=5")
        wait_for(lambda: run.step() >= 7)
        with contextlib.suppress(OSError), (disk / "in-the-way").open("wb") as file:
            while True:
                file.write(b"0" * 65536)
        row = run.wait("failed", "crashed")
        assert row["status"] == "failed"
        assert "disk" in [e.kind for e in events(run) if isinstance(e, Failed)]
        (disk / "in-the-way").unlink()
        assert deck("resume", run.id, "--detach").returncode == 0
        step = run.step()
        wait_for(lambda: run.step() > step + 5)
        deck.json("stop", run.id)
        run.wait("stopped")
        assert run.stored() == run.reported()
    finally:
        kill_everything(disk)
        subprocess.run(["umount", "-l", str(disk)], check=True)
