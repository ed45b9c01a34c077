"""What the list of runs asks for, found in the thread that collects: what a filter lets through, and values of fields.

Nothing is found again while nothing has changed.
"""

import time
from typing import Any

from engine.errors import TuneDeckError
from engine.filtering import FilterError
from engine.store import query, runs
from engine.store.connection import Connection, DatabaseError, is_locked
from engine.store.excerpts import excerpt
from tuiapp.field_values import width_of
from tuiapp.list_snapshot import DIFFERING, NOTHING, Asked, Differences, Listing, Mistake
from tuiapp.table import MANY, SCAN_SECONDS, Table

Values = dict[str, tuple[Any, ...]]


class Lister:
    """Belongs to the one thread that collects."""

    def __init__(self) -> None:
        self._listing = NOTHING
        self._ids_key: Any = None
        self._ids_found = 0.0
        self._excerpt_key: Any = None
        self._fields: tuple[str, ...] = ()
        self._known: tuple[str, ...] = ()
        self._values: Values = {}

    def rescan(self) -> None:
        """Find everything again: this program changed a run."""
        self._ids_key = None

    def read(self, db: Connection, version: Any, table: Table, asked: Asked, selected: str | None) -> Listing:
        """What came of what is asked; the same object while that is the same."""
        before = self._listing
        found: dict[str, Any] = {"asked": asked} if asked != before.asked else {}
        found |= self._filtered(db, (version, asked.filter, int(time.time() // 60)), len(table.order), asked.filter)
        found |= self._read_values(db, asked.fields, table)
        found |= self._excerpt(db, (version, found.get("filter", before.filter), selected))
        if asked.group != before.differs_of:
            found |= {"differs": _differs(db, asked.group), "differs_of": asked.group}
        if found:
            self._listing = Listing(**{**vars(before), **found})
        return self._listing

    def _filtered(self, db: Connection, key: Any, count: int, text: str) -> dict[str, Any]:
        """The runs that the filter lets through, if it is time to ask."""
        now = time.monotonic()
        same_text = self._ids_key is not None and self._ids_key[1] == text
        if key == self._ids_key or (same_text and count >= MANY and now - self._ids_found < SCAN_SECONDS):
            return {}
        self._ids_key, self._ids_found = key, now
        if not text.strip():
            return _news(self._listing, filter="", ids=None, mistake=None)
        try:
            ids = frozenset(query.select(db, text))
        except FilterError as error:
            return _news(self._listing, mistake=Mistake(text, error.problem, error.column, error.hint))
        except (TuneDeckError, DatabaseError) as error:  # whatever a filter makes of it, the list stays
            if is_locked(error):
                raise
            return _news(self._listing, mistake=Mistake(text, str(error), 1))
        return _news(self._listing, filter=text, ids=ids, mistake=None)

    def _excerpt(self, db: Connection, key: tuple[Any, str, str | None]) -> dict[str, Any]:
        """What a search of the filter found in the selected run."""
        if key == self._excerpt_key:
            return {}
        self._excerpt_key = key
        _, text, selected = key
        searches = selected is not None and ("text" in text or "log" in text)
        piece = excerpt(db, text, selected) if searches and selected is not None else ""
        return _news(self._listing, found=(selected, piece) if piece else None)

    def _read_values(self, db: Connection, fields: tuple[str, ...], table: Table) -> dict[str, Any]:
        touched = table.take_touched()
        if fields != self._fields:
            self._fields, self._known, self._values = fields, _known(db, fields), {}
            touched = set(table.order)
        elif not touched or not self._known:
            return {}
        many = len(touched) > len(table.order) // 2
        new = query.values(db, self._known, None if many else sorted(touched)) if self._known else {}
        kept = {} if many else {run_id: one for run_id, one in self._values.items() if run_id not in touched}
        self._values = kept | new
        columns = zip(*self._values.values(), strict=True) if self._values else ()
        widths = {name: width_of(name, values) for name, values in zip(self._known, columns, strict=False)}
        return {"values": self._values, "fields": self._known, "widths": widths}


def _news(listing: Listing, **found: Any) -> dict[str, Any]:
    """What is other than it was."""
    return {name: value for name, value in found.items() if getattr(listing, name) != value}


def _known(db: Connection, fields: tuple[str, ...]) -> tuple[str, ...]:
    """The fields that there are: a column may be remembered of another database, or of runs that are gone."""
    known = []
    for name in fields:
        try:
            query.values(db, [name], [])
        except TuneDeckError:
            continue
        known.append(name)
    return tuple(known)


def _differs(db: Connection, ids: tuple[str, ...]) -> Differences:
    """In which parameters these runs differ; what only follows from the machine or names the run is left out."""
    if len(ids) < 2:
        return ()
    found = []
    for path, values in runs.varied(db, ids[:DIFFERING]).items():
        if not path.startswith(("run.", "compute.")):
            ordered = sorted(values.items(), key=lambda one: (-one[1], one[0] or ""))
            found.append((path, tuple((value or "", count) for value, count in ordered)))
    return tuple(sorted(found, key=lambda one: (len(one[1]), one[0])))
