"""Speed: FLOPs as TRL counts them, padding as it falls, and the estimate against published runs."""

import itertools
import json
import statistics
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.cards import Cards
from engine.catalog import cards, find_model, models
from engine.errors import ModelError
from engine.planner.calibrate import PastRun
from engine.planner.shape import shape
from engine.planner.speed import Speed, cost, estimate_speed, flops_per_token, mfu, padded_length, passes
from engine.spec import RunSpec, parse

TRL = """
import json, sys, types
from transformers import AutoConfig
from trl.trainer.utils import compute_flops_per_token, compute_mfu
NAMES = ("hidden_size", "num_hidden_layers", "vocab_size", "num_attention_heads", "num_key_value_heads", "head_dim",
         "intermediate_size", "num_experts_per_tok", "num_local_experts")
def count(config, filled, length):
    text = AutoConfig.for_model(**config).get_text_config()
    if filled:
        text = types.SimpleNamespace(**({n: getattr(text, n, None) for n in NAMES} | filled))
    try:
        return compute_flops_per_token(text, length)
    except AttributeError:
        return None
asked = json.load(sys.stdin)
print(json.dumps({"flops": [count(*one) for one in asked], "mfu": compute_mfu(3.0e9, 4000.0, 2, 312e12)}))
"""
LENGTH = 1536
SMALL = {"hidden_size": 64, "num_hidden_layers": 3, "vocab_size": 512, "num_attention_heads": 4}
FILLED: dict[str, dict[str, Any]] = {
    "openai-community/gpt2": {"num_key_value_heads": 12, "intermediate_size": 3072},
    "EleutherAI/gpt-neox-20b": {"num_key_value_heads": 64},
    "tiiuae/falcon-7b": {"num_key_value_heads": 1, "intermediate_size": 4 * 4544},
    "mistralai/Mixtral-8x7B-v0.1": {"moe_intermediate_size": 14336, "decoder_sparse_step": 1},
    "openai/gpt-oss-20b": {"moe_intermediate_size": 2880, "decoder_sparse_step": 1},
}
"""Families for which TRL's function fails on a missing key: what it counts when that is filled in as documented."""
SILENT: list[dict[str, Any]] = [
    {"model_type": "llama", "intermediate_size": 128, **SMALL},
    {"model_type": "qwen2", "intermediate_size": 128, "num_key_value_heads": 2, **SMALL},
    {"model_type": "qwen3", "intermediate_size": 128, "num_key_value_heads": 2, **SMALL},
    {"model_type": "gemma2", "intermediate_size": 128, "num_key_value_heads": 2, **SMALL},
    {"model_type": "gemma3", "text_config": {"hidden_size": 64, "num_hidden_layers": 3, "intermediate_size": 128,
                                             "model_type": "gemma3_text"}},
    {"model_type": "qwen3_moe", "intermediate_size": 128, "moe_intermediate_size": 32, "num_experts": 8,
     "num_experts_per_tok": 2, "num_key_value_heads": 2, "decoder_sparse_step": 2, "head_dim": 16, **SMALL},
    {"model_type": "phi", "intermediate_size": 128, **SMALL},
]  # fmt: skip
"""config.json files that leave to the class what it fills in."""


@pytest.fixture(scope="module")
def trl() -> dict[str, Any]:
    """TRL's own answers, from a process of its own: {"flops": for each of `asked`, "mfu"}."""
    answer = subprocess.run([sys.executable, "-c", TRL], input=json.dumps(asked()), capture_output=True, text=True, check=True)  # fmt: skip
    return dict(json.loads(answer.stdout.splitlines()[-1]))


def asked() -> list[tuple[dict[str, Any], dict[str, Any], int]]:
    known = [(model.config, FILLED.get(name, {}), LENGTH) for name, model in models().items()]
    return known + [(config, {}, LENGTH) for config in SILENT]


class TestFlops:
    def test_they_are_trls(self, trl: dict[str, Any]) -> None:
        pairs = list(zip(asked(), trl["flops"], strict=True))
        counted = [(config, flops) for (config, _, _), flops in pairs if flops is not None]
        for config, flops in counted:
            assert flops_per_token(config, LENGTH) == flops, config
        families = {(config.get("text_config") or config)["model_type"] for config, _ in counted}
        assert families >= {"llama", "mistral", "qwen2", "qwen3", "qwen3_moe", "gemma2", "gemma3_text", "phi", "phi3",
                            "smollm3", "mixtral", "gpt_oss", "gpt2", "gpt_neox", "falcon"}  # fmt: skip

    def test_mfu_is_trls(self, trl: dict[str, Any]) -> None:
        assert mfu(4000.0, 3.0e9, 2, 312.0) == pytest.approx(trl["mfu"])

    def test_nonsense_is_refused(self) -> None:
        with pytest.raises(ModelError):
            flops_per_token({**SILENT[0], "num_attention_heads": 0}, LENGTH)

    def test_what_a_step_costs(self) -> None:
        assert passes("full", False) == 3  # TRL's three
        assert passes("lora", False) == passes("qlora", False) == 2
        assert passes("lora", True) == 3


class TestPadding:
    @given(st.lists(st.integers(1, 300), min_size=1, max_size=5), st.integers(1, 4))
    def test_it_is_the_mean_over_all_batches(self, lengths: list[int], batch: int) -> None:
        batches = list(itertools.product(lengths, repeat=batch))
        assert padded_length(lengths, batch) == pytest.approx(sum(map(max, batches)) / len(batches))

    @given(st.lists(st.integers(1, 4096), min_size=1, max_size=50), st.integers(1, 32))
    def test_it_grows_with_the_batch_up_to_the_longest(self, lengths: list[int], batch: int) -> None:
        assert padded_length(lengths, batch) <= padded_length(lengths, batch + 1) + 1e-9 <= max(lengths) + 1e-6
        assert padded_length(lengths, 1) == pytest.approx(statistics.mean(lengths))


def spec(kind: str = "lora", **training: Any) -> RunSpec:
    defaults = {"micro_batch": 4, "accumulation": 1, "max_length": 4096, "checkpointing": True, "packing": False,
                "epochs": 1.0, "precision": "bf16"}  # fmt: skip
    return parse({"model": {"path": "m"}, "data": {"path": "d"}, "method": {"kind": kind}, "training": {**defaults, **training}})  # fmt: skip


def on(key: str, count: int = 1) -> Cards:
    card = cards()[key]
    return Cards(count, card.name, card.memory, card)


def config_of(name: str) -> dict[str, Any]:
    model = find_model(name)
    assert model is not None
    return model.config


MISTRAL = shape(config_of("mistralai/Mistral-7B-v0.1"))


def estimate(kind: str = "lora", card: str = "a100-80gb", lengths: tuple[int, ...] = (4096,), **training: Any) -> Speed:
    return estimate_speed(MISTRAL, spec(kind, **training), on(card), 1000, lengths)


def rate(kind: str = "lora", card: str = "a100-80gb", lengths: tuple[int, ...] = (4096,), **training: Any) -> float:
    speed = estimate(kind, card, lengths, **training).tokens_per_second
    assert speed
    return speed


def qwen1(hidden: int, layers: int, intermediate: int) -> dict[str, Any]:
    """Qwen 1 as the Qwen2 class would have it: same matrices."""
    return {"model_type": "qwen2", "hidden_size": hidden, "num_hidden_layers": layers, "vocab_size": 151936,
            "num_attention_heads": hidden // 128, "intermediate_size": intermediate}  # fmt: skip


PUBLISHED: list[tuple[Any, str, str, int, int, bool, float]] = [
    # fms-acceleration, scripts/benchmarks/refs/a100_80gb.csv and l40_40gb.csv: train_tokens_per_second on one card; QLoRA is
    # `accelerated-peft-bnb`, which like TRL does not upcast the base. Mixtral's experts were dequantised too, ours are bf16.
    ("mistralai/Mistral-7B-v0.1", "a100-80gb", "full", 4, 4096, True, 2775),
    ("mistralai/Mistral-7B-v0.1", "a100-80gb", "full", 8, 4096, True, 3049),
    ("mistralai/Mistral-7B-v0.1", "a100-80gb", "lora", 4, 4096, True, 3598),
    ("mistralai/Mistral-7B-v0.1", "a100-80gb", "lora", 8, 4096, True, 3632),
    ("mistralai/Mistral-7B-v0.1", "a100-80gb", "qlora", 4, 4096, True, 3429),
    ("mistralai/Mistral-7B-v0.1", "a100-80gb", "qlora", 8, 4096, True, 3514),
    ("meta-llama/Llama-2-70b-hf", "a100-80gb", "qlora", 4, 4096, True, 457),
    ("mistralai/Mixtral-8x7B-v0.1", "a100-80gb", "qlora", 4, 4096, True, 1764),
    ("mistralai/Mixtral-8x7B-v0.1", "a100-80gb", "qlora", 8, 4096, True, 1919),
    ("mistralai/Mixtral-8x7B-v0.1", "l40", "qlora", 4, 4096, True, 1501),
    ("mistralai/Mistral-7B-v0.1", "l40", "lora", 4, 4096, True, 2724),
    ("mistralai/Mistral-7B-v0.1", "l40", "lora", 8, 4096, True, 2716),
    ("mistralai/Mistral-7B-v0.1", "l40", "qlora", 4, 4096, True, 2517),
    ("mistralai/Mistral-7B-v0.1", "l40", "qlora", 8, 4096, True, 2522),
    # PEFT method_comparison/MetaMathQA (June 2025): 4,198,051 tokens in 20,000 rows, so 210 a row; median of 20 readings
    ("meta-llama/Llama-3.2-3B", "l40s", "lora", 4, 210, False, 6777),
    ("meta-llama/Llama-3.2-3B", "l40s", "full", 4, 210, False, 2313),
    # MakazhanAlpamys/Soup, issue 378: LoRA, SDPA, median of five runs; 71 GiB, so without checkpointing
    ("meta-llama/Llama-3.1-8B", "h100", "lora", 4, 1024, False, 9621),
    # Qwen's README, "Profiling of Memory and Speed": LoRA, batch 1, accumulation 8, seconds an iteration
    *((qwen1(*sizes), "a100-80gb", "lora", 1, length, True, 8 * length / seconds)
      for sizes, all_seconds in (((2048, 24, 5504), (1.0, 1.0, 1.1, 1.7, 3.3, 6.8)),
                                 ((4096, 32, 11008), (1.2, 1.5, 2.8, 5.2, 10.1, 21.3)),
                                 ((5120, 40, 13696), (1.6, 2.4, 4.4, 8.4, 17.0, 36.0)))
      for length, seconds in zip((256, 512, 1024, 2048, 4096, 8192), all_seconds, strict=True)),
]  # fmt: skip


class TestEstimate:
    def test_it_is_near_what_others_measured(self) -> None:
        errors = []
        for model, card, kind, rows, length, checkpointing, measured in PUBLISHED:
            made = shape(model if isinstance(model, dict) else config_of(model))
            accumulation = 8 if isinstance(model, dict) else 1
            plan = spec(
                kind, micro_batch=rows, max_length=length, checkpointing=checkpointing, accumulation=accumulation
            )
            predicted = estimate_speed(made, plan, on(card), 1000, [length]).tokens_per_second
            assert predicted
            errors.append(abs(measured / predicted - 1))
        assert len(errors) == 35
        assert statistics.median(errors) < 0.10
        assert max(errors) < 0.33
        assert sorted(errors)[31] < 0.30  # nine in ten

    def test_the_order_of_methods_and_cards(self) -> None:
        assert rate("lora") > rate("qlora") > rate("full", accumulation=8)
        assert rate(checkpointing=False) > rate(checkpointing=True)
        assert rate(card="h100") > rate(card="a100-80gb") > rate(card="rtx3090") > rate(card="rtx4060ti-16gb")

    def test_a_short_batch_waits_for_the_launches(self) -> None:
        assert rate(lengths=(64,), micro_batch=2) == pytest.approx(2 * rate(lengths=(64,), micro_batch=1))
        assert rate(lengths=(4096,), micro_batch=2) == pytest.approx(rate(lengths=(4096,), micro_batch=1))

    def test_a_full_update_is_shared_by_accumulated_batches(self) -> None:
        assert rate("full", accumulation=8, micro_batch=1) > 1.1 * rate("full", accumulation=1, micro_batch=1)

    def test_efficiency_is_what_the_flops_say(self) -> None:
        speed = estimate(checkpointing=False)
        flops = flops_per_token(config_of("mistralai/Mistral-7B-v0.1"), 4096 // 2)  # causal: half of the scores
        assert speed.tokens_per_second
        assert speed.efficiency == pytest.approx(flops * 2 / 3 * speed.tokens_per_second / 312e12)
        assert f"{speed.efficiency:.0%} of the card's 312 TFLOPS" in speed.basis

    @given(st.sampled_from(sorted(cards())), st.sampled_from(["lora", "qlora", "full"]), st.integers(1, 16),
           st.integers(32, 4096), st.booleans())  # fmt: skip
    def test_no_card_is_used_beyond_its_peak(
        self, card: str, kind: str, batch: int, length: int, packing: bool
    ) -> None:
        speed = estimate(kind, card, (length,), micro_batch=batch, packing=packing)
        if cards()[card].bf16:
            assert speed.efficiency is not None
            assert 0 < speed.efficiency < 1
        else:
            assert speed.tokens_per_second is None
            assert "bf16" in speed.basis

    def test_packing_saves_the_padding(self) -> None:
        ragged = (100, 200, 400, 1900)
        assert rate(lengths=ragged, packing=True, max_length=2048) > 1.5 * rate(lengths=ragged, micro_batch=8)
        assert rate(lengths=(2048,), packing=True, max_length=2048) == pytest.approx(
            rate(lengths=(2048,), max_length=2048)
        )

    def test_times_follow_from_rows_epochs_and_steps(self) -> None:
        once, thrice = estimate(), estimate(epochs=3.0)
        assert once.tokens_per_second
        assert once.seconds_per_epoch == pytest.approx(1000 * 4096 / once.tokens_per_second)
        assert thrice.seconds_total == pytest.approx(3 * (once.seconds_total or 0))
        assert estimate(max_steps=50).seconds_total == pytest.approx(50 * 4 * 4096 / once.tokens_per_second)

    def test_long_rows_are_dropped_or_cut(self) -> None:
        lengths = (500, 500, 500, 3000)
        dropped = estimate(lengths=lengths, max_length=1000, micro_batch=1)
        cut = estimate(lengths=lengths, max_length=1000, micro_batch=1, long_rows="cut")
        assert dropped.tokens_per_second
        assert cut.tokens_per_second
        assert dropped.seconds_per_epoch == pytest.approx(750 * 500 / dropped.tokens_per_second)
        assert cut.seconds_per_epoch == pytest.approx((750 * 500 + 250 * 1000) / cut.tokens_per_second)
        assert estimate(lengths=(3000,), max_length=1000).tokens_per_second is None

    def test_two_cards_are_faster_than_one_but_not_twice(self) -> None:
        plan = spec()
        two = plan.model_copy(update={"compute": plan.compute.model_copy(update={"processes": 2})})
        one_rate = estimate_speed(MISTRAL, plan, on("a100-80gb"), 1000, [4096]).tokens_per_second
        two_rate = estimate_speed(MISTRAL, two, on("a100-80gb", 2), 1000, [4096]).tokens_per_second
        assert one_rate
        assert two_rate
        assert 1.5 * one_rate < two_rate < 2 * one_rate

    def test_history_corrects_it_and_what_it_said_before_stays_known(self) -> None:
        plain = estimate()
        past = [PastRun(str(i), on("a100-80gb").name, "lora", predicted_speed=1000, speed=800) for i in range(6)]
        learned = estimate_speed(MISTRAL, spec(), on("a100-80gb"), 1000, [4096], past)
        assert plain.tokens_per_second
        assert learned.tokens_per_second == pytest.approx(plain.tokens_per_second * 0.8 ** (6 / 8))
        assert learned.uncorrected == pytest.approx(plain.uncorrected) == pytest.approx(plain.tokens_per_second)
        assert learned.seconds_total == pytest.approx((plain.seconds_total or 0) / 0.8 ** (6 / 8))
        assert "6 lora runs on A100-SXM4-80GB" in learned.basis
        assert "no run on A100-SXM4-80GB has confirmed it here" in plain.basis

    def test_where_nothing_is_known_it_says_so(self) -> None:
        size_only = estimate_speed(MISTRAL, spec(), Cards(1, "GPU", 24.0, None), 1000, [4096])
        assert (size_only.tokens_per_second, size_only.seconds_total) == (None, None)
        assert "memory size" in size_only.basis
        assert estimate(precision="fp32").tokens_per_second is None
        for changes in ({"method": {"kind": "ia3"}}, {"objective": "kto"}):
            other = parse(spec().model_dump() | changes)
            unknown = estimate_speed(MISTRAL, other, on("a100-80gb"), 1000, [4096])
            assert unknown.tokens_per_second is None
            assert "was not looked into" in unknown.basis

    def test_a_cpu_is_rough_and_scales_with_its_cores(self) -> None:
        small = shape(config_of("HuggingFaceTB/SmolLM2-135M"))
        plan, rows = spec(max_length=512, checkpointing=False), list(range(60, 201))
        one = estimate_speed(small, plan, None, 100, rows, cores=1)
        assert one.tokens_per_second
        assert 115 < one.tokens_per_second < 140  # 127 were measured: the figure that it scales from
        assert estimate_speed(small, plan, None, 100, rows, cores=4).tokens_per_second == pytest.approx(4 * one.tokens_per_second)  # fmt: skip
        assert one.efficiency is None
        assert "rough" in one.basis
        assert "no run on this CPU" in one.basis


def test_cost() -> None:
    assert cost(seconds=5400, price_per_hour=2.0, cards=4) == pytest.approx(12.0)
