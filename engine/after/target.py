"""Where a job writes files that are taken away: whole under their final name, or not there.

Everything is written into `<target>.unfinished` beside it, flushed to the disk, and renamed in the end. What an interrupted
job left there is taken over by the next one, or removed.
"""

import contextlib
import errno
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.errors import RunError, SpaceError
from engine.files import write_private

NOTE = "tunedeck.json"
"""What the files are and where they come from; stays with them."""
MARK = "unfinished.json"
"""Says that a directory is an unfinished one of ours, and how far it is."""
SUFFIX = ".unfinished"


def unfinished(target: Path) -> Path:
    return target.with_name(target.name + SUFFIX)


def check_target(target: Path) -> None:
    """Raises RunError if there is something under the final name, or beside it something that is not ours."""
    if target.is_symlink() or target.is_file() or (target.is_dir() and any(target.iterdir())):
        raise RunError("The place is taken", f"{target} is there already, and not empty.", "Name a new directory.")
    beside = unfinished(target)
    if beside.exists() and not _ours(beside):
        raise RunError("The place beside it is taken", f"{beside} is in the way, and not ours.", "Move it away, or name another directory.")  # fmt: skip


def _ours(folder: Path) -> bool:
    return folder.is_dir() and (any((folder / name).is_file() for name in (MARK, NOTE)) or not any(folder.iterdir()))


def check_room(target: Path, needed: float, who: str) -> None:
    """Whether the place can be written and has so many bytes of room, what an unfinished one takes included. Raises SpaceError."""
    place = target.parent
    while not place.exists():
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise SpaceError(
            "It cannot be written there", f"{place}: {error.strerror}.", "Name another directory."
        ) from None
    left = sum(file.stat().st_size for file in unfinished(target).rglob("*") if file.is_file())
    free = shutil.disk_usage(place).free
    if free + left < needed:
        raise SpaceError(
            "There is not enough disk space",
            f"{who} about {size(needed)}, {place} has {size(free)} free.",
            "Free some, or name a directory on another disk.",
        )


def size(count: float) -> str:
    """`1.9 GiB`, `340 MiB`"""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


@contextlib.contextmanager
def claimed(target: Path) -> Iterator[Path]:
    """The unfinished directory, ours alone as long as the context lasts. Raises RunError, SpaceError."""
    check_target(target)
    folder = unfinished(target)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise SpaceError(
            "It cannot be written there", f"{folder}: {error.strerror}.", "Name another directory."
        ) from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield folder
    except BlockingIOError:
        raise RunError("Another job writes there", f"{folder} is being written.", "Wait for it, or name another directory.") from None  # fmt: skip
    finally:
        os.close(fd)


def read_mark(folder: Path) -> dict[str, Any]:
    """How far an interrupted job came; empty if none did, or it cannot be read."""
    try:
        return dict(json.loads((folder / MARK).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def write_mark(folder: Path, mark: dict[str, Any]) -> None:
    write_private(folder / MARK, json.dumps(mark))


def emptied(folder: Path, keep: frozenset[str] = frozenset()) -> None:
    """Remove what is in an unfinished directory but for these names."""
    for path in folder.iterdir():
        if path.name in keep:
            continue
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def finish(folder: Path, target: Path) -> None:
    """Give the directory its final name, with all that is in it on the disk. Raises RunError, OSError."""
    (folder / MARK).unlink(missing_ok=True)
    for path in [*folder.rglob("*"), folder]:
        flush(path)
    try:
        folder.rename(target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
        raise RunError(
            "The place is taken", f"{target} has been filled meanwhile.", f"What was made is in {folder}."
        ) from None
    flush(target.parent)


def flush(path: Path) -> None:
    """See to it that a file, or a directory's list of names, is on the disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def no_room(error: BaseException, place: Path) -> bool:
    """Whether a write failed for lack of space: torch and safetensors have errors of their own for it."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return "os error 28" in str(error) or "No space left" in str(error) or shutil.disk_usage(place).free < 1 << 20
