"""`tunedeck lineage`: what a run comes from and what came of it."""

import argparse
from collections.abc import Callable
from typing import Any

from engine import lineage, report
from engine.lineage import Node
from engine.store import runs
from engine.text import clean

Verb = Callable[..., argparse.ArgumentParser]
SWEEP_GLYPHS = {"running": "●", "stopping": "◑", "finished": "✓", "stopped": "■", "failed": "✗"}


def add_verb(verb: Verb) -> None:
    """Add it to the parser."""
    parser = verb(
        "lineage", show, "what a run comes from and what came of it: forks, sweeps, resumes, and what changed"
    )
    parser.add_argument("run", metavar="RUN", help="id, unique beginning of one, or name")


def show(options: argparse.Namespace) -> int:
    from engine import cli

    db = cli.opened(options)
    run = runs.find(db, options.run)
    root = lineage.tree(db, run["id"])
    if options.json:
        cli.emit(as_json(root))
    else:
        print(drawn(root, run["id"]))
    return 0


def as_json(root: Node) -> dict[str, Any]:
    """The tree as nested objects. `changes` by path; `before` is left out where it means nothing."""
    made: dict[str, dict[str, Any]] = {}
    for node in reversed(list(root.walk())):
        changes = {one.path: {"after": one.after} if one.only_after else {"before": one.before, "after": one.after}
                   for one in node.changes}  # fmt: skip
        tries = [{"attempt": one.number, "time": one.time, "checkpoint": one.checkpoint or None, "ended": one.ended,
                  "changes": {c.path: {"before": c.before, "after": c.after} for c in one.changes}} for one in node.attempts]  # fmt: skip
        made[node.key] = {
            "id": node.id, "kind": node.kind, "name": node.name, "status": node.status or None, "created_at": node.created_at,
            "seconds": node.seconds, "eval_loss": node.eval_loss, "in_bin": node.in_bin, "starred": node.starred,
            "changes": changes, "attempts": tries, "children": [made[child.key] for child in node.children],
        }  # fmt: skip
    return made[root.key]


def drawn(root: Node, here: str = "") -> str:
    """The tree for people; the run with the id `here` is pointed at."""
    rows = []
    for line in lineage.lines(root):
        mark = "▸ " if line.node.id == here and line.attempt is None else "  "
        if line.attempt is not None:
            ended = f"  {line.attempt.ended}" if line.attempt.ended else ""
            rows.append(f"{mark}{line.lead}{line.attempt.text}{ended}")
        else:
            rows.append(f"{mark}{line.lead}{'   '.join(part for part in words(line.node) if part)}")
    return clean("\n".join(rows))


def words(node: Node) -> tuple[str, str, str, str]:
    """(name, status, result, what changed) of a node, each in a few words or empty."""
    name = clean(node.name, keep_lines=False)
    if node.kind == "gone":
        return f"– {name}", "deleted", "", ""
    if node.kind == "sweep":
        runs_ = f"sweep of {len(node.children)} run{'s' if len(node.children) != 1 else ''}"
        return f"{SWEEP_GLYPHS.get(node.status, '–')} {name}", " ".join([runs_, node.status]).strip(), "", ""
    status = f"{node.status}, in the bin" if node.in_bin else node.status
    best = f"eval {node.eval_loss:.3f}" if node.eval_loss is not None else ""
    return f"{report.GLYPHS[node.status]} {'★ ' if node.starred else ''}{name}", status, best, node.text
