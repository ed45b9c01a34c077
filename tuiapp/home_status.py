"""The first rows and the status line of Home: how many runs, in which order, what filters them. Pure functions."""

from collections import Counter
from dataclasses import dataclass

from textual.content import Content

from tuiapp import format as f
from tuiapp.completing import EXAMPLE, Completion
from tuiapp.field_values import order_words, title
from tuiapp.glyphs import ACTIVE, MARK
from tuiapp.grouping import FLAT, SWEEPS
from tuiapp.list_snapshot import Mistake
from tuiapp.snapshot import RunLine, Snapshot
from tuiapp.views import View
from tuiapp.widgets.head import database, where_line
from tuiapp.widgets.rows import Part, line, spread
from tuiapp.widgets.strip import strip_line

WIDE = 120


@dataclass(frozen=True)
class ListState:
    """What the status line says. `span`: the first and the last row in view, and how many there are."""

    counts: str
    view: View
    span: tuple[int, int, int]
    marked: int = 0
    mistake: Mistake | None = None
    hidden: int = 0
    """How many columns found no room."""
    read_only: bool = False
    legend: tuple[tuple[str, str], ...] = ()
    """Signs that are on the screen, and what they mean."""


def counts(runs: tuple[RunLine, ...]) -> str:
    """`41 runs and 1 sweep   1 running, 1 queued`."""
    found = Counter([run.status for run in runs])
    sweeps = len({run.sweep for run in runs if run.sweep})
    running, queued = sum(found[status] for status in ACTIVE), found["queued"]
    parts = [f"{running} running" if running else "", f"{queued} queued" if queued else ""]
    words = ", ".join(part for part in parts if part)
    start = f"{len(runs):,} run{'' if len(runs) == 1 else 's'}"
    if sweeps:
        start += f" and {sweeps} sweep{'' if sweeps == 1 else 's'}"
    return start + (f"   {words}" if words else "")


def head(snapshot: Snapshot | None, width: int, narrow: bool) -> list[Content]:
    """The first rows: where one is, and what the machine does."""
    if snapshot is None:
        return [where_line("Runs", width)]
    machine = snapshot.machine
    if narrow:
        running = sum(1 for run in snapshot.runs if run.status == "running")
        card = machine.gpus[0] if machine.gpus else None
        used = f"{f.gib(card.memory_used)} of {f.gib(card.memory_total)}" if card else f.clean(machine.host)
        start = line(("Runs", "$accent"), f"   {len(snapshot.runs):,}   {running} running")
        return [spread(start, line(used), width)]
    path = database(snapshot.database, width // 2 - 8)
    right = (f"{f.clean(machine.host)}   ", (path, "$dim"))
    return [where_line("Runs", width, *right), strip_line(machine, width)]


def status_line(state: ListState, width: int) -> Content:
    """What fits of it, what matters most first."""
    first, last, shown = state.span
    more = f"+{state.hidden} column{'s' if state.hidden > 1 else ''} →   " if state.hidden and width >= 60 else ""
    end = line((f"{more}{first:,}–{last:,} of {shown:,} ", "$dim"))
    parts: list[Part] = [(" " + _words(state, width, width - end.cell_length - 2), "$dim")]
    if state.mistake is not None:
        parts = [(f" filter {f.clean(state.mistake.filter)}", ""), (f"   {f.clean(state.mistake.problem)}", "$bad")]
    parts += [("   read only", "$warn")] if state.read_only else []
    if width >= WIDE and state.mistake is None:
        for sign, words in state.legend:
            parts += [f"   {sign}", (f" {words}", "$dim")]
    return spread(line(*parts), end, width)


def _words(state: ListState, width: int, room: int) -> str:
    """Counts, order, groups, filter and marks; where there is no room for all, the filter and the marks stay the longest."""
    view = state.view
    filtered = f"filter {f.clean(view.filter.strip())}" if view.filter.strip() else "no filter"
    grouped = "" if view.group == SWEEPS else "no groups" if view.group == FLAT else f"by {title(view.group).lower()}"
    marked = f"{MARK + ' ' if width >= WIDE else ''}{state.marked} marked" if state.marked else ""
    order, few = order_words(view.order, view.turned), state.counts.partition("   ")[0]
    room -= len("   read only") if state.read_only else 0
    for counted in (state.counts, few, few.partition(" and ")[0], ""):
        words = "   ".join(one for one in (counted if width >= 60 else "", order, grouped, filtered, marked) if one)
        if len(words) <= room:
            return words
    return "   ".join(one for one in (filtered, marked, order) if one)


def field_help(label: int, text: str, mistake: Mistake | None, found: Completion, width: int) -> Content:
    """Under a filter that is typed: where the mistake is and what it is, or what Tab would take.

    `label`: where the text begins.
    """
    if mistake is not None and mistake.filter == text:
        before = label + min(mistake.column - 1, len(text))
        said = f"^ {f.clean(mistake.problem)}" + (f". {f.clean(mistake.hint)}" if mistake.hint else "")
        room = width - before - 1
        if room >= min(len(said), 30):
            return line(" " * before, (f.clip(said, room), "$warn"))
        short = f.clip(f"{f.clean(mistake.problem)} ^", before + 1)
        return line(" " * max(0, before - len(short) + 1), (short, "$warn"))
    keys: list[Part] = []
    for key, words in (("Enter", "list"), ("Tab", "complete"), ("Esc", "clear")):
        keys += [(f" {key}", "$accent"), (f" {words} ", "$dim")]
    room = width - line(*keys).cell_length - 2
    about = "  ".join(found.candidates[:30]) if found.candidates else EXAMPLE if not text.strip() else ""
    return line(*keys, " ", (f.clip(f.clean(about), room), "$dim"))
