"""Shapes read from config.json: right for every known model, and nonsense refused."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import catalog
from engine.errors import ModelError
from engine.planner.memory import estimate
from engine.planner.shape import FAMILIES, Shape, UnknownArchitecture, attention_names, shape
from tests import traced
from tests.engine.planning import LLAMA_8B, SMOLLM2
from tests.traced import spec_of

NONSENSE: list[Any] = [0, -1, -4096, 1.5, "4096", "many", [], [4096], {}, True, float("nan"), float("inf"), 2**80]
SIZES = ["hidden_size", "num_attention_heads", "num_hidden_layers", "vocab_size", "num_key_value_heads", "head_dim",
         "intermediate_size"]  # fmt: skip


def known() -> dict[str, Shape]:
    """The shapes of the catalog's models whose family is known."""
    found = {}
    for name, model in catalog.models().items():
        try:
            found[name] = shape(model.config)
        except UnknownArchitecture:
            continue
    return found


def test_most_of_the_catalog_is_known() -> None:
    unknown = set(catalog.models()) - set(known())
    assert len(known()) >= 0.85 * len(catalog.models()), sorted(unknown)
    assert all(catalog.models()[name].config["model_type"] not in FAMILIES for name in unknown)


@pytest.mark.parametrize("name", catalog.models())
def test_parameters_are_the_published_ones(name: str) -> None:
    model = catalog.models()[name]
    try:
        made = shape(model.config)
    except UnknownArchitecture:
        assert model.config["model_type"] not in FAMILIES
        return
    assert made.parameters == model.parameters


def test_a_llama_by_hand() -> None:
    made = shape(LLAMA_8B)
    assert (made.queries, made.keys, made.head_dim) == (4096, 1024, 128)
    assert made.embedding == 128256 * 4096
    assert made.block == 2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14336 + 2 * 4096
    assert made.parameters == 8_030_261_248
    assert shape(LLAMA_8B | {"tie_word_embeddings": True}).parameters == made.parameters - made.embedding
    assert [one.name for one in made.linears] == [
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]  # fmt: skip


def test_a_mixture_counts_its_experts_once_each() -> None:
    config = traced.FAMILIES["mixtral"]
    dense = shape({**config, "model_type": "mistral"})
    made = shape(config)
    assert (made.experts, made.active) == (4, 2)
    mlp = 3 * made.hidden * made.intermediate
    assert made.block == dense.block + 3 * mlp + 4 * made.hidden
    assert not any(one.quantizable for one in made.linears if one.experts)


def test_a_vision_tower_is_loaded_and_not_trained() -> None:
    text = traced.FAMILIES["gemma3_text"]
    vision = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "patch_size": 14, "image_size": 56}
    made = shape({"model_type": "gemma3", "text_config": text, "vision_config": vision})
    assert made.other > 2 * (4 * 64 * 64 + 2 * 64 * 128)
    assert made.parameters == shape(text).parameters + made.other
    assert len(made.other_linears) >= 2 * 6


@pytest.mark.parametrize(
    "config", [{}, {"model_type": "mamba"}, {"model_type": None}, {"model_type": ["llama"]}, {"model_type": 3}]
)
def test_an_unknown_family_says_so(config: dict[str, Any]) -> None:
    with pytest.raises(UnknownArchitecture) as error:
        shape(LLAMA_8B | {"model_type": "", **config})
    assert "--exact" in error.value.hint
    assert error.value.exit_code == 2


@pytest.mark.parametrize("key", ["hidden_size", "num_attention_heads", "num_hidden_layers", "vocab_size"])
def test_a_missing_size_is_named(key: str) -> None:
    with pytest.raises(ModelError, match=key) as error:
        shape({name: value for name, value in LLAMA_8B.items() if name != key})
    assert not isinstance(error.value, UnknownArchitecture)
    assert error.value.exit_code == 2


@pytest.mark.parametrize("key", SIZES)
@pytest.mark.parametrize("value", NONSENSE, ids=str)
def test_a_nonsense_size_is_refused(key: str, value: Any) -> None:
    with pytest.raises(ModelError, match=key):
        shape(LLAMA_8B | {key: value})


def test_heads_that_cannot_be_grouped() -> None:
    with pytest.raises(ModelError, match="no multiple"):
        shape(LLAMA_8B | {"num_key_value_heads": 5})


def test_what_is_null_counts_as_absent() -> None:
    assert shape(LLAMA_8B | {"head_dim": None, "sliding_window": None}) == shape(LLAMA_8B)
    assert shape(LLAMA_8B | {"num_key_value_heads": None}).kv_heads == 32


def test_floats_that_are_whole_are_sizes() -> None:
    assert shape(LLAMA_8B | {"hidden_size": 4096.0}) == shape(LLAMA_8B)


def test_attention_names() -> None:
    assert attention_names(LLAMA_8B) == ["q_proj", "k_proj", "v_proj", "o_proj"]
    assert attention_names(traced.FAMILIES["gpt_neox"]) == ["query_key_value", "dense"]
    assert attention_names({"model_type": "unheard of"}) == ["q_proj", "k_proj", "v_proj", "o_proj"]


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(1, 8192), st.floats(), st.text("a4.", max_size=4),
    st.lists(st.integers(), max_size=2), st.dictionaries(st.text("a4.", max_size=2), st.integers(), max_size=2),
)  # fmt: skip
KEYS = sorted({*LLAMA_8B, *SIZES, "text_config", "vision_config", "sliding_window", "use_sliding_window", "attention_bias",
               "hidden_activation", "resid_pdrop", "hidden_dropout", "attn_logit_softcapping", "num_experts", "n_embd", "n_head",
               "num_local_experts", "num_experts_per_tok", "moe_intermediate_size", "multi_query", "n_inner"})  # fmt: skip


@settings(deadline=None)
@given(st.sampled_from(sorted(FAMILIES)), st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=4))
def test_any_config_is_a_shape_or_a_model_error(family: str, changes: dict[str, Any]) -> None:
    config = {**LLAMA_8B, **SMOLLM2, "model_type": family, **changes}
    try:
        made = shape(config)
    except ModelError:
        return
    assert made.parameters > 0
    assert made.heads % made.kv_heads == 0
    assert estimate(made, spec_of({}, {})).peak > 0


@settings(deadline=None)
@given(st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text("a4.", max_size=5),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("a4.", max_size=5), inner, max_size=3)))  # fmt: skip
def test_any_json_is_refused_in_words(value: Any) -> None:
    config = json.loads(json.dumps(value)) if isinstance(value, dict) else {"model_type": value}
    with pytest.raises(ModelError):
        shape(config)
