"""The colours: each role is readable on the ground, and on the row under the cursor and in a field."""

import pytest

from tuiapp.theme import THEMES

ROLES = ("dim", "accent", "good", "warn", "bad", "train", "eval", "baseline", "predicted")
LEAST = {"dark": 5.6, "light": 4.7, "high": 8.0}
"""Of SCREENS.md, on the ground; WCAG 2.2 asks for 4.5 of text."""
TEXT = ("text", "accent", "good", "warn", "bad")


def luminance(colour: str) -> float:
    """Relative luminance, WCAG 2.2."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """WCAG 2.2's ratio, 1 to 21."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("name", THEMES)
def test_every_role_is_readable(name: str) -> None:
    theme = THEMES[name]
    roles = {"text": theme.foreground or ""} | {role: theme.variables[role] for role in ROLES}
    ground = theme.background or ""
    weak = {
        role: round(contrast(colour, ground), 1)
        for role, colour in roles.items()
        if contrast(colour, ground) < LEAST[name]
    }
    assert not weak
    if name == "high":
        return  # there the row is set off by reverse, with the same contrast
    for place in ("row", "field"):
        other = theme.variables[place]
        found = {role: contrast(colour, other) for role, colour in roles.items()}
        assert all(found[role] >= 4.5 for role in TEXT), (place, found)
        assert min(found.values()) >= 3.5, (place, found)
