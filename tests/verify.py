"""Did a run train what it should, and does what it saved answer as it did? With plain transformers and peft, nothing of ours."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from engine.spec import RunSpec
from engine.worker.load import quantization
from tests.train import Trained

PROMPT = "Say 3 and then tell how it goes on."


class Verdict(NamedTuple):
    """Largest differences of logits: of the saved model from the one in memory, and of that one from the base.

    `rounding` is the share of what was learned that the run's precision may lose. `changed` are base weights that are not as they were loaded; `trainable` the names of what has gradients.
    """

    error: float
    moved: float
    rounding: float
    changed: list[str]
    trainable: list[str]

    @property
    def good(self) -> bool:
        return self.moved > 1e-3 and self.error <= max(1e-4, self.rounding * self.moved)


def load_base(spec: RunSpec, directory: Path | str | None = None) -> Any:
    """As anybody would load it, in the run's precision and quantisation."""
    dtype = torch.bfloat16 if spec.training.precision == "bf16" else torch.float32
    options: dict[str, Any] = (
        {"quantization_config": quantization(spec), "device_map": {"": "cpu"}} if spec.method.base else {}
    )
    if spec.objective == "reward":
        torch.manual_seed(0)
        return AutoModelForSequenceClassification.from_pretrained(
            directory or spec.model.path, dtype=dtype, num_labels=1, **options
        )
    return AutoModelForCausalLM.from_pretrained(directory or spec.model.path, dtype=dtype, **options)


def load_saved(spec: RunSpec, directory: Path) -> Any:
    if spec.method.kind == "full":
        return load_base(spec, directory)
    return PeftModel.from_pretrained(load_base(spec), str(directory))


def logits(model: Any, tokenizer: Any, quantised: bool = False) -> torch.Tensor:
    """Of a fixed prompt, in float32. On a quantised base some of peft's layers want autocast, as training has it."""
    training, inputs = model.training, tokenizer(PROMPT, return_tensors="pt")
    model.eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=quantised):
        found: torch.Tensor = model(**inputs).logits.float()
    model.train(training)
    return found


def verdict(run: Trained, spec: RunSpec) -> Verdict:
    """Compare the model in the trainer's memory with what it saved and with the base."""
    tokenizer = AutoTokenizer.from_pretrained(run.model)
    memory = run.trainer.accelerator.unwrap_model(run.trainer.model)
    base, saved = load_base(spec), load_saved(spec, run.model)
    inside, outside, before = (
        logits(model, tokenizer, spec.method.base is not None) for model in (memory, saved, base)
    )
    names = [name for name, p in memory.named_parameters() if p.requires_grad]
    rounding = 0.1 if spec.training.precision == "bf16" else 0.02
    return Verdict(_most(inside, outside), _most(inside, before), rounding, _changed(memory, base), names)


def _most(a: torch.Tensor, b: torch.Tensor) -> float:
    return (a - b).abs().max().item() if a.shape == b.shape else float("inf")


def _changed(memory: Any, base: Any) -> list[str]:
    """Weights of the base that the run has changed in place."""
    plain = {_plain(name): p for name, p in memory.named_parameters()}
    return [name for name, p in base.named_parameters()
            if (mine := plain.get(name)) is not None and mine.shape == p.shape and not torch.equal(mine.cpu(), p.cpu())]  # fmt: skip


def _plain(name: str) -> str:
    """A parameter's name without what peft wraps around it."""
    return name.removeprefix("base_model.model.").removeprefix("base_model.").replace(".base_layer", "")


def merged_error(run: Trained, spec: RunSpec) -> float:
    """How far the logits are off when the adapter is merged into the weights."""
    tokenizer = AutoTokenizer.from_pretrained(run.model)
    saved = load_saved(spec, run.model)
    apart = logits(saved, tokenizer)
    return _most(apart, logits(saved.merge_and_unload(), tokenizer))
