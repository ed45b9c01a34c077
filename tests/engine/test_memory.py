"""What must hold of the closed form whatever the numbers: more never needs less, and the parts are the whole."""

from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from engine import catalog
from engine.methods import METHODS as KINDS
from engine.planner import step
from engine.planner.memory import GIB, Batch, Memory, Stack, batch_of, estimate
from engine.planner.shape import Shape, shape
from engine.planner.trained import adapter_parameters, adapts_experts, quantised_bytes, static
from engine.spec import RunSpec
from tests import traced
from tests.engine.planning import LLAMA_8B, SMOLLM2
from tests.traced import spec_of

SHAPES = {name: shape(config) for name, config in traced.FAMILIES.items()}
SHAPES |= {"llama-8b": shape(LLAMA_8B), "smollm2": shape(SMOLLM2)}
NAMES = st.sampled_from(sorted(SHAPES))
METHODS: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.just({"kind": "full"}),
    st.fixed_dictionaries({
        "kind": st.sampled_from(["lora", "qlora"]), "rank": st.integers(1, 128), "dropout": st.sampled_from([0.0, 0.1]),
        "targets": st.sampled_from(["all-linear", "attention"]), "variant": st.sampled_from([None, "dora", "rslora"]),
        "quantization": st.fixed_dictionaries({"bits": st.sampled_from([4, 8]), "double": st.booleans()}),
    }),
    st.builds(lambda kind, rank, base: {"kind": kind} | ({"rank": rank} if "rank" in KINDS[kind].fields else {}) | base,
              st.sampled_from([kind for kind in KINDS if kind not in ("full", "lora", "qlora")]), st.integers(1, 128),
              st.sampled_from([{}, {"quantization": {"bits": 4}}])),
)  # fmt: skip
OBJECTIVES = st.sampled_from(["sft", "text", "dpo", "kto", "reward", "orpo", "cpo", "grpo"])
TRAININGS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries({
    "micro_batch": st.integers(1, 32), "max_length": st.integers(8, 8192), "accumulation": st.integers(1, 8),
    "packing": st.booleans(), "checkpointing": st.booleans(), "precision": st.sampled_from(["bf16", "mixed", "fp32"]),
    "attention": st.sampled_from(["sdpa", "eager", "flash_attention_2"]),
    "optimizer": st.sampled_from(["adamw_torch_fused", "adamw_torch", "adamw_8bit", "paged_adamw_8bit", "adafactor", "sgd",
                                  "lion_8bit", "rmsprop", "adagrad", "adamw_bnb_8bit"]),
})  # fmt: skip
STACKS: st.SearchStrategy[Stack] = st.sampled_from(["current", "hf448"])


def memory(name: str, method: dict[str, Any] | None = None, **training: Any) -> Memory:
    return estimate(SHAPES[name], spec_of(method or {}, training))


def on_cards(spec: RunSpec, count: int, sharding: str) -> RunSpec:
    return spec.model_copy(
        update={"compute": spec.compute.model_copy(update={"processes": count, "sharding": sharding})}
    )


@settings(deadline=None)
@given(NAMES, METHODS, TRAININGS, STACKS, OBJECTIVES)
def test_the_parts_are_the_whole(
    name: str, method: dict[str, Any], training: dict[str, Any], stack: Stack, objective: str
) -> None:
    spec = spec_of(method, training).model_copy(update={"objective": objective})
    made = estimate(SHAPES[name], spec, stack)
    parts = made.components()
    assert set(parts) == {"weights", "adapter", "gradients", "optimizer", "activations", "logits", "runtime"}
    assert all(value >= 0 for value in parts.values())
    assert sum(parts.values()) == pytest.approx(made.device / GIB, abs=1e-6)
    assert 0 < made.peak < made.device
    assert 0 < made.trained <= made.parameters
    assert made.host > 0
    assert estimate(SHAPES[name], spec, stack) == made


@settings(deadline=None)
@given(
    NAMES, METHODS, TRAININGS, STACKS, st.sampled_from(["micro_batch", "max_length", "accumulation"]), st.integers(2, 4)
)
def test_more_tokens_never_need_less(
    name: str, method: dict[str, Any], training: dict[str, Any], stack: Stack, key: str, factor: int
) -> None:
    less = estimate(SHAPES[name], spec_of(method, training), stack)
    more = estimate(SHAPES[name], spec_of(method, training | {key: training[key] * factor}), stack)
    assert more.peak >= less.peak
    assert more.device >= less.device


@settings(deadline=None)
@given(NAMES, METHODS, TRAININGS, STACKS, st.integers(1, 64))
def test_a_higher_rank_never_needs_less(
    name: str, method: dict[str, Any], training: dict[str, Any], stack: Stack, more: int
) -> None:
    assume("rank" in method and method["kind"] not in ("randlora", "lokr"))  # their other factor gets smaller
    low = estimate(SHAPES[name], spec_of(method, training), stack)
    high = estimate(SHAPES[name], spec_of(method | {"rank": method["rank"] + more}, training), stack)
    assert high.peak >= low.peak
    assert high.trained > low.trained


@settings(deadline=None)
@given(NAMES, METHODS, TRAININGS)
def test_rows_of_unequal_length_and_dropout_never_need_less(
    name: str, method: dict[str, Any], training: dict[str, Any]
) -> None:
    spec = spec_of(method, training | {"packing": False})
    rows, length = training["micro_batch"], training["max_length"]
    plain, masked = (estimate(SHAPES[name], spec, batch=Batch(rows, length, masked=m)).peak for m in (False, True))
    if training["attention"] == "eager":
        assert masked == plain  # the scores are there in any case
    if "dropout" in KINDS[method["kind"]].fields:
        dry = estimate(SHAPES[name], spec_of(method | {"dropout": 0.0}, training)).peak
        assert estimate(SHAPES[name], spec_of(method | {"dropout": 0.1}, training)).peak >= dry


@settings(deadline=None)
@given(NAMES, METHODS, TRAININGS)
def test_checkpointing_keeps_fewer_activations(name: str, method: dict[str, Any], training: dict[str, Any]) -> None:
    """Between forward and backward; with two blocks the saving is small, but there."""

    def kept(checkpointing: bool) -> float:
        spec = spec_of(method, training | {"checkpointing": checkpointing})
        batch = batch_of(spec)
        args = (batch.rows, batch.length, batch.packed, batch.masked)
        return step.moments(SHAPES[name], spec, static(SHAPES[name], spec), *args)["loss forward"]["activations"]

    assert kept(True) <= kept(False)


@settings(deadline=None)
@given(NAMES, METHODS, TRAININGS, st.sampled_from(["fsdp", "zero3"]), st.integers(2, 8))
def test_more_cards_never_need_more_each(
    name: str, method: dict[str, Any], training: dict[str, Any], sharding: str, count: int
) -> None:
    spec = spec_of(method, training)
    few, many = (estimate(SHAPES[name], on_cards(spec, n, sharding)) for n in (count, 2 * count))
    assert many.peak <= few.peak
    assert many.weights < few.weights


@settings(deadline=None)
@given(NAMES, METHODS, TRAININGS)
def test_ddp_saves_nothing(name: str, method: dict[str, Any], training: dict[str, Any]) -> None:
    spec = spec_of(method, training)
    assert estimate(SHAPES[name], on_cards(spec, 4, "ddp")).device > estimate(SHAPES[name], spec).device


@settings(deadline=None, max_examples=20)
@given(METHODS, TRAININGS, STACKS)
def test_every_model_of_the_catalog_has_an_estimate(
    method: dict[str, Any], training: dict[str, Any], stack: Stack
) -> None:
    spec = spec_of(method, training)
    for made in CATALOG:
        found = estimate(made, spec, stack)
        assert found.peak > found.weights > 0


def _catalog() -> list[Shape]:
    found = {}
    for model in catalog.models().values():
        if model.config["model_type"] in SHAPES or model.config["model_type"] in ("smollm3", "granite", "gemma3"):
            made = shape(model.config)
            found[made.model_type, made.parameters] = made
    return list(found.values())


CATALOG = _catalog()


def test_the_catalog_is_worth_the_name() -> None:
    assert len(CATALOG) > 30
    assert len({made.model_type for made in CATALOG}) >= 10


def test_adapters_by_hand() -> None:
    lora = spec_of({"rank": 16}, {}).method
    per_block = 16 * (2 * (4096 + 4096) + 2 * (4096 + 1024) + 3 * (4096 + 14336))
    assert adapter_parameters(SHAPES["llama-8b"], lora) == 32 * per_block == 41_943_040
    attention = lora.model_copy(update={"targets": "attention"})
    assert adapter_parameters(SHAPES["llama-8b"], attention) == 13_631_488
    two = lora.model_copy(update={"targets": ["q_proj", "model.layers.0.self_attn.v_proj"]})
    assert adapter_parameters(SHAPES["llama-8b"], two) == 32 * 16 * (8192 + 5120)
    dora = attention.model_copy(update={"variant": "dora"})
    assert adapter_parameters(SHAPES["llama-8b"], dora) == 13_631_488 + 32 * (4096 + 1024 + 1024 + 4096)


def test_other_methods_by_hand() -> None:
    """Llama-3.1-8B: (IA)^3 with keys, values and the MLP's inside is the published recipe; the rest by their papers' formulas."""

    def trained(kind: str, **method: Any) -> int:
        return adapter_parameters(SHAPES["llama-8b"], spec_of({"kind": kind} | method, {}).method)

    assert trained("ia3", targets=["k_proj", "v_proj", "down_proj"]) == 32 * (1024 + 1024 + 14336)
    assert trained("prompt", virtual_tokens=20) == 20 * 4096
    assert trained("prefix", virtual_tokens=20) == 20 * 32 * 2 * 1024
    assert trained("ptuning", virtual_tokens=20) == 20 * 4096 + 3 * (4096 * 4096 + 4096)
    assert trained("vera", rank=256, targets=["q_proj", "v_proj"]) == 32 * (256 + 4096 + 256 + 1024)
    assert trained("adalora", rank=8, targets=["q_proj"]) == 32 * 12 * (4096 + 4096 + 1)
    assert trained("loha", rank=8, targets=["k_proj"]) == 32 * 2 * 8 * (4096 + 1024)
    assert trained("lokr", rank=8, targets=["q_proj"]) == 32 * (64 * 64 + 8 * (64 + 64))
    assert trained("ln_tuning") == 32 * 2 * 4096 + 4096


def test_what_an_adapter_brings_along_is_counted_once() -> None:
    """VeRA's random matrices are shared by all layers, and fp32 whatever the model is."""
    made, plain = (memory("llama-8b", {"kind": "vera", "rank": rank}) for rank in (256, 128))
    assert made.adapter - plain.adapter == 128 * 4 * (14336 + 14336) + 4 * 32 * 7 * 128
    assert memory("llama-8b", {"kind": "boft"}).adapter > 32 * 4 * (6 * 4096**2 + 14336**2)


def test_objectives_in_their_order() -> None:
    def peak(objective: str, kind: str = "lora", **training: Any) -> Memory:
        spec = spec_of({"kind": kind}, {"precision": "bf16", "max_length": 1024} | training)
        return estimate(SHAPES["llama-8b"], spec.model_copy(update={"objective": objective}))

    sft, dpo, kto, orpo, cpo, reward = (peak(name) for name in ("sft", "dpo", "kto", "orpo", "cpo", "reward"))
    assert sft.peak == kto.peak < dpo.peak < orpo.peak == cpo.peak
    assert orpo.logits == 18 * 2 * 2 * 1024 * 128256  # both rows of two pairs
    assert reward.weights == sft.weights - 2 * 128256 * 4096
    for objective, copies in (("sft", 1), ("dpo", 2), ("kto", 2), ("orpo", 1), ("cpo", 1), ("grpo", 1)):
        assert peak(objective, "full").weights == copies * 2 * SHAPES["llama-8b"].parameters
    few, many = (peak("grpo", accumulation=n) for n in (1, 512))
    assert many.peak > few.peak
    assert many.phase == "generation"


def test_all_logits_at_once() -> None:
    """Without the fused head: 18 bytes for each logit under bf16."""
    fused, plain = (memory("llama-8b", max_length=1024, fused_head=fused) for fused in (True, False))
    assert plain.logits == 18 * 2 * 1024 * 128256
    assert plain.peak > fused.peak


def test_quantised_weights_by_hand() -> None:
    """Half a byte a weight; an absmax for each 64, in 8 bits with an fp32 for each 256 where it is double."""
    up = next(one for one in SHAPES["llama-8b"].linears if one.name == "up_proj")
    n = 4096 * 14336
    assert quantised_bytes(up, 4, double=True) == n // 2 + n // 64 + 4 * (n // 64 // 256)
    assert quantised_bytes(up, 4, double=False) == n // 2 + n // 16
    assert quantised_bytes(up, 8, double=True) == n + 4 * 14336
    made = memory("llama-8b", {"kind": "qlora"})
    outside = 2 * (2 * 128256 * 4096 + 4096 + 32 * 2 * 4096)
    assert made.weights == outside + 32 * sum(quantised_bytes(one, 4, True) for one in SHAPES["llama-8b"].linears)


def test_full_fine_tuning_by_hand() -> None:
    """With few tokens the peak is where weights, gradients and two moments meet: 8 bytes a parameter in bf16, 16 in fp32."""
    parameters = SHAPES["llama-8b"].parameters
    for precision, size in (("bf16", 8), ("mixed", 16), ("fp32", 16)):
        made = memory("llama-8b", {"kind": "full"}, precision=precision, micro_batch=1, max_length=16)
        assert made.peak == pytest.approx(size * parameters, rel=0.1)
        assert made.peak >= size * parameters
        assert made.trained == made.parameters == parameters


def test_optimizers_in_their_order() -> None:
    def full(optimizer: str) -> int:
        return memory("llama-8b", {"kind": "full"}, optimizer=optimizer, max_length=64).peak

    order = ["paged_adamw_8bit", "lion_8bit", "adamw_8bit", "adamw_torch_fused", "adamw_torch"]
    assert [full(name) for name in order] == sorted(full(name) for name in order)
    assert full("adamw_torch") - full("adamw_torch_fused") == pytest.approx(2 * SHAPES["llama-8b"].parameters, rel=0.05)


def test_the_batch_is_the_longest_row_where_it_is_known() -> None:
    spec = spec_of({}, {"micro_batch": 4, "max_length": 2048})
    assert batch_of(spec) == Batch(4, 2048, masked=True)
    assert batch_of(spec, 700) == Batch(4, 700, masked=True)
    assert batch_of(spec, 9000).length == 2048
    assert batch_of(spec_of({}, {"micro_batch": 1})) == Batch(1, 256)
    packed = spec_of({}, {"micro_batch": 4, "max_length": 2048, "packing": True})
    assert batch_of(packed, 700) == Batch(4, 2048, packed=True, masked=True)
    flash = spec_of({}, {"packing": True, "attention": "flash_attention_2"})
    assert not batch_of(flash).masked


def test_adapted_experts_are_refused() -> None:
    for name in ("mixtral", "qwen3_moe"):
        for kind in ("lora", "qlora"):
            assert adapts_experts(SHAPES[name], spec_of({"kind": kind}, {}).method)
            assert not adapts_experts(SHAPES[name], spec_of({"kind": kind, "targets": "attention"}, {}).method)
        assert not adapts_experts(SHAPES[name], spec_of({"kind": "full"}, {}).method)
    assert not adapts_experts(SHAPES["llama-8b"], spec_of({}, {}).method)
