"""Opens the database: private, in the journal mode that its file system can bear, migrated under a lock, or read-only."""

import contextlib
import fcntl
import os
import sqlite3
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from engine.errors import SpaceError, StoreError, TuneDeckError
from engine.store import copies
from engine.store.migrations import VERSION, migrate
from engine.store.place import Place, place_of

BUSY_SECONDS = 10.0
Connection = sqlite3.Connection
DatabaseError = sqlite3.Error
"""Locked for too long, full, or broken."""
Say = Callable[[str], None]
"""Takes a sentence that a person should read once."""
NO_WAL = 0x54444E46
"""`application_id` of a database that has a rollback journal because it lay on a network file system."""
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_NO_ROOM = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)
BUSY_HINT = "Another program holds it. Runs go on and lose nothing: try again."


class ReadOnly(sqlite3.Connection):
    """To a database that cannot be written, now or ever. It may not see what others write later."""


def is_locked(error: Exception) -> bool:
    """Whether that is because another program holds the database."""
    return "database is locked" in str(error)  # an error of SQLite's, or one of ours that quotes it


def is_damaged(error: Exception) -> bool:
    """Whether that is because the file is broken, or none of SQLite's."""
    words = ("malformed", "not a database", "Could not decode to UTF-8")  # SQLite's own, or one of ours that quotes it
    known = _code(error) in _DAMAGED or isinstance(error, UnicodeDecodeError)
    return known or any(word in str(error) for word in words)


def _code(error: Exception) -> int:
    """The primary result code of an error of SQLite's."""
    return int(getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


def explained(path: Path, error: Exception) -> TuneDeckError:
    """What an error of SQLite's means, and what can be done."""
    words, code = f"{path}: {error}.", _code(error)
    if isinstance(error, TuneDeckError):
        return error
    if is_damaged(error):
        return StoreError("The database is damaged", words, "What can be saved: tunedeck db check. Save it, and keep the file "
                          "beside: tunedeck db rebuild. Runs at work go on and lose nothing.")  # fmt: skip
    if is_locked(error):
        return StoreError("The database cannot be used now", words, BUSY_HINT)
    if code == sqlite3.SQLITE_READONLY and not writable(path):
        return SpaceError("The database is read only", f"{path} or its directory cannot be written.",
                          "Looking works. To change something, copy it with its runs/, or use --db.")  # fmt: skip
    if code in (*_NO_ROOM, sqlite3.SQLITE_READONLY):
        return SpaceError("The database cannot be written", words, "Free some space, or use --db. Runs go on: what they say "
                          "is brought in when there is room.")  # fmt: skip
    return StoreError("The database cannot be opened", words, "Name another with --db.")


def writable(path: Path) -> bool:
    """Whether a database here can be written: the file, and the directory for its journal."""
    return os.access(path.parent, os.W_OK) and (not path.exists() or os.access(path, os.W_OK))


def identity(path: Path) -> tuple[int, int] | None:
    """Device and inode of the file: others once another database has been put in its place."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def state(path: Path) -> tuple[tuple[int, int, int] | None, ...]:
    """What changes of the file and its log when somebody writes: inode, size, time of the last change."""
    found: list[tuple[int, int, int] | None] = []
    for one in (path, path.with_name(path.name + "-wal")):
        try:
            status = one.stat()
            found.append((status.st_ino, status.st_size, status.st_mtime_ns))
        except OSError:
            found.append(None)
    return tuple(found)


def open_database(
    path: Path, create: bool = True, patience: float = BUSY_SECONDS, say: Say | None = None
) -> Connection:
    """Open, create (if `create`) and migrate. Reads only, leaving nothing beside the file, where it cannot be written.

    `patience` is how many seconds others may hold it before that is an error. `say` hears what was done to it.
    Raises StoreError (missing, no database of ours, from a newer version, damaged) or SpaceError (cannot be created).
    """
    if not path.exists() and not create:
        with contextlib.suppress(OSError, StoreError), lock(path, exclusive=False):
            pass  # another may be putting one in its place at this moment
        if not path.exists():
            raise StoreError(
                "There is no database yet", f"{path} does not exist.", "Start a run, or name another with --db."
            )
    if path.exists() and not writable(path):
        return _open_read_only(path, patience)
    place = place_of(path)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with lock(path, exclusive=False, place=place):
            if not path.exists():
                os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            connection = sqlite3.connect(path, timeout=patience, isolation_level=None)
            with _closed_on_error(connection):
                version = _version(path, connection)
    except (OSError, sqlite3.Error, UnicodeDecodeError) as error:
        if isinstance(error, sqlite3.Error) and _code(error) in _NO_ROOM and path.is_file() and path.stat().st_size:
            return _open_on_full_disk(path, patience, error)
        if not isinstance(error, OSError) and _code(error) != sqlite3.SQLITE_CANTOPEN:
            raise explained(path, error) from None
        raise SpaceError(
            "The database cannot be created", f"{path}: {error}.", "Name another place with --db."
        ) from None
    with _explained(path, connection):
        _set_journal(path, connection, place, patience, say)
        if version < VERSION:
            _migrate_locked(path, connection, place, say)
    connection.row_factory = sqlite3.Row
    return connection


def _open_on_full_disk(path: Path, patience: float, error: sqlite3.Error) -> Connection:
    """To look at least: what SQLite puts beside a database to open it had no room."""
    with contextlib.suppress(TuneDeckError):
        return _open_read_only(path, patience)
    raise explained(path, error) from None


def _open_read_only(path: Path, patience: float) -> Connection:
    connection = look_into(path, patience)
    with _closed_on_error(connection):
        if connection.execute("PRAGMA user_version").fetchone()[0] < VERSION:
            raise StoreError("The database is from an older version", f"{path} cannot be written, so not brought up to date.",
                             "Copy it to a place where it can be written.")  # fmt: skip
    return connection


def look_into(path: Path, patience: float = BUSY_SECONDS) -> Connection:
    """Open to read only, whatever the version of the schema, and leave no file behind. Raises StoreError."""
    found: TuneDeckError | None = None
    for options in _ways_to_read(path):
        uri = f"file:{urllib.parse.quote(str(path))}?mode=ro{options}"
        try:
            connection = sqlite3.connect(uri, uri=True, timeout=patience, isolation_level=None, factory=ReadOnly)
            with _explained(path, connection):
                if "vfs" in options:
                    connection.execute("PRAGMA locking_mode = EXCLUSIVE")  # the log's index in memory, not in a file
                _version(path, connection)
        except (sqlite3.Error, SpaceError) as error:  # this way does not lead there
            why = error.message if isinstance(error, SpaceError) else f"{path}: {error}."
            found = StoreError("The database cannot be read", why, "Check its permissions.")
            continue
        connection.row_factory = sqlite3.Row
        return connection
    assert found
    raise found


def _ways_to_read(path: Path) -> list[str]:
    """Options of SQLite's URI that read without leaving a file behind, the best first.

    Immutable, else SQLite wants to create a -shm file beside a database in WAL mode: but what is in its -wal file would be
    passed over. Where that has something, whoever writes has made a -shm file too. If nobody does, the log was left behind
    by a program that was killed, and is read without locks.
    """
    wal, shm = (path.with_name(path.name + suffix) for suffix in ("-wal", "-shm"))
    if not wal.exists() or not wal.stat().st_size:
        return ["&immutable=1"]
    return ["", "&vfs=unix-none"] if shm.exists() else ["&vfs=unix-none", ""]


@contextlib.contextmanager
def _explained(path: Path, connection: Connection) -> Iterator[None]:
    """SQLite's errors as ours; the connection is closed on any."""
    with _closed_on_error(connection):
        try:
            yield
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            raise explained(path, error) from None


@contextlib.contextmanager
def _closed_on_error(connection: Connection) -> Iterator[None]:
    try:
        yield
    except BaseException:
        connection.close()
        raise


def _version(path: Path, connection: Connection) -> int:
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


@contextlib.contextmanager
def lock(path: Path, exclusive: bool, place: Place | None = None) -> Iterator[None]:
    """Held while a database is opened (shared) and while it is migrated or replaced (exclusive). Raises StoreError, OSError.

    The directory is locked, not the database: closing a descriptor of the database would drop SQLite's own locks. On a
    network file system a file beside it is: NFS locks for writing only what is open for writing.
    """
    if (place or place_of(path)).network:
        fd = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    else:
        fd = os.open(path.parent, os.O_RDONLY)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
        except OSError as error:
            raise StoreError("Files cannot be locked here", f"{path.parent}: {error.strerror}.",
                             "Mount it with locks (Lustre: -o flock), or use --db on another disk.") from None  # fmt: skip
        yield
    finally:
        os.close(fd)


def _set_journal(path: Path, connection: Connection, place: Place, patience: float, say: Say | None) -> None:
    """The write-ahead log, or on a network file system the rollback journal. Raises StoreError.

    Back on a local disk only what has it for that reason, or is new, gets the log: a file that somebody made to be read
    without anything beside it stays as it is.
    """
    mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
    mark = connection.execute("PRAGMA application_id").fetchone()[0]
    if place.network and mode == "wal":
        mode = _leave_wal(path, connection, place, patience)
        if say:
            say(f"Network file system ({place.kind}): the database now has a rollback journal, not WAL")
    if place.network and mark != NO_WAL:
        _at_once(connection, f"PRAGMA application_id = {NO_WAL}", patience)
    is_new = not connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
    if not place.network and mode != "wal" and (mark == NO_WAL or is_new):
        found = _at_once(connection, "PRAGMA journal_mode = WAL", patience)
        mode = found[0] if found else mode
    connection.execute(f"PRAGMA synchronous = {'NORMAL' if mode == 'wal' else 'FULL'}")


def _at_once(connection: Connection, pragma: str, patience: float) -> Any:
    """Its row; None if somebody holds the database: the next who opens it tries again."""
    connection.execute("PRAGMA busy_timeout = 0")
    found = None
    with contextlib.suppress(sqlite3.OperationalError):
        found = connection.execute(pragma).fetchone()
    connection.execute(f"PRAGMA busy_timeout = {round(patience * 1000)}")
    return found


def _leave_wal(path: Path, connection: Connection, place: Place, patience: float) -> str:
    deadline = time.monotonic() + patience
    while True:
        with contextlib.suppress(sqlite3.OperationalError):
            if connection.execute("PRAGMA journal_mode = DELETE").fetchone()[0] == "delete":
                return "delete"
        if time.monotonic() >= deadline:
            raise StoreError(
                "The database cannot be used here now",
                f"{path} lies on {place.kind}, where it needs another journal mode, and another program holds it, here or on "
                "another machine.", "Close the other TuneDecks, let runs at work end, then try again.")  # fmt: skip
        time.sleep(0.05)


def _migrate_locked(path: Path, connection: Connection, place: Place, say: Say | None) -> None:
    with lock(path, exclusive=True, place=place):
        version = _version(path, connection)
        if version == VERSION:
            return  # another did it while we waited
        kept, before = _keep_old(path, connection, version), _schema(connection)
        try:
            migrate(connection)
        except BaseException:
            if kept and _schema(connection) == before:
                kept.unlink()  # it is as it was: else each try would leave a copy
            raise
    if kept and say:
        say(f"Schema {version} brought to {VERSION}; the old database is kept in {kept.name}")


def _schema(connection: Connection) -> int:
    return int(connection.execute("PRAGMA schema_version").fetchone()[0])


def _keep_old(path: Path, connection: Connection, version: int) -> Path | None:
    """A copy of a database that has runs, from before it is changed. Raises SpaceError."""
    if not version or not connection.execute("SELECT 1 FROM runs LIMIT 1").fetchone():
        return None
    kept = copies.free_name(path, f"v{version}-backup")
    try:
        copies.copy(connection, kept)
    except SpaceError as error:
        raise SpaceError("The database is from an older version",
                         f"It is not changed without a copy, and that cannot be made: {error.message}",
                         f"Make room beside {path}, or move it with its runs/ and use --db.") from None  # fmt: skip
    return kept


class Following:
    """A connection for long: to the database that lies there now, which may be made anew meanwhile (`tunedeck db rebuild`)."""

    def __init__(self, path: Path, create: bool = False) -> None:
        self._path, self._create = path, create
        self._db: Connection | None = None
        self._file: tuple[int, int] | None = None

    def get(self) -> Connection:
        """The connection, opened if need be. Raises as `open_database` does."""
        found = identity(self._path)
        if found != self._file:
            self.close()
        if self._db is None:
            self._db = open_database(self._path, self._create)
            self._file = found or identity(self._path)
        return self._db

    def close(self) -> None:
        """The next `get` opens it again."""
        if self._db is not None:
            self._db.close()
            self._db = None


@contextlib.contextmanager
def transaction(connection: Connection) -> Iterator[None]:
    """All or nothing, with the write lock taken at once so that what is read inside stays true."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite has ended it itself where the disk was full
            connection.execute("ROLLBACK")
        raise
