"""What the model sees: a row token by token, what is trained marked at the left, and who shares its packed row."""

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import groupby

from rich.cells import cell_len, chop_cells
from textual.content import Content

from tuiapp import format as f
from tuiapp.data_snapshot import Packed, RowView, TokenSequence
from tuiapp.widgets.data_panes import DataState
from tuiapp.widgets.pane import Look, title
from tuiapp.widgets.rows import Part, line, spread

MODES = ("text", "tokens", "ids")
TRAINED, MASKED, EDGE, LINE_END = "┃", "·", "┊", "↵"
WAITING = "tokenizing as the trainer does …"
NEIGHBOUR = 3
"""Lines that are shown of a row in the same packed row."""
ROOM = 12
"""Lines from which the neighbours are shown, too."""
MARGIN = 3

Marked = tuple[bool | None, str, str]
"""A line of tokens: whether it is trained, the number of its first token, and their text. None is the place of a cut."""


def sees_pane(state: DataState, look: Look) -> list[Content]:
    """The row under `[` and `]`, as far down as it is scrolled."""
    rows = [_title(state, look)]
    if state.view is None:
        rows += [line((f" {text}", "$dim")) for text in f.wrap(_absent(state), look.width - 2, look.height - 1)]
        rows += _beginnings(state, look.width) if state.page.no_tokens else ()
        return rows[: look.height]
    lines = row_lines(state, look.width, look.height)
    room = max(1, look.height - 1)
    top = max(0, min(state.scroll, len(lines) - room))
    shown = lines[top : top + room]
    if top and shown:
        shown[0] = line(("↑", "$accent")) + shown[0][1:]
    if top + room < len(lines):
        shown[-1] = line(("↓", "$accent")) + shown[-1][1:]
    return rows + shown


def _absent(state: DataState) -> str:
    """Why there is nothing to see."""
    if state.page.no_tokens:
        return f"The rows cannot be shown token by token: {f.clean(state.page.no_tokens)}."
    return "" if state.waiting else f.clean(state.unseen)


def _beginnings(state: DataState, width: int) -> Iterator[Content]:
    """Without tokens at least the text."""
    wide = max((len(f"{number:,}") for number in state.page.texts), default=0)
    for number, text in state.page.texts.items():
        yield line((f"   {state.page.counted} {number:>{wide},}   ", "$dim"), f.clip(f.clean(text), width - wide - 13))


def _title(state: DataState, look: Look) -> Content:
    view = state.view
    if state.waiting:
        return title("What the model sees", look, (WAITING, "$warn"))
    if view is None:
        return title("What the model sees", look)
    start = title("What the model sees", look, *_counts(state, view, look.width))
    signs = [(TRAINED, "trained"), (MASKED, "not")]
    if look.width >= 120:
        signs = [(TRAINED, "trained"), (MASKED, "not trained"), (EDGE, "token edge"), (LINE_END, "line end")]
    gap = "   " if look.width >= 120 else "  "
    legend = line(*(line(gap if i else "", f"{sign} ", (name, "$dim")) for i, (sign, name) in enumerate(signs)), " ")
    return spread(start, legend, look.width) if start.cell_length + legend.cell_length < look.width else start


def _counts(state: DataState, view: RowView, width: int) -> list[Part]:
    """Which row it is, its tokens, and how many of them are trained."""
    ids = sum(len(one.ids) for one in view.sequences)
    trained = sum(sum(one.trained) for one in view.sequences)
    place = f"row {view.number:,} of {state.total or 0:,}"
    if width >= 100:
        place += f", {state.page.counted} {view.line:,} of the file"
    percent = f" ({100 * trained / max(1, ids):.0f} %)" if width >= 120 else ""
    return [(f"{place}   ", "$dim"), f"{ids:,}", (" tokens, ", "$dim"), f"{trained:,}", (f" trained{percent}", "$dim")]


def row_lines(state: DataState, width: int, height: int) -> list[Content]:
    """All lines of the row."""
    view = state.view
    if view is None:
        return []
    rows = [line((f"   ✗ left out: {f.clean(view.problem)}", "$warn"))] if view.problem else []
    for one in view.sequences:
        if one.name:
            text = f"{one.name}   {len(one.ids):,} tokens, {sum(one.trained):,} trained"
            rows.append(line((f"   {f.clean(text)}", "$accent")))
        rows += drawn(one, state.mode, width)
    if view.packed is not None and height >= ROOM:
        rows += [line(""), *_neighbours(view, view.packed, state.mode, width)]
    return rows


def _neighbours(view: RowView, packed: Packed, mode: str, width: int) -> Iterator[Content]:
    """The rows that are packed with it."""
    size = f"{packed.tokens:,} of {packed.size:,} tokens"
    yield line((" In the same packed row", "bold"), (f"   {size}, attention does not reach across", "$dim"))
    for start, one in packed.parts:
        place = f"   from token {start + 1:,}"
        if one is None:
            yield line((f"{place}   row {view.number:,}, the one above", "$dim"))
        else:
            yield line((f"{place}   {len(one.ids):,} tokens", "$dim"))
            yield from drawn(one, mode, width)[:NEIGHBOUR]


@lru_cache(maxsize=64)  # thousands of tokens take a tenth of a second, and the page is drawn every second
def drawn(sequence: TokenSequence, mode: str, width: int) -> tuple[Content, ...]:
    """Its lines with their margin: trained tokens are bold, the others dim, and so is what is cut off."""
    rows: list[Content] = []
    cut = False
    for trained, number, text in marked(sequence, mode, width - MARGIN - 1):
        if trained is None:
            cut = True
            rows.append(line((f" {'╌' * 8} {text} {'╌' * 8}", "$warn")))
            continue
        bold = trained and not cut
        margin = (f" {TRAINED} ", "$accent") if bold else (f" {' ' if cut else MASKED} ", "$dim")
        rows.append(line(margin, (number, "$dim"), *_styled(text, "bold" if bold else "$dim")))
    return tuple(rows)


def _styled(text: str, style: str) -> list[Part]:
    """The tokens in a style, their edges dim."""
    parts: list[Part] = []
    for i, token in enumerate(text.split(EDGE)):
        parts += [(EDGE, "$dim")] if i else []
        parts.append((token, style))
    return parts


def marked(sequence: TokenSequence, mode: str, width: int) -> list[Marked]:
    """The lines of a sequence, each all trained or all not."""
    if mode == "text":
        return _text_lines(sequence, width)
    from engine.report_data import token_lines  # not before the first paint

    texts = sequence.texts if mode == "tokens" else tuple(str(one) for one in sequence.ids)
    labels = [0 if one else -100 for one in sequence.trained]
    found = token_lines({"texts": texts, "labels": labels, "cut": sequence.cut}, width)
    return [(state, text[:6], text[6:]) if state is not None else (None, "", text) for state, text in found]


def _text_lines(sequence: TokenSequence, width: int) -> list[Marked]:
    """The text as it is read, without the edges of the tokens."""
    from engine.report_data import visible

    cut = len(sequence.ids) if sequence.cut is None else sequence.cut
    found: list[Marked] = []
    numbered = range(len(sequence.ids))
    for (trained, beyond), group in groupby(numbered, key=lambda i: (sequence.trained[i], i >= cut)):
        if beyond and not any(state is None for state, _, _ in found):
            found.append((None, "", f"cut here: max_length {cut:,}"))
        text = "".join(visible(sequence.texts[i]) for i in group)
        found += [(trained, "", one) for one in wrapped(text, width)]
    return found


def wrapped(text: str, width: int) -> list[str]:
    """Text in lines of at most `width` cells, broken after line ends and between words."""
    lines: list[str] = []
    for paragraph in re.findall(f"[^{LINE_END}]*{LINE_END}+|[^{LINE_END}]+", text):
        row = ""
        for word in re.findall(r"\S+\s*|\s+", paragraph):
            if row and cell_len(row) + cell_len(word.rstrip()) > width:
                lines.append(row.rstrip())
                row = ""
            *whole, rest = chop_cells(word.rstrip(), width) or [""]
            lines += whole
            row += rest + word[len(word.rstrip()) :]
        lines.append(row.rstrip())
    return lines
