"""Which model the plan is for, where no form was filled in: one field, and the data if one has it."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.geometry import Region
from textual.widgets import Input

from tuiapp import format as f
from tuiapp.layout import Places, is_narrow
from tuiapp.plan_services import PlanServices
from tuiapp.plan_values import Draft
from tuiapp.screens.form import FormScreen
from tuiapp.screens.plan import PlanScreen
from tuiapp.snapshot import NewRun
from tuiapp.widgets.fields import Field, Go
from tuiapp.widgets.rows import Rows, line

LABEL = 10
ABOUT = (
    "What fits on this machine, or on a card you might rent: the method, the batch, the memory and the time, each with its",
    "reason. Only the model's config.json is read, and nothing is downloaded or started.",
)


class PlanModelScreen(FormScreen):
    """Two fields before the plan page."""

    place = "Plan"

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "next", "next", tooltip="the next field; on Plan: the plan"),
        Binding("tab", "next", "complete", tooltip="complete what is typed, else the next field"),
        Binding("up,shift+tab", "app.focus_previous", "move", key_display="↑↓", tooltip="the fields"),
        Binding("f2", "plan", "plan", key_display="F2", tooltip="the plan for this model"),
        Binding("f1,ctrl+g", "help", "help", key_display="F1", id="help", tooltip="help for where you are"),
        Binding("escape", "leave", "leave", id="back", tooltip="leave"),
    ]

    def __init__(self, services: PlanServices) -> None:
        super().__init__(services.plan_models, services.complete_path)
        self._services = services
        self._draft = Draft()

    def compose(self) -> ComposeResult:
        """The labels lie under the fields."""
        yield Rows(id="head", classes="placed")
        yield Rows(id="form", classes="placed")
        about = "A directory with a config.json, a GGUF file, a name of the hub or of the catalog. Tab completes."
        yield Field(id="model", help_text=about, placeholder="directory or name", complete=self.complete_model)
        about = "The rows to learn from: with them the plan knows lengths and time. It may stay empty. Tab completes."
        yield Field(id="data", help_text=about, placeholder="file, or nothing", complete=self._services.complete_path)
        yield Go("Plan", id="start")
        yield Rows(id="about", classes="placed")
        yield Rows(id="status", classes="placed")
        yield Rows(id="keys", classes="placed")

    def places(self, width: int, height: int) -> Places:
        """Below each other."""
        top = 1 if is_narrow(width, height) else 3
        room = max(4, min(width - LABEL - 1, 90))
        places = {name: Region(LABEL, top + 2 * i, room, 1) for i, name in enumerate(("model", "data", "start"))}
        places |= {"head": Region(0, 0, width, 1 if top == 1 else 2), "form": Region(0, top, width, 3)}
        places |= {"status": Region(0, height - 2, width, 1), "keys": Region(0, height - 1, width, 1)}
        if height - 3 > top + 7:
            places["about"] = Region(0, top + 6, width, height - 3 - top - 6)
        return {name: one for name, one in places.items() if one.bottom <= height}

    def draw(self) -> None:
        """Labels and what the page is for."""
        width = self.size.width
        self.show_head(width)
        self.query_one("#form", Rows).show([line(" Model"), line(""), line(" Data")])
        about = f.wrap(" ".join(ABOUT), min(width - 2, 100), 4)
        self.query_one("#about", Rows).show([line((f" {text}", "$dim")) for text in about])
        self.show_status(self._status())
        self.show_keys()

    def _status(self) -> Content:
        typed = self.query_one("#model", Field).value.strip()
        text = "Data may stay empty: without it lengths and time are not known." if typed else "Type a model."
        return line((f" {text}", "$dim"))

    def on_input_changed(self, _: Input.Changed) -> None:
        """The status line follows."""
        if self.is_mounted:
            self._said = ""
            self.draw()

    def on_go_pressed(self, _: Go.Pressed) -> None:
        """Plan."""
        self.action_plan()

    def action_plan(self) -> None:
        """The page, or what is missing."""
        model, data = (self.query_one(f"#{name}", Field).value.strip() for name in ("model", "data"))
        if not model:
            self.say("Type a model: a directory or a name.")
            return
        self.app.push_screen(PlanScreen(self._services, NewRun(model, data, ""), self._draft))
