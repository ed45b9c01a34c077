"""A file for `trl sft --config` (or dpo, kto, reward, grpo) as a specification. The names are those of TRL 1.16."""

from pathlib import Path
from typing import Any

from engine.exchange.axolotl_data import found
from engine.exchange.reading import Left, Reading, every

SAME = {
    "model_name_or_path": "model.path", "trust_remote_code": "model.trust_remote_code",
    "learning_rate": "training.learning_rate", "num_train_epochs": "training.epochs",
    "per_device_train_batch_size": "training.micro_batch", "gradient_accumulation_steps": "training.accumulation",
    "max_length": "training.max_length", "packing": "training.packing", "optim": "training.optimizer",
    "lr_scheduler_type": "training.schedule", "weight_decay": "training.weight_decay",
    "max_grad_norm": "training.max_grad_norm", "seed": "training.seed", "attn_implementation": "training.attention",
    "gradient_checkpointing": "training.checkpointing", "save_total_limit": "saving.keep", "run_name": "run.name",
    "project": "run.project", "torch_compile": "training.compile", "num_generations": "objective_options.generations",
    "max_completion_length": "objective_options.completion_length", "beta": "objective_options.beta",
}  # fmt: skip
PASSED = frozenset((
    "neftune_noise_alpha", "adam_beta1", "adam_beta2", "adam_epsilon", "lr_scheduler_kwargs", "optim_args",
    "optim_target_modules", "label_smoothing_factor", "label_smoothing", "loss_type", "loss_weights", "padding_free",
    "pad_to_multiple_of", "activation_offloading", "desirable_weight", "undesirable_weight", "center_rewards_coefficient",
    "precompute_ref_log_probs", "ld_alpha", "f_divergence_type", "use_weighting", "sync_ref_model", "ref_model_mixup_alpha",
    "ref_model_sync_steps", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "epsilon", "epsilon_high",
    "delta", "num_iterations", "scale_rewards", "reward_weights", "importance_sampling_level", "steps_per_generation",
    "mask_truncated_completions", "cpo_alpha", "simpo_gamma", "disable_dropout", "truncation_mode", "full_determinism",
    "dataloader_num_workers", "use_vllm", "vllm_mode", "average_tokens_across_devices",
))  # fmt: skip
"""The trainers' own arguments that TuneDeck hands on as they are (extra.trainer); it checks them when a run starts."""
DEFAULTS = {
    "training.micro_batch": 8, "training.accumulation": 1, "training.epochs": 3.0, "training.max_length": 1024,
    "training.packing": False, "training.optimizer": "adamw_torch_fused", "training.schedule": "linear",
    "training.weight_decay": 0.0, "training.warmup": 0, "training.max_grad_norm": 1.0, "training.checkpointing": True,
    "training.long_rows": "cut", "training.seed": 42,
}  # fmt: skip
RATES = {"sft": 2e-5, "dpo": 1e-6, "kto": 1e-6, "reward": 1e-4, "grpo": 1e-6}
LORA_DEFAULTS = {"method.rank": 16, "method.alpha": 32, "method.dropout": 0.05}
SIGNS = {
    "grpo": ("reward_funcs", "num_generations", "max_completion_length"),
    "kto": ("desirable_weight", "undesirable_weight"),
    "reward": ("center_rewards_coefficient",),
    "sft": ("packing", "assistant_only_loss", "completion_only_loss", "dataset_text_field", "eval_packing"),
    "dpo": ("ld_alpha", "f_divergence_type", "precompute_ref_log_probs", "sync_ref_model", "beta"),
}
"""Settings that only one trainer has: the file does not say for which of TRL's commands it is."""
REASONS = {
    **dict.fromkeys(("output_dir", "logging_dir", "overwrite_output_dir"),
                    "TuneDeck keeps everything of a run in the run's own directory"),
    **dict.fromkeys(("logging_steps", "logging_first_step", "logging_strategy"), "every step is recorded"),
    **dict.fromkeys(("push_to_hub", "hub_model_id", "hub_strategy", "hub_token", "hub_private_repo", "trackio_space_id"),
                    "TuneDeck uploads nothing while it trains"),
    **dict.fromkeys(("per_device_eval_batch_size", "dataset_num_proc", "eval_packing", "tf32", "use_liger_kernel",
                     "gradient_checkpointing_kwargs", "dataloader_pin_memory", "bnb_4bit_quant_storage"),
                    "it changes speed or memory, not what is learned; TuneDeck plans these itself"),
    **dict.fromkeys(("assistant_only_loss", "completion_only_loss"), "TuneDeck always trains on the answers alone"),
    **dict.fromkeys(("eos_token", "pad_token", "lora_task_type"), "TuneDeck tells it from the model"),
    **dict.fromkeys(("dataset_streaming", "streaming"), "TuneDeck reads the data before it trains"),
    "load_best_model_at_end": "TuneDeck keeps the best checkpoint beside the last ones",
    "resume_from_checkpoint": "a specification begins with the base model",
    "lora_target_parameters": "extra.peft takes target_parameters",
    "deepspeed": "set compute.sharding and compute.processes",
}  # fmt: skip


def from_trl(raw: dict[str, Any], here: Path) -> Reading:
    """Read what a TRL file says. `here` is the directory that it lies in: its paths may be relative to that."""
    reading = Reading(dict(raw))
    objective = next((name for name, signs in SIGNS.items() if any(key in raw for key in signs)), "sft")
    reading.put("objective", objective if objective != "sft" else None)
    reading.same(SAME)
    revision = reading.take("model_revision")
    reading.put("model.revision", revision if revision != "main" else None)
    _method(reading)
    _training(reading)
    _data(reading, here)
    _rewards(reading, here)
    _evaluation(reading)
    for key in [key for key in reading.open if key in PASSED]:
        reading.put(f"extra.trainer.{key}", reading.take(key))
    trackers = reading.take("report_to", [])
    trackers = [trackers] if isinstance(trackers, str) else trackers
    reading.put("report_to", [name for name in trackers if name not in ("none", "all")] or None)
    reading.fill(DEFAULTS | {"training.learning_rate": RATES[objective]})
    reading.rest(REASONS, "TuneDeck has no such setting")
    return reading


def _method(reading: Reading) -> None:
    four, eight = reading.take("load_in_4bit"), reading.take("load_in_8bit")
    if not reading.take("use_peft"):
        reading.put("method.kind", "full")
        for key in ("load_in_4bit" * bool(four), "load_in_8bit" * bool(eight)):
            reading.leave(key, True if key else None, "without use_peft a quantised base cannot be trained")
        return
    reading.put("method.kind", "qlora" if four or eight else "lora")
    kind, double = reading.take("bnb_4bit_quant_type", "nf4"), reading.take("use_bnb_nested_quant", False)
    if four or eight:
        reading.put("method.quantization", {"bits": 4 if four else 8, "type": kind, "double": double})
    reading.same({"lora_r": "method.rank", "lora_alpha": "method.alpha", "lora_dropout": "method.dropout",
                  "lora_modules_to_save": "method.modules_to_save"})  # fmt: skip
    targets = reading.take("lora_target_modules")
    targets = targets[0] if isinstance(targets, list) and targets == ["all-linear"] else targets
    reading.put("method.targets", [targets] if isinstance(targets, str) and targets != "all-linear" else targets)
    dora, rslora = reading.take("use_dora"), reading.take("use_rslora")
    reading.put("method.variant", "dora" if dora else "rslora" if rslora else None)
    reading.leave("use_rslora", bool(dora and rslora), "TuneDeck takes one variant of LoRA: dora")
    reading.fill(LORA_DEFAULTS)


def _training(reading: Reading) -> None:
    steps, ratio = reading.take("max_steps"), reading.take("warmup_ratio")
    reading.put("training.max_steps", steps if steps and steps > 0 else None)
    reading.put("training.warmup", reading.take("warmup_steps", ratio))
    if reading.take("group_by_length") or reading.open.get("train_sampling_strategy") == "group_by_length":
        reading.put("training.group_by_length", True)
        reading.open.pop("train_sampling_strategy", None)
    dtype = str(reading.take("dtype", reading.take("torch_dtype", "float32")))
    bf16, fp16 = reading.take("bf16"), reading.take("fp16")
    if fp16 or dtype == "float16":
        reading.leave("fp16" if fp16 else "dtype", fp16 or dtype, "TuneDeck trains in bfloat16 or float32")
    mixed = bf16 is not False or fp16
    reading.put("training.precision", "bf16" if dtype != "float32" else "mixed" if mixed else "fp32")
    long = reading.take("max_seq_length")
    reading.put("training.max_length", long)


def _data(reading: Reading, here: Path) -> None:
    """One data set by name, or a mixture."""
    name, config = reading.take("dataset_name"), reading.take("dataset_config")
    split, test = reading.take("dataset_train_split", "train"), reading.take("dataset_test_split")
    sets = [dict(one) for one in reading.take("datasets") or []]
    paths = [_one(one, number, reading, here) for number, one in enumerate(sets)]
    if name:
        paths.insert(0, _named(str(name), config, split, here))
    if len(paths) == 1:
        reading.put("data.path", paths[0])
    elif paths:
        reading.put("data.path", [{"path": path} for path in paths])
    text = reading.take("dataset_text_field")
    reading.put("data.columns", {"text": text} if text not in (None, "text") else None)
    template = reading.take("chat_template_path")
    reading.put("data.template", found(str(template), here) if template else None)
    share = reading.take("test_split_size")
    strategy = reading.open.get("eval_strategy", "no")
    if share:
        reading.put("data.validation", share)
    elif name and strategy != "no":
        local = Path(found(str(name), here)).exists()
        reading.put("data.validation", None if local else _named(str(name), config, test or "test", here))
        if local:
            reading.leave("dataset_test_split", test or "test", "a file has no splits: set data.validation")


def _named(name: str, config: Any, split: Any, here: Path) -> str:
    """A file that is here, or `owner/name@config:split` of the hub."""
    local = found(name, here)
    if Path(local).exists() or name.startswith((".", "/", "~")):
        return local
    return name + (f"@{config}" if config else "") + (f":{split}" if split else "")


def _one(one: dict[str, Any], number: int, reading: Reading, here: Path) -> str:
    """A data set of a mixture: the arguments of load_dataset."""
    inner = Reading(one)
    path, files, name, split = (inner.take(key) for key in ("path", "data_files", "name", "split"))
    files = [files] if isinstance(files, str) else files
    inner.rest({}, "TuneDeck has no such setting")
    if isinstance(files, list) and files and path in ("json", "csv", "parquet", "text"):
        inner.leave("data_files", files[1:], "one file a data set: list the others under data.path")
        made = found(str(files[0]), here)
    else:
        inner.leave("data_files", files, "a data set of the hub is taken whole, by its split")
        made = _named(str(path), name, split, here)
    reading.left += [Left(f"datasets.{number}.{left.key}", left.value, left.why) for left in inner.left]
    return made


def _rewards(reading: Reading, here: Path) -> None:
    """Functions of a module that is importable there are `file.py:function` here; TRL's own have no file of the user's."""
    own: list[str] = []
    for one in reading.take("reward_funcs") or []:
        module, _, name = str(one).rpartition(".")
        file = here / (module.replace(".", "/") + ".py")
        if module and not module.startswith("trl") and file.is_file():
            own.append(f"{file}:{name}")
        else:
            reading.leave("reward_funcs", one, "name a function of a Python file: objective_options.rewards")
    reading.put("objective_options.rewards", own or None)


def _evaluation(reading: Reading) -> None:
    """TRL's shares are of all steps, ours of an epoch."""
    epochs = reading.spec.get("training", {}).get("epochs", 3.0)
    for what, path in (("eval", "evaluation.every"), ("save", "saving.every")):
        strategy, steps = reading.take(f"{what}_strategy"), reading.take(f"{what}_steps")
        if strategy == "no":
            reading.put(path, 0)
        elif strategy == "epoch":
            reading.put(path, every(1))
        elif steps:
            reading.put(path, steps if steps >= 1 else every(steps * epochs))
