"""The group under the cursor of Home: how its runs went, which is the best, and in what they differ."""

import math
from collections import Counter

from textual.content import Content

from tuiapp import format as f
from tuiapp.glyphs import state_glyph, state_role
from tuiapp.grouping import Group
from tuiapp.list_snapshot import DIFFERING, Listing
from tuiapp.snapshot import RunLine
from tuiapp.widgets.pane import Look
from tuiapp.widgets.rows import Part, line, spread


def group_preview(group: Group, listing: Listing, look: Look, tall: bool) -> list[Content]:
    """For the room there is."""
    best = sorted((run for run in group.runs if f.known(run.best_eval)), key=lambda run: run.best_eval or math.inf)
    return _tall(group, best, listing, look) if tall else _low(group, best, listing, look)


def _states(group: Group) -> Content:
    parts: list[Part] = []
    for status, count in Counter(run.status for run in group.runs).most_common():
        parts += [(state_glyph(status), state_role(status)), f" {count} {f.clean(status)}   "]
    return line(*parts)


def _low(group: Group, best: list[RunLine], listing: Listing, look: Look) -> list[Content]:
    start = line(" ", (f.clip(f.clean(group.title), 48), "bold"), (f"   {len(group.runs)} runs ", "$dim"))
    rule = line(("─" * max(0, look.width - start.cell_length - 1), "$dim"))
    rows = [start + rule, line(" ") + _states(group)]
    if best:
        rows.append(line((" best   ", "$dim"), f.clip(f.clean(best[0].name), 40), f"  {f.number(best[0].best_eval)}"))
    for path, text in _differences(group, listing, look.width - 30)[: max(0, look.height - len(rows))]:
        rows.append(line((f" {f.left(path, 26)}  ", "$dim"), text))
    return rows


def _tall(group: Group, best: list[RunLine], listing: Listing, look: Look) -> list[Content]:
    width = look.width
    count = line((f"{len(group.runs)} runs ", "$dim"))
    rows = [spread(line((f.clip(f.clean(group.title), width - 10), "bold")), count, width), _states(group)]
    differences = _differences(group, listing, max(8, width - 26))
    if best:
        rows += [line(""), spread(line(("Best eval", "bold")), line((f"{len(best)} measured ", "$dim")), width)]
        room = max(3, look.height - len(rows) - len(differences) - 4)
        for run in best[:room]:
            rows.append(spread(line(f.clean(run.name)), line(f"{f.number(run.best_eval)} "), width))
    if differences:
        of = f"of the first {DIFFERING} " if len(group.runs) > DIFFERING else ""
        rows += [line(""), spread(line(("Differs", "bold")), line((of, "$dim")), width)]
        rows += [line((f"{f.left(path, 24)} ", "$dim"), text) for path, text in differences]
    elif listing.differs_of == group.ids:
        rows += [line(""), line(("No parameter differs.", "$dim"))]
    return rows


def _differences(group: Group, listing: Listing, width: int) -> list[tuple[str, str]]:
    """Each parameter with its values in one line, once they are known of this group."""
    if listing.differs_of != group.ids:
        return []
    return [(f.clean(path), f.clip(_values(values), width)) for path, values in listing.differs]


def _values(values: tuple[tuple[str, int], ...]) -> str:
    """`8, 16, 32`, the smallest first where they are numbers."""
    return ", ".join(sorted((f.plain(value) or f.DASH for value, _ in values), key=_size))


def _size(text: str) -> tuple[float, str]:
    try:
        return float(text), text
    except ValueError:
        return math.inf, text
