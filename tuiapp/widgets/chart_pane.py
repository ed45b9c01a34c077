"""A pane with a chart: its numbers follow every snapshot, its curves only as often as a slow line bears."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from textual.content import Content

from tuiapp.snapshot import RunDetail
from tuiapp.widgets.curves import loss_chart, loss_title, points_words
from tuiapp.widgets.live_state import LiveState
from tuiapp.widgets.pane import FocusPane, Look

CELLS_A_SECOND = 190
"""A chart of so many cells is drawn once a second: about 1.6 KB/s, whatever the size of the terminal."""


class ChartPane(FocusPane[LiveState]):
    """Draws the curves anew at once where the person changed something, else when its time has come."""

    def __init__(self, build: Callable[[LiveState, Look], list[Content]], *, id: str, help_text: str = "") -> None:  # noqa: A002
        super().__init__(build, id=id, help_text=help_text)
        self._charted: RunDetail | None = None
        self._manner: object = None
        self._at = 0.0
        self._made: dict[object, Any] = {}

    def feed(self, state: LiveState) -> None:
        """Draw a new state."""
        run, before, now = state.detail.run, self._charted, time.monotonic()
        pinned = state.baseline.run.id if state.baseline is not None else ""
        manner = (run.id, run.status, state.view, state.log, state.smoothing, state.x, pinned, self.size)
        due = now - self._at >= self.size.area / CELLS_A_SECOND
        if before is None or not before.curves or manner != self._manner or due:
            self._charted, self._manner, self._at, self._made = state.detail, manner, now, {}
        super().feed(replace(state, charted=self._charted, made=self._made))


class LossPane(ChartPane):
    """The large chart; `points` says how much of the curve can be seen."""

    def __init__(self, *, id: str, help_text: str) -> None:  # noqa: A002
        super().__init__(self._whole, id=id, help_text=help_text)
        self.points = ""

    def _whole(self, state: LiveState, look: Look) -> list[Content]:
        drawing = state.once((look.width, look.height, look.charts), lambda: loss_chart(state, look))
        self.points = points_words(state, drawing.drawn)
        return [loss_title(state, look, self.points), *drawing.lines]
