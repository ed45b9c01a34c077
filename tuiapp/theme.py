"""Three themes with the colour roles of the screens.

The numbers are of the 256-colour palette, as over SSH there is often no more.
"""

from textual.theme import Theme

_ROLES = ("foreground", "dim", "accent", "good", "warn", "bad", "train", "eval", "baseline", "predicted")
_DARK = (252, 246, 80, 114, 215, 210, 75, 215, 246, 176)
_LIGHT = (235, 242, 24, 22, 94, 124, 25, 130, 242, 90)
_HIGH = (231, 231, 51, 46, 226, 210, 231, 226, 250, 51)

_LEVELS = (0, 95, 135, 175, 215, 255)


def palette(index: int) -> str:
    """The colour that terminals give to a number of the 256-colour palette (16 and up)."""
    if index >= 232:
        grey = 8 + 10 * (index - 232)
        return f"#{grey:02x}{grey:02x}{grey:02x}"
    index -= 16
    red, green, blue = (_LEVELS[part] for part in (index // 36, index // 6 % 6, index % 6))
    return f"#{red:02x}{green:02x}{blue:02x}"


def _theme(name: str, numbers: tuple[int, ...], ground: str, row: str, field: str, dark: bool) -> Theme:
    roles = {role: palette(number) for role, number in zip(_ROLES, numbers, strict=True)}
    extra = {
        "row": row,
        "field": field,
        "input-cursor-background": roles["foreground"],
        "input-cursor-foreground": ground,
        "block-cursor-background": row,
        "block-cursor-foreground": roles["foreground"],
        "block-cursor-text-style": "bold",
    }
    return Theme(
        name=name,
        primary=roles["accent"],
        accent=roles["accent"],
        success=roles["good"],
        warning=roles["warn"],
        error=roles["bad"],
        foreground=roles["foreground"],
        background=ground,
        surface=ground,
        panel=row,
        dark=dark,
        variables={**{key: value for key, value in roles.items() if key != "foreground"}, **extra},
    )


THEMES = {
    "dark": _theme("dark", _DARK, "#1c1c1c", palette(236), palette(235), dark=True),
    "light": _theme("light", _LIGHT, "#ffffff", palette(254), palette(255), dark=False),
    "high": _theme("high", _HIGH, "#000000", palette(238), palette(235), dark=True),
}
