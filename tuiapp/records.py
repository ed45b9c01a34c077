"""What keys change of the records of runs: the questions before, the change in a thread, and the way back.

`runs` are those that are acted on: the marked ones, or the one under the cursor.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tuiapp import format as f
from tuiapp.background import in_thread
from tuiapp.screens.dialogs import Answer, AskScreen, error_dialog
from tuiapp.snapshot import RunLine

if TYPE_CHECKING:
    from tuiapp.app import TuneDeckApp

NAMED = 3
"""Runs that a sentence names; of more it says how many."""
UNDONE = 20
"""Changes that can be taken back."""
UNFINISHED = ("queued", "starting", "running", "stopping")


@dataclass(frozen=True)
class Back:
    """How to take a change back, and what is said then."""

    call: Callable[[], object]
    words: str


def act(app: "TuneDeckApp", call: Callable[[], object], words: str, back: Back | None = None) -> None:
    """Change something in a thread and say so; what goes wrong is a dialog."""

    async def work() -> None:
        try:
            await in_thread(call)
        except Exception as error:  # shown in a dialog, whatever it was
            app.push_screen(error_dialog(error))
            return
        if back is not None:
            app.undo[:] = [*app.undo[1 - UNDONE :], back]
        app.look()
        app.tell(words)

    app.run_worker(work(), group="act", exit_on_error=False)


def undo(app: "TuneDeckApp") -> None:
    """Take the last change back."""
    if app.undo:
        back = app.undo.pop()
        act(app, back.call, back.words)


def names(runs: Sequence[RunLine]) -> str:
    """`support-lora-r8`, `a, b and c`, `12 runs`."""
    if len(runs) > NAMED:
        return f"{len(runs)} runs"
    shown = [f.clip(f.clean(run.name), 40) for run in runs]
    return " and ".join([", ".join(shown[:-1]), shown[-1]]) if len(shown) > 1 else "".join(shown)


def star(app: "TuneDeckApp", runs: Sequence[RunLine]) -> None:
    """Star them all, or none if all are."""
    on = not all(run.starred for run in runs)
    ids = [run.id for run in runs if run.starred != on]
    words = f"{names(runs)}: {'starred' if on else 'no star'}"
    act(app, lambda: app.services.records.star(ids, on), words,
        Back(lambda: app.services.records.star(ids, not on), f"{names(runs)}: {'no star' if on else 'starred again'}"))  # fmt: skip


def archive(app: "TuneDeckApp", runs: Sequence[RunLine]) -> None:
    """Archive them all, or put them back if all are archived."""
    on = not all(run.archived for run in runs)
    ids = [run.id for run in runs if run.archived != on]
    words = f"{names(runs)} archived: is:archived shows them, u undoes" if on else f"{names(runs)} back in the list"
    act(app, lambda: app.services.records.archive(ids, on), words,
        Back(lambda: app.services.records.archive(ids, not on), f"{names(runs)}: as before"))  # fmt: skip


def rename(app: "TuneDeckApp", run: RunLine, name: str) -> None:
    """Give it another name."""
    if name and name != run.name:
        act(app, lambda: app.services.records.rename(run.id, name), f"renamed to {f.clean(name)}",
            Back(lambda: app.services.records.rename(run.id, run.name), f"named {f.clean(run.name)} again"))  # fmt: skip


def shared_tags(runs: Sequence[RunLine]) -> tuple[str, ...]:
    """The tags that all of them have."""
    return tuple(tag for tag in runs[0].tags if all(tag in run.tags for run in runs)) if runs else ()


def tags_in(text: str) -> list[str]:
    """The tags of a text with commas."""
    return list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def tag(app: "TuneDeckApp", runs: Sequence[RunLine], text: str) -> None:
    """In place of the tags that all have, give all those of a text; what only some have stays."""
    shared, wanted = shared_tags(runs), tags_in(text)
    if wanted == list(shared):
        return
    new = {run.id: [*wanted, *(one for one in run.tags if one not in shared and one not in wanted)] for run in runs}
    old = {run.id: run.tags for run in runs}
    words = f"{names(runs)}: {f'tags {f.clean(text)}' if wanted else 'no tags'}"
    act(app, lambda: app.services.records.set_tags(new), words,
        Back(lambda: app.services.records.set_tags(old), f"{names(runs)}: tags as before"))  # fmt: skip


def shared_note(runs: Sequence[RunLine]) -> str:
    """The note that all of them have."""
    notes = {run.note for run in runs}
    return notes.pop() if len(notes) == 1 else ""


def note(app: "TuneDeckApp", runs: Sequence[RunLine], text: str) -> None:
    """Give all of them this note."""
    if text == f.clean(shared_note(runs)):
        return
    old = {run.id: run.note for run in runs}
    new = dict.fromkeys(old, text)
    act(app, lambda: app.services.records.set_notes(new), f"{names(runs)}: {'noted' if text else 'no note'}",
        Back(lambda: app.services.records.set_notes(old), f"{names(runs)}: note as before"))  # fmt: skip


def delete(app: "TuneDeckApp", runs: Sequence[RunLine], done: Callable[[], object]) -> None:
    """Ask, then put them into the bin; those that are there are deleted for good. `done` is called when it is answered so."""
    at_work = [run for run in runs if run.status in UNFINISHED]
    if at_work:
        app.tell(f"{names(at_work)}: not over yet; s stops {'it' if len(at_work) == 1 else 'them'} first")
        return
    for_good = all(run.deleted_at is not None for run in runs)
    ids = [run.id for run in runs if for_good or run.deleted_at is None]

    async def ask() -> None:
        try:
            size = await in_thread(lambda: app.services.records.disk(ids))
        except Exception as error:  # shown in a dialog, whatever it was
            app.push_screen(error_dialog(error))
            return
        app.push_screen(_question(runs, size, for_good), answered)

    def answered(value: str | None) -> None:
        if value != "yes":
            return
        done()
        if for_good:
            act(app, lambda: app.services.records.purge(ids), f"{names(runs)}: gone for good")
            return
        words = (
            f"{names(runs)} in the bin: u brings {'it' if len(runs) == 1 else 'them'} back, is:deleted shows the bin"
        )
        act(app, lambda: app.services.records.bin(ids), words,
            Back(lambda: app.services.records.unbin(ids), f"{names(runs)}: back in the list"))  # fmt: skip

    app.run_worker(ask(), group="act", exit_on_error=False)


def _question(runs: Sequence[RunLine], size: int, for_good: bool) -> AskScreen:
    many = len(runs) > 1
    shown = ", ".join(f.clip(f.clean(run.name), 40) for run in runs[:8])
    listed = f"{shown}{f' and {len(runs) - 8} more' if len(runs) > 8 else ''}. " if many else ""
    what = f"{len(runs)} runs" if many else names(runs)
    if for_good:
        text = f"{listed}Configuration, metrics, log and checkpoints go, {f.size(size)} on the disk. Nothing brings them back."
        return AskScreen(f"Delete {what} for good?", text, (Answer("", "Keep"), Answer("yes", "Delete for good")))
    them = "them" if many else "it"
    text = (
        f"{listed}{f.size(size)} on the disk. {'They go' if many else 'It goes'} into the bin, and u brings {them} back; "
        f"D there (filter is:deleted) deletes {them} for good and frees the disk."
    )
    return AskScreen(f"Delete {what}?", text, (Answer("", "Keep"), Answer("yes", "Into the bin", "D")))
