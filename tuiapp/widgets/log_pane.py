"""The end of output.log: it is followed, scrolled, and searched."""

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content

from tuiapp import format as f
from tuiapp.widgets.live_state import LiveState
from tuiapp.widgets.pane import FocusPane, Look, title
from tuiapp.widgets.rows import Part, line


def matches(log: tuple[str, ...], words: str) -> list[int]:
    """The places of the lines with this text, whatever the case of its letters; none for no text."""
    wanted = words.casefold()
    return [i for i, text in enumerate(log) if wanted in text.casefold()] if wanted else []


def log_lines(state: LiveState, look: Look, words: str = "") -> list[Content]:
    """The title and the lines in view; `look.scroll` counts up from the end."""
    log = state.detail.log
    room = max(1, look.height - 1)
    end = len(log) - max(0, min(look.scroll, len(log) - room))
    start = max(0, end - room)
    rows = [title("Log", look, *_about(state, end, words), end=_keys(look, end == len(log), bool(words)))]
    if not log:
        empty = "nothing was written yet" if state.detail.run.ended_at is None else "its files are not here"
        return [*rows, line((f" {empty}", "$dim"))]
    return rows + [_line(text, words) for text in log[start:end]]


def _about(state: LiveState, end: int, words: str) -> list[Part]:
    log, ended = state.detail.log, state.detail.run.ended_at is not None
    if words:
        count = len(matches(log, words))
        return [(f"{count:,} line{'' if count == 1 else 's'} with ", "$dim"), f.clean(words)]
    if end < len(log):
        return [(f"output.log, {len(log) - end:,} lines further on", "$dim")]
    return [("output.log" if ended else "output.log, following", "$dim")]


def _keys(look: Look, following: bool, searched: bool) -> Content:
    if not look.focused or look.width < 70:
        return line("")
    keys: list[Part] = ["/", (" search", "$dim")]
    keys += ["   Enter", (" the one before", "$dim")] if searched else []
    keys += [] if following else ["   G", (" follow", "$dim")]
    return line(*keys, " ")


def _line(text: str, words: str) -> Content:
    """A line with every place of the text that is looked for set off."""
    shown = f.clean(text)
    content = line(f" {shown}")
    wanted, at = words.casefold(), 0
    if not wanted or len(shown.casefold()) != len(shown):
        return content
    while (at := shown.casefold().find(wanted, at)) >= 0:
        content = content.stylize("reverse", at + 1, at + 1 + len(wanted))
        at += len(wanted)
    return content


class LogPane(FocusPane[LiveState]):
    """Follows the end until it is scrolled; a search goes from the newest match to older ones."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *FocusPane.SCROLL,
        Binding("enter", "older", "the match before", show=False, tooltip="the match before this one"),
    ]

    def __init__(self, *, id: str, help_text: str) -> None:  # noqa: A002
        super().__init__(
            lambda state, look: log_lines(state, look, self.words),
            id=id, help_text=help_text, length=lambda state: len(state.detail.log), from_end=True,
        )  # fmt: skip
        self.words = ""
        self._at: int | None = None

    def feed(self, state: LiveState) -> None:
        """Where one has scrolled up, new lines do not move what one reads."""
        before = self._state
        if self._scroll and before is not None and before.detail.run.id == state.detail.run.id:
            self._scroll += _grown(before.detail.log, state.detail.log)
        super().feed(state)

    def search(self, words: str) -> None:
        """Show the newest line with this text."""
        self.words, self._at = words, None
        self.action_older()
        self.redraw()

    def action_older(self) -> None:
        """The line with the text before the one that is shown; after the oldest the newest again."""
        found = matches(self._state.detail.log, self.words) if self._state is not None else []
        if not found:
            return
        older = [place for place in found if self._at is None or place < self._at]
        self._at = older[-1] if older else found[-1]
        lines, room = len(self._state.detail.log) if self._state is not None else 0, max(1, self.size.height - 1)
        self._scroll = max(0, min(lines - room, lines - 1 - self._at - room // 2))
        self.redraw()


def _grown(old: tuple[str, ...], new: tuple[str, ...]) -> int:
    """How many lines came at the end; both hold only the end of the file."""
    if old == new or not old:
        return 0
    ends = (shift for shift in range(len(new)) if new[: len(new) - shift][-3:] == old[-3:])
    return next(ends, 0)
