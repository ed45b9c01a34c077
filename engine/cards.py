"""The cards a plan is for: those of this machine, or a description of cards one does not have (`--gpu`)."""

import difflib
import re
from dataclasses import dataclass

from engine import catalog
from engine.catalog import Card
from engine.errors import SpecError
from engine.hardware import Gpu, Hardware, probe
from engine.text import clean

COUNT = re.compile(r"(?:(\d{1,4})\s*[xX×*]\s*)?(\S.*)", re.DOTALL)
SIZE = re.compile(r"(\d{1,4}(?:\.\d{1,3})?)\s*(?:g|gb|gib)?", re.IGNORECASE)


@dataclass(frozen=True)
class Cards:
    """Equal cards. `memory` is the GiB that each has in all, not what is free; `card` is None where the speed is unknown."""

    count: int
    name: str
    memory: float
    card: Card | None

    @property
    def description(self) -> str:
        """`2 x RTX 4090, 24.0 GiB`."""
        return f"{f'{self.count} x ' if self.count > 1 else ''}{self.name}, {self.memory:.1f} GiB"


def parse_gpu(text: str, machine: Hardware | None = None) -> Cards | None:
    """The cards that `--gpu TEXT` means: `auto`, a card (`rtx4090`, `A100 80GB`) or a size (`24GiB`), the last two also
    with a count (`2xrtx4090`).

    `auto` is the machine's own cards (probed unless given), None if it has none. A size in GB names what is on the box
    and is taken as GiB; it says nothing about speed. Raises SpecError for anything else, with the nearest names.
    """
    text = text.strip()
    if text.lower() == "auto":
        return own_cards((machine or probe()).gpus)
    found = COUNT.fullmatch(text)
    count, what = (int(found[1] or 1), found[2]) if found else (0, text)
    card = _named(what)
    size = SIZE.fullmatch(what)
    memory = card.memory if card else float(size[1]) if size else 0.0
    if not count or not memory:
        raise _unknown(text, what)
    return Cards(count, card.name if card else "GPU", memory, card)


def own_cards(gpus: tuple[Gpu, ...]) -> Cards | None:
    """The largest group of equal cards, by memory in all; None without any. MIG devices work alone, so one counts."""
    groups: dict[tuple[str, int], list[Gpu]] = {}
    for gpu in gpus:
        if gpu.memory_total:
            groups.setdefault((gpu.name, round(gpu.memory_total)), []).append(gpu)
    choices = [
        Cards(
            count=1 if group[0].mig else len(group),
            name=name,
            memory=min(gpu.memory_total or 0.0 for gpu in group),
            card=None if group[0].mig else catalog.find_card(name, group[0].memory_total),
        )
        for (name, _), group in groups.items()
    ]
    return max(choices, key=lambda cards: cards.count * cards.memory, default=None)


def _named(what: str) -> Card | None:
    """The catalog's card, unless the text gives it a size that it is not sold with (NVML shows up to 8 % less)."""
    card, size = catalog.find_card(what), catalog.stated_size(what)
    if card and size and size != catalog.stated_size(card.name) and abs(card.memory - size) > 0.1 * size:
        return None
    return card


def _unknown(text: str, what: str) -> SpecError:
    near = difflib.get_close_matches(what.lower().replace(" ", ""), catalog.cards(), n=4, cutoff=0.6)
    hint = "Give a card (rtx4090, a100-80gb), a size (24GiB) or auto, with a count in front if there are several (2xrtx4090)."
    return SpecError(
        "Unknown GPU",
        f"No card in the catalog is called {clean(text, False)!r}, and it is no size.",
        f"Near names: {', '.join(near)}. {hint}" if near else hint,
    )
