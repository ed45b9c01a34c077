"""A function over many items in several processes, in order, and never far ahead of whoever reads the results."""

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import Any, TypeVar

from engine.errors import RunError
from engine.processes import die_with_parent

Item = TypeVar("Item")
Made = TypeVar("Made")
MOST = 8
"""Processes: more of them wait for the one that reads and writes."""


def ordered(function: Callable[[Item], Made], items: Iterable[Item]) -> Iterator[tuple[Item, Made]]:
    """(item, result) for each item. The second item starts the processes: a single one is quicker without.

    `function` and what it holds are inherited by forking, so they need not be picklable; items and results are pickled.
    A process that is killed, for memory say, raises RunError: multiprocessing.Pool would wait for it for ever.
    """
    rest = iter(items)
    first = list(islice(rest, 2))
    workers = min(MOST, len(os.sched_getaffinity(0)))
    if len(first) < 2 or workers < 2:
        for item in (*first, *rest):
            yield item, function(item)
        return
    _Held.function = function
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("fork"), die_with_parent)
    try:
        waiting: deque[tuple[Item, Future[Made]]] = deque()
        for item in (*first, *islice(rest, 2 * workers - 2)):
            waiting.append((item, pool.submit(_call, item)))
        while waiting:
            item, result = waiting.popleft()
            yield item, _result(result)
            for one in islice(rest, 1):
                waiting.append((one, pool.submit(_call, one)))
    finally:
        pool.shutdown(cancel_futures=True)


def _result(result: Future[Made]) -> Made:
    try:
        return result.result()
    except BrokenProcessPool:
        raise RunError(
            "A process that prepared rows was killed", "Most often the host has run out of memory.",
            "Free some memory, then: tunedeck resume",
        ) from None  # fmt: skip


class _Held:
    """What the forked processes find in their memory."""

    function: Callable[[Any], Any]


def _call(item: Any) -> Any:
    return _Held.function(item)
