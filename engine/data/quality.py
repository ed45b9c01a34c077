"""Text that one would rather not learn, by pattern."""

import re

REFUSAL = re.compile(
    r"\b(?:i(?:'|’)?m sorry,? (?:but )?(?:i|as)|i apologi[sz]e,? but i|i (?:can(?:'|’)?t|cannot|can not|am unable to|am not able to|won(?:'|’)?t) "
    r"(?:assist|help(?! but)|provide|fulfil|comply|answer|generate|create|do that|engage|support)|i must decline|i(?:'|’)?m (?:not able|unable) to"
    r"|as an ai(?: language model)?,? i (?:can(?:'|’)?t|cannot|do not|don(?:'|’)?t|am not))",
    re.I,
)  # fmt: skip
"""An assistant that refuses, at the beginning of its answer."""
BOILERPLATE = re.compile(
    r"as an? (?:ai|artificial intelligence)(?: language)? (?:model|assistant)|my (?:knowledge|training data)(?: was)? cut-?off|as of my last (?:update|training)"
    r"|i(?:'|’)?m just an? (?:ai|language model)|lorem ipsum|click here to subscribe|all rights reserved",
    re.I,
)  # fmt: skip
PLACEHOLDER = re.compile(
    r"(?<![\w{}\\])\{\{ ?[A-Za-z_][\w. ]{0,30} ?\}\}|\[(?:INSERT|YOUR|ENTER) [A-Z ]{2,30}\]|<(?:your|insert)[ _-][a-z_ -]{2,30}>"
)
"""Templates that nobody filled in: {{name}}, [INSERT NAME], <your name>."""
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
MOJIBAKE = re.compile(
    "Ã(?:[\x80-\xbf€‚ƒ„†‡ˆ‰Š‹ŒŽš›œžŸ™]|–(?=\\w))|â€[™œ\x9d\x93\x94\x98“”¦˜\x99]|Â[ £°»«©®·]|ï»¿|\ufffd"
)
"""UTF-8 that was read as Latin-1 or cp1252, or bytes that were replaced."""


WORDS = ("ai model", "ai assistant", "ai language", "language model", "intelligence model", "intelligence assistant", "cutoff", "cut-off",
         "of my last", "just an ai", "lorem ipsum", "click here to", "all rights")  # fmt: skip
"""One of these is in all boilerplate: looking for them first is ten times faster than the pattern."""


def boilerplate(answer: str) -> re.Match[str] | None:
    """The first piece of boilerplate."""
    low = answer.lower()
    return BOILERPLATE.search(answer) if any(word in low for word in WORDS) else None


def refuses(answer: str) -> bool:
    """Whether an answer begins by refusing."""
    return REFUSAL.search(answer, 0, 200) is not None
