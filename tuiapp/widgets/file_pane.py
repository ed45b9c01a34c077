"""The files to choose from, and how the one that is named begins."""

from dataclasses import dataclass

from textual.content import Content

from tuiapp import format as f
from tuiapp.data_snapshot import Browsed
from tuiapp.glyphs import CURSOR
from tuiapp.widgets.pane import Look
from tuiapp.widgets.rows import fit, line, spread


@dataclass(frozen=True)
class FileState:
    """What is typed, what can follow, and the file under the cursor."""

    typed: str
    found: Browsed
    at: int | None = None


def browse_pane(state: FileState, look: Look) -> list[Content]:
    """One line a file, data first; below, how a file begins."""
    preview = state.found.preview
    room = look.height - (min(len(preview), 6) + 2 if preview else 0)
    files, width = state.found.files, min(look.width, 100)
    start = max(0, min((state.at or 0) - room + 1, len(files) - room))
    rows = []
    for i, one in enumerate(files[start : start + max(1, room)], start):
        here = i == state.at
        mark = line((f" {CURSOR} " if here else "   ", "$accent"))
        style = "reverse" if here else "" if one.is_data or one.size is None else "$dim"
        size = line(
            (f"{f.size(one.size)} " if one.size is not None else "directory " if one.path.endswith("/") else "", "$dim")
        )
        name = f.clip_left(f.clean(one.path), width - 5 - size.cell_length)
        rows.append(spread(mark + line((name, style)), size, width))
    if not files:
        words = "nothing here begins like that" if state.typed else "no files here: type a path"
        rows.append(line((f"   {words}", "$dim")))
    elif state.found.more and len(rows) < room:
        rows.append(line((f"   and {state.found.more:,} more", "$dim")))
    if preview:
        rows += [
            line(""),
            line((" It begins", "bold")),
            *(line((f"   {f.clip(one, look.width - 4)}", "$dim")) for one in preview[:6]),
        ]
    return [fit(row, look.width) for row in rows[: look.height]]
