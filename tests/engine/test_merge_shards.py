"""Merging one weight at a time gives what merge_and_unload gives, for every kind of adapter that it takes."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import (
    DeloraConfig,
    HRAConfig,
    IA3Config,
    LoHaConfig,
    LoKrConfig,
    LoraConfig,
    MissConfig,
    PeftModel,
    get_peft_model,
)
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, PreTrainedModel

from engine.after.trained import Trained
from engine.models import inspect_model
from engine.spec import parse
from engine.worker import merge_check, merge_shards
from engine.worker.merge_load import adapted, merged_in_memory
from engine.worker.merge_shards import NotByShards
from tests.tiny import tokenizer

IDS = [[5, 9, 13, 21, 34, 55, 89], [7, 11]]
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def saved(model: PreTrainedModel, folder: Path, size: str) -> Path:
    model.save_pretrained(folder, max_shard_size=size)
    tokenizer().save_pretrained(folder)
    return folder


def llama(folder: Path, tied: bool = False, size: str = "50KB", dtype: torch.dtype = torch.bfloat16) -> Path:
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=260, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
                         num_key_value_heads=2, max_position_embeddings=128, tie_word_embeddings=tied, attention_bias=True)  # fmt: skip
    model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    for name, parameter in model.named_parameters():  # biases are zero else, and would hide that they were lost
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.1)
    return saved(model, folder, size)


def gpt2(folder: Path) -> Path:
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=260, n_embd=64, n_layer=2, n_head=4, n_positions=128)
    return saved(AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16), folder, "60KB")


def with_adapter(base: Path, folder: Path, config: Any, step: float = 0.05) -> Trained:
    """An adapter whose every weight has been moved, as training would."""
    torch.manual_seed(1)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16), config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * step)
    model.save_pretrained(folder)
    kind = "lora" if isinstance(config, LoraConfig) else str(config.peft_type.value).lower()
    spec = parse({"model": {"path": str(base)}, "data": {"path": "d"}, "method": {"kind": kind}, "run": {"name": "n"}})
    return Trained("r0", "n", spec, folder.parent, folder, True)


def both(trained: Trained, target: Path, dtype: torch.dtype = torch.bfloat16) -> tuple[Path, Path, merge_shards.Shards]:
    """Merged in memory, and by shards."""
    facts, words = inspect_model(trained.spec.model.path), tokenizer()
    memory, shards = target / "memory", target / "shards"
    merged_in_memory(adapted(trained, facts, dtype, words), dtype).save_pretrained(memory)
    shards.mkdir()
    one = merge_shards.prepared(trained, facts, dtype, words)
    for file in one.files:
        merge_shards.write(one, file, shards, True, lambda count: None)
    merge_shards.write_index(one, shards)
    one.model.config.save_pretrained(shards)
    return memory, shards, one


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


def logits(model: Any) -> list[torch.Tensor]:
    return merge_check.logits(model.float().eval(), IDS)


def same(trained: Trained, place: Path, dtype: torch.dtype = torch.bfloat16) -> merge_shards.Shards:
    """Both ways give the same bits, and the model that comes of it says what the adapter says on its base."""
    memory, shards, one = both(trained, place, dtype)
    first, second = weights(memory), weights(shards)
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
    assert {t.dtype for t in second.values()} == {dtype}
    base = AutoModelForCausalLM.from_pretrained(trained.spec.model.path, dtype=dtype)
    model = PeftModel.from_pretrained(base, str(trained.path)).float()
    tuned = logits(model)
    with model.disable_adapter():
        plain = logits(model)
    loaded = AutoModelForCausalLM.from_pretrained(shards, dtype=torch.float32)
    check = merge_check.compare(tuned, logits(loaded), plain, dtype, 2)
    assert check.close, check
    assert check.kept == pytest.approx(1, abs=0.1), check
    assert 0 < one.worst < 4 * merge_check.ROUNDOFF[dtype]
    return one


LORAS = {
    "plain": {"target_modules": ALL},
    "dora": {"target_modules": ALL, "use_dora": True},
    "rslora": {"target_modules": ALL, "use_rslora": True, "lora_alpha": 16},
    "patterns": {"target_modules": ALL, "rank_pattern": {"q_proj": 2, "layers.1.mlp.up_proj": 6}, "alpha_pattern": {"q_proj": 3}},
    "kept whole": {"target_modules": ["q_proj"], "modules_to_save": ["lm_head", "embed_tokens"]},
    "embeddings": {"target_modules": ["q_proj", "embed_tokens", "lm_head"]},
    "layers": {"target_modules": ALL, "layers_to_transform": [1]},
}  # fmt: skip


@pytest.mark.parametrize("name", LORAS)
def test_lora(name: str, tmp_path: Path) -> None:
    config = LoraConfig(r=4, task_type="CAUSAL_LM", **LORAS[name])
    same(with_adapter(llama(tmp_path / "base"), tmp_path / "adapter", config), tmp_path)


TIED = {
    "neither": {"target_modules": ["q_proj"]},
    "head": {"target_modules": ["q_proj", "lm_head"]},
    "embedding": {"target_modules": ["q_proj", "embed_tokens"]},
    "head whole": {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
    "embedding whole": {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]},
}  # fmt: skip


@pytest.mark.parametrize("name", TIED)
def test_tied_embeddings(name: str, tmp_path: Path) -> None:
    """Where the adapter changes one of the two, the merged model has both, and its configuration says so."""
    config = LoraConfig(r=4, task_type="CAUSAL_LM", **TIED[name])
    same(with_adapter(llama(tmp_path / "base", tied=True), tmp_path / "adapter", config), tmp_path)
    for way in ("memory", "shards"):
        assert json.loads((tmp_path / way / "config.json").read_text())["tie_word_embeddings"] is (name == "neither")
    assert ("lm_head.weight" in weights(tmp_path / "shards")) is (name != "neither")


def test_gpt2(tmp_path: Path) -> None:
    """Its layers are stored the other way round, and its head is its embedding."""
    config = LoraConfig(r=4, target_modules=["c_attn", "c_proj", "c_fc"], task_type="CAUSAL_LM", fan_in_fan_out=True)
    same(with_adapter(gpt2(tmp_path / "base"), tmp_path / "adapter", config), tmp_path)


OTHERS = {
    "loha": LoHaConfig(r=4, target_modules=ALL, task_type="CAUSAL_LM"),
    "lokr": LoKrConfig(r=4, target_modules=ALL, task_type="CAUSAL_LM"),
    "ia3": IA3Config(target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"], task_type="CAUSAL_LM"),
    "hra": HRAConfig(r=4, target_modules=ALL, task_type="CAUSAL_LM"),
    "delora": DeloraConfig(r=4, target_modules=ALL, task_type="CAUSAL_LM"),
    "miss": MissConfig(r=4, target_modules=ALL, task_type="CAUSAL_LM"),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_other_methods(name: str, tmp_path: Path) -> None:
    same(with_adapter(llama(tmp_path / "base"), tmp_path / "adapter", OTHERS[name], 0.02), tmp_path)


def test_every_known_type_is_compared() -> None:
    assert set(merge_shards.KNOWN) == {str(config.peft_type.value) for config in OTHERS.values()} | {"LORA"}


def test_float16_from_a_base_in_32_bits(tmp_path: Path) -> None:
    """One file without an index; what is stored in 32 bits is rounded once, as loading in 16 bits does."""
    base = llama(tmp_path / "base", size="50MB", dtype=torch.float32)
    trained = with_adapter(base, tmp_path / "adapter", LoraConfig(r=4, target_modules=ALL, task_type="CAUSAL_LM"))
    same(trained, tmp_path, torch.float16)
    assert [file.name for file in (tmp_path / "shards").glob("model*")] == ["model.safetensors"]


@pytest.mark.parametrize(
    ("options", "why"),
    [({"trainable_token_indices": [3]}, "trainable_token_indices"), ({"bias": "all"}, "biases"), ({"init_lora_weights": "pissa"}, "apart")],
)  # fmt: skip
def test_what_needs_the_whole_model_is_said(options: dict[str, Any], why: str, tmp_path: Path) -> None:
    config = LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM", **options)
    trained = with_adapter(llama(tmp_path / "base"), tmp_path / "adapter", config)
    if options.get("init_lora_weights"):  # peft writes it so as long as the base is the changed one
        path = trained.path / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | options))
    with pytest.raises(NotByShards, match=why):
        merge_shards.prepared(trained, inspect_model(trained.spec.model.path), torch.bfloat16, tokenizer())


def test_an_adapter_that_lacks_weights_is_refused(tmp_path: Path) -> None:
    """Weights that were never there would otherwise be merged as whatever the memory held."""
    trained = with_adapter(
        llama(tmp_path / "base"), tmp_path / "a", LoraConfig(r=4, target_modules=ALL, task_type="CAUSAL_LM")
    )
    file = trained.path / "adapter_model.safetensors"
    kept = {name: tensor for name, tensor in load_file(file).items() if "layers.1.mlp.up_proj.lora_B" not in name}
    save_file(kept, file)
    with pytest.raises(NotByShards, match=r"lacks .*up_proj\.lora_B"):
        merge_shards.prepared(trained, inspect_model(trained.spec.model.path), torch.bfloat16, tokenizer())
