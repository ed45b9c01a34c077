"""Everything about a job, or a file that was made, as names and values in a box over the screen."""

import time
from collections.abc import Sequence

from textual.content import Content

from tuiapp import format as f
from tuiapp.after_values import MadeLine
from tuiapp.screens.words import WordsScreen
from tuiapp.widgets.rows import line


def words_of(heading: str, facts: Sequence[tuple[str, str]]) -> WordsScreen:
    """`facts` are (name, value); a long value goes on below itself."""
    return WordsScreen(heading, lambda room: _rows(facts, room))


def _rows(facts: Sequence[tuple[str, str]], room: int) -> list[Content]:
    cleaned = [(f.clean(name), f.clean(value)) for name, value in facts]
    wide = min(max((len(name) for name, _ in cleaned), default=0), room // 3)
    rows: list[Content] = []
    for name, value in cleaned:
        for i, part in enumerate(f.wrap(value, max(8, room - wide - 2), 12) or [""]):
            rows.append(line((f"{f.left(name if i == 0 else '', wide)}  ", "$dim"), part))
    return rows


def made_facts(made: MadeLine) -> list[tuple[str, str]]:
    """All that is known of a file."""
    written = time.strftime("%Y-%m-%d %H:%M", time.localtime(made.time))
    facts = [("kind", made.kind), ("path", made.path), ("size", f"{f.size(made.bytes)}, {made.bytes:,} bytes"),
             ("SHA-256", made.sha256), ("written", written), ("", "" if made.there else "it is not there any more")]  # fmt: skip
    facts += [
        (f"{f.size(count)}", f"{digest[:12] or f.DASH}  {path}")
        for path, count, digest in made.files
        if len(made.files) > 1
    ]
    return [(name, value) for name, value in facts if value]
