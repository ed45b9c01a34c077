"""Work that may block, away from the event loop, in threads that cannot hold up quitting."""

import asyncio
from collections.abc import Callable
from functools import partial
from threading import Event, Thread
from typing import Protocol, TypeVar

from textual.message import Message

from engine.errors import TuneDeckError
from tuiapp.after_values import AfterQuestion
from tuiapp.list_snapshot import Asked
from tuiapp.messages import CollectFailed, SnapshotArrived
from tuiapp.snapshot import Snapshot

K = TypeVar("K")
T = TypeVar("T")

PERIOD = 1.0


async def in_thread(call: Callable[[], T]) -> T:
    """The result of a blocking call. Its thread is a daemon: who stops waiting for it can leave."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]  # None only where T allows it

    def work() -> None:
        result, error = None, None
        try:
            result = call()
        except Exception as raised:
            error = raised
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, result, error)

    Thread(target=work, daemon=True).start()
    return await future


async def settle(
    question: Callable[[], K | None], answer: Callable[[K], T], take: Callable[[K, T], None], pause: float = 0.0
) -> None:
    """Ask a blocking call one question after the other until there is none; the question may change meanwhile.

    With a `pause` only what has stayed the question for so many seconds is asked.
    """
    while (asked := question()) is not None:
        await asyncio.sleep(pause)
        if asked == question():
            take(asked, await in_thread(partial(answer, asked)))


def sentence(error: Exception) -> str:
    """An error in a sentence: ours are written for people, others at least say what they are."""
    if isinstance(error, TuneDeckError):
        return " ".join(part for part in (f"{error.title}: {error.message}", error.hint) if part)
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


class Source(Protocol):
    """Where snapshots come from."""

    def ask(self, asked: Asked) -> None:
        """What the list of runs needs of the snapshots from now on."""

    def follow(self, asked: AfterQuestion | None) -> None:
        """What the snapshots tell from now on of a run after its training; None nothing."""

    def snapshot(self, selected: str | None, baseline: str | None = None) -> Snapshot:
        """Everything as it is now: one run in detail, and the curves of another to compare it with."""


class Collector:
    """One thread that looks once a second, or at once when asked, and posts what it saw."""

    def __init__(self, source: Source, post: Callable[[Message], object]) -> None:
        self._source = source
        self._post = post
        self._wake = Event()
        self._stopped = False
        self._selected: str | None = None
        self._baseline: str | None = None
        self._asked: Asked | None = None
        self._after: AfterQuestion | None = None

    def start(self) -> None:
        """Look for the first time and go on looking."""
        Thread(target=self._loop, name="collector", daemon=True).start()

    def select(self, run_id: str | None) -> None:
        """Look at this run in detail, now."""
        if run_id != self._selected:
            self._selected = run_id
            self._wake.set()

    def pin(self, run_id: str | None) -> None:
        """Bring this run's curves with every look, from now."""
        if run_id != self._baseline:
            self._baseline = run_id
            self._wake.set()

    def ask(self, asked: Asked) -> None:
        """Bring with every look what the list of runs needs, from now."""
        if asked != self._asked:
            self._asked = asked
            self._wake.set()

    def follow(self, asked: AfterQuestion | None) -> None:
        """Bring with every look what was done with a run after its training, from now."""
        if asked != self._after:
            self._after = asked
            self._wake.set()

    def look(self) -> None:
        """Look at once: a key changed something."""
        self._wake.set()

    def stop(self) -> None:
        """Look no more; a look that is under way is not waited for."""
        self._stopped = True
        self._wake.set()

    def _loop(self) -> None:
        while not self._stopped:
            message = self._once()
            if not self._stopped:
                self._post(message)
                self._wake.wait(PERIOD)
                self._wake.clear()

    def _once(self) -> Message:
        try:
            if self._asked is not None:
                self._source.ask(self._asked)
            self._source.follow(self._after)
            return SnapshotArrived(self._source.snapshot(self._selected, self._baseline))
        except Exception as error:  # whatever it was, the app stays and says so
            return CollectFailed(sentence(error))
