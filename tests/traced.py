"""Models and specifications for the tests of the traced step: small, one of each kind of architecture."""

from typing import Any

from engine.methods import METHODS
from engine.spec import RunSpec, parse

LLAMA: dict[str, Any] = {
    "model_type": "llama", "vocab_size": 4000, "hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 4,
    "num_attention_heads": 8, "num_key_value_heads": 4, "max_position_embeddings": 2048, "hidden_act": "silu",
    "tie_word_embeddings": False,
}  # fmt: skip
_SMALL: dict[str, Any] = {name: LLAMA[name] for name in LLAMA if name != "model_type"} | {
    "num_hidden_layers": 2,
    "pad_token_id": 0,
}
_MIXTURE: dict[str, Any] = {
    "num_experts_per_tok": 2,
    "num_local_experts": 4,
    "num_experts": 4,
    "moe_intermediate_size": 128,
}
_CHANGES: dict[str, dict[str, Any]] = {
    "qwen2": {"tie_word_embeddings": True},
    "qwen3": {"head_dim": 64},
    "qwen3_moe": _MIXTURE,
    "mistral": {"sliding_window": 64},
    "mixtral": _MIXTURE,
    "gemma2": {"head_dim": 64, "tie_word_embeddings": True},
    "gemma3_text": {"head_dim": 64, "sliding_window": 64, "num_hidden_layers": 6},
    "phi": {},
    "phi3": {},
    "falcon": {"multi_query": True},
    "gpt2": {"n_embd": 256, "n_head": 8, "n_layer": 2, "n_positions": 2048},
    "gpt_neox": {},
    "gpt_oss": {"head_dim": 32, **_MIXTURE},
    "olmo2": {},
}
FAMILIES = {name: {"model_type": name, **_SMALL, **changes} for name, changes in _CHANGES.items()}


def spec_of(method: dict[str, Any], training: dict[str, Any]) -> RunSpec:
    """A complete specification: LoRA in bf16 with checkpointing, 2 x 256 tokens, but for what is given. Other methods get what
    they have of LoRA's."""
    lora: dict[str, Any] = {"kind": "lora", "rank": 8, "alpha": 16, "dropout": 0.0, "targets": "all-linear"}
    has = {"kind", *METHODS[method.get("kind", "lora")].fields}
    return parse({
        "model": {"path": "model"},
        "data": {"path": "data.jsonl"},
        "method": {name: value for name, value in lora.items() if name in has} | method,
        "training": {
            "micro_batch": 2, "accumulation": 1, "max_length": 256, "packing": False, "checkpointing": True,
            "optimizer": "adamw_torch_fused", "precision": "bf16", "attention": "sdpa", "learning_rate": 1e-4, "epochs": 1,
            "warmup": 0.03, "weight_decay": 0.0, "max_grad_norm": 1.0,
        } | training,
    })  # fmt: skip
