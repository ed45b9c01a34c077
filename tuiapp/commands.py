"""The palette: every key of the screen, of the app, and the runs by name."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, cast

from textual.binding import Binding
from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.content import Content

from tuiapp import format as f
from tuiapp.messages import OpenRun
from tuiapp.screens.base import DeckScreen
from tuiapp.theme import THEMES
from tuiapp.widgets.keys import key_names

if TYPE_CHECKING:
    from tuiapp.app import TuneDeckApp

Command = tuple[str, str, Callable[[], object]]


class DeckCommands(Provider):
    """Commands made from the bindings, so that none is missing and none is dead."""

    def _commands(self) -> list[Command]:
        deck = cast("TuneDeckApp", self.app)
        screen = self.screen
        found: list[Command] = []
        if isinstance(screen, DeckScreen):
            allowed = [one for one in screen.deck_bindings() if one.description and screen.allows(one)]
            found += [_command(one, partial(screen.run_action, one.action)) for one in allowed]
        mine = [one for one in type(deck).BINDINGS if isinstance(one, Binding) and one.tooltip]
        found += [_command(one, partial(deck.run_action, one.action)) for one in mine if "palette" not in one.action]
        found += [(f"Theme: {name}", "colours for this session", partial(deck.use_theme, name)) for name in THEMES]
        return found

    def _runs(self) -> list[Command]:
        deck = cast("TuneDeckApp", self.app)
        runs = deck.last.runs if deck.last is not None else ()
        return [
            (f"Open {f.clean(run.name)}", f"{run.status}, {f.clean(run.id)}", partial(_open, deck, run.id))
            for run in runs
        ]

    async def discover(self) -> Hits:
        """What is shown before anything is typed."""
        for name, about, call in self._commands():
            yield DiscoveryHit(name, call, help=about)

    async def search(self, query: str) -> Hits:
        """What fits the words, runs included."""
        matcher = self.matcher(query)
        for name, about, call in [*self._commands(), *self._runs()]:
            score = max(matcher.match(name), matcher.match(about) / 2)
            if score > 0:
                yield Hit(score, Content(name), call, text=name, help=about)


def _command(binding: Binding, call: Callable[[], object]) -> Command:
    name = binding.tooltip or binding.description
    return name[:1].upper() + name[1:], f"key {key_names(binding)}", call


def _open(deck: "TuneDeckApp", run_id: str) -> None:
    deck.post_message(OpenRun(run_id))
