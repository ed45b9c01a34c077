"""The form of a new run: two things have to be typed, everything else is recommended and says why."""

import asyncio
from dataclasses import replace
from typing import ClassVar, Protocol

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.geometry import Region
from textual.widgets import Input

from tuiapp import format as f
from tuiapp.background import in_thread, sentence
from tuiapp.data_services import DataServices
from tuiapp.data_values import MAX_LENGTH, DataDraft
from tuiapp.data_values import in_words as ticked_in_words
from tuiapp.layout import Places, is_narrow
from tuiapp.messages import RunStarted
from tuiapp.plan_services import PlanServices
from tuiapp.plan_values import Draft, in_words, kind_of, planned, with_chosen
from tuiapp.screens.data import DataScreen
from tuiapp.screens.dialogs import error_dialog
from tuiapp.screens.form import FormScreen
from tuiapp.screens.plan import PlanScreen
from tuiapp.snapshot import FormCheck, NewRun
from tuiapp.widgets.fields import Choice, Field, Go
from tuiapp.widgets.rows import Rows, line

PAUSE = 0.4
"""Seconds without typing before the form is checked."""

LABEL = 10
METHODS = (
    ("lora", "LoRA", "a small adapter beside 16-bit weights"),
    ("qlora", "QLoRA", "the same over 4-bit weights: less memory, slower"),
    ("full", "full", "all weights: the most memory"),
    ("dora", "DoRA", "LoRA with a size apart from the direction: slower, a little better"),
)


class FormServices(PlanServices, DataServices, Protocol):
    """What the form asks for."""

    def check(self, form: NewRun) -> FormCheck:
        """What is known about it before anything starts."""


class NewRunScreen(FormScreen):
    """The form."""

    place = "New run"

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "next", "next", tooltip="the next field; on Start: start the run"),
        Binding("tab", "next", "complete", tooltip="complete what is typed, else the next field"),
        Binding("up,shift+tab", "app.focus_previous", "move", key_display="↑↓", tooltip="the fields"),
        Binding("f2", "plan", "plan", key_display="F2", tooltip="plan: what fits, and what each choice would cost"),
        Binding("f3", "data", "data", key_display="F3", tooltip="data: what is wrong with it, and what the model sees"),
        Binding("f1,ctrl+g", "help", "help", key_display="F1", id="help", tooltip="help for where you are"),
        Binding("escape", "leave", "leave", id="back", tooltip="leave; nothing was started"),
    ]

    def __init__(self, services: FormServices) -> None:
        super().__init__(services.models, services.complete_path)
        self._services = services
        self._check: FormCheck | None = None
        self._checked: NewRun | None = None
        self._problem = ""
        self._starting = False
        self._draft = Draft()
        self._data_draft = DataDraft()

    def compose(self) -> ComposeResult:
        """The labels and findings lie under the fields."""
        yield Rows(id="head", classes="placed")
        yield Rows(id="form", classes="placed")
        about = "A directory with a model, a name of the hub, or a GGUF file. Tab completes."
        yield Field(id="model", help_text=about, placeholder="directory or name", complete=self.complete_model)
        about = "A file with the rows to learn from: JSON, JSON Lines, CSV or text. Tab completes."
        yield Field(id="data", help_text=about, placeholder="file", complete=self._services.complete_path)
        yield Choice(METHODS, id="method", help_text="Which weights are trained. ← and → choose.")
        yield Field(id="name", help_text="What the list calls the run.", placeholder="from model and method")
        about = "How many steps at most; empty for as many as are recommended."
        yield Field(id="steps", help_text=about, placeholder="as recommended")
        yield Go("Start", id="start")
        yield Rows(id="plan", classes="placed")
        yield Rows(id="status", classes="placed")
        yield Rows(id="keys", classes="placed")

    def places(self, width: int, height: int) -> Places:
        """Fields below each other; what will be chosen takes the rest."""
        small = is_narrow(width, height)
        top = 1 if small else 3
        gap = ("",) if height >= 22 else ()
        rows = ("model", "", "data", "", "method", "name", "steps", *gap, "start")
        field = max(4, min(width - LABEL - 1, 90))
        places = {
            name: Region(LABEL, top + y, field, 1) for y, name in enumerate(rows) if name and top + y < height - 2
        }
        plan = top + len(rows) + 1
        places |= {
            "head": Region(0, 0, width, 1 if small else 2),
            "form": Region(0, top, width, max(0, min(len(rows), height - 2 - top))),
            "status": Region(0, height - 2, width, 1),
            "keys": Region(0, height - 1, width, 1),
        }
        if height - 3 > plan + 1:
            places["plan"] = Region(0, plan, width, height - 3 - plan)
        return places

    def draw(self) -> None:
        """Labels, findings and the plan."""
        width = self.size.width
        self.show_head(width)
        self.query_one("#form", Rows).show(self._labels(width))
        self.query_one("#plan", Rows).show(self._plan(width))
        self.show_status(self._status())
        self.show_keys()

    def form(self) -> NewRun:
        """What is typed."""
        values = {name: self.query_one(f"#{name}", Field).value.strip() for name in ("model", "data", "name", "steps")}
        steps = int(values["steps"]) if values["steps"].isdigit() and int(values["steps"]) > 0 else None
        method = self.query_one("#method", Choice).value
        form = NewRun(values["model"], values["data"], method, values["name"], steps)
        return with_chosen(self._planned(form), self._data_draft.pairs(form))

    def _planned(self, form: NewRun) -> NewRun:
        """With what the plan page settled, if that is for this form."""
        settled = self._draft.settled
        return planned(form, settled) if settled is not None and self._draft.settles(form) else form

    def _labels(self, width: int) -> list[Content]:
        check, form = self._check, self.form()
        model, data = line(""), line("")
        if check is not None:
            model = _finding(check.model_text, check.model_ok, width) if form.model else model
            data = _finding(check.data_text, check.data_ok, width) if form.data else data
        names = ("Model", None, "Data", None, "Method", "Name", "Steps")
        findings = iter((model, data))
        return [next(findings) if name is None else line(f" {name}") for name in names]

    def _in_the_way(self, width: int) -> list[Content]:
        """What cannot be used, in full: beside its field there is one line."""
        check, form = self._check, self.form()
        if check is None:
            return []
        findings = (
            ("Model", check.model_text, check.model_ok or not form.model),
            ("Data", check.data_text, check.data_ok or not form.data),
        )
        rows = []
        for name, text, good in findings:
            if not good and len(text) > width - LABEL - 3:
                wrapped = f.wrap(f.clean(text), width - LABEL - 1, 4)
                rows += [
                    line((f" {name if i == 0 else '':<{LABEL - 1}}", "$bad"), part) for i, part in enumerate(wrapped)
                ]
        return rows

    def _plan(self, width: int) -> list[Content]:
        if rows := self._in_the_way(width):
            return [line((" In the way", "bold")), *rows]
        plan = self._check.plan if self._check is not None else ()
        if not plan:
            empty = " What will be chosen appears here, each value with its reason."
            return [*self._settled(width), line((empty, "$dim"))]
        first = max(len(field) for field, _, _ in plan) + 2
        second = min(max(10, width // 6), max(len(f.plain(value)) for _, value, _ in plan) + 2)
        rows = [line((" What will be chosen", "bold"))]
        rows += self._settled(width)
        for field, value, why in plan:
            text = f" {f.left(f.clean(field), first)}", f.left(f.plain(value), second)
            reason = f.clip(f.clean(why), width - first - second - 2)
            rows.append(line((text[0], "$dim"), text[1], (reason, "$dim")))
        return rows

    def _settled(self, width: int) -> list[Content]:
        """What was chosen on the other pages."""
        form, settled, rows = self.form(), self._draft.settled, []
        pairs = self._data_draft.pairs(form)
        if settled is not None and self._draft.settles(form):
            length = dict(pairs).get(MAX_LENGTH, settled.values.max_length)
            if length != settled.values.max_length:  # the memory is that of the length that was planned with
                settled = replace(settled, values=replace(settled.values, max_length=length), device_gib=None)
            rows.append(line((" As planned, F2 changes it: ", "$accent"), f.clip(in_words(settled), width - 30)))
        if pairs:
            rows.append(line((" As ticked, F3 changes it:  ", "$accent"), f.clip(ticked_in_words(pairs), width - 30)))
        return rows

    def _status(self) -> Content:
        if self._starting:
            return line((" starting …", "$dim"))
        if self._problem:
            return line((f" {self._problem}", "$warn"))
        reason = self._why_not()
        return line((f" {reason}", "$dim")) if reason else line(" Ready: Enter on Start starts it.")

    def _why_not(self) -> str:
        """Why it cannot start yet; empty if it can."""
        form = self.form()
        steps = self.query_one("#steps", Field).value.strip()
        if not form.model:
            return "Type a model: a directory or a name."
        if not form.data:
            return "Type a data file."
        if steps and form.max_steps is None:
            return "Steps has to be a whole number, or empty."
        if self._check is None or self._checked != form:
            return "checking …"
        if not self._check.model_ok:
            return "The model cannot be used, see above."
        return "" if self._check.data_ok else "The data cannot be used, see above."

    def on_input_changed(self, _: Input.Changed) -> None:
        """Check when the typing pauses."""
        self._changed()

    def on_choice_changed(self, _: Choice.Changed) -> None:
        """Another method changes the plan."""
        self._changed()

    def _changed(self) -> None:
        self._problem = ""
        self._said = ""
        if self.is_mounted:
            self.draw()
            self._check_soon()

    @work(group="check", exclusive=True, exit_on_error=False)
    async def _check_soon(self) -> None:
        await asyncio.sleep(PAUSE)
        form = self.form()
        if not form.model and not form.data:
            return
        try:
            self._check = await in_thread(lambda: self._services.check(form))
            self._checked = form
        except Exception as error:  # whatever it was, the form stays and says so
            self._problem = f.clean(sentence(error))
        self.draw()

    def on_go_pressed(self, _: Go.Pressed) -> None:
        """Start, unless something is missing; the status line says what."""
        if self._starting:
            return
        if reason := self._why_not():
            self._problem = reason
            self.draw()
            return
        self._starting = True
        self.draw()
        self._start()

    def action_plan(self) -> None:
        """The plan page for what is typed."""
        form = self.form()
        if not form.model:
            self.say("Type a model first: a directory or a name.")
            return
        page = PlanScreen(self._services, replace(form, chosen=self._data_draft.pairs(form)), self._draft)
        self.app.push_screen(page, self._back_from_plan)

    def _back_from_plan(self, _: object) -> None:
        """The method follows what was chosen there."""
        settled = self._draft.settled
        if settled is not None:
            if MAX_LENGTH in self._data_draft.chosen:  # there it was given; what it became is what counts
                self._data_draft.chosen[MAX_LENGTH] = settled.values.max_length
            method = kind_of(settled.values.method)
            choice, names = self.query_one("#method", Choice), [name for name, _, _ in METHODS]
            choice.action_turn(names.index(method) - names.index(choice.value))

    def action_data(self) -> None:
        """The data page for what is typed."""
        form = self.form()
        if not form.data:
            self.say("Type a data file first.")
            return
        page = DataScreen(self._services, self._planned(replace(form, chosen=())), self._data_draft)
        self.app.push_screen(page, lambda _: self._changed())

    @work(group="start", exclusive=True, exit_on_error=False)
    async def _start(self) -> None:
        form = self.form()
        try:
            run_id = await in_thread(lambda: self._services.start(form))
        except Exception as error:  # shown in a dialog; the form keeps what was typed
            self.app.push_screen(error_dialog(error))
            return
        finally:
            self._starting = False
            self.draw()
        self.post_message(RunStarted(run_id))


def _finding(text: str, good: bool, width: int) -> Content:
    mark = ("✓ ", "$good") if good else ("✗ ", "$bad")
    return line(" " * LABEL, mark, (f.clip(f.clean(text), width - LABEL - 3), "$dim" if good else ""))
