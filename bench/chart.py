"""`python -m bench.chart [--python OTHER]`: what a redraw of our chart costs beside one of textual-plot, over a pseudo-terminal.

A chart over the whole of 80x24 gets one point more, a hundred times. Bytes are those that the terminal is sent, time is that of
the process. textual-plot is no dependency: `--python` names an interpreter that has it (`python -m venv`, `pip install
textual-plot`); without one its rows are left out.
"""

import argparse
import fcntl
import json
import os
import pty
import select
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterator
from pathlib import Path

from bench.table import median, publish

REDRAWS = 100
CHILD = Path(__file__).with_name("chart_child.py")
ROOT = CHILD.parent.parent


def _read(terminal: int, patience: float) -> Iterator[int]:
    """How many bytes come, until none has come for so many seconds or the other side is gone."""
    while select.select([terminal], [], [], patience)[0]:
        try:
            data = os.read(terminal, 65536)
        except OSError:
            return
        if not data:
            return
        yield len(data)


def one(python: str, which: str, points: int, result: Path) -> tuple[float, float]:
    """(bytes, milliseconds of CPU) of a redraw."""
    command = [python, str(CHILD), which, str(points), str(REDRAWS), str(result)]
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(TERM="xterm-256color", COLORTERM="truecolor", COLUMNS="80", LINES="24", PYTHONPATH=str(ROOT))
        os.execv(python, command)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    sum(_read(terminal, 5.0 if not result.exists() else 1.5))  # the first picture
    os.write(terminal, b"g")
    sent = sum(_read(terminal, 2.0))
    os.waitpid(pid, 0)
    os.close(terminal)
    return sent / REDRAWS, json.loads(result.read_text())["ms"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", default=sys.executable, help="an interpreter that has textual-plot")
    python = parser.parse_args().python
    there = subprocess.run([python, "-c", "import textual_plot"], capture_output=True, check=False).returncode == 0
    rows = []
    for which, interpreter in (("ours", sys.executable), ("textual-plot", python)):
        for points in (262, 10_000) if which == "ours" or there else ():
            with tempfile.TemporaryDirectory() as directory:
                found = [one(interpreter, which, points, Path(directory) / "result.json") for _ in range(3)]
            sent, took = (median([pair[i] for pair in found]) for i in (0, 1))
            rows.append([f"{which}, {points:,} points", f"{sent:,.0f}", f"{took:.1f}"])
    notes = [] if there else ["textual-plot is not installed there: its rows are left out."]
    publish(
        "chart",
        f"A redraw of a chart over 80x24, median of 3 times {REDRAWS}",
        ["what", "bytes", "ms of CPU"],
        rows,
        notes,
    )


if __name__ == "__main__":
    main()
