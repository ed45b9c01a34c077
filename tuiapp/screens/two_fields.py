"""A model and its data, where no form was filled in: two fields before the page that they are for."""

from collections.abc import Callable
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.content import Content
from textual.geometry import Region
from textual.widgets import Input

from tuiapp import format as f
from tuiapp.background import in_thread, sentence
from tuiapp.layout import Places, is_narrow
from tuiapp.screens.base import DeckScreen
from tuiapp.widgets.fields import Field, Go
from tuiapp.widgets.head import where_line
from tuiapp.widgets.rows import Rows, line
from tuiapp.widgets.strip import strip_line

LABEL = 10


class TwoFieldsScreen(DeckScreen):
    """The first field has to be filled in, the other may stay empty. `models` names those that can be suggested and may block."""

    first = "model"
    """The field that is typed first."""

    labels: ClassVar[tuple[tuple[str, str, str], ...]] = ()
    """Of the two fields in their order: id, placeholder, help."""
    go = ""
    """The button's word."""
    about = ""
    missing = ""
    """What is said while the first field is empty."""
    open_end = ""
    """What is said of the other one."""

    def __init__(self, models: Callable[[], list[str]], complete_path: Callable[[str], list[str]]) -> None:
        super().__init__()
        self._find = models
        self._complete_path = complete_path
        self._models: list[str] = []

    def on_mount(self) -> None:
        """One can type at once."""
        super().on_mount()
        self.query_one(f"#{self.first}").focus()
        self._find_models()

    def compose(self) -> ComposeResult:
        """The labels lie under the fields."""
        yield Rows(id="head", classes="placed")
        yield Rows(id="form", classes="placed")
        for name, placeholder, help_text in self.labels:
            complete = self.complete_model if name == "model" else self._complete_path
            yield Field(id=name, help_text=help_text, placeholder=placeholder, complete=complete)
        yield Go(self.go, id="start")
        yield Rows(id="about", classes="placed")
        yield Rows(id="status", classes="placed")
        yield Rows(id="keys", classes="placed")

    def places(self, width: int, height: int) -> Places:
        """Below each other."""
        top = 1 if is_narrow(width, height) else 3
        room = max(4, min(width - LABEL - 1, 90))
        names = (*(name for name, _, _ in self.labels), "start")
        places = {name: Region(LABEL, top + 2 * i, room, 1) for i, name in enumerate(names)}
        places |= {"head": Region(0, 0, width, 1 if top == 1 else 2), "form": Region(0, top, width, 3)}
        places |= {"status": Region(0, height - 2, width, 1), "keys": Region(0, height - 1, width, 1)}
        if height - 3 > top + 7:
            places["about"] = Region(0, top + 6, width, height - 3 - top - 6)
        return {name: one for name, one in places.items() if one.bottom <= height}

    def draw(self) -> None:
        """Labels and what the page is for."""
        width = self.size.width
        self.show_head(width)
        first, second = (line(f" {name.capitalize()}") for name, _, _ in self.labels)
        self.query_one("#form", Rows).show([first, line(""), second])
        about = f.wrap(self.about, min(width - 2, 100), 4)
        self.query_one("#about", Rows).show([line((f" {text}", "$dim")) for text in about])
        self.show_status(self._status())
        self.show_keys()

    def typed(self, name: str) -> str:
        """What a field holds."""
        return self.query_one(f"#{name}", Field).value.strip()

    def _status(self) -> Content:
        return line((f" {self.open_end if self.typed(self.first) else self.missing}", "$dim"))

    def on_input_changed(self, _: Input.Changed) -> None:
        """The status line follows."""
        if self.is_mounted:
            self._said = ""
            self.draw()

    def on_go_pressed(self, _: Go.Pressed) -> None:
        """The page."""
        self.action_open()

    def action_open(self) -> None:
        """The page, or what is missing."""
        if self.typed(self.first):
            self.open_page()
        else:
            self.say(self.missing)

    def open_page(self) -> None:
        """The page for what is typed."""
        raise NotImplementedError

    def show_head(self, width: int) -> None:
        """Where one is and what the machine does."""
        head = [where_line(self.place, width)]
        if self.snapshot is not None:
            machine = self.snapshot.machine
            head = [where_line(self.place, width, f.clean(machine.host)), strip_line(machine, width)]
        self.query_one("#head", Rows).show(head)

    @work(group="models", exclusive=True, exit_on_error=False)
    async def _find_models(self) -> None:
        try:
            self._models = await in_thread(self._find)
        except Exception as error:  # without suggestions one can still type
            self.say(sentence(error))

    def complete_model(self, text: str) -> list[str]:
        """Known models first, then paths."""
        known = [name for name in self._models if name.startswith(text)]
        return known or self._complete_path(text)

    def on_field_candidates(self, event: Field.Candidates) -> None:
        """Several possibilities are named in the status line."""
        if event.field.has_focus and len(event.texts) > 1:
            names = [text.rstrip("/").rpartition("/")[2] for text in event.texts]
            self.say(f"{len(names)} match: {'  '.join(names[:12])}")

    def action_next(self) -> None:
        """The next field."""
        self.focus_next()

    def action_leave(self) -> None:
        """Back; nothing was started."""
        self.dismiss()
