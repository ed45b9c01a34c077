"""The old code path against measurements that were published for it, and against what is known by hand."""

from typing import Any

import pytest

from engine.planner.hf448 import adapter_inputs, peak
from engine.planner.memory import GIB, estimate
from engine.planner.shape import shape
from tests.engine.planning import LLAMA_8B
from tests.traced import spec_of

MISTRAL = LLAMA_8B | {"model_type": "mistral", "vocab_size": 32000}
ATTENTION = {"rank": 16, "targets": "attention", "dropout": 0.1}


@pytest.mark.parametrize(
    ("config", "method", "rows", "published"),
    [
        (MISTRAL, {"kind": "full"}, 4, 67.46),
        (MISTRAL, {"kind": "full"}, 8, 67.46),
        (MISTRAL, {"kind": "lora", **ATTENTION}, 4, 24.87),
        (MISTRAL, {"kind": "lora", **ATTENTION}, 8, 36.08),
        (MISTRAL, {"kind": "qlora", **ATTENTION}, 4, 15.25),
        (MISTRAL, {"kind": "qlora", **ATTENTION}, 8, 26.46),
    ],
    ids=["full-4", "full-8", "lora-4", "lora-8", "qlora-4", "qlora-8"],
)
def test_one_a100(config: dict[str, Any], method: dict[str, Any], rows: int, published: float) -> None:
    """fms-acceleration's benchmark (transformers 4.48, rows padded to 4096, flash attention): peak allocated, GiB."""
    spec = spec_of(
        method, {"micro_batch": rows, "max_length": 4096, "optimizer": "adamw_torch", "attention": "flash_attention_2"}
    )
    assert estimate(shape(config), spec, "hf448").peak / GIB == pytest.approx(published, rel=0.01)


def test_one_a100_with_fused_kernels() -> None:
    """The same benchmark's Llama-3-8B, 4 rows, full, with foak's fused cross-entropy: the optimizer's step is the peak."""
    made = shape(LLAMA_8B)
    moments = peak(made, "full", 4 * 4096, 2 * made.parameters, made.parameters, 0, autocast=True, kernels="foak")
    most = max(moments, key=lambda moment: sum(moments[moment].values()))
    assert most == "optimizer step"
    assert sum(moments[most].values()) / GIB == pytest.approx(74.80, rel=0.01)


def totals(**changes: Any) -> dict[str, float]:
    made = shape(MISTRAL)
    asked: dict[str, Any] = {
        "method": "lora", "tokens": 16384, "base": 2 * made.parameters, "trained": 13_631_488, "rank_inputs": 0,
    }  # fmt: skip
    moments = peak(made, **(asked | changes))
    return {moment: sum(parts.values()) for moment, parts in moments.items()}


def test_logits_are_the_peak_and_fused_ones_are_not() -> None:
    """14 bytes a logit: bf16, fp32, shifted fp32, log-softmax."""
    plain, fused = totals(), totals(kernels="liger")
    assert max(plain, key=lambda moment: plain[moment]) == "loss forward"
    assert plain["loss forward"] - fused["loss forward"] == 14 * 16384 * 32000
    assert max(fused, key=lambda moment: fused[moment]) == "block backward"
    assert fused["loss forward"] < totals(kernels="foak")["loss forward"] < plain["loss forward"]


def test_several_cards_share_the_weights() -> None:
    one, two, four = (totals(devices=n)["optimizer step"] for n in (1, 2, 4))
    assert four < two < one
    adapter = 13_631_488 * (4 + 4 + 8 + 4)  # with gradients, two moments and the temporary
    assert two - four == pytest.approx((2 * shape(MISTRAL).parameters + adapter) / 4, rel=1e-6)


def test_without_checkpointing_every_block_is_kept() -> None:
    assert totals(checkpointing=False)["block backward"] > 10 * 2**30 + totals()["block backward"]


def test_the_foreach_optimizer_makes_a_temporary_of_all() -> None:
    parameters = shape(MISTRAL).parameters
    fused, foreach = (totals(method="full", trained=parameters, optimizer=name)["optimizer step"]
                      for name in ("adamw_torch_fused", "adamw_torch"))  # fmt: skip
    assert foreach - fused == 2 * parameters


def test_adapters_keep_their_inputs() -> None:
    assert adapter_inputs([4096, 4096], 16, dropout=False, autocast=False) == 2 * (4 * 4096 + 32)
    assert adapter_inputs([4096], 16, dropout=True, autocast=True) == 3 * 4096 + 32
