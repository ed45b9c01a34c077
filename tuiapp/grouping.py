"""The runs of the list in groups: what they share, how they differ, which are folded. Pure functions."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from tuiapp.field_values import is_known, text_of
from tuiapp.snapshot import RunLine

SWEEPS = ""
"""Grouping by nothing: only the runs of a sweep stand together."""
FLAT = "none"
"""Every run by itself, those of sweeps too."""
LEAST = 2
"""Runs that a sweep must have in the list to be folded."""
SEVERAL = "…"
"""In place of a text that is not the same in all runs."""


@dataclass(frozen=True)
class Group:
    """Runs that have something in common, in the order of the list."""

    key: str
    title: str
    """`sweep: rank x lr`, `model: Qwen2.5-7B`"""
    runs: tuple[RunLine, ...]
    is_open: bool = False

    @property
    def id(self) -> str:
        """As a run has one; no run has this."""
        return self.key

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """Its runs."""
        return tuple([run.id for run in self.runs])

    @cached_property
    def members(self) -> frozenset[str]:
        """Its runs, to look one up."""
        return frozenset(self.ids)

    @cached_property
    def summary(self) -> RunLine:
        """The group as one row: the best of its runs, what they took together, and what is the same in all of them."""
        runs = self.runs
        best = min(runs, key=_loss)
        seconds = [
            run.ended_at - run.started_at for run in runs if run.started_at is not None and run.ended_at is not None
        ]
        started = min((run.started_at for run in runs if run.started_at is not None), default=None)
        ended = [run.ended_at for run in runs if run.ended_at is not None]
        at_work = any(run.ended_at is None for run in runs)
        return replace(
            best, model=_shared(run.model for run in runs), method=_shared(run.method for run in runs),
            dataset=_shared(run.dataset for run in runs), rank=_same(run.rank for run in runs),
            learning_rate=_same(run.learning_rate for run in runs), tags=_same(run.tags for run in runs) or (),
            peak_gib=_most(run.peak_gib for run in runs), tokens_per_second=_most(run.tokens_per_second for run in runs),
            status=_shared(run.status for run in runs), step=None, total_steps=None, note="", starred=False,
            created_at=max(run.created_at for run in runs), ended_at=None if at_work or not ended else max(ended),
            started_at=started if at_work or not ended else max(ended) - sum(seconds),
        )  # fmt: skip

    def value(self, name: str, values: Sequence[Any]) -> str:
        """What the group shows of a field: what all have, from the least to the greatest, or that they differ."""
        known = [value for value in values if is_known(value)]
        if not known or all(value == values[0] for value in values):
            return text_of(name, values[0] if values else None)
        if all(isinstance(value, int | float) and not isinstance(value, bool) for value in known):
            low, high = min(known), max(known)
            return text_of(name, low) if low == high else f"{text_of(name, low)}–{text_of(name, high)}"
        return SEVERAL


Item = RunLine | Group


def _loss(run: RunLine) -> tuple[float, float]:
    evals, loss = (one if one is not None and math.isfinite(one) else math.inf for one in (run.best_eval, run.loss))
    return evals, loss


def _shared(values: Iterable[str]) -> str:
    different = set(values)
    return different.pop() if len(different) == 1 else SEVERAL


def _same(values: Iterable[Any]) -> Any:
    different = set(values)
    return different.pop() if len(different) == 1 else None


def _most(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None and math.isfinite(value)), default=None)


def arranged(
    runs: Sequence[RunLine], by: str, title: str, value: Callable[[RunLine], Any], opened: frozenset[str]
) -> tuple[Item, ...]:
    """The rows of the list. A group stands where its first run would; open ones are followed by their runs.

    `by` is a field or SWEEPS or FLAT, `title` its name, `value` what a run has of it.
    """
    if by == FLAT or (by == SWEEPS and not any(run.sweep for run in runs)):
        return tuple(runs)
    members: dict[str, list[RunLine]] = {}
    keys = [_key(run, by, value) for run in runs]
    for run, key in zip(runs, keys, strict=True):
        members.setdefault(key or run.id, []).append(run)
    items: list[Item] = []
    for key, those in members.items():
        if not key.startswith("group ") or (by == SWEEPS and len(those) < LEAST):
            items += those
            continue
        is_open = key in opened
        items.append(Group(key, _title(those[0], by, title, value), tuple(those), is_open))
        items += those if is_open else ()
    return tuple(items)


def _key(run: RunLine, by: str, value: Callable[[RunLine], Any]) -> str:
    if by == SWEEPS:
        return f"group sweep {run.sweep}" if run.sweep else ""
    return f"group {by} {text_of(by, value(run))}"


def _title(run: RunLine, by: str, title: str, value: Callable[[RunLine], Any]) -> str:
    if by == SWEEPS:
        return f"sweep: {run.sweep_name or run.sweep}"
    return f"{title}: {text_of(by, value(run))}"


def group_of(items: Iterable[Item], run_id: str | None) -> Group | None:
    """The group that has this run."""
    return next((one for one in items if isinstance(one, Group) and run_id in one.members), None)
