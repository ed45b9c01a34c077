"""What kind of answers a data set has: labels, JSON, tool calls, or text."""

import re
import unicodedata
from collections.abc import Sequence

from engine.scoring.parsed import calls_in, document

KINDS = ("labels", "json", "tools", "text")
LABEL_WORDS, LABEL_LETTERS = 5, 40
LABELS = 20
"""Distinct answers up to which they are labels."""
TIMES = 2
"""How often a label must come on average: eight different short answers in eight rows are no labels."""
MOST = 0.9
"""Share of the answers that must be JSON."""


def kind_of(references: Sequence[str | None]) -> str:
    """One of KINDS. Tool calls where half of the answers have one, for to call none can be right too."""
    known = [text for text in references if text and text.strip()]
    if not known:
        return "text"
    if sum(bool(calls_in(text)) for text in known) >= len(known) / 2:
        return "tools"
    if sum(isinstance(document(text), dict | list) for text in known) >= MOST * len(known):
        return "json"
    labels = {label(text) for text in known}
    few = 2 <= len(labels) <= LABELS and len(known) >= TIMES * len(labels)
    return "labels" if few and all(_short(text) for text in known) else "text"


def _short(text: str) -> bool:
    text = text.strip()
    return len(text) <= LABEL_LETTERS and "\n" not in text and len(text.split()) <= LABEL_WORDS


def label(text: str) -> str:
    """What a model chose: its first line, case, punctuation and spaces aside. "" if it said nothing."""
    line = next((line for line in text.splitlines() if line.strip()), "")
    plain = unicodedata.normalize("NFKC", line).casefold()
    return " ".join(re.sub(r"[^\w\s+#<>=/%-]", " ", plain).split()) or plain.strip()
