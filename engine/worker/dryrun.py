"""The training step itself, on tensors without data: the model as load.py, PEFT and SFTTrainer make it, and its steps."""

import collections
import contextlib
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
import transformers
from accelerate.utils.operations import convert_outputs_to_fp32  # type: ignore[import-untyped]
from bitsandbytes.optim.optimizer import GlobalOptimManager
from peft import get_peft_model
from peft.tuners.boft.layer import BOFTLayer
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, Trainer
from trl import SFTTrainer
from trl.kernels import ChunkedLogProbFunction
from trl.trainer import utils
from trl.trainer.utils import add_fused_lm_head

from engine.spec import RunSpec
from engine.worker import cuda
from engine.worker.adapters import peft_config
from engine.worker.fake import Recorder, TraceError
from engine.worker.head import PlainLogProb
from engine.worker.quantized import quantise, statistics
from engine.worker.sft import trainer_arguments

UNTRACED = (
    "label_smoothing_factor",
    "torch_compile",
    "use_liger_kernel",
    "activation_offloading",
    "neftune_noise_alpha",
)
ADAPTER = "default"
"""peft's name for the adapter, which is a part of the names of all its tensors."""
OTHERWISE = "The closed form answers where it knows the model."


def arguments(spec: RunSpec) -> dict[str, Any]:
    """For SFTConfig, as the run has them, but without a GPU."""
    arguments = trainer_arguments(spec, Path(tempfile.gettempdir()) / "unused", 1, evaluate=False)
    return arguments | {"use_cpu": True, "dataloader_pin_memory": False}


def refuse(config: dict[str, Any], spec: RunSpec, arguments: Any) -> None:
    """Raises TraceError for a step that would be traced wrongly, or not at all."""
    kind, method = config.get("model_type"), (config.get("quantization_config") or {}).get("quant_method")
    if kind not in CONFIG_MAPPING:
        raise TraceError(
            "The model's architecture is unknown",
            f"transformers {transformers.__version__} has no model type {kind}.",
            "Code that comes with a model cannot be traced.",
        )
    if method not in (None, "mxfp4"):  # mxfp4 is loaded in 16 bits for training
        raise TraceError("This model is quantised already", f"Its weights are stored by {method}.", OTHERWISE)
    if spec.objective not in (None, "sft", "text"):
        raise TraceError(
            "This step cannot be traced", f"Only that of sft and text can, not {spec.objective}'s.", OTHERWISE
        )
    if spec.compute.sharding not in ("ddp", "layers"):
        raise TraceError("A sharded step cannot be traced", "It needs all its processes.", OTHERWISE)
    if spec.compute.sharding == "layers":
        raise TraceError("Layers on several cards cannot be traced", "A trace has one card.", OTHERWISE)
    if spec.method.kind == "shira":
        raise TraceError("SHiRA cannot be traced", "Which weights it trains depends on values.", OTHERWISE)
    for name in UNTRACED:
        if getattr(arguments, name, None):
            raise TraceError("This step cannot be traced", f"extra.trainer.{name} makes it another one.", OTHERWISE)


def build(config: dict[str, Any], spec: RunSpec) -> Any:
    """The model with its adapter, on the meta device."""
    dtype = torch.bfloat16 if spec.training.precision == "bf16" else torch.float32
    settings = CONFIG_MAPPING[config["model_type"]].from_dict(config)
    for name, value in spec.extra.model.items():
        if hasattr(settings, name):  # as from_pretrained takes them
            setattr(settings, name, value)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(settings, dtype=dtype, attn_implementation=spec.training.attention)
    quantised = spec.method.base is not None
    if quantised:
        quantise(model, spec, dtype)
    adapter = peft_config(spec, config)
    if adapter:
        with torch.device("meta"), mock.patch.object(BOFTLayer, "perm2mat", _permutation):
            model = get_peft_model(model, adapter)
        if spec.training.checkpointing:
            model.enable_input_require_grads()
        for name, parameter in model.named_parameters():
            if quantised and parameter.requires_grad and "lora_magnitude_vector" not in name:
                parameter.data = parameter.data.to(torch.bfloat16)  # as SFTTrainer does
    return model


def _permutation(_: Any, indices: Any) -> torch.Tensor:
    """BOFT's matrix of a permutation, which has no values here either."""
    return torch.empty((len(indices), len(indices)))


def prepare(model: Any, arguments: Any) -> Any:
    """What SFTTrainer, Trainer.train and Accelerator.prepare_model do to the model."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    add_fused_lm_head(base, outputs=("log_probs", "entropy", "is_top1"))
    if arguments.activation_checkpointing:
        kwargs = dict(arguments.activation_checkpointing_kwargs or {})
        model.activation_checkpointing_enable(activation_checkpointing_kwargs=kwargs or None)
    model.train()
    if arguments.bf16:
        forward = torch.autocast("cpu", dtype=torch.bfloat16)(model.forward)
        model.forward = convert_outputs_to_fp32(forward)
    return model


def steps(model: Any, spec: RunSpec, arguments: Any, recorder: Recorder) -> Generator[tuple[int, int], None, None]:
    """Optimizer steps for ever; yields how many events there were before the optimizer's part of each, and after it.

    More than two micro-batches a step add nothing: from the second on there are gradients to add to.
    """
    recorder.open(cuda.CUBLAS_WORKSPACE, "cuBLAS")
    if spec.compute.processes > 1:
        recorder.open(sum(p.nbytes for p in model.parameters() if p.requires_grad), "DDP's buckets of gradients")
    trainer = _trainer(model, arguments)
    # bitsandbytes remembers parameters by their id, which a trace before this one may have used
    GlobalOptimManager.get_instance().initialize()  # type: ignore[no-untyped-call]
    Trainer.create_optimizer(trainer)
    optimizer = trainer.optimizer
    parameters = [p for p in model.parameters() if p.requires_grad]
    micro_steps = min(spec.training.accumulation or 1, 2)
    while True:
        recorder.phase = "forward"
        batches = [_batch(spec, recorder) for _ in range(spec.training.accumulation or 1)]
        for i in range(micro_steps):
            inputs = dict(batches[i])
            recorder.phase = "forward"
            loss = SFTTrainer.compute_loss(trainer, model, inputs, num_items_in_batch=inputs["labels"].ne(-100).sum())
            del inputs
            recorder.phase = "backward"
            loss.backward()
            del loss
            for p in parameters:
                _mark(recorder, p.grad, "gradients")
        recorder.phase = "optimizer step"
        accumulated = len(recorder.record.events)
        if arguments.max_grad_norm > 0:
            torch.nn.utils.clip_grad_norm_(parameters, arguments.max_grad_norm)
        optimizer.step()
        for state in optimizer.state.values():
            for value in state.values():
                _mark(recorder, value, "paged" if getattr(value, "paged", False) else "optimizer")
        model.zero_grad()
        yield accumulated, len(recorder.record.events)


def _trainer(model: Any, arguments: Any) -> Any:
    """As much of an SFTTrainer as `compute_loss` and `create_optimizer` look at."""
    text = model.config.get_text_config()
    coefficient = arguments.router_aux_loss_coef
    coefficient = getattr(text, "router_aux_loss_coef", 0.0) if coefficient is None else coefficient
    auxiliary = hasattr(text, "output_router_logits") and coefficient != 0.0
    if hasattr(text, "router_aux_loss_coef"):
        text.output_router_logits, text.router_aux_loss_coef = auxiliary, coefficient
    trainer = SimpleNamespace(
        model=model,
        args=arguments,
        optimizer=None,
        optimizer_cls_and_kwargs=None,
        aux_loss_enabled=auxiliary,
        router_aux_loss_coef=coefficient,
        current_gradient_accumulation_steps=arguments.gradient_accumulation_steps,
        compute_loss_func=None,
        label_smoother=None,
        get_tp_size=lambda: 1,
        _metrics={"train": collections.defaultdict(list)},
        _total_train_tokens=0,
        _tp_size=1,
        accelerator=SimpleNamespace(parallelism_config=None, num_processes=1, gather_for_metrics=lambda x: x),
    )
    trainer.get_decay_parameter_names = lambda m: Trainer.get_decay_parameter_names(trainer, m)
    trainer.get_optimizer_cls_and_kwargs = Trainer.get_optimizer_cls_and_kwargs
    return trainer


def _batch(spec: RunSpec, recorder: Recorder) -> dict[str, Any]:
    """What the collator hands over for rows of max_length; packed rows are one long row (padding-free)."""
    rows, length = spec.training.micro_batch or 1, spec.training.max_length or 1024
    if spec.training.packing:
        rows, length = 1, rows * length
    names = ["input_ids", "labels", "position_ids" if spec.training.packing else "attention_mask"]
    batch = {name: torch.empty((rows, length), dtype=torch.int64) for name in names}
    for tensor in batch.values():
        _mark(recorder, tensor, "inputs")
    return batch


def _mark(recorder: Recorder, tensor: Any, category: str) -> None:
    block = recorder.block(tensor) if isinstance(tensor, torch.Tensor) else None
    if block and block.category == "activations":
        block.category = category


def categorise(model: Any, recorder: Recorder) -> None:
    """Say of the model's tensors what they are."""
    tensors = [*model.named_parameters(), *model.named_buffers()]
    tensors += [(name, getattr(*where)) for name, weight in tensors for where in statistics(weight)]
    for name, tensor in tensors:
        block = recorder.block(tensor)
        if block:
            ours = ADAPTER in name.split(".") or name.endswith(".boft_P")
            block.category = "adapter" if ours else "weights"
            block.operator, block.module = "load", name


@contextlib.contextmanager
def loss_phase(recorder: Recorder, plain: bool = False) -> Iterator[None]:
    """The head and the loss are a phase of their own, forward and backward. `plain`: from all the logits at once."""

    def during(function: Any) -> Any:
        def wrapper(*args: Any) -> Any:
            before, recorder.phase = recorder.phase, "loss"
            try:
                return function(*args)
            finally:
                recorder.phase = before

        return staticmethod(wrapper)

    head = ChunkedLogProbFunction
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(head, "forward", during(head.forward)))
        stack.enter_context(mock.patch.object(head, "backward", during(head.backward)))
        if plain:
            stack.enter_context(mock.patch.object(PlainLogProb, "apply", during(PlainLogProb.apply)))
            stack.enter_context(mock.patch.object(utils, "_ChunkedLogProbFunction", PlainLogProb))
        yield


@contextlib.contextmanager
def named_modules(model: Any, recorder: Recorder) -> Iterator[None]:
    """Tell the recorder which module is running its forward pass."""
    names = {id(module): name for name, module in model.named_modules()}
    stack: list[str] = []

    def enter(module: Any, args: Any) -> None:
        stack.append(recorder.module)
        recorder.module = names.get(id(module), "")

    def leave(module: Any, args: Any, output: Any) -> None:
        recorder.module = stack.pop() if stack else ""

    with contextlib.ExitStack() as hooks:
        for hook in (
            torch.nn.modules.module.register_module_forward_pre_hook(enter),
            torch.nn.modules.module.register_module_forward_hook(leave, always_call=True),
        ):
            hooks.callback(hook.remove)
        yield
