"""A function over many items in several processes, in order, and never far ahead of whoever reads the results."""

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

from engine.processes import die_with_parent

Item = TypeVar("Item")
Made = TypeVar("Made")
MOST = 8
"""Processes: more of them wait for the one that reads and writes."""


def ordered(function: Callable[[Item], Made], items: Iterable[Item]) -> Iterator[tuple[Item, Made]]:
    """(item, result) for each item. The second item starts the processes: a single one is quicker without.

    `function` and what it holds are inherited by forking, so they need not be picklable; items and results are pickled.
    """
    rest = iter(items)
    first = list(islice(rest, 2))
    workers = min(MOST, len(os.sched_getaffinity(0)))
    if len(first) < 2 or workers < 2:
        for item in (*first, *rest):
            yield item, function(item)
        return
    _Held.function = function
    with multiprocessing.get_context("fork").Pool(workers, die_with_parent) as pool:
        waiting: deque[tuple[Item, Any]] = deque()
        for item in (*first, *islice(rest, 2 * workers - 2)):
            waiting.append((item, pool.apply_async(_call, (item,))))
        while waiting:
            item, result = waiting.popleft()
            yield item, result.get()
            for one in islice(rest, 1):
                waiting.append((one, pool.apply_async(_call, (one,))))


class _Held:
    """What the forked processes find in their memory."""

    function: Callable[[Any], Any]


def _call(item: Any) -> Any:
    return _Held.function(item)
