"""The list of the second step: a row a model with its verdict for each kind of card, in as many columns as there is room for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from textual.content import Content

from tuiapp import format as f
from tuiapp import model_values as values
from tuiapp.draft import STEPS
from tuiapp.glyphs import CURSOR, FOCUS
from tuiapp.model_values import SLOW, CardColumn, FitRow, ModelLine, ModelPage
from tuiapp.snapshot import RunLine
from tuiapp.widgets.pane import Look
from tuiapp.widgets.rows import Part, fit, line

LOOKING = "…"
VERDICT = 16
"""Cells of `LoRA    19.2 GiB`."""
MOST_NAME = 52


@dataclass(frozen=True)
class ModelState:
    """What the step shows now. `at` is the cursor among `lines`; `first` is what is suggested; `rows` are of the line there."""

    page: ModelPage
    lines: tuple[ModelLine, ...] = ()
    at: int = 0
    chosen: str = ""
    first: ModelLine | None = None
    looking: bool = False
    trusted: bool = False
    """Whether the model's own code may run."""
    goal: str = "instructions"
    runs: tuple[RunLine, ...] = ()
    rows: tuple[FitRow, ...] = ()
    bars: bool = False
    """Whether what fits is shown as bars."""

    @property
    def line(self) -> ModelLine | None:
        """The model under the cursor."""
        return self.lines[self.at] if 0 <= self.at < len(self.lines) else None


@dataclass(frozen=True)
class Column:
    """A column of the list: its heading, its cells and what stands in it, already of that width."""

    head: str
    width: int
    cell: Callable[[ModelLine], Content]
    to_right: bool = False


def card_head(card: CardColumn) -> str:
    """`2 x RTX 4090, 24 GiB`."""
    many = f"{card.count} x " if card.count > 1 else ""
    return f"{many}{f.clean(card.name)}, {card.gib:.0f} GiB"


def columns(page: ModelPage, width: int) -> list[Column]:
    """What has room beside the names, the verdicts last."""
    if width < 32:
        return []
    cards = page.cards[: 1 if width < 110 else 3] or (CardColumn("fits", 0.0),)
    found = [Column("Where", 9, lambda one: line((one.where, "$dim")))] if width >= 66 else []
    found += [Column("Params", 7, lambda one: line(parameters(one.parameters)), True)] if width >= 50 else []
    if width >= 116:
        found.append(Column("bf16 GiB", 8, lambda one: line(f.gib(values.weights_gib(one))), True))
    if width >= (90 if page.cpu else 74):
        found.append(Column("Context", 7, lambda one: line(context(one.context)), True))
    if width >= 116:
        found.append(Column("Licence", 13, lambda one: line((values.licence_name(one), "$dim"))))
        found.append(Column("Template", 8, lambda one: line((template_word(one), "$dim"))))
    for i, card in enumerate(cards):
        head = card_head(card) if card.gib else "Fits"
        found.append(Column(head, max(VERDICT, min(len(head), 22)), partial(verdict_cell, page, i), True))
    if page.cpu and width >= 74:
        found.append(Column("tok/s", 6, _pace, True))
    return found


def _pace(one: ModelLine) -> Content:
    found = values.verdict(one)
    slow = values.is_slow(found, cpu=True)
    return line((f.count(found.tokens_per_second if found else None), "$warn" if slow else ""))


def parameters(count: int | None) -> str:
    """8.0 B, 135 M."""
    if not count:
        return f.DASH
    return f"{count / 1e9:.1f} B" if count >= 0.95e9 else f"{count / 1e6:.0f} M"


def context(tokens: int | None) -> str:
    """128k, 4k, 512."""
    if not tokens:
        return f.DASH
    return f"{tokens // 1024}k" if tokens >= 1024 else str(tokens)


def template_word(one: ModelLine) -> str:
    """Whether it has a chat template."""
    return f.DASH if one.template is None else "yes" if one.template else "none"


def verdict_cell(page: ModelPage, card: int, one: ModelLine) -> Content:
    """`LoRA    19.2 GiB`, `no  needs 44 GiB`; a dash where nothing is known."""
    if one.problem:
        return line(("✗ not usable", "$bad"))
    found = values.verdict(one, card)
    if found is None:
        return line((f.DASH if one.known else LOOKING, "$dim"))
    if found.fits not in ("yes", "close"):
        return line((f"no  needs {short(found.gib)} GiB", "$dim"))
    unit = f"x {found.cards}" if found.cards > 1 else "close" if found.fits == "close" else "GiB"
    word, role = found.method, "$good"
    if found.fits == "close":
        word, role = "close" if found.cards > 1 else found.method, "$warn"
    if values.is_slow(found, page.cpu):
        word, role = "slow", "$warn"
    return line((f"{word:<6}", role), f"{f.gib(found.gib):>6} {unit:<3}")


def short(gib: float | None) -> str:
    return f.DASH if gib is None else f"{gib:.0f}" if gib >= 9.5 else f"{gib:.1f}"


GAP = 2


def name_width(found: Sequence[Column], width: int) -> int:
    """Cells for the names: all that the columns leave, up to what reads well."""
    return max(8, min(MOST_NAME, width - 4 - sum(one.width + GAP for one in found)))


def list_pane(state: ModelState, look: Look) -> list[Content]:
    """The heading and the models in view."""
    found = columns(state.page, look.width)
    room = name_width(found, look.width)
    rows = [_heading(found, room, look)]
    if not state.lines:
        words = "looking for models …" if state.looking else "No model is called like that."
        return [*rows, line((f"   {words}", "$dim"))]
    fitting = max(0, look.height - 1)
    start = first_row(state.at, len(state.lines), fitting)
    shown = state.lines[start : start + fitting]
    return rows + [_row(state, look, found, room, start + i, one) for i, one in enumerate(shown)]


def first_row(at: int, count: int, room: int) -> int:
    """The first line in view: the cursor stands in the middle of a list that is longer than its room."""
    return max(0, min(at - room // 2, count - room))


def _heading(found: Sequence[Column], room: int, look: Look) -> Content:
    mark = (FOCUS, "$accent") if look.focused else " "
    parts = [f.right(one.head, one.width) if one.to_right else f.left(one.head, one.width) for one in found]
    return fit(line(mark, ("  " + f.left("Model", room) + "".join(f"  {one}" for one in parts), "$dim")), look.width)


def _row(state: ModelState, look: Look, found: Sequence[Column], room: int, i: int, one: ModelLine) -> Content:
    here = i == state.at
    mark = CURSOR if here else "✓" if state.chosen and one.path == state.chosen else " "
    parts: list[Part] = [(f" {mark} ", "$accent" if here else "$good"), fit(_name(one, room), room)]
    for column in found:
        cell = column.cell(one)
        gap = " " * max(0, column.width - cell.cell_length)
        parts += ["  ", gap, cell] if column.to_right else ["  ", fit(cell, column.width)]
    row = fit(line(*parts), look.width)
    return line((row.plain, "reverse")) if here and look.focused else row


def _name(one: ModelLine, room: int) -> Content:
    """The end is what differs: who made it is dim, and gives way first."""
    name = f.clip_left(f.clean(one.name), room)
    maker, slash, rest = name.rpartition("/")
    return line((maker + slash, "$dim"), rest)


def count_line(state: ModelState, text: str, order: str) -> Content:
    """`7 of 58 match   best that fits first`."""
    count = len(state.page.lines)
    of = f"{len(state.lines)} of {count} match" if text else f"{count} models" if count else ""
    return line((f"{of}   {order} ", "$dim"))


def note_pane(state: ModelState, look: Look) -> list[Content]:
    """What the verdicts mean."""
    where = "leaves 10 % of main memory free (estimate)" if state.page.cpu else "fits with 10 % headroom"
    slow = f"; slow is below {SLOW:.0f} tok/s" if state.page.cpu else ""
    later = f"Step {STEPS.index('Plan') + 1} computes it with your data."
    text = f" Verdict: the best method that {where} at 1,024 tokens and micro-batch 1{slow}. {later}"
    return [line((f.clip(text, look.width - 1), "$dim"))]
