"""A run as an Axolotl file, with the rows that it trained on.

The names and defaults are those of Axolotl 0.21, read in its source (axolotl/utils/schemas, core/builders, prompt_strategies).
Axolotl itself was never run on such a file: it needs Python 3.12 and a GPU. What TuneDeck and Axolotl do differently stands at
the top of the file.
"""

import importlib.metadata
from pathlib import Path
from typing import Any

import yaml

from engine.data.tokens import BUILT_IN
from engine.errors import SpecError
from engine.exchange.axolotl_rows import write_rows
from engine.exchange.from_axolotl import PASSED
from engine.exchange.place import Exported, filled
from engine.exchange.reading import Left
from engine.exchange.to_trl import as_trained, not_carried
from engine.launch import same_data
from engine.spec import RunSpec
from engine.store import runs

NAME = "axolotl.yml"
METHODS = ("full", "lora", "qlora")
OBJECTIVES = ("sft", "text", "dpo", "orpo", "kto", "reward")


def to_axolotl(database: Path, run: runs.Row, target: Path) -> Exported:
    """Write axolotl.yml and its rows into `target`. Raises TuneDeckError, also for what Axolotl does not have."""
    same_data(run)
    spec, notes = as_trained(database, run)
    refuse(spec)
    left = left_out(spec)
    start = f"axolotl train {NAME}"
    if spec.compute.processes > 1:
        start += f" --launcher torchrun -- --nproc-per-node={spec.compute.processes}"
    with filled(target) as place:
        data, rows = write_rows(spec, place)
        settings = {**_model(spec), **_method(spec), **data, **_training(spec), **_objective(spec), **_evaluation(spec),
                    **_trackers(spec), **_compute(spec), **_passed(spec)}  # fmt: skip
        if spec.data.template:
            (place / "chat_template.jinja").write_text(template_text(spec.data.template), encoding="utf-8")
            settings |= {"chat_template": "jinja", "chat_template_jinja": "chat_template.jinja"}
        (place / NAME).write_text(_text(run, start, settings, left), encoding="utf-8")
        files = sorted(path.name for path in place.iterdir())
    return Exported(files, rows, start, left, notes)


def refuse(spec: RunSpec) -> None:
    """Raises SpecError for what no Axolotl file can say."""
    problem = ""
    if spec.method.kind not in METHODS:
        problem = f"method {spec.method.kind}; it trains {', '.join(METHODS)}"
    elif (spec.objective or "sft") not in OBJECTIVES:
        problem = f"objective {spec.objective} as TuneDeck trains it; it has {', '.join(OBJECTIVES)}"
    if problem:
        raise SpecError("Axolotl cannot train this run", f"It has no {problem}.", "Export it with --to trl.")


def template_text(named: str) -> str:
    """The text of data.template: one that comes with TuneDeck, or a file."""
    path = BUILT_IN / f"{named}.jinja" if named in ("chatml", "alpaca") else Path(named)
    return path.read_text(encoding="utf-8")


def left_out(spec: RunSpec) -> list[Left]:
    """What the file cannot say, or says in another way."""
    t, found = spec.training, [one for one in not_carried(spec) if one.key != "report_to"]
    if t.precision == "mixed":
        found.append(Left("training.precision", "mixed", "Axolotl keeps weights in bfloat16 where the run had float32"))
    if t.long_rows == "split":
        found.append(Left("training.long_rows", "split", "Axolotl can drop or cut long rows: they are cut"))
    if t.packing:
        found.append(Left("training.packing", True, "Axolotl packs other rows together: steps and losses differ"))
    found.append(Left("training.seed", t.seed, "Axolotl shuffles in its own way: the losses of single steps differ"))
    if spec.objective == "kto":
        found.append(Left("data.template", spec.data.template or "the model's", "for KTO Axolotl always writes ChatML"))
    if spec.compute.devices == "cpu":
        found.append(Left("compute.devices", "cpu", "Axolotl trains on a GPU"))
    if spec.compute.sharding not in ("ddp", "fsdp", "zero2", "zero3"):
        found.append(Left("compute.sharding", spec.compute.sharding, "set device_map in the file"))
    if spec.method.targets == "attention":
        found.append(
            Left("method.targets", "attention", "named as q, k, v and o_proj: other models name them otherwise")
        )
    extra = {"trainer": PASSED, "peft": (), "model": ()}
    for section, known in extra.items():
        for name, value in getattr(spec.extra, section).items():
            if name not in known and name not in _RENAMED:
                found.append(
                    Left(f"extra.{section}.{name}", value, "Axolotl has no such setting, or another name for it")
                )
    return found


_RENAMED = {"loss_type": "dpo_loss_type", "label_smoothing": "dpo_label_smoothing", "desirable_weight": "kto_desirable_weight",
            "undesirable_weight": "kto_undesirable_weight"}  # fmt: skip


def _passed(spec: RunSpec) -> dict[str, Any]:
    """extra.trainer, as far as Axolotl has it."""
    found: dict[str, Any] = {}
    for name, value in spec.extra.trainer.items():
        if name in PASSED:
            found[name] = value
        elif name in _RENAMED:
            found[_RENAMED[name]] = [value] if name == "loss_type" and isinstance(value, str) else value
    return found


def _model(spec: RunSpec) -> dict[str, Any]:
    found: dict[str, Any] = {"base_model": spec.model.path}
    if spec.model.revision:
        found["revision_of_model"] = spec.model.revision
    return found | ({"trust_remote_code": True} if spec.model.trust_remote_code else {})


def _method(spec: RunSpec) -> dict[str, Any]:
    m, base = spec.method, spec.method.base
    if m.kind == "full":
        return {}
    found: dict[str, Any] = {"adapter": "qlora" if base and base.bits == 4 else "lora", "lora_r": m.rank,
                             "lora_alpha": _whole(m.alpha), "lora_dropout": m.dropout or 0.0}  # fmt: skip
    if base:
        found[f"load_in_{base.bits}bit"] = True
    if base and base.bits == 4:
        found["bnb_config_kwargs"] = {"bnb_4bit_quant_type": base.type, "bnb_4bit_use_double_quant": base.double}
    if m.targets in (None, "all-linear"):
        found["lora_target_linear"] = True
    else:
        found["lora_target_modules"] = (
            ["q_proj", "k_proj", "v_proj", "o_proj"] if m.targets == "attention" else m.targets
        )
    if m.modules_to_save:
        found["lora_modules_to_save"] = m.modules_to_save
    variants: dict[str | None, dict[str, Any]] = {
        "dora": {"peft_use_dora": True}, "rslora": {"peft_use_rslora": True}, "pissa": {"peft_init_lora_weights": "pissa"},
        "lora+": {"loraplus_lr_ratio": 16},
    }  # fmt: skip
    return found | variants.get(m.variant, {})


def _training(spec: RunSpec) -> dict[str, Any]:
    t = spec.training
    warmup = {"warmup_ratio": t.warmup} if t.warmup and t.warmup < 1 else {"warmup_steps": int(t.warmup or 0)}
    found: dict[str, Any] = {
        "sequence_len": t.max_length, "excess_length_strategy": "drop" if t.long_rows == "drop" else "truncate",
        "sample_packing": bool(t.packing), "micro_batch_size": t.micro_batch, "gradient_accumulation_steps": t.accumulation,
        "num_epochs": t.epochs, "max_steps": t.max_steps, "learning_rate": t.learning_rate, "lr_scheduler": t.schedule,
        **warmup, "optimizer": t.optimizer, "weight_decay": t.weight_decay, "max_grad_norm": t.max_grad_norm,
        "bf16": t.precision != "fp32", "tf32": False, "gradient_checkpointing": bool(t.checkpointing),
        "attn_implementation": t.attention, "seed": t.seed, "output_dir": "output",
        "group_by_length": True if t.group_by_length else None, "torch_compile": True if t.compile else None,
    }  # fmt: skip
    if t.packing:
        found["eval_sample_packing"] = False
    return {name: value for name, value in found.items() if value is not None}


def _objective(spec: RunSpec) -> dict[str, Any]:
    beta = spec.objective_options.beta
    if spec.objective == "reward":
        return {"reward_model": True, "num_labels": 1}
    found: dict[str, Any] = {"rl": spec.objective} if spec.objective in ("dpo", "orpo", "kto") else {}
    if spec.objective == "orpo":
        return found | ({"orpo_alpha": beta} if beta is not None else {})
    found |= {"remove_unused_columns": False} if spec.objective == "kto" else {}  # Axolotl asks for it
    return found | ({"rl_beta": beta} if beta is not None and found else {})


def _evaluation(spec: RunSpec) -> dict[str, Any]:
    found: dict[str, Any] = {"save_total_limit": spec.saving.keep}
    for what, often in (("eval", spec.evaluation.every), ("save", spec.saving.every)):
        if not often:
            found[f"{what}_strategy"] = "no"
        elif often >= 1:
            found[f"{what}_steps"] = int(often)
        else:
            found[f"{what}s_per_epoch"] = round(1 / often)
    if not spec.data.validation:
        found = {name: value for name, value in found.items() if not name.startswith("eval")}
    if spec.evaluation.early_stopping:
        found["early_stopping_patience"] = spec.evaluation.early_stopping
    return found


def _trackers(spec: RunSpec) -> dict[str, Any]:
    project, name = spec.run.project, spec.run.name
    known: dict[str, dict[str, Any]] = {
        "wandb": {"use_wandb": True, "wandb_project": project, "wandb_name": name, "wandb_mode": "offline"},
        "mlflow": {"use_mlflow": True, "mlflow_experiment_name": project, "mlflow_run_name": name},
        "tensorboard": {"use_tensorboard": True},
        "trackio": {"use_trackio": True, "trackio_project_name": project, "trackio_run_name": name},
    }  # fmt: skip
    return {key: value for tracker in spec.report_to for key, value in known.get(tracker, {}).items()}


def _compute(spec: RunSpec) -> dict[str, Any]:
    if spec.compute.sharding == "fsdp":
        return {"fsdp_version": 2, "fsdp_config": {"auto_wrap_policy": "TRANSFORMER_BASED_WRAP", "reshard_after_forward": True,
                                                   "state_dict_type": "FULL_STATE_DICT"}}  # fmt: skip
    if spec.compute.sharding in ("zero2", "zero3"):
        return {"deepspeed": f"deepspeed_configs/{spec.compute.sharding}.json"}
    return {}


def _whole(value: float | None) -> Any:
    return int(value) if value is not None and value == int(value) else value


def _text(run: runs.Row, start: str, settings: dict[str, Any], left: list[Left]) -> str:
    lines = [
        f"The run {run['name']} ({run['id']}), by TuneDeck {importlib.metadata.version('tunedeck')} for Axolotl 0.21.",
        f"In this directory: {start}",
        *(f"Not as in the run: {one.key}: {str(one.value)[:60]} ({one.why})" for one in left),
    ]
    if "deepspeed" in settings:
        lines.append("Its settings: axolotl fetch deepspeed_configs")
    head = "".join(f"# {' '.join(line.split())}\n" for line in lines)
    return head + yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
