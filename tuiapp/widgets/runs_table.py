"""The runs: one line each. Only lines in view are made, so ten thousand runs cost what thirty cost."""

import bisect
from dataclasses import dataclass
from typing import Any, ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content

from tuiapp.glyphs import CURSOR, MARK, STAR
from tuiapp.grouping import Group, Item, group_of
from tuiapp.messages import FoldAsked, OpenRun, RunSelected
from tuiapp.run_list import Facts
from tuiapp.snapshot import RunLine
from tuiapp.views import View
from tuiapp.widgets.keys import named
from tuiapp.widgets.rows import Part, Rows, fit, line
from tuiapp.widgets.run_columns import NARROW_BELOW, Columns, TableColumn, columns_for, group_cell, heading

INDENT = 2
"""Cells by which the name of a run in an open group is moved in."""


@dataclass(frozen=True)
class Signs:
    """What stands before a row: the cursor, whether it is marked, the baseline, starred; whether it is in an open group."""

    here: bool = False
    marked: bool = False
    baseline: bool = False
    starred: bool = False
    within: bool = False


def _before(signs: Signs, wide: bool) -> list[Part]:
    """The first cells of a row. One sign stands behind the cursor, a second before it, a third beside the state."""
    found: list[Part] = []
    if signs.marked:
        found.append((MARK, "$accent"))
    if signs.baseline:
        found.append(("B", "$baseline"))
    if signs.starred:
        found.append((STAR, "$warn"))
    found += [" "] * (3 - len(found))
    cursor = (CURSOR if signs.here else " ", "$accent")
    return [found[1], cursor, found[0], found[2]] if wide else [found[1], cursor, found[0]]


def row_content(item: Item, facts: Facts, columns: Columns, width: int, signs: Signs) -> Content:
    """A run or a group as one line of the table: the signs and the columns."""
    parts = _before(signs, width >= NARROW_BELOW)
    for column in columns.shown:
        room = columns.width(column)
        indent = INDENT if signs.within and column.field == "name" and room > 2 * INDENT else 0
        cell = _cell(item, column, facts, room - indent)
        content = line(cell)
        hangs = 1 if column.to_right and content.plain.endswith("*") else 0
        gap = " " * max(0, room - indent - content.cell_length + hangs)
        parts += [gap, cell] if column.to_right else [" " * indent, cell, gap]
        parts.append(" " * (columns.gap - hangs))
    return fit(line(*parts[:-1]), width)


def _cell(item: Item, column: TableColumn, facts: Facts, room: int) -> Part:
    return group_cell(column, item, facts, room) if isinstance(item, Group) else column.cell(item, facts, room)


def header(columns: Columns, width: int, order: str = "", turned: bool = False) -> Content:
    """The headings."""
    parts: list[Part] = ["    " if width >= NARROW_BELOW else "   "]
    for column in columns.shown:
        room = columns.width(column)
        title = heading(column, room, order, turned)
        if line(*title).cell_length > room:
            parts[-1] = str(parts[-1])[1:]
        parts += [*title, " " * columns.gap]
    return fit(line(*parts[:-1]), width)


class RunsTable(Rows, can_focus=True):
    """The list with its cursor, which stays on its run when the order changes."""

    BINDINGS: ClassVar[list[BindingType]] = named([
        Binding("up,k", "move(-1)", "up", show=False, tooltip="up"),
        Binding("down,j", "move(1)", "down", show=False, tooltip="down"),
        Binding("pageup", "page(-1)", "page up", show=False, tooltip="page up"),
        Binding("pagedown", "page(1)", "page down", show=False, tooltip="page down"),
        Binding("g,home", "move(-1000000)", "first", show=False, tooltip="first"),
        Binding("G,end", "move(1000000)", "last", show=False, tooltip="last"),
        Binding("left,h", "aside(-1)", "left", show=False, tooltip="fold the group; columns to the left"),
        Binding("right,l", "aside(1)", "right", show=False, tooltip="open the group; columns to the right"),
    ])  # fmt: skip

    help_name = "The list"
    help_text = (
        "Every run that was ever started here, the newest first. The glyph and the word say its state. "
        "◆ marked, B baseline, ★ starred, * the lowest eval loss on the same rows."
    )

    def __init__(self, *, id: str) -> None:  # noqa: A002
        super().__init__(id=id, classes="placed")
        self._items: tuple[Item, ...] = ()
        self._groups: list[int] = []
        """Where the groups stand."""
        self._facts = Facts(0.0)
        self._view = View()
        self._at = 0
        """Where the selected row was found last."""
        self._top = 0
        self._first = 0
        """Columns that are moved out at the left."""
        self._fitting: tuple[Any, Columns] | None = None
        self.selected: str | None = None
        """A run's id, or a group's key."""
        self.marks: set[str] = set()

    @property
    def order(self) -> list[str]:
        """The ids of the runs in the order shown."""
        return [item.id for item in self._items if isinstance(item, RunLine)]

    @property
    def current(self) -> RunLine | None:
        """The run under the cursor."""
        item = self._here()
        return item if isinstance(item, RunLine) else None

    @property
    def group(self) -> Group | None:
        """The group under the cursor."""
        item = self._here()
        return item if isinstance(item, Group) else None

    @property
    def columns(self) -> Columns:
        """The columns that are shown."""
        view, listing = self._view, self._facts.listing
        key = self.size.width, view.columns, view.order, listing.fields, id(listing.values), self._first
        if self._fitting is None or self._fitting[0] != key:
            found = columns_for(self.size.width, view.columns, view.order, listing, self._first)
            self._fitting = key, found
        return self._fitting[1]

    def feed(self, items: tuple[Item, ...], facts: Facts, view: View) -> None:
        """Draw these rows in this order."""
        place = self._place()
        if items is not self._items:
            self._items = items
            self._groups = [i for i, item in enumerate(items) if isinstance(item, Group)]
        self._facts, self._view = facts, view
        if self._here() is None:
            folded = group_of(items, self.selected)
            self._select(items.index(folded) if folded is not None else min(place, len(items) - 1))
        self.redraw()

    def select(self, run_id: str) -> None:
        """Move the cursor to this run."""
        self.selected = run_id
        self.redraw()

    def redraw(self) -> None:
        """Draw what is in view, the cursor always in it."""
        width, room = self.size.width, self.size.height - 1
        if width <= 0 or room <= 0:
            return
        place = self._place()
        self._top = max(0, min(self._top, place, len(self._items) - room), place - room + 1)
        shown = self._items[self._top : self._top + room]
        style, columns = self.deck.row_style, self.columns
        lines = [header(columns, width, self._view.order, self._view.turned)]
        group = self._group_above(self._top)
        for item in shown:
            group = item if isinstance(item, Group) else group
            signs = self._signs(item, group is not None and item.id in group.members)
            content = row_content(item, self._facts, columns, width, signs)
            lines.append(content.stylize(style) if signs.here else content)
        self.show(lines)

    def _signs(self, item: Item, within: bool) -> Signs:
        here = item.id == self.selected
        if isinstance(item, Group):
            return Signs(here, marked=self.marks.issuperset(item.ids))
        return Signs(here, item.id in self.marks, item.id == self.deck.baseline, item.starred, within)

    def _group_above(self, place: int) -> Group | None:
        """The group that was last before a row."""
        above = bisect.bisect_left(self._groups, place) - 1
        item = self._items[self._groups[above]] if above >= 0 else None
        return item if isinstance(item, Group) else None

    def span(self) -> tuple[int, int, int]:
        """First and last line in view, and how many there are."""
        last = min(len(self._items), self._top + max(0, self.size.height - 1))
        return (self._top + 1 if self._items else 0), last, len(self._items)

    def on_resize(self) -> None:
        """New room."""
        self.redraw()

    def action_move(self, lines: int) -> None:
        """Move the cursor."""
        self._select(self._place() + lines)
        self.redraw()

    def action_page(self, direction: int) -> None:
        """Move by what is in view."""
        self.action_move(direction * max(1, self.size.height - 2))

    def action_aside(self, direction: int) -> None:
        """Fold and open groups; else show the columns that found no room."""
        place, item = self._place(), self._here()
        if isinstance(item, Group):
            if item.is_open != (direction > 0):
                self.post_message(FoldAsked(item.key, direction > 0))
            return
        above = self._group_above(place)
        if direction < 0 and not self._first and item is not None and above is not None and item.id in above.members:
            self._select(self._items.index(above))
            self.post_message(FoldAsked(above.key, False))
        elif direction < 0 or self.columns.hidden:
            self._first = max(0, self._first + direction)
            self.redraw()

    def on_click(self, event: events.Click) -> None:
        """A click chooses, a second one opens."""
        place = self._top + event.y - 1
        if event.y < 1 or place >= len(self._items):
            return
        item = self._items[place]
        again = item.id == self.selected
        self._select(place)
        self.redraw()
        if isinstance(item, Group):
            if again:
                self.post_message(FoldAsked(item.key, not item.is_open))
        elif again or event.chain > 1:
            self.post_message(OpenRun(item.id))

    def on_mouse_scroll_down(self) -> None:
        """The wheel moves the cursor."""
        self.action_move(1)

    def on_mouse_scroll_up(self) -> None:
        """The wheel moves the cursor."""
        self.action_move(-1)

    def _here(self) -> Item | None:
        item = self._items[self._place()] if self._items else None
        return item if item is not None and item.id == self.selected else None

    def _place(self) -> int:
        if self._at >= len(self._items) or self._items[self._at].id != self.selected:
            self._at = next((i for i, item in enumerate(self._items) if item.id == self.selected), 0)
        return self._at

    def _select(self, place: int) -> None:
        place = max(0, min(place, len(self._items) - 1))
        selected = self._items[place].id if self._items else None
        if selected != self.selected:
            self.selected = selected
            item = self._items[place] if self._items else None
            self.post_message(RunSelected(item.id if isinstance(item, RunLine) else None))
