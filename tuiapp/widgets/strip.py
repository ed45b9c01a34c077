"""The machine in one line: one card, several, many, none, or a driver that does not answer."""

import re
from collections.abc import Iterable

from textual.content import Content

from tuiapp import format as f
from tuiapp.snapshot import GpuLine, Machine
from tuiapp.widgets.bars import share
from tuiapp.widgets.rows import fit, line

WIDE = 120
_TRADE = re.compile(r"\((?:R|TM|C)\)|\b(?:Intel|AMD|Core|Processor|CPU|NVIDIA|GeForce|\d+th Gen|\d+-Core)\b|@.*", re.I)


def short_name(name: str) -> str:
    """A card or processor as people call it: `RTX 4090`, `i7-1260P`."""
    return " ".join(_TRADE.sub(" ", f.clean(name)).split()) or f.clean(name)


def strip_line(machine: Machine, width: int) -> Content:
    """The strip for this width."""
    # a machine on which no driver was ever installed simply has no card
    silent = machine.gpu_problem and not machine.gpu_problem.startswith("No NVIDIA driver")
    if machine.gpu_problem and silent and not machine.gpus:
        text = f.left(f.clean(machine.gpu_problem), max(0, width - 14))
        return fit(line((" GPU    ", "$dim"), (f.DASH, "$warn"), f"   {text}"), width)
    if not machine.gpus:
        return fit(_no_card(machine, width), width)
    tail = _host(machine) if width >= WIDE else Content("")
    room = width - tail.cell_length - (2 if tail else 0)
    cards = machine.gpus
    if len(cards) == 1:
        start = _one_card(cards[0], min(room, 100))
    else:
        start = _few_cards(cards, room) if len(cards) * 26 + 14 <= room else _many_cards(cards)
    return fit(start, room) + ("  " + tail if tail else "")


def _no_card(machine: Machine, width: int) -> Content:
    name = f.clip(short_name(machine.cpu_name), 24)
    ram = f.of_total(machine.ram_used, machine.ram_total)
    bar = max(4, min(30, width - len(name) - len(ram) - 36))
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
    bar = max(4, min(16, (width - len(head)) // len(cards) - 27))
    parts: list[str | tuple[str, str] | Content] = [(head, "$dim")]
    for card in cards:
        memory = f"{f.gib(card.memory_used)} of {f.gib(card.memory_total)}"
        parts += [
            (f"  {card.index} ", "$dim"),
            share(card.memory_used, card.memory_total, bar),
            f" {f.right(memory, 13)} {f.right(f.percent(card.utilization), 5)}",
        ]
    return line(*parts)


def _many_cards(cards: tuple[GpuLine, ...]) -> Content:
    names = {short_name(card.name) for card in cards}
    name = f.clip(names.pop(), 16) if len(names) == 1 else "GPU"
    busy = sum(1 for card in cards if (card.utilization or 0) >= 1)
    used = f"{f.count(_sum(card.memory_used for card in cards))} of "
    total = f"{f.count(_sum(card.memory_total for card in cards))} GiB"
    power = _sum(card.power for card in cards)
    warmest = max((card.temperature for card in cards if card.temperature is not None), default=None)
    watts = f"{power / 1000:.1f} kW" if power is not None else f"{f.DASH} kW"
    return line(
        f" {len(cards)} x {name}",
        ("   busy ", "$dim"),
        f"{busy}   {used}{total}   {watts}   {_degrees(warmest)}",
    )


def _sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _host(machine: Machine) -> Content:
    ram = f.of_total(machine.ram_used, machine.ram_total)
    return line(("CPU ", "$dim"), f.percent(machine.cpu_percent), ("   RAM ", "$dim"), f"{ram} ")


def _watts(power: float | None) -> str:
    return f"{power:.0f} W" if power is not None else f"{f.DASH} W"


def _degrees(temperature: float | None) -> str:
    return f"{temperature:.0f} °C" if temperature is not None else f"{f.DASH} °C"
