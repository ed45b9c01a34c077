"""Models and cards that the planner's tests plan for."""

from typing import Any

from engine import catalog
from engine.cards import Cards
from engine.models import ModelFacts
from engine.planner.ask import plan_sections
from engine.planner.shape import shape
from engine.spec import RunSpec, parse

LLAMA_8B: dict[str, Any] = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 4096, "intermediate_size": 14336,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256,
    "max_position_embeddings": 131072, "tie_word_embeddings": False, "rms_norm_eps": 1e-5,
}  # fmt: skip
SMOLLM2: dict[str, Any] = LLAMA_8B | {
    "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
    "num_key_value_heads": 3, "vocab_size": 49152, "max_position_embeddings": 8192, "tie_word_embeddings": True,
}  # fmt: skip


def facts(config: dict[str, Any]) -> ModelFacts:
    """A model of which only the config.json is known."""
    made = shape(config)
    return ModelFacts(
        "m", "directory", "m", "LlamaForCausalLM", made.parameters, made.hidden, made.layers, made.intermediate, made.heads,
        made.kv_heads, made.vocab, made.context, "bfloat16", 2 * made.parameters, True, config=config,
    )  # fmt: skip


def card(key: str, count: int = 1) -> Cards:
    known = catalog.cards()[key]
    return Cards(count, known.name, known.memory, known)


def plan_spec(model: str, data: str | None, flags: dict[str, Any], sets: list[str]) -> RunSpec:
    """The specification that the flags of `tunedeck plan` describe."""
    return parse(plan_sections(model, data, flags, sets))
