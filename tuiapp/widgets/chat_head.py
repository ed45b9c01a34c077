"""The first rows of the chat: with what, on what, and the machine."""

from textual.content import Content

from tuiapp import format as f
from tuiapp.snapshot import Machine, Snapshot
from tuiapp.widgets.head import where_line
from tuiapp.widgets.rows import line, spread
from tuiapp.widgets.strip import strip_line

PLACE = "Chat"
DEVICES = {"cuda": "on the GPU", "cpu": "on the CPU"}


def chat_head(snapshot: Snapshot | None, name: str, device: str, width: int, narrow: bool) -> list[Content]:
    """`name`: of the runs; `device` as the engine calls it, told where there is a choice."""
    if narrow:
        return [spread(line(f.clean(name)), line((f"{PLACE} ", "$accent")), width)]
    machine = snapshot.machine if snapshot is not None else Machine(host="")
    place = DEVICES.get(device, "") if machine.gpus else ""
    name = f"{f.clip(f.clean(name), max(8, width - 48))} › {PLACE}"
    head = where_line("Runs", width, (f"{place}   ", "$dim"), f.clean(machine.host), name=name)
    return [head, strip_line(machine, width)] if snapshot is not None else [head]
