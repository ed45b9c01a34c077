"""Which run comes from which: forks, sweeps and resumes as a tree, with what changed at each step. Light to import.

Pure over rows, but for `tree` and `of`, which read them.
"""

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from engine import short
from engine.errors import RunError
from engine.store import lineage as store

Kind = Literal["run", "sweep", "gone"]
Link = tuple[str, str | None, str | None]
FOLLOWS = ("evaluation.prompts",)
"""Fields in which a difference says nothing about what somebody changed."""
SWEEP = "sweep:"
"""Before the id of a sweep, where runs and sweeps stand in one tree."""


@dataclass(frozen=True)
class Change:
    """A field that is other than in what the run comes from: values as they are stored, None for open or missing.

    `only_after`: what it was before is not known or means nothing, as for the points of a sweep.
    """

    path: str
    before: Any
    after: Any
    only_after: bool = False

    @property
    def text(self) -> str:
        """`rank 8 → 16`, `lr 2e-4`."""
        if self.only_after:
            return f"{short.field(self.path)} {short.value(self.after)}"
        return short.change(self.path, self.before, self.after)


@dataclass(frozen=True)
class Attempt:
    """A time that the run's worker was started: from `checkpoint` (a name, "" for the beginning), and how that ended."""

    number: int
    time: float
    checkpoint: str
    changes: tuple[Change, ...]
    ended: str = ""

    @property
    def text(self) -> str:
        """`attempt 2 from checkpoint-120: micro_batch 4 → 2`."""
        words = f"attempt {self.number} " + (f"from {self.checkpoint}" if self.checkpoint else "from the beginning")
        return words + (f": {', '.join(one.text for one in self.changes)}" if self.changes else "")


@dataclass(frozen=True)
class Node:
    """A run, a sweep, or a run that is no longer there; `id` is a run's or sweep's, `key` is unlike for all of a tree.

    `changes` are against what stands above it; `forked`: that is a run whose settings are known. `attempts` of a run that
    was started once are left out.
    """

    id: str
    kind: Kind
    name: str
    status: str = ""
    changes: tuple[Change, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    children: tuple["Node", ...] = ()
    created_at: float | None = None
    seconds: float | None = None
    eval_loss: float | None = None
    in_bin: bool = False
    starred: bool = False
    forked: bool = False

    @property
    def key(self) -> str:
        return SWEEP + self.id if self.kind == "sweep" else self.id

    @property
    def text(self) -> str:
        """What changed, in one line."""
        return ", ".join(one.text for one in self.changes) or ("nothing changed" if self.forked else "")

    def walk(self) -> Iterable["Node"]:
        """This node and all below it, in the order in which they are drawn."""
        todo = [self]
        while todo:
            node = todo.pop()
            yield node
            todo += node.children[::-1]


@dataclass(frozen=True)
class Line:
    """A line of a tree as it is drawn: `lead` are its branches. `attempt`: the line is about that, not about the node."""

    lead: str
    node: Node
    attempt: Attempt | None = None


def tree(db: sqlite3.Connection, run_id: str) -> Node:
    """Everything that is related to a run, from the oldest on. Raises RunError."""
    if not store.runs(db, [run_id]):
        raise RunError("There is no such run", f"No run has the id '{run_id}'.", "List them: tunedeck runs")
    links = store.links(db)
    root = root_of(run_id, links)
    keys = below(root, links)
    return _made(db, root, keys, links)


def of(db: sqlite3.Connection, ids: Sequence[str]) -> tuple[Node, ...]:
    """The trees of these runs, with only these and what is needed to connect those that are related."""
    links = store.links(db)
    roots = list(dict.fromkeys(root_of(one, links) for one in ids))
    return tuple(shortened(one, set(ids)) for root in roots for one in [_made(db, root, below(root, links), links)])


def root_of(run_id: str, links: Sequence[Link]) -> str:
    """The key of the oldest that is known of; where parents go in a circle, the last before it closes."""
    above, seen = parents(links), {run_id}
    key = run_id
    while (higher := above.get(key)) is not None and higher not in seen:
        seen.add(higher)
        key = higher
    return key


def parents(links: Sequence[Link]) -> dict[str, str]:
    """By key what a run comes from: the run that it is a fork of, else its sweep."""
    return {run_id: parent or f"{SWEEP}{sweep}" for run_id, parent, sweep in links}


def below(root: str, links: Sequence[Link]) -> dict[str, list[str]]:
    """The keys under each key of the tree, every key once."""
    children: dict[str, list[str]] = {}
    for run_id, parent in parents(links).items():
        children.setdefault(parent, []).append(run_id)
    found: dict[str, list[str]] = {}
    seen, todo = {root}, [root]
    while todo:
        key = todo.pop()
        found[key] = [one for one in children.get(key, ()) if one not in seen]
        seen.update(found[key])
        todo += found[key]
    return found


def _made(db: sqlite3.Connection, root: str, keys: Mapping[str, Sequence[str]], links: Sequence[Link]) -> Node:
    ids = [key for key in keys if not key.startswith(SWEEP)]
    sweeps = store.sweeps(db, [key.removeprefix(SWEEP) for key in keys if key.startswith(SWEEP)])
    about = _About(store.runs(db, ids), sweeps, store.parameters(db, ids), store.attempts(db, ids))
    return about.node(root, keys, None)


@dataclass(frozen=True)
class _About:
    """Rows by id."""

    runs: Mapping[str, Mapping[str, Any]]
    sweeps: Mapping[str, Mapping[str, Any]]
    parameters: Mapping[str, Mapping[str, str | None]]
    attempts: Mapping[str, Sequence[Mapping[str, Any]]]

    def node(self, root: str, keys: Mapping[str, Sequence[str]], above: str | None) -> Node:
        """A node with all below it; without recursion, as a chain of forks may be long."""
        order, todo = list[tuple[str, str | None]](), [(root, above)]
        while todo:
            key, over = todo.pop()
            order.append((key, over))
            todo += [(child, key) for child in keys.get(key, ())]
        made: dict[str, Node] = {}
        for key, over in reversed(order):
            children = tuple(made[child] for child in keys.get(key, ()))
            made[key] = replace(self._alone(key, over, keys.get(over or "", ())), children=children)
        return made[root]

    def _alone(self, key: str, above: str | None, siblings: Sequence[str]) -> Node:
        if key.startswith(SWEEP):
            sweep_id = key.removeprefix(SWEEP)
            row = self.sweeps.get(sweep_id)
            if row is None:
                return Node(sweep_id, "sweep", f"sweep {sweep_id}")
            return Node(sweep_id, "sweep", row["name"], row["status"], created_at=row["created_at"])
        run = self.runs.get(key)
        if run is None:
            return Node(key, "gone", key)
        ended, started, best = run["ended_at"], run["started_at"], run["eval_loss"]
        return Node(
            key, "run", run["name"], run["status"], self._changes(key, above, siblings), self._attempts(key),
            created_at=run["created_at"], seconds=ended - started if ended and started else None,
            eval_loss=best if isinstance(best, float | int) else None, in_bin=run["deleted_at"] is not None,
            starred=bool(run["starred"]), forked=above in self.runs,
        )  # fmt: skip

    def _changes(self, key: str, above: str | None, siblings: Sequence[str]) -> tuple[Change, ...]:
        mine = self.parameters.get(key, {})
        if above is None:
            return ()
        if above.startswith(SWEEP):
            row = self.sweeps.get(above.removeprefix(SWEEP))
            swept = list(row["plan"].get("over", {})) if row else []
            paths = swept or _unlike([self.parameters.get(one, {}) for one in siblings])
            return tuple(Change(path, None, plain(mine.get(path)), True) for path in paths)
        if above not in self.runs:
            return ()
        return changes(self.parameters.get(above, {}), mine)

    def _attempts(self, key: str) -> tuple[Attempt, ...]:
        found = attempts(self.attempts.get(key, ()), self.parameters.get(key, {}))
        return found if len(found) > 1 else ()


def changes(before: Mapping[str, str | None], after: Mapping[str, str | None]) -> tuple[Change, ...]:
    """What differs between two flattened specifications, values as they stand in the table params."""
    paths = [*after, *(path for path in before if path not in after)]
    return tuple(
        Change(path, plain(before.get(path)), plain(after.get(path)))
        for path in paths
        if before.get(path) != after.get(path) and path not in FOLLOWS
    )


def _unlike(all_of: Sequence[Mapping[str, str | None]]) -> list[str]:
    """Paths in which some differ."""
    paths = dict.fromkeys(path for one in all_of for path in one)
    return [path for path in paths if len({one.get(path) for one in all_of}) > 1 and path not in FOLLOWS]


def plain(text: str | None) -> Any:
    """A value of the table params: numbers, lists and truth are stored as JSON, texts as they are."""
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return text


def attempts(events: Iterable[Mapping[str, Any]], parameters: Mapping[str, str | None]) -> tuple[Attempt, ...]:
    """The attempts of a run from its events of the types attempt and exit, in order of time."""
    found: list[Attempt] = []
    overrides: dict[str, Any] = {}
    for event in events:
        data = event["data"]
        if event["type"] == "exit":
            if found:
                found[-1] = replace(found[-1], ended=str(data.get("status", "")))
            continue
        now = dict(data.get("overrides") or {})
        was = {path: overrides.get(path, plain(parameters.get(path))) for path in {**now, **overrides}}
        made = [
            Change(p, was[p], now.get(p, plain(parameters.get(p))))
            for p in was
            if was[p] != now.get(p, plain(parameters.get(p)))
        ]
        found.append(Attempt(event["attempt"], event["time"], Path(data.get("resume_from") or "").name, tuple(made)))
        overrides = now
    return tuple(found)


def shortened(node: Node, kept: set[str]) -> Node:
    """Only the runs of `kept`, and what stands above several of them or between two."""
    made: dict[str, Node | None] = {}
    for one in reversed(list(node.walk())):
        children = tuple(child for below in one.children if (child := made[below.key]) is not None)
        made[one.key] = replace(one, children=children) if children or one.key in kept else None
    top = made[node.key] or node
    while top.key not in kept and len(top.children) == 1:
        top = replace(top.children[0], changes=(), forked=False)
    return top


def lines(root: Node) -> list[Line]:
    """The tree as lines from above, the attempts of a run under it."""
    found = [Line("", root)]
    todo = _under(root, "")[::-1]
    while todo:
        line, lead = todo.pop()
        found.append(line)
        if line.attempt is None:
            todo += _under(line.node, lead)[::-1]
    return found


def _under(node: Node, lead: str) -> list[tuple[Line, str]]:
    """The lines right under a node, each with what stands before the lines under it."""
    below: list[tuple[Node, Attempt | None]] = [
        *((node, one) for one in node.attempts[1:]),
        *((one, None) for one in node.children),
    ]
    last = len(below) - 1
    return [(Line(lead + ("└ " if i == last else "├ "), one, attempt), lead + ("  " if i == last else "│ "))
            for i, (one, attempt) in enumerate(below)]  # fmt: skip
