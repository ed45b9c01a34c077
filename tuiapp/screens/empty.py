"""Home before the first run: what can be done, and what this machine is."""

from textual.content import Content

from tuiapp import format as f
from tuiapp.snapshot import Machine, Snapshot
from tuiapp.widgets.pane import Look
from tuiapp.widgets.rows import line
from tuiapp.widgets.strip import short_name


def empty_lines(snapshot: Snapshot, look: Look) -> list[Content]:
    """The choices with their keys, then the machine; less in little room."""
    rows = [line(("No runs yet.", "bold")), line("")]
    if not snapshot.read_only:
        rows.append(_choice("▸", "New run", "your data and a model, one short form", "n", look.width))
    rows.append(_choice(" ", "What fits", "a model against a card, before anything is downloaded", "F2", look.width))
    rows.append(
        _choice(" ", "Look at data", "what is wrong with a file, and what a model sees of it", "F3", look.width)
    )
    rows.append(_choice(" ", "Demo", "leave with q, then run: tunedeck demo", "", look.width))
    if look.height >= 12:
        rows += [line(""), line(("This machine", "bold")), *_machine(snapshot.machine)]
        rows += [line(""), line("Everything here is also a command:  ", ("tunedeck --help", "$accent"))]
    return [line(" ", row) for row in rows]


def _choice(mark: str, name: str, about: str, key: str, width: int) -> Content:
    text = f"{name:<17}" if width >= 60 else f"{name:<9}"
    return line(
        (f"{mark} ", "$accent"),
        text,
        (f.left(about, max(0, min(58, width - 28))), "$dim"),
        (f" {key}", "$accent"),
    )


def _machine(machine: Machine) -> list[Content]:
    rows = []
    for card in machine.gpus:
        free = None
        if card.memory_total is not None and card.memory_used is not None:
            free = card.memory_total - card.memory_used
        text = f"{short_name(card.name)}, {f.gib(free)} GiB free of {f.gib(card.memory_total)}"
        rows.append(_fact("✓", "$good", f"GPU {card.index}", text))
    if not machine.gpus:
        why = f.clean(machine.gpu_problem or "none found; small models train on the processor")
        rows.append(_fact("–", "$dim", "GPU", why))
    free = None
    if machine.ram_total is not None and machine.ram_used is not None:
        free = machine.ram_total - machine.ram_used
    rows.append(_fact("✓", "$good", "memory", f"{f.gib(free)} GiB free of {f.gib(machine.ram_total)}"))
    if machine.cpu_name:
        rows.append(_fact("✓", "$good", "processor", short_name(machine.cpu_name)))
    return rows


def _fact(mark: str, role: str, name: str, text: str) -> Content:
    return line("  ", (mark, role), f" {name:<14} ", (text, "$dim"))
