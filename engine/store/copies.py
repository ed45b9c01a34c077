"""A copy of a database that is whole: made while others write, looked through, and only then under its name."""

import contextlib
import os
import shutil
import sqlite3
import tempfile
from pathlib import Path

from engine.errors import SpaceError, StoreError

ROOM = 1 << 20
"""Bytes that stay free."""
BESIDE = ("-wal", "-shm", "-journal")
"""What SQLite puts beside a database while it is in use."""


def copy(db: sqlite3.Connection, target: Path, force: bool = False) -> int:
    """Copy a database as it is at one moment into a private file; its size in bytes.

    Nothing is there under the name until all of it is. Raises StoreError (there is such a file already and no `force`;
    the copy is not sound), SpaceError (no room, no permission).
    """
    if target.exists() and not force:
        raise StoreError("There is such a file already", f"{target} exists.", "Name another, or say --force.")
    check_room(size(db), target)
    try:
        fd, name = tempfile.mkstemp(prefix=f".{target.name[:200]}.", dir=target.parent)  # 0600
        os.close(fd)
    except OSError as error:
        raise _refused(target, error) from None
    temporary = Path(name)
    try:
        _copy(db, temporary)
        put(temporary, target, force)
        return target.stat().st_size
    except FileExistsError:
        raise StoreError("There is such a file already", f"{target} exists.", "Name another.") from None
    except OSError as error:
        raise _refused(target, error) from None
    except sqlite3.OperationalError as error:
        raise SpaceError("The copy could not be made", f"{target}: {error}.", "Free some space.") from None
    finally:
        for suffix in ("", *BESIDE):
            Path(name + suffix).unlink(missing_ok=True)


def _refused(target: Path, error: OSError) -> SpaceError:
    return SpaceError("The copy cannot be written", f"{target}: {error.strerror or error}.", "Name another place.")


def _copy(db: sqlite3.Connection, target: Path) -> None:
    with contextlib.closing(sqlite3.connect(target, isolation_level=None)) as made:
        db.backup(made)  # all pages in one read transaction: writers go on, and what they write is not in it
        made.execute("PRAGMA journal_mode = DELETE")  # one file, which can be read from anywhere
        found = made.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise StoreError("The copy is not sound", f"It is damaged as the database is: {found}.",
                         "See what can be saved: tunedeck db check")  # fmt: skip


def put(made: Path, target: Path, force: bool = False) -> None:
    """Give a finished file its name, for good even if the power fails. Raises FileExistsError without `force`."""
    with open(made, "rb") as file:
        os.fsync(file.fileno())
    if force:
        made.replace(target)
    else:
        try:
            os.link(made, target)
        except FileExistsError:
            raise
        except OSError:  # a file system without links
            if target.exists():
                raise FileExistsError(target) from None
            made.replace(target)
    with contextlib.suppress(OSError):  # not every network file system can
        fd = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def size(db: sqlite3.Connection) -> int:
    """Bytes of a database, what is still in its log among them."""
    pages, each = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
    return int(pages * each)


def check_room(needed: int, target: Path, what: str = "A copy") -> None:
    """Raises SpaceError if `needed` bytes have no room beside that file, or if the directory is not there."""
    try:
        free = shutil.disk_usage(target.parent).free
    except OSError as error:
        raise _refused(target, error) from None
    if free < needed + ROOM:
        raise SpaceError("There is not enough disk space", f"{what} takes {mib(needed)}; {mib(free)} are free in "
                         f"{target.parent}.", "Free some, or name another place.")  # fmt: skip


def mib(size: float) -> str:
    """Bytes as people read them."""
    for unit, power in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if size >= 1 << power:
            return f"{size / 2**power:,.1f} {unit}"
    return f"{size:,.0f} B"


def free_name(path: Path, suffix: str) -> Path:
    """`path` with `.suffix`, numbered if there is such a file already."""
    names = (path.with_name(f"{path.name}.{suffix}{n}") for n in ["", *(f"-{i}" for i in range(2, 1000))])
    return next(name for name in names if not any(os.path.lexists(f"{name}{beside}") for beside in ("", *BESIDE)))
