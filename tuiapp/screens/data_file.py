"""Which data is looked at, where no form was filled in: a file, and the model that would see it if one has it."""

from typing import ClassVar

from textual.binding import Binding, BindingType

from tuiapp.data_services import DataServices
from tuiapp.data_values import DataDraft
from tuiapp.screens.data import DataScreen
from tuiapp.screens.two_fields import TwoFieldsScreen
from tuiapp.snapshot import NewRun


class DataFileScreen(TwoFieldsScreen):
    """Two fields before the data page."""

    place = "Data"
    first = "data"
    go = "Look"
    about = (
        "What is wrong with the rows and what can be done about it, how long they are, and what a model would see of them, "
        "token by token. Nothing is written to the file, and nothing is started."
    )
    labels = (
        ("data", "file, directory or data set of the hub",
         "The rows to learn from: JSON, JSON Lines, CSV, Parquet or text, or a data set of the hub. Tab completes."),
        ("model", "directory or name, or nothing",
         "Its tokenizer and its chat template are asked. It may stay empty: then lengths are in characters. Tab completes."),
    )  # fmt: skip
    missing = "Type a data file."
    open_end = "The model may stay empty: without it there are no tokens."

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "next", "next", tooltip="the next field; on Look: the page"),
        Binding("tab", "next", "complete", tooltip="complete what is typed, else the next field"),
        Binding("up,shift+tab", "app.focus_previous", "move", key_display="↑↓", tooltip="the fields"),
        Binding("f3", "open", "look", key_display="F3", tooltip="look at this data"),
        Binding("f1,ctrl+g", "help", "help", key_display="F1", id="help", tooltip="help for where you are"),
        Binding("escape", "leave", "leave", id="back", tooltip="leave"),
    ]

    def __init__(self, services: DataServices) -> None:
        super().__init__(services.models, services.complete_path)
        self._services = services
        self._draft = DataDraft()

    def open_page(self) -> None:
        """The page."""
        form = NewRun(self.typed("model"), self.typed("data"), "")
        self.app.push_screen(DataScreen(self._services, form, self._draft))
