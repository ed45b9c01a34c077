"""A block of text lines that sends only what changed: over SSH every cell costs bytes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from rich.cells import cell_len
from textual.content import Content
from textual.geometry import Region
from textual.strip import Strip
from textual.visual import Visual
from textual.widget import Widget

from tuiapp.format import clip
from tuiapp.glyphs import to_ascii

if TYPE_CHECKING:
    from tuiapp.app import TuneDeckApp

Part = str | tuple[str, str] | Content
"""Text, or (text, style), or content that is ready."""


def line(*parts: Part) -> Content:
    """One line of styled parts; nothing in them is read as markup."""
    return Content.assemble(*parts)


def spread(start: Content, end: Content, width: int) -> Content:
    """`start` at the left and `end` at the right; `start` gives way where there is not room for both."""
    room = width - end.cell_length
    if room < 1:
        return fit(start, width)
    return fit(start, room - 1) + " " + end


def fit(content: Content, width: int) -> Content:
    """Exactly `width` cells, clipped with an ellipsis or padded."""
    length = content.cell_length
    if length <= width:
        return content.pad_right(width - length)
    kept = clip(content.plain, width)
    cut = content[: len(kept) - 1] if kept else Content("")
    shown = cut + kept[-1:]
    return shown.pad_right(max(0, width - shown.cell_length))


class Rows(Widget):
    """Lines given with `show`; equal lines are not drawn again."""

    DEFAULT_CSS = "Rows { height: 1fr; }"

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002  Textual's name
        super().__init__(id=id, classes=classes)
        self._lines: list[Content] = []

    @property
    def deck(self) -> "TuneDeckApp":
        """The app, by its own type."""
        return cast("TuneDeckApp", self.app)

    @property
    def text(self) -> str:
        """What stands here, for tests and copying."""
        return "\n".join(content.plain.rstrip() for content in self._lines)

    def show(self, lines: Sequence[Content]) -> None:
        """Replace the text; only the cells between the first and the last difference of a line are sent."""
        new = [self._ascii(content) for content in lines] if self.deck.ascii else list(lines)
        old, self._lines = self._lines, new
        for y in range(max(len(old), len(new))):
            before = old[y] if y < len(old) else None
            after = new[y] if y < len(new) else None
            if before is None or after is None or not before.is_same(after):
                self.refresh(_changed(before, after, y, self.size.width))

    def render_line(self, y: int) -> Strip:
        """One line as Textual wants it."""
        width = self.size.width
        if y >= len(self._lines) or width <= 0:
            return Strip.blank(width, self.rich_style)
        content = fit(self._lines[y], width)
        if self.deck.ascii:  # what does not fit ends in an ellipsis
            content = self._ascii(content)
        strips = Visual.to_strips(self, content, width, 1, self.visual_style)
        return strips[0] if strips else Strip.blank(width, self.rich_style)

    @staticmethod
    def _ascii(content: Content) -> Content:
        return Content(to_ascii(content.plain), spans=list(content.spans))


def _changed(before: Content | None, after: Content | None, y: int, width: int) -> Region:
    """The cells of line `y` that differ, in their character or their style."""
    whole = Region(0, y, width, 1)
    if before is None or after is None:
        return whole
    a, b = before.plain, after.plain
    if len(a) != len(b) or cell_len(a) != len(a) or cell_len(b) != len(b):
        return whole
    old, new = zip(a, _styles(before), strict=True), zip(b, _styles(after), strict=True)
    differing = [x for x, (one, other) in enumerate(zip(old, new, strict=True)) if one != other]
    return Region(differing[0], y, differing[-1] - differing[0] + 1, 1) if differing else whole


def _styles(content: Content) -> list[tuple[object, ...]]:
    """The styles of each character."""
    styles: list[tuple[object, ...]] = [()] * len(content.plain)
    for span in content.spans:
        for x in range(max(0, span.start), min(span.end, len(styles))):
            styles[x] += (span.style,)
    return styles
