"""bitsandbytes without its kernels: weights quantised on the meta device, and what its CUDA kernels allocate."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import bitsandbytes
import torch
from peft.tuners.lora import dora
from transformers.quantizers import AutoHfQuantizer

from engine.spec import RunSpec
from engine.worker.load import quantization

bnb: Any = bitsandbytes
_ops = torch.ops.bitsandbytes


def quantise(model: Any, spec: RunSpec, dtype: torch.dtype) -> None:
    """Replace the linear layers of a meta model as `from_pretrained` would, by meta weights in 4 or 8 bits."""
    quantizer = AutoHfQuantizer.from_config(quantization(spec), pre_quantized=False)
    quantizer.preprocess_model(model=model, device_map={"": "meta"})
    with mock.patch.dict(bnb.functional.name2qmap):  # which keeps a code book on the device of the first caller
        for module in model.modules():
            if isinstance(module, (bnb.nn.Linear4bit, bnb.nn.Linear8bitLt)):
                data = torch.empty(module.out_features, module.in_features, dtype=dtype, device="meta")
                weight = type(module.weight)(data, **_settings(module.weight))
                module.weight = weight._quantize(torch.device("meta"))
                if module.bias is not None:
                    module.bias = torch.nn.Parameter(module.bias.to(dtype), requires_grad=False)
    quantizer.postprocess_model(model)


def _settings(weight: Any) -> dict[str, Any]:
    names = ("blocksize", "compress_statistics", "quant_type", "quant_storage", "module", "has_fp16_weights")
    return {"requires_grad": False} | {n: weight.__dict__[n] for n in names if n in weight.__dict__}


def statistics(weight: Any) -> Iterator[tuple[Any, str]]:
    """Where a quantised weight keeps further tensors: (object, attribute)."""
    state = getattr(weight, "quant_state", None)
    for holder in (state, state and state.state2):
        for name in ("absmax", "code", "offset"):
            if isinstance(getattr(holder, name, None), torch.Tensor):
                yield holder, name
    if getattr(weight, "SCB", None) is not None:
        yield weight, "SCB"


def _vectorwise_quant(tensor: Any, threshold: float = 0.0) -> Any:
    """Without outliers, of which there are few columns in a real model."""
    rows = tensor.numel() // tensor.shape[-1]
    columns = torch.empty(0, dtype=torch.int64) if threshold else None
    return torch.empty(tensor.shape, dtype=torch.int8), torch.empty(rows), columns


def _mixed_scaled_mm(tensor: Any, quantised: Any, weight: Any, *_: Any) -> Any:
    return tensor.new_empty((*quantised.shape[:-1], weight.shape[0])), tensor.new_empty(0)


REPLACED: dict[Any, Callable[..., Any]] = {
    _ops.int8_vectorwise_quant.default: _vectorwise_quant,
    _ops.int8_mixed_scaled_mm.default: _mixed_scaled_mm,
}


def _gemm_4bit(tensor: Any, packed: Any, shape: Any, absmax: Any, blocksize: int, *_: Any) -> list[int]:
    """The weight in 16 bits and its absmax: taken above 1536 rows; below, cards differ (backends/cuda/ops.py)."""
    elements = shape[0] * shape[1]
    nested = absmax.numel() * blocksize < elements
    dequantised: list[int] = [4 * (elements // blocksize)] * 2 if nested else []
    return [*dequantised, tensor.element_size() * elements]


WORKSPACES: dict[Any, Callable[..., list[int]]] = {
    _ops.gemm_4bit.default: _gemm_4bit,
    _ops.int8_vectorwise_quant.default: lambda tensor, *_: [2 * tensor.numel(), tensor.numel()],
    _ops.int8_mixed_scaled_mm.default: lambda tensor, quantised, weight, *_: [
        4 * quantised.shape[0] * weight.shape[0],  # int32, then float16
        2 * quantised.shape[0] * weight.shape[0],
    ],
}


def _state_buffer(self: Any, parameter: Any, dtype: torch.dtype = torch.float32) -> Any:
    """Optimizer8bit.get_state_buffer; a paged buffer is CUDA's managed memory, which torch does not count."""
    buffer: Any = torch.zeros_like(parameter, dtype=dtype)
    buffer.paged = self.is_paged and parameter.numel() >= 1e5  # is_paged itself would have it prefetched
    return buffer


def _dequantised(module: Any) -> Any:
    """peft's dequantize_module_weight, which goes by the weight's class."""
    weight, state = module.weight, getattr(module, "state", None)
    if getattr(weight, "quant_state", None) is not None:
        return bnb.functional.dequantize_4bit(weight.data, weight.quant_state)
    if weight.dtype is torch.int8:
        return bnb.functional.int8_vectorwise_dequant(
            weight.data, state.SCB if state and state.SCB is not None else weight.SCB
        )
    return weight


@contextlib.contextmanager
def cuda_paths() -> Iterator[None]:
    """What bitsandbytes and peft do otherwise on a CPU, or with weights of another class."""
    functions = bnb.autograd._functions
    with (
        mock.patch.object(functions, "MatMul8bitFp", functions.MatMul8bitLt),
        mock.patch.object(bnb.optim.optimizer.Optimizer8bit, "get_state_buffer", _state_buffer),
        mock.patch.object(dora, "dequantize_module_weight", _dequantised),
    ):
        yield
