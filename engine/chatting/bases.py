"""Which runs can speak in one chat: those of one base model."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

from engine.after.trained import Trained
from engine.data.formats import is_conversational
from engine.data.rows import Row, rows_of, sources
from engine.errors import RunError, TuneDeckError
from engine.spec import RunSpec

ALWAYS_TURNS = ("messages", "alpaca", "sharegpt")


def refuse_others(trained: Sequence[Trained]) -> None:
    """Raises RunError if they cannot speak together: other bases, a reward model, nobody, one twice."""
    if not trained:
        raise RunError("Nobody is there to chat with", "No run was named.", "See: tunedeck runs")
    for one in trained:
        if one.spec.objective == "reward":
            raise RunError(
                "A reward model writes nothing", f"{one.name} gives answers a score.", "Chat with another run."
            )
    bases = {base_of(one.spec): one for one in trained}
    if len(bases) > 1:
        first, other, *_ = bases.values()
        raise RunError(
            "The runs have other bases",
            f"{first.name} was trained on {first.spec.model.path}, {other.name} on {other.spec.model.path}.",
            "Chat with runs of one base model at a time.",
        )
    if len({one.path for one in trained}) < len(trained):
        raise RunError("A run was named twice", "Each voice is another run or checkpoint.", "Name it once.")


def base_of(spec: RunSpec) -> tuple[str, str]:
    """What tells base models apart: the place, or the hub's name, with the revision."""
    path = Path(spec.model.path).expanduser()
    return str(path.resolve()) if path.exists() else spec.model.path, spec.model.revision or ""


def called(trained: Sequence[Trained]) -> list[str]:
    """Names that differ: the run's, with the step where one run is there twice, with a number if that is not enough."""
    names = [one.name for one in trained]
    full = [f"{one.name} step {one.step}" if names.count(one.name) > 1 and one.step else one.name for one in trained]
    found: list[str] = []
    for name in full:
        others = {"base", *found}
        found.append(
            next(n for i in range(1, len(others) + 2) if (n := name if i == 1 else f"{name} ({i})") not in others)
        )
    return found


def plain(spec: RunSpec) -> bool:
    """Whether training saw texts without a chat template; if the data cannot be read any more, that it did not."""
    if spec.objective == "text" or spec.data.format == "text":
        return True
    if spec.data.format in ALWAYS_TURNS:
        return False
    with contextlib.suppress(TuneDeckError, OSError, StopIteration):
        rows = rows_of(sources(spec.data), spec.data)
        return not is_conversational(next(row for row in rows if isinstance(row, Row)).value)
    return False
