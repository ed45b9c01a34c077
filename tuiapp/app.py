"""TuneDeck's app: it owns the newest snapshot and the services; the screens draw and ask by message."""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import ClassVar

from textual import events, work
from textual.binding import Binding, BindingType
from textual.command import CommandPalette, Provider
from textual.filter import LineFilter, Monochrome, NoColor
from textual.message import Message
from textual.screen import Screen

from tuiapp import draft as drafts
from tuiapp.app_services import Services
from tuiapp.background import Collector, in_thread
from tuiapp.carried_out import CALLS, ENDS, carried_out, on_any
from tuiapp.commands import DeckCommands
from tuiapp.draft import RunDraft
from tuiapp.ended import ended, sentence
from tuiapp.flow import Flow
from tuiapp.format import clean, pasted
from tuiapp.list_snapshot import Asked
from tuiapp.messages import (
    AfterAsked,
    ChatAsked,
    CollectFailed,
    CompareAsked,
    ForkAsked,
    OpenForm,
    OpenMachine,
    OpenRun,
    PinAsked,
    ResumeAsked,
    RunSelected,
    RunStarted,
    SnapshotArrived,
)
from tuiapp.records import Back
from tuiapp.screens.base import DeckScreen
from tuiapp.screens.dialogs import error_dialog
from tuiapp.screens.home import HomeScreen
from tuiapp.screens.live import LiveScreen
from tuiapp.screens.wizard import WizardStep
from tuiapp.snapshot import Machine, Snapshot
from tuiapp.theme import THEMES
from tuiapp.typeahead import TypeAhead
from tuiapp.views import FILE, Keeper, Views, load
from tuiapp.widgets.keys import changed, named

AWAY_PERIOD = 5.0
"""Seconds between draws while the terminal says that nobody looks."""
UNDO = 10.0
"""Seconds in which a run that has just begun can be taken back."""
ANNOUNCED = 8.0
"""Seconds that the news of a run stands in the status line whatever is typed."""


class TuneDeckApp(TypeAhead):
    """The app; `services` is all it knows of the world."""

    TITLE = "TuneDeck"
    CSS_PATH = "styles/app.tcss"
    ENABLE_COMMAND_PALETTE = True
    COMMANDS: ClassVar[set[type[Provider] | Callable[[], type[Provider]]]] = {DeckCommands}

    BINDINGS: ClassVar[list[BindingType]] = named([
        Binding("tab", "app.focus_next", show=False, tooltip="next pane or field"),
        Binding("shift+tab", "app.focus_previous", show=False, tooltip="the pane or field before"),
        Binding("ctrl+p,colon", "command_palette", show=False, tooltip="palette: all commands"),
        Binding("ctrl+l", "redraw", show=False, tooltip="draw again"),
        Binding("u", "take_back", show=False, id="take-back", tooltip="take back the run that has just begun"),
        Binding("ctrl+q", "quit", show=False, priority=True, tooltip="quit at once; runs go on"),
    ])  # fmt: skip

    def __init__(
        self,
        services: Services,
        *,
        ascii: bool = False,  # noqa: A002  the name of the command's flag
        theme: str = "dark",
        charts: str = "braille",
        open_run: str | None = None,
        keys: Mapping[str, tuple[str, ...]] | None = None,
        bell: bool = True,
        check_config: Callable[[], str] = str,
    ) -> None:
        """`keys` by the ids of `engine.keys.ACTIONS`; `check_config` may block and says what is wrong with the config."""
        super().__init__()
        self.services = services
        self.ascii = ascii
        self.charts = "ascii" if ascii else charts
        self.last: Snapshot | None = None
        self.views = load(services.database.parent / FILE, services.database.name)
        self.baseline = self.views.baseline
        """The run that others are compared with."""
        self.undo: list[Back] = []
        """The ways back from what was changed of the records of runs, the last one last."""
        self._keeper = Keeper(services.database.parent / FILE, services.database.name)
        self.keymap = {action: ",".join(one) for action, one in (keys or {}).items()}
        self.set_keymap(self.keymap)
        self._rings = bell
        self._check_config = check_config
        self._asked_to_stop: set[str] = set()
        self._open_run = open_run
        self._has_terminal = False
        self._flow: Flow | None = None
        self._begun: tuple[str, float] | None = None
        self._drawn = 0.0
        self._collector = Collector(services, self._post)
        self._collector.pin(self.baseline)
        self.animation_level = "none"
        for one in THEMES.values():
            self.register_theme(one)
        self.theme = theme if theme in THEMES else "dark"
        # NO_COLOR means none, where Textual would send greys
        self._filters: list[LineFilter] = [NoColor() if isinstance(one, Monochrome) else one for one in self._filters]
        if ascii:
            self.add_class("-ascii")

    @property
    def row_style(self) -> str:
        """How the row under the cursor is set off."""
        return "reverse" if self.no_color or self.theme == "high" else "on $row"

    def get_default_screen(self) -> Screen[None]:
        """Home lies under everything."""
        return HomeScreen()

    def on_mount(self) -> None:
        """Look only after the first paint."""
        self._has_terminal = not self.is_headless and os.isatty(0)
        if self._open_run is not None:
            self.post_message(OpenRun(self._open_run))
        self.call_after_refresh(self._collector.start)
        self.call_after_refresh(self._look_at_config)

    def on_unmount(self) -> None:
        """The collector's thread ends with the app."""
        self._collector.stop()

    def common_bindings(self) -> list[Binding]:
        """The bindings that every screen has, with the user's keys."""
        return changed([one for one in type(self).BINDINGS if isinstance(one, Binding)], self.keymap)

    def allows(self, binding: Binding) -> bool:
        """Whether a key that every screen has does something now."""
        return self.check_action(binding.action.removeprefix("app.").partition("(")[0], ()) is True

    def go_home(self) -> None:
        """Leave whatever lies above the runs; the draft of a new run is kept."""
        if isinstance(self.screen, WizardStep):
            self.screen.settle()
            self.screen.keep()
        while not isinstance(self.screen, HomeScreen):
            self.pop_screen()

    def use_theme(self, name: str) -> None:
        """Other colours, at once."""
        self.theme = name
        self._draw()

    def action_command_palette(self) -> None:
        """Everything by its words."""
        if not isinstance(self.screen, CommandPalette):
            self.push_screen(CommandPalette(placeholder="what do you want to do?", id="--command-palette"))

    def action_redraw(self) -> None:
        """Send the whole screen again: something else wrote over it."""
        self.refresh(layout=True)
        self.screen.refresh(layout=True)

    async def on_event(self, event: events.Event) -> None:
        """Whatever is pasted, a field gets one line that can be shown."""
        if isinstance(event, events.Paste) and not event.is_forwarded:
            event.text = pasted(event.text)
        await super().on_event(event)

    def _post(self, message: Message) -> None:
        if self.is_running:
            self.post_message(message)

    def _draw(self) -> None:
        """Only the screen in front is drawn; under a dialog everything stands still."""
        if self.last is not None and self.screen_stack and isinstance(self.screen, DeckScreen):
            self._drawn = time.monotonic()
            self.screen.feed(self.last)

    def on_snapshot_arrived(self, message: SnapshotArrived) -> None:
        """Keep it and draw it; runs that could not be read this time stay as they were."""
        if self._has_terminal and not os.isatty(
            0
        ):  # gone without a hangup, as in a container: Textual would read on and on
            self.exit()
            return
        new, old = message.snapshot, self.last
        if new.problem and not new.runs and old is not None:
            of_runs = ("runs", "put_away", "listing", "detail", "baseline", "after")
            new = replace(new, **{name: getattr(old, name) for name in of_runs})
        self.last = new
        if self.app_focus or time.monotonic() - self._drawn >= AWAY_PERIOD:
            self._draw()
        before = old.problem if old is not None else None
        if new.notice and (old is None or new.notice != old.notice):
            self._show_words(new.notice)
        elif new.problem and new.problem != before:
            self._show_words("")  # what was said before does not hide it
        if runs := ended(old, new, self._asked_to_stop):
            self._announce(sentence(runs, new.now))

    def _announce(self, words: str) -> None:
        """What needs a person: a bell, and the status line, where it stays for a while."""
        if self._rings:
            self.bell()
        self._show_words(words)

    def _show_words(self, words: str) -> None:
        front = next((one for one in reversed(self.screen_stack) if isinstance(one, DeckScreen)), None)
        if front is not None:
            front.say(words, ANNOUNCED)

    @work(group="config", exit_on_error=False)
    async def _look_at_config(self) -> None:
        if problem := await in_thread(self._check_config):
            self._home().say(problem)

    def on_collect_failed(self, message: CollectFailed) -> None:
        """What is on screen stays, with a sentence."""
        last = self.last or Snapshot(machine=Machine(host=""), database="", now=time.time())
        self.last = replace(last, problem=clean(message.sentence))
        self._draw()

    def on_run_selected(self, message: RunSelected) -> None:
        """The cursor of Home is on another run."""
        if not isinstance(self.screen, LiveScreen):
            self._collector.select(message.run_id)

    def on_open_run(self, message: OpenRun) -> None:
        """Its live screen, or the one that is open shows another run."""
        self._collector.select(message.run_id)
        home = self._home()
        home.select(message.run_id)
        below = self.screen_stack[-2] if len(self.screen_stack) > 1 else None
        if (
            isinstance(below, LiveScreen)
            and isinstance(self.screen, DeckScreen)
            and self.screen.place in ("Machine", "Lineage")
        ):
            self.pop_screen()
        if isinstance(self.screen, LiveScreen):
            if self.screen.run_id != message.run_id:
                self.screen.turn_to(message.run_id)
        else:
            self.push_screen(LiveScreen(message.run_id, lambda: home.order))

    def action_machine(self) -> None:
        """Every card, who uses it, and the queue."""
        from tuiapp.screens.machine import MachineScreen  # not needed for the first paint

        if any(isinstance(one, MachineScreen) for one in self.screen_stack):
            while not isinstance(self.screen, MachineScreen):
                self.pop_screen()
        else:
            self.push_screen(MachineScreen())

    def action_lineage(self) -> None:
        """Which run comes from which: of the run that is shown, or that the cursor is on."""
        from tuiapp.screens.lineage import LineageScreen  # not needed for the first paint

        current = self._home().table.current
        run_id = self.screen.run_id if isinstance(self.screen, LiveScreen) else current.id if current else None
        if run_id is None:
            return
        below = next((one for one in self.screen_stack if isinstance(one, LineageScreen)), None)
        while below is not None and self.screen is not below:
            self.pop_screen()
        if below is None:
            self.push_screen(LineageScreen(run_id, self.services.lineage))
        else:
            below.turn_to(run_id)

    def on_compare_asked(self, message: CompareAsked) -> None:
        """These runs side by side."""
        from tuiapp.screens.compare import CompareScreen  # not needed for the first paint

        self.push_screen(CompareScreen(self.services.compare, message.run_ids, self.baseline))

    def on_chat_asked(self, message: ChatAsked) -> None:
        """The base and what these runs made of it."""
        from tuiapp.screens.chat import ChatScreen  # not needed for the first paint

        self.push_screen(ChatScreen(message.run_ids, self.services))

    def on_after_asked(self, message: AfterAsked) -> None:
        """What was done with a run after its training, and what can be."""
        from tuiapp.screens.after import AfterScreen  # not needed for the first paint

        known = (*self.last.runs, *self.last.put_away) if self.last is not None else ()
        name = next((run.name for run in known if run.id == message.run_id), message.run_id)
        self.push_screen(AfterScreen(message.run_id, name, self._collector.follow))

    def on_open_machine(self, _: OpenMachine) -> None:
        """The machine."""
        self.action_machine()

    def on_open_form(self, _: OpenForm) -> None:
        """The wizard."""
        self.open_wizard()

    def open_wizard(self) -> None:
        """The wizard, with the draft that was kept."""
        file = self.services.drafts / "new.json"
        self._enter(Flow(self.services, drafts.load(file) or RunDraft(), file))

    def begin_anew(self) -> None:
        """Forget the draft that is shown. Of a fork the wizard goes back to what was kept of a new run."""
        if self._flow is not None:
            self._flow.end()
            self.pop_screen()
        self.open_wizard()

    def _enter(self, flow: Flow) -> None:
        from tuiapp.screens.steps import step_screen  # not needed for the first paint

        self._flow = flow
        self.push_screen(step_screen(flow))

    @work(group="act", exit_on_error=False)
    async def on_fork_asked(self, message: ForkAsked) -> None:
        """The wizard on a run like that one, at its last step."""
        file = self.services.drafts / f"fork-{message.run_id}.json"
        try:
            kept = None if message.changes else drafts.load(file)
            draft = kept if kept is not None else await in_thread(lambda: self.services.fork(message.run_id))
        except Exception as error:  # shown in a dialog, whatever it was
            self.push_screen(error_dialog(error))
            return
        for path, value in message.changes:
            draft.change(path, value)
        flow = Flow(self.services, draft, file)
        flow.save()
        self._enter(flow)

    def on_run_started(self, message: RunStarted) -> None:
        """The wizard gives way to the run; its draft is not needed any more, but can be had again for a moment."""
        if isinstance(self.screen, WizardStep):
            self.pop_screen()
        if self._flow is not None:
            self._flow.end()
            self._begun = message.run_id, time.monotonic()
        self._collector.look()
        self.post_message(OpenRun(message.run_id))
        words = f"Started. It goes on without this window; u takes it back for {UNDO:.0f} s."
        self.set_timer(0.3, lambda: self.tell(words))
        self.set_timer(UNDO, lambda: self._unsay(words))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """A run that has just begun can be taken back."""
        if action == "take_back":
            return (
                self._begun is not None
                and time.monotonic() - self._begun[1] < UNDO
                and isinstance(self.screen, LiveScreen)
            )
        return super().check_action(action, parameters)

    def action_take_back(self) -> None:
        """Stop the run that has just begun, and open its draft again."""
        if self._begun is None or self._flow is None:
            return
        run_id, self._begun = self._begun[0], None
        self._asked_to_stop.add(run_id)
        self._tell(lambda: self.services.stop(run_id, now=True), "taken back; here is the draft again")
        self.pop_screen()
        flow = Flow(self.services, self._flow.draft, self._flow.file)
        flow.save()
        self._enter(flow)

    def look(self) -> None:
        """See at once what a key changed."""
        self._collector.look()

    def ask(self, asked: Asked) -> None:
        """What the list of runs needs from now on."""
        self._collector.ask(asked)

    def remember(self, views: Views) -> None:
        """Keep how one looks at the runs for the next time."""
        if views != self.views:
            self.views = views
            self._keeper.keep(views)

    def tell(self, words: str) -> None:
        """Say it on the screen in front; there may be none any more."""
        if self.screen_stack and isinstance(self.screen, DeckScreen):
            self.screen.say(words)

    def _unsay(self, words: str) -> None:
        """What is no longer true is not said any more."""
        if self.screen_stack and isinstance(self.screen, DeckScreen) and self.screen.said == words:
            self.screen.say("")

    @on_any(CALLS)
    def carry_out(self, message: Message) -> None:
        """In a thread: the services may block."""
        if isinstance(message, ENDS):
            self._asked_to_stop.add(message.run_id)
        elif isinstance(message, ResumeAsked):
            self._asked_to_stop.discard(message.run_id)
        self._tell(*carried_out(message, self.services))

    def on_pin_asked(self, message: PinAsked) -> None:
        """From now on this run's curve stands under the others."""
        self.baseline = message.run_id
        self.remember(replace(self.views, baseline=message.run_id))
        self._collector.pin(message.run_id)
        self.tell("this run's curve stands under the others now" if message.run_id else "no baseline")

    @work(group="act", exit_on_error=False)
    async def _tell(self, call: Callable[[], object], words: str) -> None:
        try:
            await in_thread(call)
        except Exception as error:  # shown in a dialog, whatever it was
            self.push_screen(error_dialog(error))
            return
        self._collector.look()
        if isinstance(self.screen, DeckScreen):
            self.screen.say(words)

    def _home(self) -> HomeScreen:
        return next(screen for screen in self.screen_stack if isinstance(screen, HomeScreen))
