"""Step 6 of a new run: all of it once more as it would really start, and then start it, queue it, or take it elsewhere."""

import time
from dataclasses import replace
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.geometry import Region

from tuiapp import format as f
from tuiapp.background import in_thread, sentence
from tuiapp.draft import DATA, MODEL, REVIEW
from tuiapp.flow import Flow
from tuiapp.layout import Places
from tuiapp.messages import RunStarted
from tuiapp.review_layout import review_places
from tuiapp.review_values import (
    COPY,
    KEY_WORDS,
    QUEUE,
    SAVE,
    Problem,
    ReviewPage,
    bad_name,
    choices,
    command_of,
    home_shortened,
)
from tuiapp.screens.dialogs import Answer, AskScreen, error_dialog
from tuiapp.screens.wizard import StepField, WizardStep
from tuiapp.snapshot import NewRun
from tuiapp.widgets import review_panes as panes
from tuiapp.widgets.pane import FocusPane, Look, Pane
from tuiapp.widgets.review_panes import ReviewState
from tuiapp.widgets.rows import Rows, line

PAUSE = 0.5
"""Seconds that the numbers have to stand before Enter starts a run: one sees them first."""
LOOK_EVERY = 5.0
"""Seconds between looks at the queue and the disk."""
DETAILS_HELP = (
    "Every field that is not as recommended for this model and data, with what would be recommended and why; what follows "
    "from others is dim. Then what a fork changes, what there is to know, and which rows are left out."
)
YAML_HELP = "The specification that is stored with the run, complete, each value with its reason."


class ReviewStep(WizardStep):
    """The step."""

    step: ClassVar[int] = REVIEW
    about = "All of it once more before it starts: what you changed, what it takes, and the same as a command."

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "next", "do it", tooltip="do what is chosen"),
        Binding("left,h", "choose(-1)", "other", key_display="←→", tooltip="what stands before"),
        Binding("right,l", "choose(1)", "other", show=False, key_display="→ l", tooltip="what stands behind"),
        Binding("ctrl+o", "previous", "back", tooltip="the step before"),
        *WizardStep.STEPS_KEYS[:1],
        Binding("v", "view", "YAML", tooltip="the whole specification, and back"),
        Binding("R", "rename", "name", tooltip="give it another name"),
        Binding("Y", "copy", "copy", tooltip="copy the command"),
        Binding("e", "again", "check again", tooltip="look at everything again"),
        *WizardStep.STEPS_KEYS[1:],
        *WizardStep.LEAVE,
    ]

    def __init__(self, flow: Flow) -> None:
        super().__init__()
        self.flow = flow
        self._page: ReviewPage | None = None
        self._at = 0
        self._ready_at = 0.0
        self._whole = self._naming = self._saving = self._starting = False

    def compose(self) -> ComposeResult:
        """The panes; where they stand is decided by size."""
        yield Rows(id="head", classes="placed")
        yield Pane(panes.facts_pane, id="facts")
        yield FocusPane(panes.details_pane, id="details", help_text=DETAILS_HELP, length=panes.details_length)
        yield Pane(panes.command_pane, id="command")
        yield Pane(panes.choices_pane, id="choices")
        yield Rows(id="rule", classes="placed")
        yield Rows(id="busy", classes="placed")
        yield Pane(panes.peak_pane, id="peak")
        yield FocusPane(panes.yaml_pane, id="yaml", help_text=YAML_HELP, length=panes.yaml_length)
        yield Pane(panes.problem_pane, id="problem")
        yield StepField(id="name", help_text="What the run is called.", placeholder="chosen for you")
        yield StepField(
            id="path",
            help_text="Where the file goes.",
            placeholder="FILE.yaml",
            complete=self.flow.services.complete_path,
        )
        for name in ("sofar", "status", "keys"):
            yield Rows(id=name, classes="placed")

    def on_mount(self) -> None:
        """Ask at once; what changes from moment to moment is looked at again and again."""
        super().on_mount()
        self._look()
        self.set_interval(LOOK_EVERY, self._look_again)

    def places(self, width: int, height: int) -> Places:
        """See `review_places`."""
        state, places = self._state, self.wizard_places(width, height)
        if state is None:
            return places | {"busy": Region(0, min(3, height - 1), width, 1)}
        command = panes.command_pane(replace(state, width=width), Look(self._main(width, height), 99))
        return places | review_places(
            width, height, command=len(command), peak=panes.peak_rows(state.page),
            problem=state.page.problem is not None, whole=self._whole, naming=self._naming, saving=self._saving,
        )  # fmt: skip

    @staticmethod
    def _main(width: int, height: int) -> int:
        """Columns of the details."""
        places = review_places(width, height)
        return places["details" if "details" in places else "facts"].width

    @property
    def _state(self) -> ReviewState | None:
        if self._page is None:
            return None
        width, height = self.size.width, self.size.height
        now = self.snapshot.now if self.snapshot is not None else time.time()
        return ReviewState(self._page, self._at, now, self._main(width, height), self._naming, self._saving)

    def draw(self) -> None:
        """Everything."""
        state = self._state
        if state is not None:
            for pane in self.query(Pane).results():
                if pane.display:
                    pane.feed(state)
            self.query_one("#rule", Rows).show([line(("│", "$dim"))] * self.size.height)
        self.query_one("#busy", Rows).show([line((" checking the data and the plan …", "$dim"))])
        self.show_frame(self._status(state))
        if not (self._naming or self._saving):
            self.keep_focus()

    def show_so_far(self) -> None:
        """What there is to be warned of; else what is settled."""
        warned = panes.warning_line(self._page, self.size.width) if self._page is not None else None
        if warned is None:
            super().show_so_far()
        else:
            self.query_one("#sofar", Rows).show([warned])

    def _status(self, state: ReviewState | None) -> Content:
        if self._starting:
            return line((" starting …", "$warn"))
        if state is None:
            return line((" checking …", "$warn"))
        problem = state.page.problem
        words = "It cannot start like this." if problem else panes.status_words(state)
        return line((f" {words}", "$bad" if problem else "$dim"))

    def deck_bindings(self) -> list[Binding]:
        """Enter by the name of what it does; while one types, what else keys do does not count."""
        found = super().deck_bindings()
        if self._naming or self._saving:
            words = "take the name" if self._naming else "write the file"
            leave = Binding("escape", "out_of_field", "leave it as it is", tooltip="leave it as it is")
            return [replace(one, description=words) for one in found if one.action == "next"] + [leave]
        words = KEY_WORDS.get(self._choice, "do it")
        return [replace(one, description=words) if one.action == "next" else one for one in found]

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """While it starts nothing else is done."""
        if self._starting:
            return False
        page = self._page
        if action in ("next", "choose", "rename", "view"):
            return page is not None and (page.problem is None or action == "rename")
        if action == "again":
            return page is not None and page.problem is not None
        if action == "copy":
            return page is not None and bool(page.command)
        return True

    def _missing(self) -> Problem | None:
        draft = self.flow.draft
        if not draft.model:
            return Problem("There is no model yet", "A run begins with a model.", step=MODEL)
        if not draft.data:
            return Problem("There is no data yet", "A run begins with a file of rows to learn from.", step=DATA)
        return None

    @work(group="review", exclusive=True, exit_on_error=False)
    async def _look(self) -> None:
        """Ask what the draft would start."""
        form = self.flow.draft.form()
        if missing := self._missing():
            self._take(ReviewPage(form, missing))
            return
        self._take(await in_thread(lambda: self._asked(form)))

    def _asked(self, form: NewRun) -> ReviewPage:
        try:
            return self.flow.services.review(form)
        except Exception as error:  # whatever it was: a page that says so
            return ReviewPage(form, Problem("That did not work", sentence(error), "e tries again."))

    def _look_again(self) -> None:
        """The queue and the disk, where there is a page and nothing is done with it."""
        if self.is_current and self._page is not None and self._page.problem is None and not self._starting:
            self._look()

    def _take(self, page: ReviewPage) -> None:
        """A new page. What Enter would do has to stand for a moment before it does it."""
        old, before = self._page, self._choice
        found = choices(page)
        self._page, self._at = page, found.index(before) if before in found else 0
        if old is None or old.problem is not None or old.form != page.form or before != self._choice:
            self._ready_at = time.monotonic() + PAUSE
        self.flow.marks[REVIEW] = "✗" if page.problem is not None else ""
        self.refresh_all()

    @property
    def _choice(self) -> str:
        return ReviewState(self._page, self._at).choice if self._page is not None else ""

    def why_not(self) -> str:
        """Why nothing can be started."""
        if self._page is None:
            return "checking …"
        problem = self._page.problem
        if problem is not None:
            return f"✗ {problem.title}: {problem.message}"
        if self.snapshot is not None and self.snapshot.read_only:
            return "✗ The database can only be read: no run can be written to it."
        return ""

    def action_next(self) -> None:
        """In a field: take it. Else do what is chosen."""
        if isinstance(self.focused, StepField):
            # after the keys that were typed before this one
            self.focused.call_later(self._accept_name if self._naming else self._accept_path)
        elif (choice := self._choice) == SAVE:
            self._ask_path()
        elif choice == COPY:
            self.action_copy()
        elif reason := self.why_not():
            self.say(reason)
        elif time.monotonic() < self._ready_at:
            self.say("The numbers have just come: Enter once more.")
        elif not self._starting:
            self._starting = True
            self._start(choice == QUEUE)
            self.refresh_all()

    @work(group="start", exit_on_error=False)
    async def _start(self, queue: bool) -> None:
        form = self._page.form if self._page is not None else self.flow.draft.form()
        try:
            run_id = await in_thread(lambda: self.flow.services.start(form, queue))
        except Exception as error:  # shown in a dialog; the draft stays
            self._starting = False
            self.app.push_screen(error_dialog(error))
            self._look()
            return
        self.deck.post_message(RunStarted(run_id))

    def action_choose(self, by: int) -> None:
        """Another thing to do."""
        if self._page is not None:
            self._at = (self._at + by) % max(1, len(choices(self._page)))
            self.refresh_all()

    def action_again(self) -> None:
        """Look once more."""
        self._page = None
        self.refresh_all()
        self._look()

    def action_view(self) -> None:
        """The whole specification in the place of the rest, and back."""
        self._whole = not self._whole
        self.refresh_all()
        shown = self.query_one("#yaml" if self._whole else "#details")
        if shown.display:
            shown.focus()

    def action_copy(self) -> None:
        """The command by OSC 52."""
        page = self._page
        if page is None or not page.command:
            self.say("No command makes exactly this; save it as YAML.")
            return
        text = " ".join(map(home_shortened, command_of(page, self._choice)))
        self.app.copy_to_clipboard(text)
        self.say(f"Copied, if the terminal lets it: {text}")

    def action_rename(self) -> None:
        """Type another name."""
        self._naming, self._saving = True, False
        self._edit("name", self.flow.draft.name)

    def _ask_path(self) -> None:
        if self._page is not None:
            self._saving, self._naming = True, False
            self._edit("path", f"{f.clean(self._page.name).replace('/', '-')}.yaml")

    def _edit(self, name: str, text: str) -> None:
        self.refresh_all()
        field = self.query_one(f"#{name}", StepField)
        field.value = text
        field.cursor_position = len(text)
        field.focus()

    def _close_fields(self) -> None:
        self._naming = self._saving = False
        self.set_focus(None)
        self.refresh_all()

    def action_out_of_field(self) -> None:
        """Nothing of it is taken."""
        self._close_fields()

    def _accept_name(self) -> None:
        name = self.query_one("#name", StepField).value.strip()
        if reason := bad_name(name):
            self.say(reason)
            return
        self._close_fields()
        if name != self.flow.draft.name:
            self.flow.draft.name = name
            self.keep()
            self._look()

    def _accept_path(self) -> None:
        path = self.query_one("#path", StepField).value.strip()
        if path:
            self._save(path, replace=False)
        else:
            self.say("Type where the file goes.")

    @work(group="save", exclusive=True, exit_on_error=False)
    async def _save(self, path: str, replace: bool) -> None:
        page = self._page
        if page is None:
            return
        try:
            place = await in_thread(lambda: self.flow.services.save(page, path, replace))
        except Exception as error:  # shown in a dialog; the field stays
            self.app.push_screen(error_dialog(error))
            return
        if place:
            self._close_fields()
            self.say(f"Saved. It starts with: tunedeck train {home_shortened(place)}")
            return
        text = f"{f.clip_left(f.clean(path), 60)} is there already. What is in it would be gone."
        question = AskScreen("Replace the file?", text, (Answer("", "Keep it"), Answer("yes", "Replace", "r")))

        def answered(answer: str | None) -> None:
            if answer == "yes":
                self._save(path, replace=True)

        self.app.push_screen(question, answered)
