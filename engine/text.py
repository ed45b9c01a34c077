"""Text from outside (data rows, model names, logs) made safe to draw on a terminal."""

import re

# CSI and OSC sequences first, whole, so that their parameters do not stay behind as text; then any control
# character left. Bidirectional overrides are included: they reorder what the reader sees.
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[PX^_][^\x1b]*(?:\x1b\\)?|\x1b.")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def clean(text: str, keep_lines: bool = True) -> str:
    """Strip terminal control sequences; newlines and tabs stay, or become spaces if `keep_lines` is false."""
    text = _CONTROLS.sub("", _ESCAPES.sub("", text))
    return text if keep_lines else re.sub(r"[\n\t]+", " ", text)


def tail(text: str, lines: int) -> list[str]:
    """The last non-empty lines, cleaned; a progress bar's carriage returns leave its last state only."""
    shown = (clean(line.rstrip("\r").rsplit("\r", 1)[-1]).rstrip() for line in text.split("\n"))
    return [line for line in shown if line.strip()][-lines:]
