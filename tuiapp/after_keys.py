"""The keys of the screen "After training", the words of its panes, and which keys do something now."""

from dataclasses import dataclass

from textual.binding import Binding, BindingType

from tuiapp.after_values import ACTIVE, AfterPage, JobLine
from tuiapp.screens.base import DeckScreen

AFTER_KEYS: list[BindingType] = [
    Binding("enter", "main", "open", tooltip="start the first evaluation; the whole report, row or job"),
    Binding("e", "evaluate", "evaluate", tooltip="evaluate: base and tuned model on the same rows"),
    Binding("t", "chat", "chat", tooltip="chat with base and tuned side by side"),
    Binding("E", "export", "export", tooltip="export: GGUF, Ollama, vLLM, adapter"),
    Binding("M", "merge", "merge", tooltip="merge base and adapter into one model"),
    Binding("a", "judge", "judge", tooltip="let another model judge the answers"),
    Binding("s", "stop", "stop", tooltip="stop the job; what it did is kept"),
    Binding("r", "go_on", "go on", tooltip="let the job go on that stopped"),
    Binding("o", "order", "order", tooltip="rows: worst first, lost most, won most, as they come"),
    Binding("left_square_bracket", "turn(-1)", "evaluation", key_display="[ ]", tooltip="the evaluation before"),
    Binding("right_square_bracket", "turn(1)", "next evaluation", show=False, tooltip="the next evaluation"),
    Binding("ctrl+o", "turn(-1)", show=False),
    Binding("ctrl+n", "turn(1)", show=False),
    Binding("left,h", "row(-1)", "row", show=False, key_display="←→", tooltip="the row before"),
    Binding("right,l", "row(1)", "next row", show=False, tooltip="the next row"),
    Binding("z", "zoom", "zoom", tooltip="this pane alone, and back"),
    Binding("i", "inspect", "inspect", show=False, tooltip="everything known about it"),
    Binding("Y", "copy", "copy", show=False, tooltip="copy what the pane says"),
    Binding("m", "app.machine", "machine", show=False, tooltip="the machine: every card, and the queue"),
    Binding("1", "pane(1)", "first pane", show=False, tooltip="that pane", key_display="1–5"),
    *(Binding(str(i), f"pane({i})", show=False) for i in range(2, 6)),
    DeckScreen.HELP_KEY,
    Binding("q,escape", "leave", "back", id="back", tooltip="back; jobs go on"),
]

HELP = {
    "result": "Base and tuned model on the same rows. The difference is of the same rows, and with 95 % lies between the two "
    "numbers; where 0 is between them it is noise. Forgetting is the loss on general texts that the run never saw.",
    "answers": "One row, whole: what was asked, what should have been said, what each model said. Left and right: other rows.",
    "jobs": "What was done with this run, jobs and files. A job goes on without this window; s stops one, r lets it go on. "
    "The number before a file's path is the beginning of its SHA-256.",
    "next": "What can be done with the run. Each says what it takes before it starts.",
}

FIRST = {
    "rows": ("order", "turn(-1)"),
    "answers": ("row(-1)", "order"),
    "jobs": ("stop", "go_on"),
}
"""The actions that are most about a pane: they stand first in the last row while it has the focus."""


@dataclass(frozen=True)
class KeyState:
    """What the keys depend on. `job`: the one that s and r are about; `pane`: the one with the focus."""

    page: AfterPage | None
    writable: bool
    job: JobLine | None
    pane: str
    zoomed: bool
    prepared: bool
    """Whether the first evaluation could start."""


def allows(action: str, state: KeyState) -> bool:
    """Whether the action does something."""
    page, job = state.page, state.job
    if action in ("help", "leave", "back", "zoom", "pane"):
        return True
    if page is None:
        return False
    usable = state.writable and not page.problem
    match action:
        case "evaluate" | "chat" | "export":
            return usable
        case "merge":
            return usable and page.adapter
        case "judge":
            return usable and page.total > 0 and page.evaluation is not None and page.evaluation.status not in ACTIVE
        case "stop":
            return state.writable and job is not None and job.status in ("queued", "running")
        case "go_on":
            return (
                state.writable
                and job is not None
                and job.kind != "chat"
                and job.status in ("stopped", "failed", "crashed")
            )
        case "order" | "row":
            return page.total > 1
        case "turn":
            return len(page.evaluations) > 1
        case "main":
            return main_word(state) != ""
        case "inspect" | "copy":
            return True
    return True


def main_word(state: KeyState) -> str:
    """What Enter does, in a word; "" where it does nothing."""
    page = state.page
    if page is None:
        return ""
    if state.pane == "next":
        return "do it"
    if state.pane == "jobs":
        return "all about it" if page.jobs or page.made else ""
    if page.evaluation is not None:
        if state.zoomed:
            return ""
        return "all of it" if state.pane == "result" else "whole row" if page.total else ""
    return "evaluate" if state.prepared and state.writable and not page.at_work else ""
