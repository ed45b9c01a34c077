"""The base model and the tuned one, to be asked the same: one set of base weights with the adapter switched on and off."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoTokenizer

from engine.after.trained import ADAPTER
from engine.errors import RunError
from engine.spec import RunSpec
from engine.worker.load import load_model, model_call, ready_model, stops_at
from engine.worker.reporter import Reporter


class Pair:
    """`base()` and `tuned()` are contexts that give the model in that state, ready to generate.

    With an adapter both are the same module. Fully fine-tuned weights are a second model: both are in memory then. So is the
    base of an adapter that changes the base's weights when it is put on (a checkpoint of PiSSA).
    """

    def __init__(self, spec: RunSpec, path: Path, reporter: Reporter) -> None:
        if spec.objective == "reward":
            raise RunError(
                "A reward model writes nothing", "It gives answers a score.", "Use it where GRPO or a judge wants one."
            )
        reporter.phase("load", Path(spec.model.path).name)
        if spec.compute.sharding != "layers":  # what was shared out in training is whole here
            spec = spec.model_copy(update={"compute": spec.compute.model_copy(update={"sharding": "ddp"})})
        self.spec, self.path = spec, path
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        facts = ready_model(spec, reporter)
        # with the template that it was trained with
        self.tokenizer: Any = AutoTokenizer.from_pretrained(path, trust_remote_code=spec.model.trust_remote_code)
        self.adapter = (path / ADAPTER).is_file()
        self._base: Any = _ready(load_model(spec, facts), self.device)
        stops_at(self._base, self.tokenizer, spec)
        self._apart = not self.adapter or _changes_base(path)
        if self.adapter:
            under = _ready(load_model(spec, facts), self.device) if self._apart else self._base
            stops_at(under, self.tokenizer, spec)
            self._tuned: Any = PeftModel.from_pretrained(under, path).eval()
        else:
            kind, options = model_call(spec)
            self._tuned = _ready(kind.from_pretrained(path, **options | {"revision": None}), self.device)
            stops_at(self._tuned, self.tokenizer, spec)

    @property
    def learned_prompts(self) -> bool:
        """Whether what was learned stands before the text: prompt tuning and its like."""
        return self.adapter and bool(self._tuned.active_peft_config.is_prompt_learning)

    @contextlib.contextmanager
    def base(self) -> Iterator[Any]:
        if self._apart:
            yield self._base
            return
        with self._tuned.disable_adapter():
            yield self._tuned

    @contextlib.contextmanager
    def tuned(self) -> Iterator[Any]:
        yield self._tuned


def _changes_base(path: Path) -> bool:
    """Whether an adapter takes the base's weights apart when it is put on: without it they are not the base's then."""
    start = json.loads((path / ADAPTER).read_text(encoding="utf-8")).get("init_lora_weights")
    return isinstance(start, str) and start.startswith(("pissa", "olora", "corda"))


def _ready(model: Any, device: str) -> Any:
    placed = getattr(model, "hf_device_map", None) or getattr(model, "is_quantized", False)
    return (model if placed else model.to(device)).eval()
