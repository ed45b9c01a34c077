"""Lineage: which run comes from which, and what changed at each step."""

from collections.abc import Callable
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content

from engine.errors import TuneDeckError
from engine.lineage import Node
from tuiapp import format as f
from tuiapp.background import in_thread
from tuiapp.glyphs import MARK
from tuiapp.layout import Places, is_narrow
from tuiapp.lineage_layout import lineage_places
from tuiapp.messages import CompareAsked, OpenRun
from tuiapp.screens.base import DeckScreen
from tuiapp.snapshot import Snapshot
from tuiapp.widgets.cursor_pane import CursorMoved, CursorPane
from tuiapp.widgets.head import where_line
from tuiapp.widgets.lineage_panes import LineageState, find, path_to, step_pane, tree_pane
from tuiapp.widgets.pane import Pane
from tuiapp.widgets.rows import Rows, line, spread
from tuiapp.widgets.strip import strip_line

HELP = (
    "The oldest run stands first; under it what was forked from it, and the points of sweeps. A run that was resumed has a "
    "line for each attempt. What changed is told against the run above: lr 2e-4 → 1e-4."
)


class LineageScreen(DeckScreen):
    """The family of the run with this id; `read` may block and raises TuneDeckError."""

    place = "Lineage"
    about = "Which run comes from which: forks, sweeps and resumes, with what changed at each step."

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "open", tooltip="open the run under the cursor"),
        Binding("space", "mark", "mark", tooltip="mark this run for comparing"),
        Binding(
            "c", "compare", "compare", tooltip="compare the marked; with none the runs from the first down to this"
        ),
        DeckScreen.HELP_KEY,
        Binding("q,escape", "leave", "back", id="back", tooltip="back"),
    ]

    def __init__(self, run_id: str, read: Callable[[str], Node]) -> None:
        super().__init__()
        self.run_id = run_id
        self._read = read
        self._root: Node | None = None
        self._problem = ""
        self._marked: set[str] = set()
        self._seen: object = None

    def compose(self) -> ComposeResult:
        """The panes; where they stand is decided by size."""
        yield Rows(id="head", classes="placed")
        yield CursorPane[LineageState](tree_pane, id="tree", help_text=HELP)
        yield Rows(id="rule", classes="placed")
        yield Pane[LineageState](step_pane, id="step")
        yield Rows(id="status", classes="placed")
        yield Rows(id="keys", classes="placed")

    def on_mount(self) -> None:
        """The tree has the focus and its cursor on the run."""
        super().on_mount()
        self._tree.selected = self.run_id
        self._tree.focus()
        self._load()

    def turn_to(self, run_id: str) -> None:
        """Show the family of another run."""
        self.run_id = self._tree.selected = run_id
        self._load()

    def places(self, width: int, height: int) -> Places:
        """See `lineage_layout`."""
        return lineage_places(width, height)

    def feed(self, snapshot: Snapshot) -> None:
        """Runs may have begun or ended: the tree is read again."""
        super().feed(snapshot)
        if self._seen is not None and self._seen != snapshot.runs:
            self._load()
        self._seen = snapshot.runs

    @work(group="lineage", exclusive=True, exit_on_error=False)
    async def _load(self) -> None:
        try:
            self._root, self._problem = await in_thread(lambda: self._read(self.run_id)), ""
        except TuneDeckError as error:
            self._problem = f"{error.title}: {error.message}"
        self.refresh_all()

    @property
    def _tree(self) -> CursorPane[LineageState]:
        return self.query_one("#tree", CursorPane)

    def draw(self) -> None:
        """Everything from the newest tree."""
        self.query_one("#head", Rows).show(self._head())
        self.query_one("#rule", Rows).show([line(("│", "$dim"))] * self.size.height)
        if self._root is not None:
            self._tree.feed(self._state(self._root))
            self.query_one("#step", Pane).feed(self._state(self._root))
        if self._problem:
            self.show_status(line((f" {f.clean(self._problem)}", "$bad")))
        elif self._root is None:
            self.show_status(line((" looking for its relatives …", "$dim")))
        else:
            self.show_status(line((f" {self._words()}", "$dim")))
        self.show_keys()

    def _words(self) -> str:
        """What `c` would do."""
        if self._marked:
            return f"{MARK} {len(self._marked)} marked"
        here, count = self._here, len(self._compared())
        if count < 2 or here is None:
            return "Space marks runs to compare"
        return (
            f"c compares the {count} runs of the sweep"
            if here.kind == "sweep"
            else f"c compares the {count} runs that lead here"
        )

    def _state(self, root: Node) -> LineageState:
        now = self.snapshot.now if self.snapshot is not None else 0.0
        return LineageState(root, self.run_id, frozenset(self._marked), self._tree.selected, now)

    def _head(self) -> list[Content]:
        width = self.size.width
        name = next((node.name for node in self._root.walk() if node.id == self.run_id), "") if self._root else ""
        if is_narrow(width, self.size.height):
            return [spread(line(("Lineage", "$accent")), line(f.clean(name)), width)]
        host = f.clean(self.snapshot.machine.host) if self.snapshot is not None else ""
        rows = [where_line("Lineage", width, host, name=name)]
        return [*rows, strip_line(self.snapshot.machine, width)] if self.snapshot is not None else rows

    def on_cursor_moved(self, _: CursorMoved) -> None:
        """What changed there, and the keys, follow at once."""
        self.refresh_all()

    @property
    def _here(self) -> Node | None:
        """The run or sweep under the cursor; of an attempt its run."""
        found = find(self._root, self._tree.selected) if self._root is not None else None
        return found[0] if found is not None else None

    def _compared(self) -> tuple[str, ...]:
        """The runs that would be compared, in the order of the tree."""
        if self._root is None:
            return ()
        if self._marked:
            return tuple(node.id for node in self._root.walk() if node.key in self._marked)
        here = self._here
        if here is not None and here.kind == "sweep":
            return tuple(node.id for node in here.children if node.kind == "run")
        return (
            tuple(node.id for node in path_to(self._root, here.key) if node.kind == "run") if here is not None else ()
        )

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys that would do nothing are not shown and do nothing."""
        if not self.is_mounted:
            return False
        here = self._here
        if action in ("open", "mark"):
            return here is not None and here.kind == "run"
        if action == "compare":
            return len(self._compared()) > 1
        return True

    def action_open(self) -> None:
        """The run, live."""
        if (here := self._here) is not None:
            self.post_message(OpenRun(here.id))

    def action_mark(self) -> None:
        """Mark it, or not any more, and go on to the next line."""
        if (here := self._here) is not None:
            self._marked ^= {here.key}
            self._tree.action_move(1)
            self.refresh_all()

    def action_compare(self) -> None:
        """The marked beside each other, or the way that led here."""
        self.post_message(CompareAsked(self._compared()))

    def action_leave(self) -> None:
        """Back to where one came from."""
        self.dismiss()
