"""Fields of runs as the list shows them: heading, text, order. Names are those of `engine.store.fields`. Pure functions."""

import functools
import math
import time
from collections.abc import Callable, Iterable
from typing import Any

from tuiapp import format as f
from tuiapp.glyphs import ACTIVE
from tuiapp.snapshot import RunLine
from tuiapp.widgets.head import elapsed

MOMENTS = ("created", "started", "ended")
AGE_FIELDS = ("time", "age")
FLAGS = ("starred", "archived")
WHICH = {"best": "best", "min": "min", "max": "max", "smooth": "smooth", "step": "step", "last": ""}
ALIASES = {
    "eval_loss.best": "best_eval", "memory_allocated_gib.max": "peak_gib", "training.learning_rate": "lr",
    "dataset": "data", "tags": "tag", "tok/s": "tokens_per_second", "loss.last": "loss",
}  # fmt: skip
"""The same field by the name that the table has for it."""
TITLES = {
    "status": "Status", "name": "Name", "model": "Model", "method": "Method", "curve": "Loss", "best_eval": "Best eval",
    "peak_gib": "GiB", "tokens_per_second": "tok/s", "time": "Time", "age": "Age", "lr": "lr", "data": "Data", "tag": "Tags",
    "note": "Note", "id": "Id", "project": "Project", "host": "Host", "created": "Created", "started": "Started",
    "ended": "Ended", "sweep": "Sweep", "parent": "From", "rows": "Rows", "source": "Source", "loss": "Loss now", "reason": "Ended by", "steps": "Steps", "step": "Step",
    "starred": "Starred", "archived": "Archived",
}  # fmt: skip
ORDERS = {
    "age": "newest first", "best_eval": "best eval first", "curve": "lowest loss first", "loss": "lowest loss first",
    "name": "by name", "status": "by status", "model": "by model", "peak_gib": "least memory first",
    "time": "shortest first", "method": "by method", "lr": "lowest lr first", "tokens_per_second": "fastest first",
    "created": "newest first", "data": "by data set", "tag": "by tags", "starred": "starred first",
}  # fmt: skip
"""How the list says what it is ordered by, the usual way round."""
Key = tuple[int, float, str]


def canonical(name: str) -> str:
    """A field by the one name that the table has for it."""
    return ALIASES.get(name, name)


def split(name: str) -> tuple[str, str]:
    """A metric's key and which of its values: eval_loss, best."""
    key, dot, which = name.rpartition(".")
    return (key, which) if dot and which in WHICH else (name, "")


def title(name: str) -> str:
    """The heading of a column."""
    if name in TITLES:
        return TITLES[name]
    key, which = split(name)
    if which:
        return f"{key} {WHICH[which]}".rstrip()
    return f.clean(name.rpartition(".")[2])


def seconds_ago(run: RunLine, now: float) -> float:
    """How long ago something last happened: a run at work is of now."""
    if run.status in ACTIVE:
        return 0.0
    return now - (run.ended_at if run.ended_at is not None else run.created_at)


_OF_LINE: dict[str, Callable[[RunLine, float], Any]] = {
    "status": lambda run, _: run.status,
    "name": lambda run, _: run.name,
    "id": lambda run, _: run.id,
    "model": lambda run, _: run.model,
    "method": lambda run, _: run.method,
    "data": lambda run, _: run.dataset,
    "note": lambda run, _: run.note,
    "tag": lambda run, _: run.tags,
    "starred": lambda run, _: run.starred,
    "archived": lambda run, _: run.archived,
    "sweep": lambda run, _: run.sweep_name or run.sweep,
    "lr": lambda run, _: run.learning_rate,
    "curve": lambda run, _: run.loss,
    "loss": lambda run, _: run.loss,
    "best_eval": lambda run, _: run.best_eval,
    "peak_gib": lambda run, _: run.peak_gib,
    "tokens_per_second": lambda run, _: run.tokens_per_second,
    "time": elapsed,
    "age": seconds_ago,
    "created": lambda run, _: run.created_at,
    "started": lambda run, _: run.started_at,
    "ended": lambda run, _: run.ended_at,
    "step": lambda run, _: run.step,
}
OF_LINE = frozenset(_OF_LINE)
"""Fields that the row of a run has by itself; the values of others are asked for."""


def of_line(name: str) -> Callable[[RunLine, float], Any]:
    """What a run's row has of a field of OF_LINE."""
    return _OF_LINE[name]


def is_known(value: Any) -> bool:
    """Whether there is something to show or to order by."""
    return not (value is None or value in ("", ()) or (isinstance(value, float) and math.isnan(value)))


def order_key(name: str, value: Any) -> Key:
    """What a known value is ordered by; numbers stand before texts."""
    if isinstance(value, str):
        return 1, 0.0, value.casefold()
    if isinstance(value, tuple):
        return 1, 0.0, ", ".join(value).casefold()
    return 0, -float(value) if greatest_first(name) else float(value), ""


@functools.lru_cache
def greatest_first(name: str) -> bool:
    """Whether the usual way round has the greatest first: what is best, the newest, and stars."""
    from engine.store.metrics import higher_is_better  # not needed for the first paint

    if name in MOMENTS or name in FLAGS:
        return True
    key, which = split(name)
    return which not in ("min", "step") and name not in ("peak_gib", *AGE_FIELDS) and higher_is_better(key)


def order_words(name: str, turned: bool) -> str:
    """How the list says what it is ordered by."""
    if name in ORDERS:
        return ORDERS[name] + (", turned round" if turned else "")
    if name in TITLES or (split(name)[1] == "" and "." in name):  # columns and parameters: texts, most of them
        return f"by {title(name)}" + (", turned round" if turned else "")
    greatest = greatest_first(name) != turned
    return f"{title(name)}, {'greatest' if greatest else 'least'} first"


def text_of(name: str, value: Any) -> str:
    """A value as the table shows it; a dash where it is not known."""
    if value is None or value in ("", ()):
        return f.DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return f.clean(", ".join(value))
    if isinstance(value, str):
        return _plain(value) or f.DASH
    return _number(name, value)


@functools.lru_cache(maxsize=4096)
def _plain(value: str) -> str:
    return f.plain(value)


def _number(name: str, value: float) -> str:
    if not math.isfinite(value):
        return f.number(value)
    if name in MOMENTS:
        return time.strftime("%d %b %H:%M", time.localtime(value))
    if name in AGE_FIELDS:
        return f.duration(value) if name == "time" else f.age(value)
    key, which = split(name)
    if which == "step" or key in ("step", "rows", "num_tokens", "tokens_per_second"):
        return f.count(value)
    if key in ("lr", "learning_rate") or key.endswith("learning_rate"):
        return f.rate(value)
    if key.endswith("_gib"):
        return f.gib(value)
    if isinstance(value, int):
        return str(value)
    if "." in key and not which:  # a parameter
        return f.short(value) if abs(value) < 0.001 else f"{value:g}"
    return f.number(value) if abs(value) >= 0.001 or value == 0 else f.short(value)


def width_of(name: str, values: Iterable[Any]) -> int:
    """Cells of the longest of these values, as far as a column goes."""
    different = {value for value in values if not isinstance(value, float)}
    return max((len(text_of(name, value)) for value in different), default=1)
