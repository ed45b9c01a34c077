"""One way through the wizard: the draft, what the steps found out for each other, and the thread that keeps the draft."""

from copy import deepcopy
from pathlib import Path
from threading import Lock, Thread
from typing import TYPE_CHECKING

from tuiapp import draft as drafts
from tuiapp.data_snapshot import DataCounts, DataPage
from tuiapp.draft import RunDraft
from tuiapp.model_values import ModelPage
from tuiapp.snapshot import PlanChoice, PlanPage

if TYPE_CHECKING:
    from tuiapp.screens.wizard import WizardServices


class Flow:
    """`file` keeps the draft. What the steps say of each other is None until it is known for the draft's model and data."""

    def __init__(self, services: "WizardServices", draft: RunDraft, file: Path) -> None:
        self.services = services
        self.draft = draft
        self.file = file
        self.marks: dict[int, str] = {}
        """By step `!` or `✗`, where something is the matter with it."""
        self.verdict = ""
        """What fits of the model, in two words: LoRA likely."""
        self.models: ModelPage | None = None
        """All models, as they were looked at last."""
        self.page: PlanPage | None = None
        self.choice: PlanChoice | None = None
        self.data: tuple[DataPage, DataCounts] | None = None
        self.kept = draft.is_begun
        self.unsaved = ""
        """Why the draft could not be written."""
        self._lock = Lock()
        self._next: RunDraft | None = None
        self._writing = False
        self._ended = False

    def save(self) -> None:
        """Keep the draft as it is now; it is written in a thread, the newest last."""
        if not self.draft.is_begun:
            return
        with self._lock:
            if self._ended:
                return
            self._next = deepcopy(self.draft)
            if self._writing:
                return
            self._writing = True
        # no daemon: leaving the app waits until it is written
        Thread(target=self._write, name="draft").start()

    def _write(self) -> None:
        while True:
            with self._lock:
                one, self._next = self._next, None
                if one is None:
                    self._writing = False
                    return
            try:
                drafts.save(self.file, one)
                self.kept, self.unsaved = True, ""
            except OSError as error:
                self.unsaved = error.strerror or str(error)
            with self._lock:
                if self._ended:  # while this was written
                    drafts.drop(self.file)

    def end(self) -> None:
        """The run has started, or the draft is given up."""
        with self._lock:
            self._next, self._ended = None, True
        drafts.drop(self.file)

    def forget(self, *, data: bool = False) -> None:
        """What was found out counts no longer: the model changed, or also the data."""
        self.page = self.choice = None
        if data:
            self.data = None

    def mark(self, step: int) -> str:
        """What stands before a step's name: where one is, what is wrong with it, or that it was accepted."""
        if step == self.draft.step:
            return "▸"
        return self.marks.get(step) or ("✓" if step in self.draft.passed else " ")

    def pass_step(self, step: int) -> None:
        """Accepted."""
        if step not in self.draft.passed:
            self.draft.passed = sorted([*self.draft.passed, step])
