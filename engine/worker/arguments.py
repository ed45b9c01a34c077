"""The specification in the libraries' words, checked against the installed ones before anything loads."""

import dataclasses
import difflib
from pathlib import Path
from typing import Any

import torch

from engine import trackers
from engine.errors import SpecError
from engine.spec import RunSpec

FSDP = {"version": 2, "auto_wrap_policy": "TRANSFORMER_BASED_WRAP", "reshard_after_forward": True,
        "state_dict_type": "FULL_STATE_DICT"}  # fmt: skip

ZERO = ("zero2", "zero3")


def deepspeed_config(stage: int) -> dict[str, Any]:
    """DeepSpeed's ZeRO of that stage; what is auto, transformers fills from its own arguments."""
    zero: dict[str, Any] = {"stage": stage, "overlap_comm": True, "contiguous_gradients": True}
    if stage == 3:
        zero["stage3_gather_16bit_weights_on_model_save"] = True  # else the model that is saved is empty
        sizes = ("reduce_bucket_size", "stage3_prefetch_bucket_size", "stage3_param_persistence_threshold")
        zero |= dict.fromkeys(sizes, "auto")
    counts = ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping")
    return {
        "zero_optimization": zero,
        "bf16": {"enabled": "auto"},
        "zero_allow_untested_optimizer": True,  # the optimizer is the one of the specification, made by transformers
        **dict.fromkeys(counts, "auto"),
    }


def training_arguments(spec: RunSpec, checkpoints: Path, rows: int, evaluate: bool) -> dict[str, Any]:
    """What all of TRL's trainers take. `rows` is what an epoch has."""
    t = spec.training
    eval_every = steps_of(spec.evaluation.every, rows, spec) if evaluate else 0
    save_every = steps_of(spec.saving.every, rows, spec)
    cuda = spec.compute.devices != "cpu" and torch.cuda.is_available()
    arguments = {
        "output_dir": str(checkpoints),
        "learning_rate": t.learning_rate,
        "num_train_epochs": t.epochs,
        "max_steps": t.max_steps or -1,
        "per_device_train_batch_size": t.micro_batch,
        "per_device_eval_batch_size": t.micro_batch,
        "gradient_accumulation_steps": t.accumulation,
        "gradient_checkpointing": t.checkpointing,
        "optim": t.optimizer,
        "torch_compile": bool(t.compile),
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
        "deepspeed": deepspeed_config(int(spec.compute.sharding[-1])) if spec.compute.sharding in ZERO else None,
        "metric_for_best_model": "eval_loss" if spec.evaluation.early_stopping else None,
        "greater_is_better": False if spec.evaluation.early_stopping else None,
    }
    if t.kernels == "liger":
        arguments["use_liger_kernel"] = True
    if t.group_by_length:
        arguments["train_sampling_strategy"] = "group_by_length"
    if spec.objective_options.beta is not None:
        arguments["beta"] = spec.objective_options.beta
    return arguments | trackers.arguments(spec)


def reference(spec: RunSpec) -> dict[str, Any]:
    """For the copy of the base that full fine-tuning is held against: TRL loads it by name, and only what is said here is as
    it was for the model itself (engine.worker.load.model_call)."""
    named = {"revision": spec.model.revision, "trust_remote_code": spec.model.trust_remote_code}
    loading = {name: value for name, value in (named | spec.extra.model).items() if value}
    return {"model_init_kwargs": loading} if loading and spec.method.kind == "full" else {}


def checked(arguments: dict[str, Any], cls: Any, spec: RunSpec) -> dict[str, Any]:
    """The arguments with `extra.trainer` over them. Raises SpecError for a name that the installed class does not have."""
    arguments = arguments | spec.extra.trainer
    known(arguments, cls, "extra.trainer")
    return arguments


def configured(cls: Any, arguments: dict[str, Any]) -> Any:
    """The trainer's configuration. Raises SpecError for a value that it refuses."""
    try:
        return cls(**arguments)
    except (ValueError, TypeError, ImportError) as error:
        text = str(error).split("\n")[0][:300]
        raise SpecError("The trainer refuses these settings", text, "Correct the field that it is about.") from error


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


def set_rhythm(arguments: Any, spec: RunSpec, rows: int) -> None:
    """Fractions of an epoch anew, for the rows that packing has left."""
    if arguments.eval_steps and spec.evaluation.every and spec.evaluation.every < 1:
        arguments.eval_steps = steps_of(spec.evaluation.every, rows, spec)
    if spec.saving.every and spec.saving.every < 1:
        arguments.save_steps = steps_of(spec.saving.every, rows, spec)


def steps_of(every: float | None, rows: int, spec: RunSpec) -> int:
    """`every` as optimizer steps: itself, or that fraction of an epoch of so many rows if it is below 1; 0 is never."""
    if not every or every >= 1:
        return int(every or 0)
    t = spec.training
    batch = (t.micro_batch or 1) * (t.accumulation or 1) * spec.compute.processes
    if spec.objective == "grpo":  # its batches count answers, several to a row
        rows *= spec.objective_options.generations or 1
    return max(1, round(every * rows / batch))
