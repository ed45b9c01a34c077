"""What every screen has: places for its panes, the newest snapshot, a line of status and its keys."""

import time
from typing import TYPE_CHECKING, Any, ClassVar, cast

from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.reactive import Reactive
from textual.screen import Screen
from textual.widget import Widget

from tuiapp.format import clean
from tuiapp.layout import Places
from tuiapp.screens.help import HelpPage, HelpScreen
from tuiapp.snapshot import Snapshot
from tuiapp.widgets.keys import changed, keys_line, named
from tuiapp.widgets.pane import FocusPane
from tuiapp.widgets.rows import Rows, line

if TYPE_CHECKING:
    from tuiapp.app import TuneDeckApp


class DeckScreen(Screen[None]):
    """A screen of panes that stand where `places` says and are drawn by `draw`."""

    place = ""
    """The screen's name in the header and the help."""
    about = ""
    """What the screen is for, in the help."""

    HELP_KEY: ClassVar[BindingType] = Binding(
        "question_mark,f1,ctrl+g", "help", "help", id="help", tooltip="help for where you are"
    )

    # Textual paints the whole screen again when the focus moves; ours shows the focus in the panes alone
    focused: Reactive[Widget | None] = Reactive(None, repaint=False)

    def __init_subclass__(cls, **options: Any) -> None:
        """Every binding of a screen can be changed by the user's config."""
        if "BINDINGS" in cls.__dict__:
            cls.BINDINGS = named(cls.BINDINGS)
        super().__init_subclass__(**options)

    def __init__(self) -> None:
        super().__init__()
        self.snapshot: Snapshot | None = None
        self.ready = False
        """Whether it was drawn and has its focus: keys wait for that."""
        self._said = ""
        self._held_until = 0.0
        self._stand: Places = {}

    @property
    def deck(self) -> "TuneDeckApp":
        """The app, by its own type."""
        return cast("TuneDeckApp", self.app)

    def places(self, width: int, height: int) -> Places:
        """Where the widgets stand, by id; the others are not shown."""
        raise NotImplementedError

    def draw(self) -> None:
        """Draw what is known."""
        raise NotImplementedError

    def feed(self, snapshot: Snapshot) -> None:
        """Draw a new snapshot."""
        self.snapshot = snapshot
        self.refresh_all()

    def say(self, text: str, seconds: float = 0.0) -> None:
        """Say in the status line what a key did, until the next one; at least for `seconds`, where no key asked for it."""
        self._said, self._held_until = clean(text), time.monotonic() + seconds
        self.refresh_all()

    @property
    def said(self) -> str:
        """What the status line says instead of its usual text."""
        return self._said

    def refresh_all(self) -> None:
        """Place and draw everything; only what changed is sent to the terminal."""
        if self.is_mounted and self.is_attached:  # not while the app ends: the panes are gone before the screen
            self._arrange()
            self.draw()

    def keep_focus(self) -> None:
        """Where the pane with the focus is not shown, the first that is gets it."""
        if self.is_current and (self.focused is None or not self.focused.display):
            shown = [one for one in self.query(FocusPane).results(Widget) if one.display]
            if shown:
                shown[0].focus()

    def on_mount(self) -> None:
        """Draw the first time."""
        self.refresh_all()
        self.call_later(self._be_ready)

    def _be_ready(self) -> None:
        self.ready = True

    def on_resize(self, _: events.Resize) -> None:
        """New room."""
        self.refresh_all()

    def on_screen_resume(self) -> None:
        """Back from another screen or a dialog: what happened meanwhile."""
        if self.deck.last is not None:
            self.feed(self.deck.last)

    def on_key(self) -> None:
        """A key makes what the last one said old."""
        if time.monotonic() >= self._held_until:
            self._said = ""

    def show_keys(self) -> None:
        """The last row."""
        row = self.query_one("#keys", Rows)
        row.show([keys_line(self.deck_bindings(), self.allows, self.size.width)])

    def show_status(self, usual: Content) -> None:
        """The last row but one: what a key did, what is wrong, or the usual counts."""
        snapshot = self.snapshot
        problem = snapshot.problem if snapshot is not None else None
        content = usual
        if self._said:
            content = line(f" {self._said}")
        elif problem:
            content = line((f" {clean(problem)}", "$bad"))
        self.query_one("#status", Rows).show([content])

    def deck_bindings(self) -> list[Binding]:
        """The bindings of this screen's own class, in their order, with the user's keys."""
        own = [binding for binding in type(self).BINDINGS if isinstance(binding, Binding)]
        return changed(own, self.deck.keymap)

    def allows(self, binding: Binding) -> bool:
        """Whether a key does something now."""
        return self.check_action(binding.action.partition("(")[0], ()) is True

    def action_help(self) -> None:
        """Help for what has focus."""
        pane = self.focused
        page = HelpPage(
            place=self.place,
            about=self.about,
            pane=getattr(pane, "help_name", "") or (pane.id or "").replace("-", " ").capitalize() if pane else "",
            pane_about=getattr(pane, "help_text", ""),
            keys=[one for one in self.deck_bindings() if one.tooltip and self.allows(one)],
            everywhere=[
                *self.focus_bindings(),
                *(one for one in self.deck.common_bindings() if one.tooltip and self.deck.allows(one)),
            ],
        )
        self.app.push_screen(HelpScreen(page, self.deck.keymap))

    def focus_bindings(self) -> list[Binding]:
        """The keys of what has the focus, as far as they do something there."""
        pane = self.focused
        if pane is None:
            return []
        own = [one for one in type(pane).BINDINGS if isinstance(one, Binding) and one.tooltip]
        found = changed(own, self.deck.keymap)
        return [one for one in found if pane.check_action(one.action.partition("(")[0], ())]

    def _arrange(self) -> None:
        stand = self.places(self.size.width, self.size.height)
        if stand == self._stand:
            return
        self._stand = stand
        for widget in self.query(".placed").results(Widget):
            region = stand.get(widget.id or "")
            widget.display = region is not None and region.area > 0
            if region is not None:
                widget.styles.offset = (region.x, region.y)
                widget.styles.width, widget.styles.height = region.width, region.height
