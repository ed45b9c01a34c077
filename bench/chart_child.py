"""A chart over the whole terminal that gets one point more at a time: `chart_child.py ours|textual-plot POINTS REDRAWS RESULT`.

It waits for a key before it begins. Imports nothing of TuneDeck for textual-plot, which may be in another environment.
"""

import json
import math
import sys
import time
from pathlib import Path

from textual.app import App, ComposeResult
from textual.widget import Widget

WHICH, POINTS, REDRAWS, RESULT = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
TOTAL = round(POINTS * 1.6)
PAUSE = 0.03
CURVE = [(float(i), 0.95 + 1.3 * math.exp(-i / POINTS * 6) + 0.04 * math.sin(i * 1.7)) for i in range(POINTS + REDRAWS)]


class Bench(App[None]):
    """Draws CURVE up to one point more at each redraw."""

    ascii = False
    redraws = 0

    def compose(self) -> ComposeResult:
        yield self.chart()

    def chart(self) -> Widget:
        raise NotImplementedError

    def show(self, count: int) -> None:
        raise NotImplementedError

    def on_mount(self) -> None:
        self.call_after_refresh(self.show, POINTS)

    def on_key(self) -> None:
        self.began = time.process_time()
        self.timer = self.set_interval(PAUSE, self.more)

    def more(self) -> None:
        if self.redraws == REDRAWS:
            self.timer.stop()
            seconds = time.process_time() - self.began
            RESULT.write_text(json.dumps({"ms": 1000 * seconds / REDRAWS}))
            self.exit()
            return
        self.redraws += 1
        self.show(POINTS + self.redraws)


def ours() -> Bench:
    from tuiapp.widgets.chart import Axes, Series, chart
    from tuiapp.widgets.rows import Rows

    class Ours(Bench):
        def chart(self) -> Widget:
            return Rows(id="chart")

        def show(self, count: int) -> None:
            rows = self.query_one(Rows)
            axes = Axes(float(TOTAL), x_unit="step")
            rows.show(chart([Series(tuple(CURVE[:count]), "blue")], rows.size.width, rows.size.height, axes))

    return Ours()


def theirs() -> Bench:
    from textual_plot import HiResMode, PlotWidget

    class Theirs(Bench):
        def chart(self) -> Widget:
            return PlotWidget()

        def show(self, count: int) -> None:
            plot = self.query_one(PlotWidget)
            plot.clear()
            plot.set_xlimits(0, TOTAL)
            plot.set_ylimits(0.8, 2.4)
            plot.plot([x for x, _ in CURVE[:count]], [y for _, y in CURVE[:count]], "blue", HiResMode.BRAILLE)

    return Theirs()


if __name__ == "__main__":
    (ours() if WHICH == "ours" else theirs()).run()
