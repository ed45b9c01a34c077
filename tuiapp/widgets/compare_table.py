"""The two tables of a comparison: what differs and what came of it, a column a run, the baseline always in the first."""

from collections.abc import Sequence
from dataclasses import dataclass

from textual.content import Content

from engine.compared import Cell, ComparedRun, Comparison, Measure, Setting
from tuiapp import format as f
from tuiapp.compare_values import CompareState
from tuiapp.glyphs import CURSOR, FOCUS, state_glyph, state_role
from tuiapp.widgets.cursor_pane import Line
from tuiapp.widgets.pane import Look
from tuiapp.widgets.rows import Part, line

LEAST = 17
"""Cells of a column."""
STYLES = ("$baseline", "$train", "$eval", "$good", "$predicted", "$accent", "$warn", "$bad")
"""Of the runs, in turn; the letter says which it is where there are more."""
LOW = 8
"""Lines of results up to which a pane is low."""
STATUS, OTHERS = "status", "others"


@dataclass(frozen=True)
class Columns:
    """Cells of the names and of each run, and the places of the runs that have room."""

    names: int
    width: int
    shown: tuple[int, ...]


def style_of(place: int) -> str:
    """The colour of a run."""
    return STYLES[0] if place == 0 else STYLES[1 + (place - 1) % (len(STYLES) - 1)]


def columns(count: int, first: int, width: int) -> Columns:
    """As many runs beside each other as there is room for."""
    names = 24 if width < 100 else 30
    fitting = max(1, min(count, (width - names) // LEAST))
    each = min(26, (width - names) // fitting)
    first = max(1, min(first, count - fitting + 1))
    return Columns(names, each, (0, *range(first, min(count, first + fitting - 1))))


def first_for(column: int, first: int, count: int, width: int) -> int:
    """The first run beside the baseline so that the one at `column` is in view."""
    if column == 0:
        return first
    fitting = len(columns(count, 1, width).shown) - 1
    return max(1, min(first, column), column - fitting + 1) if fitting else column


def shown_settings(state: CompareState) -> tuple[Setting, ...]:
    """The rows of the first table."""
    return state.comparison.settings if state.everything else state.comparison.differing


def _only_settings_differ(c: Comparison) -> bool:
    return not any(one.kind != "setting" for one in c.differing)


def differs_length(state: CompareState) -> int:
    """Lines of the first table below its head."""
    return len(shown_settings(state)) + _with_status(state.comparison) + 1


def _with_status(c: Comparison) -> bool:
    return any(run.status != "finished" for run in c.runs)


def differs_pane(state: CompareState, look: Look, selected: str) -> list[Line]:
    """Only what is not the same, with what the others have as the baseline said in one line."""
    c = state.comparison
    at = columns(len(c.runs), state.first, look.width)
    parameters = [one for one in c.settings if one.kind == "setting"]
    number = sum(1 for one in parameters if one.differs)
    rows = [_head(f"Differs {number} of {len(parameters)}", state, look, at)]
    if _with_status(c):
        cells = [_run_status(c.runs[i]) for i in at.shown]
        rows.append((STATUS, _row(line(STATUS), cells, at, look.focused and selected == STATUS)))
    for one in shown_settings(state):
        name = (
            line(("! ", "$warn"), f.clip(one.name, at.names - 6))
            if one.warning
            else line(f.clip(one.name, at.names - 4))
        )
        rows.append(
            (
                one.path,
                _row(
                    name, [_setting(one, i, at.width - 1) for i in at.shown], at, look.focused and selected == one.path
                ),
            )
        )
    rows.append(
        (OTHERS, _row(line((_same_words(state, look.width), "$dim")), [], at, look.focused and selected == OTHERS))
    )
    return rows


def _same_words(state: CompareState, width: int) -> str:
    c = state.comparison
    words = [f"{c.same} parameter{'s' if c.same != 1 else ''} the same" + ("" if state.everything else ": v")]
    words += [f"{c.unknown} not known of all"] if c.unknown else []
    if _only_settings_differ(c):
        told = any(one.kind == "data" for one in c.settings)
        words.append("same data, packages and code" if told else "nothing else differs that is known")
    return "   ".join(words) if width >= 60 else words[0]


def _run_status(run: ComparedRun) -> Content:
    share = f" {100 * run.share:.0f} %" if run.active and run.share is not None else ""
    return line((f"{state_glyph(run.status)} {run.status}{share}", state_role(run.status)))


def _setting(one: Setting, place: int, width: int) -> Content:
    cell = one.cells[place]
    if cell.same:
        return line(("=", "$dim"))
    text = f.clip_left(cell.text, width) if "/" in cell.text and " " not in cell.text else f.clip(cell.text, width)
    return line((text, "" if cell.known else "$dim"))


def _head(title: str, state: CompareState, look: Look, at: Columns) -> Line:
    """The title and above each column its run; the one that the keys are about has the cursor."""
    c = state.comparison
    start = line((FOCUS, "$accent") if look.focused else " ", (title, "bold"))
    heads: list[Part] = [fit_to(start, at.names - 1)]
    names = short_names([run.name for run in c.runs], at.width - 4)
    for i in at.shown:
        run = c.runs[i]
        mark = CURSOR if i == state.column else " "
        heads += [
            (mark, "$accent"),
            (run.letter, f"bold {style_of(i)}"),
            f" {f.left(names[i], at.width - 3 - len(run.letter))} ",
        ]
    more = len(c.runs) - 1 - at.shown[-1]
    return "", line(
        *heads, (f"+{more}" if more and look.width - at.names - at.width * len(at.shown) >= 4 else "", "$dim")
    )


def short_names(names: list[str], width: int) -> list[str]:
    """Names without the words that all begin with, where they would not fit: what is left tells them apart."""
    if len(names) < 2 or max(map(len, names)) <= width:
        return names
    first, last = min(names), max(names)
    shared = first[: next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))]
    cut = max(shared.rfind(mark) for mark in "-_./ ") + 1
    return [f"…{name[cut:]}" for name in names] if cut > 1 else names


def fit_to(content: Content, width: int) -> Content:
    """Exactly so many cells."""
    kept = content if content.cell_length <= width else content[:width]
    return kept.pad_right(max(0, width - kept.cell_length))


def _row(name: Content, cells: list[Content], at: Columns, here: bool) -> Content:
    start: list[Part] = [" ", (CURSOR, "$accent") if here else " ", " "]
    if not cells:
        return line(*start, name)
    return line(*start, fit_to(name, at.names - 3), *(fit_to(cell, at.width) for cell in cells))


def result_length(state: CompareState) -> int:
    """Lines of the second table below its head."""
    return max(1, len(state.comparison.measures))


def result_pane(state: CompareState, look: Look, selected: str) -> list[Line]:
    """What each run came to, how far that is from the baseline, and the best."""
    c = state.comparison
    at = columns(len(c.runs), state.first, look.width)
    value = max(8, min(12, at.width - 9))
    heads: list[Part] = [fit_to(line((FOCUS, "$accent") if look.focused else " ", ("Result", "bold")), at.names)]
    for i in at.shown:
        run = c.runs[i]
        words = "" if i == 0 else "so far" if run.active else "to B"
        letter = f"{'! ' if run.unlike else ''}{run.letter}"
        heads += [
            (f.right(letter, value - 1), style_of(i)),
            " ",
            (f.left(f.right(words, at.width - value - 1), at.width - value), "$dim"),
        ]
    rows: list[Line] = [("", line(*heads))]
    for one in by_weight(c.measures, look.height - 1):
        name = line(f.clip(("  " if one.sub else "") + one.name, at.names - 4))
        cells = [_result(one.cells[i], value, at.width) for i in at.shown]
        rows.append((one.key, _row(name, cells, at, look.focused and selected == one.key)))
    if not c.measures:
        rows.append(("", line(("   nothing was measured", "$dim"))))
    return rows


def by_weight(rows: Sequence[Measure], room: int) -> Sequence[Measure]:
    """In a low pane what matters most comes first."""
    if len(rows) <= room or room > LOW:
        return rows
    main = [
        one
        for one in rows
        if one.key.endswith((".best", ".step")[: 1 + (room > 5)]) or one.key in ("memory", "time", "speed")
    ]
    return [*main, *(one for one in rows if one not in main)]


def _result(cell: Cell, value: int, width: int) -> Content:
    """The value and its mark right-aligned, then the difference."""
    mark = "*" if cell.best else "!" if not cell.like and cell.value is not None else " "
    text = f.right(cell.text, value - 1)
    style = "bold $good" if cell.best else "" if cell.value is not None else "$dim"
    return line((text, style), (mark, "$warn" if mark == "!" else "bold $good"),
                (f.left(f.right(cell.difference_text, width - value - 1), width - value), "$dim"))  # fmt: skip
