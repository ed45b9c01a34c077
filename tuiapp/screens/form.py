"""What the forms have in common: the model's field with its suggestions, the head, and the keys between fields."""

from collections.abc import Callable

from textual import work

from tuiapp import format as f
from tuiapp.background import in_thread, sentence
from tuiapp.screens.base import DeckScreen
from tuiapp.widgets.fields import Field
from tuiapp.widgets.head import where_line
from tuiapp.widgets.rows import Rows
from tuiapp.widgets.strip import strip_line


class FormScreen(DeckScreen):
    """Fields below each other. `models` names those that can be suggested and may block."""

    first = "model"
    """The field that is typed first."""

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
