"""Torch without memory: tensors that have a shape and no data, and a record of what a GPU would have allocated.

What is private to torch about fake tensors (FakeTensor, dispatch modes, use counts) is in this file only, and `check`
tries it on the installed torch before anything is trusted.
"""

import contextlib
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from engine.errors import TuneDeckError
from engine.worker import cuda, quantized
from engine.worker.quantized import statistics

aten = torch.ops.aten
_REPLACED = cuda.REPLACED | quantized.REPLACED
_WORKSPACES = cuda.WORKSPACES | quantized.WORKSPACES


class TraceError(TuneDeckError):
    """The training step cannot be traced with the libraries installed."""


@dataclass
class Block:
    """One storage: `nbytes` as asked for, where it came from, and what it turned out to be."""

    nbytes: int
    operator: str
    dtype: str
    shape: tuple[int, ...]
    module: str
    phase: str
    category: str = "activations"


@dataclass
class Record:
    """Allocations in order: `events` are (block number, +1 allocated or -1 freed, phase)."""

    blocks: list[Block] = field(default_factory=list)
    events: list[tuple[int, int, str]] = field(default_factory=list)


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Watches every operator's results; a storage is freed when its last tensor is gone, as on a GPU."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.record = Record()
        self.phase = "build"
        self.module = ""
        self._numbers: dict[int, int] = {}
        self._watched: dict[int, Any] = {}
        self._moved: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        target = self._added_in_place(args) if func is aten.add.Tensor else None
        hidden = [self.open(n, f"{func} workspace") for n in _WORKSPACES[func](*args)] if func in _WORKSPACES else []
        result = _REPLACED.get(func, func)(*args, **kwargs)
        if func is not aten.lift_fresh.default:  # torch.tensor(0.5), which is on the CPU
            for tensor in _tensors(result):
                self.watch(tensor, str(func).removeprefix("aten."), target)
        for number in hidden:
            self.close(number)
        return result

    def watch(self, tensor: Any, operator: str, target: int | None = None) -> int | None:
        """Start to follow the storage of a tensor, if it is new. `target` is a block that the tensor takes over."""
        if not isinstance(tensor, FakeTensor):
            return None
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._numbers or not storage.nbytes():
            return self._numbers.get(key)
        if target is None:
            target = self._open(storage.nbytes(), operator, tensor)
        else:
            self._moved.add(target)
        self._numbers[key] = target
        self._watched[key] = weakref.ref(storage, lambda _: self._gone(key))
        return target

    def block(self, tensor: Any) -> Block | None:
        """What is known of a tensor's storage, or None if it was never seen."""
        number = self._numbers.get(tensor.untyped_storage()._cdata)
        return None if number is None else self.record.blocks[number]

    def open(self, nbytes: int, operator: str) -> int:
        """Something that is allocated without a tensor of its own, such as a library's workspace."""
        number = self._open(nbytes, operator.removeprefix("aten."))
        self.record.blocks[number].category = "workspace"
        return number

    def close(self, number: int) -> None:
        self.record.events.append((number, -1, self.phase))

    def _open(self, nbytes: int, operator: str, tensor: Any = None) -> int:
        dtype = "" if tensor is None else str(tensor.dtype).removeprefix("torch.")
        shape = () if tensor is None else tuple(tensor.shape)
        self.record.blocks.append(Block(nbytes, operator, dtype, shape, self.module, self.phase))
        number = len(self.record.blocks) - 1
        self.record.events.append((number, 1, self.phase))
        return number

    def _gone(self, key: int) -> None:
        number = self._numbers.pop(key)
        del self._watched[key]
        if number in self._moved:
            self._moved.discard(number)  # another storage stands for the block now
        else:
            self.close(number)

    def _added_in_place(self, args: Any) -> int | None:
        """The block of a gradient that the autograd engine would add to in place.

        To a subclass of Tensor the engine never adds in place; to a plain one it does if nobody else holds it
        (`can_accumulate_inplace` in torch/csrc/autograd/input_buffer.cpp).
        """
        old, new = args
        if (
            self.phase == "optimizer step"
            or torch.is_grad_enabled()
            or not isinstance(old, FakeTensor)
            or not isinstance(new, FakeTensor)
        ):
            return None  # a forward pass, Python's own sums, or a number
        if uses(old) != SOLE_USE or old.shape != new.shape or not _dense(old):
            return None
        return self._numbers.get(old.untyped_storage()._cdata)


SOLE_USE = (4, 2)  # what `uses` says of a tensor that only the engine's buffer holds; `check` proves it


def uses(tensor: Any) -> tuple[int, int]:
    """How many hold the tensor, and its storage, counting the caller's own references."""
    return tensor._use_count(), torch._C._storage_Use_Count(tensor.untyped_storage()._cdata)


def _dense(tensor: Any) -> bool:
    return bool(torch._prims_common.is_non_overlapping_and_dense_or_false(tensor))


def _tensors(result: Any) -> Iterator[Any]:
    if isinstance(result, torch.Tensor):
        yield result
    elif isinstance(result, list | tuple):
        for item in result:
            yield from _tensors(item)


def check() -> None:
    """Raises TraceError if the installed torch does not behave as this file takes for granted."""
    recorder = Recorder()
    with contextlib.suppress(Exception), fake_mode(), recorder:
        x: Any = torch.empty(1 << 10, requires_grad=True)
        (x.sin() + x.cos()).backward(torch.empty(1 << 10))
        in_place = _sums(recorder)  # the forward's own; x's two gradients are added in place
        y = x * 2
        (y + y).backward(torch.empty(1 << 10))
        out_of_place = _sums(recorder) - in_place  # the forward's, and of two gradients that are one tensor
        del x, y
        alive = sum(sign for _, sign, _ in recorder.record.events)
        if (in_place, out_of_place, alive) == (1, 2, 0):
            return
    raise TraceError(
        "The training step cannot be traced with this torch",
        f"FakeTensor in torch {torch.__version__} does not behave as it did in 2.13.",
        "The closed form answers.",
    )


def _sums(recorder: Recorder) -> int:
    return sum(block.operator == "add.Tensor" for block in recorder.record.blocks)


def fake_mode() -> FakeTensorMode:
    return FakeTensorMode(allow_non_fake_inputs=True)


def materialise(module: torch.nn.Module) -> None:
    """Replace the meta tensors of a module by fake ones, in the order in which `Module.to` would move them.

    Ties stay ties. Call it inside the fake mode and the recorder.
    """
    done: dict[int, Any] = {}
    for part in dict.fromkeys(_post_order(module)):  # what several modules share (VeRA's matrices) comes once
        for tensors in (part._parameters, part._buffers):
            for name, old in tensors.items():
                if old is None:
                    continue
                tensors[name] = _copy(old, done)


def _copy(old: Any, done: dict[int, Any]) -> Any:
    """The fake tensor for a meta tensor, with the statistics of a quantised weight."""
    if id(old) not in done:
        new: Any = torch.empty(old.shape, dtype=old.dtype)
        if isinstance(old, torch.nn.Parameter):
            new = torch.nn.Parameter(new, old.requires_grad)
            new.__dict__.update(old.__dict__)
        done[id(old)] = new
        for holder, name in statistics(new):
            setattr(holder, name, _copy(getattr(holder, name), done))
        if getattr(new, "CB", None) is not None:
            new.CB = new.data
    return done[id(old)]


def _post_order(module: torch.nn.Module) -> Iterator[torch.nn.Module]:
    for child in module.children():
        yield from _post_order(child)
    yield module
