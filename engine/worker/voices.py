"""One base model in memory and those who speak with it: itself, and adapters that are switched without loading it again.

peft holds several adapters of one kind in a model (`load_adapter`, `set_adapter`, `disable_adapter`). An adapter of another
kind, or one whose settings do not go with those that are in, takes their place: they are taken out and it is put in, which reads
the small adapter again, never the base. A fully fine-tuned model, and an adapter that was initialised by changing the base's
weights (PiSSA and the like), are models of their own.
"""

import contextlib
import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from peft import PeftConfig, PeftModel, get_peft_model_state_dict
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

from engine.after.trained import ADAPTER
from engine.errors import RunError
from engine.spec import RunSpec
from engine.worker.generate import ends
from engine.worker.load import load_model, model_call, ready_model, stops_at
from engine.worker.reporter import Reporter

BASE = "base"
CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Beginnings of LoRA's `init_lora_weights` that take the adapter's first state out of the base's weights."""


@dataclass(frozen=True)
class Tuned:
    """What a run saved: an adapter, or a whole model. `plain`: it was trained on text without a chat template."""

    name: str
    path: Path
    spec: RunSpec
    plain: bool = False

    @property
    def adapter(self) -> bool:
        return (self.path / ADAPTER).is_file()

    @property
    def own_model(self) -> bool:
        """Whether it cannot share the base with others."""
        if not self.adapter:
            return True
        settings = json.loads((self.path / ADAPTER).read_text(encoding="utf-8"))
        return str(settings.get("init_lora_weights")).startswith(CHANGES_BASE)


class Voices:
    """`speaking(name)` is a context that gives the model of a voice. `loads` counts how often a model's weights were read."""

    def __init__(self, tuned: list[Tuned], with_base: bool, reporter: Reporter) -> None:
        self.loads = 0
        self.names = [BASE] * with_base + [one.name for one in tuned]
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self._reporter, self._tuned = reporter, {one.name: one for one in tuned}
        self.spec = alone(tuned[0].spec, self.device)
        self._facts = ready_model(self.spec, reporter)
        self._tokenizers = {one.name: AutoTokenizer.from_pretrained(one.path) for one in tuned}
        self._keys = {one.name: f"voice{n:02}" for n, one in enumerate(tuned)}
        shared = with_base or not all(one.own_model for one in tuned)
        self._base: Any = self._load_base() if shared else torch.nn.Module()
        self._modules = [
            (parent, name, child) for parent in self._base.modules() for name, child in parent.named_children()
        ]
        self._own = {one.name: self._load_own(one) for one in tuned if one.own_model}
        self._mounted: Any = None
        for name in reversed(self.names):  # each is put in once, so that what is wrong with it is told now
            with self.speaking(name):
                pass

    @contextlib.contextmanager
    def speaking(self, name: str) -> Iterator[Any]:
        if name in self._own:
            yield self._own[name]
        elif name != BASE:
            yield self._mount(self._tuned[name])
        elif self._mounted is None or self._mounted.active_peft_config.is_prompt_learning:  # then it is untouched
            yield self._base
        else:
            with self._mounted.disable_adapter():
                yield self._mounted

    def tokenizer(self, name: str) -> Any:
        """With the template that it was trained with: the base's is that of the first."""
        return self._tokenizers[self._trained(name).name]

    def plain(self, name: str) -> bool:
        """Whether it is asked to continue a text: there is no template, or none was used in training."""
        return self._trained(name).plain or not self.tokenizer(name).chat_template

    def stops(self, name: str) -> list[int]:
        """The tokens that end its answers, as in training."""
        with self.speaking(name) as model:
            holder = SimpleNamespace(generation_config=copy.deepcopy(model.generation_config))
        stops_at(holder, self.tokenizer(name), self._trained(name).spec)
        return ends(holder, self.tokenizer(name))

    def context(self, name: str) -> int | None:
        """Tokens that it takes with its answer."""
        with self.speaking(name) as model:
            most = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        virtual = self._trained(name).spec.method.virtual_tokens if name != BASE else None
        return None if most is None else int(most) - (virtual or 0)

    def spec_of(self, name: str) -> RunSpec:
        """How it was trained; the base as the first."""
        return self._trained(name).spec

    @property
    def base_lacks_template(self) -> bool:
        return not self._facts.has_template

    @property
    def notes(self) -> list[str]:
        """What one should know when one compares the voices."""
        here, found = _bits(self.spec), list[str]()
        for one in self._tuned.values():
            if one.adapter and _bits(one.spec) != here:
                found.append(f"{one.name} was trained on a base in {_bits(one.spec)} bits; here it has {here}.")
        if self.loads > 1:
            found.append(f"{self.loads} models are in memory: not all of them share the base.")
        return found

    def _trained(self, name: str) -> Tuned:
        return next(iter(self._tuned.values())) if name == BASE else self._tuned[name]

    def _load_base(self) -> Any:
        self._reporter.phase("load", f"loads {Path(self.spec.model.path).name}")
        self.loads += 1
        return placed(load_model(self.spec, self._facts), self.device)

    def _load_own(self, one: Tuned) -> Any:
        if one.adapter:
            return _on(self._load_base(), one, self._keys[one.name])
        self._reporter.phase("load", f"loads {one.name}, a whole model")
        self.loads += 1
        kept = ("dtype", "attn_implementation", "trust_remote_code", "use_safetensors", "device_map")
        options = {name: value for name, value in model_call(alone(one.spec, self.device))[1].items() if name in kept}
        return placed(AutoModelForCausalLM.from_pretrained(one.path, **options), self.device)

    def _mount(self, one: Tuned) -> Any:
        key, model = self._keys[one.name], self._mounted
        if model is not None and key not in model.peft_config and not _joins(model, one, key):
            self._take_out()
        if self._mounted is None:
            self._mounted = _on(self._base, one, key)
        model = self._mounted
        model.set_adapter(key, inference_mode=True)
        return model

    def _take_out(self) -> None:
        """The base as it was, without any adapter: its own modules where they stood. (peft's `unload` leaves a layer that was
        trained whole, `modules_to_save`, in the base.)"""
        self._mounted = None
        for parent, name, child in self._modules:
            setattr(parent, name, child)
        if hasattr(self._base, "peft_config"):  # else peft takes it for a model that has adapters
            del self._base.peft_config


def _joins(model: Any, one: Tuned, key: str) -> bool:
    """Whether the adapter was put beside those that are in; if not, the model must not be used as it is then."""
    if PeftConfig.from_pretrained(str(one.path)).peft_type != model.active_peft_config.peft_type:
        return False
    try:
        model.load_adapter(str(one.path), key)
    except (ValueError, KeyError, NotImplementedError, RuntimeError):
        return False
    _whole(model, one, key)
    return True


def _on(base: Any, one: Tuned, key: str) -> Any:
    """The base with the adapter on it. Raises RunError if that does not fit."""
    try:
        model = PeftModel.from_pretrained(base, str(one.path), adapter_name=key).eval()
        _whole(model, one, key)
        return model
    except (ValueError, KeyError, RuntimeError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        reason = str(error).strip().split("\n")[0][:300]
        raise RunError("The adapter does not fit the base", f"{one.name}: {reason}", "See output.log.") from error


def _bits(spec: RunSpec) -> int:
    """Of a weight of the base."""
    return spec.method.base.bits if spec.method.base else 16 if spec.training.precision == "bf16" else 32


def _whole(model: Any, one: Tuned, key: str) -> None:
    """Raises RunError if the file lacks what the adapter consists of: peft would leave that as it is before training."""
    with safe_open(str(one.path / "adapter_model.safetensors"), "pt") as file:
        there = set(file.keys())
    parts = get_peft_model_state_dict(model, adapter_name=key, save_embedding_layers=False)
    if lacking := sorted(set(parts) - there):
        raise RunError("The adapter is not whole", f"The file of {one.name} lacks {len(lacking)} of {len(parts)} tensors, {lacking[0]} among "
                       "them.", "Take another checkpoint of the run, or train it again.")  # fmt: skip


def alone(spec: RunSpec, device: str) -> RunSpec:
    """The same for one process, on this device: how a base was shared among several while it was trained is over, and what
    only a card can compute is left out on the CPU."""
    sharding = "layers" if spec.compute.sharding == "layers" else "ddp"
    changed: dict[str, Any] = {"compute": spec.compute.model_copy(update={"sharding": sharding, "processes": 1})}
    if device == "cpu":
        attention = "sdpa" if (spec.training.attention or "").startswith("flash") else spec.training.attention
        changed["training"] = spec.training.model_copy(update={"attention": attention, "kernels": None})
    return spec.model_copy(update=changed)


def placed(model: Any, device: str) -> Any:
    """Ready to answer, on the device, if loading has not placed it."""
    there = getattr(model, "hf_device_map", None) or getattr(model, "is_quantized", False)
    return (model if there else model.to(device)).eval()
