"""From the runs of a snapshot to the rows of the list: filtered, in order, in groups. Nothing is done twice."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tuiapp.field_values import OF_LINE, is_known, of_line, order_key, title
from tuiapp.grouping import FLAT, SWEEPS, Item, arranged
from tuiapp.list_snapshot import NOTHING, Asked, Listing
from tuiapp.snapshot import RunLine, Snapshot
from tuiapp.views import View


@dataclass(frozen=True)
class Facts:
    """What the cells of the list are drawn from beside the run. `now` in unix seconds."""

    now: float
    listing: Listing = NOTHING
    best: frozenset[str] = frozenset()
    """Runs with the lowest eval loss among those that were evaluated on the same rows."""

    def value(self, run_id: str, name: str) -> Any:
        """The value of a field that was asked for; None if it is not known."""
        listing = self.listing
        values = listing.values.get(run_id) if name in listing.fields else None
        return values[listing.fields.index(name)] if values is not None else None

    def of(self, run: RunLine, name: str) -> Any:
        """The value of any field."""
        return of_line(name)(run, self.now) if name in OF_LINE else self.value(run.id, name)


def asked_for(view: View, group: tuple[str, ...] = ()) -> Asked:
    """What has to be asked for to show this."""
    names = (*view.columns, view.order, *((view.group,) if view.group not in (SWEEPS, FLAT) else ()))
    return Asked(view.filter, tuple(dict.fromkeys(name for name in names if name not in OF_LINE)), group)


def best_of(runs: Iterable[RunLine]) -> frozenset[str]:
    """The run with the lowest eval loss of all that were evaluated on the same rows, where there are several."""
    found: dict[str, tuple[float, str, int]] = {}
    for run in runs:
        if run.held and run.best_eval is not None and math.isfinite(run.best_eval):
            low, run_id, count = found.get(run.held, (math.inf, "", 0))
            first = run.best_eval < low
            found[run.held] = (run.best_eval if first else low, run.id if first else run_id, count + 1)
    return frozenset(run_id for _, run_id, count in found.values() if count > 1)


def ordered(runs: Sequence[RunLine], name: str, turned: bool, value: Callable[[RunLine], Any]) -> list[RunLine]:
    """In the order of a field, equals as they were; those of which it is not known come last either way round."""
    known: list[tuple[Any, RunLine]] = []
    unknown: list[RunLine] = []
    for run in runs:
        found = value(run)
        if is_known(found):
            known.append((order_key(name, found), run))
        else:
            unknown.append(run)
    known.sort(key=lambda one: one[0], reverse=turned)
    return [run for _, run in known] + unknown


class RunList:
    """Keeps what came of the last snapshot and view."""

    def __init__(self) -> None:
        self._key: tuple[Any, ...] = ()
        self._of: tuple[Any, ...] = ()
        self.runs: tuple[RunLine, ...] = ()
        """Those that the filter lets through, in order."""
        self.items: tuple[Item, ...] = ()
        self.best: frozenset[str] = frozenset()
        self.ids: frozenset[str] = frozenset()
        """Of `runs`."""
        self.known: frozenset[str] = frozenset()
        """Of all runs, put away or not."""
        self.starred = False

    def update(self, snapshot: Snapshot, view: View) -> None:
        """Bring it up to date."""
        listing = snapshot.listing
        ids = listing.ids if view.filter.strip() else None
        of = snapshot.runs, snapshot.put_away, ids, listing.values
        key = replace(view, filter="", columns=())
        if self._key and key == self._key[0] and all(a is b for a, b in zip(of, self._of, strict=True)):
            return
        self._key, self._of = (key,), of
        facts = Facts(snapshot.now, listing)
        shown = ordered(_let_through(snapshot, ids), view.order, view.turned, lambda run: facts.of(run, view.order))
        self.runs, self.best = tuple(shown), best_of(snapshot.runs)
        self.ids = frozenset([run.id for run in shown])
        self.known = frozenset([run.id for lines in (snapshot.runs, snapshot.put_away) for run in lines])
        self.starred = any(run.starred for run in shown)
        self.items = arranged(shown, view.group, title(view.group), lambda run: facts.of(run, view.group), view.opened)


def _let_through(snapshot: Snapshot, ids: frozenset[str] | None) -> list[RunLine]:
    """The newest first."""
    if ids is None:
        return list(snapshot.runs)
    found = [run for run in snapshot.runs if run.id in ids]
    away = [run for run in snapshot.put_away if run.id in ids]
    return sorted([*found, *away], key=lambda run: -run.created_at) if away else found
