"""What a GPU does differently from the CPU build of torch that a trace runs on: operators, autocast, workspaces."""

import contextlib
import math
import sys
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch

aten = torch.ops.aten

# cuBLAS keeps one workspace per handle and stream (CUDABlas.cpp, getChosenWorkspaceSize: :4096:2:16:8 before Hopper)
CUBLAS_WORKSPACE = 4096 * 1024 * 2 + 16 * 1024 * 8


def _local_scalar(tensor: Any) -> Any:
    """A value is asked for: every mask is all true, every count is positive."""
    return True if tensor.dtype is torch.bool else 1


def _masked_select(tensor: Any, mask: Any) -> Any:
    return tensor.new_empty(mask.numel())


def _nonzero(tensor: Any) -> Any:
    return tensor.new_empty((tensor.numel(), tensor.dim()), dtype=torch.int64)


def _index(tensor: Any, indices: Any) -> Any:
    """`x[mask]` with nothing masked out."""
    masks = [i for i in indices if i is not None and i.dtype is torch.bool]
    if not masks:
        return aten.index.Tensor(tensor, indices)
    return tensor.new_empty((masks[0].numel(), *tensor.shape[masks[0].dim() :]))


def _index_put(tensor: Any, *_: Any) -> Any:
    return tensor


REPLACED: dict[Any, Callable[..., Any]] = {
    aten._local_scalar_dense.default: _local_scalar,
    aten.index.Tensor: _index,
    aten.index_put_.default: _index_put,
    aten._index_put_impl_.default: _index_put,
    aten.masked_select.default: _masked_select,
    aten.nonzero.default: _nonzero,
}


def _masks(_: Any, indices: Any, *__: Any) -> list[int]:
    """`nonzero` of every mask."""
    return [8 * i.numel() * i.dim() for i in indices if i is not None and i.dtype is torch.bool]


def _sorted_indices(tensor: Any, indices: Any, values: Any, accumulate: bool = False, *_: Any) -> list[int]:
    """Accumulating, the indices are sorted first: linear, sorted and original, and as much again for the sort."""
    count = max(i.numel() for i in indices if i is not None)
    return _masks(tensor, indices) + ([8 * count] * 5 if accumulate else [])


def _norms(tensors: Any, *_: Any) -> list[int]:
    """A partial sum for each chunk of 64 Ki elements, as many for every tensor as for the longest (ForeachReduceOp.cu)."""
    return [4 * len(tensors) * max(-(-t.numel() // 65536) for t in tensors)]


def _embedding_backward(grad: Any, indices: Any, rows: int, *_: Any) -> list[int]:
    """Partial sums in float32 of up to ten rows each (EmbeddingBackwardKernel.cu); few indices need none."""
    count, width = indices.numel(), grad.shape[-1]
    if count <= 3072:
        return []
    segments = min(count, rows)
    return [8 * count] * 5 + [8 * segments] * 3 + [4 * width * (count // 10 + segments)]


def _flash_backward(query: Any, key: Any, value: Any) -> list[int]:
    """dq in float32, the row sums, and dk and dv of every query head before they are summed by group.

    From mha_bwd in aten/src/ATen/native/transformers/cuda/flash_attn/flash_api.cpp.
    """
    batch, heads, length, width = query.shape
    rounded = math.ceil(length / 128) * 128
    padded = math.ceil(width / 32) * 32
    sizes = [4 * batch * rounded * heads * padded, 4 * batch * heads * rounded]
    if key.shape[1] != heads:
        sizes += [batch * key.shape[2] * heads * width * key.element_size()] * 2
    return sizes


def _efficient_backward(grad: Any, query: Any, *_: Any) -> list[int]:
    """dq in float32 (attention_backward.cu); a float32 query needs none, but the product of gradient and output."""
    batch, heads, length, width = query.shape
    return [4 * batch * heads * (math.ceil(length / 32) * 32) * width, 4 * batch * heads * length]


def attention(query: Any, key: Any, value: Any, attn_mask: Any = None, dropout_p: float = 0.0, is_causal: bool = False,
              scale: float | None = None, enable_gqa: bool = False) -> Any:  # fmt: skip
    """`scaled_dot_product_attention` as a GPU of the Ampere generation or newer carries it out."""
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
        query, key, value = (t.to(dtype) for t in (query, key, value))
        attn_mask = attn_mask.to(dtype) if attn_mask is not None and attn_mask.is_floating_point() else attn_mask
    half = query.dtype in (torch.bfloat16, torch.float16)
    if half and attn_mask is None and query.shape[-1] == value.shape[-1] <= 256:
        width = query.shape[-1]
        if width % 8:
            scale = scale or width**-0.5
            query, key, value = (torch.nn.functional.pad(t, (0, 8 - width % 8)) for t in (query, key, value))
        out = aten._scaled_dot_product_flash_attention(query, key, value, dropout_p, is_causal, False, scale=scale)[0]
        return out[..., :width]
    if enable_gqa:
        key, value = (t.repeat_interleave(query.shape[1] // t.shape[1], dim=1) for t in (key, value))
    return _efficient(query, key, value, attn_mask, dropout_p, is_causal, scale)


def _efficient(query: Any, key: Any, value: Any, mask: Any, dropout: float, causal: bool, scale: float | None) -> Any:
    if mask is not None:
        if mask.dtype is torch.bool:  # convert_boolean_attn_mask in attention.cpp
            mask = torch.where(mask, torch.zeros((), dtype=query.dtype), torch.full((), -math.inf, dtype=query.dtype))
        columns = mask.shape[-1]
        if columns % 16:  # pad_bias
            mask = torch.nn.functional.pad(mask, (0, 16 - columns % 16))[..., :columns]
        mask = mask.expand(query.shape[0], query.shape[1], query.shape[2], key.shape[2])
    return aten._scaled_dot_product_efficient_attention(
        query, key, value, mask, torch.is_grad_enabled(), dropout, causal, scale=scale
    )[0]


# Bytes that a kernel allocates for itself while it runs
WORKSPACES: dict[Any, Callable[..., list[int]]] = {
    aten._scaled_dot_product_flash_attention_backward.default: lambda grad, *qkv: _flash_backward(*qkv[:3]),
    aten.index.Tensor: _masks,
    aten.index_put_.default: _sorted_indices,
    aten._index_put_impl_.default: _sorted_indices,
    aten._foreach_norm.Scalar: _norms,
    aten.embedding_dense_backward.default: _embedding_backward,
    aten._scaled_dot_product_efficient_attention_backward.default: _efficient_backward,
}


def _dropout(tensor: Any, p: float, train: bool) -> Any:
    """The GPU's fused dropout keeps a mask of one byte an element."""
    return torch.native_dropout(tensor, p, True)[0] if train and p > 0 else tensor


def functional_dropout(tensor: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    return _dropout(tensor, p, training)


class Launch:
    """A Triton kernel that is not launched: it writes into tensors that exist already."""

    def __getitem__(self, grid: Any) -> Callable[..., None]:
        return lambda *args, **kwargs: None


def addmm_fp32(acc: Any, a: Any, b: Any) -> None:
    if a.dtype not in (torch.float16, torch.bfloat16):
        acc.addmm_(a.float(), b.float())


# What autocast computes in float32 on a GPU and not on a CPU (AT_FORALL_FP32 and AT_FORALL_FP32_SET_OPT_DTYPE in
# ATen/autocast_mode.h), as far as decoders use it
_IN_FLOAT32 = (
    "exp", "expm1", "log", "log10", "log2", "log1p", "reciprocal", "rsqrt", "tan", "pow.Tensor_Scalar",
    "pow.Tensor_Tensor", "pow.Scalar", "softplus", "layer_norm", "native_layer_norm", "rms_norm", "group_norm",
    "cosine_similarity", "logsumexp",
)  # fmt: skip
_SUMMED_IN_FLOAT32 = (
    "softmax.int", "log_softmax.int", "cumprod", "cumsum", "linalg_vector_norm", "sum", "sum.dim_IntList",
)  # fmt: skip


_Library: Any = torch.library.Library


def _half(tensor: Any) -> bool:
    return isinstance(tensor, torch.Tensor) and tensor.dtype in (torch.bfloat16, torch.float16)


@contextlib.contextmanager
def _gpu_autocast() -> Iterator[None]:
    """Autocast on the CPU with the GPU's lists."""
    library: Any = _Library("aten", "IMPL", "AutocastCPU")
    below = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU)

    def register(name: str, convert: Callable[..., Any]) -> None:
        packet, _, overload = name.partition(".")
        operator = getattr(getattr(aten, packet), overload or "default")

        def kernel(*args: Any, **kwargs: Any) -> Any:
            with torch._C._ExcludeDispatchKeyGuard(below):
                return convert(operator, args, kwargs)

        library.impl(name, kernel)

    def in_float32(operator: Any, args: Any, kwargs: Any) -> Any:
        return operator(*(a.float() if _half(a) else a for a in args), **kwargs)

    def summed_in_float32(operator: Any, args: Any, kwargs: Any) -> Any:
        if _half(args[0]) and kwargs.get("dtype") is None and not any(isinstance(a, torch.dtype) for a in args):
            kwargs = {**kwargs, "dtype": torch.float32}
        return operator(*args, **kwargs)

    try:
        for name in _IN_FLOAT32:
            register(name, in_float32)
        for name in _SUMMED_IN_FLOAT32:
            register(name, summed_in_float32)
        yield
    finally:
        library._destroy()


_is_autocast_enabled = torch.is_autocast_enabled


def _autocast_enabled(device: str | None = None) -> bool:
    """Without a device it means the GPU."""
    return _is_autocast_enabled(device or "cpu")


def _always(value: Any) -> Callable[..., Any]:
    """A Mock with a return_value would keep every tensor that it is called with."""
    return lambda *_, **__: value


@contextlib.contextmanager
def kernels(masked: bool) -> Iterator[None]:
    """The GPU's choices in place of the CPU's. `masked`: attention cannot leave the mask out."""
    import transformers.masking_utils as masking
    import trl.kernels.chunked_logprob as head
    import trl.trainer.utils as utils

    patches: list[Any] = [
        mock.patch.object(torch.nn.functional, "scaled_dot_product_attention", attention),
        mock.patch.object(torch.nn.functional, "dropout", functional_dropout),
        mock.patch.object(masking, "is_tracing", _always(masked)),
        mock.patch.object(head, "_use_triton", _always(True)),
        mock.patch.object(utils, "_use_triton", _always(True)),
        mock.patch.object(head, "_forward_kernel", Launch()),
        mock.patch.object(head, "_backward_kernel", Launch()),
        mock.patch.object(head, "_addmm_fp32", addmm_fp32),
        mock.patch.object(torch, "is_autocast_enabled", _autocast_enabled),
        mock.patch.object(torch.nn.utils.clip_grad, "_has_foreach_support", _always(True)),
        mock.patch.object(head, "triton", mock.Mock(cdiv=lambda a, b: -(-a // b)), create=True),
    ]
    patches += [
        mock.patch.object(module, "_default_to_fused_or_foreach", _always((False, True)))
        for name, module in list(sys.modules.items())
        if name.startswith("torch.optim.") and hasattr(module, "_default_to_fused_or_foreach")
    ]
    with contextlib.ExitStack() as stack, _gpu_autocast():
        for patch in patches:
            stack.enter_context(patch)
        yield
