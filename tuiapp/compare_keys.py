"""The keys of the screen that compares runs, and the words of its panes."""

from textual.binding import Binding, BindingType

from tuiapp.screens.base import DeckScreen

NUMBERED = ("differs", "result", "chart", "samples", "curves", "hints", "reached", "memory", "lineage")
"""The panes by their digit."""

COMPARE_KEYS: list[BindingType] = [
    Binding("left,h", "across(-1)", "run", key_display="←→", tooltip="the run, curve or step before"),
    Binding("right,l", "across(1)", "next", show=False, tooltip="the next run, curve or step"),
    Binding("v", "view", "same too", tooltip="parameters that are the same too"),
    Binding("x", "x", "axis", tooltip="x axis: step, tokens, epoch, time since the start, time of day"),
    Binding("y", "log", "log", tooltip="y axis linear or logarithmic"),
    Binding("p", "pin", "baseline", tooltip="hold the others against the run of this column"),
    Binding("plus", "smooth(1)", "smooth", key_display="+ -", tooltip="smoother"),
    Binding("minus", "smooth(-1)", "rougher", show=False, tooltip="rougher"),
    Binding("z", "zoom", "zoom", tooltip="this pane alone, and back"),
    Binding("enter", "open", "open", tooltip="open the run of this column"),
    Binding("left_square_bracket", "prompt(-1)", "prompt", key_display="[ ]", show=False, tooltip="the prompt before"),
    Binding("right_square_bracket", "prompt(1)", "next prompt", show=False, tooltip="the next prompt"),
    Binding("ctrl+o", "prompt(-1)", show=False),
    Binding("ctrl+n", "prompt(1)", show=False),
    Binding("c", "add", "add a run", show=False, tooltip="compare one more run"),
    Binding("i", "inspect", "inspect", show=False, tooltip="the whole of this row, run by run"),
    Binding("E", "export", "export", tooltip="write a report, or every point, to a file"),
    Binding("Y", "copy", "copy", show=False, tooltip="copy what the pane says"),
    Binding("n", "new", "new", show=False, tooltip="a new run"),
    Binding("m", "app.machine", "machine", show=False, tooltip="the machine: every card, and the queue"),
    Binding("1", "pane(1)", "first pane", show=False, tooltip="that pane", key_display="1–9"),
    *(Binding(str(i), f"pane({i})", show=False) for i in range(2, 10)),
    DeckScreen.HELP_KEY,
    Binding("q,escape", "leave", "back", id="back", tooltip="back"),
]

HELP = {
    "differs": "Only the parameters that are not the same, in the order of the specification; = is as the baseline has it. Then "
    "what is known to differ of data, environment and code. ! makes results unlike: they are not held against the baseline.",
    "result": "What each run came to and how far that is from the baseline, B. * is best, only among runs that were evaluated on "
    "the same rows; memory and time only where the same kind of machine trained.",
    "chart": "The curves over each other, each with its letter at its end. Spikes stay, however long the curve. Left and right: another curve.",
    "samples": "What the models answer to the same prompt at their last step; left and right go through the steps.",
    "curves": "Every curve that any of the runs has.",
    "hints": "How each parameter goes with the result: 1 or –1 is always together, 0 not at all. Few runs, or parameters that "
    "were changed together, say little: it is a hint and no cause.",
    "memory": "The most that each run had in use.",
    "reached": "How long each run took until it was as good as the baseline at its best.",
    "lineage": "Which of the runs comes from which, and what changed.",
    "said": "What came of it, in words.",
}
