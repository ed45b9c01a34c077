"""The base model and the tuned one, to be asked the same: one set of base weights with the adapter switched on and off."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from engine.after.trained import ADAPTER
from engine.errors import RunError
from engine.spec import RunSpec
from engine.worker.load import load_model, ready_model, stops_at
from engine.worker.reporter import Reporter


class Pair:
    """`base()` and `tuned()` are contexts that give the model in that state, ready to generate.

    With an adapter both are the same module. Fully fine-tuned weights are a second model: both are in memory then.
    """

    def __init__(self, spec: RunSpec, path: Path, reporter: Reporter) -> None:
        if spec.objective == "reward":
            raise RunError(
                "A reward model writes nothing", "It gives answers a score.", "Use it where GRPO or a judge wants one."
            )
        reporter.phase("load", Path(spec.model.path).name)
        self.spec, self.path = spec, path
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        facts = ready_model(spec, reporter)
        self.tokenizer: Any = AutoTokenizer.from_pretrained(path)  # with the template that it was trained with
        self.adapter = (path / ADAPTER).is_file()
        self._base: Any = _ready(load_model(spec, facts), self.device)
        stops_at(self._base, self.tokenizer, spec)
        if self.adapter:
            self._tuned: Any = PeftModel.from_pretrained(self._base, path).eval()
        else:
            kind = AutoModelForCausalLM
            self._tuned = _ready(kind.from_pretrained(path, dtype=self._base.dtype, use_safetensors=True), self.device)
            stops_at(self._tuned, self.tokenizer, spec)

    @contextlib.contextmanager
    def base(self) -> Iterator[Any]:
        if not self.adapter:
            yield self._base
            return
        with self._tuned.disable_adapter():
            yield self._tuned

    @contextlib.contextmanager
    def tuned(self) -> Iterator[Any]:
        yield self._tuned


def _ready(model: Any, device: str) -> Any:
    placed = getattr(model, "hf_device_map", None) or getattr(model, "is_quantized", False)
    return (model if placed else model.to(device)).eval()
