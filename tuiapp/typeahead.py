"""Keys that are typed ahead reach what they are for.

Textual hands a key to the widget with the focus and goes on with the next one before that has done anything: of keys that come
together, as over a slow link, the second is for a screen that the first has already left. Here each waits for the one before.
"""

import asyncio
from collections import deque

from textual import events
from textual.app import App
from textual.message_pump import MessagePump
from textual.timer import Timer

PATIENCE = 0.3
"""Seconds after which a key counts as dealt with whatever became of it."""
READY_TRIES, READY_PAUSE = 500, 0.005
"""How often and how long, in seconds, a key waits for a screen that is being made."""


class TypeAhead(App[None]):
    """An app that deals with one key after the other."""

    def __init__(self) -> None:
        super().__init__()
        self._ahead: deque[events.Key | events.Paste] = deque()
        self._under_way: events.Key | events.Paste | None = None
        self._patience: Timer | None = None

    async def on_event(self, event: events.Event) -> None:
        """A fresh key waits for its turn; one that nobody wanted comes back and is dealt with."""
        if not isinstance(event, events.Key | events.Paste):
            await super().on_event(event)
        elif event.is_forwarded:
            await super().on_event(event)
            self._dealt_with(event)
        elif self._under_way is not None:
            self._ahead.append(event)
        else:
            await self._press(event)

    async def _press(self, event: events.Key | events.Paste) -> None:
        self._under_way = event
        for _ in range(READY_TRIES):
            if self.screen.is_mounted and getattr(self.screen, "ready", True):
                break
            await asyncio.sleep(READY_PAUSE)
        target: MessagePump = self.focused or self.screen
        await super().on_event(event)
        if not event.is_forwarded:  # a priority binding did it
            self._dealt_with(event)
            return
        self._patience = self.set_timer(PATIENCE, lambda: self._dealt_with(event))
        target.call_later(self._seen, event)  # behind the key in the queue of that widget

    def _seen(self, event: events.Key | events.Paste) -> None:
        """The widget has had it: it took it, or it comes back through its parents."""
        if event._stop_propagation or isinstance(event, events.Paste):
            self._dealt_with(event)

    def _dealt_with(self, event: events.Key | events.Paste) -> None:
        if event is not self._under_way:
            return
        if self._patience is not None:
            self._patience.stop()
        # the next has its turn from now on, also before a newer one that arrives meanwhile
        self._under_way = self._ahead.popleft() if self._ahead else None
        if self._under_way is not None:
            self.call_later(self._press, self._under_way)
