"""Text from outside (data rows, model names, logs) made safe to draw on a terminal."""

import re
import unicodedata

# CSI, OSC and the other strings first, whole, so that their parameters do not stay behind as text
_ESCAPES = re.compile(r"\x1b(?:\][^\x07\x1b]*(?:\x07|\x1b\\)?|\[[0-?]*[ -/]*[@-~]?|[PX^_][^\x1b]*(?:\x1b\\)?|.?)", re.S)
# Control, format (direction marks, zero width), surrogate, private and unassigned characters
_INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn"}


def clean(text: str, keep_lines: bool = True) -> str:
    """Strip what a terminal would obey or not show; newlines and tabs stay, or become spaces if `keep_lines` is false."""
    text = _ESCAPES.sub("", text)
    if not keep_lines:
        text = re.sub(r"[\n\t]+", " ", text)
    if text.isascii() and text.isprintable():
        return text
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c) not in _INVISIBLE)


def cells(text: str) -> int:
    """Columns that a terminal gives it."""
    return sum(2 if unicodedata.east_asian_width(c) in "FW" else 1 for c in text)


def tail(text: str, lines: int) -> list[str]:
    """The last non-empty lines, cleaned; a progress bar's carriage returns leave its last state only."""
    shown = (clean(line.rstrip("\r").rsplit("\r", 1)[-1]).rstrip() for line in text.split("\n"))
    return [line for line in shown if line.strip()][-lines:]
