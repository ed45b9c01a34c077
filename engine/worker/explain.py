"""What went wrong in a process of ours, as its last event. Imports no torch: only if it is there is it asked."""

import dataclasses
import errno
import sys

from engine.errors import DataError, ModelError, SpaceError, SpecError, TuneDeckError
from engine.events import Failed
from engine.text import clean

FULL = 1 << 20
"""A disk with less free space than this, in bytes, is why a write failed."""
CUDA_IS_FULL = ("CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""How CUDA says that it has no memory left where it is not torch's allocator that asked for it."""
HOST_IS_FULL = "DefaultCPUAllocator: can't allocate memory"
"""How torch says the same of the host."""
SMALLER = "Lower training.micro_batch or training.max_length, checkpoint, or use qlora."
OUT_OF_MEMORY = {
    "load": ("while loading the model", "Use qlora, a smaller model, or several cards (compute.sharding)."),
    "train": ("while training", SMALLER),
    "evaluate": ("while evaluating", SMALLER),
    "answer": ("while answering", "Ask for fewer tokens, take turns back, or use another card or the CPU (--cpu)."),
    "save": ("while saving", "Saving needs room for a copy: lower training.micro_batch or training.max_length. The last "
             "checkpoint is whole."),
}  # fmt: skip


def _chain(error: BaseException) -> list[BaseException]:
    """The error and what led to it: transformers wraps the hub's errors in plain OSErrors."""
    chain = [error]
    while (inner := chain[-1].__cause__ or chain[-1].__context__) is not None and inner not in chain:
        chain.append(inner)
    return chain


def _ran_out() -> bool:
    """Whether CUDA ran out of memory: transformers makes such an error while loading a RuntimeError without a cause."""
    torch = sys.modules.get("torch")
    return torch is not None and torch.cuda.is_initialized() and torch.cuda.memory_stats().get("num_ooms", 0) > 0


def explain(error: BaseException, free: int, phase: str = "") -> Failed:
    """What went wrong in a phase as an event: kind, a sentence, and what to do. `free` is the disk space left, bytes."""
    failed = _out_of_memory(error, phase) or _explained(error, free)
    return dataclasses.replace(failed, phase=phase)


def _out_of_memory(error: BaseException, phase: str) -> Failed | None:
    """Whose memory ran out, the GPU's or the host's, and while doing what; None if it is another error."""
    text = _sentence(error)
    on_gpu = any(type(one).__name__ == "OutOfMemoryError" for one in _chain(error)) or (
        isinstance(error, RuntimeError) and (_ran_out() or any(said in text for said in CUDA_IS_FULL))
    )
    if not on_gpu and not isinstance(error, MemoryError) and HOST_IS_FULL not in text:
        return None
    what, hint = OUT_OF_MEMORY.get(phase, (f"in phase {phase or 'start'}", SMALLER))
    whose = "CUDA ran out of memory" if on_gpu else "The host ran out of memory"
    return Failed("oom", f"{whose} {what}. {text}", hint, device="gpu" if on_gpu else "host")


def _sentence(error: BaseException) -> str:
    return clean(f"{type(error).__name__}: {error}".split("\n")[0], keep_lines=False)[:400]


def _explained(error: BaseException, free: int) -> Failed:
    names = {cls.__name__ for one in _chain(error) for cls in type(one).__mro__}
    text = _sentence(error)
    if isinstance(error, TuneDeckError):
        kinds = {DataError: "data", SpecError: "config", ModelError: "config", SpaceError: "disk"}
        kind = next((name for cls, name in kinds.items() if isinstance(error, cls)), "other")
        return Failed(kind, clean(f"{error.title}. {error.message}", keep_lines=False), error.hint)
    if "NonFiniteLoss" in names:
        return Failed("nonfinite", text, "Lower training.learning_rate, raise training.warmup, or look at the data.")
    # torch and safetensors have errors of their own for a write that found no room
    if free < FULL or (isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)):
        return Failed("disk", text, "Free some space, then: tunedeck resume")
    if names & {
        "HfHubHTTPError",
        "GatedRepoError",
        "RepositoryNotFoundError",
        "LocalEntryNotFoundError",
        "ConnectError",
    }:
        return Failed("download", text, "Check the name and the network; for a gated model: hf auth login")
    return Failed("other", text, "The whole traceback is in output.log: tunedeck logs")
