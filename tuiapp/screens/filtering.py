"""The filter of Home while it is typed: asked for when the typing pauses, completed from what there is."""

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from textual.timer import Timer

from tuiapp.background import in_thread
from tuiapp.completing import STATES, STATUSES, Completion, completion
from tuiapp.snapshot import RunLine
from tuiapp.widgets.line_field import LineField

if TYPE_CHECKING:
    from tuiapp.screens.home import HomeScreen

PAUSE = 0.12
"""Seconds without a key after which a filter is asked for."""
TEXTS = {
    "name": lambda run: run.name, "model": lambda run: run.model, "method": lambda run: run.method,
    "data": lambda run: run.dataset, "dataset": lambda run: run.dataset, "sweep": lambda run: run.sweep_name or run.sweep,
    "id": lambda run: run.id,
}  # fmt: skip
"""Fields whose values are completed from the rows of the runs."""


class Filtering:
    """Belongs to the screen."""

    def __init__(self, home: "HomeScreen") -> None:
        self._home = home
        self._names: tuple[str, ...] = ()
        self._timer: Timer | None = None

    def begin(self) -> None:
        """Find what there is to name; a run may have brought something new."""

        async def find() -> None:
            await self.names()
            self._home.draw()

        self._home.run_worker(find(), group="names", exclusive=True, exit_on_error=False)

    async def names(self) -> tuple[str, ...]:
        """Every field that runs here have."""
        found = await in_thread(lambda: self._home.deck.services.records.names(None))
        self._names = found.all
        return self._names

    def stop(self) -> None:
        """What was typed last is not asked for any more."""
        if self._timer is not None:
            self._timer.stop()

    def typed(self, text: str) -> None:
        """Ask soon."""
        self.stop()
        self._timer = self._home.set_timer(PAUSE, lambda: self._ask(text))
        self._home.draw()

    def take(self, text: str) -> None:
        """Enter: ask now."""
        self._ask(text)

    def _ask(self, text: str) -> None:
        home = self._home
        if home.view.filter != text.strip():
            home.turn_to(replace(home.view, filter=text.strip()))

    def completion(self, field: LineField) -> Completion:
        """What the text could go on with."""
        return completion(field.value, field.cursor_position, self._names, self._values)

    def complete(self, field: LineField) -> None:
        """Tab: as much as all possibilities agree on."""
        found = self.completion(field)
        field.value, field.cursor_position = found.taken(field.value, field.cursor_position)

    def _values(self, name: str) -> Iterable[str]:
        snapshot = self._home.snapshot
        runs: tuple[RunLine, ...] = snapshot.runs if snapshot is not None else ()
        match name:
            case "status":
                return STATUSES
            case "is":
                return STATES
            case "has":
                return self._names
            case "tag" | "tags":
                return sorted({tag for run in runs for tag in run.tags})
        of_run = TEXTS.get(name)
        return sorted({of_run(run) for run in runs}) if of_run is not None else ()
