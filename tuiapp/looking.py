"""What the app looks at once a second: runs and machine as one snapshot. Imports no more than the first look needs."""

import functools
import time
from pathlib import Path

from engine.errors import TuneDeckError
from engine.hardware import Hardware, Sampler, probe
from engine.store import afterwards, runs, sweeps
from engine.store.connection import (
    Connection,
    DatabaseError,
    ReadOnly,
    explained,
    is_damaged,
    is_locked,
    open_database,
    state,
    writable,
)  # fmt: skip
from tuiapp.after_values import AfterQuestion
from tuiapp.list_snapshot import Asked
from tuiapp.machine_desk import MachineDesk
from tuiapp.reading import Reader
from tuiapp.snapshot import Snapshot

PATIENCE = 1.0
"""Seconds that a look waits for a database that another program holds: the next look is not far."""
LOCKED = "Another program holds the database: what is shown is from before. Runs go on and lose nothing."
DAMAGED = "The database is damaged: quit, then tunedeck db check and tunedeck db rebuild"
NO_ROOM = "The disk is full: this may be from before. Runs go on and tell the rest later"
AGAIN = 10.0
"""Seconds after which a database that could only be read is opened anew, to see whether it can be written again."""
GONE = "The database is gone, moved or deleted; runs at work go on"


class Look:
    """Belongs to the one thread that collects, but for `hardware`, `sampler` and what is said to be of any thread."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._db: Connection | None = None
        self._reader = Reader(database)
        self._file: tuple[int, int] | None = None
        """Device and inode of the database that was read."""
        self._opened: tuple[float, object] = 0.0, None
        """When a database that can only be read was opened, and the state of its files then."""
        self._notice = ""
        self._asked = Asked()
        self._after: AfterQuestion | None = None
        self._changed = False

    @functools.cached_property
    def hardware(self) -> Hardware:
        """The cards and the host, probed once."""
        return probe()

    @functools.cached_property
    def sampler(self) -> Sampler:
        """What the cards do now."""
        return Sampler()

    @functools.cached_property
    def _desk(self) -> MachineDesk:
        return MachineDesk(self.hardware, self.sampler, self._database, self._hear)

    def ask(self, asked: Asked) -> None:
        """What the list of runs needs from the next look on."""
        self._asked = asked

    def follow(self, asked: AfterQuestion | None) -> None:
        """What is to be told of a run after its training from the next look on."""
        self._after = asked

    def changed(self) -> None:
        """This program changed a run: the next look sees it. From any thread."""
        self._changed = True

    def snapshot(self, selected: str | None, baseline: str | None) -> Snapshot:
        """Everything now; a database that cannot be read is a sentence."""
        machine, place = self._desk.look(), str(self._database)
        if not self._is_there():
            return Snapshot(machine, place, time.time(), problem=f"{GONE}: {place}" if self._file else None)
        can_write = writable(self._database)
        try:
            self._let_go()
            if self._db is None:
                self._opened = time.monotonic(), state(self._database)
                self._db = open_database(self._database, patience=PATIENCE, say=self._hear)
            if can_write:
                _make_true(self._db, self._database)
            if self._changed:
                self._changed = False
                self._reader.rescan()
            seen = self._reader.read(self._db, selected, baseline, self._asked, self._after)
        except (TuneDeckError, DatabaseError) as error:
            self._close()
            problem = _problem(error, self._database)
            return Snapshot(machine, place, time.time(), problem=problem, read_only=not can_write, notice=self._notice)
        only_read = isinstance(self._db, ReadOnly)
        return Snapshot(machine, place, time.time(), **vars(seen), read_only=only_read, notice=self._notice,
                        problem=NO_ROOM if only_read and can_write else None)  # fmt: skip

    def _hear(self, notice: str) -> None:
        self._notice = notice

    def _let_go(self) -> None:
        """A connection that only reads does not see what others write: it is made anew when they have."""
        then, before = self._opened
        if isinstance(self._db, ReadOnly) and (before != state(self._database) or time.monotonic() > then + AGAIN):
            self._close()

    def _close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    def _is_there(self) -> bool:
        """Whether the database is there; what was read of another file in its place is forgotten."""
        try:
            found = self._database.stat()
        except OSError:
            return False
        if self._file not in (None, (found.st_dev, found.st_ino)):
            self._db, self._reader = None, Reader(self._database)
            self._desk.forget()
        self._file = found.st_dev, found.st_ino
        return True


def _problem(error: Exception, database: Path) -> str:
    """Why the runs cannot be read, in a sentence that a line has room for."""
    if is_locked(error):
        return LOCKED
    return DAMAGED if is_damaged(error) else str(explained(database, error))


def _make_true(db: Connection, database: Path) -> None:
    """Look after runs that are held for alive. A locked or full database can still be read."""
    try:
        if runs.active(db) or sweeps.active(db) or afterwards.active(db):
            from engine.reconcile import reconcile  # brings all that starting a run needs

            reconcile(db, database)
    except DatabaseError:
        return
