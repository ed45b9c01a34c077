"""A merge for models that do not fit into memory: one weight at a time, from the base's files into new ones of the same names.

The arithmetic is peft's own: the model is made on the meta device, without weights; of each module that the adapter
changes the weight is read from the base's files, merged by that module's `merge()`, written and forgotten. So what comes out
is what merge_and_unload gives, bit for bit.
"""

import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from peft import PeftConfig, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import ModulesToSaveWrapper, load_peft_weights, set_peft_model_state_dict
from safetensors import safe_open
from transformers import AutoConfig, GenerationConfig

from engine.after.target import flush
from engine.after.trained import Trained
from engine.fingerprint import header
from engine.models import ModelFacts
from engine.worker.load import stops_at
from engine.worker.merge_check import weight_difference
from engine.worker.merge_load import base_call, check_finite, embeddings, untied

KNOWN = ("LORA", "LOHA", "LOKR", "IA3", "HRA", "DELORA", "MISS")
"""peft's types whose modules merge each by itself and whose files hold all that they need; tests/engine/test_merge_shards.py
compares each with merge_and_unload."""
NAMES = {torch.bfloat16: "BF16", torch.float16: "F16", torch.float32: "F32", torch.float64: "F64"}
FLOATS = ("BF16", "F16", "F32", "F64")
INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
PROBES = 8
"""Rows that a single module is asked before and after it is merged."""


class NotByShards(Exception):
    """Why this model or adapter cannot be merged one weight at a time, in words that follow 'because'."""


@dataclass
class Shards:
    """The model without weights and where its weights are. `files`: by file the names in it, in their order; `place`: the
    file of a name; `names`: the model's own name for each name in the files; `extra`: names that the files have not, as they
    are tied, with the name of the weight that they share, to be written into its file."""

    model: Any
    folder: Path
    dtype: torch.dtype
    files: dict[str, dict[str, Any]]
    names: dict[str, str]
    extra: dict[str, str]
    worst: float = 0.0
    _last: tuple[str, dict[str, torch.Tensor]] = ("", {})

    @functools.cached_property
    def place(self) -> dict[str, str]:
        return {name: file for file, found in self.files.items() for name in found}

    @functools.cached_property
    def given(self) -> dict[str, str]:
        """The other way round: by the model's own name the one in the files, or the one that is written now."""
        return {own: name for name, own in self.names.items()} | {name: name for name in self.extra}

    def contents(self, file: str) -> dict[str, tuple[str, list[int]]]:
        """What the merged file of this name will hold: dtype and shape by name."""
        found = {}
        for name, about in self.files[file].items():
            kind = NAMES[self.dtype] if about["dtype"] in FLOATS else about["dtype"]
            found[name] = (kind, about["shape"])
            for extra, source in self.extra.items():
                if source == name:
                    found[extra] = (kind, about["shape"])
        return found

    def read(self, name: str) -> torch.Tensor:
        """A tensor as the base's files have it, floats in the merge's type."""
        with safe_open(self.folder / self.place[name], framework="pt") as file:
            tensor: torch.Tensor = file.get_tensor(name)
        return tensor.to(self.dtype) if tensor.is_floating_point() else tensor

    @torch.no_grad()
    def merged(self, name: str, probe: bool = False) -> torch.Tensor:
        """The tensor of this name, merged."""
        own = self.names.get(name, name)
        module_name, _, leaf = own.rpartition(".")
        wrapper, rest = _kept_whole(self.model, own)
        if wrapper is not None:
            tensor: torch.Tensor = (
                wrapper.modules_to_save[wrapper.active_adapters[0]].get_parameter(rest).to(self.dtype)
            )
        else:
            module = _module(self.model, module_name)
            if not isinstance(module, BaseTunerLayer):
                return self.read(self.extra.get(name, name))
            if self._last[0] != module_name:
                self._last = module_name, self._merge(module, module_name, probe)
            if leaf not in self._last[1]:  # in the files, but nothing that the module knows
                return self.read(name)
            tensor = self._last[1][leaf]
        check_finite(name, tensor, self.dtype)
        return tensor

    def _merge(self, module: Any, module_name: str, probe: bool) -> dict[str, torch.Tensor]:
        """The parameters of a module that the adapter changes, merged; the module is without weights again afterwards."""
        layer = module.get_base_layer()
        empty = dict(layer.named_parameters(recurse=False))
        for leaf in empty:
            name = self.given[f"{module_name}.{leaf}"]
            tensor = self.read(self.extra.get(name, name))
            setattr(layer, leaf, torch.nn.Parameter(tensor.clone(), requires_grad=False))
        before = _answer(module, layer) if probe else None
        module.merge()
        if before is not None:
            self.worst = max(self.worst, weight_difference(before, _answer(module, layer)))
        found = {leaf: getattr(layer, leaf).detach() for leaf in empty}
        for leaf, parameter in empty.items():
            setattr(layer, leaf, parameter)
        module.merged_adapters.clear()
        return found


def _answer(module: Any, layer: Any) -> Any:
    """What a module gives for the same random input each time."""
    generator = torch.Generator().manual_seed(0)
    if isinstance(layer, torch.nn.Embedding):
        return module(torch.randint(layer.num_embeddings, (1, PROBES), generator=generator))
    width = layer.weight.shape[-1] if isinstance(layer, torch.nn.Linear) else layer.weight.shape[0]
    return module(torch.randn(PROBES, width, generator=generator).to(layer.weight.dtype))


def _module(model: Any, name: str) -> Any:
    try:
        return model.get_submodule(name)
    except AttributeError:
        return None


def _kept_whole(model: Any, own: str) -> tuple[Any, str]:
    """The wrapper of the module that the adapter has whole (modules_to_save) and in which this name lies; None if there is none."""
    parts = own.split(".")
    for i in range(1, len(parts)):
        module = _module(model, ".".join(parts[:i]))
        if module is None:
            return None, ""
        if isinstance(module, ModulesToSaveWrapper):
            return module, ".".join(parts[i:])
    return None, ""


def prepared(trained: Trained, facts: ModelFacts, dtype: torch.dtype, tokenizer: Any) -> Shards:
    """Everything but the weights. Raises NotByShards."""
    config = PeftConfig.from_pretrained(str(trained.path))
    _check_adapter(config, trained)
    folder = Path(facts.path)
    if not folder.is_dir():
        raise NotByShards("the base model is not here yet: it is downloaded as it is loaded")
    kind, options = base_call(trained, facts, dtype)
    remote = {"trust_remote_code": options["trust_remote_code"]}
    settings = AutoConfig.from_pretrained(folder, **remote)
    with torch.device("meta"):
        model = kind.from_config(settings, dtype=dtype, **remote)
    if model._keep_in_fp32_modules or model._keep_in_fp32_modules_strict:
        raise NotByShards("some of its weights have to stay in 32 bits")
    if model.can_generate():
        if (folder / "generation_config.json").is_file():
            model.generation_config = GenerationConfig.from_pretrained(folder)
        stops_at(model, tokenizer, trained.spec)
    files = {name: header(folder / name) for name in _files(folder)}
    names = _names(model, [name for found in files.values() for name in found])
    absent = set(model.state_dict()) - set(names.values()) - set(getattr(model, "all_tied_weights_keys", None) or {})
    if absent:
        raise NotByShards(f"its files have other names for its weights ({sorted(absent)[0]})")
    adapted = _with_adapter(model, config, trained.path)
    return Shards(model, folder, dtype, files, names, _shared(adapted, names))


def _check_adapter(config: Any, trained: Trained) -> None:
    """Raises NotByShards for what needs the whole model at once."""
    kind = str(getattr(config.peft_type, "value", config.peft_type))
    if kind not in KNOWN:
        raise NotByShards(f"{trained.spec.method.kind} needs the whole model at once")
    if trained.spec.objective == "reward":
        raise NotByShards("a reward model has a head that the base has not")
    whole = ("target_parameters", "trainable_token_indices", "layer_replication", "ensure_weight_tying", "arrow_config",
             "alora_invocation_tokens", "megatron_config", "eva_config", "corda_config")  # fmt: skip
    for name in whole:
        if getattr(config, name, None):
            raise NotByShards(f"the adapter uses {name}")
    if getattr(config, "bias", "none") != "none":
        raise NotByShards("the adapter has changed the base's biases")
    if kind == "LORA" and not isinstance(config.init_lora_weights, bool) and config.init_lora_weights != "gaussian":
        raise NotByShards(f"{config.init_lora_weights} takes the base's weights apart first")


def _files(folder: Path) -> list[str]:
    """The names of the files that hold the weights, as transformers takes them."""
    if (folder / SINGLE).is_file():
        return [SINGLE]
    if (folder / INDEX).is_file():
        return sorted(set(json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values()))
    raise NotByShards(f"{folder} has neither {SINGLE} nor {INDEX}")


def _names(model: Any, given: list[str]) -> dict[str, str]:
    """The model's own name for each name in the files: some files leave the name of the body out, or hold more than the model."""
    own, prefix = set(model.state_dict()), f"{model.base_model_prefix}."
    return {name: name if name in own else prefix + name for name in given if name in own or prefix + name in own}


def _with_adapter(model: Any, config: Any, path: Path) -> Any:
    """The adapter on the empty model, with its own weights on the CPU, in the type in which peft computes with them."""
    config.inference_mode = True
    with torch.device("meta"):
        adapted = get_peft_model(model, config)
    given = load_peft_weights(str(path), device="cpu")
    # which puts the adapter where the base is, and that is nowhere
    with mock.patch.object(BaseTunerLayer, "_move_adapter_to_device_of_base_layer"):
        found = set_peft_model_state_dict(adapted, given, low_cpu_mem_usage=True)
    if found.unexpected_keys:
        raise NotByShards(f"the adapter has weights for which the model has no place ({found.unexpected_keys[0]})")
    for module in adapted.modules():
        if isinstance(module, BaseTunerLayer):
            for name in module.adapter_layer_names:
                if isinstance(part := getattr(module, name, None), torch.nn.Module):
                    part.float()
    own = (adapted.base_model.prefix, "modules_to_save")
    lacking = [name for name, p in adapted.named_parameters() if p.is_meta and any(part in name for part in own)]
    if lacking:
        raise NotByShards(f"the adapter's file lacks {lacking[0]}")
    return adapted.eval()


def _shared(adapted: Any, names: dict[str, str]) -> dict[str, str]:
    """Tied names that have to be written now, as the adapter changes one of the two; the configuration says so."""
    model = adapted.get_base_model()
    first, last = embeddings(model)
    if first is None or last is None or (isinstance(first, torch.nn.Embedding) and type(last) is torch.nn.Linear):
        return {}
    given = {own: name for name, own in names.items()}
    tied = {k: v for k, v in (getattr(model, "all_tied_weights_keys", None) or {}).items() if k not in given}
    if getattr(model.config, "tie_word_embeddings", False):
        untied(model.config)
    return {name: given[source] for name, source in tied.items()}


def write(shards: Shards, file: str, target: Path, probe: bool, tick: Callable[[int], None]) -> str:
    """Write one merged file, a weight at a time; its SHA-256. `tick` is told the bytes of each. Raises OSError."""
    contents = shards.contents(file)
    sizes, about, end = {}, dict[str, Any](), 0
    for name, (kind, shape) in contents.items():
        sizes[name] = _bytes(kind, shape)
        about[name] = {"dtype": kind, "shape": shape, "data_offsets": [end, end + sizes[name]]}
        end += sizes[name]
    text = json.dumps({"__metadata__": {"format": "pt"}} | about, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    digest = hashlib.sha256()
    with open(target / file, "wb") as out:
        for block in _blocks(shards, contents, text, probe):
            out.write(block)
            digest.update(block)
            tick(len(block))
        out.flush()
        os.fsync(out.fileno())
    flush(target)
    return digest.hexdigest()


def _blocks(shards: Shards, contents: dict[str, tuple[str, list[int]]], text: bytes, probe: bool) -> Iterator[Any]:
    yield len(text).to_bytes(8, "little") + text
    for name, (kind, shape) in contents.items():
        tensor = shards.merged(name, probe).contiguous()
        if list(tensor.shape) != list(shape) or tensor.numel() * tensor.element_size() != _bytes(kind, shape):
            raise ValueError(f"{name} came out as {list(tensor.shape)} {tensor.dtype}, not {shape} {kind}")
        yield tensor.reshape(-1).view(torch.uint8).numpy().data


WIDTHS = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "BF16": 2, "F16": 2, "I16": 2, "U16": 2}
"""Bytes of an element; all others have one."""


def _bytes(kind: str, shape: list[int]) -> int:
    count = WIDTHS.get(kind, 1)
    for one in shape:
        count *= one
    return count


def write_index(shards: Shards, target: Path) -> None:
    """Which file holds which weight, where there are several."""
    if len(shards.files) == 1 and SINGLE in shards.files:
        return
    found = {file: shards.contents(file) for file in shards.files}
    total = sum(_bytes(*about) for contents in found.values() for about in contents.values())
    index = {"metadata": {"total_size": total}, "weight_map": {name: file for file, c in found.items() for name in c}}
    (target / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
