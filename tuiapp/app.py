"""TuneDeck's app: it owns the newest snapshot and the services; the screens draw and ask by message."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar, Protocol

from textual import work
from textual.app import App
from textual.binding import Binding, BindingType
from textual.command import Provider
from textual.filter import LineFilter, Monochrome, NoColor
from textual.message import Message
from textual.screen import Screen

from tuiapp.background import Collector, Source, in_thread
from tuiapp.commands import DeckCommands
from tuiapp.format import clean
from tuiapp.messages import (
    CollectFailed,
    OpenForm,
    OpenRun,
    ResumeAsked,
    RunSelected,
    RunStarted,
    SnapshotArrived,
    StopAsked,
)
from tuiapp.screens.base import DeckScreen
from tuiapp.screens.dialogs import error_dialog
from tuiapp.screens.home import HomeScreen
from tuiapp.screens.live import LiveScreen
from tuiapp.screens.new_run import FormServices, NewRunScreen
from tuiapp.snapshot import Machine, Snapshot
from tuiapp.theme import THEMES

AWAY_PERIOD = 5.0
"""Seconds between draws while the terminal says that nobody looks."""


class Services(Source, FormServices, Protocol):
    """Everything the app asks of the engine. All of it may block; none of it runs on the event loop."""

    def stop(self, run_id: str, now: bool = False) -> None:
        """Ask a run to stop; `now` without a checkpoint."""

    def resume(self, run_id: str) -> None:
        """Let a run go on."""


class TuneDeckApp(App[None]):
    """The app; `services` is all it knows of the world."""

    TITLE = "TuneDeck"
    CSS_PATH = "styles/app.tcss"
    ENABLE_COMMAND_PALETTE = True
    COMMANDS: ClassVar[set[type[Provider] | Callable[[], type[Provider]]]] = {DeckCommands}

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "app.focus_next", show=False, tooltip="next pane or field"),
        Binding("ctrl+p,colon", "command_palette", show=False, tooltip="palette: all commands"),
        Binding("ctrl+l", "redraw", show=False, tooltip="draw again"),
        Binding("ctrl+q", "quit", show=False, priority=True, tooltip="quit at once; runs go on"),
    ]

    def __init__(
        self,
        services: Services,
        *,
        ascii: bool = False,  # noqa: A002  the name of the command's flag
        theme: str = "dark",
        charts: str = "braille",
        open_run: str | None = None,
    ) -> None:
        super().__init__()
        self.services = services
        self.ascii = ascii
        self.charts = "ascii" if ascii else charts
        self.last: Snapshot | None = None
        self._open_run = open_run
        self._drawn = 0.0
        self._collector = Collector(services, self._post)
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
        if self._open_run is not None:
            self.post_message(OpenRun(self._open_run))
        self.call_after_refresh(self._collector.start)

    def on_unmount(self) -> None:
        """The collector's thread ends with the app."""
        self._collector.stop()

    def use_theme(self, name: str) -> None:
        """Other colours, at once."""
        self.theme = name
        self._draw()

    def action_redraw(self) -> None:
        """Send the whole screen again: something else wrote over it."""
        self.refresh(layout=True)
        self.screen.refresh(layout=True)

    def _post(self, message: Message) -> None:
        if self.is_running:
            self.post_message(message)

    def _draw(self) -> None:
        """Only the screen in front is drawn; under a dialog everything stands still."""
        if self.last is not None and isinstance(self.screen, DeckScreen):
            self._drawn = time.monotonic()
            self.screen.feed(self.last)

    def on_snapshot_arrived(self, message: SnapshotArrived) -> None:
        """Keep it and draw it; runs that could not be read this time stay as they were."""
        new, old = message.snapshot, self.last
        if new.problem and not new.runs and old is not None:
            new = replace(new, runs=old.runs, detail=old.detail)
        self.last = new
        if self.app_focus or time.monotonic() - self._drawn >= AWAY_PERIOD:
            self._draw()

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
        if isinstance(self.screen, LiveScreen):
            self.screen.run_id = message.run_id
            self.screen.refresh_all()
        else:
            self.push_screen(LiveScreen(message.run_id, lambda: home.order))

    def on_open_form(self, _: OpenForm) -> None:
        """The form."""
        self.push_screen(NewRunScreen(self.services))

    def on_run_started(self, message: RunStarted) -> None:
        """The form gives way to the run."""
        if isinstance(self.screen, NewRunScreen):
            self.pop_screen()
        self._collector.look()
        self.post_message(OpenRun(message.run_id))

    def on_stop_asked(self, message: StopAsked) -> None:
        """In a thread: the services may block."""
        words = "asked to stop now" if message.now else "asked to stop; it saves a checkpoint first"
        self._tell(lambda: self.services.stop(message.run_id, message.now), words)

    def on_resume_asked(self, message: ResumeAsked) -> None:
        """In a thread: the services may block."""
        self._tell(lambda: self.services.resume(message.run_id), "asked to go on from the last checkpoint")

    @work(group="act", exit_on_error=False)
    async def _tell(self, call: Callable[[], None], words: str) -> None:
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
