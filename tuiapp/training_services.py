"""What the Training step asks for, whoever answers."""

from typing import Protocol

from tuiapp.snapshot import NewRun
from tuiapp.training_snapshot import TrainingPage


class TrainingServices(Protocol):
    """What the step asks for. It may block."""

    def training(self, form: NewRun, base: NewRun, changed: tuple[str, ...] = (), card: str = "") -> TrainingPage:
        """`form` completed; `base` is the same without what was changed on the step, the fields `changed`."""
