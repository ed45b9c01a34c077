"""The last row of a screen: its main keys, made from its bindings so that it cannot drift from them."""

from collections.abc import Callable, Iterable

from textual.binding import Binding
from textual.content import Content

from tuiapp.widgets.rows import line

_NAMES = {
    "enter": "Enter", "escape": "Esc", "tab": "Tab", "shift+tab": "shift+Tab", "space": "Space", "f1": "F1", "f2": "F2", "f3": "F3",
    "question_mark": "?", "slash": "/", "plus": "+", "minus": "-", "colon": ":",
    "left_square_bracket": "[", "right_square_bracket": "]", "pageup": "PgUp", "pagedown": "PgDn",
    "up": "↑", "down": "↓", "left": "←", "right": "→", "home": "Home", "end": "End",
}  # fmt: skip


def key_name(key: str) -> str:
    """A key as people write it."""
    return _NAMES.get(key, key)


def key_names(binding: Binding) -> str:
    """All keys of a binding: `j ↓`."""
    return " ".join(key_name(key.strip()) for key in binding.key.split(","))


def first_key(binding: Binding) -> str:
    """The key that the footer shows."""
    return binding.key_display or key_name(binding.key.split(",")[0].strip())


def keys_line(bindings: Iterable[Binding], allowed: Callable[[Binding], bool], width: int) -> Content:
    """The main keys that do something now; help and leaving stay, others give way from the right."""
    shown = [(first_key(one), one.description, one.id) for one in bindings if one.show and allowed(one)]
    tail = [one for one in shown if one[2] in ("help", "back")]
    main = [one for one in shown if one not in tail]
    while main and _length([*main, *tail]) > width - 1:
        main.pop()
    parts: list[tuple[str, str]] = [(" ", "")]
    for key, description, _ in [*main, *tail]:
        parts += [(key, "$accent"), (f" {description}  ", "$dim")]
    return line(*parts)


def _length(shown: list[tuple[str, str, str | None]]) -> int:
    return sum(len(key) + len(description) + 3 for key, description, _ in shown) - 2
