"""The last row of a screen: its main keys, made from its bindings so that it cannot drift from them."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from textual.binding import Binding, BindingType
from textual.content import Content

from engine.keys import ACTION_OF, written
from tuiapp.widgets.rows import line

_NAMES = {
    "enter": "Enter", "escape": "Esc", "tab": "Tab", "shift+tab": "shift+Tab", "space": "Space",
    "pageup": "PgUp", "pagedown": "PgDn",
    "up": "↑", "down": "↓", "left": "←", "right": "→", "home": "Home", "end": "End",
}  # fmt: skip
_F_KEY = re.compile(r"f\d+")


def named(bindings: Iterable[BindingType]) -> list[BindingType]:
    """The bindings with the ids of their actions, by which the user's config changes keys; those of two are taken apart."""
    found: list[BindingType] = []
    for one in bindings:
        if not isinstance(one, Binding):
            raise TypeError(f"{one} has no words for the help")
        apart: dict[str | None, list[str]] = {}
        for key in one.key.split(","):
            apart.setdefault(ACTION_OF.get(key), []).append(key)
        for i, (action, keys) in enumerate(apart.items()):
            found.append(replace(one, key=",".join(keys), id=action, show=one.show and i == 0))
    return found


def changed(bindings: Sequence[Binding], keymap: Mapping[str, str]) -> list[Binding]:
    """The bindings with the keys that the user's config gives their actions, by the ids of `engine.keys.ACTIONS`."""
    if not keymap:
        return list(bindings)
    new = [
        replace(one, key=keymap[one.id], key_display=None) if one.id and one.id in keymap else one for one in bindings
    ]
    moved = {_stem(one) for one in bindings if one.id in keymap}
    for i, one in enumerate(bindings):
        if one.key_display and _stem(one) in moved:  # the two of a pair are shown together: [ ]
            pair = [key_name(other.key.split(",")[0]) for other in new if _stem(other) == _stem(one)]
            new[i] = replace(new[i], key_display=" ".join(pair) if len(pair) == 2 else None)
    return new


def _stem(binding: Binding) -> str:
    return binding.action.partition("(")[0]


def key_name(key: str) -> str:
    """A key as people write it."""
    return _NAMES.get(key) or (key.upper() if _F_KEY.fullmatch(key) else written(key))


def key_names(binding: Binding) -> str:
    """All keys of a binding: `j ↓`."""
    return " ".join(key_name(key.strip()) for key in binding.key.split(","))


def first_key(binding: Binding) -> str:
    """The key that the footer shows."""
    return binding.key_display or key_name(binding.key.split(",")[0].strip())


def keys_line(bindings: Iterable[Binding], allowed: Callable[[Binding], bool], width: int) -> Content:
    """The main keys that do something now; help and leaving stay, others give way from the right."""
    shown = [(first_key(one), one.description, one.id) for one in bindings if one.show and allowed(one)]
    tail = [one for one in shown if one[2] in ("help", "back", "out")]
    main = [one for one in shown if one not in tail]
    while main and _length([*main, *tail]) > width - 1:
        main.pop()
    parts: list[tuple[str, str]] = [(" ", "")]
    for key, description, _ in [*main, *tail]:
        parts += [(key, "$accent"), (f" {description}  ", "$dim")]
    return line(*parts).rstrip()


def _length(shown: list[tuple[str, str, str | None]]) -> int:
    return sum(len(key) + len(description) + 3 for key, description, _ in shown) - 2
