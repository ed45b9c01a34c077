"""`python -m bench.store.screens`: the app on 10,000 runs and 20 million points, from a key to what it asked for.

In a pseudo-terminal of 160x48. A key's time is that until the screen shows a text that was not there before, so it holds
the typing, the question to the database and the drawing.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from bench.store import fill
from bench.table import publish, spread
from bench.terminal import Terminal
from engine.store import query
from engine.store.connection import open_database

SIZE, ROUNDS = (160, 48), 5
FILTER = "eval_loss<1.2 lr<3e-4"
NEWEST, LONGEST = f"run-{fill.RUNS - 1:05}", "100,000"


def times(terminal: Terminal, keys: str, shows: str, back: str, rounds: int = ROUNDS) -> list[float]:
    """Milliseconds until the text has come; `back` leads to where it is not shown. The first round warms up."""
    took = []
    for _ in range(rounds + 1):
        took.append(1000 * terminal.paint(keys, shows, 20))
        terminal.quiet(0.3)
        terminal.send(back)
        terminal.quiet(0.3)
    return took[1:]


def starts(command: list[str]) -> list[float]:
    """Milliseconds from starting the app to the newest run's row."""
    took = []
    for _ in range(ROUNDS):
        terminal = Terminal(command, SIZE)
        try:
            took.append(1000 * terminal.until(NEWEST))
        finally:
            terminal.close()
    return took


def measure(database: Path) -> list[list[str]]:
    command = [sys.executable, "-m", "tuiapp", "--db", str(database)]
    rows = [["the app's start, until the list is there", spread(starts(command), 0), ""]]
    terminal = Terminal(command, SIZE)
    try:
        terminal.until(NEWEST)
        terminal.quiet(2.0, 60)
        few = f"{len(query.select(open_database(database), FILTER)):,}"
        asked = {
            "open the run under the cursor, 100,000 steps": ("\r", LONGEST, "q", 100),
            "compare ten runs of 100,000 steps": ("c", "Differs", "q", 300),
            f"filter: {FILTER}, typed at once, Enter included": (f"/{FILTER}\r", f" of {few}", "\x1b", 200),
            "order by another column (o)": ("o", "↑", "", 200),
        }
        terminal.send(
            " j" * fill.LONG + "gjj"
        )  # the newest are the longest: they are marked; the third of them has no error
        terminal.quiet()
        for name, (keys, shows, back, aim) in asked.items():
            rows.append([name, spread(times(terminal, keys, shows, back), 0), f"{aim} ms"])
    finally:
        terminal.close()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", type=Path, help="one that bench.store.fill made")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        database = Path(name) / "experiments.db"
        if options.database:
            shutil.copy(options.database, database)
        else:
            fill.fill(database)
        rows = measure(database)
    publish("store-screens", f"The app on {fill.RUNS:,} runs and {fill.POINTS:,} points, {SIZE[0]}x{SIZE[1]}",
            ["what", "ms, median (least–most)", "aim"], rows)  # fmt: skip


if __name__ == "__main__":
    main()
