"""The actions of the app and their keys, as data: the app's bindings carry these ids, and a test compares the two.

Light to import: the app's first paint waits for it.
"""

import re
import string
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

EVERYWHERE = "all"


@dataclass(frozen=True)
class Action:
    """What a key does: its name in the config, its usual keys, and the screens that have it.

    `typed`: works while one types too, so it cannot be a key that writes a character.
    """

    name: str
    keys: tuple[str, ...]
    screens: tuple[str, ...]
    typed: bool = False


def _action(name: str, keys: str, screens: str = EVERYWHERE, typed: bool = False) -> Action:
    return Action(name, tuple(keys.split()), tuple(screens.split()), typed)


PANES = 9
ACTIONS: dict[str, Action] = {
    "palette": _action("Command palette", "ctrl+p colon"),
    "help": _action("Help", "question_mark f1 ctrl+g"),
    "out": _action("One layer out", "escape"),
    "next-pane": _action("Next pane", "tab"),
    "previous-pane": _action("Previous pane", "shift+tab"),
    "main": _action("Main action", "enter"),
    "next": _action("Next", "ctrl+n right_square_bracket", "Live Data Wizard Compare Chat After"),
    "previous": _action("Previous", "ctrl+o left_square_bracket", "Live Data Wizard Compare Chat After"),
    "review": _action("Review", "ctrl+r", "Wizard"),
    "redraw": _action("Redraw", "ctrl+l"),
    "quit": _action("Quit at once", "ctrl+q", typed=True),
    "back": _action("Back", "q"),
    "up": _action("Up", "up k"),
    "down": _action("Down", "down j"),
    "left": _action("Left", "left h"),
    "right": _action("Right", "right l"),
    "first": _action("First", "g home"),
    "last": _action("Last", "G end"),
    "page-up": _action("Page up", "pageup"),
    "page-down": _action("Page down", "pagedown"),
    "mark": _action("Mark", "space", "Home Data Plan Wizard Machine Lineage"),
    "filter": _action("Filter", "slash", "Home Live Wizard Help"),
    "order": _action("Order", "o", "Home Wizard Machine After"),
    "turn-round": _action("Turn the order round", "O", "Home Wizard Machine"),
    "view": _action("View", "v", "Home Live Data Plan Wizard Compare"),
    "views": _action("Saved views", "V", "Home"),
    "group": _action("Group by", "b", "Home"),
    "inspect": _action("Inspect", "i"),
    "reset": _action("Reset to recommended", "equals_sign", "Plan Wizard"),
    "undo": _action("Undo", "u"),
    "new": _action("New run", "n", "Home Live Compare Machine"),
    "plan": _action("Plan", "f2", "Home Plan Wizard"),
    "data": _action("Look at data", "f3", "Home Data Wizard"),
    "machine": _action("Machine", "m", "Home Live Compare Machine After"),
    "compare": _action("Compare", "c", "Home Live Compare Lineage"),
    "lineage": _action("Lineage", "L", "Home Live"),
    "baseline": _action("Pin baseline", "p", "Home Live Compare"),
    "chat": _action("Chat", "t", "Home Live After"),
    "fork": _action("Fork", "f", "Home Live"),
    "resume": _action("Resume", "r", "Home Live Chat After"),
    "stop": _action("Stop", "s", "Home Live After"),
    "checkpoint": _action("Checkpoint", "w", "Home Live"),
    "compute": _action("Compute now", "e", "Home Live Plan Data Wizard After"),
    "zoom": _action("Zoom", "z", "Live Data Wizard Compare After"),
    "x-axis": _action("X axis", "x", "Live Compare"),
    "y-axis": _action("Y axis", "y", "Live Compare"),
    "smoother": _action("Smoother", "plus", "Live Compare"),
    "rougher": _action("Rougher", "minus", "Live Compare"),
    "archive": _action("Archive", "A", "Home Live Compare"),
    "delete": _action("Delete", "D", "Home Live Wizard Compare Machine"),
    "export": _action("Export", "E", "Home Live Compare After"),
    "judge": _action("Ask a judge", "a", "After"),
    "merge": _action("Merge", "M", "After"),
    "rename": _action("Rename", "R", "Home Live Wizard"),
    "note": _action("Note", "N", "Home Live Wizard"),
    "tag": _action("Tag", "T", "Home Live Wizard"),
    "star": _action("Star", "asterisk", "Home Live Wizard"),
    "own-code": _action("Let a model's own code run", "C", "Wizard"),
    "queue-down": _action("Later in the queue", "J", "Machine"),
    "queue-up": _action("Sooner in the queue", "K", "Machine"),
    "copy": _action("Copy", "Y"),
} | {f"pane-{i}": _action(f"Go to {i}", str(i), "Live Data Wizard Machine Compare After") for i in range(1, PANES + 1)}

ACTION_OF = {key: action for action, about in ACTIONS.items() for key in about.keys}
"""What a key usually does: the same wherever it does anything."""

NAMED = {
    "enter", "escape", "tab", "space", "backspace", "delete", "insert", "home", "end", "pageup", "pagedown",
    "up", "down", "left", "right", *(f"f{i}" for i in range(1, 25)),
}  # fmt: skip
"""Keys that have a name in place of a character."""
SHORTER = {
    "solidus": "slash", "reverse_solidus": "backslash", "commercial_at": "at", "hyphen_minus": "minus",
    "plus_sign": "plus", "low_line": "underscore",
}  # fmt: skip
SAME = {"ctrl+i": "Tab", "ctrl+m": "Enter", "ctrl+h": "Backspace", "ctrl+left_square_bracket": "Esc", "ctrl+j": "Enter"}
"""What a terminal sends for another key too."""
_MODIFIED = re.compile(r"((?:(?:ctrl|alt|shift|super)\+)+)(.+)")


def character_key(character: str) -> str:
    """A character as the app names its key: `?` is question_mark (textual.keys._character_to_key)."""
    if character.isalnum():
        return character
    name = unicodedata.name(character, "").lower().replace("-", "_").replace(" ", "_")
    return SHORTER.get(name, name)


_CHARACTERS = {character_key(c): c for c in string.punctuation}


def key_of(text: str) -> str:
    """A key as a person writes it in the app's own words: `ctrl+S`, `?`, `PgUp`. Raises ValueError, saying what is wrong."""
    text = text if text == " " else text.strip()
    if len(text) == 1:
        key = character_key(text) if text.isprintable() else ""
        if not key:
            raise ValueError("is no key")
        return key
    if found := _MODIFIED.fullmatch(text.lower()):
        modifiers, rest = found.groups()
        key = modifiers + (character_key(rest) if len(rest) == 1 else _named(rest))
        if key in SAME:
            raise ValueError(f"is what the terminal sends for {SAME[key]}")
        if re.fullmatch(r"shift\+[a-z]", key):
            raise ValueError(f"is written {key[-1].upper()}")
        return key
    return _named(text.lower())


def _named(text: str) -> str:
    text = {"pgup": "pageup", "pgdn": "pagedown", "pgdown": "pagedown", "esc": "escape", "return": "enter"}.get(
        text, text
    )
    if text not in NAMED and text not in _CHARACTERS:
        raise ValueError("is no key: a character, ctrl+x, alt+x, f1 to f24, or a name such as space, pageup, left")
    return text


def written(key: str) -> str:
    """A key as it stands on the keyboard: question_mark is `?`."""
    modifiers, plus, last = key.rpartition("+")
    return modifiers + plus + _CHARACTERS.get(last, last)


def writes(key: str) -> bool:
    """Whether a field would take the key for a character."""
    return len(key) == 1 or key in _CHARACTERS or key == "space"


def folded(name: str) -> str:
    """Names without case, spaces and hyphens."""
    return re.sub(r"[\s_-]+", "", name.casefold())


IDS = {folded(name): action for action, about in ACTIONS.items() for name in (action, about.name)}
"""Every way to name an action, folded, to its id."""


def effective(changed: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """The keys of all actions with these changed."""
    return {action: changed.get(action, about.keys) for action, about in ACTIONS.items()}


def conflicts(changed: Mapping[str, tuple[str, ...]]) -> list[tuple[str, str, str]]:
    """(key, changed action, other action) wherever one key would mean two things on one screen."""
    keys = effective(changed)
    found: list[tuple[str, str, str]] = []
    for one in changed:
        for other in ACTIONS:
            both = [key for key in keys[one] if key in keys[other]]
            if other == one or (other, one) in {pair[1:] for pair in found} or not _together(one, other):
                continue
            found += [(key, one, other) for key in both]
    return found


def _together(one: str, other: str) -> bool:
    a, b = ACTIONS[one].screens, ACTIONS[other].screens
    return EVERYWHERE in (*a, *b) or bool(set(a) & set(b))
