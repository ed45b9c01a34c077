"""Who has which card: a lock per card, notes that say for whom, and cards that somebody holds back.

All lie in one directory for every database and user of the machine. A lock or a note is in force as long as a process
holds its flock. The kernel lets go of it however that process ends, so no pid has to be believed, not even a pid of
another container. What nobody holds any more is taken away by whoever looks next.
"""

import contextlib
import fcntl
import json
import os
import pwd
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import RunError
from engine.hardware import Gpu
from engine.paths import locks_directory
from engine.text import clean

CPU = "cpu"
"""Stands for the processor where a card's UUID is meant."""
LONGEST = 1 << 16
"""Bytes of a note that are read: it may be another user's."""
LOOKS, LOOK_SECONDS = 3, 0.005
"""How often a lock is tried, and how far apart: who only looks whether a card is leased has it for a moment too."""


@dataclass(frozen=True)
class Note:
    """A small JSON file whose writer lives. `user` owns it, `mine`: that is us."""

    path: Path
    user: str
    mine: bool
    fields: Mapping[str, Any]


def try_lease(gpus: Sequence[Gpu], count: int) -> tuple[list[Gpu], list[int]] | None:
    """Lock `count` of these cards, the first that are free.

    Returns the cards and the open descriptors that hold the locks, or None (and holds nothing) if fewer are free.
    """
    folder = _folder()
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


def is_leased(uuid: str) -> bool:
    """Whether somebody has this card now."""
    try:
        fd = os.open(locks_directory() / _name("gpu", uuid), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return not _shared(fd)
    finally:
        os.close(fd)


def write_note(name: str, fields: Mapping[str, Any]) -> int:
    """Leave a note that is in force until the descriptor returned, and every copy of it in a child, is closed.

    Everybody on the machine may read it: other users' runs take turns with ours. It says no more than `ps` does.
    Raises OSError.
    """
    path = _folder() / name
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        fcntl.flock(fd, fcntl.LOCK_EX)
        if os.fstat(fd).st_nlink:
            break
        os.close(fd)  # who looked in the moment before the lock took it for a dead one
    os.fchmod(fd, 0o644)
    os.write(fd, json.dumps(dict(fields)).encode())
    return fd


def read_notes(kind: str) -> list[Note]:
    """The notes in force whose names begin with `kind`, in order of their names; those of the dead are removed."""
    try:
        names = sorted(name for name in os.listdir(locks_directory()) if name.startswith(f"{kind}-"))
    except OSError:
        return []
    found = [_read(locks_directory() / name) for name in names]
    return [note for note in found if note is not None]


def hold(uuid: str) -> None:
    """Hold a card back: no queued run of anybody is put on it. Raises RunError where that cannot be written."""
    try:
        fd = os.open(_folder() / _name("hold", uuid), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except FileExistsError:
        return
    except OSError as error:
        raise RunError("The card cannot be held back", f"{locks_directory()}: {error.strerror}.", "") from None
    os.fchmod(fd, 0o644)
    os.close(fd)


def give_free(uuid: str) -> None:
    """Hold a card back no longer. Raises RunError if somebody else holds it."""
    try:
        (locks_directory() / _name("hold", uuid)).unlink(missing_ok=True)
    except OSError as error:
        owner = holder(uuid) or "somebody else"
        raise RunError("The card stays held back", f"{owner} holds it: {error.strerror}.", f"Ask {owner}.") from None


def holder(uuid: str) -> str:
    """The user who holds a card back, or ""."""
    try:
        return user_name(os.lstat(locks_directory() / _name("hold", uuid)).st_uid)
    except OSError:
        return ""


def user_name(uid: int) -> str:
    """The user's name, or the number where nobody has it."""
    try:
        return clean(pwd.getpwuid(uid).pw_name, keep_lines=False)
    except KeyError:
        return str(uid)


def _folder() -> Path:
    folder = locks_directory()
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(OSError):  # somebody else's folder: it is open to all already
        folder.chmod(0o1777)
    return folder


def _name(kind: str, uuid: str) -> str:
    return f"{kind}-" + "".join(c if c.isalnum() or c == "-" else "_" for c in uuid)


def _try_lock(folder: Path, gpu: Gpu) -> int | None:
    path = folder / _name("gpu", gpu.uuid)
    try:  # without O_CREAT first: the kernel may refuse that for another user's file in a shared folder
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        fd = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        os.fchmod(fd, 0o644)  # whatever our umask: other users take turns with us
    for _ in range(LOOKS):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return fd
        except BlockingIOError:
            time.sleep(LOOK_SECONDS)
    os.close(fd)
    return None


def _shared(fd: int) -> bool:
    """Whether nobody has it for himself; those who only look do not see each other."""
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(path: Path) -> Note | None:
    try:  # no links, and no waiting for a pipe: the folder is everybody's
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if _shared(fd):
            with contextlib.suppress(OSError):  # another user's: he removes it himself
                path.unlink()
            return None
        owner = os.fstat(fd).st_uid
        fields = json.loads(os.read(fd, LONGEST))
    except (OSError, ValueError, RecursionError):
        return None
    finally:
        os.close(fd)
    return Note(path, user_name(owner), owner == os.getuid(), fields) if isinstance(fields, dict) else None
