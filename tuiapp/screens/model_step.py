"""Step 2 of a new run: which model, with what fits of each on this machine."""

import asyncio
from dataclasses import replace
from typing import ClassVar

from textual import events, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.geometry import Region
from textual.widgets import Input

from tuiapp import model_values as values
from tuiapp.background import in_thread, sentence
from tuiapp.draft import MODEL
from tuiapp.flow import Flow
from tuiapp.layout import Places, is_narrow
from tuiapp.model_values import HUB, ORDERS, FitRow, ModelLine, ModelPage
from tuiapp.screens.wizard import StepField, WizardStep
from tuiapp.screens.words import WordsScreen
from tuiapp.widgets.keys import changed, keys_line, named
from tuiapp.widgets.model_list import ModelState, count_line, first_row, list_pane, note_pane
from tuiapp.widgets.model_panes import about_pane, fits_pane, hints_pane, inspect_lines, status_line
from tuiapp.widgets.pane import FocusPane, Pane
from tuiapp.widgets.rows import Rows, line

PAUSE = 0.1
"""Seconds without typing before a path or a hub id of its own is looked at."""
PATIENCE = 2.0
"""Seconds that Enter waits for the verdicts; then the best that is known by name is taken."""
FIELD = 8
"""Column of the field."""
TRUST = "model.trust_remote_code"
FIELD_HELP = (
    "Words of a model's name: only models with all of them are shown. What is not listed may be typed in full: "
    "a hub id (organisation/name), a directory with a config.json, or a GGUF file."
)
LIST_HELP = (
    "Models of this machine (the working directory, near the database, ./models, the hub's cache) and of the catalog. "
    "The verdict is the best method that fits with 10 % headroom for one row of 1,024 tokens with checkpointing; "
    "step 4 computes it again with your data."
)


class ModelField(StepField):
    """The filter; ↑ and ↓ move in the list below it."""

    BINDINGS: ClassVar[list[BindingType]] = named([
        Binding("up", "screen.move(-1)", show=False, tooltip="the model above"),
        Binding("down", "screen.move(1)", show=False, tooltip="the model below"),
        Binding("pageup", "screen.page(-1)", show=False, tooltip="a page up"),
        Binding("pagedown", "screen.page(1)", show=False, tooltip="a page down"),
    ])  # fmt: skip


class ModelList(FocusPane[ModelState]):
    """The list, for the mouse too."""

    async def on_click(self, event: events.Click) -> None:
        """A click chooses."""
        await self.run_action(f"screen.pick({event.y})")

    async def on_mouse_scroll_down(self) -> None:
        """The wheel moves the cursor."""
        await self.run_action("screen.move(1)")

    async def on_mouse_scroll_up(self) -> None:
        """The wheel moves the cursor."""
        await self.run_action("screen.move(-1)")


class ModelStep(WizardStep):
    """The step. The cursor is a model's path, so that it stays where it is while verdicts arrive."""

    step: ClassVar[int] = MODEL
    about = "Which model is trained further. Larger ones know more and need more memory and time."

    BINDINGS: ClassVar[list[BindingType]] = [
        *WizardStep.NEXT,
        Binding("up,k", "move(-1)", "choose", key_display="↑↓", tooltip="above"),
        Binding("down,j", "move(1)", "down", show=False, tooltip="below"),
        Binding("pageup", "page(-1)", "page", show=False, tooltip="a page up"),
        Binding("pagedown", "page(1)", "page", show=False, tooltip="a page down"),
        Binding("g,home", "edge(-1)", "first", show=False, tooltip="the first"),
        Binding("G,end", "edge(1)", "last", show=False, tooltip="the last"),
        Binding("slash", "filter", "filter", tooltip="type words of its name, or a model in full"),
        Binding("o", "order", "order", tooltip="order by something else"),
        Binding("O", "turn_round", "turn", show=False, tooltip="turn the order round"),
        Binding("i", "inspect", "facts", tooltip="everything known about it"),
        Binding("C", "trust", "its code", tooltip="let the model's own Python code run, or not"),
        Binding("escape", "clear", "clear", show=False, tooltip="clear the filter"),
        *WizardStep.STEPS_KEYS,
        *WizardStep.LEAVE,
    ]
    TYPING: ClassVar[list[Binding]] = [
        Binding("enter", "next", "next", id="main"),
        Binding("ctrl+o", "previous", "back", id="previous"),
        Binding("up", "move", "choose", key_display="↑↓"),
        Binding("tab", "app.focus_next", "to the list", id="next-pane"),
        Binding("ctrl+g", "help", "help", id="help"),
        Binding("escape", "out_of_field", "list", id="back"),
    ]
    """The last row while one types, when letters are text."""

    def __init__(self, flow: Flow) -> None:
        super().__init__()
        self.flow = flow
        self._page = flow.models or ModelPage(())
        self._whole = flow.models is not None
        self._first = values.suggested(self._page, flow.draft.goal)
        self._at = ""
        self._order = values.BEST
        self._turned = False
        self._typed: tuple[str, ModelLine] | None = None
        self._problem = ""
        self._waiting: int | None = None
        self._waiting_text = ""
        self._rows: tuple[str, tuple[FitRow, ...]] = ("", ())

    def compose(self) -> ComposeResult:
        """The panes; where they stand is decided by size."""
        yield Rows(id="head", classes="placed")
        yield Rows(id="label", classes="placed")
        yield ModelField(id="model", help_text=FIELD_HELP, placeholder="words of a name, a hub id or a directory",
                         complete=self._complete)  # fmt: skip
        yield Rows(id="count", classes="placed")
        yield ModelList(list_pane, id="models", help_text=LIST_HELP)
        for name, build in (("note", note_pane), ("facts", about_pane), ("fits", fits_pane), ("hints", hints_pane)):
            yield Pane(build, id=name)
        for name in ("sofar", "status", "keys"):
            yield Rows(id=name, classes="placed")

    def on_mount(self) -> None:
        """One can type at once; the models are looked for."""
        super().on_mount()
        self._field.focus()
        self._find()

    @property
    def _field(self) -> ModelField:
        return self.query_one(ModelField)

    @property
    def _is_typing(self) -> bool:
        return isinstance(self.focused, ModelField)

    def _complete(self, text: str) -> list[str]:
        """Directories that go on from a path; names are what the list is for."""
        return self.flow.services.complete_path(text) if values.typed_kind(text) == "path" else []

    @work(group="models", exclusive=True, exit_on_error=False)
    async def _find(self) -> None:
        """The names at once, then everything."""
        services, chosen = self.flow.services, self.flow.draft.model
        try:
            if not self._whole:
                self._page = ModelPage(await in_thread(services.model_names))
                self.refresh_all()
            page = await in_thread(lambda: services.model_page(chosen))
        except Exception as error:  # one can still type a model in full
            self._problem = sentence(error)
            page = self._page
        self._page = self.flow.models = page
        self._first = values.suggested(page, self.flow.draft.goal)
        self._whole = True
        self._rows = ("", ())
        self.refresh_all()
        self._go_on()

    def places(self, width: int, height: int) -> Places:
        """The field, the list, and below it what there is room for."""
        places = self.wizard_places(width, height)
        if height < 6:
            return {"model": Region(0, 0, width, 1), "models": Region(0, 1, width, height - 1)}
        if is_narrow(width, height):
            return places | {"model": Region(1, 1, width - 2, 1), "models": Region(0, 2, width, height - 4)}
        places |= {
            "label": Region(0, 3, FIELD, 1),
            "model": Region(FIELD, 3, max(8, min(60, width - FIELD - 44)), 1),
            "count": Region(max(0, width - 42), 3, 42, 1),
        }
        rooms = body(width, height - 9, self._page)
        return places | {name: Region(0, 5 + y, width, rows) for name, (y, rows) in rooms.items()}

    @property
    def _text(self) -> str:
        return self._field.value.strip() if self.is_mounted else ""

    def _lines(self) -> list[ModelLine]:
        text = self._text
        typed = self._typed[1] if self._typed is not None and self._typed[0] == text else None
        return values.shown(self._page, text, typed, self._order, self._turned, self._first)

    def _place(self, lines: list[ModelLine]) -> int:
        """Where the cursor stands: where it was put, else on the chosen or suggested model, else on the first match."""
        paths = [one.path for one in lines]
        if self._at in paths:
            return paths.index(self._at)
        if self._text:
            return 0
        for wanted in (self.flow.draft.model, self._first.path if self._first else ""):
            if wanted in paths:
                return paths.index(wanted)
        return 0

    def _fit_rows(self, one: ModelLine) -> tuple[FitRow, ...]:
        """What fits of a model; computed once while the cursor is on it."""
        if not self._whole:
            return ()
        if self._rows[0] != one.path:
            self._rows = one.path, self.flow.services.model_fits(one.path)
        return self._rows[1]

    def _state(self) -> ModelState:
        lines, draft = self._lines(), self.flow.draft
        at = self._place(lines)
        path = lines[at].path if lines else ""
        return ModelState(
            page=self._page, lines=tuple(lines), at=at, chosen=draft.model,
            first=self._first, looking=not self._whole,
            trusted=path == draft.model and draft.given.get(TRUST) is True, goal=draft.goal,
            runs=self.snapshot.runs if self.snapshot is not None else (),
            bars="fits" in self._stand,
            rows=self._fit_rows(lines[at]) if lines and "fits" in self._stand else (),
        )  # fmt: skip

    def draw(self) -> None:
        """Everything."""
        state = self._state()
        for pane in self.query(Pane).results():
            if pane.display:
                pane.feed(state)
        self.query_one("#label", Rows).show([line((" Model  ", "$dim"))])
        order = ORDERS[self._order] + (", turned round" if self._turned else "")
        count = count_line(state, self._text, order)
        self.query_one("#count", Rows).show([line(" " * max(0, 42 - count.cell_length), count)])
        if self._problem:
            self.show_frame(line((f" {self._problem}", "$bad")))
        else:
            self.show_frame(status_line(state, self._typed[1] if self._typed else None, self.size.width))
        self.keep_focus()

    def show_keys(self) -> None:
        """While one types only those that are no text."""
        if not self._is_typing:
            super().show_keys()
            return
        keys = keys_line(changed(self.TYPING, self.deck.keymap), lambda _: True, self.size.width)
        self.query_one("#keys", Rows).show([keys])

    def keep_focus(self) -> None:
        """The field keeps it as long as it is there."""
        if self.is_current and (self.focused is None or not self.focused.display):
            shown = [one for one in (self.query_one(ModelList), self._field) if one.display]
            if shown:
                shown[0].focus()

    def on_descendant_focus(self, _: events.DescendantFocus) -> None:
        """Other keys."""
        self.refresh_all()

    def on_input_changed(self, _: Input.Changed) -> None:
        """Other models match."""
        self._at = ""
        if self._text != self._waiting_text:  # the news of what was typed before Enter comes after it
            self._stop_waiting()
        self.refresh_all()
        self._look_at_typed()

    @work(group="typed", exclusive=True, exit_on_error=False)
    async def _look_at_typed(self) -> None:
        text = self._text
        if not self._is_own(text):
            return
        await asyncio.sleep(PAUSE)
        try:
            found = await in_thread(lambda: self.flow.services.about_model(text))
        except Exception as error:  # whatever a path led to
            found = ModelLine(text, text, HUB, problem=sentence(error))
        self._typed = text, found
        self._rows = ("", ())
        self.refresh_all()
        self._go_on()

    def _is_own(self, text: str) -> bool:
        """Whether a text is a model of its own, and none of those listed."""
        if not values.typed_kind(text):
            return False
        listed = values.shown(self._page, text, None, self._order)
        return not (listed and values.is_named(listed[0], text))

    @property
    def _is_ready(self) -> bool:
        """Whether all is known that Enter needs."""
        text = self._text
        return self._whole and (not self._is_own(text) or (self._typed is not None and self._typed[0] == text))

    def _line(self) -> ModelLine | None:
        return self._state().line

    def why_not(self) -> str:
        """A model that cannot be used stops here."""
        return values.obstacle(self._line()) if self._is_ready else ""

    def action_next(self) -> None:
        """Accept the model under the cursor; while it is looked for, as soon as it is there."""
        if not self._is_ready:
            self._wait_for(self.step + 1)
        elif reason := self.why_not():
            self.say(reason)
        else:
            self._take(self._line())
            self.flow.pass_step(self.step)
            super().go(self.step + 1)

    def go(self, step: int) -> None:
        """To another step; forwards the model under the cursor is the one that is meant."""
        if step <= self.step:
            super().go(step)
        else:
            self._forwards(step)

    def _forwards(self, step: int) -> None:
        if not self._is_ready:
            self._wait_for(step)
            return
        if not self.why_not():
            self._take(self._line())
        super().go(step)

    def _wait_for(self, step: int) -> None:
        """What is typed meanwhile is for the next step."""
        self._waiting, self._waiting_text, self.ready = step, self._text, False
        self.say("looking …")
        self.set_timer(PATIENCE, self._lose_patience)

    def _stop_waiting(self) -> None:
        self._waiting, self.ready = None, True

    def _go_on(self) -> None:
        """What was waited for is there."""
        if self._waiting is not None and self._is_ready and self.is_current:
            step, self._waiting, self.ready = self._waiting, None, True
            self._said = ""
            if step == self.step + 1:
                self.action_next()
            else:
                self._forwards(step)

    def _lose_patience(self) -> None:
        """Take the best that is known by name."""
        if self._waiting is None or not self.is_current:
            return
        step, self._waiting, self.ready = self._waiting, None, True
        one = self._line()
        if one is None or self._is_own(self._text):
            self.say("Still looking: Enter tries again.")
            return
        self._take(one)
        self.flow.pass_step(self.step)
        super().go(step)

    def _take(self, one: ModelLine | None) -> None:
        """What was planned and measured with another model counts no longer."""
        if one is None:
            return
        flow = self.flow
        if one.path != flow.draft.model:
            flow.draft.choose_model(one.path)
            flow.forget()
        flow.verdict = values.likely(one, self._page.cpu)
        doubtful = values.standing(one) == values.TOO_LARGE or one.own_code or one.quantised
        flow.marks[MODEL] = "!" if doubtful else ""
        if flow.models is not None and all(one.path != other.path for other in flow.models.lines):
            flow.models = replace(flow.models, lines=(*flow.models.lines, one))
        self.keep()

    def action_move(self, by: int) -> None:
        """Another model."""
        lines = self._lines()
        if lines:
            self._at = lines[max(0, min(len(lines) - 1, self._place(lines) + by))].path
            self._stop_waiting()
            self.refresh_all()

    def action_page(self, direction: int) -> None:
        """By what is in view."""
        self.action_move(direction * max(1, self.query_one(ModelList).size.height - 2))

    def action_edge(self, which: int) -> None:
        """The first or the last."""
        self.action_move(which * 10**6)

    def action_pick(self, row: int) -> None:
        """The model in a row of the list, which a click was on."""
        lines, room = self._lines(), self.query_one(ModelList).size.height - 1
        place = first_row(self._place(lines), len(lines), room) + row - 1
        if row > 0 and place < len(lines):
            self._at = lines[place].path
            self.refresh_all()

    def action_filter(self) -> None:
        """To the field."""
        self._field.focus()

    def action_clear(self) -> None:
        """All models again."""
        self._field.value = ""

    def action_order(self) -> None:
        """The next order; the cursor stays on its model."""
        self._keep_place()
        self._order = (self._order + 1) % len(ORDERS)
        self._turned = False
        self.refresh_all()

    def action_turn_round(self) -> None:
        """The other way round."""
        self._keep_place()
        self._turned = not self._turned
        self.refresh_all()

    def _keep_place(self) -> None:
        if (one := self._line()) is not None:
            self._at = one.path

    def action_trust(self) -> None:
        """Let the code of the model under the cursor run when it is loaded, or not; it is the chosen one then."""
        one = self._line()
        if one is None or not one.own_code or not self._is_ready:
            self.say("This model brings no code that it would need.")
            return
        self._take(one)
        given = self.flow.draft.given
        if given.pop(TRUST, None):
            self.say("Its code does not run.")
        else:
            given[TRUST] = True
            self.say("Its Python code runs when the model is loaded, with all that you may do here: trust its authors.")
        self.keep()
        self.refresh_all()

    def action_inspect(self) -> None:
        """Everything known about it."""
        state = self._state()
        if state.line is None or not state.line.known:
            return
        whole = replace(state, rows=self._fit_rows(state.line))
        self.app.push_screen(WordsScreen(state.line.name, lambda room: inspect_lines(whole, room)))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Esc clears a filter before it leaves; code is a matter of few models."""
        if action == "clear":
            return bool(self._text)
        if action == "trust":
            one = self._line() if self.is_mounted else None
            return one is not None and one.own_code
        return True

    def action_out_of_field(self) -> None:
        """From the field to the list."""
        models = self.query_one(ModelList)
        if models.display:
            models.focus()
        else:
            self.set_focus(None)


def body(width: int, height: int, page: ModelPage) -> dict[str, tuple[int, int]]:
    """(y, height) of the panes under the field in so many rows: the list takes what the others leave.

    They stand the same for every model, so that nothing jumps while the cursor moves.
    """
    several = any(card.count > 1 for card in page.cards)
    wanted = [
        ("note", 1, height >= 24),
        ("facts", 6 if height < 18 else 9, height >= 9),
        ("fits", 7 if several else 6, height >= 28 and width >= 90),
        ("hints", 3, height >= 36 and width >= 100),
    ]
    low = [(name, rows) for name, rows, has_room in wanted if has_room]
    rest = height - sum(rows + 1 for _, rows in low)
    found, y = {"models": (0, rest)}, rest + 1
    for name, rows in low:
        found[name] = (y, rows)
        y += rows + 1
    return found
