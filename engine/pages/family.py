"""Which runs the reported ones come from and what came of them, as lines of text."""

import sqlite3
from collections.abc import Sequence

from engine import lineage
from engine.errors import RunError
from engine.lineage import Line
from engine.report import number
from engine.text import clean

LINES = 60


def of_run(db: sqlite3.Connection, run_id: str) -> str:
    """The run's whole tree, of a large one the way to it; "" for a run that stands alone."""
    try:
        root = lineage.tree(db, run_id)
    except RunError:
        return ""
    drawn = lineage.lines(root)
    if len(drawn) > LINES:
        drawn = lineage.lines(lineage.shortened(root, {root.id, run_id}))
    return _text(drawn, {run_id}) if len(drawn) > 1 else ""


def of_runs(db: sqlite3.Connection, ids: Sequence[str]) -> str:
    """How those of the runs that are related hang together."""
    trees = [lineage.lines(root) for root in lineage.of(db, ids)]
    return "\n".join(_text(drawn, set(ids)) for drawn in trees if len(drawn) > 1)


def _text(drawn: Sequence[Line], reported: set[str]) -> str:
    lines = [_line(one, reported) for one in drawn[:LINES]]
    return "\n".join([*lines, *([f"and {len(drawn) - LINES} more"] if len(drawn) > LINES else [])])


def _line(one: Line, reported: set[str]) -> str:
    if one.attempt:
        return f"{one.lead}{clean(one.attempt.text, False)}"
    node = one.node
    mark = "▸ " if node.id in reported else ""
    loss = f"eval loss {number(node.eval_loss)}" if node.eval_loss is not None else ""
    parts = [
        f"{mark}{clean(node.name, False)}",
        "gone" if node.kind == "gone" else node.status,
        loss,
        clean(node.text, False),
    ]
    return one.lead + "   ".join(part for part in parts if part)
