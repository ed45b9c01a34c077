"""The catalogs agree with transformers, with published figures, and with the names that NVML gives."""

import ast
import dataclasses
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from engine import catalog
from engine.catalog import cards, find_card, find_model, models

ROOT = Path(__file__).parent.parent.parent
BUILD = """
import copy, json, sys, torch
from transformers import AutoConfig, AutoModelForCausalLM
from engine.catalog import models
counts = {}
for id, model in models().items():
    with torch.device("meta"):
        built = AutoModelForCausalLM.from_config(AutoConfig.for_model(**copy.deepcopy(model.config)))
    counts[id] = [type(built).__name__, sum(p.numel() for p in built.parameters())]
print(json.dumps(counts))
"""
# Elements in the published safetensors files (their index's total_size, or the hub's count), as quoted in public
PUBLISHED = {
    "meta-llama/Llama-3.1-8B-Instruct": 8_030_261_248,
    "meta-llama/Llama-3.2-1B-Instruct": 1_235_814_400,
    "meta-llama/Llama-3.2-3B-Instruct": 3_212_749_824,
    "meta-llama/Llama-3.3-70B-Instruct": 70_553_706_496,
    "mistralai/Mistral-7B-v0.3": 7_248_023_552,
    "mistralai/Mistral-Nemo-Base-2407": 24_495_564_800 // 2,
    "mistralai/Mixtral-8x7B-v0.1": 93_405_585_408 // 2,
    "Qwen/Qwen2.5-0.5B-Instruct": 494_032_768,
    "Qwen/Qwen2.5-1.5B-Instruct": 1_543_714_304,
    "Qwen/Qwen2.5-3B-Instruct": 3_085_938_688,
    "Qwen/Qwen2.5-7B-Instruct": 7_615_616_512,
    "Qwen/Qwen2.5-14B": 14_770_033_664,
    "Qwen/Qwen3-0.6B": 751_632_384 - 151_936 * 1024,  # these two store the tied output layer once more
    "Qwen/Qwen3-1.7B": 2_031_739_904 - 151_936 * 2048,
    "Qwen/Qwen3-4B": 4_022_468_096,
    "Qwen/Qwen3-8B": 8_190_735_360,
    "Qwen/Qwen3-14B": 29_536_614_400 // 2,
    "Qwen/Qwen3-32B": 32_762_123_264,
    "Qwen/Qwen3-30B-A3B": 61_064_245_248 // 2,
    "google/gemma-2-2b-it": 2_614_341_888,
    "google/gemma-3-1b-it": 999_885_952,
    "google/gemma-3-4b-it": 4_300_079_472,
    "google/gemma-3-12b-pt": 12_187_325_040,
    "google/gemma-3-27b-pt": 27_432_406_640,
    "microsoft/Phi-3-mini-4k-instruct": 3_821_079_552,
    "microsoft/phi-4": 14_659_507_200,
    "microsoft/Phi-4-mini-instruct": 3_836_021_760,
    "HuggingFaceTB/SmolLM2-135M-Instruct": 134_515_008,
    "HuggingFaceTB/SmolLM2-360M-Instruct": 361_821_120,
    "HuggingFaceTB/SmolLM2-1.7B-Instruct": 1_711_376_384,
    "HuggingFaceTB/SmolLM3-3B": 3_075_098_624,
    "openai/gpt-oss-20b": 20_914_757_184,
    "openai/gpt-oss-120b": 116_829_156_672,
    "allenai/OLMo-2-1124-7B": 7_298_617_344,
    "allenai/OLMo-2-1124-13B": 13_716_198_400,
}


def test_the_parameter_counts_are_the_published_ones() -> None:
    assert {name: models()[name].parameters for name in PUBLISHED} == PUBLISHED


@pytest.mark.slow
def test_every_model_builds_in_transformers_with_the_count_in_the_catalog() -> None:
    output = subprocess.run([sys.executable, "-c", BUILD], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    built = json.loads(output.splitlines()[-1])
    assert built == {name: [m.config["architectures"][0], m.parameters] for name, m in models().items()}


def test_models_are_complete_and_consistent() -> None:
    assert len(models()) >= 40
    for name, model in models().items():
        assert name == model.id
        text = model.config.get("text_config", model.config)
        assert model.context == text.get("max_position_embeddings", text.get("n_positions")), name
        assert text["vocab_size"] > 0, name
        assert "tie_word_embeddings" in model.config, name
        assert model.licence, name
        assert model.source, name


def test_an_instruct_model_has_its_base_models_shape_and_facts_of_its_own() -> None:
    base, instruct = models()["google/gemma-2-9b"], models()["google/gemma-2-9b-it"]
    assert (base.template, instruct.template) == (False, True)
    assert instruct.parameters == base.parameters
    assert instruct.config == base.config | {"torch_dtype": "bfloat16"}
    assert base.config["torch_dtype"] == "float32"


@pytest.mark.parametrize(
    ("name", "hub_id"),
    [
        ("meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-8B"),
        ("llama-3.1-8b", "meta-llama/Llama-3.1-8B"),
        ("META-LLAMA/meta-llama-3.1-8b", "meta-llama/Llama-3.1-8B"),  # its id until 2024
        ("Llama-3-8B", "meta-llama/Meta-Llama-3-8B"),
        ("llama-2-7b", "meta-llama/Llama-2-7b-hf"),
        ("llama-2-7b-chat", "meta-llama/Llama-2-7b-chat-hf"),
        (" gpt2 ", "openai-community/gpt2"),
        ("qwen2.5-7b-instruct", "Qwen/Qwen2.5-7B-Instruct"),
        ("unsloth/Llama-3.1-8B", None),  # somebody else's copy may differ
        ("llama-3.1", None),
        ("./gpt2", None),
        ("/gpt2", None),
        ("", None),
    ],
)
def test_a_model_is_found_by_name(name: str, hub_id: str | None) -> None:
    found = find_model(name)
    assert (found.id if found else None) == hub_id


def test_a_name_that_two_models_have_finds_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    gpt2 = models()["openai-community/gpt2"]
    both = {"a/gpt2": dataclasses.replace(gpt2, id="a/gpt2"), "b/gpt2": dataclasses.replace(gpt2, id="b/gpt2")}
    monkeypatch.setattr(catalog, "models", lambda: both)
    assert find_model("gpt2") is None
    assert find_model("B/GPT2") is both["b/gpt2"]


def test_cards_are_plausible() -> None:
    assert len(cards()) >= 60
    for key, card in cards().items():
        assert key == card.key == key.lower()
        assert 5 < card.memory < 300
        assert 190 < card.bandwidth <= 8000
        assert 15 < card.tflops <= 2500
        assert card.source
        assert card.bf16 is (card.capability >= (8, 0))


@pytest.mark.parametrize("card", cards().values(), ids=lambda card: card.key)
def test_a_card_is_found_by_its_key_and_by_what_nvml_says(card: catalog.Card) -> None:
    assert find_card(card.key) is card
    assert find_card(card.name, card.memory) is card
    assert find_card(f"NVIDIA {card.name}", card.memory * 0.99) is card
    assert find_card(f"NVIDIA GeForce {card.name.upper()}", card.memory) is card


@pytest.mark.parametrize(
    ("name", "memory", "key"),
    [
        ("NVIDIA A100 80GB PCIe", 80.0, "a100-80gb"),
        ("NVIDIA A100-PCIE-40GB", None, "a100-40gb"),
        ("NVIDIA A100", None, "a100-40gb"),  # the smaller: a plan that fits it fits both
        ("NVIDIA H100 PCIe", 79.65, "h100-pcie"),
        ("NVIDIA H100 80GB HBM3", 79.65, "h100"),
        ("NVIDIA H200", 140.4, "h200"),
        ("Tesla V100-PCIE-32GB", 32.0, "v100-32gb"),
        ("NVIDIA GeForce RTX 3080", 12.0, "rtx3080-12gb"),
        ("NVIDIA RTX 6000 Ada Generation", 47.99, "rtx6000ada"),
        ("NVIDIA GeForce RTX 4080 SUPER", 31.99, "rtx4080super"),  # its memory doubled by others: the chip is the same
        ("NVIDIA GeForce RTX 4090 Laptop GPU", 15.99, None),
        ("NVIDIA GeForce RTX 4090 D", 23.99, None),
        ("NVIDIA A100-SXM4-80GB MIG 3g.40gb", 39.25, None),
        ("NVIDIA Graphics Device", 95.0, None),
        ("GPU", None, None),
        ("80GB", 80.0, None),
    ],
)
def test_a_device_name_means_a_card_or_none(name: str, memory: float | None, key: str | None) -> None:
    found = find_card(name, memory)
    assert (found.key if found else None) == key


def test_the_rates_agree_with_trls_table() -> None:
    """TRL divides by them too. Read from its source: importing it takes torch."""
    spec = importlib.util.find_spec("trl")
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse((Path(spec.origin).parent / "trainer" / "utils.py").read_text(encoding="utf-8"))
    table = next(
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_PEAK_FLOPS_BY_DEVICE"
    )
    compared = 0
    for name, rates in table:
        card = find_card(name)
        if card and name != "A10G":  # TRL gives it the A10's rate; AWS's data sheet has 70, measured were 69.5
            rate = rates.get("bfloat16", rates.get("float16"))
            assert card.tflops * 1e12 == pytest.approx(rate, rel=0.01), name
            compared += 1
    assert compared >= 12


def test_reading_the_catalogs_imports_nothing_heavy() -> None:
    program = (
        "import sys, engine.catalog as c; c.cards(); c.models();"
        "print(*{m.partition('.')[0] for m in sys.modules} & {'torch', 'transformers', 'pydantic', 'pynvml', 'psutil'})"
    )
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert output.stdout.strip() == ""
