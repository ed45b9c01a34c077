"""Stopping a run is asked first; the answer that changes nothing stands first."""

from typing import TYPE_CHECKING

from tuiapp import format as f
from tuiapp.messages import StopAsked
from tuiapp.screens.dialogs import Answer, AskScreen
from tuiapp.snapshot import RunLine

if TYPE_CHECKING:
    from tuiapp.app import TuneDeckApp


def ask_to_stop(app: "TuneDeckApp", run: RunLine, gib: float | None = None) -> None:
    """Ask, and post what was answered. `gib` is the size of the checkpoint before, if there is one."""

    def answered(value: str | None) -> None:
        if value in ("save", "now"):
            app.post_message(StopAsked(run.id, now=value == "now"))

    waiting = [one for one in (app.last.runs if app.last is not None else ()) if one.status == "queued"]
    app.push_screen(_question(run, gib, waiting[-1].name if waiting else ""), answered)


def _question(run: RunLine, gib: float | None, waiting: str) -> AskScreen:
    """`waiting`: the run that has been in the queue for the longest time."""
    name = f.clean(run.name)
    if run.status == "queued":
        text = "It waits for a free card and has not begun. r puts it back later."
        return AskScreen(f"Take {name} out of the queue?", text, (Answer("", "Keep it"), Answer("now", "Take it out")))
    step = f" at step {f.count(run.step)}" if run.step is not None else ""
    answers = (
        Answer("", "Keep running"),
        Answer("save", "Stop and save", "s"),
        Answer("now", "Stop now, save nothing"),
    )
    size = f" ({f.size(gib * 2**30)})" if gib is not None else ""
    queue = f" {f.clean(waiting)} waits in the queue." if waiting else ""
    text = f"It saves a checkpoint{step} first{size}; r resumes it from there. What is recorded stays recorded.{queue}"
    return AskScreen(f"Stop {name}?", text, answers)
