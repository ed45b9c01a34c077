"""After training: is it better than its base, what did it lose; the rows behind that; and what can be made of the run."""

from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widget import Widget

from tuiapp import format as f
from tuiapp.after_keys import AFTER_KEYS, FIRST, HELP, KeyState, allows, main_word
from tuiapp.after_layout import NUMBERED, after_places
from tuiapp.after_values import ORDERS, WINDOW, AfterPage, AfterQuestion, AfterState, JobLine, MadeLine, Prepared
from tuiapp.background import in_thread, sentence
from tuiapp.layout import Places, is_narrow
from tuiapp.messages import ChatAsked
from tuiapp.screens.after_form import FormScreen
from tuiapp.screens.after_words import made_facts, words_of
from tuiapp.screens.dialogs import error_dialog
from tuiapp.screens.panes import PanesScreen
from tuiapp.snapshot import Snapshot
from tuiapp.widgets.after_answers import answers_length, answers_pane
from tuiapp.widgets.after_jobs import MADE, jobs_length, jobs_pane, next_length, next_pane, offers
from tuiapp.widgets.after_narrow import narrow_after
from tuiapp.widgets.after_result import result_length, result_pane, verdict_line, work_line
from tuiapp.widgets.after_rows import RowList, RowTurned
from tuiapp.widgets.cursor_pane import CursorMoved, CursorPane
from tuiapp.widgets.head import state as status
from tuiapp.widgets.head import where_line
from tuiapp.widgets.pane import FocusPane
from tuiapp.widgets.rows import Rows, line, spread
from tuiapp.widgets.strip import strip_line

FORMS = {
    "eval": ("Evaluate {name} against its base", "evaluate"),
    "judge": ("Let a model judge the answers of {name}", "ask the judge"),
    "merge": ("Merge {name} into its base", "merge"),
    "export": ("Take {name} away", "export"),
}
SAID = 5.0
"""Seconds after which the status line tells again how far a job is."""
KINDS = {"evaluate": "eval", "judge": "judge", "merge": "merge", "export": "export"}


class AfterScreen(PanesScreen):
    """The run with this id; `follow` says what of it the snapshots are to tell."""

    place = "After training"
    main = "result"
    about = (
        "Is the run better than its base, what did it lose, and what can be made of it. Jobs go on without this window."
    )

    BINDINGS: ClassVar[list[BindingType]] = AFTER_KEYS

    def __init__(self, run_id: str, name: str, follow: Callable[[AfterQuestion | None], None]) -> None:
        super().__init__()
        self.run_id = run_id
        self._run_name = name
        self._follow = follow
        self._asked = AfterQuestion(run_id)
        self._at = 0
        self._row: int | None = None
        """The number of the row under the cursor: it stays there when others come before it."""
        self._prepared: Prepared | None = None
        self._preparing = False
        self._fed: object = None

    def compose(self) -> ComposeResult:
        """The panes; where they stand is decided by size."""
        yield Rows(id="head", classes="placed")
        yield Rows(id="narrow", classes="placed")
        yield FocusPane[AfterState](result_pane, id="result", help_text=HELP["result"], length=result_length)
        yield RowList(id="rows")
        yield FocusPane[AfterState](answers_pane, id="answers", help_text=HELP["answers"], length=answers_length)
        yield CursorPane[AfterState](jobs_pane, id="jobs", help_text=HELP["jobs"])
        yield CursorPane[AfterState](next_pane, id="next", help_text=HELP["next"])
        yield Rows(id="rule", classes="placed")
        yield Rows(id="status", classes="placed")
        yield Rows(id="keys", classes="placed")

    def on_mount(self) -> None:
        """From now on the snapshots tell of this run."""
        super().on_mount()
        self._ask()

    def on_unmount(self) -> None:
        """And no longer."""
        self._follow(None)

    def _ask(self) -> None:
        self._follow(self._asked)

    @property
    def page(self) -> AfterPage | None:
        """What the newest snapshot tells of this run."""
        page = self.snapshot.after if self.snapshot is not None else None
        return page if page is not None and page.asked.run_id == self.run_id else None

    @property
    def state(self) -> AfterState | None:
        """What the panes draw."""
        page, snapshot = self.page, self.snapshot
        if page is None or snapshot is None:
            return None
        now = snapshot.now - snapshot.now % 60  # ages are told by the minute
        return AfterState(page, now, self._asked.order, min(self._at, max(0, page.total - 1)), self._prepared)

    def feed(self, snapshot: Snapshot) -> None:
        """The cursor stays on its row; where nothing was measured, what that would take is looked at."""
        self.snapshot = snapshot
        page = self.page
        if page is not None:
            self._stay(page)
            if page.evaluation is None and not page.problem and self._prepared is None and not self._preparing:
                self._preparing = True
                self._prepare_first()
        super().feed(snapshot)

    def _stay(self, page: AfterPage) -> None:
        numbers = [row.row for row in page.rows]
        if page.asked == self._asked and self._row in numbers:
            self._at = page.first + numbers.index(self._row)
        self._at = max(0, min(self._at, page.total - 1))
        self._note_row()

    def _note_row(self) -> None:
        state = self.state
        self._row = state.row.row if state is not None and state.row is not None else None

    @work(group="prepare", exit_on_error=False)
    async def _prepare_first(self) -> None:
        """What the usual evaluation would take."""
        try:
            after, run_id = self.deck.services.after, self.run_id
            fields = await in_thread(lambda: after.fields(run_id, "eval"))
            values = {one.name: one.value for one in fields}
            self._prepared = await in_thread(lambda: after.prepare(run_id, "eval", values))
        except Exception as error:  # shown in words, whatever it was
            self._prepared = Prepared("eval", {}, problem=sentence(error))
        self.refresh_all()

    def places(self, width: int, height: int) -> Places:
        """See `after_layout`."""
        state = self.state
        lines = {"result": 4, "rows": 0, "jobs": 1, "next": 5}
        if state is not None:
            lines = {
                "result": result_length(state),
                "rows": state.page.total,
                "jobs": jobs_length(state),
                "next": next_length(state),
            }
        measured = state is not None and state.page.evaluation is not None
        return after_places(width, height, lines, self._zoom, measured)

    def draw(self) -> None:
        """Everything, as far as it has been read."""
        width, height, state = self.size.width, self.size.height, self.state
        self.query_one("#head", Rows).show(self._head(state, width))
        self.query_one("#rule", Rows).show([line(("│", "$dim"))] * height)
        drawn = (state, self._stand)
        if state is not None and drawn != self._fed:
            self._fed = drawn
            jobs = self.query_one("#jobs", CursorPane)
            jobs.selected = jobs.selected if jobs.has_focus else ""  # what nobody goes through shows its newest
            for name in NUMBERED:
                pane = self.query_one(f"#{name}")
                if pane.display and isinstance(pane, FocusPane | CursorPane | RowList):
                    pane.feed(state)
            narrow = self.query_one("#narrow", Rows)
            if narrow.display:
                narrow.show(narrow_after(state, width, max(1, self._stand["narrow"].height)))
        self.show_status(self._status(state, width))
        self.show_keys()
        self._keep_focus(state)

    def _keep_focus(self, state: AfterState | None) -> None:
        """The pane with the focus is one that is shown; nothing measured: Enter starts, whatever is shown beside."""
        if state is None or not self.is_current or (self.focused is not None and self.focused.display):
            return
        shown = [one for one in self.query(".placed").results(Widget) if one.display and one.can_focus]
        if shown:
            shown[0].focus()

    def _head(self, state: AfterState | None, width: int) -> list[Content]:
        snapshot = self.snapshot
        name = state.page.name if state is not None else self._run_name
        right = (status(state.page.status), "   ") if state is not None and state.page.status else ()
        host = f.clean(snapshot.machine.host) if snapshot is not None else ""
        more = f"{f.clean(self.run_id)}   " if width >= 120 else ""
        head = [where_line("Runs", width, *right, f"{more}{host}", name=f"{f.clip(f.clean(name), width // 2)} › After")]
        return (
            [*head, strip_line(snapshot.machine, width), verdict_line(state, width)] if snapshot is not None else head
        )

    def _status(self, state: AfterState | None, width: int) -> Content:
        if state is None:
            return line((" reading what was done with the run …", "$dim"))
        page = state.page
        work = page.at_work
        if work:
            more = f"+{len(work) - 1} more " if len(work) > 1 else ""
            return spread(work_line(work[0], width - len(more) - 1), line((more, "$dim")), width)
        parts = (
            [f"{len(page.evaluations)} evaluation{'s' if len(page.evaluations) > 1 else ''}"]
            if page.evaluations
            else []
        )
        parts += (
            [f"{len(page.jobs)} job{'s' if len(page.jobs) > 1 else ''}"]
            if page.jobs
            else ["nothing was done with it yet"]
        )
        parts += [f"{len(page.made)} file{'s' if len(page.made) > 1 else ''}"] if page.made else []
        last = page.jobs[0] if page.jobs and page.jobs[0].status in ("failed", "crashed") else None
        if last is not None:
            words = f" {last.job} {last.status}: {f.clean(last.outcome)}"
            return line((f.clip(words, width - 1), "$bad"))
        hidden = [
            f"{i} {name}"
            for i, name in enumerate(NUMBERED, 1)
            if name not in self._stand and page.evaluation is not None
        ]
        numbers = "   ".join(hidden) if width >= 60 and self._zoom is None else ""
        return spread(line((f" {', '.join(parts)}", "$dim")), line((f"{numbers} ", "$dim")), width)

    @property
    def _pane(self) -> str:
        if "narrow" in self._stand:
            return "result" if self.page is not None and self.page.evaluation is None else "rows"
        return self.focused.id or "" if self.focused is not None else ""

    @property
    def _chosen(self) -> JobLine | MadeLine | None:
        """What the cursor of the list of jobs is on."""
        page, key = self.page, self.query_one("#jobs", CursorPane).selected
        for one in page.jobs if page is not None else ():
            if one.job == key:
                return one
        made = [one for one in page.made if MADE + one.path == key] if page is not None else []
        return made[0] if made else None

    @property
    def _job(self) -> JobLine | None:
        """The job that a key is about: under the cursor of their list, else the one at work, else the newest."""
        page = self.page
        if page is None:
            return None
        if self._pane == "jobs":
            return self._chosen if isinstance(self._chosen, JobLine) else None
        return next(iter([*page.at_work, *page.jobs]), None)

    def _keys(self) -> KeyState:
        writable = self.snapshot is not None and not self.snapshot.read_only
        ready = self._prepared is not None and not self._prepared.problem
        return KeyState(self.page, writable, self._job, self._pane, self._zoom is not None, ready)

    def deck_bindings(self) -> list[Binding]:
        """Enter is called what it does where the focus is; what is about that pane stands first."""
        keys, own = self._keys(), super().deck_bindings()
        at_work = keys.page is not None and keys.page.at_work
        first = tuple(dict.fromkeys(("main", *FIRST.get(keys.pane, ()), *(("stop",) if at_work else ()))))
        shown = [replace(one, show=True) if one.action in first and one.description else one for one in own]
        shown.sort(key=lambda one: first.index(one.action) if one.action in first else len(first))
        return [replace(one, description=main_word(keys)) if one.action == "main" else one for one in shown]

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys that would do nothing are not shown and do nothing."""
        if not self.is_mounted:
            return False
        return allows(action, self._keys())

    def action_main(self) -> None:
        """What the focus is on."""
        pane, page = self._pane, self.page
        if pane == "next":
            self._do(self.query_one("#next", CursorPane).selected)
        elif pane == "jobs":
            self.action_inspect()
        elif page is not None and page.evaluation is None:
            if self._prepared is not None:
                self._start(self._prepared)
        elif self._zoom is None:
            self._zoom_to("result" if pane == "result" else "answers")

    def _do(self, action: str) -> None:
        state = self.state
        offer = next((one for one in offers(state) if one.action == action), None) if state is not None else None
        if offer is not None and offer.why:
            self.say(f"{offer.name.lower()}: {offer.why}")
        elif offer is not None and allows(action, self._keys()):
            self.action_chat() if action == "chat" else self._form(KINDS[action])

    def action_evaluate(self) -> None:
        """The dialog of an evaluation."""
        self._form("eval")

    def action_judge(self) -> None:
        """The dialog of a judgement."""
        self._form("judge")

    def action_merge(self) -> None:
        """The dialog of a merge."""
        self._form("merge")

    def action_export(self) -> None:
        """The dialog of an export."""
        self._form("export")

    def action_chat(self) -> None:
        """Base and tuned, side by side."""
        self.workers.cancel_group(self, "form")  # one that is about to open would lie over the chat
        self.post_message(ChatAsked((self.run_id,)))

    @work(group="form", exclusive=True, exit_on_error=False)
    async def _form(self, kind: str) -> None:
        services, run_id = self.deck.services, self.run_id
        evaluation = self.page.evaluation.job if self.page is not None and self.page.evaluation is not None else ""
        try:
            fields = await in_thread(lambda: services.after.fields(run_id, kind))
        except Exception as error:  # shown in a dialog, whatever it was
            self.app.push_screen(error_dialog(error))
            return
        heading, verb = FORMS[kind]
        name = self.page.name if self.page is not None else self._run_name
        form = FormScreen(heading.format(name=f.clean(name)), verb, fields,
                          lambda values: replace(services.after.prepare(run_id, kind, {**values, "eval": evaluation}), values=values), services.complete_path)  # fmt: skip
        if self.app.screen is self:
            self.app.push_screen(form, self._answered)

    def _answered(self, prepared: Prepared | None) -> None:
        if prepared is not None:
            self._start(prepared)

    def _start(self, prepared: Prepared) -> None:
        after, run_id = self.deck.services.after, self.run_id
        self._carry_out(lambda: f"{after.begin(run_id, prepared)} is started; it goes on without this window")

    def action_stop(self) -> None:
        """Stop the job; what it did is kept, so that is not asked twice."""
        if (job := self._job) is not None:
            after, run_id = self.deck.services.after, self.run_id
            words = f"{job.job} is asked to stop; what it did is kept, r lets it go on"
            self._carry_out(lambda: after.stop(run_id, job.job), words)

    def action_go_on(self) -> None:
        """Let it go on."""
        if (job := self._job) is not None:
            after, run_id = self.deck.services.after, self.run_id
            self._carry_out(lambda: after.go_on(run_id, job.job), f"{job.job} goes on")

    @work(group="act", exit_on_error=False)
    async def _carry_out(self, call: Callable[[], str | None], words: str = "") -> None:
        try:
            said = await in_thread(call)
        except Exception as error:  # shown in a dialog, whatever it was
            self.app.push_screen(error_dialog(error))
            return
        self.deck.look()
        self.say(said or words)
        self.set_timer(SAID, lambda: self.say("") if self.said == (said or words) else None)

    def action_order(self) -> None:
        """Another order of the rows, from its first."""
        order = ORDERS[(ORDERS.index(self._asked.order) + 1) % len(ORDERS)]
        self._at, self._row = 0, None
        self._asked = replace(self._asked, order=order, first=0)
        self._ask()
        self.refresh_all()

    def action_turn(self, by: int) -> None:
        """Another evaluation."""
        page = self.page
        if page is None or page.evaluation is None:
            return
        names = page.evaluations
        place = (names.index(page.evaluation.job) if page.evaluation.job in names else 0) + by
        if not 0 <= place < len(names):
            self.say("this is the last evaluation" if by > 0 else "this is the first evaluation")
            return
        self._at, self._row = 0, None
        self._asked = replace(self._asked, job=names[place], first=0)
        self._ask()

    def action_row(self, by: int) -> None:
        """Another row."""
        page = self.page
        if page is not None and page.total:
            self._turn_to(max(0, min(page.total - 1, self._at + by)))

    def on_row_turned(self, message: RowTurned) -> None:
        """The cursor of the list moved."""
        self._turn_to(message.at)

    def _turn_to(self, at: int) -> None:
        """Put the cursor on a row; where it is near the end of what is at hand, more is read."""
        page = self.page
        if page is None:
            return
        self._at = at
        self._note_row()
        margin = WINDOW // 4
        missing = (at - margin < page.first and page.first > 0) or at + margin >= page.first + len(
            page.rows
        ) < page.total
        if missing:
            self._asked = replace(self._asked, first=max(0, at - WINDOW // 2))
            self._ask()
        self.refresh_all()

    def on_cursor_moved(self, _: CursorMoved) -> None:
        """The keys may be about another job."""
        self.show_keys()

    def on_descendant_focus(self) -> None:
        """Enter does something else in another pane."""
        self.call_later(self.show_keys)

    def action_pane(self, number: int) -> None:
        """Go to a pane by its number; one that has no room here gets the whole screen."""
        self.go_to(NUMBERED[number - 1])

    def action_inspect(self) -> None:
        """Everything about the row, the file or the job."""
        page, pane = self.page, self._pane
        if page is None:
            return
        if pane in ("rows", "answers"):
            self._zoom_to("answers")
        elif pane == "jobs" and isinstance(self._chosen, MadeLine):
            self.app.push_screen(words_of(f"A {self._chosen.kind} of {page.name}", made_facts(self._chosen)))
        elif (job := self._job if pane == "jobs" else page.evaluation) is not None:
            self._story(job.job, page.name)

    @work(group="story", exclusive=True, exit_on_error=False)
    async def _story(self, job: str, name: str) -> None:
        after, run_id = self.deck.services.after, self.run_id
        try:
            facts = await in_thread(lambda: after.story(run_id, job))
        except Exception as error:  # shown in a dialog, whatever it was
            self.app.push_screen(error_dialog(error))
            return
        if self.app.screen is self:
            self.app.push_screen(words_of(f"{job} of {name}", facts))

    def action_copy(self) -> None:
        """What the pane says, to the clipboard of the terminal."""
        pane = self.focused
        if isinstance(pane, Rows):
            self.app.copy_to_clipboard(pane.text)
            count = pane.text.count("\n") + 1
            self.say(f"copied {count:,} line{'' if count == 1 else 's'}, if the terminal takes it (OSC 52)")

    def action_leave(self) -> None:
        """One layer out: the zoom, then the screen."""
        if self._zoom is not None:
            self._unzoom()
        else:
            self.dismiss()

    def _unzoom(self) -> None:
        """From a row back to the list."""
        was = self._zoom
        super()._unzoom()
        if was == "answers" and not is_narrow(*self.size) and self.query_one("#rows").display:
            self.query_one("#rows").focus()
