"""The rows that a trained run is evaluated on: those that its training held out, or the rows of a file."""

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.data.duplicates import Exact, fingerprint
from engine.data.formats import split_text
from engine.data.prepare import chosen_rows, select
from engine.data.rows import Row, Source, content_hash, local, named, rows_of, sources, validation_source
from engine.errors import DataError, RunError, TuneDeckError
from engine.spec import DataSpec, RunSpec
from engine.text import clean

MOST = 100
"""Rows of an evaluation, if nobody says how many."""
FEWEST, SPARE, LONGEST = 32, 1.5, 512
"""Tokens of an answer at most, if nobody says: as many and a half as the longest reference has, within these."""
ANOTHER = "Give rows of your own: tunedeck eval RUN --data FILE."


@dataclass(frozen=True)
class Question:
    """A row to be evaluated on; `seen`: the very same row was trained on."""

    row: Row
    seen: bool = False

    @property
    def place(self) -> str:
        """`line 17`, with the name of the file where there are several."""
        file = f" of {self.row.place.file}" if self.row.place.file else ""
        return f"{self.row.place.unit} {self.row.line}{file}"


@dataclass(frozen=True)
class HeldOut:
    """The rows, `total` of them before the sample; `held_out` is None where it cannot be told whether they were trained on.

    `notes` are sentences that belong beside the numbers.
    """

    path: str
    sha256: str
    questions: tuple[Question, ...]
    total: int
    held_out: bool | None
    notes: tuple[str, ...] = ()


def check(spec: RunSpec, run_dir: Path, data: str | None) -> None:
    """What can be told at once, before a job is made: that the data is there, is what it was, and can be read.

    Raises DataError, RunError.
    """
    if spec.objective == "reward":
        raise RunError("A reward model writes no answers", "It gives answers a score: there is nothing to compare with the base.",
                       "Its accuracy on pairs is in the run's own evaluations: tunedeck show RUN.")  # fmt: skip
    if data is not None:
        _of_file(spec, data)
        return
    if not isinstance(spec.data.validation, str) and not spec.data.validation:
        raise DataError(
            "The run has held no rows out", "All of its data was trained on (data.validation is 0).", ANOTHER
        )
    _unchanged(spec, run_dir)


def choose(spec: RunSpec, run_dir: Path, data: str | None, most: int | None = MOST, seed: int = 0) -> HeldOut:
    """The rows of `data`, or without it those that training held out: at most so many, in the order of the file.

    Raises DataError if there are none, or if the run's own data is not what it was.
    """
    check(spec, run_dir, data)
    own = data is None
    if data is None:
        digest, rows = _unchanged(spec, run_dir), _held_out(spec)
        path = (
            spec.data.validation
            if isinstance(spec.data.validation, str)
            else ", ".join(s.path for s in named(spec.data))
        )
    else:
        found, settings = _of_file(spec, data)
        digest, path = content_hash(found), data
        rows = [row for row in rows_of(found, settings) if isinstance(row, Row)]
    rows, notes = _answered(rows)
    if not rows:
        why = "Its data had too few rows, or groups, to hold some out" if own else f"{data} has no usable row"
        raise DataError("There are no rows to evaluate on", f"{clean(why, False)}.",
                        ANOTHER if own else "See: tunedeck data check FILE")  # fmt: skip
    chosen = _sample(rows, most, seed)
    if len(chosen) < len(rows):
        notes.append(f"{len(chosen):,} of {len(rows):,} rows, chosen at random.")
    known, problem = _trained_on(spec, run_dir)
    questions = tuple(Question(row, known is not None and known.knows(_mark(row))) for row in chosen)
    notes += _said(questions, problem, own)
    held_out = None if known is None else not any(one.seen for one in questions)
    return HeldOut(path, digest, questions, len(rows), held_out, tuple(notes))


def _unchanged(spec: RunSpec, run_dir: Path) -> str:
    """The SHA-256 of the run's own data. Raises DataError if it is not what was trained on."""
    digest = content_hash([*sources(spec.data), *validation_source(spec.data)])
    file = run_dir / "data.sha256"
    if file.is_file() and file.read_text(encoding="utf-8").strip() != digest:
        raise DataError("The data has changed since the run was made", "Which rows were held out cannot be told any more.",
                        f"Put the old file back. {ANOTHER}")  # fmt: skip
    return digest


def _held_out(spec: RunSpec) -> list[Row]:
    """As engine.worker.dataset holds them out: the same selection, of the same seed, or the validation file's rows."""
    if isinstance(spec.data.validation, str):
        return [row for row in rows_of(validation_source(spec.data), spec.data) if isinstance(row, Row)]
    found = sources(spec.data)
    selection = select(found, spec.data, spec.training.seed)
    return [row for row, often in chosen_rows(found, spec.data, selection) if not often]


def _of_file(spec: RunSpec, data: str) -> tuple[list[Source], DataSpec]:
    """The file as the run would read it (its columns, its system prompt), or as any file is read. Raises DataError."""
    if not local(data).exists():
        raise DataError("The data was not found", f"{clean(data, False)} does not exist.", "Check the path.")
    own = {"columns": spec.data.columns, "system": spec.data.system}
    tries = [DataSpec(path=data, **own), DataSpec(path=data, format=spec.data.format, **own),
             DataSpec(path=data, system=spec.data.system)]  # fmt: skip
    problem: DataError | None = None
    for settings in tries:
        try:
            found = sources(settings)
        except DataError as error:
            problem = problem or error
            continue
        if found[0].detected.format is not None:
            return found, settings
        problem = problem or DataError("The format of the data is not known", f"{clean(found[0].detected.evidence, False)}.",
                                       "See: tunedeck data check FILE")  # fmt: skip
    raise problem or DataError("The data cannot be read", data, "")


def _answered(rows: list[Row]) -> tuple[list[Row], list[str]]:
    """Without the answers that somebody called bad: of those nothing is to be learned."""
    good = [row for row in rows if row.value.get("label", True)]
    left = len(rows) - len(good)
    return good, [f"{left:,} {'row was' if left == 1 else 'rows were'} left out: their answers are bad ones."] * bool(
        left
    )


def _sample(rows: list[Row], most: int | None, seed: int) -> list[Row]:
    if not most or most >= len(rows):
        return rows
    return [rows[i] for i in sorted(random.Random(seed).sample(range(len(rows)), most))]


def _mark(row: Row) -> int:
    """The same for rows that ask and answer the same, in whatever format; of a pair the chosen answer counts."""
    return fingerprint("\n".join(split_text(row.value)))


def _trained_on(spec: RunSpec, run_dir: Path) -> tuple[Exact | None, str]:
    """The rows that were trained on, to be known again; None, and why, if the data is not there any more."""
    known = Exact()
    try:
        _unchanged(spec, run_dir)
        found = sources(spec.data)
        for row, often in chosen_rows(found, spec.data, select(found, spec.data, spec.training.seed)):
            if often:
                known.earlier(_mark(row), row.line)
    except TuneDeckError as error:
        return None, f"Whether these rows were trained on cannot be told. {clean(error.title, False)}."
    return known, ""


def _said(questions: tuple[Question, ...], problem: str, own: bool) -> list[str]:
    seen = sum(one.seen for one in questions)
    if problem:
        return [problem]
    if not seen:
        return []
    of = "held-out rows" if own else "rows"
    return [f"{seen:,} of these {len(questions):,} {of} {'is' if seen == 1 else 'are'} among the rows that were trained on: "
            "on them the tuned model may only repeat what it has seen."]  # fmt: skip


def options(ask: dict[str, Any]) -> dict[str, Any]:
    """What `choose` takes, of a job's ask."""
    return {"data": ask.get("data"), "most": ask.get("rows"), "seed": ask.get("seed") or 0}
