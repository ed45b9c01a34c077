"""An Axolotl file as a specification. The names are those of Axolotl 0.21 (axolotl/utils/schemas), and older ones in use."""

from pathlib import Path
from typing import Any

from engine.exchange.axolotl_data import read_data
from engine.exchange.reading import Left, Reading, every

SAME = {
    "base_model": "model.path", "revision_of_model": "model.revision", "model_revision": "model.revision",
    "trust_remote_code": "model.trust_remote_code", "learning_rate": "training.learning_rate",
    "num_epochs": "training.epochs", "max_steps": "training.max_steps", "micro_batch_size": "training.micro_batch",
    "sequence_len": "training.max_length", "sample_packing": "training.packing", "weight_decay": "training.weight_decay",
    "max_grad_norm": "training.max_grad_norm", "seed": "training.seed", "group_by_length": "training.group_by_length",
    "early_stopping_patience": "evaluation.early_stopping", "save_total_limit": "saving.keep",
    "default_system_message": "data.system",
}  # fmt: skip
PASSED = ("neftune_noise_alpha", "adam_beta1", "adam_beta2", "adam_epsilon", "lr_scheduler_kwargs", "optim_args",
          "optim_target_modules", "center_rewards_coefficient", "dataloader_num_workers",
          "dataloader_prefetch_factor", "full_determinism")  # fmt: skip
"""The trainer's own names, handed on to it."""
DEFAULTS = {
    "training.micro_batch": 1, "training.accumulation": 1, "training.epochs": 1.0, "training.max_length": 512,
    "training.packing": False, "training.optimizer": "adamw_torch_fused", "training.schedule": "cosine",
    "training.weight_decay": 0.0, "training.warmup": 0.03, "training.max_grad_norm": 1.0, "training.checkpointing": False,
    "training.long_rows": "drop", "training.precision": "bf16", "training.seed": 42,
}  # fmt: skip
LORA_DEFAULTS = {"method.rank": 8, "method.alpha": 8, "method.dropout": 0.0}
OWN_OPTIMIZERS = ("optimi_adamw", "ao_adamw_4bit", "ao_adamw_8bit", "ao_adamw_fp8", "adopt_adamw", "adamc", "came_pytorch",
                  "muon", "muon_8bit", "dion", "sinkgd", "polora", "flash_adamw", "flash_adam", "flash_sgd", "flash_sgdw",
                  "flash_lion", "scao", "q_galore_adamw8bit")  # fmt: skip
ATTENTION = {"flash_attention": "flash_attention_2", "sdp_attention": "sdpa", "eager_attention": "eager",
             "flex_attention": "flex_attention"}  # fmt: skip
TOLD = "TuneDeck tells it from the model"
PLACED = "TuneDeck keeps everything of a run in the run's own directory"
REASONS = {
    **dict.fromkeys(("model_type", "type_of_model", "tokenizer_type", "tokenizer_config", "base_model_config",
                     "is_llama_derived_model", "is_mistral_derived_model", "is_falcon_derived_model",
                     "is_qwen_derived_model", "remove_unused_columns", "special_tokens", "tokens", "eot_tokens"), TOLD),
    **dict.fromkeys(("output_dir", "dataset_prepared_path"), PLACED),
    **dict.fromkeys(("logging_steps",), "every step is recorded"),
    **dict.fromkeys(("hub_model_id", "push_dataset_to_hub", "hub_strategy"), "TuneDeck uploads nothing while it trains"),
    "train_on_inputs": "the answers are trained, not the questions",
    **dict.fromkeys(("lora_mlp_kernel", "lora_qkv_kernel", "lora_o_kernel", "pad_to_sequence_len", "tf32",
                     "eval_sample_packing", "flash_attn_cross_entropy", "eval_batch_size", "low_cpu_mem_usage",
                     "dataset_processes", "dataset_num_proc", "dataset_keep_in_memory", "dataloader_pin_memory"), "it changes speed or memory, not what is learned; TuneDeck plans these itself"),
    **dict.fromkeys(("resume_from_checkpoint", "auto_resume_from_checkpoints", "lora_model_dir"),
                    "a specification begins with the base model"),
    "plugins": "they are Axolotl's own code",
    "xformers_attention": "transformers has no such attention any more",
    "load_best_model_at_end": "TuneDeck keeps the best checkpoint beside the last ones",
    "wandb_entity": "set WANDB_ENTITY in the environment",
}  # fmt: skip


def from_axolotl(raw: dict[str, Any], here: Path) -> Reading:
    """Read what an Axolotl file says. `here` is the directory that it lies in: its paths may be relative to that."""
    reading = Reading(dict(raw))
    reading.same(SAME)
    _method(reading)
    _training(reading)
    _objective(reading, here)
    read_data(reading, here)
    _evaluation(reading)
    _trackers(reading)
    _compute(reading)
    for key in PASSED:
        reading.put(f"extra.trainer.{key}", reading.take(key))
    reading.fill(DEFAULTS)
    if raw.get("shuffle_merged_datasets") is False:  # the one that is on where nothing is said
        reading.left.append(Left("shuffle_merged_datasets", False, "rows are shuffled, by training.seed"))
    reading.rest(REASONS, "TuneDeck has no such setting")
    return reading


def _method(reading: Reading) -> None:
    """The adapter. LoRA on a quantised base is qlora here, whatever its bits."""
    adapter, four, eight = (reading.take(key) for key in ("adapter", "load_in_4bit", "load_in_8bit"))
    if adapter not in (None, "lora", "qlora"):
        reading.leave("adapter", adapter, "TuneDeck has no such method; see method.kind")
        return
    if adapter is None:
        reading.put("method.kind", "full")
        return
    reading.put("method.kind", "qlora" if four or eight else "lora")
    if four or eight:
        reading.put("method.quantization", _quantization(reading, 4 if four else 8))
    reading.same({"lora_r": "method.rank", "lora_alpha": "method.alpha", "lora_dropout": "method.dropout",
                  "lora_modules_to_save": "method.modules_to_save"})  # fmt: skip
    named, linear = reading.take("lora_target_modules"), reading.take("lora_target_linear")
    reading.put("method.targets", "all-linear" if linear else named)
    _variant(reading)
    reading.fill(LORA_DEFAULTS)


def _quantization(reading: Reading, bits: int) -> dict[str, Any]:
    given = dict(reading.take("bnb_config_kwargs", {}))
    made = {"bits": bits, "type": given.pop("bnb_4bit_quant_type", "nf4"),
            "double": given.pop("bnb_4bit_use_double_quant", True)}  # fmt: skip
    reading.leave("bnb_config_kwargs", given, "TuneDeck computes in bfloat16 and sets the rest itself")
    return made


def _variant(reading: Reading) -> None:
    """One of them; a second is left."""
    ratio, init = reading.take("loraplus_lr_ratio"), reading.take("peft_init_lora_weights")
    found = [("peft_use_dora", "dora")] * bool(reading.take("peft_use_dora"))
    found += [("peft_use_rslora", "rslora")] * bool(reading.take("peft_use_rslora"))
    found += [("peft_init_lora_weights", "pissa")] * (init == "pissa")
    found += [("loraplus_lr_ratio", "lora+")] * bool(ratio)
    for key, variant in found[1:]:
        reading.leave(key, variant, f"TuneDeck takes one variant of LoRA: {found[0][1]}")
    if found:
        reading.put("method.variant", found[0][1])
    if ratio and ratio != 16:
        reading.leave("loraplus_lr_ratio", ratio, "TuneDeck's LoRA+ has the ratio 16")
    if init not in (None, True, "pissa"):
        reading.put("extra.peft.init_lora_weights", init)


def _training(reading: Reading) -> None:
    accumulation, whole = reading.take("gradient_accumulation_steps"), reading.take("batch_size")
    if whole and not accumulation:
        accumulation = max(1, whole // reading.spec.get("training", {}).get("micro_batch", 1))
    reading.put("training.accumulation", accumulation)
    ratio = reading.take("warmup_ratio")
    reading.put("training.warmup", reading.take("warmup_steps", ratio))
    reading.put("training.checkpointing", bool(reading.take("gradient_checkpointing", False)))
    long = reading.take("excess_length_strategy", "drop")
    reading.put("training.long_rows", "cut" if long == "truncate" else "drop")
    if long == "raise":
        reading.leave("excess_length_strategy", long, "long rows are dropped, and said")
    if reading.take("torch_compile") is True:
        reading.put("training.compile", True)
    _precision(reading)
    _optimizer(reading)
    for key, name in ATTENTION.items():
        if reading.take(key):
            reading.put("training.attention", name)
    reading.put("training.attention", reading.take("attn_implementation"))


def _precision(reading: Reading) -> None:
    bf16 = reading.take("bf16", reading.take("bfloat16", "auto"))
    half = reading.take("fp16") or reading.take("float16")
    reading.take("float32")
    if half is True and bf16 is not True:
        reading.leave("fp16", half, "TuneDeck trains in bfloat16 or float32")
    reading.put("training.precision", "bf16" if bf16 or half is True else "fp32")


def _optimizer(reading: Reading) -> None:
    optimizer, schedule = reading.take("optimizer"), reading.take("lr_scheduler")
    if optimizer in OWN_OPTIMIZERS:
        reading.leave("optimizer", optimizer, "it is Axolotl's own; TuneDeck takes adamw_torch_fused")
        optimizer = None
    reading.put("training.optimizer", optimizer)
    lowest = reading.take("cosine_min_lr_ratio")
    if lowest and schedule in (None, "cosine"):
        schedule = "cosine_with_min_lr"
        reading.put("extra.trainer.lr_scheduler_kwargs", {"min_lr_rate": lowest})
    if schedule in ("one_cycle", "rex"):
        reading.leave("lr_scheduler", schedule, "it is Axolotl's own; TuneDeck takes cosine")
        schedule = None
    reading.put("training.schedule", schedule)


def _objective(reading: Reading, here: Path) -> None:
    """What is trained for; without `rl` the data says it."""
    rl = reading.take("rl")
    trl = dict(reading.take("trl", {}))
    known = {"dpo": "dpo", "ipo": "dpo", "kto": "kto", "orpo": "orpo", "simpo": "cpo", "grpo": "grpo"}
    if reading.take("reward_model"):
        reading.take("num_labels")  # one score
        reading.put("objective", "reward")
    elif rl in known:
        reading.put("objective", known[rl])
    else:
        reading.leave("rl", rl, "TuneDeck has no such objective")
    if rl in ("ipo", "simpo"):
        reading.put("extra.trainer.loss_type", rl)
    betas = [trl.pop("beta", None), *(reading.take(key) for key in ("rl_beta", "dpo_beta", "orpo_alpha"))]
    reading.put("objective_options.beta", next((beta for beta in betas if beta is not None), None))
    for key, name in (("kto_desirable_weight", "desirable_weight"), ("kto_undesirable_weight", "undesirable_weight"),
                      ("simpo_gamma", "simpo_gamma"), ("cpo_alpha", "cpo_alpha"), ("dpo_label_smoothing", "label_smoothing"),
                      ("dpo_loss_type", "loss_type")):  # fmt: skip
        reading.put(f"extra.trainer.{name}", reading.take(key))
    if rl == "grpo":
        _rewards(reading, trl, here)
    for key, value in trl.items():
        reading.leave(f"trl.{key}", value, "TuneDeck has no such setting; extra.trainer takes GRPOConfig's arguments")


def _rewards(reading: Reading, trl: dict[str, Any], here: Path) -> None:
    """`module.function`, importable from the working directory there, is `module.py:function` here."""
    named = [str(one).rpartition(".") for one in trl.pop("reward_funcs", None) or []]
    files = [f"{here / (module.replace('.', '/') + '.py')}:{name}" for module, _, name in named]
    reading.put("objective_options.rewards", files or None)
    reading.put("objective_options.generations", trl.pop("num_generations", None))
    reading.put("objective_options.completion_length", trl.pop("max_completion_length", None))


def _evaluation(reading: Reading) -> None:
    """Axolotl's shares are of all steps, ours of an epoch."""
    epochs = reading.spec.get("training", {}).get("epochs", 1.0)
    for what, path in (("eval", "evaluation.every"), ("save", "saving.every")):
        steps, per_epoch = reading.take(f"{what}_steps"), reading.take(f"{what}s_per_epoch")
        strategy = reading.take(f"{what}_strategy", reading.take("evaluation_strategy") if what == "eval" else None)
        if strategy == "no":
            reading.put(path, 0)
        elif steps:
            reading.put(path, steps if steps >= 1 else every(steps * epochs))
        elif per_epoch or strategy == "epoch":
            reading.put(path, every(1 / (per_epoch or 1)))


def _trackers(reading: Reading) -> None:
    project = [reading.take(key) for key in ("wandb_project", "mlflow_experiment_name", "trackio_project_name")]
    name = [reading.take(key) for key in ("wandb_name", "mlflow_run_name", "trackio_run_name")]
    used = [tracker for tracker in ("wandb", "mlflow", "tensorboard", "trackio") if reading.take(f"use_{tracker}")]
    if project[0] and "wandb" not in used:
        used.insert(0, "wandb")
    reading.put("report_to", used or None)
    reading.put("run.project", next(filter(None, project), None))
    reading.put("run.name", next(filter(None, name), None))


def _compute(reading: Reading) -> None:
    """How the work is shared; on how many cards is said when Axolotl is launched, not in its file."""
    deepspeed, fsdp = reading.take("deepspeed"), [reading.take(key) for key in ("fsdp", "fsdp_config", "fsdp_version")]
    named = str(deepspeed.get("zero_optimization", {}).get("stage") if isinstance(deepspeed, dict) else deepspeed)
    if deepspeed:
        reading.put("compute.sharding", "zero3" if "3" in named else "zero2")
        reading.leave(
            "deepspeed", deepspeed, "the kind of sharding is carried over, its settings are not; set compute.processes"
        )
    elif fsdp[0] or fsdp[1]:
        reading.put("compute.sharding", "fsdp")
        reading.leave(
            "fsdp_config",
            fsdp[1] or fsdp[0],
            "that it is FSDP is carried over, its settings are not; set compute.processes",
        )
