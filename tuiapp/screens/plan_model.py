"""Which model the plan is for, where no form was filled in: one field, and the data if one has it."""

from typing import ClassVar

from textual.binding import Binding, BindingType

from tuiapp.plan_services import PlanServices
from tuiapp.plan_values import Draft
from tuiapp.screens.plan import PlanScreen
from tuiapp.screens.two_fields import TwoFieldsScreen
from tuiapp.snapshot import NewRun


class PlanModelScreen(TwoFieldsScreen):
    """Two fields before the plan page."""

    place = "Plan"
    go = "Plan"
    about = (
        "What fits on this machine, or on a card you might rent: the method, the batch, the memory and the time, each with "
        "its reason. Only the model's config.json is read, and nothing is downloaded or started."
    )
    labels = (
        ("model", "directory or name",
         "A directory with a config.json, a GGUF file, a name of the hub or of the catalog. Tab completes."),
        ("data", "file, or nothing",
         "The rows to learn from: with them the plan knows lengths and time. It may stay empty. Tab completes."),
    )  # fmt: skip
    missing = "Type a model: a directory or a name."
    open_end = "Data may stay empty: without it lengths and time are not known."

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "next", "next", tooltip="the next field; on Plan: the plan"),
        Binding("tab", "next", "complete", tooltip="complete what is typed, else the next field"),
        Binding("up,shift+tab", "app.focus_previous", "move", key_display="↑↓", tooltip="the fields"),
        Binding("f2", "open", "plan", key_display="F2", tooltip="the plan for this model"),
        Binding("f1,ctrl+g", "help", "help", key_display="F1", id="help", tooltip="help for where you are"),
        Binding("escape", "leave", "leave", id="back", tooltip="leave"),
    ]

    def __init__(self, services: PlanServices) -> None:
        super().__init__(services.plan_models, services.complete_path)
        self._services = services
        self._draft = Draft()

    def open_page(self) -> None:
        """The plan."""
        form = NewRun(self.typed("model"), self.typed("data"), "")
        self.app.push_screen(PlanScreen(self._services, form, self._draft))
