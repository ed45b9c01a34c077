"""The signs of the screens: a state is always its glyph and its word, so that colour never stands alone.

Screens write the Unicode signs; `to_ascii` turns finished text into ASCII of the same width.
"""

import re

STATES = {
    "queued": "○",
    "starting": "◔",
    "running": "●",
    "stopping": "◑",
    "finished": "✓",
    "stopped": "■",
    "failed": "✗",
    "crashed": "!",
    "oom": "▲",
}
STATE_ROLES = {
    "queued": "$dim",
    "starting": "$accent",
    "running": "$accent",
    "stopping": "$warn",
    "finished": "$good",
    "stopped": "$dim",
    "failed": "$bad",
    "crashed": "$bad",
    "oom": "$bad",
}
LEVELS = {"fatal": "✗", "error": "✗", "warning": "!", "note": "·", "info": "·", "ok": "✓"}
LEVEL_ROLES = {"fatal": "$bad", "error": "$bad", "warning": "$warn", "ok": "$good"}

ACTIVE = ("starting", "running", "stopping")
STOPPABLE = ("queued", "starting", "running")
RESUMABLE = ("stopped", "failed", "crashed", "oom")
BROKEN = ("failed", "crashed", "oom")

CURSOR = "▸"
MARK, STAR = "◆", "★"
FOCUS = "▌"
SPARK = "▁▂▃▄▅▆▇█"
FULL, REST = "━", "─"

_ASCII = str.maketrans(
    {
        **dict(zip("○◔●◑✓■✗▲", "o~*~v#xM", strict=True)),
        **dict(zip("▁▂▃▄▅▆▇█", "_.-=+*%#", strict=True)),
        **dict(zip("▸◆★▌━─│╌╭╮╰╯▀·–›→↑↓←’‹°", ">#*|=-|-++++\".->>^v<'< ", strict=True)),
        "›": ">",
        **dict(zip("▓▒░±", "%+:~", strict=True)),
        **dict(zip("┃┊↵⇥␍", "||$>$", strict=True)),
        "⎿": "`",
        "├": "|",
        "└": "`",
    }
)
_CLIPPED = re.compile(".?…")


def state_glyph(status: str) -> str:
    """The glyph of a run's state; a state of a newer version is a question mark."""
    return STATES.get(status, "?")


def state_role(status: str) -> str:
    """The colour role of a run's state."""
    return STATE_ROLES.get(status, "$dim")


def to_ascii(text: str) -> str:
    """The same text in ASCII, one character for each."""
    if text.isascii():
        return text
    text = _CLIPPED.sub(lambda found: "." * len(found.group()), text.translate(_ASCII))
    return "".join(c if c.isascii() else "." if "\u2800" < c <= "\u28ff" else "?" for c in text)
