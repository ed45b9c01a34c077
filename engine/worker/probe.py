"""Two real optimizer steps on the longest batch, with random weights: what a run will take, measured and not estimated.

The model has the shape, precision and quantisation that load.py would give it, the trainer and its arguments are those of
sft.py; only the weights and the tokens are made up, which changes no tensor's size. The step is micro_batch rows of
max_length. `python -P -m engine.worker.probe CONFIG.json SPEC.yaml` prints a Probe as JSON; where there are several cards,
CUDA_VISIBLE_DEVICES has to name one.
"""

import argparse
import contextlib
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import datasets
import psutil
import pynvml
import torch
import transformers
from tokenizers import Tokenizer, models
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedTokenizerFast, TrainerCallback
from transformers.trainer_callback import PrinterCallback
from trl import SFTConfig, SFTTrainer

from engine.errors import ModelError, SpecError
from engine.spec import RunSpec
from engine.worker.adapters import peft_config
from engine.worker.child import answer
from engine.worker.head import use_head
from engine.worker.load import quantization
from engine.worker.quantized import statistics
from engine.worker.sft import trainer_arguments
from engine.worker.training import check_gpu, quiet

STEPS = 2
"""The optimizer's state appears in the first step: the peak is that of the second, and so is the time."""


@dataclass
class Probe:
    """Bytes and seconds. `measure`: what the bytes of `allocated`, `step_peaks` and `max_memory_allocated` are; `allocator`
    is torch's on the card, `resident` the whole process's on a CPU, the libraries included.

    `allocated` is what was held after loading, with the adapter, with the gradients before the optimizer stepped, and after
    the last step; `components` is what the tensors themselves take (weights, adapter, gradients, optimizer). `nvml` is the driver's figure: for this process, or by how much the card's use rose (`nvml_of`). When
    `oom`, the rest is as far as it got, and `phase` says how far. `micro_steps` is the accumulation, at most 2: more adds
    nothing. `tokens_per_second` is that of the last step, without padding.
    """

    device: str
    measure: Literal["allocator", "resident"]
    total: int
    oom: bool = False
    message: str = ""
    phase: str = "load"
    parameters: int = 0
    trainable: int = 0
    allocated: dict[str, int] = field(default_factory=dict)
    components: dict[str, int] = field(default_factory=dict)
    step_peaks: list[int] = field(default_factory=list)
    max_memory_allocated: int = 0
    max_memory_reserved: int | None = None
    nvml: int | None = None
    nvml_of: Literal["process", "card"] | None = None
    micro_steps: int = 1
    tokens_per_step: int = 0
    seconds: list[float] = field(default_factory=list)
    seconds_per_step: float | None = None
    tokens_per_second: float | None = None
    losses: list[float] = field(default_factory=list)


class Card:
    """The GPU, or the process where there is none, as it is asked for memory."""

    def __init__(self, cuda: bool) -> None:
        self.cuda = cuda
        self._handle = _nvml_handle() if cuda else None
        self._before = _card_used(pynvml, self._handle) or 0

    def describe(self) -> Probe:
        if not self.cuda:
            return Probe("cpu", "resident", psutil.virtual_memory().total)
        properties = torch.cuda.get_device_properties(0)
        return Probe(properties.name, "allocator", properties.total_memory)

    def synchronize(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()

    def allocated(self) -> int:
        return torch.cuda.memory_allocated() if self.cuda else int(psutil.Process().memory_info().rss)

    def refused(self) -> bool:
        """Whether an allocation failed: from_pretrained swallows the error and raises one without a cause."""
        return self.cuda and torch.cuda.memory_stats().get("num_ooms", 0) > 0

    def read(self, into: Probe) -> None:
        """The peaks since the start, and the driver's figure as it is now if that is more."""
        if not self.cuda:
            into.max_memory_allocated = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            return
        into.max_memory_allocated = torch.cuda.max_memory_allocated()
        into.max_memory_reserved = torch.cuda.max_memory_reserved()
        used, of = nvml_used(pynvml, self._handle, os.getpid(), self._before)
        if used is not None and used >= (into.nvml or 0):
            into.nvml, into.nvml_of = used, of


def _nvml_handle() -> Any:
    """The card that CUDA_VISIBLE_DEVICES names first, None where NVML does not know it. CUDA must not have started."""
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    try:
        pynvml.nvmlInit()
        by_index = first.isdigit()
        return pynvml.nvmlDeviceGetHandleByIndex(int(first)) if by_index else pynvml.nvmlDeviceGetHandleByUUID(first)
    except pynvml.NVMLError:
        return None


def _card_used(nvml: Any, handle: Any) -> int | None:
    try:
        return None if handle is None else int(nvml.nvmlDeviceGetMemoryInfo(handle).used)
    except nvml.NVMLError:
        return None


def nvml_used(
    nvml: Any, handle: Any, pid: int, before: int
) -> tuple[int | None, Literal["process", "card"] | None]:  # fmt: skip
    """Bytes that a process has on a card; where the driver does not list it (containers), the rise over `before`."""
    with contextlib.suppress(nvml.NVMLError):
        for process in nvml.nvmlDeviceGetComputeRunningProcesses(handle) if handle is not None else ():
            if process.pid == pid and process.usedGpuMemory:
                return int(process.usedGpuMemory), "process"
    used = _card_used(nvml, handle)
    return (None, None) if used is None else (used - before, "card")


class Watch(TrainerCallback):
    """Reads the memory and the clock at each step."""

    def __init__(self, card: Card, found: Probe) -> None:
        self._card, self._found, self._began = card, found, 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._card.synchronize()
        self._found.phase = "forward and backward"
        self._began = time.perf_counter()

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        self._found.allocated["gradients"] = self._card.allocated()
        self._found.components["gradients"] = _bytes(p.grad for p in model.parameters())
        self._found.phase = "optimizer step"

    def on_step_end(self, args: Any, state: Any, control: Any, optimizer: Any = None, **_: Any) -> None:
        self._card.synchronize()
        self._found.seconds.append(time.perf_counter() - self._began)
        self._found.allocated["optimizer"] = self._card.allocated()
        states = (value for state_ in optimizer.state.values() for value in state_.values())
        self._found.components["optimizer"] = _bytes(states)
        self._card.read(self._found)
        self._found.step_peaks.append(self._found.max_memory_allocated)


def _bytes(tensors: Iterable[Any]) -> int:
    return sum(tensor.nbytes for tensor in tensors if isinstance(tensor, torch.Tensor))


def _bytes_of_model(model: Any) -> dict[str, int]:
    """The frozen weights with what quantisation keeps beside them, and what is trained beside those (full: nothing is)."""
    parameters = list(model.parameters())
    statistics_ = [getattr(*where) for parameter in parameters for where in statistics(parameter)]
    trained = [p for p in parameters if p.requires_grad] if hasattr(model, "peft_config") else []
    beside = _bytes(trained)
    return {"weights": _bytes([*parameters, *statistics_]) - beside, "adapter": beside}


def run(config: dict[str, Any], spec: RunSpec) -> Probe:
    """Build, step twice, measure. `config` is the content of a config.json; `spec` has to be complete.

    Raises TuneDeckError for what it cannot build, and the libraries' own errors.
    """
    refuse(config, spec)
    quiet()
    check_gpu(spec)
    card = Card(spec.compute.devices != "cpu" and torch.cuda.is_available())
    found = card.describe()
    try:
        _steps(config, spec, card, found)
    except Exception as error:
        if not (out_of_memory(error) or card.refused()):
            raise
        found.oom, found.message = True, str(error).split("\n")[0][:300]
        card.read(found)
    return found


def refuse(config: dict[str, Any], spec: RunSpec) -> None:
    """Raises TuneDeckError for a step that one process with random weights cannot take as the run would."""
    kind, method = config.get("model_type"), (config.get("quantization_config") or {}).get("quant_method")
    if kind not in CONFIG_MAPPING:
        raise ModelError(
            "The model's architecture is unknown",
            f"transformers {transformers.__version__} has no model type {kind}.",
            "Code that comes with a model cannot be probed.",
        )
    if method:
        raise ModelError(
            "This model is quantised already", f"Its weights are stored by {method}.", "Probe the model it was made of."
        )
    if spec.objective not in (None, "sft", "text"):
        raise SpecError(
            "This step cannot be probed",
            f"Only that of sft and text can, not {spec.objective}'s.",
            "Start a short run.",
        )
    if spec.compute.sharding == "layers":
        raise SpecError("The probe takes one card", "compute.sharding is layers.", "Probe with sharding=ddp.")
    if spec.compute.processes > 1:
        raise SpecError(
            "The probe takes one card", f"compute.processes is {spec.compute.processes}.", "Probe with one process."
        )


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on the card or on the host; the libraries wrap such errors in others."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(inner):
            return True
        inner = inner.__cause__ or inner.__context__
    return False


def _steps(config: dict[str, Any], spec: RunSpec, card: Card, found: Probe) -> None:
    model = _random_model(config, spec, "cuda:0" if card.cuda else "cpu", found)
    found.allocated["load"], found.phase = card.allocated(), "adapter"
    found.micro_steps = min(spec.training.accumulation or 1, 2)
    lengths = micro_batch(spec) * found.micro_steps
    use_head(plain=spec.training.fused_head is False)
    found.tokens_per_step = sum(lengths)
    with tempfile.TemporaryDirectory(prefix="tunedeck-") as folder:
        trainer = SFTTrainer(
            model=model, args=SFTConfig(**_arguments(spec, Path(folder), len(lengths), found.micro_steps)),
            train_dataset=_rows(lengths * STEPS, model.config.get_text_config().vocab_size),
            processing_class=_tokenizer(), peft_config=peft_config(spec, config),
            callbacks=[Watch(card, found)],
        )  # fmt: skip
        trainer.remove_callback(PrinterCallback)
        found.trainable = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
        found.allocated["adapter"], found.components = card.allocated(), _bytes_of_model(trainer.model)
        trainer.train()
    found.phase = "done"
    found.losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    found.seconds_per_step = found.seconds[-1]
    found.tokens_per_second = found.tokens_per_step / found.seconds_per_step


def _arguments(spec: RunSpec, folder: Path, rows: int, micro_steps: int) -> dict[str, Any]:
    """The run's own arguments, but for what is not done: logging elsewhere, evaluating, saving, going on."""
    alone = spec.model_copy(update={"report_to": None})
    return trainer_arguments(alone, folder, rows, evaluate=False) | {
        "max_steps": STEPS, "gradient_accumulation_steps": micro_steps, "save_strategy": "no",
        "train_sampling_strategy": "sequential",
    }  # fmt: skip


def micro_batch(spec: RunSpec) -> list[int]:
    """Tokens of the rows of the largest micro-batch, as engine.planner.memory.batch_of counts it: several rows are ragged,
    so that attention needs a mask; two are packed into one."""
    rows, longest = spec.training.micro_batch or 1, spec.training.max_length or 1024
    if spec.training.packing:
        return [longest // 2, longest - longest // 2] * rows
    return [longest] + [max(1, longest - 1)] * (rows - 1)


def _rows(lengths: list[int], vocab: int) -> datasets.Dataset:
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randint(vocab, (n,), generator=generator).tolist() for n in lengths]
    return datasets.Dataset.from_dict({"input_ids": rows, "labels": rows})


def _tokenizer() -> Any:
    """Nothing is tokenised, but the trainer wants to know what to pad with."""
    words = Tokenizer(models.WordLevel({"<pad>": 0}, unk_token="<pad>"))
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<pad>")


def _random_model(config: dict[str, Any], spec: RunSpec, device: str, found: Probe) -> Any:
    """The base model with random weights, by the way that load.py takes: through from_pretrained, quantised if so, but
    straight to the card."""
    settings = CONFIG_MAPPING[config["model_type"]].from_dict(config)
    for name, value in spec.extra.model.items():
        if hasattr(settings, name):  # as from_pretrained takes them
            setattr(settings, name, value)
    with torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(settings, dtype=torch.bfloat16)
    found.parameters = sum(p.numel() for p in empty.parameters())
    options: dict[str, Any] = {"quantization_config": quantization(spec)} if spec.method.base else {}
    return type(empty).from_pretrained(
        None, config=settings, state_dict={name: _random(t, device) for name, t in empty.state_dict().items()},
        dtype=torch.bfloat16 if spec.training.precision == "bf16" else torch.float32,
        attn_implementation=spec.training.attention, device_map={"": device}, **options,
    )  # fmt: skip


def _random(like: torch.Tensor, device: str) -> torch.Tensor:
    """A tensor of that shape on the CPU. If it is to go elsewhere, it is a window sliding over a few random numbers, which
    costs the host next to nothing: a model larger than main memory reaches the card tensor by tensor."""
    strides = [2 ** (like.dim() - 1 - i) for i in range(like.dim())]
    needed = 1 + sum((size - 1) * stride for size, stride in zip(like.shape, strides, strict=True))
    window = (0.02 * torch.randn(needed)).to(like.dtype).as_strided(like.shape, strides)
    return window.contiguous() if device == "cpu" else window


def main() -> int:
    parser = argparse.ArgumentParser(prog="engine.worker.probe")
    return answer(parser, "The probe", lambda config, spec, _: run(config, spec))


if __name__ == "__main__":
    sys.exit(main())
