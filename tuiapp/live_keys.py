"""The keys of the live screen, in the order of its last row."""

from textual.binding import Binding, BindingType

LIVE_KEYS: list[BindingType] = [
    Binding("enter", "choose", "do it", tooltip="do what helps"),
    Binding("s", "stop", "stop+save", tooltip="stop, saved first"),
    Binding("r", "resume", "resume", tooltip="resume, try again"),
    Binding("t", "chat", "chat", tooltip="chat with it and with its base"),
    Binding("w", "save", "checkpoint", tooltip="checkpoint now"),
    Binding("e", "evaluate", "evaluate", tooltip="evaluate now"),
    Binding("e", "after", "evaluate", tooltip="after training: evaluate against the base, merge, export"),
    Binding("f", "fork", "fork", tooltip="fork; in Health with the remedy"),
    Binding("z", "zoom", "zoom", tooltip="this pane alone, and back"),
    Binding("v", "view", "view", tooltip="the next curve"),
    Binding("x", "x", "axis", tooltip="x axis: step, tokens, time"),
    Binding("y", "log", "log", tooltip="y axis linear or logarithmic"),
    Binding("plus", "smooth(1)", "smooth", key_display="+ -", tooltip="smoother"),
    Binding("minus", "smooth(-1)", "rougher", show=False, tooltip="rougher"),
    Binding("p", "pin", "baseline", tooltip="a baseline underneath"),
    Binding("c", "compare", "compare", show=False, tooltip="compare with the baseline, or with another run"),
    Binding("left_square_bracket", "turn(-1)", "run", key_display="[ ]", tooltip="previous run"),
    Binding("right_square_bracket", "turn(1)", "next run", show=False, tooltip="next run"),
    Binding("ctrl+o", "turn(-1)", show=False),
    Binding("ctrl+n", "turn(1)", show=False),
    Binding("left,h", "prompt(-1)", "prompt before", show=False, tooltip="the prompt before"),
    Binding("right,l", "prompt(1)", "next prompt", show=False, tooltip="the next prompt"),
    Binding("slash", "search", "search", show=False, tooltip="search the log"),
    Binding("i", "inspect", "inspect", show=False, tooltip="everything known about it"),
    Binding("Y", "copy", "copy", show=False, tooltip="copy what the pane says"),
    Binding("n", "new", "new", show=False, tooltip="a new run"),
    Binding("m", "app.machine", "machine", show=False, tooltip="the machine: every card, and the queue"),
    Binding("1", "pane(1)", "first pane", show=False, tooltip="that pane", key_display="1–9"),
    Binding("L", "app.lineage", "lineage", show=False, tooltip="lineage: what it comes from, what came of it"),
    *(Binding(str(i), f"pane({i})", show=False) for i in range(2, 10)),
]

HELPS = {
    "choose": "do it", "resume": "try again", "fork": "change, retry", "inspect": "whole log", "copy": "copy"
}  # fmt: skip
"""What the keys are called where a run has failed."""
