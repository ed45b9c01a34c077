"""The specification in the libraries' words, checked against the installed ones before anything loads."""

import dataclasses
import difflib
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig

from engine.errors import SpecError
from engine.models import ModelFacts
from engine.planner.shape import attention_names
from engine.spec import RunSpec

FSDP = {"version": 2, "auto_wrap_policy": "TRANSFORMER_BASED_WRAP", "reshard_after_forward": True,
        "state_dict_type": "FULL_STATE_DICT"}  # fmt: skip


def training_arguments(spec: RunSpec, checkpoints: Path, rows: int, evaluate: bool) -> dict[str, Any]:
    """What all of TRL's trainers take. `rows` is what an epoch has."""
    t = spec.training
    batch = (t.micro_batch or 1) * (t.accumulation or 1) * spec.compute.processes
    eval_every = steps_of(spec.evaluation.every, rows, batch) if evaluate else 0
    save_every = steps_of(spec.saving.every, rows, batch)
    cuda = spec.compute.devices != "cpu" and torch.cuda.is_available()
    return {
        "output_dir": str(checkpoints),
        "learning_rate": t.learning_rate,
        "num_train_epochs": t.epochs,
        "max_steps": t.max_steps or -1,
        "per_device_train_batch_size": t.micro_batch,
        "per_device_eval_batch_size": t.micro_batch,
        "gradient_accumulation_steps": t.accumulation,
        "max_length": t.max_length,
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
    }


def known(arguments: dict[str, Any], cls: Any, where: str) -> None:
    """Raises SpecError for a name that the installed class does not have."""
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
    known(arguments, LoraConfig, "extra.peft")
    return LoraConfig(**arguments)
