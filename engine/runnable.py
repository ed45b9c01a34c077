"""What cannot be trained, said before anything is read or loaded. Pure but for looking at files."""

import ast
import importlib.util
from pathlib import Path

from engine.compatibility import refusals
from engine.errors import SpecError
from engine.spec import RunSpec

FP32_PARTS = ("ia3", "road", "ln_tuning")
"""Methods of which a part stays fp32 over a quantised base."""
PAIRS = ("dpo", "reward", "orpo", "cpo")
"""Objectives that compare a chosen answer with a rejected one."""


def forms(objective: str) -> tuple[str, ...]:
    """The forms of rows (engine.data.formats) that an objective takes."""
    if objective in PAIRS:
        return ("preference",)
    if objective == "kto":
        return ("kto",)
    return (
        ("messages", "prompt_completion", "prompt")
        if objective == "grpo"
        else ("messages", "prompt_completion", "text")
    )


def needs(objective: str) -> str:
    """The same in words."""
    if objective in PAIRS:
        return "pairs with chosen and rejected answers"
    if objective == "kto":
        return "answers with a label, true or false"
    return "prompts" if objective == "grpo" else "conversations, prompts and completions, or text"


def check_runnable(spec: RunSpec) -> None:
    """Raises SpecError for what the engine cannot train, all reasons at once where a table knows them."""
    objective, compute = spec.objective, spec.compute
    if refused := refusals(spec):
        raise SpecError(
            "This cannot be trained", "; ".join(refused), "Change one of the two, or leave it open: see tunedeck plan."
        )
    if objective not in (None, "sft", "text") and (spec.training.packing or spec.training.long_rows == "split"):
        raise SpecError("These rows cannot be packed or split", f"{objective} looks at whole answers.",
                        "Leave packing off; long_rows may be drop or cut.")  # fmt: skip
    if objective not in (None, "sft", "text") and spec.training.group_by_length:
        raise SpecError("These rows cannot be grouped by length", f"{objective} has no one length for a row.",
                        "Leave training.group_by_length off.")  # fmt: skip
    if objective == "reward" and spec.evaluation.prompts:
        raise SpecError("A reward model answers no prompts", "It gives a score.", "Leave evaluation.prompts empty.")
    if objective == "reward" and spec.evaluation.general:
        raise SpecError("A reward model has no loss on text", "It gives a score.", "Leave evaluation.general open.")
    _check_options(spec)
    _check_rewards(spec)
    _check_kernels(spec)
    _check_attention(spec)
    on_cpu = compute.devices == "cpu"
    if compute.sharding in ("zero2", "zero3") and (on_cpu or importlib.util.find_spec("deepspeed") is None):
        why = "On a CPU accelerate would train without it." if on_cpu else "It is not installed: pip install deepspeed."
        raise SpecError("DeepSpeed cannot be used here", why, "Use sharding=fsdp on GPUs: it shares as zero3 does.")
    if compute.sharding in ("zero2", "zero3") and spec.training.nonfinite == "skip":
        raise SpecError("DeepSpeed cannot skip a step", "It steps in its own backward pass, before a gradient can be looked at.",
                        "Use training.nonfinite=stop, or sharding=fsdp.")  # fmt: skip
    if compute.sharding == "zero3" and spec.method.base:
        raise SpecError("ZeRO-3 cannot share quantised weights", f"method.kind is {spec.method.kind}.",
                        "Use sharding=fsdp, which can, or zero2, which leaves the weights whole.")  # fmt: skip
    if spec.method.kind == "adalora" and compute.sharding != "ddp":
        raise SpecError("AdaLoRA cannot be shared out", "It looks at all gradients on one card to tell where its rank helps.",
                        "Use sharding=ddp, or method.kind=lora.")  # fmt: skip
    if (
        compute.sharding == "fsdp"
        and spec.method.base
        and (spec.method.variant == "dora" or spec.method.kind in FP32_PARTS)
    ):
        raise SpecError("FSDP cannot share this over a quantised base", "Its parameters are of two types, which FSDP refuses.",
                        "Use a plain qlora, or sharding=ddp.")  # fmt: skip
    if compute.sharding == "fsdp" and on_cpu:
        raise SpecError("FSDP needs GPUs", "On a CPU the trainer would silently train without it.", "Use sharding=ddp.")
    if compute.sharding == "layers" and (on_cpu or compute.processes > 1):
        raise SpecError("Layers are laid over several GPUs by one process",
                        "compute.devices is cpu." if on_cpu else f"compute.processes is {compute.processes}.",
                        "Use sharding=layers with processes=1 on GPUs, else sharding=ddp.")  # fmt: skip


def _check_options(spec: RunSpec) -> None:
    """What only some objectives or methods have would be ignored without a word elsewhere."""
    options, objective = spec.objective_options, spec.objective
    if options.beta is not None and objective in ("sft", "text", "reward"):
        raise SpecError("This objective has no beta", f"objective_options.beta is {options.beta:g}, objective {objective}.",
                        "Leave it open: dpo, kto, orpo, cpo and grpo have one.")  # fmt: skip
    if (options.generations or options.completion_length) and objective not in (None, "grpo"):
        raise SpecError("Only GRPO writes answers to compare", f"objective is {objective}.",
                        "Leave objective_options.generations and completion_length open.")  # fmt: skip
    if spec.training.fused_head and objective in ("orpo", "cpo", "reward"):
        raise SpecError(
            "This objective has a loss of its own",
            f"training.fused_head is set, objective {objective}.",
            "Leave it open.",
        )
    if spec.method.kind == "full" and spec.extra.peft:
        raise SpecError("Full fine-tuning has no adapter", f"extra.peft has {', '.join(spec.extra.peft)}.",
                        "Leave extra.peft out, or take another method.kind.")  # fmt: skip


def _check_attention(spec: RunSpec) -> None:
    attention = spec.training.attention or ""
    if attention.startswith("flash_attention") and importlib.util.find_spec("flash_attn") is None:
        raise SpecError("Flash attention is not installed", f"training.attention is {attention}.",
                        "pip install flash-attn, or leave it open: sdpa has flash kernels of its own.")  # fmt: skip
    if attention.startswith("fl") and spec.compute.devices == "cpu":
        raise SpecError(
            "This attention needs a GPU", f"training.attention is {attention}, compute.devices cpu.", "Use sdpa."
        )


def _check_kernels(spec: RunSpec) -> None:
    kernels = spec.training.kernels
    package = {"liger": "liger_kernel", "hub": "kernels"}.get(kernels or "")
    if package and spec.compute.devices == "cpu":
        raise SpecError(
            "Kernels are for GPUs", f"training.kernels is {kernels}, and compute.devices cpu.", "Leave it open."
        )
    if package and importlib.util.find_spec(package) is None:
        name = package.replace("_", "-")
        raise SpecError(
            "These kernels are not installed", f"training.kernels={kernels} needs {name}.", f"pip install {name}"
        )


def _check_rewards(spec: RunSpec) -> None:
    """GRPO learns from functions of the user's: they must be named, and be there. Nothing is run."""
    named = spec.objective_options.rewards
    if spec.objective != "grpo":
        if named:
            raise SpecError(
                "Rewards belong to GRPO", f"objective is {spec.objective or 'open'}.", "Set objective=grpo."
            )
        return
    if not named:
        raise SpecError("GRPO needs a reward", "objective_options.rewards is empty.",
                        "Name a function of a Python file: objective_options.rewards=[rewards.py:correct].")  # fmt: skip
    for one in named:
        file, _, name = one.rpartition(":")
        if not file or name not in (defined := _functions(Path(file).expanduser(), one)):
            has = f" It has {', '.join(sorted(defined))}." if file and defined else ""
            raise SpecError(
                "The reward function is not there", f"{one}: no such function.{has}", "Name it as file.py:function."
            )


def _functions(path: Path, named: str) -> set[str]:
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError) as error:
        raise SpecError(
            "The reward file cannot be read", f"{named}: {error}.", "Name it as file.py:function."
        ) from None
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def with_format(spec: RunSpec) -> RunSpec:
    """For GRPO rows with a prompt and no answer are what is wanted, where otherwise an answer would be missing."""
    from engine.data.rows import sources

    if spec.objective != "grpo" or spec.data.format is not None:
        return spec
    found = [one.detected for one in sources(spec.data)]
    alone = all(one.format is None and "prompt" in (*one.columns, *spec.data.columns) for one in found)
    return spec.model_copy(update={"data": spec.data.model_copy(update={"format": "prompt"})}) if alone else spec
