"""`python -m bench.app`: what the app costs: first paint, key to paint, bytes and CPU while a run is watched, 10,000 runs.

Everything in a pseudo-terminal with 256 colours, as over SSH. The watched run is played by bench.replay at real speed, a
step a second. Aims: below 5 KB/s at 80x24 and below 5 % of a core while watching. `--seconds` shortens the watching.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.startup import BARE, fill
from bench.table import median, publish, spread
from bench.terminal import Terminal

ROUNDS, PRESSES = 7, 40
SMALL, WIDE = (80, 24), (160, 48)
MANY, FEW = 10_000, 40
F2, FOCUS_OUT, FOCUS_IN = "\x1bOQ", "\x1b[O", "\x1b[I"
Row = list[str]


def app(database: Path) -> list[str]:
    return [sys.executable, "-m", "tuiapp", "--db", str(database)]


@contextmanager
def opened(command: list[str], size: tuple[int, int], shows: str) -> Iterator[Terminal]:
    """The program once it shows this text."""
    terminal = Terminal(command, size)
    try:
        terminal.until(shows)
        terminal.quiet()
        yield terminal
    finally:
        terminal.close()


@contextmanager
def played(database: Path) -> Iterator[None]:
    """While a run is being played."""
    command = [sys.executable, "-m", "bench.replay", str(database)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as replay:
        try:
            assert replay.stdout is not None
            replay.stdout.readline()
            yield
        finally:
            replay.kill()


def first_paint(command: list[str], shows: str) -> float:
    """Milliseconds from starting the process to this text."""
    terminal = Terminal(command, SMALL)
    try:
        terminal.until(shows)
        return 1000 * (time.perf_counter() - terminal.began)
    finally:
        terminal.close()


def in_turn(cases: dict[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Each case once a round, so that what the machine does meanwhile hits all alike; the first round warms up."""
    took: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(1 + ROUNDS):
        for name, case in cases.items():
            took[name].append(case())
    return {name: times[1:] for name, times in took.items()}


def paints(few: Path, many: Path) -> list[Row]:
    took = in_turn({
        "bare Textual app": lambda: first_paint([sys.executable, "-c", BARE], "TuneDeck"),
        "first screenful": lambda: first_paint(app(few), "TuneDeck"),
        f"the list of {FEW} runs": lambda: first_paint(app(few), f"run-{FEW - 1:04}"),
        f"the list of {MANY:,} runs": lambda: first_paint(app(many), f"run-{MANY - 1:04}"),
    })  # fmt: skip
    return [[f"first paint, {name}", spread(times, 0), "", "ms"] for name, times in took.items()]


def key_row(name: str, times: list[float]) -> Row:
    ms = sorted(1000 * one for one in times)
    return [f"key to paint, {name}", f"{median(ms):.1f}", f"{statistics.quantiles(ms, n=20)[-1]:.1f}", "ms"]


def keys(few: Path, many: Path) -> list[Row]:
    """j in the list; a value on the Plan page, where the whole page follows."""
    rows = []
    for name, database, count in ((f"j among {FEW} runs", few, FEW), (f"j among {MANY:,} runs", many, MANY)):
        with opened(app(database), SMALL, f"run-{count - 1:04}") as terminal:
            rows.append(key_row(name, [terminal.paint("j" if i < 30 else "k", "▸") for i in range(PRESSES)]))
    with opened(app(many), SMALL, f"run-{MANY - 1:04}") as terminal:
        terminal.paint("/")
        rows.append(key_row(f"filter among {MANY:,}", [terminal.paint(one) for one in "run-9" * 2]))
    with opened(app(few), SMALL, f"run-{FEW - 1:04}") as terminal:
        terminal.send(F2)
        terminal.quiet()
        for text in ("llama-3.1-8b", F2):
            terminal.send(text)
            terminal.quiet(0.5)
        terminal.send("jj")  # to a value with many settings
        rows.append(key_row("a value on Plan", [terminal.paint("l" if i % 4 < 2 else "h") for i in range(PRESSES)]))
    return rows


def watching(database: Path, size: tuple[int, int], seconds: float) -> list[Row]:
    """Home and Live on a run that goes on, then Live with nobody looking."""
    rows = []
    with played(database), opened(app(database), size, "replayed") as terminal:
        for name, before in (("Runs", ""), ("Live", "\r"), ("Live, without focus", FOCUS_OUT)):
            terminal.send(before)
            terminal.quiet(0.3, 5)
            count, cpu = terminal.watch(seconds)
            where = f"watching {name}, {size[0]}x{size[1]}"
            rows.append([f"{where}: sent", f"{count / seconds / 1000:.2f}", "", "KB/s"])
            rows.append([f"{where}: CPU", f"{100 * cpu / seconds:.1f}", "", "% of a core"])
        rows.append([f"memory, {size[0]}x{size[1]}", f"{terminal.memory():.0f}", "", "MiB"])
    return rows


def many_runs(database: Path, seconds: float) -> list[Row]:
    """The long list with nothing going on, then with a run that writes each second."""
    rows = []
    with opened(app(database), SMALL, f"run-{MANY - 1:04}") as terminal:
        terminal.quiet(1.5, 30)
        count, cpu = terminal.watch(seconds)
        rows.append([f"{MANY:,} runs, none at work: CPU", f"{100 * cpu / seconds:.1f}", "", "% of a core"])
        rows.append([f"{MANY:,} runs: memory", f"{terminal.memory():.0f}", "", "MiB"])
        with played(database):
            terminal.until("replayed")
            terminal.quiet(0.5, 5)
            count, cpu = terminal.watch(seconds)
        rows.append([f"{MANY:,} runs, one at work: CPU", f"{100 * cpu / seconds:.1f}", "", "% of a core"])
        rows.append([f"{MANY:,} runs, one at work: sent", f"{count / seconds / 1000:.2f}", "", "KB/s"])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60, help="how long is watched")
    parser.add_argument("--only", choices=["paints", "keys", "watching", "many"], help="nothing is kept then")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        # as where it is installed: compiled once
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = f"{name}/compiled"
        few, many, watched = (Path(name) / one / "experiments.db" for one in ("few", "many", "watched"))
        for database, count in ((few, FEW), (many, MANY), (watched, FEW)):
            database.parent.mkdir()
            fill(database, count)
        parts: dict[str, Callable[[], list[Row]]] = {
            "paints": lambda: paints(few, many),
            "keys": lambda: keys(few, many),
            "watching": lambda: [*watching(watched, SMALL, options.seconds), *watching(few, WIDE, options.seconds)],
            "many": lambda: many_runs(many, options.seconds),
        }
        rows = [row for part, measured in parts.items() if options.only in (None, part) for row in measured()]
    title = f"The app in a pseudo-terminal; median (least–most) of {ROUNDS} starts, median of {PRESSES} keys"
    head = ["what", "median", "95 %", "unit"]
    if options.only:
        print(*("  ".join(row) for row in rows), sep="\n")
    else:
        publish("app", title, head, rows, ["Aims: below 5 KB/s at 80x24 and below 5 % of a core while watching."])


if __name__ == "__main__":
    main()
