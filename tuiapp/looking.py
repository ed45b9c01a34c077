"""What the app looks at once a second: runs and machine as one snapshot. Imports no more than the first look needs."""

import functools
import time
from pathlib import Path

from engine.errors import TuneDeckError
from engine.hardware import Hardware, Sampler, probe
from engine.store import runs
from engine.store.connection import Connection, DatabaseError, is_locked, open_database, writable
from tuiapp.machine_desk import MachineDesk
from tuiapp.reading import Reader
from tuiapp.snapshot import Snapshot

PATIENCE = 1.0
"""Seconds that a look waits for a database that another program holds: the next look is not far."""
LOCKED = "Another program holds the database: what is shown is from before. Runs go on and lose nothing."
GONE = "The database is gone, moved or deleted; runs at work go on"


class Look:
    """Belongs to the one thread that collects, but for `hardware` and `sampler`."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._db: Connection | None = None
        self._reader = Reader(database)
        self._file: tuple[int, int] | None = None
        """Device and inode of the database that was read."""

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
        return MachineDesk(self.hardware, self.sampler, self._database)

    def snapshot(self, selected: str | None, baseline: str | None) -> Snapshot:
        """Everything now; a database that cannot be read is a sentence."""
        machine, place = self._desk.look(), str(self._database)
        if not self._is_there():
            return Snapshot(machine, place, time.time(), problem=f"{GONE}: {place}" if self._file else None)
        can_write = writable(self._database)
        try:
            if self._db is None:
                self._db = open_database(self._database, patience=PATIENCE)
            if can_write:
                _make_true(self._db, self._database)
            lines, detail, pinned = self._reader.read(self._db, selected, baseline)
        except (TuneDeckError, DatabaseError) as error:
            self._db = None
            problem = LOCKED if is_locked(error) else str(error)
            return Snapshot(machine, place, time.time(), problem=problem, read_only=not can_write)
        return Snapshot(machine, place, time.time(), lines, detail, pinned, read_only=not can_write)

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


def _make_true(db: Connection, database: Path) -> None:
    """Look after runs that are held for alive. A locked or full database can still be read."""
    try:
        if runs.active(db):
            from engine.reconcile import reconcile  # brings all that starting a run needs

            reconcile(db, database)
    except DatabaseError:
        return
