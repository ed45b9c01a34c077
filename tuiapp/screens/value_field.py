"""The field in which a value of the Training step is typed, and where it stands."""

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.geometry import Region

from tuiapp.screens.wizard import StepField
from tuiapp.training_layout import columns
from tuiapp.widgets import training_panes as panes
from tuiapp.widgets.training_panes import TrainingState


class ValueField(StepField):
    """The value that is typed, where the value stands."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "screen.typed(-1)", show=False, tooltip="take it, and the field above"),
        Binding("down", "screen.typed(1)", show=False, tooltip="take it, and the field below"),
        Binding("tab", "complete", show=False, priority=True, tooltip="complete"),
    ]

    def action_complete(self) -> None:
        """Take what is suggested; without a suggestion stay."""
        if self._suggestion and self._suggestion != self.value:
            super().action_complete()


def value_place(state: TrainingState | None, fields: Region) -> Region:
    """Where the value of the field under the cursor stands, in the pane of the fields."""
    if state is None:
        return Region(0, 0, 0, 0)
    cols = columns(fields.width, whole=state.whole, fork=state.fork)
    heading = fields.height > 3
    row = panes.row_of(state, state.at, fields.height - heading) or 1
    return Region(fields.x + cols.value + 2, fields.y + row - (not heading), max(4, cols.usual - cols.value - 3), 1)
