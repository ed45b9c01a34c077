"""Opens the database: private, in WAL mode, migrated under a lock, or read-only where it cannot be written."""

import contextlib
import fcntl
import os
import sqlite3
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

from engine.errors import SpaceError, StoreError
from engine.store.migrations import VERSION, migrate

BUSY_SECONDS = 10.0
Connection = sqlite3.Connection
DatabaseError = sqlite3.Error
"""Locked for too long, full, or broken."""


def is_locked(error: Exception) -> bool:
    """Whether that is because another program holds the database."""
    return "database is locked" in str(error)  # an error of SQLite's, or one of ours that quotes it


def writable(path: Path) -> bool:
    """Whether a database here can be written: the file, and the directory for its journal."""
    return os.access(path.parent, os.W_OK) and (not path.exists() or os.access(path, os.W_OK))


def open_database(path: Path, create: bool = True, patience: float = BUSY_SECONDS) -> sqlite3.Connection:
    """Open, create (if `create`) and migrate. Reads only, leaving nothing beside the file, where it cannot be written.

    `patience` is how many seconds others may hold it before that is an error.
    Raises StoreError (missing, no database of ours, from a newer version) or SpaceError (cannot be created).
    """
    if not path.exists() and not create:
        raise StoreError(
            "There is no database yet", f"{path} does not exist.", "Start a run, or name another with --db."
        )
    if path.exists() and not writable(path):
        return _open_read_only(path, patience)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        connection = sqlite3.connect(path, timeout=patience, isolation_level=None)
    except (OSError, sqlite3.Error) as error:
        raise SpaceError(
            "The database cannot be created", f"{path}: {error}.", "Name another place with --db."
        ) from None
    with _explained(path, connection):
        connection.execute("PRAGMA synchronous = NORMAL")
        if _version(path, connection) < VERSION:
            _migrate_locked(path, connection)
    connection.row_factory = sqlite3.Row
    return connection


def _open_read_only(path: Path, patience: float) -> sqlite3.Connection:
    # Immutable: else SQLite wants to create a -shm file beside a database in WAL mode. Not while somebody writes it:
    # what is in the -wal file would be passed over.
    wal = path.with_name(path.name + "-wal")
    immutable = "" if wal.exists() and wal.stat().st_size else "&immutable=1"
    uri = f"file:{urllib.parse.quote(str(path))}?mode=ro{immutable}"
    try:
        connection = sqlite3.connect(uri, uri=True, timeout=patience, isolation_level=None)
    except sqlite3.Error as error:
        raise StoreError("The database cannot be read", f"{path}: {error}.", "Check its permissions.") from None
    with _explained(path, connection):
        if _version(path, connection) < VERSION:
            raise StoreError("The database is from an older version", f"{path} cannot be written, so not brought up to date.",
                             "Copy it to a place where it can be written.")  # fmt: skip
    connection.row_factory = sqlite3.Row
    return connection


@contextlib.contextmanager
def _explained(path: Path, connection: sqlite3.Connection) -> Iterator[None]:
    """SQLite's errors as ours; the connection is closed on any."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        connection.close()
        if "full" in str(error) or "disk I/O" in str(error) or "readonly" in str(error):
            raise SpaceError(
                "The database cannot be written", f"{path}: {error}.", "Free some space, or use --db."
            ) from None
        raise StoreError("The database cannot be opened", f"{path}: {error}.", "Name another with --db.") from None
    except BaseException:
        connection.close()
        raise


def _version(path: Path, connection: sqlite3.Connection) -> int:
    """The schema version, 0 for an empty file. Raises StoreError for a newer version and for another program's file."""
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    if version > VERSION:
        raise StoreError(
            "The database is from a newer version",
            f"{path} has schema {version}, this TuneDeck knows up to {VERSION}.",
            "Upgrade TuneDeck, or name another database with --db.",
        )
    if tables and ("_sqlite_migrations",) not in tables:
        raise StoreError(
            "This is another program's database", f"{path} holds tables that are not TuneDeck's.", "Use --db."
        )
    return version


def _migrate_locked(path: Path, connection: sqlite3.Connection) -> None:
    # The directory is locked, not the database: closing a descriptor of the database would drop SQLite's own locks
    fd = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        if _version(path, connection) < VERSION:
            if not connection.execute("SELECT 1 FROM sqlite_master").fetchone():
                connection.execute("PRAGMA journal_mode = WAL")
            migrate(connection)
    finally:
        os.close(fd)


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All or nothing, with the write lock taken at once so that what is read inside stays true."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
