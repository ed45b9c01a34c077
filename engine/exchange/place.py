"""Where an export goes: a directory that has nothing of that name yet; all of it appears there, or nothing."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from engine.errors import SpaceError
from engine.exchange.reading import Left


@dataclass(frozen=True)
class Exported:
    """What was written: the files by name, how to start it there, what is not the same as in the run."""

    files: list[str]
    rows: int
    start: str
    left: list[Left] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@contextlib.contextmanager
def filled(target: Path) -> Iterator[Path]:
    """A directory to write into, whose files then are in `target`. Raises SpaceError if one of them is there already."""
    try:
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target, prefix=".export-") as folder:
            yield Path(folder)
            made = sorted(Path(folder).iterdir())
            there = [path.name for path in made if (target / path.name).exists()]
            if there:
                raise SpaceError(
                    "There are files already", f"{target} has {', '.join(there)}.", "Name a new directory."
                )
            for path in made:
                shutil.move(path, target / path.name)
    except OSError as error:
        raise SpaceError(
            "It cannot be written there", f"{target}: {error.strerror}.", "Name another directory."
        ) from None
    finally:
        with contextlib.suppress(OSError):  # where nothing was written, nothing stays
            target.rmdir()
