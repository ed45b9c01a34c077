"""The help: what the screen and the pane are for, and every key that does something here.

It is made from the bindings, so it cannot drift from them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input

from tuiapp import format as f
from tuiapp.widgets.keys import changed, key_names, keys_line, named
from tuiapp.widgets.rows import Rows, fit, line, spread

TWO_COLUMNS = 72
LEGEND = "– unknown   * best   ~ estimate   B baseline   o evaluated   ▸ here"
Keys = list[tuple[str, str]]
"""(keys, what they do)"""


@dataclass(frozen=True)
class HelpPage:
    """What there is to say of a screen: its name and purpose, the pane that has the focus, and the keys."""

    place: str
    about: str
    pane: str
    pane_about: str
    keys: Sequence[Binding]
    everywhere: Sequence[Binding]


@dataclass(frozen=True)
class Section:
    """A heading, a paragraph and keys."""

    title: str
    text: str
    keys: Keys


def sections(page: HelpPage) -> tuple[list[Section], list[Section]]:
    """What is of this screen, and what is the same everywhere."""
    here = [Section(f"{page.pane}, where you were", page.pane_about, [])] if page.pane_about else []
    here.append(Section("This screen", page.about, by_action(page.keys)))
    return here, [Section("Everywhere", "", by_action(page.everywhere))]


def found(section: Section, words: str) -> Section | None:
    """What of a section has all the words; None if nothing has."""
    wanted = words.casefold().split()

    def has(text: str) -> bool:
        return all(word in text.casefold() for word in wanted)

    keys = [(key, about) for key, about in section.keys if has(f"{key} {about}")]
    text = section.text if has(f"{section.title} {section.text}") else ""
    return Section(section.title, text, keys) if keys or text else None


class HelpScreen(ModalScreen[None]):
    """One page over the screen it is about."""

    AUTO_FOCUS = ""  # the field is for who searches

    BINDINGS: ClassVar[list[BindingType]] = named([
        Binding("escape,q,question_mark,f1,ctrl+g", "close", "close", key_display="Esc", tooltip="close the help"),
        Binding("up,k", "scroll(-1)", "scroll", key_display="↑↓", tooltip="scroll"),
        Binding("down,j", "scroll(1)", "down", show=False),
        Binding("pageup", "page(-1)", "page up", show=False),
        Binding("pagedown", "page(1)", "page down", show=False),
        Binding("g,home", "scroll(-100000)", "first", show=False),
        Binding("G,end", "scroll(100000)", "last", show=False),
        Binding("tab", "everywhere", "everywhere", tooltip="the keys that are the same everywhere"),
        Binding("slash", "search", "search", tooltip="search the help"),
    ])  # fmt: skip

    def __init__(self, page: HelpPage, keymap: dict[str, str]) -> None:
        super().__init__()
        self._page = page
        self._keymap = keymap
        self._words = ""
        self._top = 0
        self._everywhere_at = 0

    def compose(self) -> ComposeResult:
        """A head, the text, what is searched, and the keys."""
        for name in ("head", "text", "status", "keys"):
            yield Rows(id=f"help-{name}", classes="placed")
        yield Input(id="help-search", compact=True)

    def on_mount(self) -> None:
        """Nothing is searched yet."""
        self.query_one("#help-search").display = False

    def on_resize(self, _: events.Resize) -> None:
        """Draw for the room there is: the keys stay, then the text."""
        width, height = self.size
        for name, y, rows in (
            ("keys", height - 1, 1),
            ("text", 1, height - 3),
            ("head", 0, 1),
            ("status", height - 2, 1),
        ):
            widget = self.query_one(f"#help-{name}")
            widget.display = y >= 0 and rows > 0 and (name == "keys" or y < height - 1)
            widget.styles.offset = (0, max(0, y))
            widget.styles.width, widget.styles.height = width, max(1, rows)
        self._draw()

    def action_close(self) -> None:
        """One layer out: the search, then the help."""
        field = self.query_one("#help-search", Input)
        if field.display or self._words:
            field.value, self._words = "", ""
            self._leave_field()
        else:
            self.dismiss()

    def action_scroll(self, lines: int) -> None:
        """Where the help is longer than the screen."""
        self._top += lines
        self._draw()

    def action_page(self, direction: int) -> None:
        """By what is in view."""
        self.action_scroll(direction * max(1, self.size.height - 4))

    def action_everywhere(self) -> None:
        """To the keys that are the same everywhere, and back."""
        self._top = 0 if self._top else self._everywhere_at
        self._draw()

    def action_search(self) -> None:
        """Type into the line above the keys."""
        field = self.query_one("#help-search", Input)
        field.display = True
        field.focus()
        self._draw()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Search as one types."""
        self._words, self._top = event.value, 0
        self._draw()

    def on_input_submitted(self) -> None:
        """What was found stays."""
        self._leave_field()

    def _leave_field(self) -> None:
        self.query_one("#help-search").display = False
        self.set_focus(None)
        self._draw()

    def _draw(self) -> None:
        width, room = self.size.width, max(1, self.size.height - 3)
        lines = self._lines(max(10, width - 2))
        self._top = max(0, min(self._top, len(lines) - room))
        own = changed([one for one in self.BINDINGS if isinstance(one, Binding)], self._keymap)
        close = line((" ".join(key_names(one) for one in own[:3]), "$dim"), " ")
        head = line((" TuneDeck", "$accent"), f"   Help: {self._page.place}")
        self.query_one("#help-head", Rows).show([spread(head, close, width) if width >= 60 else head])
        self.query_one("#help-text", Rows).show([line(" ", one) for one in lines[self._top : self._top + room]])
        searched = line(" search ", (self._words, "bold")) if self._words else line((f" {LEGEND}", "$dim"))
        field = self.query_one("#help-search", Input)
        if field.display:
            searched = line((" search ", "$accent"))
            field.styles.offset, field.styles.width = (8, self.size.height - 2), max(4, width - 24)
        more = line((f"{self._top + 1}–{min(len(lines), self._top + room)} of {len(lines)} ", "$dim"))
        self.query_one("#help-status", Rows).show([spread(searched, more, width) if len(lines) > room else searched])
        self.query_one("#help-keys", Rows).show([keys_line(own, lambda _: True, width)])

    def _lines(self, width: int) -> list[Content]:
        here, everywhere = sections(self._page)
        if self._words.strip():
            hits = [hit for one in [*here, *everywhere] if (hit := found(one, self._words))]
            return _column(hits, width) or [line((f"Nothing here has the words {self._words.strip()}.", "$warn"))]
        if width < TWO_COLUMNS:
            start = _column(here, width)
            self._everywhere_at = len(start) + 1
            return [*start, line(""), *_column(everywhere, width)]
        half = (width - 3) // 2
        left, right = _column(here, half), _column(everywhere, half)
        self._everywhere_at = 0
        blank = line("")
        pairs = [(left[y : y + 1] or [blank], right[y : y + 1] or [blank]) for y in range(max(len(left), len(right)))]
        return [fit(a, half) + "   " + b for (a,), (b,) in pairs]


def _column(parts: Sequence[Section], width: int) -> list[Content]:
    wide = max((len(keys) for one in parts for keys, _ in one.keys), default=0) + 2
    rows: list[Content] = []
    for one in parts:
        rows += [line("")] if rows else []
        rows += [line((one.title, "bold")), *(line(text) for text in f.wrap(one.text, width, 12) if text)]
        for keys, about in one.keys:
            for i, text in enumerate(f.wrap(about, max(8, width - wide), 3)):
                rows.append(line((f"{keys if i == 0 else '':<{wide}}", "$accent"), text))
    return rows


def by_action(bindings: Sequence[Binding]) -> Keys:
    """Keys and words of bindings; those that differ only in a direction stand in one line."""
    groups: dict[str, tuple[list[str], list[str]]] = {}
    for binding in bindings:
        keys, words = groups.setdefault(binding.action.replace("-", ""), ([], []))
        many = binding.key_display is not None and "–" in binding.key_display
        keys.append(binding.key_display or "" if many else key_names(binding))
        words.append(binding.tooltip)
    return [(" ".join(dict.fromkeys(keys)), ", ".join(dict.fromkeys(words))) for keys, words in groups.values()]
