"""The palette: every key of the screen and of its pane, every place, the themes, and the runs by name."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, cast

from textual.binding import Binding
from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.content import Content

from engine.keys import ACTIONS
from tuiapp import format as f
from tuiapp.field_values import canonical
from tuiapp.glyphs import to_ascii
from tuiapp.messages import OpenForm, OpenMachine, OpenRun
from tuiapp.screens.base import DeckScreen
from tuiapp.screens.data_file import DataFileScreen
from tuiapp.screens.home import HomeScreen
from tuiapp.screens.plan_model import PlanModelScreen
from tuiapp.theme import THEMES
from tuiapp.widgets.keys import key_names

if TYPE_CHECKING:
    from tuiapp.app import TuneDeckApp

Command = tuple[str, str, Callable[[], object]]
RUNS_FOUND = 50
"""Runs that are offered for what is typed."""


class DeckCommands(Provider):
    """Commands made from the bindings, so that none is missing and none is dead."""

    @property
    def _deck(self) -> "TuneDeckApp":
        return cast("TuneDeckApp", self.app)

    def commands(self) -> list[Command]:
        """What is shown before anything is typed: the screen's actions, the app's, the places, the themes."""
        deck, screen = self._deck, self.screen
        found: list[Command] = []
        if isinstance(screen, DeckScreen):
            allowed = [one for one in screen.deck_bindings() if one.tooltip and screen.allows(one)]
            found += [_command(one, partial(screen.run_action, one.action)) for one in allowed]
        common = [one for one in deck.common_bindings() if one.tooltip and "palette" not in one.action]
        found += [_command(one, partial(deck.run_action, one.action)) for one in common if deck.allows(one)]
        found += self._places()
        found += [(f"Theme: {name}", "colours for this session", partial(deck.use_theme, name)) for name in THEMES]
        return _once(found)

    def _places(self) -> list[Command]:
        """Every screen that can be gone to from anywhere."""
        deck = self._deck
        return [
            ("Go to Runs", "all runs, the newest first", deck.go_home),
            ("Go to New run", "the wizard, or the draft that was kept", partial(_at_home, deck, OpenForm)),
            ("Go to Machine", "every card, who uses it, and the queue", partial(deck.post_message, OpenMachine())),
            ("Go to What fits", "a model against a card", partial(_push, deck, PlanModelScreen)),
            ("Go to Look at data", "what is wrong with a file, and what a model sees of it", partial(_push, deck, DataFileScreen)),
        ]  # fmt: skip

    def moves(self) -> list[Command]:
        """The keys of what has the focus: found by their words, too many to be shown unasked."""
        screen = self.screen
        pane = screen.focused
        if not isinstance(screen, DeckScreen) or pane is None:
            return []
        return [_command(one, partial(pane.run_action, one.action)) for one in screen.focus_bindings()]

    def _runs(self, query: str) -> list[Command]:
        """Runs with the words in their name, id or status."""
        deck, words = self._deck, query.casefold().split()
        runs = deck.last.runs if deck.last is not None else ()
        hits = (
            run for run in runs if all(word in f"open {run.name} {run.id} {run.status}".casefold() for word in words)
        )
        first = [run for run, _ in zip(hits, range(RUNS_FOUND), strict=False)]
        return [
            (f"Open {f.clean(run.name)}", f"{run.status}, {f.clean(run.id)}", partial(_open, deck, run.id))
            for run in first
        ]

    async def _orders(self, query: str) -> list[Command]:
        """On the list of runs, to order it by any field."""
        screen = self.screen
        if not isinstance(screen, HomeScreen) or not query.casefold().startswith("order"):
            return []
        names = dict.fromkeys(canonical(name) for name in await screen.filtering.names())
        return [
            (f"Order by {f.clean(name)}", "the runs, by this field", partial(screen.order_by, name)) for name in names
        ]

    def _drawn(self, commands: list[Command]) -> list[Command]:
        """As the terminal can show them."""
        if not self._deck.ascii:
            return commands
        return [(to_ascii(name), to_ascii(about), call) for name, about, call in commands]

    async def discover(self) -> Hits:
        """What is shown before anything is typed."""
        for name, about, call in self._drawn(self.commands()):
            yield DiscoveryHit(name, call, help=about)

    async def search(self, query: str) -> Hits:
        """What fits the words, runs included."""
        matcher = self.matcher(query)
        found = [*self.commands(), *self.moves(), *self._runs(query), *await self._orders(query)]
        for name, about, call in self._drawn(found):
            score = max(matcher.match(name), matcher.match(about) / 2)
            if score > 0:
                yield Hit(score, Content(name), call, text=name, help=about)


def _command(binding: Binding, call: Callable[[], object]) -> Command:
    """With what it does, and its key and name in the config."""
    words = binding.tooltip or binding.description
    action = ACTIONS[binding.id].name if binding.id in ACTIONS else ""
    return words[:1].upper() + words[1:], f"key {key_names(binding)}   {action}".rstrip(), call


def _once(commands: list[Command]) -> list[Command]:
    """Of those with the same name the first: two keys of one action."""
    return list({name: (name, about, call) for name, about, call in reversed(commands)}.values())[::-1]


def _open(deck: "TuneDeckApp", run_id: str) -> None:
    deck.post_message(OpenRun(run_id))


def _at_home(deck: "TuneDeckApp", message: type[OpenForm]) -> None:
    deck.go_home()
    deck.post_message(message())


def _push(deck: "TuneDeckApp", screen: type[PlanModelScreen] | type[DataFileScreen]) -> None:
    deck.push_screen(screen(deck.services))
