"""Which keys of Home do something now: one that would do nothing is not shown."""

from dataclasses import dataclass

from tuiapp.chat_runs import can_chat
from tuiapp.glyphs import RESUMABLE, STOPPABLE
from tuiapp.snapshot import RunLine

RECORDS = ("tag", "note", "star", "archive", "delete")


@dataclass(frozen=True)
class KeyState:
    """What that depends on: the run or group under the cursor, what is marked, typed, filtered and can be undone."""

    run: RunLine | None = None
    group: bool = False
    marked: int = 0
    known: bool = False
    """Whether there was a snapshot."""
    writable: bool = False
    empty: bool = False
    """Whether there is no run at all."""
    typing: bool = False
    filtered: bool = False
    undo: bool = False
    baseline: str | None = None


def allows(action: str, state: KeyState) -> bool:
    """Whether the action does something."""
    run, there = state.run, state.run is not None or state.group
    match action:
        case "open" | "mark":
            return there
        case "begin":
            return state.writable and state.empty
        case "new":
            return state.writable and not state.typing
        case "stop":
            return run is not None and state.writable and run.status in STOPPABLE
        case "resume":
            return run is not None and state.writable and run.status in RESUMABLE and not run.imported
        case "after":
            return run is not None and can_chat(run)
        case "chat":
            return run is not None and state.writable and can_chat(run)
        case "filter" | "order" | "reverse" | "columns" | "group" | "views":
            return state.known and not state.empty
        case "plan" | "data":
            return state.known
        case "pin":
            return run is not None and bool(run.spark)
        case "compare":
            with_baseline = run is not None and state.baseline not in (None, run.id)
            return bool(state.marked) or state.group or with_baseline
        case "rename":
            return state.writable and (state.marked == 1 or (run is not None and not state.marked))
        case "undo":
            return state.writable and state.undo
        case "clear":
            return state.filtered or state.typing or bool(state.marked)
    return state.writable and (there or bool(state.marked)) if action in RECORDS else True
