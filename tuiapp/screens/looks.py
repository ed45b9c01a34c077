"""Other ways to look at the runs: the next order, other columns, groups, saved views."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from textual.binding import Binding

from tuiapp import format as f
from tuiapp.background import in_thread
from tuiapp.field_values import order_words, title
from tuiapp.grouping import FLAT, SWEEPS
from tuiapp.list_snapshot import FieldNames
from tuiapp.screens.columns import Chosen, ColumnsScreen
from tuiapp.screens.dialogs import error_dialog
from tuiapp.screens.pick import Option, PickScreen
from tuiapp.snapshot import RunLine
from tuiapp.views import LONGEST, View, with_saved, without
from tuiapp.widgets.run_columns import usual_fields

if TYPE_CHECKING:
    from tuiapp.screens.home import HomeScreen

CYCLE = ("age", "best_eval", "curve", "name", "status", "model", "peak_gib", "time")
"""The columns that `o` goes through first."""
GROUPS = (
    (SWEEPS, "sweeps only", "as usual: the runs of a sweep stand together"),
    (FLAT, "no groups", "every run by itself"),
    ("model", "model", ""),
    ("data", "data set", ""),
    ("method", "method", ""),
    ("tag", "tags", ""),
    ("status", "status", ""),
    ("project", "project", ""),
    ("host", "host", "the machine"),
)
ALL, SAVE, VIEW = "all", "save", "view "


def next_order(view: View, shown: list[str]) -> View:
    """By the next of the columns that are shown."""
    names = [name for name in CYCLE if name in shown]
    names += [name for name in shown if name and name not in names]
    at = names.index(view.order) + 1 if view.order in names else 0
    return replace(view, order=names[at % len(names)], turned=False)


def ask_names(home: "HomeScreen", run: RunLine | None, then: Callable[[FieldNames], object]) -> None:
    """Find what fields there are, and what this run has of them, in a thread."""

    async def find() -> None:
        try:
            names = await in_thread(lambda: home.deck.services.records.names(run.id if run is not None else None))
        except Exception as error:  # shown in a dialog, whatever it was
            home.app.push_screen(error_dialog(error))
            return
        if home.is_current:
            then(names)

    home.run_worker(find(), group="names", exclusive=True, exit_on_error=False)


def choose_columns(home: "HomeScreen") -> None:
    """Which columns, in which order, and by which of all fields the list is ordered."""
    view, table = home.view, home.table
    before = view.columns or usual_fields(table.size.width)

    def show(names: FieldNames) -> None:
        chosen = Chosen(before, view.order, view.turned)
        home.app.push_screen(ColumnsScreen(names, chosen, usual_fields(table.size.width)), answered)

    def answered(chosen: Chosen | None) -> None:
        if chosen is None:
            return
        columns = view.columns if chosen.columns == before else chosen.columns
        columns = () if chosen.columns == usual_fields(table.size.width) else columns
        home.turn_to(replace(home.view, columns=columns, order=chosen.order, turned=chosen.turned))

    ask_names(home, table.current, show)


def choose_group(home: "HomeScreen") -> None:
    """By what the runs are grouped."""

    def show(names: FieldNames) -> None:
        options = [Option(value, text, _here(about, value == home.view.group)) for value, text, about in GROUPS]
        options += [Option(name, name, _here("", name == home.view.group)) for name in names.parameters]
        home.app.push_screen(PickScreen("Group the runs by", tuple(options)), answered)

    def answered(value: str | None) -> None:
        if value is not None and value != home.view.group:
            home.turn_to(replace(home.view, group=value, opened=frozenset()))

    ask_names(home, None, show)


def _here(about: str, is_here: bool) -> str:
    return f"{about}{'   ' if about else ''}now" if is_here else about


class ViewsScreen(PickScreen):
    """A view; Del says which one to forget."""

    BINDINGS = [Binding("delete", "drop", "forget")]  # noqa: RUF012  as Textual has it
    more_keys = "Del forget  "
    DROP = "drop "

    def action_drop(self) -> None:
        """Forget this one."""
        found = self._found()
        if found and found[self._at].value.startswith(VIEW):
            self.dismiss(self.DROP + found[self._at].value.removeprefix(VIEW))


def choose_view(home: "HomeScreen") -> None:
    """A saved view, all runs, or this one under a name."""
    views = home.deck.views
    options = [
        Option(ALL, "All runs", "as at the beginning"),
        *(Option(VIEW + name, name, _here(described(one), one == views.now)) for name, one in views.saved.items()),
        Option(SAVE, "Save this view as …", described(views.now)),
    ]

    def answered(value: str | None) -> None:
        if value == ALL:
            home.turn_to(View())
        elif value == SAVE:
            home.type_line("save this view as", "", save)
        elif value is not None and value.startswith(ViewsScreen.DROP):
            name = value.removeprefix(ViewsScreen.DROP)
            home.deck.remember(without(home.deck.views, name))
            home.say(f"the view {f.clean(name)} is forgotten")
        elif value is not None:
            home.turn_to(views.saved[value.removeprefix(VIEW)])

    def save(text: str) -> None:
        if name := f.clean(text).strip()[:LONGEST]:
            home.deck.remember(with_saved(home.deck.views, name, home.view))
            home.say(f"saved as {name}: V takes it again")

    home.app.push_screen(ViewsScreen("Views", tuple(options)), answered)


def described(view: View) -> str:
    """What is not as usual about it."""
    parts = [
        view.filter,
        order_words(view.order, view.turned) if (view.order, view.turned) != ("age", False) else "",
        f"by {title(view.group).lower()}" if view.group not in (SWEEPS, FLAT) else "",
        f"{len(view.columns)} columns" if view.columns else "",
    ]
    return f.clip(f.clean(", ".join(part for part in parts if part)), 44)
