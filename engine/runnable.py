"""What cannot be trained, said before anything is read or loaded. Pure but for looking at files."""

import ast
import importlib.util
from pathlib import Path

from engine.compatibility import refusals
from engine.errors import SpecError
from engine.spec import RunSpec

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
    _check_rewards(spec)
    _check_kernels(spec)
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
    if compute.sharding == "fsdp" and on_cpu:
        raise SpecError("FSDP needs GPUs", "On a CPU the trainer would silently train without it.", "Use sharding=ddp.")
    if compute.sharding == "layers" and (on_cpu or compute.processes > 1):
        raise SpecError("Layers are laid over several GPUs by one process",
                        "compute.devices is cpu." if on_cpu else f"compute.processes is {compute.processes}.",
                        "Use sharding=layers with processes=1 on GPUs, else sharding=ddp.")  # fmt: skip


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
