"""What transformers' trainer would refuse of an optimizer or a schedule, said before anything loads. Looks only for packages.

Read in transformers 5.23 (trainer_optimizer.py, optimization.py, training_args.py); tests/engine/test_trainer_needs.py holds
both against the installed library.
"""

import importlib.util
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the app needs the arithmetic before it needs specifications
    from engine.spec import RunSpec

PACKAGES = {
    "adamw_torch_xla": ("torch_xla", "torch_xla"),
    "adamw_torch_npu_fused": ("torch_npu", "torch_npu"),
    "adamw_anyprecision": ("torchdistx", "torchdistx"),
    "adamw_torch_4bit": ("torchao", "torchao"),
    "adamw_torch_8bit": ("torchao", "torchao"),
    "grokadamw": ("grokadamw", "grokadamw"),
    "stable_adamw": ("optimi", "torch-optimi"),
    **dict.fromkeys(("lomo", "adalomo"), ("lomo_optim", "lomo-optim")),
    **dict.fromkeys(
        ("schedule_free_radam", "schedule_free_adamw", "schedule_free_sgd"), ("schedulefree", "schedulefree")
    ),
    **dict.fromkeys(
        ("adamw_bnb_8bit", "adamw_8bit", "ademamix", "ademamix_8bit", "lion_8bit", "lion_32bit", "paged_adamw_32bit",
         "paged_adamw_8bit", "paged_ademamix_32bit", "paged_ademamix_8bit", "paged_lion_32bit", "paged_lion_8bit",
         "rmsprop_bnb", "rmsprop_bnb_8bit", "rmsprop_bnb_32bit"),
        ("bitsandbytes", "bitsandbytes"),
    ),
}  # fmt: skip
"""Optimizers that are in no package of ours: the module, and what to install."""
LOW_RANK = {"galore": ("galore_torch", "galore-torch"), "apollo": ("apollo_torch", "apollo-torch")}
"""Families of optimizers that work on a projection of the gradients of modules that one has to name."""
WATCHING = ("reduce_lr_on_plateau", "greedy")
"""Schedules that follow the evaluations."""
SMALLEST = ("cosine_with_min_lr", "cosine_warmup_with_min_lr")
POLYNOMIAL_END = 1e-7
"""Where transformers' polynomial schedule ends; it refuses to begin there."""


def lacking(spec: "RunSpec", steps: int | None = None) -> list[str]:
    """Why a complete specification would be refused when the trainer is made, each in a sentence; empty if it would not.

    `steps` of the run, None where that is not known.
    """
    return [*_optimizer(spec), *_schedule(spec, steps)]


def evaluates(spec: "RunSpec") -> bool:
    """Whether a complete specification evaluates at all: it has to be asked for, and rows have to be held out."""
    return bool(spec.evaluation.every and spec.data.validation)


def warmup_steps(warmup: float, steps: int) -> int:
    """As `TrainingArguments.get_warmup_steps`: below 1 it is a share of all steps."""
    return int(warmup) if warmup >= 1 else math.ceil(steps * warmup)


def _optimizer(spec: "RunSpec") -> list[str]:
    name = spec.training.optimizer or ""
    family = next((package for start, package in LOW_RANK.items() if start in name), None)
    module, package = family or PACKAGES.get(name, ("", ""))
    if module and importlib.util.find_spec(module) is None:
        return [f"optimizer {name} needs {package}, which is not installed: pip install {package}"]
    if family and not spec.extra.trainer.get("optim_target_modules"):
        return [
            f"optimizer {name} needs extra.trainer.optim_target_modules, as in {{optim_target_modules: all-linear}}"
        ]
    if family and name.endswith("layerwise") and (spec.training.accumulation or 1) > 1:
        return [
            f"optimizer {name} works without accumulation only, and training.accumulation is {spec.training.accumulation}"
        ]
    return []


def _schedule(spec: "RunSpec", steps: int | None) -> list[str]:
    t, given = spec.training, spec.extra.trainer.get("lr_scheduler_kwargs") or {}
    if t.schedule in WATCHING and not evaluates(spec):
        return [
            f"schedule {t.schedule} follows the evaluations, and nothing is evaluated: set data.validation and evaluation.every"
        ]
    if t.schedule in SMALLEST and not {"min_lr", "min_lr_rate"} & set(given):
        return [f"schedule {t.schedule} needs its end: extra.trainer as {{lr_scheduler_kwargs: {{min_lr_rate: 0.1}}}}"]
    if t.schedule == "warmup_stable_decay" and "num_decay_steps" not in given:
        return [
            "schedule warmup_stable_decay needs the steps of its end: extra.trainer as {lr_scheduler_kwargs: {num_decay_steps: 100}}"
        ]
    if t.schedule == "polynomial" and (t.learning_rate or 1) <= given.get("lr_end", POLYNOMIAL_END):
        return [
            f"schedule polynomial falls to {given.get('lr_end', POLYNOMIAL_END):g}, and training.learning_rate is not above that"
        ]
    if t.schedule == "polynomial" and steps and warmup_steps(t.warmup or 0, steps) >= steps:
        return ["schedule polynomial has no step left after the warm-up: lower training.warmup"]
    return []
