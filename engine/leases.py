"""One training run per GPU: a lock on a file per GPU UUID, held by the run's supervisor as long as it lives."""

import contextlib
import fcntl
import os
from collections.abc import Sequence
from pathlib import Path

from engine.hardware import Gpu
from engine.paths import locks_directory


def try_lease(gpus: Sequence[Gpu], count: int) -> tuple[list[Gpu], list[int]] | None:
    """Lock `count` of these cards, the first that are free.

    Returns the cards and the open descriptors that hold the locks, or None (and holds nothing) if fewer are free.
    """
    folder = locks_directory()
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(OSError):  # somebody else's folder: it is open to all already
        folder.chmod(0o1777)
    chosen: list[Gpu] = []
    held: list[int] = []
    for gpu in gpus:
        fd = _try_lock(folder, gpu)
        if fd is not None:
            chosen.append(gpu)
            held.append(fd)
        if len(held) == count:
            return chosen, held
    for fd in held:
        os.close(fd)
    return None


def _try_lock(folder: Path, gpu: Gpu) -> int | None:
    name = "gpu-" + "".join(c if c.isalnum() or c == "-" else "_" for c in gpu.uuid)
    try:  # without O_CREAT first: the kernel may refuse that for another user's file in a shared folder
        fd = os.open(folder / name, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        fd = os.open(folder / name, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        os.fchmod(fd, 0o644)  # whatever our umask: other users take turns with us
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd
