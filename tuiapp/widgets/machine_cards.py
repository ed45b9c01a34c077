"""The cards of the machine screen: each in one line with all columns, in two, or in one short one."""

import math
from collections.abc import Sequence

from textual.content import Content

from tuiapp import format as f
from tuiapp.glyphs import SPARK
from tuiapp.layout import WIDE
from tuiapp.machine_layout import lines_of_a_card
from tuiapp.snapshot import GpuLine, Machine
from tuiapp.widgets.bars import share
from tuiapp.widgets.card_use import ends, hot, lease_words, process_name, spare, use_of, use_parts, who, workers
from tuiapp.widgets.cursor_pane import Line
from tuiapp.widgets.machine_panes import MachineState, mark_of
from tuiapp.widgets.pane import Look, title
from tuiapp.widgets.rows import Part, fit, line
from tuiapp.widgets.strip import of_ram, short_name

CPU = "cpu"
"""The key of the processor, as in the engine's queue."""
BAR = 36
FACTS = 8
"""Facts that are shown of a card without being asked; `i` shows all."""
NO_GPU = "Small models train on the processor. What a GPU lacks here: tunedeck doctor"


def key_of(card: GpuLine) -> str:
    """What the queue and the cursor know a card by."""
    return card.uuid or f"index-{card.index}"


def with_cpu(machine: Machine) -> bool:
    """Whether the processor stands among the cards: if there are none, or if something of the queue is about it."""
    return not machine.gpus or bool(machine.on_cpu or machine.cpu_held)


def notes(machine: Machine, width: int) -> list[str]:
    """Why there is no GPU, and what follows, in lines of this width; nothing where there is one."""
    if machine.gpus:
        return []
    why = f.clean(machine.gpu_problem or "No driver shows a GPU.")
    return [*f.wrap(why, max(8, width - 4), 2), *f.wrap(NO_GPU, max(8, width - 4), 2)]


def cards_pane(state: MachineState, look: Look, selected: str) -> list[Line]:
    """Every card: in one line with all columns, in two, or in one short one."""
    machine = state.machine
    wide = look.width >= WIDE
    many = len(state.cards) + with_cpu(machine)
    below = [("", line((f"   {text}", "$dim"))) for text in notes(machine, look.width)]
    room = look.height - (len(below) + 1 if below else 0)
    each = 1 if wide or look.width < 60 else lines_of_a_card(room, many)
    rows: list[Line] = [("", _heading(state, look, each))]
    for card in state.cards:
        key = key_of(card)
        rows += [(key, _row(state, card, look, key == selected, each))]
        rows += _below(key, use_parts(card, state.now, machine.user), look.width, each)
    if with_cpu(machine):
        rows.append((CPU, _cpu_row(machine, look.width, selected == CPU)))
        rows += _below(CPU, _cpu_parts(state), look.width, max(2, each) if look.width >= 60 else each)
    if each == 3 and rows[-1][0] == "":
        rows.pop()
    return [*rows, ("", line("")), *below] if below else rows


def _below(key: str, parts: Sequence[Part], width: int, each: int) -> list[Line]:
    """Who uses it, and a blank line where there is room for one."""
    use = [(key, fit(line(" " * 7, *parts), width))] if each > 1 else []
    return [*use, ("", line(""))] if each == 3 else list(use)


def _heading(state: MachineState, look: Look, each: int) -> Content:
    if not state.cards:
        return title("Processor", look)
    if look.width < 60:
        return title("GPU", look, end=line(("GiB    load ", "$dim")))
    if look.width >= WIDE:
        parts = _wide_cells(look.width, _wide_titles())
    elif each == 1:
        parts = [f"{'Memory':<10}  {'GiB':>14} {'Load':>6}  {'Heat':>6}   Use"]
    else:
        power = f"{'Power':>8}" if _power(look.width) else ""
        name, bar = _name(look.width), _bar(look.width)
        parts = [f"{'Card':<{name}} {'Memory':<{bar}} {'GiB':>14} {'Load':>6}{power} {'Heat':>8}"]
    mark = title(" GPU", look)
    return fit(mark + line((" " * (7 - mark.cell_length), ""), line(*parts).stylize("$dim")), look.width)


def _name(width: int) -> int:
    """Cells of the card's name where a card has two lines."""
    return 10 if width < 96 else 16


def _power(width: int) -> int:
    """Cells of its power; none where there is no room."""
    return 8 if width >= 72 else 0


def _bar(width: int) -> int:
    """Cells of its memory bar."""
    return max(6, min(40, width - 40 - _name(width) - _power(width)))


def _row(state: MachineState, card: GpuLine, look: Look, marked: bool, each: int) -> Content:
    width = look.width
    memory = f"{f.gib(card.memory_used)} of {f.gib(card.memory_total)}" if not card.lost else f.DASH
    load, heat = f.percent(card.utilization), degrees(card.temperature)
    if width < 60:
        name = f.left(short_name(card.name), max(0, width - 29))
        return fit(line(mark_of(marked), f"{card.index} {name} {f.right(memory, 14)} {f.right(load, 6)}"), width)
    if width >= WIDE:
        return _wide_row(state, card, width, marked)
    start = line(mark_of(marked), f"{card.index:<4}")
    if each == 1:
        bar = share(card.memory_used, card.memory_total, 10)
        figures = f"  {f.right(memory, 14)} {f.right(load, 6)}  {f.right(heat, 6)}   "
        return fit(start + bar + figures + line(*short_use(card, state)), width)
    name = "" if card.lost else short_name(card.name)
    bar = (
        share(card.memory_used, card.memory_total, _bar(width)) if not card.lost else line(f.left(f.DASH, _bar(width)))
    )
    power = f.right(watts(card.power), _power(width))
    figures = f" {f.right(memory, 14)} {f.right(load, 6)}{power} {f.right(heat, 8)}"
    return fit(start + f"{f.left(name or f.DASH, _name(width))} " + bar + figures, width)


def _wide_titles() -> dict[str, Part]:
    names = ("Card", "Memory", "GiB", "Load", "last 10 min", "Power", "Heat", "Lease", "Used by", "Ends")
    return {name: name for name in names}


def _columns(width: int) -> list[tuple[str, int, bool]]:
    """(name, width, aligned at the right) of what has room; the bar takes what is over."""
    fixed = [("Card", 14, False), ("Memory", 0, False), ("GiB", 14, True), ("Load", 6, True)]
    fixed += [("last 10 min", 20, False)] if width >= 156 else []
    fixed += [("Power", 6, True), ("Heat", 6, True), ("Lease", 20, False)]
    fixed += [("Used by", 22, False)] if width >= 140 else []
    fixed += [("Ends", 5, True)]
    rest = width - 8 - sum(size + 2 for _, size, _ in fixed)
    over = max(0, rest - BAR)  # of a very wide terminal the names have more than the bars
    more = {"Lease": over // 2, "Used by": over - over // 2}
    return [(name, size + more.get(name, 0) if size else max(6, min(BAR, rest)), right) for name, size, right in fixed]


def _wide_cells(width: int, cells: dict[str, Part]) -> list[Part]:
    parts: list[Part] = []
    for name, size, right in _columns(width):
        content = line(cells[name])
        content = fit(content, size) if content.cell_length > size else content
        gap = " " * (size - content.cell_length)
        parts += [gap, content, "  "] if right else [content, gap, "  "]
    return parts


def _wide_row(state: MachineState, card: GpuLine, width: int, marked: bool) -> Content:
    sizes = {name: size for name, size, _ in _columns(width)}
    first = card.leases[0] if card.leases else None
    cells: dict[str, Part] = {
        "Card": f.clip(short_name(card.name) if not card.lost else f.DASH, sizes["Card"]),
        "Memory": share(card.memory_used, card.memory_total, sizes["Memory"])
        if not card.lost
        else line((f.DASH, "$dim")),
        "GiB": f"{f.gib(card.memory_used)} of {f.gib(card.memory_total)}" if not card.lost else f.DASH,
        "Load": f.percent(card.utilization),
        "last 10 min": (history(card.history), "$dim"),
        "Power": watts(card.power),
        "Heat": degrees(card.temperature),
        "Lease": _lease_cell(state, card, "Used by" in sizes),
        "Used by": used_by(card),
        "Ends": ends(first, state.now).removeprefix("ends ") or f.DASH if first else f.DASH,
    }
    return fit(line(mark_of(marked), f"{card.index:<4}", *_wide_cells(width, cells)), width)


def _lease_cell(state: MachineState, card: GpuLine, short: bool = True) -> Part:
    """Its run, or why it has none; unless `short`, other people's programs too."""
    use = use_of(card)
    if card.leases:
        return lease_words(card.leases[0])
    if use == "lost":
        return ("lost: out of reach", "$bad")
    if card.held:
        return (f"held back by {'you' if card.held == state.machine.user else f.clean(card.held)}", "$warn")
    if card.leased:
        return "leased"
    if use == "free":
        return ("free", "$good")
    return f.DASH if short else used_by(card)


def used_by(card: GpuLine) -> str:
    """`you, 4 processes`, `alice: vllm serve, 3 d`."""
    working = workers(card)
    if not working:
        return f.DASH if card.processes is None and not card.lost else ""
    one = working[0]
    if card.leases and len({other.user for other in working}) == 1:
        return who(one.user, one.mine) + (f", {len(working)} processes" if len(working) > 1 else "")
    others = f", and {len(working) - 1} more" if len(working) > 1 else ""
    since = f", {f.age(one.seconds)}" if one.seconds is not None and not others else ""
    return f"{who(one.user, one.mine)}: {process_name(one)}{others}{since}"


def short_use(card: GpuLine, state: MachineState) -> list[Part]:
    """Who uses it, in a few words."""
    cell = _lease_cell(state, card)
    if card.leases:
        end = ends(card.leases[0], state.now).removeprefix("ends ")
        return [cell, f"  {end}" if end else "", *hot(card)]
    if use_of(card) == "free":
        return [cell, f"   {f.gib(spare(card))} GiB"]
    used = used_by(card) if not card.lost else ""
    return [cell if cell != f.DASH else "", used if cell == f.DASH else f"  {used}", *hot(card)]


def history(values: Sequence[float]) -> str:
    """Utilization from left to right, blank where nothing was measured; the height is of 100 %."""
    top = len(SPARK) - 1
    return "".join(" " if math.isnan(v) else SPARK[round(max(0.0, min(100.0, v)) / 100 * top)] for v in values)


def _cpu_row(machine: Machine, width: int, marked: bool) -> Content:
    name = f.clip(short_name(machine.cpu_name), 24 if width >= 80 else 12)
    if width < 60:
        return fit(line(mark_of(marked), f"{name}  {f.percent(machine.cpu_percent)}   {of_ram(machine)}"), width)
    threads = f" of {machine.cores} threads" if machine.cores else ""
    tail = f"  {f.right(f.percent(machine.cpu_percent), 5)}{threads}   RAM {of_ram(machine)}"
    bar = max(4, min(40, width - len(name) - len(tail) - 11))
    return fit(line(mark_of(marked), f"CPU {name}  ", share(machine.cpu_percent, 100, bar), tail), width)


def _cpu_parts(state: MachineState) -> list[Part]:
    machine, parts = state.machine, list[Part]()
    for lease in machine.on_cpu:
        end = ends(lease, state.now)
        words = [who(lease.user, lease.mine), *([end] if end else [])]
        parts += [lease_words(lease), "".join(f"   {word}" for word in words), "   "]
    if machine.cpu_held:
        parts.append(
            (f"held back by {'you' if machine.cpu_held == machine.user else f.clean(machine.cpu_held)}", "$warn")
        )
    return parts or [("free", "$good"), "   no run trains here"]


def card_lines(card: GpuLine, width: int) -> list[str]:
    """What else is known of a card, the most asked for first, in at most three lines."""
    told = [f"GPU {card.index}", f.clean(card.name)]
    told += [f.clean(value if name == "UUID" else f"{name} {value}") for name, value in card.facts[:FACTS]]
    rows = [""]
    for part in told:
        if len(rows[-1]) + len(part) + 3 > width - 1:
            rows.append("")
        rows[-1] += f"   {part}" if rows[-1] else f" {part}"
    return rows[:3]


def card_pane(state: MachineState, look: Look) -> list[Content]:
    """What else is known of the card under the cursor."""
    lines = card_lines(state.card, look.width) if state.card is not None else []
    return [line((text, "$dim")) for text in lines[: look.height]]


def watts(power: float | None) -> str:
    """402 W."""
    return f"{power:.0f} W" if power is not None else f.DASH


def degrees(temperature: float | None) -> str:
    """71 °C."""
    return f"{temperature:.0f} °C" if temperature is not None else f.DASH
