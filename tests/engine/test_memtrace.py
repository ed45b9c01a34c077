"""The traced step against the real one, which torch's own memory profiler watches, and against what is known by hand."""

import contextlib
import gc
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from engine.models import inspect_model
from engine.spec import RunSpec
from tests.traced import FAMILIES, LLAMA, spec_of

RNG_STATES = 64 << 10
"""Bytes that checkpointing keeps on the CPU, where the profiler sees them; the rows of the data set are there too."""


@contextlib.contextmanager
def cpu_operators(masked: bool) -> Iterator[None]:
    """The trace as the CPU would run it, so that it can be held against the CPU."""
    from engine.worker import cuda

    with (
        mock.patch("transformers.masking_utils.is_tracing", return_value=masked),
        mock.patch.object(cuda, "CUBLAS_WORKSPACE", 0),
    ):
        yield


def traced_on_cpu(config: dict[str, Any], spec: RunSpec) -> int:
    from engine.worker import cuda, fake, memtrace

    with (
        mock.patch.object(cuda, "kernels", cpu_operators),
        mock.patch.object(memtrace, "cuda_paths", contextlib.nullcontext),
        mock.patch.object(fake, "_WORKSPACES", {}),
        mock.patch.object(memtrace, "rounded", lambda nbytes: nbytes),
    ):
        return memtrace.trace(config, spec).peak_allocated


def measured(config: dict[str, Any], spec: RunSpec, tokenizer: Path, tmp_path: Path) -> int:
    """The peak of two steps of the real SFTTrainer on the CPU, by torch's memory profiler, in bytes."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig
    from trl import SFTConfig, SFTTrainer

    from engine.worker import load, sft
    from engine.worker.adapters import peft_config
    from engine.worker.head import use_head
    from engine.worker.quantized import statistics

    use_head(plain=spec.training.fused_head is False)
    model = AutoModelForCausalLM.from_config(LlamaConfig(**config))
    model.save_pretrained(tmp_path / "model")
    facts = inspect_model(str(tmp_path / "model"))
    rows = [[7 + i * j % 200 for j in range(spec.training.max_length or 1)] for i in range(8)]
    trainer = SFTTrainer(
        model=load.load_model(spec, facts),
        args=SFTConfig(**sft.trainer_arguments(spec, tmp_path, 8, evaluate=False) | {"max_steps": 2, "use_cpu": True}),
        train_dataset=Dataset.from_dict({"input_ids": rows, "labels": rows}),
        processing_class=AutoTokenizer.from_pretrained(tokenizer),
        peft_config=peft_config(spec, facts.config),
    )
    tensors = [*trainer.model.parameters(), *trainer.model.buffers()]
    tensors += [getattr(*where) for weight in tensors for where in statistics(weight)]
    del model
    gc.collect()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        trainer.train()
    profiler.export_chrome_trace(str(tmp_path / "trace.json"))
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    memory = sorted((e for e in events if e["name"] == "[memory]"), key=lambda event: event["ts"])
    totals = [event["args"]["Total Allocated"] for event in memory]
    before = totals[0] - memory[0]["args"]["Bytes"]
    return int(max(totals) - before + sum(tensor.nbytes for tensor in tensors))


@pytest.mark.parametrize(
    ("method", "training"),
    [
        ({"kind": "full"}, {"precision": "fp32", "attention": "eager", "checkpointing": False}),
        ({"kind": "full"}, {"accumulation": 2}),
        ({"kind": "full"}, {"precision": "mixed", "optimizer": "adafactor"}),
        ({"kind": "lora"}, {"checkpointing": False}),
        ({"kind": "lora"}, {"attention": "eager"}),
        ({"kind": "lora", "variant": "dora"}, {"precision": "mixed"}),
        ({"kind": "qlora"}, {}),
        ({"kind": "ia3", "targets": ["k_proj", "v_proj", "down_proj"]}, {"checkpointing": False}),
        ({"kind": "prompt", "virtual_tokens": 20}, {}),
        ({"kind": "lora"}, {"fused_head": False}),
    ],
    ids=lambda value: "-".join(str(v) for v in value.values()) or "usual",
)
def test_as_much_as_the_real_trainer_takes(
    method: dict[str, Any], training: dict[str, Any], tiny_model: Path, tmp_path: Path
) -> None:
    from engine.worker.head import use_head

    spec = spec_of(method, training)
    real = measured(LLAMA, spec, tiny_model, tmp_path)
    use_head(plain=False)
    assert abs(traced_on_cpu(LLAMA, spec) - real) < RNG_STATES + real // 2000


def test_the_parts_of_a_full_run() -> None:
    from engine.worker.memtrace import trace

    t = trace(LLAMA, spec_of({"kind": "full"}, {"precision": "bf16"}))
    d, f, v, layers, kv = 256, 768, 4000, 4, 128
    parameters = 2 * v * d + layers * (2 * d * d + 2 * d * kv + 3 * d * f + 2 * d) + d
    # blocks are rounded up to 512 B, and there are two rotary tables and a step count for each tensor
    assert 2 * parameters <= t.weights <= 2 * parameters + 2 * 512
    assert t.gradients == t.weights - 2 * 512
    assert t.optimizer == 2 * t.gradients + (2 + 9 * layers + 1) * 512
    assert t.step_peaks[0] <= t.step_peaks[1] == t.peak_allocated <= t.peak_reserved
    assert sum(nbytes for *_, nbytes, _ in t.alive) == t.peak_allocated


def test_a_step_leaves_nothing_behind() -> None:
    from engine.worker.memtrace import trace

    peaks = trace(LLAMA, spec_of({}, {"accumulation": 2}), steps=4).step_peaks
    assert peaks[1] == peaks[2] == peaks[3]


def test_what_costs_more() -> None:
    from engine.worker.memtrace import trace

    def peak(method: dict[str, Any] | None = None, ragged: bool = False, **training: Any) -> int:
        return trace(LLAMA, spec_of(method or {}, {"max_length": 1024} | training), ragged=ragged).peak_allocated

    usual = peak()
    scores = 2 * 8 * 1024 * 1024 * 4
    assert peak(checkpointing=False) > usual
    assert peak({"dropout": 0.1}, checkpointing=False) > peak(checkpointing=False)
    assert peak(attention="eager") > usual + scores
    assert usual < peak(ragged=True) < peak(attention="eager")
    assert peak({"kind": "full"}, accumulation=2) > peak({"kind": "full"})


def test_what_the_optimizer_takes() -> None:
    """Few tokens, so that the step of the optimizer is the peak; the sizes are those of its documentation."""
    from engine.worker.memtrace import trace

    def full(optimizer: str) -> Any:
        return trace(LLAMA, spec_of({"kind": "full"}, {"max_length": 16, "optimizer": optimizer}))

    fused, foreach, paged, small = (
        full(name) for name in ("adamw_torch_fused", "adamw_torch", "paged_adamw_32bit", "adamw_8bit")
    )
    trained = fused.gradients
    assert foreach.peak_allocated > fused.peak_allocated + trained // 2  # the square root of the second moment
    assert foreach.peak_phase == "optimizer step"
    assert fused.optimizer // trained == foreach.optimizer // trained == 2
    assert paged.paged == 8 * (2 * 4000 * 256 + 4 * 3 * 256 * 768)  # two moments in float32, from 100,000 elements on
    assert abs(paged.paged + paged.optimizer - 4 * trained) < trained // 100
    embedding, head = 2 * 4 * 4000 * 256, 2 * 4000 * 256
    blocks = trained // 2 - 2 * 4000 * 256
    assert abs(small.optimizer - embedding - head - 2 * blocks) < trained // 40  # absmax; small tensors in 32 bits


def test_quantised_weights_are_as_large_as_the_real_ones() -> None:
    import bitsandbytes
    import torch

    bnb: Any = bitsandbytes

    from engine.worker.allocator import rounded
    from engine.worker.memtrace import trace

    small = {**LLAMA, "num_hidden_layers": 1}
    plain = trace(small, spec_of({}, {})).weights
    for bits, double in ((4, True), (4, False), (8, False)):
        spec = spec_of({"kind": "qlora", "quantization": {"bits": bits, "double": double}}, {})
        saved = 0
        for out, width in ((256, 256), (256, 256), (128, 256), (128, 256), (768, 256), (768, 256), (256, 768)):
            data = torch.randn(out, width, dtype=torch.bfloat16)
            saved += rounded(data.nbytes)
            if bits == 8:
                saved -= rounded(out * width) + rounded(4 * out)
                continue
            weight: Any = bnb.nn.Params4bit(data, compress_statistics=double, quant_type="nf4").to("cpu")
            state = weight.quant_state
            parts = [weight.data, state.absmax, state.code]
            parts += [state.offset, state.state2.absmax, state.state2.code] if double else []
            saved -= sum(rounded(t.nbytes) for t in parts)
        assert trace(small, spec).weights == plain - saved


def test_eight_bits_keep_the_inputs_past_checkpointing() -> None:
    from engine.worker.memtrace import trace

    t = trace(LLAMA, spec_of({"kind": "qlora", "quantization": {"bits": 8}}, {}))
    kept = [
        text for category, text, _, count in t.alive if category == "activations" and count == 4 and "(forward)" in text
    ]
    assert any("mul.Tensor bfloat16 [2, 256, 768]" in text for text in kept)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family(name: str) -> None:
    from engine.worker.memtrace import trace

    for kind in ("lora", "qlora", "full"):
        t = trace(
            FAMILIES[name], spec_of({"kind": kind}, {"attention": "eager" if name in ("gemma2", "gpt_oss") else "sdpa"})
        )
        assert t.peak_allocated > t.weights + t.adapter + t.optimizer
        assert (t.adapter > 0) == (kind != "full")
        assert t.step_peaks[1] >= t.step_peaks[0]


def test_autocast_is_the_gpus_only_while_tracing() -> None:
    import torch

    from engine.worker import cuda

    x, weight = torch.randn(4, 8, dtype=torch.bfloat16), torch.ones(8, dtype=torch.bfloat16)

    def dtypes() -> list[torch.dtype]:
        with torch.autocast("cpu", torch.bfloat16):
            results = (
                torch.layer_norm(x, (8,), weight, weight),
                torch.softmax(x, -1),
                x.pow(2),
                x.sum(),
                x @ x.t().float(),
            )
        return [result.dtype for result in results]

    with cuda.kernels(masked=False):
        assert dtypes() == [torch.float32] * 4 + [torch.bfloat16]
    assert dtypes() == [torch.bfloat16] * 5


def test_a_torch_that_behaves_otherwise_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.worker import fake

    fake.check()
    monkeypatch.setattr(fake, "SOLE_USE", (9, 9))
    with pytest.raises(fake.TraceError, match="does not behave"):
        fake.check()
