"""Stopping a run is asked first; the answer that changes nothing stands first."""

from typing import TYPE_CHECKING

from tuiapp import format as f
from tuiapp.messages import StopAsked
from tuiapp.screens.dialogs import Answer, AskScreen
from tuiapp.snapshot import RunLine

if TYPE_CHECKING:
    from tuiapp.app import TuneDeckApp


def ask_to_stop(app: "TuneDeckApp", run: RunLine) -> None:
    """Ask, and post what was answered."""

    def answered(value: str | None) -> None:
        if value in ("save", "now"):
            app.post_message(StopAsked(run.id, now=value == "now"))

    app.push_screen(_question(run), answered)


def _question(run: RunLine) -> AskScreen:
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
    text = f"It saves a checkpoint{step} first; r resumes it from there. What is recorded stays recorded."
    return AskScreen(f"Stop {name}?", text, answers)
