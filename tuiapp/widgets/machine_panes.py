"""The panes of the machine screen besides the cards: processes, the queue, what the runs did with the cards."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from textual.content import Content

from tuiapp import format as f
from tuiapp.glyphs import CURSOR, STATES
from tuiapp.layout import WIDE
from tuiapp.machine_snapshot import LeaseLine
from tuiapp.snapshot import GpuLine, Machine
from tuiapp.widgets.bars import share
from tuiapp.widgets.card_use import counts, lease_words, process_name, who
from tuiapp.widgets.cursor_pane import Line
from tuiapp.widgets.pane import Look, title
from tuiapp.widgets.rows import Part, fit, line
from tuiapp.widgets.strip import kilowatts, memory_of, of_ram, total

RULE = (
    "A run starts when its cards have been free for 10 s, with the predicted peak and 2 % to spare. "
    "An earlier turn keeps what it can use; K goes before it."
)


@dataclass(frozen=True)
class MachineState:
    """The machine, and its cards in the order chosen; `card` is under the cursor."""

    machine: Machine
    now: float
    cards: tuple[GpuLine, ...] = ()
    card: GpuLine | None = None


def mark_of(marked: bool) -> Part:
    """The cursor, or its room."""
    return (f" {CURSOR if marked else ' '} ", "$accent")


def head_line(machine: Machine) -> list[Part]:
    """At the right of the first row: how many cards, and what is free, the one number here."""
    parts: list[Part] = [f"{f.clean(machine.host)}   "]
    if not machine.gpus:
        return [*parts, "no GPU"]
    parts.append(f"{len(machine.gpus)} GPU{'s' if len(machine.gpus) > 1 else ''}: ")
    for i, (text, use) in enumerate(counts(machine.gpus, "held back")):
        parts += [", " if i else "", (text, "bold") if use == "free" else text]
    return parts


def host_parts(machine: Machine, everything: bool) -> list[str]:
    """CPU, RAM, disk; with `everything` the cards' sums and the driver too."""
    sums, driver = [], []
    if everything and machine.gpus:
        power = total(card.power for card in machine.gpus)
        limit = total(card.power_limit for card in machine.gpus)
        most = f" of {limit / 1000:.1f}" if power and power >= 1000 and limit else ""
        sums = [f"{memory_of(machine.gpus)} in use", f"{kilowatts(power)}{most}"]
        cuda = f", CUDA {f.clean(machine.cuda)}" if machine.cuda else ""
        driver = [f"driver {f.clean(machine.driver)}{cuda}"] if machine.driver else []
    threads = f" of {machine.cores} threads" if machine.cores else ""
    rest = [] if not machine.gpus else [f"CPU {f.percent(machine.cpu_percent)}{threads}", f"RAM {of_ram(machine)}"]
    return [*sums, *rest, f"disk {f.clean(machine.disk)} {disk(machine, everything)} free", *driver]


def disk(machine: Machine, everything: bool) -> str:
    """`212 GiB`, `5.1 TiB`; with `everything` and a large disk `5.1 of 14.0 TiB`."""
    free, whole = machine.disk_free, machine.disk_total
    if free is None:
        return f.DASH
    if free < 1024:
        return f"{f.count(free)} GiB"
    of = f" of {whole / 1024:.1f}" if everything and whole is not None else ""
    return f"{free / 1024:.1f}{of} TiB"


def processes_pane(state: MachineState, look: Look) -> list[Content]:
    """Everything that has memory on the card under the cursor."""
    card = state.card
    if card is None:
        return []
    with_run = look.width >= 96
    name = max(14, min(40, look.width - (66 if with_run else 40)))
    heads = line((f"{'User':<10} {'Pid':>8} {'GiB':>7} {'For':>7}{'   Run' if with_run else ''}", "$dim"))
    first = fit(title(f"Processes on GPU {card.index}", look), name + 3) + heads
    if not card.processes:
        words = "none" if card.processes is not None else "the driver does not tell"
        return [fit(first, look.width), line((f"   {words}", "$dim"))]
    rows = [fit(first, look.width)]
    for one in card.processes[: max(0, look.height - 1)]:
        lease = next((each for each in card.leases if each.user == one.user and not one.graphics), None)
        run = ["   ", *_run_parts(lease)] if with_run else []
        figures = f"{f.left(who(one.user, one.mine), 10)} {one.pid:>8} {f.right(f.gib(one.gib), 7)} {f.right(f.age(one.seconds), 7)}"
        rows.append(fit(line(f"   {f.left(process_name(one), name)}", figures, *run), look.width))
    return rows


def _run_parts(lease: LeaseLine | None) -> list[Part]:
    if lease is None:
        return [(f.DASH, "$dim")]
    step = f"   step {f.count(lease.step)} of {f.count(lease.total_steps)}" if lease.step and lease.total_steps else ""
    best = f"   eval {f.number(lease.best_eval)} best" if lease.best_eval is not None else ""
    return [lease_words(lease), f"{step}{best}"]


def queue_pane(state: MachineState, look: Look, selected: str) -> list[Line]:
    """The runs that wait, in turn."""
    queue = state.machine.queue
    if not queue:
        return [("", title("Queue", look, ("no run waits", "$dim")))]
    if look.width < 60:
        rows: list[Line] = [("", title("Queue", look, (str(len(queue)), "$dim")))]
        for i, one in enumerate(queue):
            room = max(0, look.width - 7 - 12)
            text = f"{i + 1} {STATES['queued']} {f.left(f.clean(one.name), room)} {f.right(starts(one.starts, state.now), 11)}"
            rows.append((one.key, fit(line(mark_of(one.key == selected), text), look.width)))
        return rows
    wide = look.width >= WIDE
    sizes = _queue_sizes(look.width)
    heads = ["Needs", "Waits for", *(["Would get"] if wide else []), "Starts", *(["Takes"] if wide else [])]
    first = fit(title("Queue", look, (str(len(queue)) if len(queue) > 3 else "", "$dim")), sizes[0] + 7)
    rows = [("", fit(first + line((_joined(heads, sizes[1:]), "$dim")), look.width))]
    for i, one in enumerate(queue):
        whose = "" if one.mine else f" ({f.clean(one.user)})"
        cells = [f.clean(one.needs), f.clean(one.waits_for), *([f.clean(one.would_get) or f.DASH] if wide else []),
                 starts(one.starts, state.now), *([f.duration(one.seconds)] if wide else [])]  # fmt: skip
        name = f.left(f"{f.clean(one.name)}{whose}", sizes[0])
        text = f"{i + 1:<2}{STATES['queued']} {name}{_joined(cells, sizes[1:])}"
        rows.append((one.key, fit(line(mark_of(one.key == selected), text), look.width)))
    if wide and state.cards:
        rows += [("", line("")), ("", line((f" {f.clip(RULE, look.width - 2)}", "$dim")))]
    return rows


def _queue_sizes(width: int) -> list[int]:
    """Cells of the name, of what it needs, waits for, would get, of its start and how long it takes."""
    if width < WIDE:
        over = width - 80
        return [22 + over // 4, 15, 25 + over - over // 4, 9]
    over = width - 120
    return [26 + over // 8, 17, 34 + over - over // 8 - over // 8, 14 + over // 8, 13, 8]


def _joined(cells: Sequence[str], sizes: Sequence[int]) -> str:
    return "".join(f.left(f.clip(cell, size - 1), size) for cell, size in zip(cells, sizes, strict=True))


def starts(moment: float | None, now: float) -> str:
    """`now`, `~14:52`, with the weekday if that is another day, or a dash."""
    if moment is None:
        return f.DASH
    if moment <= now:
        return "now"
    day = "" if moment - now < 18 * 3600 else time.strftime("%a ", time.localtime(moment))
    return f"~{day}{f.clock(moment)}"


def days_pane(state: MachineState, look: Look) -> list[Content]:
    """How much of the cards' time the runs of this database had."""
    whole = 24 * len(state.machine.gpus)
    rows = [line((" Day", "bold"), ("         hours on cards, of the runs in this database", "$dim"))]
    for i, day in enumerate(state.machine.days):
        name = ("today", "yesterday")[i] if i < 2 else time.strftime("%A", time.localtime(day.start + 43200))
        text = f"  {day.hours:>7,.1f} of {whole}"
        rows.append(line(f"   {name:<10} ", share(day.hours, whole, 24), text))
    return rows


def happened_pane(state: MachineState, look: Look) -> list[Content]:
    """What the runs said of their cards, the newest first."""
    rows = [line((" Events", "bold"))]
    for one in state.machine.happened[: max(0, look.height - 1)]:
        text = f"{f.clean(one.run)}  {f.clean(one.text)}"
        rows.append(line((f" {f.clock(one.time, with_seconds=True)}  ", "$dim"), f.clip(text, look.width - 12)))
    return rows


def status_parts(state: MachineState, waiting: str, order: str, width: int) -> tuple[Content, Content]:
    """What the status line says: why the run under the cursor waits, or what the figures mean."""
    words = "Each GPU is leased by its UUID; other people's memory counts as taken."
    if width >= 140:
        words += f" Values are NVML's, once a second; {f.DASH}: the card does not tell."
    if not state.machine.gpus:
        words = "A run that is put in the queue waits until no other trains on the processor."
    if width < 60:
        many = len(state.machine.queue)
        words = f"{many} run{'' if many == 1 else 's'} wait{'s' if many == 1 else ''}" if many else "no run waits"
    if waiting:
        one = next((each for each in state.machine.queue if each.key == waiting), None)
        words = f"{f.clean(one.name)} waits for {f.clean(one.waits_for)}" if one else words
    end = f"{order}   " if order and width >= 100 else ""
    return line((f" {words}", "$dim")), line((f"{end}{'as of ' + f.clock(state.now) if width >= 100 else ''} ", "$dim"))
