"""The help: what the pane shows, and every key that does something here.

It is made from the bindings, so it cannot drift from them.
"""

from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen

from tuiapp import format as f
from tuiapp.widgets.keys import key_names
from tuiapp.widgets.rows import Rows, fit, line

TWO_COLUMNS = 72
LEGEND = "– unknown   * best   o evaluated   ▸ here"


class HelpScreen(ModalScreen[None]):
    """One page over the screen it is about."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark,f1", "dismiss_help", "close", tooltip="close the help"),
        Binding("down,j", "scroll(1)", "down", show=False),
        Binding("up,k", "scroll(-1)", "up", show=False),
    ]

    def __init__(self, place: str, about: str, here: list[Binding], everywhere: list[Binding]) -> None:
        super().__init__()
        self._place = place
        self._about = about
        self._here = here
        self._everywhere = everywhere

    def compose(self) -> ComposeResult:
        """The text in a box that scrolls."""
        with VerticalScroll(id="help-box", can_focus=False):
            yield Rows(id="help-text")

    def on_resize(self, _: events.Resize) -> None:
        """Draw for the room there is."""
        width = max(10, self.size.width - 4)
        lines = self._lines(width)
        text = self.query_one("#help-text", Rows)
        text.styles.height = len(lines)
        text.show(lines)

    def action_dismiss_help(self) -> None:
        """Close."""
        self.dismiss()

    def action_scroll(self, lines: int) -> None:
        """Where the help is longer than the screen."""
        self.query_one(VerticalScroll).scroll_relative(y=lines, animate=False)

    def _lines(self, width: int) -> list[Content]:
        half = (width - 3) // 2 if width >= TWO_COLUMNS else width
        here = [line(("On this screen", "bold")), *_key_rows(self._here, half)]
        rest = [line(("Everywhere", "bold")), *_key_rows(self._everywhere, half)]
        rows = [line(("TuneDeck", "$accent"), f"   Help: {self._place}"), line("")]
        rows += [line(text) for text in f.wrap(self._about, width, 4)]
        rows += [line("")] if self._about else []
        if width >= TWO_COLUMNS:
            for y in range(max(len(here), len(rest))):
                start = here[y] if y < len(here) else line("")
                rows.append(fit(start, half) + "   " + (rest[y] if y < len(rest) else line("")))
        else:
            rows += [*here, line(""), *rest]
        return [*rows, line(""), line((LEGEND, "$dim")), line(("Esc", "$accent"), (" close", "$dim"))]


def _key_rows(bindings: list[Binding], width: int) -> list[Content]:
    groups = _by_action(bindings)
    wide = max((len(keys) for keys, _ in groups), default=0) + 2
    rows = []
    for keys, about in groups:
        for i, text in enumerate(f.wrap(about, max(8, width - wide - 1), 2)):
            rows.append(line((f" {keys if i == 0 else '':<{wide}}", "$accent"), text))
    return rows


def _by_action(bindings: list[Binding]) -> list[tuple[str, str]]:
    """Keys and words of bindings; those that differ only in a direction stand in one line."""
    groups: dict[str, tuple[list[str], list[str]]] = {}
    for binding in bindings:
        keys, words = groups.setdefault(binding.action.partition("(")[0], ([], []))
        many = binding.key_display is not None and " " not in binding.key_display
        keys.append(binding.key_display or "" if many else key_names(binding))
        words.append(binding.tooltip)
    return [(" ".join(keys), ", ".join(words)) for keys, words in groups.values()]
