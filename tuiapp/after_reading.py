"""Reads what was done with a run after its training: its jobs, one evaluation of them, and the rows that are looked at."""

import os
from pathlib import Path
from typing import Any

from engine.after.trained import trained
from engine.errors import TuneDeckError
from engine.report_eval import task_rows
from engine.scoring.wording import NAMES, shown, signed
from engine.store import afterwards, records, runs
from engine.store.connection import Connection
from tuiapp.after_values import (
    WINDOW,
    AfterPage,
    AfterQuestion,
    AnswerLine,
    EvaluationPage,
    JobLine,
    MadeLine,
    Opinion,
    ScoreLine,
    Side,
)
from tuiapp.format import DASH

Row = dict[str, Any]


class Desk:
    """Belongs to the one thread that collects; what cannot have changed is not read again."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._kept: tuple[object, AfterPage] | None = None
        self._window: tuple[object, tuple[AnswerLine, ...]] | None = None

    def page(self, db: Connection, version: object, asked: AfterQuestion) -> AfterPage:
        """Everything that is asked for. `version` says whether the database has changed."""
        if self._kept is None or self._kept[0] != (version, asked) or self._kept[1].made != _again(self._kept[1].made):
            self._kept = (version, asked), self._read(db, asked)
        return self._kept[1]

    def _read(self, db: Connection, asked: AfterQuestion) -> AfterPage:
        """A run that is not there is a page that says so."""
        try:
            run = runs.find(db, asked.run_id)
        except TuneDeckError as error:
            return AfterPage(asked, asked.run_id, "", problem=f"{error.title}: {error.message}")
        found = afterwards.of_run(db, run["id"])
        shown = [job for job in reversed(found) if job["kind"] == "eval" and _has_rows(db, job)]
        chosen = _chosen(shown, asked.job)
        judged = _judgement(found, chosen["job"]) if chosen else None
        total = afterwards.count(db, run["id"], chosen["job"]) if chosen else 0
        first = max(0, min(asked.first, total - WINDOW))
        return AfterPage(
            asked, run["name"], run["status"], tuple(job["job"] for job in shown),
            _evaluation(chosen, judged) if chosen else None,
            self._rows(db, chosen, judged, (asked.order, first, total)) if chosen else (), first, total,
            tuple(job_line(job) for job in found), _made(db, run["id"]), *_usable(self._database, run),
        )  # fmt: skip

    def _rows(
        self, db: Connection, job: Row, judged: Row | None, where: tuple[str, int, int]
    ) -> tuple[AnswerLine, ...]:
        """The rows in view; those of a job that has ended do not change, however often the database does."""
        run_id, order, first = job["run_id"], where[0], where[1]
        says = (judged["job"], afterwards.count(db, run_id, judged["job"])) if judged else None
        key = run_id, job["job"], job["status"], job["ended_at"], where, says
        if self._window is None or self._window[0] != key or job["status"] in afterwards.ACTIVE:
            found = afterwards.rows(db, run_id, job["job"], order, WINDOW, first)
            numbers = [row["row"] for row in found]
            said = afterwards.those(db, run_id, judged["job"], numbers) if judged else []
            opinions = {row["row"]: row for row in said}
            main = _text(job["summary"].get("main")) or "loss"
            self._window = key, tuple(answer_line(row, opinions.get(row["row"]), main) for row in found)
        return self._window[1]


def _usable(database: Path, run: Row) -> tuple[bool, str]:
    """Whether it trained an adapter, and why nothing can be done with it."""
    try:
        return trained(database, run).adapter, ""
    except TuneDeckError as error:
        return True, f"{error.title}: {error.message}"
    except OSError as error:
        return True, str(error)


def _has_rows(db: Connection, job: Row) -> bool:
    return bool(job["status"] == "finished" or afterwards.rows(db, job["run_id"], job["job"], limit=1))


def _chosen(shown: list[Row], name: str) -> Row | None:
    """The one that is named; else the newest that has finished, else the newest."""
    named = [job for job in shown if job["job"] == name]
    return next(reversed(named or [job for job in shown if job["status"] == "finished"] or shown), None)


def _judgement(jobs: list[Row], evaluation: str) -> Row | None:
    """The newest judgement of an evaluation that has said anything."""
    of_it = [job for job in jobs if job["kind"] == "judge" and job["ask"].get("eval") == evaluation]
    return next((job for job in of_it if job["status"] == "finished"), of_it[0] if of_it else None)


def answer_line(row: Row, said: Row | None = None, main: str = "loss") -> AnswerLine:
    """A row of an evaluation, with what a judge said of it."""
    return AnswerLine(
        row["row"], _text(row.get("place")), _text(row.get("question")), _text(row.get("reference")),
        _side(row.get("base"), main), _side(row.get("tuned"), main), _opinion(said) if said else None,
    )  # fmt: skip


def _side(found: Any, main: str) -> Side:
    if not isinstance(found, dict):
        return Side()
    scores = found.get("scores")
    values: Row = {"loss": found.get("loss")} | (scores if isinstance(scores, dict) else {})
    known = {str(name): shown(str(name), n) for name, value in values.items() if (n := _number(value)) is not None}
    tokens, stopped, answer = _number(found.get("tokens")), found.get("stopped"), found.get("answer")
    return Side(
        None if answer is None else _text(answer), known.get(main, DASH), None if tokens is None else int(tokens),
        stopped if isinstance(stopped, bool) else None, _number(found.get("seconds")),
        tuple((NAMES.get(name, name), text) for name, text in known.items()),
    )  # fmt: skip


def _opinion(said: Row) -> Opinion:
    reasons = said.get("reasons")
    words = tuple(_text(one) for one in reasons) if isinstance(reasons, list) else ()
    agreed = said.get("agreed")
    return Opinion(
        _text(said.get("winner")), agreed if isinstance(agreed, bool) else None,
        _number(said.get("base_score")), _number(said.get("tuned_score")), words,
    )  # fmt: skip


def _evaluation(job: Row, judged: Row | None) -> EvaluationPage:
    summary, data = job["summary"], job["summary"].get("data") or {}
    main = _text(summary.get("main"))
    found = [(name, one) for name, one in (summary.get("scores") or {}).items() if isinstance(one, dict)]
    found.sort(key=lambda pair: pair[0] != main)
    held_out, rows = data.get("held_out"), _number(data.get("rows"))
    step = summary.get("step") if summary.get("step") is not None else job["ask"].get("step")
    return EvaluationPage(
        job["job"], job["status"], NAMES.get(main, main) or NAMES["loss"], _text(summary.get("verdict")),
        tuple(_score(*pair) for pair in found), _forgetting(summary.get("forgetting")),
        _text(data.get("path") or job["ask"].get("data")), held_out if isinstance(held_out, bool) else None,
        None if rows is None else int(rows), step if isinstance(step, int) else None, _number(summary.get("seconds")),
        _text(judged["summary"].get("verdict")) if judged else "", tuple(_more(summary)),
    )  # fmt: skip


def _more(summary: Row) -> list[tuple[str, str]]:
    """What else is known: notes on the rows, each kind of general texts, each task of lm-eval."""
    notes = (summary.get("data") or {}).get("notes")
    found = [("note", _text(note)) for note in (notes if isinstance(notes, list) else [])]
    lost = summary.get("forgetting") or {}
    kinds, answers = lost.get("kinds"), lost.get("answers")
    if isinstance(answers, dict) and answers.get("rows"):
        base, tuned = (shown("accuracy", _number(answers.get(voice))) for voice in ("base", "tuned"))
        words = f"{tuned} right against {base} of {answers['rows']} general questions, {_text(answers.get('verdict'))}"
        found.append(("questions", words))
    for kind, one in (kinds if isinstance(kinds, dict) else {}).items():
        if isinstance(one, dict):
            base, tuned = (shown("loss", _number(one.get(voice))) for voice in ("base", "tuned"))
            found.append((_text(kind), f"loss {tuned} against {base}, {_text(one.get('verdict'))}"))
    return found + [("lm-eval", f"{name}: {tuned} against {base}") for name, base, tuned, _ in task_rows(summary)]


def _score(name: str, one: Row) -> ScoreLine:
    low, high = _number(one.get("low")), _number(one.get("high"))
    better = one.get("higher_is_better")
    return ScoreLine(
        name, NAMES.get(name, name), shown(name, _number(one.get("base"))), shown(name, _number(one.get("tuned"))),
        signed(name, _number(one.get("difference"))),
        DASH if low is None or high is None else f"{signed(name, low)} to {signed(name, high)}",
        _text(one.get("verdict")), better if isinstance(better, bool) else None,
    )  # fmt: skip


def _forgetting(found: Any) -> str:
    """One line, whatever else is known of it."""
    if not isinstance(found, dict):
        return ""
    if " " in _text(found.get("verdict")):
        return _text(found["verdict"])
    base, tuned = _number(found.get("base")), _number(found.get("tuned"))
    return "" if base is None or tuned is None else f"loss on general texts {base:.3f} before, {tuned:.3f} after"


def job_line(job: Row) -> JobLine:
    """A job in one line."""
    summary = job["summary"]
    came = summary.get("verdict") or summary.get("target") if job["status"] == "finished" else ""
    return JobLine(
        job["job"], job["kind"], job["status"], job["created_at"], job["started_at"], job["ended_at"], job["phase"] or "",
        job["done"], job["total"], _text(came or job["reason"] or ""),
    )  # fmt: skip


def _made(db: Connection, run_id: str) -> tuple[MadeLine, ...]:
    """What one job has written at once is one thing; the newest first."""
    together: dict[tuple[str, float], list[Row]] = {}
    for one in records.artifacts(db, run_id):
        together.setdefault((one["kind"], one["time"]), []).append(one)
    return tuple(_made_line(found) for found in reversed(together.values()))


def _made_line(found: list[Row]) -> MadeLine:
    largest = max(found, key=lambda one: int(one["bytes"]))
    path = found[0]["path"] if len(found) == 1 else os.path.commonpath([one["path"] for one in found])
    files = tuple((one["path"], one["bytes"], one["sha256"] or "") for one in found)
    total = sum(one["bytes"] for one in found)
    return MadeLine(largest["kind"], path, total, largest["time"], largest["sha256"] or "", Path(path).exists(), files)


def _again(made: tuple[MadeLine, ...]) -> tuple[MadeLine, ...]:
    """As they lie there now."""
    if all(one.there == Path(one.path).exists() for one in made):
        return made
    return ()


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)


def _number(value: Any) -> float | None:
    """A number as it was written; what is none, or not known, is None."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
