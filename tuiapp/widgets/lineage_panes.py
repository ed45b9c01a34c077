"""The panes of the lineage screen: the tree, and what changed at the step under the cursor."""

from collections.abc import Sequence
from dataclasses import dataclass

from textual.content import Content

from engine import lineage, short
from engine.lineage import Attempt, Node
from tuiapp import format as f
from tuiapp.glyphs import CURSOR, MARK, STAR, state_glyph, state_role
from tuiapp.widgets.cursor_pane import Line
from tuiapp.widgets.pane import Look, title
from tuiapp.widgets.rows import fit, line

NAME = 44
"""Cells that branches and names take at most."""


@dataclass(frozen=True)
class LineageState:
    """A tree, the run that it was opened for, those that are marked, and the key under the cursor."""

    root: Node
    here: str
    marked: frozenset[str] = frozenset()
    selected: str = ""
    now: float = 0.0


def attempt_key(node: Node, attempt: Attempt) -> str:
    """An attempt is a line of its own, with a key that no run has."""
    return f"{node.key} {attempt.number}"


def find(root: Node, key: str) -> tuple[Node, Attempt | None] | None:
    """What a key stands for."""
    for one in lineage.lines(root):
        if key == (one.node.key if one.attempt is None else attempt_key(one.node, one.attempt)):
            return one.node, one.attempt
    return None


def above(root: Node, key: str) -> Node | None:
    """What stands over a node."""
    return next((node for node in root.walk() if any(child.key == key for child in node.children)), None)


def path_to(root: Node, key: str) -> list[Node]:
    """The nodes from the root down to this one."""
    found: list[Node] = []
    node = next((one for one in root.walk() if one.key == key), None)
    while node is not None:
        found.insert(0, node)
        node = above(root, node.key)
    return found


def tree_pane(state: LineageState, look: Look, selected: str) -> list[Line]:
    """A line for each run and attempt: branches, state, name, best eval loss, and what changed."""
    rows = lineage.lines(state.root)
    room = look.width - 4
    name = min(NAME, room // 2 if room < 90 else NAME, max(len(one.lead) + len(_name(one.node)) + 3 for one in rows))
    count = sum(node.kind == "run" for node in state.root.walk())
    head = title("Lineage", look, (f"{count} run{'s' if count != 1 else ''}", "$dim"))
    heads = line((f.left("", name + 4) + f.right("best eval", 9) + "  what changed", "$dim"))
    found: list[Line] = [("", _over(head, heads, look.width))]
    for one in rows:
        if one.attempt is not None:
            key = attempt_key(one.node, one.attempt)
            text = line((f"{one.lead}{one.attempt.text}", "$dim"))
            found.append((key, fit(line(_mark(state, key, selected), text), look.width)))
            continue
        key = one.node.key
        start = line((one.lead, "$dim"), *_sign(one.node), _name(one.node))
        best = f.number(one.node.eval_loss) if one.node.kind == "run" else ""
        cells = line(_mark(state, key, selected), fit(start, name), f.right(best, 9), "  ", _about(one.node))
        found.append((key, fit(cells, look.width)))
    return found


def _over(start: Content, rest: Content, width: int) -> Content:
    """A title with the headings of columns behind it, as far as they do not meet."""
    return fit(start + rest[start.cell_length :], width)


def _mark(state: LineageState, key: str, selected: str) -> Content:
    cursor = CURSOR if key == selected else " "
    return line(" ", cursor, (MARK if key in state.marked else " ", "$accent"), " ")


def _sign(node: Node) -> tuple[tuple[str, str], ...]:
    if node.kind == "gone":
        return ((f"{f.DASH} ", "$dim"),)
    if node.kind == "sweep":
        return (("+ ", "$accent"),)
    star = ((f"{STAR} ", "$accent"),) if node.starred else ()
    return ((f"{state_glyph(node.status)} ", state_role(node.status)), *star)


def _name(node: Node) -> str:
    return f.clean(node.name)


def _about(node: Node) -> Content:
    """What changed; of what is no run what it is."""
    if node.kind == "gone":
        return line(("deleted, or never here", "$dim"))
    if node.kind == "sweep":
        return line(
            (
                f"sweep of {len(node.children)} run{'s' if len(node.children) != 1 else ''}, {f.clean(node.status) or f.DASH}",
                "$dim",
            )
        )
    words = f.clean(node.text)
    return line(("in the bin  ", "$warn") if node.in_bin else "", words)


def step_pane(state: LineageState, look: Look) -> list[Content]:
    """Everything about the step under the cursor, each change on a line."""
    found = find(state.root, state.selected)
    if found is None:
        return []
    node, attempt = found
    over = above(state.root, node.key)
    age = (
        f"   {f.age(state.now - node.created_at)} ago"
        if node.created_at is not None and state.now > node.created_at
        else ""
    )
    rows = [title(_name(node), look, (f"{f.clean(node.id)}{age}", "$dim")), _facts(node)]
    if attempt is not None:
        rows.append(
            line(
                (f" {attempt.text.partition(':')[0]}", ""),
                (f"   ended {attempt.ended}" if attempt.ended else "", "$dim"),
            )
        )
        return rows + _changes(attempt.changes, look.width)
    if node.kind == "run":
        rows.append(_origin(node, over))
    return rows + _changes(node.changes, look.width)


def _facts(node: Node) -> Content:
    if node.kind != "run":
        return line(" ", _about(node))
    took = f"   took {f.duration(node.seconds)}" if node.seconds is not None else ""
    return line(" ", (f"{state_glyph(node.status)} {f.clean(node.status)}", state_role(node.status)),
                f"   best eval {f.number(node.eval_loss)}", (f"{took}", "$dim"))  # fmt: skip


def _origin(node: Node, over: Node | None) -> Content:
    tries = f", {len(node.attempts)} attempts" if node.attempts else ""
    if over is None:
        return line((f" the first: it comes from no other run{tries}", "$dim"))
    kind = {"sweep": "a point of the sweep", "gone": "a fork of a deleted run,"}.get(over.kind, "a fork of")
    more = "" if node.changes or over.kind != "run" else ": nothing changed"
    return line((f" {kind} ", "$dim"), _name(over), more, (tries, "$dim"))


def _changes(changes: Sequence[lineage.Change], width: int) -> list[Content]:
    """`  rank   8 → 16`, one under the other."""
    names = [short.field(one.path) for one in changes]
    wide = min(max(map(len, names), default=0), width // 2)
    return [
        fit(line((f"   {f.left(f.clean(name), wide)}  ", "$dim"), f.clean(_values(one))), width)
        for name, one in zip(names, changes, strict=True)
    ]


def _values(change: lineage.Change) -> str:
    if change.only_after:
        return short.value(change.after)
    return f"{short.value(change.before)} → {short.value(change.after)}"
