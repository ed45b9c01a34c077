"""What helps a run that ended badly, as things one can choose: pure functions of the run."""

from dataclasses import dataclass
from typing import Any

from tuiapp import format as f
from tuiapp.glyphs import RESUMABLE
from tuiapp.snapshot import RunDetail

LESS_RATE = 10.0
"""What the learning rate is divided by where the loss was no longer a number (a rule of thumb)."""


@dataclass(frozen=True)
class Choice:
    """`action` is resume, fork or log; `changes` are fields of the specification that the fork has, by path."""

    name: str
    text: str
    action: str
    changes: tuple[tuple[str, Any], ...] = ()


def choices(detail: RunDetail) -> list[Choice]:
    """What can be done about it, the most likely help first."""
    if detail.run.imported:
        return []
    wrong = [one for one in detail.health if one.severity == "warning" and one.changes]
    found = [_of_finding(one.text, one.remedy, one.changes) for one in wrong]
    if not found:
        found = _by_kind(detail)
    if not found:
        found = [Choice("change, retry", "a new run with these settings, in the wizard", "fork")]
    if detail.run.status in RESUMABLE:
        kept = [point.step for point in detail.checkpoints if point.kept]
        where = f"from the checkpoint of step {kept[-1]:,}" if kept else "from the beginning"
        again = Choice("try again", f"{where}, with the same settings", "resume")
        # what ended by chance goes on as it was; what ended for a reason ends again
        found = [again, *found] if detail.error_kind in ("", "download", "disk", "other") else [*found, again]
    return [*found, Choice("whole log", "what the process wrote", "log")]


def _of_finding(text: str, remedy: str, changes: tuple[tuple[str, Any], ...]) -> Choice:
    return Choice("fork with", f"{change_words(changes)}: {f.clean(remedy or text)}", "fork", changes)


def change_words(changes: tuple[tuple[str, Any], ...]) -> str:
    """`micro_batch 2, checkpointing true`."""
    return ", ".join(f"{path.rpartition('.')[2]} {f.plain(_text(value))}" for path, value in changes)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _by_kind(detail: RunDetail) -> list[Choice]:
    """Where no rule has said anything: what is known of this kind of failure."""
    changes: tuple[tuple[str, Any], ...] = ()
    if detail.error_kind == "oom" or detail.run.status == "oom":
        changes = _less_memory(detail)
        why = "the same effective batch in less memory"
    elif detail.error_kind == "nonfinite":
        rate = _number(detail, "training.learning_rate")
        changes = (("training.learning_rate", rate / LESS_RATE),) if rate else ()
        why = "a tenth of the rate; most losses that explode do so by too large a step"
    return [Choice("fork with", f"{change_words(changes)}: {why}", "fork", changes)] if changes else []


def _less_memory(detail: RunDetail) -> tuple[tuple[str, Any], ...]:
    rows, accumulation = _number(detail, "training.micro_batch"), _number(detail, "training.accumulation") or 1
    if rows and rows >= 2:
        return ("training.micro_batch", int(rows) // 2), ("training.accumulation", int(accumulation * 2))
    if detail.spec.get("training.checkpointing") in ("false", "False"):
        return (("training.checkpointing", True),)
    length = _number(detail, "training.max_length")
    return (("training.max_length", int(length) // 2),) if length and length >= 256 else ()


def _number(detail: RunDetail, path: str) -> float | None:
    try:
        return float(detail.spec.get(path, ""))
    except ValueError:
        return None
