"""The adapter that a specification asks for, as peft has it, and what some methods need of the training loop."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import send_to_device  # type: ignore[import-untyped]
from peft import PeftConfig, PeftType, get_peft_model
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.optimizers import create_loraplus_optimizer
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoModelForSequenceClassification, TrainerCallback

from engine.errors import SpecError
from engine.methods import METHODS
from engine.planner.shape import attention_names
from engine.spec import RunSpec
from engine.worker.arguments import known

LORA_PLUS_RATIO = 16.0
"""How much faster B learns than A (Hayou et al. 2024 use 2^4 for decoders)."""
AROUND_ONE = ("ia3", "road", "ln_tuning")
"""Methods whose parameters begin at 1, where bfloat16 steps are of 0.8 %: it would swallow what they learn."""
ALPHAS, DROPOUTS = ("lora_alpha", "alpha"), ("lora_dropout",)
"""What the classes of peft call what the specification calls alpha and dropout."""


def peft_config(spec: RunSpec, config: dict[str, Any]) -> PeftConfig | None:
    """The adapter's configuration for a model of this `config.json`, None for full fine-tuning.

    Raises SpecError for a name in `extra.peft` that the installed class does not have.
    """
    m = spec.method
    if m.kind == "full":
        return None
    cls = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(METHODS[m.kind or "lora"].peft)]
    has = {field.name for field in dataclasses.fields(cls)}
    offered: dict[str, Any] = {
        "task_type": "SEQ_CLS" if spec.objective == "reward" else "CAUSAL_LM",
        "r": m.rank,
        "target_modules": attention_names(config) if m.targets == "attention" else m.targets,
        "modules_to_save": m.modules_to_save or None,
        "num_virtual_tokens": m.virtual_tokens,
        **dict.fromkeys(ALPHAS, m.alpha),
        **dict.fromkeys(DROPOUTS, m.dropout),
    }
    arguments = {name: value for name, value in offered.items() if name in has and value is not None}
    arguments |= _own(spec, config) | spec.extra.peft
    known(arguments, cls, "extra.peft")
    made: PeftConfig = cls(**arguments)
    return made


def _own(spec: RunSpec, config: dict[str, Any]) -> dict[str, Any]:
    """What one method or variant alone has."""
    m = spec.method
    if m.kind == "adalora":
        steps = spec.training.max_steps or 1000  # Budget corrects it when the trainer knows
        return {"init_r": -(-(m.rank or 8) * 3 // 2), "target_r": m.rank, "total_step": steps, "tinit": 0, "tfinal": 0}
    if m.kind == "ia3":
        attention = set(attention_names(config))
        named = m.targets if isinstance(m.targets, list) else []
        return {"feedforward_modules": [name for name in named if name not in attention]}
    variants: dict[str | None, dict[str, Any]] = {
        "dora": {"use_dora": True}, "rslora": {"use_rslora": True}, "pissa": {"init_lora_weights": "pissa"}}  # fmt: skip
    return variants.get(m.variant, {})


def rehearse(spec: RunSpec, config: dict[str, Any], adapter: PeftConfig | None) -> None:
    """Put the adapter on an empty model, which takes a second: raises SpecError before anything loads if it does not fit."""
    if adapter is None or config.get("model_type") not in CONFIG_MAPPING:
        return
    kind = AutoModelForSequenceClassification if spec.objective == "reward" else AutoModelForCausalLM
    settings = CONFIG_MAPPING[config["model_type"]].from_dict(dict(config))
    trial = dataclasses.replace(adapter, init_lora_weights=True) if spec.method.variant == "pissa" else adapter
    with torch.device("meta"):
        model = kind.from_config(settings)
        linears = sorted(
            {name.rpartition(".")[2] for name, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
        )
        try:
            get_peft_model(model, type(trial)(**trial.to_dict()))
        except (ValueError, KeyError) as error:
            raise SpecError(
                f"{spec.method.kind} does not fit this model",
                str(error).split("\n")[0][:300],
                f"Its linear layers are {', '.join(linears)}: name some in method.targets, or take another method.",
            ) from error
        except (RuntimeError, NotImplementedError, TypeError):
            return  # some methods look at values, which an empty model has not: then the loaded one will tell


class Budget(TrainerCallback):
    """AdaLoRA's schedule: ranks are taken away after a tenth of the steps, and stay as they are for the last fifth.

    What it has learned about the ranks goes into each checkpoint, so that a resumed run goes on as it would have.
    """

    FILE = "adalora.pt"

    def __init__(self, resume_from: str) -> None:
        self._resume_from = resume_from

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        tuner, steps = _unwrapped(model).base_model, state.max_steps
        config, allocator = tuner.peft_config["default"], tuner.rankallocator
        config.total_step, config.tinit, config.tfinal = steps, steps // 10, max(1, steps // 5)
        config.deltaT = max(1, steps // 100)
        allocator.set_total_step(steps)
        if self._resume_from:
            kept = torch.load(Path(self._resume_from) / self.FILE, weights_only=True, map_location=args.device)
            config.rank_pattern = kept.pop("rank_pattern")
            for name, value in kept.items():
                setattr(allocator, name, value)

    def on_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        if any(parameter.grad is not None for parameter in model.parameters()):  # else this step is skipped: guards.py
            _unwrapped(model).base_model.update_and_allocate(state.global_step + 1)

    def on_save(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        if args.should_save:
            tuner = _unwrapped(model).base_model
            kept = {name: getattr(tuner.rankallocator, name) for name in ("ipt", "exp_avg_ipt", "exp_avg_unc")}
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            torch.save(kept | {"rank_pattern": tuner.peft_config["default"].rank_pattern}, folder / self.FILE)


def method_callbacks(spec: RunSpec, resume_from: str) -> list[TrainerCallback]:
    """They come before the one that announces checkpoints: what they write belongs to them."""
    return [Budget(resume_from)] if spec.method.kind == "adalora" else []


def _unwrapped(model: Any) -> Any:
    return getattr(model, "module", model)


def attach(trainer: Any, spec: RunSpec, run_dir: Path) -> None:
    """What the method needs of the trainer: an optimizer of its own, a loss, the first state of its adapter."""
    if spec.method.variant == "lora+":
        cls, arguments = trainer.get_optimizer_cls_and_kwargs(trainer.args, trainer.model)
        trainer.optimizer = create_loraplus_optimizer(
            trainer.model, cls, **arguments, loraplus_lr_ratio=LORA_PLUS_RATIO,
            loraplus_weight_decay=trainer.args.weight_decay,
        )  # fmt: skip
    if spec.method.kind in AROUND_ONE:
        _widen(trainer)
    if spec.method.kind == "adalora":
        _regularise(trainer)
    if spec.compute.sharding == "layers" and spec.objective != "reward":
        _come_home(trainer)
    if spec.method.variant == "pissa" and trainer.args.should_save and not (run_dir / "pissa").is_dir():
        trainer.model.save_pretrained(str(run_dir / "pissa.tmp"))
        (run_dir / "pissa.tmp").rename(run_dir / "pissa")


def _widen(trainer: Any) -> None:
    """What is trained in fp32: TRL makes it bfloat16 over a quantised base."""
    for parameter in trainer.model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def _come_home(trainer: Any) -> None:
    """The model's outputs on the device that they are asked on. accelerate sees to it for layers on several cards, but TRL's
    fused head goes around it, and leaves the loss on the last card."""
    base = trainer.model.get_base_model() if hasattr(trainer.model, "peft_config") else trainer.model
    forward, home = base.forward, trainer.accelerator.device

    @functools.wraps(type(base).forward)
    def from_there(*given: Any, **named: Any) -> Any:
        return send_to_device(forward(*given, **named), home, skip_keys="past_key_values")

    base.forward = from_there


def _regularise(trainer: Any) -> None:
    """AdaLoRA's orthogonal regularisation, which peft adds to a loss that the model returns: TRL computes its own."""
    compute, tuner = trainer.compute_loss, trainer.model.base_model
    weight = tuner.peft_config["default"].orth_reg_weight
    for name, parameter in trainer.model.named_parameters():
        if "ranknum" in name:  # a count, which peft leaves open to gradients on a quantised base
            parameter.requires_grad_(False)

    def compute_loss(model: Any, inputs: Any, return_outputs: bool = False, **given: Any) -> Any:
        made = compute(model, inputs, return_outputs=return_outputs, **given)
        if not model.training:
            return made
        extra = weight * _skew(tuner)
        if trainer.loss_is_scaled_for_ga is not False:  # else the trainer divides the whole loss itself
            extra = extra / trainer.args.gradient_accumulation_steps
        if hasattr(trainer, "_metrics"):  # the loss contains it: how much of it this is
            trainer._metrics["train"]["regularisation"].append(extra.item())
        return (made[0] + extra, made[1]) if return_outputs else made + extra

    trainer.compute_loss = compute_loss


def _skew(tuner: Any) -> Any:
    """How far the adapter's factors are from orthogonal: the mean Frobenius norm (Zhang et al. 2023, equation 4)."""
    norms = []
    for name, p in tuner.named_parameters():
        if "lora_A" in name or "lora_B" in name:
            square = p @ p.T if "lora_A" in name else p.T @ p
            norms.append(torch.norm(square - torch.eye(len(square), dtype=p.dtype, device=p.device)))
    return sum(norms) / len(norms)


def save_adapter(trainer: Any, spec: RunSpec, run_dir: Path, target: Path) -> None:
    """Save what was trained. PiSSA changes the base: it is saved as a plain LoRA of twice the rank, which any base takes.

    peft cannot convert it beside modules that are saved whole: then whoever loads it takes the base apart again.
    """
    trainer.save_model(str(target))
    whole = spec.objective == "reward" or spec.method.modules_to_save
    if spec.method.variant == "pissa" and not whole and trainer.args.should_save:
        trainer.accelerator.unwrap_model(trainer.model).save_pretrained(
            str(target), path_initial_model_for_weight_conversion=str(run_dir / "pissa")
        )
