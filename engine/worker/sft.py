"""Supervised fine-tuning with TRL's SFTTrainer: LoRA, QLoRA or full."""

import dataclasses
import difflib
import os
import shutil
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
from peft import LoraConfig
from transformers import EarlyStoppingCallback
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from trl import SFTConfig, SFTTrainer

from engine.errors import SpecError
from engine.events import Checkpoint, Finished, Notice, Stopped
from engine.files import read_records
from engine.models import ModelFacts
from engine.planner.shape import attention_names
from engine.spec import RunSpec
from engine.worker.callback import ReportingCallback, generate
from engine.worker.dataset import datasets_for
from engine.worker.load import load_model, load_tokenizer, ready_model
from engine.worker.reporter import Reporter

FSDP = {"version": 2, "auto_wrap_policy": "TRANSFORMER_BASED_WRAP", "reshard_after_forward": True,
        "state_dict_type": "FULL_STATE_DICT"}  # fmt: skip


class StopRequested(Exception):
    """Asked to stop before the first step."""


def train(spec: RunSpec, reporter: Reporter, stop: Any, resume_from: str) -> None:
    """Run one attempt. Ends with a `finished` or `stopped` event; failures are exceptions.

    `stop` is a function without arguments: has somebody asked to stop? `resume_from` is a checkpoint's directory or "".
    """
    quiet()
    checkpoints = reporter.run_dir / "checkpoints"
    announced = _announced(reporter.run_dir)
    _remove_unannounced(checkpoints, announced)
    check_gpu(spec)
    facts = ready_model(spec, reporter)
    reporter.phase("tokenize")
    tokenizer = load_tokenizer(spec, facts)
    train_set, eval_set = datasets_for(spec, tokenizer, reporter)
    arguments = trainer_arguments(spec, checkpoints, len(train_set), evaluate=eval_set is not None)
    config, adapter = SFTConfig(**arguments), peft_config(spec, facts)
    _stop_if_asked(stop)
    reporter.phase("load", facts.label)
    model = load_model(spec, facts)
    callback = ReportingCallback(
        reporter,
        spec.saving.keep,
        stop,
        lambda step: generate(trainer.model, tokenizer, spec.evaluation.prompts or [], step),
    )
    callback.remember(announced)
    trainer = SFTTrainer(
        model=model, args=config, train_dataset=train_set, eval_dataset=eval_set, processing_class=tokenizer,
        peft_config=adapter, callbacks=[callback],
    )  # fmt: skip
    trainer.remove_callback(ProgressCallback)
    trainer.remove_callback(PrinterCallback)
    if spec.evaluation.early_stopping:
        trainer.add_callback(EarlyStoppingCallback(spec.evaluation.early_stopping))
    trainable = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
    reporter.say(Notice("note", f"{trainable:,} parameters are trained"))
    _stop_if_asked(stop)
    trainer.train(resume_from_checkpoint=resume_from or None)
    _end(spec, reporter, trainer, tokenizer, callback)


def _end(spec: RunSpec, reporter: Reporter, trainer: Any, tokenizer: Any, callback: ReportingCallback) -> None:
    step = trainer.state.global_step
    if callback.stopped and step < trainer.state.max_steps:
        reporter.say_last(Stopped(step, callback.last_path))
        return
    if spec.evaluation.prompts and callback.sampled_step != step:
        callback.say_samples(step)
    reporter.phase("save")
    target, unfinished = reporter.run_dir / "model", reporter.run_dir / "model.tmp"
    trainer.save_model(str(unfinished))
    if trainer.args.should_save:
        tokenizer.save_pretrained(unfinished)
        shutil.rmtree(target, ignore_errors=True)
        unfinished.rename(target)
        size = sum(f.stat().st_size for f in target.rglob("*") if f.is_file())
        reporter.say_last(Finished(step, str(target), size))


def quiet() -> None:
    """No progress bars: in a log file they are noise, and progress is an event."""
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()


def check_gpu(spec: RunSpec) -> None:
    """Raises SpecError if the run has a GPU that torch does not see: it must not train on the CPU without a word."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") and spec.compute.devices != "cpu" and not torch.cuda.is_available():
        raise SpecError(
            "torch does not see the GPU",
            f"The run has GPU {os.environ['CUDA_VISIBLE_DEVICES']}, torch {torch.__version__} has no CUDA device.",
            "Install a CUDA build of torch that this driver supports, or set compute.devices=cpu.",
        )


def _stop_if_asked(stop: Any) -> None:
    if stop():
        raise StopRequested


def _announced(run_dir: Path) -> list[Checkpoint]:
    return [r.event for r in read_records(run_dir / "events.jsonl") if isinstance(r.event, Checkpoint)]


def _remove_unannounced(folder: Path, announced: list[Checkpoint]) -> None:
    """A checkpoint that was never announced is half written, and would be counted among the good ones."""
    whole = {Path(c.path).name for c in announced}
    for path in folder.glob("checkpoint-*"):
        if path.name not in whole and int(os.environ.get("RANK", 0)) == 0:
            shutil.rmtree(path, ignore_errors=True)


def trainer_arguments(spec: RunSpec, checkpoints: Path, rows: int, evaluate: bool) -> dict[str, Any]:
    """The arguments of SFTConfig. Raises SpecError for a name that the installed SFTConfig does not have."""
    t = spec.training
    batch = (t.micro_batch or 1) * (t.accumulation or 1) * spec.compute.processes
    eval_every = steps_of(spec.evaluation.every, rows, batch) if evaluate else 0
    save_every = steps_of(spec.saving.every, rows, batch)
    cuda = spec.compute.devices != "cpu" and torch.cuda.is_available()
    arguments = {
        "output_dir": str(checkpoints),
        "learning_rate": t.learning_rate,
        "num_train_epochs": t.epochs,
        "max_steps": t.max_steps or -1,
        "per_device_train_batch_size": t.micro_batch,
        "per_device_eval_batch_size": t.micro_batch,
        "gradient_accumulation_steps": t.accumulation,
        "max_length": t.max_length,
        "packing": t.packing,
        "packing_strategy": "bfd_split",
        "eval_packing": False,
        "gradient_checkpointing": t.checkpointing,
        "optim": t.optimizer,
        "bf16": t.precision != "fp32",
        "lr_scheduler_type": t.schedule,
        "warmup_steps": t.warmup,
        "weight_decay": t.weight_decay,
        "max_grad_norm": t.max_grad_norm,
        "seed": t.seed,
        "data_seed": t.seed,
        "use_cpu": not cuda,
        "dataloader_pin_memory": cuda,
        "ddp_find_unused_parameters": False if spec.compute.processes > 1 else None,
        "logging_steps": 1,
        "logging_first_step": True,
        "logging_nan_inf_filter": False,
        "disable_tqdm": True,
        "report_to": spec.report_to or "none",
        "eval_strategy": "steps" if eval_every else "no",
        "eval_steps": eval_every or None,
        "save_strategy": "steps" if save_every else "no",
        "save_steps": save_every or 500,
        "save_total_limit": None,  # the callback deletes old ones, after the new one is announced
        "fsdp": spec.compute.sharding == "fsdp" or None,
        "fsdp_config": dict(FSDP) if spec.compute.sharding == "fsdp" else None,
        "metric_for_best_model": "eval_loss" if spec.evaluation.early_stopping else None,
        "greater_is_better": False if spec.evaluation.early_stopping else None,
    } | spec.extra.trainer
    _known(arguments, SFTConfig, "extra.trainer")
    return arguments


def _known(arguments: dict[str, Any], cls: Any, where: str) -> None:
    fields = {f.name for f in dataclasses.fields(cls) if f.init}
    for name in arguments:
        if name not in fields:
            near = difflib.get_close_matches(name, fields, 1)
            raise SpecError(
                f"{cls.__name__} has no such argument",
                f"{where}.{name} is not a field of the installed {cls.__name__}.",
                f"Did you mean {near[0]}?" if near else "See TRL's documentation for the names.",
            )


def steps_of(every: float | None, rows: int, batch: int) -> int:
    """`every` as optimizer steps: itself, or that fraction of an epoch if it is below 1; 0 is never."""
    if not every:
        return 0
    return int(every) if every >= 1 else max(1, round(every * rows / batch))


def peft_config(spec: RunSpec, facts: ModelFacts) -> LoraConfig | None:
    """The adapter of LoRA and QLoRA, None for full fine-tuning. Raises SpecError for an unknown `extra.peft`."""
    m = spec.method
    if m.kind == "full":
        return None
    arguments = {
        "r": m.rank,
        "lora_alpha": m.alpha,
        "lora_dropout": m.dropout,
        "target_modules": attention_names(facts.config) if m.targets == "attention" else m.targets or "all-linear",
        "modules_to_save": m.modules_to_save or None,
        "use_dora": m.variant == "dora",
        "use_rslora": m.variant == "rslora",
        "task_type": "CAUSAL_LM",
    } | spec.extra.peft
    _known(arguments, LoraConfig, "extra.peft")
    return LoraConfig(**arguments)
