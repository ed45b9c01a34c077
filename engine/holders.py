"""Which processes have a database open."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Holder:
    """A process of this machine, as far as we may look into it."""

    pid: int
    command: str


def holders(path: Path) -> list[Holder]:
    """Others that have this file open. Linux only; those of other users are seen by root alone."""
    try:
        wanted = path.stat()
    except OSError:
        return []
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        if entry.name != str(os.getpid()) and _has_open(entry, wanted):
            found.append(Holder(int(entry.name), _command(entry)))
    return sorted(found, key=lambda one: one.pid)


def _has_open(process: Path, wanted: os.stat_result) -> bool:
    try:
        for descriptor in os.scandir(process / "fd"):
            try:
                found = descriptor.stat()
            except OSError:  # closed meanwhile
                continue
            if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
                return True
    except OSError:  # ended, or not ours
        pass
    return False


def _command(process: Path) -> str:
    """`engine.supervisor`, `tunedeck`, or the name of another program."""
    try:
        words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
        if "-m" in words[:-1]:
            return words[words.index("-m") + 1]
        named = next((Path(word).name for word in words[1:2] if "python" in Path(words[0]).name), Path(words[0]).name)
        return named or "?"
    except OSError:
        return "?"
