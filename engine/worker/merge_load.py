"""The base model in 16 bit on the CPU, the adapter on it, and the adapter merged into it in memory."""

from typing import Any

import torch
from peft import PeftModel
from transformers import set_seed

from engine.after.trained import Trained
from engine.errors import ModelError, RunError
from engine.models import ModelFacts
from engine.text import clean
from engine.worker.load import model_call, stops_at

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
PLACED = ("device_map", "quantization_config", "max_memory", "offload_folder", "use_kernels", "dtype", "torch_dtype")
"""What a run's own way of loading says of devices and quantisation: none of it is for merging."""


def base_call(trained: Trained, facts: ModelFacts, dtype: torch.dtype) -> tuple[Any, dict[str, Any]]:
    """The class of the base model and the arguments of its from_pretrained: never quantised, on the CPU."""
    kind, options = model_call(trained.spec)
    options = {name: value for name, value in options.items() if name not in PLACED}
    if options.get("attn_implementation") not in ("eager", "sdpa"):  # the others want a GPU
        options["attn_implementation"] = "sdpa"
    return kind, options | {"dtype": dtype}


def adapted(trained: Trained, facts: ModelFacts, dtype: torch.dtype, tokenizer: Any) -> Any:
    """The base in 16 bit with the adapter on it, as it is evaluated. Raises ModelError, RunError."""
    kind, options = base_call(trained, facts, dtype)
    if trained.spec.objective == "reward":
        set_seed(trained.spec.training.seed)  # the score's weights are random until the adapter brings its own
    try:
        model = kind.from_pretrained(facts.path, **options)
    except (OSError, ValueError) as error:
        raise ModelError(
            "The base model cannot be loaded", str(error).split("\n")[0][:300], "See output.log."
        ) from error
    if model.can_generate():
        stops_at(model, tokenizer, trained.spec)
    try:
        return PeftModel.from_pretrained(model, str(trained.path)).eval()
    except (RuntimeError, ValueError, KeyError) as error:
        first = clean(str(error).strip().split("\n")[0], False)[:300]
        raise RunError("The adapter does not fit the base model", first, "See output.log.") from error


def merged_in_memory(model: Any, dtype: torch.dtype) -> Any:
    """The adapter's changes in the base's own weights. Raises RunError if what comes out is not finite."""
    _untie(model)
    try:
        merged = model.merge_and_unload()
    except (NotImplementedError, ValueError, RuntimeError, AttributeError) as error:
        first = clean(str(error).strip().split("\n")[0], False)[:300]
        raise RunError(
            "This adapter cannot be merged", first, "Take the adapter away as it is: tunedeck export"
        ) from error
    merged = merged.to(dtype)
    _tie_again(merged)
    for name, parameter in merged.named_parameters():
        check_finite(name, parameter, dtype)
    return merged


def check_finite(name: str, tensor: torch.Tensor, dtype: torch.dtype) -> None:
    """Raises RunError."""
    if not torch.isfinite(tensor).all():
        hint = (
            "Take --dtype bfloat16."
            if dtype is torch.float16
            else "The adapter is broken: merge an earlier one, --step N"
        )
        raise RunError("A merged weight is not finite", f"{name} has NaN or infinite values in {dtype}.", hint)


def embeddings(model: Any) -> tuple[Any, Any]:
    """The modules of the input and the output embeddings; None where there is none."""
    try:
        return model.get_input_embeddings(), model.get_output_embeddings()
    except (NotImplementedError, AttributeError):
        return None, None


def own_weight(module: Any) -> tuple[Any, Any]:
    """The module that holds the base's own weight, under whatever the adapter put around it, and the weight."""
    while module is not None and not isinstance(module, torch.nn.Linear | torch.nn.Embedding):
        inner = getattr(module, "base_layer", None) or getattr(module, "original_module", None)
        if inner is None:
            break
        module = inner
    return module, getattr(module, "weight", None)


def _untie(model: Any) -> None:
    """Give the head a copy of its own where it shares its weights with the embedding and the adapter changes one of the
    two: merged in place, the change would be in both."""
    base = model.get_base_model()
    first, last = embeddings(base)
    (_, shared), (head, weight) = own_weight(first), own_weight(last)
    plain = isinstance(first, torch.nn.Embedding) and type(last) is torch.nn.Linear
    if head is None or shared is None or weight is None or plain or weight.data_ptr() != shared.data_ptr():
        return
    head.weight = torch.nn.Parameter(weight.detach().clone(), requires_grad=False)


def _tie_again(model: Any) -> None:
    """The configuration may say that embedding and head are one only where they are."""
    first, last = embeddings(model)
    if first is not None and last is not None and first.weight.data_ptr() != last.weight.data_ptr():
        untied(model.config)


def untied(config: Any) -> None:
    """Say that the head has weights of its own."""
    for one in {id(c): c for c in (config, config.get_text_config())}.values():
        one.tie_word_embeddings = False
