"""How the list of runs is looked at: columns, order, groups, filter. Remembered in a small file beside the database."""

import contextlib
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from threading import Lock, Thread
from typing import Any

from engine.files import write_private

FILE = "views.json"
MOST = 200
"""Names in a list, or saved views, that are read back at most."""
LONGEST = 2000
"""Characters of a text that is read back at most."""


@dataclass(frozen=True)
class View:
    """One way to look. Fields are named as in `engine.store.fields`, and `curve` is the curve of the loss."""

    columns: tuple[str, ...] = ()
    """None: those that the width has room for."""
    order: str = "age"
    turned: bool = False
    """Whether the other way round than usual."""
    group: str = ""
    """A field; as `grouping.SWEEPS` and `grouping.FLAT` have it."""
    opened: frozenset[str] = frozenset()
    """Groups that are not folded."""
    filter: str = ""


@dataclass(frozen=True)
class Views:
    """What is remembered of one database."""

    now: View = View()
    saved: dict[str, View] = field(default_factory=dict)
    """By their names, in the order in which they were saved."""
    baseline: str | None = None


def with_saved(views: Views, name: str, view: View) -> Views:
    """With a view under a name; one that had it is replaced."""
    return replace(views, saved={**{key: one for key, one in views.saved.items() if key != name}, name: view})


def without(views: Views, name: str) -> Views:
    """Without a saved view."""
    return replace(views, saved={key: one for key, one in views.saved.items() if key != name})


def load(file: Path, database: str) -> Views:
    """What the file says of a database, by its file's name; what is wrong in it is passed over."""
    raw = _section(_read(file).get(database))
    saved = _section(raw.get("saved"))
    baseline = raw.get("baseline")
    return Views(
        _view(raw.get("now")),
        {name: _view(one) for name, one in list(saved.items())[:MOST] if name and len(name) <= LONGEST},
        baseline if isinstance(baseline, str) else None,
    )


def save(file: Path, database: str, views: Views) -> None:
    """Write it; what the file says of other databases stays. Raises OSError."""
    whole = _read(file)
    whole[database] = {
        "now": _raw(views.now),
        "saved": {name: _raw(one) for name, one in views.saved.items()},
        "baseline": views.baseline,
    }
    write_private(file, json.dumps(whole, indent=1))


def _raw(view: View) -> dict[str, Any]:
    return {**asdict(view), "columns": list(view.columns), "opened": sorted(view.opened)}


def _read(file: Path) -> dict[str, Any]:
    try:
        return _section(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError):
        return {}


def _section(raw: Any) -> dict[str, Any]:
    return raw if isinstance(raw, dict) else {}


def _view(raw: Any) -> View:
    raw, usual = _section(raw), View()
    return View(
        columns=_texts(raw.get("columns")),
        order=_text(raw.get("order")) or usual.order,
        turned=raw.get("turned") is True,
        group=_text(raw.get("group")),
        opened=frozenset(_texts(raw.get("opened"))),
        filter=_text(raw.get("filter")),
    )


def _text(raw: Any) -> str:
    return raw if isinstance(raw, str) and len(raw) <= LONGEST else ""


def _texts(raw: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(filter(None, map(_text, raw[:MOST])))) if isinstance(raw, list) else ()


class Keeper:
    """Writes what is remembered in a thread, the newest last; a place that cannot be written is no problem."""

    def __init__(self, file: Path, database: str) -> None:
        self._file = file
        self._database = database
        self._lock = Lock()
        self._next: Views | None = None
        self._writing = False

    def keep(self, views: Views) -> None:
        """Write this soon."""
        with self._lock:
            self._next = views
            if self._writing:
                return
            self._writing = True
        # no daemon: leaving the app waits until it is written
        Thread(target=self._write, name="views").start()

    def _write(self) -> None:
        while True:
            with self._lock:
                views, self._next = self._next, None
                if views is None:
                    self._writing = False
                    return
            with contextlib.suppress(OSError):
                save(self._file, self._database, views)
