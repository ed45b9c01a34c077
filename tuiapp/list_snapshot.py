"""What the list of runs asks of the database beside its rows, and what comes of it: frozen, as all that is drawn."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

DIFFERING = 200
"""Runs of a group that are compared with each other at most."""
Differences = tuple[tuple[str, tuple[tuple[str, int], ...]], ...]
"""By parameter the values (empty: none) and how many runs have them, the parameters with the fewest values first."""


@dataclass(frozen=True)
class Asked:
    """What the list needs now."""

    filter: str = ""
    """In the language of `engine.filtering`."""
    fields: tuple[str, ...] = ()
    """References of `engine.store.fields` whose values are shown, sorted by or grouped by."""
    group: tuple[str, ...] = ()
    """Ids of the runs of the group under the cursor: of them it is asked what differs."""


@dataclass(frozen=True)
class Mistake:
    """What is wrong with a filter, and where: a column of its text, from 1."""

    filter: str
    problem: str
    column: int
    hint: str = ""


@dataclass(frozen=True)
class Listing:
    """What came of it."""

    asked: Asked = Asked()
    filter: str = ""
    """What `ids` were let through by: with a mistake in the filter, the last one that was understood."""
    ids: frozenset[str] | None = None
    """The runs that the filter lets through, archived ones and those in the bin where it asks for them; None: no filter."""
    values: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """By run the values of `fields`, None where one is not known. As `engine.store.query.values` gives them."""
    fields: tuple[str, ...] = ()
    widths: Mapping[str, int] = field(default_factory=dict)
    """By field how many characters its longest value has, as it is drawn."""
    mistake: Mistake | None = None
    found: tuple[str, str] | None = None
    """The selected run's id, and the piece of its texts that a search of the filter found."""
    differs: Differences = ()
    differs_of: tuple[str, ...] = ()
    """The runs that `differs` is about."""


NOTHING = Listing()


@dataclass(frozen=True)
class FieldNames:
    """The fields that runs here have: columns, keys of metrics, paths of parameters."""

    columns: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    values: Mapping[str, Any] = field(default_factory=dict)
    """What one run has of them."""

    @property
    def all(self) -> tuple[str, ...]:
        """As a filter takes them."""
        return *self.columns, *self.metrics, *self.parameters
