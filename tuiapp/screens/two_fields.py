"""A model and its data, where no form was filled in: two fields before the page that they are for."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.content import Content
from textual.geometry import Region
from textual.widgets import Input

from tuiapp import format as f
from tuiapp.layout import Places, is_narrow
from tuiapp.screens.form import FormScreen
from tuiapp.widgets.fields import Field, Go
from tuiapp.widgets.rows import Rows, line

LABEL = 10


class TwoFieldsScreen(FormScreen):
    """The first field has to be filled in, the other may stay empty."""

    labels: ClassVar[tuple[tuple[str, str, str], ...]] = ()
    """Of the two fields in their order: id, placeholder, help."""
    go = ""
    """The button's word."""
    about = ""
    missing = ""
    """What is said while the first field is empty."""
    open_end = ""
    """What is said of the other one."""

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
