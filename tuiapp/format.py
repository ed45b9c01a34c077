"""How values become text: pure functions, every unknown a dash.

Text from outside (names, log lines, samples) goes through `clean` first: a terminal obeys control characters.
"""

import math
import re
import time

from rich.cells import cell_len, set_cell_size

from engine import text as text_of

DASH = "–"
ELLIPSIS = "…"


def clean(text: str) -> str:
    """One line of text that is safe to draw: no escape sequences, control or direction characters."""
    return text_of.clean(text, keep_lines=False)


PASTED = 4096
"""Characters of what is pasted that are kept: as long as the longest path."""


def pasted(text: str) -> str:
    """What a field gets of what was pasted: the first line that says something, safe to draw."""
    lines = (clean(line).strip() for line in text[: 16 * PASTED].splitlines())
    return next((line for line in lines if line), "")[:PASTED]


def plain(value: str) -> str:
    """A value of the specification as people write it: no quotes, no null, 2e-4 for 0.0002."""
    text = clean(value)
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = text[1:-1]
    if text in ("null", "None", "[]", "{}"):
        return ""
    if re.fullmatch(r"0\.00\d+|\d(\.\d+)?e-0?\d+", text):
        return rate(float(text))
    return text.removesuffix(".0") if re.fullmatch(r"\d+\.0", text) else text


def clip(text: str, width: int) -> str:
    """At most `width` cells, the loss shown by an ellipsis."""
    if width <= 0:
        return ""
    if cell_len(text) <= width:
        return text
    return set_cell_size(text, width - 1).rstrip() + ELLIPSIS


def clip_left(text: str, width: int) -> str:
    """At most `width` cells, keeping the end: what matters of a path is its name."""
    if cell_len(text) <= width:
        return text
    while text and cell_len(text) > width - 1:
        text = text[1:]
    return ELLIPSIS + text if width > 0 else ""


def left(text: str, width: int) -> str:
    """Clipped and padded to exactly `width` cells."""
    return set_cell_size(clip(text, width), max(0, width))


def right(text: str, width: int) -> str:
    """Clipped and right-aligned to exactly `width` cells."""
    text = clip(text, width)
    return " " * (width - cell_len(text)) + text


def wrap(text: str, width: int, rows: int) -> list[str]:
    """Words in at most `rows` lines of at most `width` cells, the last one clipped."""
    lines: list[str] = []
    words = text.split()
    while words and len(lines) < rows and width > 0:
        line = words.pop(0)
        while words and cell_len(line) + 1 + cell_len(words[0]) <= width:
            line += " " + words.pop(0)
        if words and len(lines) == rows - 1:
            line = f"{line} {' '.join(words)}"
        lines.append(clip(line, width))
    return lines


def known(value: float | None) -> bool:
    """Whether there is a finite value to show."""
    return value is not None and math.isfinite(value)


def number(value: float | None, digits: int = 3) -> str:
    """A loss or another plain number with fixed decimals: 1.142."""
    if value is None:
        return DASH
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    return f"{value:,.{digits}f}" if abs(value) < 1e5 else short(value)


def count(value: float | None) -> str:
    """A whole number with thousands: 2,236."""
    return f"{value:,.0f}" if value is not None and math.isfinite(value) else DASH


def rate(value: float | None) -> str:
    """A learning rate: 2e-4, 6.3e-5."""
    if value is None or not math.isfinite(value):
        return DASH
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"


def short(value: float | None) -> str:
    """Few characters for any size, for axes and narrow cells: 0.41, 12.5, 2.5k, 1.2M, 3e-5."""
    if value is None or not math.isfinite(value):
        return DASH
    size = abs(value)
    if size == 0:
        return "0"
    if size < 0.001:
        return rate(value) if value > 0 else f"-{rate(size)}"
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size >= unit * 9.995 or (name != "k" and size >= unit):
            return f"{value / unit:.3g}{name}"
    return f"{value:.3g}" if size < 100 else f"{value:.0f}"


def gib(value: float | None) -> str:
    """Memory in GiB without the unit: 19.3."""
    return f"{value:.1f}" if value is not None and math.isfinite(value) else DASH


def percent(value: float | None) -> str:
    """98 %."""
    return f"{value:.0f} %" if value is not None and math.isfinite(value) else DASH


def size(count: float) -> str:
    """Bytes as people say them: 20 KiB, 8.1 MiB, 1.2 GiB."""
    for unit, name in ((2**30, "GiB"), (2**20, "MiB")):
        if count >= 0.1 * unit:
            return f"{count / unit:,.1f} {name}"
    return f"{count / 2**10:.0f} KiB" if count >= 2**10 else f"{count:.0f} bytes"


def of_total(part: float | None, total: float | None) -> str:
    """19.3 of 24.0 GiB, as far as either is known."""
    if total is None:
        return f"{gib(part)} GiB" if part is not None else DASH
    return f"{gib(part)} of {gib(total)} GiB"


def duration(seconds: float | None) -> str:
    """How long something took: 45 s, 33 min, 4.4 h, 3.1 d."""
    if seconds is None or not math.isfinite(seconds):
        return DASH
    seconds = max(0.0, seconds)
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    if seconds < 99.5 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 99.5 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} d"


def age(seconds: float | None) -> str:
    """How long ago, without ticking seconds: now, 4 min, 2 h, 6 d."""
    if seconds is None or not math.isfinite(seconds):
        return DASH
    if seconds < 60:
        return "now"
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{int(seconds // unit)} {name}"
    return "now"


def clock(seconds: float | None, with_seconds: bool = False) -> str:
    """A time of day here: 14:52."""
    if seconds is None or not math.isfinite(seconds):
        return DASH
    return time.strftime("%H:%M:%S" if with_seconds else "%H:%M", time.localtime(seconds))


def model_name(model: str) -> str:
    """The last part of a hub id or a path: what people call the model."""
    return clean(model).rstrip("/").rpartition("/")[2] or clean(model)
