"""Two real steps in a real child on the CPU: the sizes that the closed form gives, the steps taken, and what goes wrong."""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.errors import RunError, SpecError, TuneDeckError
from engine.hardware import Gpu
from engine.leases import try_lease
from engine.planner.probe import card_for, probe
from engine.planner.shape import shape
from engine.planner.trained import static
from engine.spec import RunSpec, to_yaml
from tests.engine.fake_nvml import MIB, Card, FakeNvml, memory
from tests.traced import FAMILIES, LLAMA, spec_of

GPU = Gpu(0, "GPU-00000000-probe", "RTX 4090", 24.0)


def on_cpu(method: dict[str, Any], training: dict[str, Any]) -> RunSpec:
    spec = spec_of(method, training)
    return spec.model_copy(update={"compute": spec.compute.model_copy(update={"devices": "cpu"})})


def child(config: dict[str, Any], spec: RunSpec, folder: Path) -> tuple[int, dict[str, Any]]:
    """Exit code and document of the child itself."""
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "spec.yaml").write_text(to_yaml(spec))
    command = [
        sys.executable,
        "-P",
        "-m",
        "engine.worker.probe",
        str(folder / "config.json"),
        str(folder / "spec.yaml"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    return done.returncode, json.loads(done.stdout)


@pytest.mark.parametrize(
    ("config", "method", "training"),
    [
        (LLAMA, {"kind": "lora"}, {"accumulation": 8}),
        (LLAMA, {"kind": "qlora", "targets": "attention"}, {"micro_batch": 1, "checkpointing": False}),
        (LLAMA, {"kind": "full"}, {"precision": "mixed"}),
        (FAMILIES["qwen3_moe"], {"kind": "full"}, {"precision": "bf16"}),
        (FAMILIES["gemma3_text"], {"variant": "dora"}, {"packing": True}),
    ],
    ids=["lora", "qlora", "full", "experts", "dora-packed"],
)
def test_two_steps_of_the_run(config: dict[str, Any], method: dict[str, Any], training: dict[str, Any]) -> None:
    spec = on_cpu(method, training)
    if method == {"kind": "lora"}:
        found = probe(config, spec, None)
    else:  # here, which spares the start of another child
        from engine.worker.probe import run

        found = asdict(run(config, spec))
    assert (found["oom"], found["phase"], found["device"], found["measure"]) == (False, "done", "cpu", "resident")
    assert len(found["seconds"]) == len(found["step_peaks"]) == len(found["losses"]) == 2
    assert all(8 < loss < 8.6 for loss in found["losses"])  # ln 4000 = 8.29: weights that know nothing
    closed, made = static(shape(config), spec), shape(config)
    assert (found["trainable"], found["parameters"]) == (closed.trained, made.parameters)
    sizes = {name: getattr(closed, name) for name in ("weights", "adapter", "gradients", "optimizer")}
    assert found["components"] == pytest.approx(sizes, rel=0.01)
    rows, micro = spec.training.micro_batch or 1, min(spec.training.accumulation or 1, 2)
    assert found["micro_steps"] == micro
    assert found["tokens_per_step"] == micro * (256 * rows - (0 if spec.training.packing else rows - 1))
    assert found["tokens_per_second"] == pytest.approx(found["tokens_per_step"] / found["seconds"][1])
    least = sum(found["components"][name] for name in ("weights", "adapter", "optimizer"))
    # resident memory is what a sampler saw, so its peak may lie a little below what was read at once
    assert least < found["allocated"]["optimizer"] <= found["max_memory_allocated"] + 2**22
    assert found["max_memory_allocated"] == found["step_peaks"][1]
    assert found["max_memory_reserved"] is None  # neither is known without a card
    assert found["nvml"] is None


def test_no_memory_is_an_answer(tmp_path: Path) -> None:
    """An embedding beyond the address space: no machine has that much."""
    code, found = child(LLAMA | {"vocab_size": 10**14}, on_cpu({}, {}), tmp_path)
    assert (code, found["oom"], found["phase"]) == (0, True, "load")
    assert "allocate memory" in found["message"]
    assert found["seconds"] == []
    assert found["tokens_per_second"] is None


def test_a_failure_is_a_document(tmp_path: Path) -> None:
    code, found = child(LLAMA, on_cpu({}, {"optimizer": "lomo"}), tmp_path)
    assert code == 1
    assert set(found) == {"title", "message", "hint"}
    assert found["title"] == "The probe failed"
    assert "lomo" in found["message"]


def test_what_is_refused() -> None:
    from engine.worker.probe import refuse

    spec = spec_of({}, {})
    with pytest.raises(TuneDeckError, match="stored by awq"):
        refuse(LLAMA | {"quantization_config": {"quant_method": "awq"}}, spec)
    several = spec.model_copy(update={"compute": spec.compute.model_copy(update={"processes": 2})})
    with pytest.raises(TuneDeckError, match="processes is 2"):
        refuse(LLAMA, several)
    refuse(LLAMA, spec)


def test_the_child_s_error_is_raised() -> None:
    with pytest.raises(TuneDeckError, match="no model type nonsense"):
        probe(LLAMA | {"model_type": "nonsense"}, on_cpu({}, {}), None)


def test_a_card_in_use_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEDECK_LOCKS", str(tmp_path))
    held = try_lease([GPU], 1)
    assert held
    with pytest.raises(RunError, match="RTX 4090"):
        probe(LLAMA, spec_of({}, {}), GPU)
    os.close(held[1][0])


def test_a_card_that_torch_does_not_see_is_no_cpu_probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEDECK_LOCKS", str(tmp_path))
    with pytest.raises(TuneDeckError, match="torch does not see the GPU"):
        probe(LLAMA, spec_of({}, {}), GPU)
    assert try_lease([GPU], 1)  # given back


def test_which_card_is_probed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    spec = spec_of({}, {})
    assert card_for(spec, [GPU]) == GPU
    assert card_for(on_cpu({}, {}), [GPU]) is None
    with pytest.raises(SpecError, match="no GPU to probe"):
        card_for(spec, [])


def test_the_driver_s_figure_is_of_the_process_where_it_lists_it() -> None:
    from engine.worker.probe import nvml_used

    mine = SimpleNamespace(pid=7, usedGpuMemory=900 * MIB)
    other = SimpleNamespace(pid=8, usedGpuMemory=5000 * MIB)
    card = Card({"ComputeRunningProcesses": [other, mine], "MemoryInfo": memory(24564, 6000)})
    nvml = FakeNvml(card)
    assert nvml_used(nvml, card, 7, 0) == (900 * MIB, "process")
    assert nvml_used(nvml, card, 9, 5100 * MIB) == (900 * MIB, "card")  # another name space of pids
    mine.usedGpuMemory = None  # as on Windows
    assert nvml_used(nvml, card, 7, 5100 * MIB) == (900 * MIB, "card")
    assert nvml_used(FakeNvml(Card()), Card(), 7, 0) == (None, None)
    assert nvml_used(FakeNvml(), None, 7, 0) == (None, None)


def test_weights_that_cost_the_host_nothing() -> None:
    import torch

    from engine.worker.probe import _random

    wide = _random(torch.empty(3000, 2000, dtype=torch.bfloat16, device="meta"), "cuda:0")
    assert wide.untyped_storage().nbytes() < 20_000
    copy = wide.to(torch.float32)
    assert copy.is_contiguous()
    assert 0.01 < float(copy.std()) < 0.03
    here = _random(torch.empty(30, 20, dtype=torch.bfloat16, device="meta"), "cpu")
    assert here.untyped_storage().nbytes() == 30 * 20 * 2  # an optimizer writes to it


def test_the_parent_does_without_torch() -> None:
    program = "import sys, engine.planner.probe; print('torch' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "False\n"
    )
