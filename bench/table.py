"""What every benchmark prints: the machine, and a Markdown table of medians."""

import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from engine.hardware import probe
from engine.report import table

RESULTS = Path(__file__).parent / "results"


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def spread(values: Sequence[float], digits: int = 2) -> str:
    """`1.23 (1.20–1.31)`: the median, the least and the most."""
    return f"{median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def publish(
    name: str, title: str, head: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str] = ()
) -> None:
    """Print the table and keep it, dated, with the machine's description."""
    machine = probe()
    cards = ", ".join(g.name for g in machine.gpus) or "no GPU"
    where = f"{time.strftime('%Y-%m-%d')}, {machine.cpu}, {machine.cores} cores, {machine.ram_total:.0f} GiB, {cards}"
    text = "\n".join([title, where, "", table(head, rows, right=range(1, len(head))), *(f"\n{note}" for note in notes)])
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{time.strftime('%Y-%m-%d')}-{name}.txt").write_text(text + "\n", encoding="utf-8")
    print(text)
