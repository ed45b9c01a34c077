"""Step 3 of a new run: which file, and then the data page, with what is ticked on it kept in the draft."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from os.path import isdir
from pathlib import Path
from typing import Any, ClassVar

from textual import events, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.geometry import Region
from textual.widgets import Input

from tuiapp import format as f
from tuiapp.background import in_thread
from tuiapp.data_snapshot import Browsed, DataPage
from tuiapp.data_values import obstacle, usual_ticks
from tuiapp.draft import DATA
from tuiapp.flow import Flow
from tuiapp.layout import Places, is_narrow
from tuiapp.screens.data import DataScreen
from tuiapp.screens.wizard import StepField, WizardStep
from tuiapp.snapshot import NewRun
from tuiapp.widgets.file_pane import FileState, browse_pane
from tuiapp.widgets.pane import Pane
from tuiapp.widgets.rows import Rows, line

PAUSE = 0.1
"""Seconds without typing before the directory is looked at."""
FIELD = 7
"""Column of the path."""
PREFERENCES = "chat"
OWN = ("use", "leave", "help")
"""Actions of the page that the wizard has its own of; ctrl+o and ctrl+n are steps here, rows are [ and ]."""


class FileField(StepField):
    """The path; ↑ and ↓ choose among the files below it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "screen.pick(-1)", show=False, tooltip="the file above"),
        Binding("down", "screen.pick(1)", show=False, tooltip="the file below"),
        Binding("tab", "screen.take_file", show=False, priority=True, tooltip="take the file, or complete the path"),
    ]


class DataStep(WizardStep, DataScreen):
    """The data page as a step, with the file's field at its top."""

    step: ClassVar[int] = DATA
    about = "The rows to learn from: what is wrong with them, what is left out, and what the model will see."

    BINDINGS: ClassVar[list[BindingType]] = [
        *WizardStep.NEXT,
        *(
            one
            for one in DataScreen.BINDINGS
            if isinstance(one, Binding) and one.action not in OWN and one.key not in ("ctrl+o", "ctrl+n")
        ),
        Binding("slash", "file", "file", show=False, tooltip="another file"),
        *WizardStep.STEPS_KEYS,
        *WizardStep.LEAVE,
    ]

    def __init__(self, flow: Flow) -> None:
        DataScreen.__init__(self, flow.services, flow.draft.form(ticked=False), flow.draft.data_draft())
        self.flow = flow
        self._fresh = bool(flow.draft.data) and DATA not in flow.draft.passed and not flow.draft.rows
        self._files = FileState(flow.draft.data, Browsed())
        self._then: Callable[[], None] | None = None

    def compose(self) -> ComposeResult:
        """The page, the field over its first row, and the files while one chooses."""
        yield from DataScreen.compose(self)
        yield Pane(browse_pane, id="browse")
        help_text = "A file with the rows to learn from (JSON, JSON Lines, CSV, Parquet, text), a directory, or a name of the hub."
        yield FileField(id="data", help_text=help_text, placeholder="path of a file, or a data set of the hub")

    def begin(self) -> None:
        """Type at once, or see what was chosen before."""
        field = self.query_one(FileField)
        with field.prevent(Input.Changed):
            field.value = self.flow.draft.data
        if self.flow.draft.data:
            self.set_focus(self.query_one("#findings"))
            self._look()
        else:
            self.set_focus(field)
        self._browse()

    @property
    def _choosing(self) -> bool:
        return isinstance(self.focused, FileField) or not self.flow.draft.data

    def places(self, width: int, height: int) -> Places:
        """The page with the wizard's last rows; while a file is chosen, the files."""
        own = self.wizard_places(width, height)
        narrow = is_narrow(width, height)
        top = 1 if narrow else 3
        if self._choosing:
            if height < 6:
                return {"data": Region(0, 0, width, 1)}
            own["data"] = Region(FIELD, top, max(4, min(width - FIELD - 1, 100)), 1)
            own["problem"] = Region(0, top, FIELD, 1)
            rest = Region(0, top + 2 - narrow, width, height - top - 5 + 2 * narrow)
            return own | ({"browse": rest} if rest.height > 0 else {})
        page = DataScreen.places(self, width, height) | own
        if not narrow and page.get("epoch", Region()).y == height - 3:
            page.pop("epoch")
        return page

    def draw(self) -> None:
        """The page or the files, and the frame's rows."""
        if self._choosing:
            self.query_one("#problem", Rows).show([line((" File ", "$dim"))])
            self.query_one("#browse", Pane).feed(self._files)
            self.show_frame(self._status(self.size.width))
        else:
            DataScreen.draw(self)
            self.show_so_far()

    def _head(self, width: int) -> list[Content]:
        return self.head_lines(width)

    def _status(self, width: int) -> Content:
        if self._choosing:
            text = (
                "Enter reads and checks it. ↑↓ choose a file, Tab completes."
                if self._files.typed
                else "Type the path of a file, or choose one with ↓."
            )
            return line((f" {text}", "$dim"))
        if (
            self._state is not None
            and self.flow.draft.goal == PREFERENCES
            and self._state.page.objective in ("sft", "text")
        ):
            return line((" This data has no pairs to prefer one of: it is trained as instructions.", "$warn"))
        return DataScreen._status(self, width)

    @work(group="browse", exclusive=True, exit_on_error=False)
    async def _browse(self) -> None:
        await asyncio.sleep(PAUSE)
        text = self.query_one(FileField).value.strip()
        found = await in_thread(lambda: self.flow.services.browse(text))
        self._files = FileState(text, found)
        then, self._then = self._then, None
        if then is not None:
            then()
        self.refresh_all()

    def _wait_for_files(self, then: Callable[[], None]) -> bool:
        """Whether the files are still those of what was typed before: then it is done when they are there."""
        stale = self._files.typed != self.query_one(FileField).value.strip()
        if stale:
            self._then = then
        return stale

    def on_input_changed(self, _: Input.Changed) -> None:
        """Other files fit."""
        self._files = replace(self._files, at=None)
        self._browse()

    def on_descendant_focus(self, _: events.DescendantFocus) -> None:
        """The field shows the files, everything else the page."""
        self.refresh_all()

    def action_pick(self, by: int) -> None:
        """A file of the list."""
        if self._wait_for_files(lambda: self.action_pick(by)):
            return
        files, at = self._files.found.files, self._files.at
        if files:
            at = 0 if at is None else max(0, min(len(files) - 1, at + by))
            self._files = replace(self._files, at=at)
            self.refresh_all()

    def action_take_file(self) -> None:
        """The file under the cursor into the field; without one what all that fit have in common."""
        if self._wait_for_files(self.action_take_file):
            return
        files = self._files.found.files
        chosen = files[self._files.at].path if self._files.at is not None and files else self._files.found.common
        if chosen and chosen != self.query_one(FileField).value:
            self._type(chosen)
        elif not chosen:
            self.say("No file begins like that.")

    def _type(self, path: str) -> None:
        field = self.query_one(FileField)
        field.value = path
        field.cursor_position = len(path)

    def action_file(self) -> None:
        """To the path."""
        self.query_one(FileField).focus()

    def action_next(self) -> None:
        """In the field: read the file. Else the next step."""
        if not isinstance(self.focused, FileField):
            WizardStep.action_next(self)
            return
        if self.query_one(FileField).value.strip().endswith("/") and self._wait_for_files(self.action_next):
            return
        if self._files.at is not None and self._files.found.files:
            self._type(self._files.found.files[self._files.at].path)
            self._files = replace(self._files, at=None)
        path = self.query_one(FileField).value.strip()
        if not path:
            self.say("Type the path of a file first.")
        elif (
            path.endswith("/")
            and isdir(Path(path).expanduser())
            and self._files.found.files
            and not self._is_data_folder()
        ):
            self._browse()
        else:
            self._choose(path)

    def _is_data_folder(self) -> bool:
        """A directory of data files is data; any other is looked into."""
        return (
            any(one.is_data for one in self._files.found.files)
            and self._files.typed == self.query_one(FileField).value.strip()
        )

    def _choose(self, path: str) -> None:
        """Read this file and check it; what was known of another one counts no longer."""
        draft = self.flow.draft
        if path != draft.data:
            draft.choose_data(path)
            self.flow.forget(data=True)
            self.flow.marks.pop(DATA, None)
            self._fresh = True
            self.keep()
        self._form, self._state, self._problem = draft.form(ticked=False), None, ""
        self._draft.open(self._form)
        self._seen.clear()
        self._order.clear()
        self._again = False
        self.set_focus(self.query_one("#findings"))
        self._look()

    def _take(self, asked: NewRun, page: DataPage) -> None:
        """What nearly everybody would tick is ticked for data that is new."""
        if self._fresh:
            self._fresh = False
            counts = self.flow.services.count(page, page.max_length, page.long_rows)
            self._draft.chosen = usual_ticks(counts.findings, page)
        DataScreen._take(self, asked, page)

    def _show(self, chosen: dict[str, Any]) -> None:
        """What is shown is what is settled."""
        DataScreen._show(self, chosen)
        state, flow = self._state, self.flow
        if state is None:
            return
        if dict(chosen) != flow.draft.rows:
            flow.draft.tick(dict(chosen))
            flow.forget()
        flow.data = (state.page, state.counts)
        fatal, warned = (
            obstacle(state.page, state.counts),
            any(one.severity == "warning" for one in state.counts.findings),
        )
        flow.marks[DATA] = "✗" if fatal else "!" if warned else ""
        self.keep()
        self.refresh_all()

    def why_not(self) -> str:
        """Data that cannot be trained on stops here."""
        if not self.flow.draft.data:
            return "Type the path of a file first."
        state = self._state
        if state is None:
            return f"✗ {f.clip(self._problem, 200)}" if self._problem else "reading every row …"
        if self._looking and self._to_look() is not None:
            return "reading every row again …"
        reason = obstacle(state.page, state.counts)
        return f"✗ {reason}" if reason else ""

    def action_leave(self) -> None:
        """One layer out: the whole screen, then the wizard."""
        if self._zoomed:
            self.action_zoom()
        else:
            WizardStep.action_leave(self)

    def action_out_of_field(self) -> None:
        """From the path to the page; without one, out."""
        if self.flow.draft.data:
            with self.query_one(FileField).prevent(Input.Changed):
                self._type(self.flow.draft.data)
            self.set_focus(self.query_one("#findings"))
            self.refresh_all()
        else:
            WizardStep.action_leave(self)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """The wizard's keys always do something."""
        if action in ("next", "previous", "step", "begin_anew", "pick", "take_file", "out_of_field", "file"):
            return True
        return DataScreen.check_action(self, action, parameters)
