"""The panes of the data page: the file, what is wrong with it and what can be done about it, the rows, and an epoch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from textual.content import Content

from tuiapp import format as f
from tuiapp.data_snapshot import DataCounts, DataPage, FindingLine, RowView
from tuiapp.data_values import TOO_LONG, fine, obstacle, remedy, words
from tuiapp.glyphs import CURSOR, LEVEL_ROLES, LEVELS
from tuiapp.widgets.bars import share
from tuiapp.widgets.pane import Look, title
from tuiapp.widgets.rows import Part, fit, line, spread

WIDE = 68
REMEDY = 9


@dataclass(frozen=True)
class DataState:
    """What the page shows now. `at` is the cursor among the findings."""

    page: DataPage
    counts: DataCounts
    chosen: Mapping[str, Any] = field(default_factory=dict)
    """By path, what was ticked and turned."""
    at: int = 0
    row: int = 0
    """The row that is shown token by token, by its number among those that are trained on, from 0."""
    view: RowView | None = None
    total: int | None = None
    """Rows that are trained on, as far as the trainer said."""
    mode: str = "text"
    """How tokens are shown: text, tokens or ids."""
    scroll: int = 0
    waiting: bool = False
    """Whether the trainer's tokens are being asked for."""
    unseen: str = ""
    """Why there are none."""

    @property
    def finding(self) -> FindingLine | None:
        """The finding under the cursor."""
        return self.counts.findings[self.at] if self.counts.findings else None

    @property
    def dropped(self) -> int:
        """Rows of the file that are not used."""
        return sum(rows for _, rows in self.counts.dropped)


def file_pane(state: DataState, look: Look) -> list[Content]:
    """Which file, what its rows are and how it is known, and how many of them are kept."""
    page = state.page
    end = line((f"{f.size(page.size)}   ", "$dim"), f"{page.rows:,}", (" rows ", "$dim"))
    start = line((" File  ", "$dim"), f.clip_left(f.clean(page.file), look.width - end.cell_length - 9))
    rows = [spread(start, end, look.width)]
    name = (f.clean(page.format), "") if page.format else ("no known format", "$bad")
    what = line(" ", name, (f"   {f.clean(page.evidence)}", "$dim"))
    if look.height < 3:
        return [*rows, spread(what, _kept(state), look.width)][: look.height]
    gone: list[Part] = [(" Rows", "$dim")]
    for reason, count in state.counts.dropped:
        gone += [f"  –{count:,}", (f" {f.clean(reason)}", "$dim")]
    return [*rows, what, spread(line(*gone), _kept(state, brief=True), look.width)]


def _kept(state: DataState, brief: bool = False) -> Content:
    """The one number."""
    dropped: list[Part] = [] if brief else [f"   {state.dropped:,}", (" dropped", "$dim")]
    return line((f"{state.counts.kept:,}", "bold"), (" kept", "$dim"), *dropped, " ")


def findings_pane(state: DataState, look: Look) -> list[Content]:
    """A row for each finding with the remedy at its end; with room what is well, too."""
    counts, wide = state.counts, look.width >= WIDE
    end = line((f"rows {'remedy':<{REMEDY}} ", "$dim")) if wide and counts.findings else line("")
    rows = [spread(title("Findings", look), end, look.width)]
    room = max(1, look.height - 1)
    start = max(0, min(state.at - room // 2, len(counts.findings) - room))
    stop = start + room
    many = max((len(_count(one)) for one in counts.findings), default=1)
    for i, one in enumerate(counts.findings[start:stop], start):
        row = _wide_row(state, look, i, one) if wide else _row(state, look, i, one, many)
        more = "↑" if i == start > 0 else "↓" if i + 1 == stop < len(counts.findings) else ""
        rows.append(line((more, "$accent")) + row[1:] if more else row)
    if not counts.findings:
        rows.append(line((" ✓ ", "$good"), "nothing found"))
    rows += [_fine_row(text, known, look.width) for text, known in fine(state.page, counts) if wide]
    return rows[: look.height]


def _count(one: FindingLine) -> str:
    return f"{one.count:,}" if one.count is not None else f.DASH


def _mark(state: DataState, i: int, one: FindingLine) -> list[Part]:
    cursor = (f" {CURSOR} " if i == state.at else "   ", "$accent")
    return [cursor, (f"{LEVELS[one.severity]} ", LEVEL_ROLES.get(one.severity, "$dim"))]


def _row(state: DataState, look: Look, i: int, one: FindingLine, many: int) -> Content:
    text = words(one, state.counts.max_length)
    start = line(*_mark(state, i, one), f"{_count(one):>{many}}  ", text)
    return spread(start, _remedy(state, look, i, one), look.width)


def _wide_row(state: DataState, look: Look, i: int, one: FindingLine) -> Content:
    room = look.width - 5 - 9 - 8 - REMEDY - 2
    text = line((f"{one.severity:<8} ", "$dim"), f.left(f.clean(one.means), room), f" {_count(one):>7}")
    return spread(line(*_mark(state, i, one)) + text, _remedy(state, look, i, one), look.width)


def _fine_row(text: str, rows: int, width: int) -> Content:
    start = line(("   ✓ ", "$good"), (f"ok       {text}", "$dim"))
    return spread(start, line((f"{rows:,} {' ' * REMEDY} ", "$dim")), width)


def _remedy(state: DataState, look: Look, i: int, one: FindingLine) -> Content:
    """`[x] drop`, or `‹ cut ›` where there are several."""
    name, on = remedy(one, state.page, state.chosen)
    style = "reverse" if i == state.at and look.focused else ""
    if not name:
        return line(" " * (REMEDY + 1))
    if one.kind in TOO_LONG:
        shown = line(("‹ ", "$accent"), (name, style), (" ›", "$accent"))
    else:
        shown = line((f"[{'x' if on else ' '}] {name}", style or ("" if on else "$dim")))
    return fit(shown, REMEDY) + " "


def about_pane(state: DataState, look: Look) -> list[Content]:
    """The finding under the cursor in full, what helps, and where it is."""
    one = state.finding
    if one is None:
        return [line((" Nothing is wrong with these rows.", "$dim"))]
    width, message = look.width - 2, f.clean(one.message)
    seen = f"{f.clean(one.where)}   i: see them" if one.where else ""
    if look.height < 3:
        below = "   ".join(part for part in (seen, _hint(state, one)) if part)
        rows = [line(f" {f.clip(message, width)}"), line((f" {f.clip(below, width)}", "$dim"))]
        return rows[: look.height]
    rows = [line(f" {text}") for text in f.wrap(message, width, look.height - 1 - bool(seen))]
    rows += [
        line((f" {text}", "$dim")) for text in f.wrap(_hint(state, one), width, look.height - len(rows) - bool(seen))
    ]
    return [*rows, *([line((f" {seen}", "$dim"))] if seen else [])]


def _hint(state: DataState, one: FindingLine) -> str:
    """What helps; where Space does it, that."""
    name, on = remedy(one, state.page, state.chosen)
    if not name:
        return f.clean(one.hint)
    if one.kind in TOO_LONG:
        return "Space: drop, cut or split."
    return "Dropped; Space keeps them." if on else "Space drops them."


def rows_pane(state: DataState, look: Look) -> list[Content]:
    """The rows of the file, each reason for which some are not used, and what is left."""
    page, counts = state.page, state.counts
    rows = [("in the file", f"{page.rows:,}", page.rows)]
    rows += [(reason, f"–{count:,}", count) for reason, count in counts.dropped]
    rows.append(("kept", f"{counts.kept:,}", counts.kept))
    if page.validation:
        rows.append(("held out to validate", f"{page.validation:,}", page.validation))
    if len(rows) > look.height - 1:  # what is left matters more than the last of the reasons
        rows = [*rows[: look.height - 2], next(row for row in rows if row[0] == "kept")]
    shown = [title("Rows", look)]
    for name, number, count in rows:
        bar = share(count, page.rows, max(4, look.width - 28 - 11))
        shown.append(line((f"   {f.left(f.clean(name), 24)} ", "$dim"), bar, f"{number:>9} "))
    return [fit(row, look.width) for row in shown[: look.height]]


def quantiles_pane(state: DataState, look: Look) -> list[Content]:
    """How long rows are, and their parts."""
    if not state.page.quantiles:
        return []
    names = ["min", "5 %", "half", "95 %", "99 %", "max", "mean"]
    names = names if look.width >= 14 + 7 * len(names) else names[:-1]
    cell = max(7, min(9, (look.width - 14) // len(names)))
    first = max(13, look.width - len(names) * cell - 1)
    head = "".join(f"{name:>{cell}}" for name in names)
    rows = [fit(line((f" {state.page.unit.capitalize()}", "bold")), first) + line((head, "$dim"))]
    for one in state.page.quantiles:
        values = (one.least, one.low, one.half, one.high, one.higher, one.most, one.mean)
        text = "".join(f"{value:>{cell},.0f}" for value, _ in zip(values, names, strict=False))
        rows.append(line((f"   {one.name:<{first - 3}}", "$dim"), text))
    return [fit(row, look.width) for row in rows[: look.height]]


def epoch_pane(state: DataState, look: Look) -> list[Content]:
    """What an epoch over these rows is."""
    if look.height < 3:
        return [_epoch_line(state, look.width)]
    counts, about = state.counts, _about(state)
    rows = [spread(title("An epoch", look), line((f"{about} ", "$dim")), look.width)]
    if counts.tokens is None:
        return [*rows, line((f" {_uncounted(state.page)}", "$dim"))]
    trained = f.percent(100 * (counts.trained or 0) / max(1, counts.tokens))
    shown = [("tokens", f"{counts.tokens:,}", ""), ("of them trained", f"{counts.trained or 0:,}", trained)]
    if counts.full is not None and counts.padding is not None and state.page.objective != "dpo":
        packed = f"packed into rows of {counts.max_length:,}"
        shown += [(packed, f"{counts.packed_rows:,}", f"{100 * counts.full:.1f} % full")]
        shown += [("padding, if not packed", "", f.percent(100 * counts.padding))]
    for name, number, part in shown:
        rows.append(spread(line((f"   {name}", "$dim")), line(number, (f"{part:>13} ", "$dim")), look.width))
    return rows[: look.height]


def _about(state: DataState) -> str:
    """Whether the numbers are of a part of the rows."""
    page = state.page
    return f"estimated from {page.tokenized:,} rows" if 0 < page.tokenized < page.kept else ""


def _uncounted(page: DataPage) -> str:
    """Why there are no tokens to count."""
    if not page.kept:
        return "No row is left to be trained on."
    return f"Tokens are not counted: {f.clean(page.no_tokens)}."


def _epoch_line(state: DataState, width: int) -> Content:
    """The same in one line."""
    counts = state.counts
    if counts.tokens is None:
        return line((f" {_uncounted(state.page)}", "$dim"))
    about = "about " if _about(state) else ""
    parts: list[Part] = [(" An epoch  ", "$dim"), f"{about}{counts.tokens:,}", (" tokens, ", "$dim")]
    parts += [f"{counts.trained or 0:,}", (" trained", "$dim")]
    if counts.full is not None and counts.padding is not None and state.page.objective != "dpo":
        saved = (
            f"in {counts.packed_rows:,} packed rows"
            if state.page.packing
            else f"not packed: {100 * counts.padding:.0f} % padding"
        )
        parts.append((f"   {saved}", "$dim"))
    return fit(line(*parts), width - 1)


def status_line(state: DataState, width: int) -> Content:
    """Why it cannot start, or that nothing stops it."""
    page = state.page
    time = f"in {page.seconds:.1f} s" if page.seconds >= 0.05 else "already"
    took = line((f"checked {time} ", "$dim")) if width >= 60 else line("")
    if reason := obstacle(page, state.counts):
        return line((f.clip(f" ✗ {f.clean(reason)}", width - 1), "$bad"))
    warnings, notes = (sum(one.severity == name for one in state.counts.findings) for name in ("warning", "note"))
    if warnings:
        text = f" {warnings} warning{'' if warnings == 1 else 's'}, none stops you."
    else:
        text = f" No warnings{f', {notes} notes' if notes > 1 else ', one note' if notes else ''}."
    if page.packing and state.counts.padding is not None and width >= 72:
        text += f" Packing saves {100 * state.counts.padding:.0f} % padding."
    return spread(line((text, "$dim")), took, width)


def narrow_pane(state: DataState, look: Look) -> list[Content]:
    """The numbers in a line or two, where there is room for no more."""
    counts, page = state.counts, state.page
    start = line((f" {counts.kept:,}", "bold"), (" kept of ", "$dim"), f"{page.rows:,}", (" rows", "$dim"))
    if look.height < 2:
        return [fit(start, look.width)]
    end = line(f"{f.clean(page.format) or f.DASH} ")
    limit = line((" max length ", "$dim"), ("‹ ", "$accent"), f.count(counts.max_length), (" ›", "$accent"))
    longest = line((f"longest {page.lengths[-1]:,} " if page.lengths else "", "$dim"))
    second = limit if counts.max_length else line((f" {page.unit}", "$dim"))
    return [spread(start, end, look.width), spread(second, longest, look.width)][: look.height]
