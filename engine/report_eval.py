"""What an evaluation found, as pages print it: the verdict, the scores of both models, and where the tuned one is worst. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from engine.report import duration, number, short, table
from engine.report_compare import cut, wrapped
from engine.scoring.forgotten import answered
from engine.scoring.wording import NAMES, shown, signed
from engine.text import clean

Row = Mapping[str, Any]
WIDTH = 80
ANSWER, QUESTION, NAME, FILE = 240, 150, 18, 40
"""Characters of an answer, of a question, and of names."""
HEAD = ("score", "base", "tuned", "difference", "95 % between", "")
INDENT = 11
KINDS, QUESTIONS = 5, 3
"""General texts and questions that are shown, where it lost most."""
EXPLAINED = "* decides. Differences: tuned minus base of the same rows, by paired bootstrap."


def page(job: Row, worst: Sequence[Row] = (), width: int = WIDTH) -> str:
    """The evaluation (a finished row of engine.store.afterwards) and its worst rows, for the terminal."""
    summary = job["summary"]
    parts = [
        _sentences([said(summary), *more_said(summary)], width),
        _sentences([facts(job), *notes(summary)], width),
        _scores(summary, width),
        *_forgotten(summary, width),
        *_tasks(summary),
        *_worst(worst, width),
    ]
    return "\n\n".join(part for part in parts if part)


def _sentences(texts: Sequence[str], width: int) -> str:
    return "\n".join("\n".join(wrapped(text, width)) for text in texts)


def _scores(summary: Row, width: int) -> str:
    rows = score_rows(summary)
    return f"{table(HEAD, rows, right=(1, 2, 3))}\n{_sentences([EXPLAINED], width)}" if rows else ""


def said(summary: Row) -> str:
    """The verdict, with the step that it is of where that is not the end."""
    step = summary.get("step")
    of = f"Of the checkpoint at step {step:,}. " if isinstance(step, int) else ""
    return f"{of}{_text(summary.get('verdict')) or 'Nothing was found out.'}"


def more_said(summary: Row) -> list[str]:
    """Sentences that belong to the verdict: what it has forgotten."""
    lost = _mapping(summary, "forgetting")
    answers = _mapping(lost, "answers")
    found = [_text(lost.get("verdict")), answered(answers) if answers.get("rows") else ""]
    return [text for text in found if text]


def notes(summary: Row) -> list[str]:
    """What else one must know of the rows."""
    found = _mapping(summary, "data").get("notes")
    return [text for text in found if isinstance(text, str) and text] if isinstance(found, list) else []


def facts(job: Row) -> str:
    """Which evaluation, of which rows, and how long it took."""
    summary = job["summary"]
    data = _mapping(summary, "data")
    rows, speed = data.get("rows"), summary.get("tokens_per_second")
    found = [
        _text(job.get("job")), f"{rows:,} rows" if isinstance(rows, int) else "", cut(clean(_text(data.get("path")).rpartition("/")[2], False), FILE),
        f"kind {summary['kind']}" if summary.get("kind") else "",
        duration(summary["seconds"]) if summary.get("seconds") else "",
        f"{short(round(speed))} tokens/s" if isinstance(speed, int | float) else "",
    ]  # fmt: skip
    return ", ".join(clean(text, keep_lines=False) for text in found if text)


def score_rows(summary: Row) -> list[list[str]]:
    """A line for each score, as HEAD names the columns; the one that decides has a star."""
    return [
        [
            f"{cut(clean(NAMES.get(name, name), False), NAME)}{' *' if name == summary.get('main') else ''}",
            shown(name, one.get("base")),
            shown(name, one.get("tuned")),
            signed(name, one.get("difference")),
            f"{signed(name, one.get('low'))} to {signed(name, one.get('high'))}",
            _text(one.get("verdict")),
        ]
        for name, one in _mapping(summary, "scores").items()
        if isinstance(one, Mapping)
    ]


def on_held_out(job: Row | None) -> bool:
    """Whether it was of rows that the run had not seen."""
    return job is not None and _mapping(job["summary"], "data").get("held_out") is True


def judged(job: Row) -> str:
    """What a judge said (a finished row of kind judge)."""
    model = _text(job["ask"].get("model"))
    return f"Judged{f' by {model}' if model else ''}: {_text(job['summary'].get('verdict'))}"


def _forgotten(summary: Row, width: int) -> list[str]:
    """On which kinds of general text it lost most, and which general questions it answers no longer."""
    lost = _mapping(summary, "forgetting")
    found = _mapping(lost, "kinds").items()
    known = [(_text(kind), one) for kind, one in found if isinstance(one, Mapping) and one.get("rows")]
    rows = [
        [
            cut(clean(kind, False), FILE),
            shown("loss", one["base"]),
            shown("loss", one["tuned"]),
            signed("loss", one["difference"]),
        ]
        for kind, one in sorted(known, key=lambda item: -item[1]["difference"])[:KINDS]
    ]
    most = "" if len(rows) == len(known) else ", lost most"
    parts = [table((f"loss on general texts{most}", *HEAD[1:4]), rows, right=(1, 2, 3))] if rows else []
    told = [
        f"No longer right: {one_line(one.get('question'), QUESTION)} It says: {one_line(one.get('tuned'), QUESTION)}"
        for one in (_mapping(lost, "answers").get("lost") or [])[:QUESTIONS]
    ]
    return [*parts, *([_sentences(told, width)] if told else [])]


def task_rows(summary: Row) -> list[list[str]]:
    """A line for each number of lm-eval, as HEAD names the columns."""
    rows = []
    for task, metrics in _mapping(summary, "lm_eval").items():
        for metric, one in metrics.items() if isinstance(metrics, Mapping) else ():
            if isinstance(one, Mapping):
                apart = f"{signed('', one.get('low'))} to {signed('', one.get('high'))}" if one.get("rows") else "–"
                values = [number(one.get("base")), number(one.get("tuned")), signed("", one.get("difference"))]
                rows.append(
                    [cut(clean(f"{task} {metric}", False), FILE // 2), *values, apart, _text(one.get("verdict"))]
                )
    return rows


def _tasks(summary: Row) -> list[str]:
    rows = task_rows(summary)
    return [table(("lm-eval", *HEAD[1:]), rows, right=(1, 2, 3))] if rows else []


def _worst(rows: Sequence[Row], width: int) -> list[str]:
    if not rows:
        return []
    head = "the tuned model's worst answers" if len(rows) > 1 else "the tuned model's worst answer"
    return [head, *("\n".join(_row(row, width)) for row in rows)]


def _row(row: Row, width: int) -> list[str]:
    """A question, the right answer, and those of both models below each other."""
    place = _text(row.get("place")) or f"row {row.get('row')}"
    lines = wrapped(f"{place} > {one_line(row.get('question'), QUESTION)}", width, 2)
    named = [("expected", one_line(row.get("reference"), ANSWER))]
    for voice in ("base", "tuned"):
        side = _mapping(row, voice)
        loss = f"loss {shown('loss', side['loss'])}  " if isinstance(side.get("loss"), int | float) else ""
        cut_off = " (cut off)" if side.get("stopped") is False else ""
        named.append((voice, f"{loss}{one_line(side.get('answer'), ANSWER)}{cut_off}"))
    for name, text in named:
        if text:
            first, *rest = wrapped(f"{'.' * (INDENT - 1)} {text}", width, INDENT)
            lines += [f"  {name:<{INDENT - 2}}{first[INDENT:]}", *rest]
    return lines


def one_line(text: Any, most: int) -> str:
    """Foreign text in one line; what is said if there is none."""
    if text is None:
        return ""
    return cut(" ".join(clean(str(text), keep_lines=False).split()), most) or "(nothing)"


def _mapping(of: Row, name: str) -> Row:
    found = of.get(name)
    return found if isinstance(found, Mapping) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)
