"""The memory of a plan: one bar against the card's end, the parts it is made of, and how they add up."""

from collections.abc import Sequence

from textual.content import Content

from tuiapp import format as f
from tuiapp.glyphs import FULL
from tuiapp.snapshot import MemoryPart, PlanChoice
from tuiapp.widgets.bars import share
from tuiapp.widgets.rows import Part, fit, line, spread

GROUPS = (
    ("weights", "█", "$baseline", ("weights",)),
    ("adapter, gradients, optimizer", "▓", "$predicted", ("adapter", "gradients", "optimizer")),
    ("activations, logits", "▒", "$accent", ("activations", "logits")),
    ("CUDA and slack", "░", "$dim", ("workspace", "slack", "context")),
)
"""What belongs together: its name, its sign, its colour and the engine's components."""
OF_PEAK = ("weights", "adapter", "gradients", "optimizer", "activations", "logits", "workspace")
"""What PyTorch's allocator counts; the others are added by it and by the driver."""
FREE, LIMIT = "·", "│"
_ASCII = str.maketrans("█▓▒░", "#%+:")


def groups(parts: Sequence[MemoryPart]) -> list[float]:
    """GiB of each of `GROUPS`."""
    return [sum(part.gib for part in parts if part.key in keys) for _, _, _, keys in GROUPS]


def cells(sizes: Sequence[float], per_cell: float) -> list[int]:
    """Cells for sizes on a common scale: their sum is right within a half, and what is there is never invisible."""
    total, at, found = 0.0, 0, []
    for size in sizes:
        total += size
        end = round(total / per_cell)
        found.append(end - at)
        at = end
    for i, size in enumerate(sizes):
        if size > 0 and not found[i]:
            found[i] = 1
            found[found.index(max(found))] -= 1
    return found


def bar(choice: PlanChoice, card_gib: float | None, width: int, ascii_only: bool) -> Content:
    """The groups from the left, what is free after them, and the card's end at the right.

    What does not fit goes on past that end: the scale gives way, so that the whole need is to be seen.
    """
    if not choice.parts or width < 4:
        return line((f.DASH, "$dim"))
    sizes = groups(choice.parts)
    need = sum(sizes)
    limit = card_gib or need
    per_cell = max(need, limit) / (width - 1)
    end = width - 1 if need <= limit else max(1, min(width - 2, round(limit / per_cell)))
    free = [] if need > limit else [limit - need]
    signs: list[tuple[str, str]] = []
    for (_, sign, role, _), count in zip(
        (*GROUPS, ("", FREE, "$dim", ())), cells([*sizes, *free], per_cell), strict=False
    ):
        signs += [(sign.translate(_ASCII) if ascii_only else sign, role)] * count
    signs = [(sign, "$bad" if i >= end else role) for i, (sign, role) in enumerate(signs)]
    if card_gib is not None:
        signs.insert(end, (LIMIT, ""))
    return line(*_joined(signs))


def _joined(signs: Sequence[tuple[str, str]]) -> list[Part]:
    """Neighbours of one colour as one piece: fewer bytes over SSH."""
    found: list[tuple[str, str]] = []
    for sign, role in signs:
        if found and found[-1][1] == role:
            found[-1] = (found[-1][0] + sign, role)
        else:
            found.append((sign, role))
    return list(found)


def sign_of(key: str, ascii_only: bool) -> tuple[str, str]:
    """The sign and the colour of a component."""
    for _, sign, role, keys in GROUPS:
        if key in keys:
            return (sign.translate(_ASCII) if ascii_only else sign, role)
    return (" ", "")


def legend(choice: PlanChoice, card_gib: float | None, width: int, ascii_only: bool) -> Content:
    """The groups with their GiB as far as there is room, and the card's size under its end."""
    if not choice.parts:
        return line("")
    end = line(f"{f.gib(card_gib)} GiB ") if card_gib is not None else line("")
    shown = line(" ")
    for (name, _, _, keys), gib in zip(GROUPS, groups(choice.parts), strict=True):
        part = line(sign_of(keys[0], ascii_only), (f" {name} ", "$dim"), f"{gib:.2f}   ")
        if shown.cell_length + part.cell_length + end.cell_length < width:
            shown = shown + part
    return spread(shown, end, width)


def part_rows(choice: PlanChoice, width: int, ascii_only: bool) -> list[Content]:
    """The parts below each other, those of CUDA as one, and their sum."""
    rows = [
        _row(sign_of(part.key, ascii_only), part.label, part.gib, width)
        for part in choice.parts
        if part.key not in GROUPS[3][3]
    ]
    name, _, _, keys = GROUPS[3]
    rows.append(_row(sign_of(keys[0], ascii_only), name, groups(choice.parts)[3], width))
    return [*rows, spread(line(("   total", "$dim")), line(f"{choice.device_gib or 0:.2f} "), width)]


def _row(sign: tuple[str, str], label: str, gib: float, width: int) -> Content:
    return spread(line(" ", sign, (f" {label}", "$dim")), line(f"{gib:.2f} "), width)


def waterfall(choice: PlanChoice, card_gib: float | None, width: int, ascii_only: bool) -> list[Content]:
    """Each part where it begins: how the allocator's peak and then the card's total come about."""
    label = 20
    room = width - label - 9
    if room < 8 or not choice.parts:
        return part_rows(choice, width, ascii_only) if choice.parts else []
    need = choice.device_gib or 0.0
    per_cell = max(need, card_gib or 0.0) / (room - 1)
    shown = [part for part in choice.parts if part.gib > 0]
    rows, at = [], 0
    counts = cells([part.gib for part in shown], per_cell)
    for i, (part, count) in enumerate(zip(shown, counts, strict=True)):
        sign, role = sign_of(part.key, ascii_only)
        rows.append(_fall(part.label, part.gib, " " * at, (sign * count, role), label))
        at += count
        if part.key in OF_PEAK and (i + 1 == len(shown) or shown[i + 1].key not in OF_PEAK):
            rows.append(_fall("allocator peak", choice.peak_gib or 0.0, "", (FULL * at, ""), label))
    rows.append(_fall("device total", need, "", (FULL * at, "bold"), label, "bold"))
    if card_gib is not None:
        end = max(1, min(room - 1, round(card_gib / per_cell)))
        rows.append(_fall("card", card_gib, "", (FULL * end, "$dim"), label))
        rows = [_with_limit(row, label + 9 + end) for row in rows]
    return rows


def _fall(name: str, gib: float, gap: str, drawn: tuple[str, str], label: int, style: str = "") -> Content:
    return line((f" {f.left(name, label - 1)}", "$dim"), (f"{gib:>7.2f}  ", style), gap, drawn)


def _with_limit(row: Content, at: int) -> Content:
    """The card's end in a row; what lies past it stays."""
    if row.cell_length > at:
        return row[:at] + line((LIMIT, "")) + Content(row.plain[at:]).stylize("$bad")
    return fit(row, at) + line((LIMIT, "$dim"))


def past_row(name: str, predicted: float, measured: float, most: float, width: int) -> Content:
    """A run's predicted and measured memory on one scale."""
    room = max(4, (width - 26 - 2 * 22 - 8) // 2)
    parts: list[Part] = [f" {f.left(name, 24)}"]
    for word, value, role in (("predicted", predicted, "$predicted"), ("measured", measured, "$accent")):
        parts += [(f" {word:>9} ", "$dim"), share(value, most, room, role), f" {value:>6.1f} "]
    return spread(line(*parts), line(f"{100 * (measured / predicted - 1):+.1f} % "), width)
