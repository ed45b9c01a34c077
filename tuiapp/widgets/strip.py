"""The machine in one line: one card, several, many, none, or a driver that does not answer."""

import re
from collections.abc import Iterable

from textual.content import Content

from tuiapp import format as f
from tuiapp.snapshot import GpuLine, Machine
from tuiapp.widgets.bars import share
from tuiapp.widgets.card_use import counts
from tuiapp.widgets.rows import fit, line, spread

WIDE = 120
WHY = "m why"
"""The key that opens the machine screen, which says more."""
_TRADE = re.compile(r"\((?:R|TM|C)\)|\b(?:Intel|AMD|Core|Processor|CPU|NVIDIA|GeForce|\d+th Gen|\d+-Core)\b|@.*", re.I)


def short_name(name: str) -> str:
    """A card or processor as people call it: `RTX 4090`, `i7-1260P`."""
    return " ".join(_TRADE.sub(" ", f.clean(name)).split()) or f.clean(name)


def strip_line(machine: Machine, width: int) -> Content:
    """The strip for this width."""
    # a machine on which no driver was ever installed simply has no card
    silent = machine.gpu_problem and not machine.gpu_problem.startswith("No NVIDIA driver")
    if machine.gpu_problem and silent and not machine.gpus:
        text = f.clip(f.clean(machine.gpu_problem), max(0, width - len(WHY) - 15))
        return spread(line((" GPU    ", "$dim"), (f.DASH, "$warn"), f"   {text}"), line((f"{WHY} ", "$dim")), width)
    if not machine.gpus:
        return spread(_no_card(machine, width), line((f"{WHY} ", "$dim")), width)
    tail = _host(machine) if width >= WIDE else Content("")
    room = width - tail.cell_length - (2 if tail else 0)
    cards = machine.gpus
    if len(cards) == 1:
        start = _one_card(cards[0], min(room, 100))
        names = ", ".join(f.clean(lease.name) for lease in cards[0].leases)
        over = room - start.cell_length - 3
        start += line((f"   {f.clip(names, over)}", "$dim")) if names and over >= 12 else ""
    else:
        start = _few_cards(cards, room) if len(cards) * 31 + 14 <= room else _many_cards(cards, room)
    return fit(start, room) + ("  " + tail if tail else "")


def _no_card(machine: Machine, width: int) -> Content:
    name = f.clip(short_name(machine.cpu_name), 24)
    ram = of_ram(machine)
    bar = max(4, min(30, width - len(name) - len(ram) - len(WHY) - 38))
    return line(
        (" No GPU  CPU ", "$dim"),
        f"{name}  ",
        share(machine.cpu_percent, 100, bar),
        f"  {f.right(f.percent(machine.cpu_percent), 5)}",
        ("   RAM ", "$dim"),
        ram,
    )


def _one_card(card: GpuLine, width: int) -> Content:
    head = f" GPU {card.index}  "
    name = f.clip(short_name(card.name), 20)
    tail = "  ".join(
        (
            f.right(f.of_total(card.memory_used, card.memory_total), 16),
            f.right(f.percent(card.utilization), 5),
            f.right(_watts(card.power), 5),
            _degrees(card.temperature),
        )
    )
    bar = max(4, width - len(head) - len(name) - len(tail) - 5)
    memory = share(card.memory_used, card.memory_total, bar)
    return line((head, "$dim"), f"{name}  ", memory, f"  {tail}")


def _few_cards(cards: tuple[GpuLine, ...], width: int) -> Content:
    names = {short_name(card.name) for card in cards}
    head = f" {f.clip(names.pop(), 12)}" if len(names) == 1 else " GPU"
    bar = max(4, min(16, (width - len(head)) // len(cards) - 25))
    parts: list[str | tuple[str, str] | Content] = [(head, "$dim")]
    for i, card in enumerate(cards):
        memory = f"{f.gib(card.memory_used)} of {f.gib(card.memory_total)}"
        parts += [
            (f"{'   ' if i else '  '}{card.index} ", "$dim"),
            share(card.memory_used, card.memory_total, bar),
            f"  {f.right(memory, 12)} {f.right(f.percent(card.utilization), 5)}",
        ]
    return line(*parts)


def _many_cards(cards: tuple[GpuLine, ...], width: int) -> Content:
    """What they are used for, and all of them together."""
    use = ", ".join(text for text, _ in counts(cards))
    power = total(card.power for card in cards)
    warmest = max((card.temperature for card in cards if card.temperature is not None), default=None)
    rest = f"   {use}   {memory_of(cards)}   {kilowatts(power)}   {_degrees(warmest)}"
    names = {short_name(card.name) for card in cards if not card.lost}
    name = names.pop().split() if len(names) == 1 else []
    while len(name) > 1 and len(" ".join(name)) + len(rest) + 7 > width:
        name.pop()  # of `H100 80GB HBM3` the beginning says the most
    return line(f" {len(cards)} {'x ' + ' '.join(name) if name else 'GPUs'}{rest}")


def memory_of(cards: tuple[GpuLine, ...]) -> str:
    """`412 of 637 GiB`, of all cards together."""
    used, whole = total(card.memory_used for card in cards), total(card.memory_total for card in cards)
    return f"{f.count(used)} of {f.count(whole)} GiB"


def kilowatts(power: float | None) -> str:
    """`4.0 kW`; below one, in watts."""
    if power is None or power >= 1000:
        return f"{power / 1000:.1f} kW" if power is not None else f"{f.DASH} W"
    return f"{power:.0f} W"


def total(values: Iterable[float | None]) -> float | None:
    """The sum of what is known; None if nothing is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _host(machine: Machine) -> Content:
    ram = of_ram(machine)
    return line(("CPU ", "$dim"), f.percent(machine.cpu_percent), ("   RAM ", "$dim"), f"{ram} ")


def of_ram(machine: Machine) -> str:
    """`9.8 of 15.4 GiB`; of a thousand and more no tenths."""
    if (machine.ram_total or 0) < 1000:
        return f.of_total(machine.ram_used, machine.ram_total)
    return f"{f.count(machine.ram_used)} of {f.count(machine.ram_total)} GiB"


def _watts(power: float | None) -> str:
    return f"{power:.0f} W" if power is not None else f"{f.DASH} W"


def _degrees(temperature: float | None) -> str:
    return f"{temperature:.0f} °C" if temperature is not None else f"{f.DASH} °C"
