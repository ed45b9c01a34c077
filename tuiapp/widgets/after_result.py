"""What came of an evaluation: the table base, tuned, difference; where there is none yet, what one would take."""

from collections.abc import Sequence

from textual.content import Content

from tuiapp import format as f
from tuiapp.after_values import ACTIVE, AfterState, EvaluationPage, JobLine, ScoreLine
from tuiapp.widgets.bars import share
from tuiapp.widgets.pane import Look, title
from tuiapp.widgets.rows import Part, fit, line
from tuiapp.widgets.texts import window

VERDICTS = {"better": "$good", "worse": "$bad", "noise": "$dim"}
NUMBER, DIFFERENCE, INTERVAL, WORD = 9, 11, 18, 7
NONE_YET = "Nothing was measured yet."
WHY = (
    "An evaluation asks the base and the tuned model the same rows, which training did not see: is it better by more than "
    "noise, and what did it forget?"
)


def result_length(state: AfterState) -> int:
    """Lines below the title."""
    one = state.page.evaluation
    if one is None:
        prepared = state.prepared
        said = len(prepared.lines) + bool(prepared.problem) if prepared is not None else 1
        return 5 + said
    return max(1, len(one.scores)) + bool(one.forgetting) + bool(one.judged) + 1 + len(one.more)


def result_pane(state: AfterState, look: Look) -> list[Content]:
    """In little room the first scores, what it forgot and what a judge said; else all of it, which scrolls."""
    one = state.page.evaluation
    if one is None:
        return [fit(row, look.width) for row in window(_empty(state, look), look)]
    names = max(12, look.width - 2 * NUMBER - DIFFERENCE - INTERVAL - WORD - 2)
    about = _about(state, one, look.width)
    scores = [_score(score, i == 0, names) for i, score in enumerate(one.scores)] or [
        line((f" {_none(state, one)}", "$dim"))
    ]
    room = look.height - 1
    if len(scores) + len(about) <= room or look.scroll:
        rows = [_head(one, look, names, ""), *scores, *about, *_more(one, look.width)]
        return [fit(row, look.width) for row in window(rows, look)]
    about = about[: max(1, room - min(3, len(scores)))]
    kept = max(1, room - len(about))
    left = len(scores) - kept
    head = _head(one, look, names, f", {left} more" if left > 0 else "")
    return [fit(row, look.width) for row in [head, *scores[:kept], *about]]


def _more(one: EvaluationPage, width: int) -> list[Content]:
    """Notes on the rows, kinds of general texts, tasks of lm-eval."""
    return [
        line((f" {f.left(f.clean(name), 11)} ", "$dim"), (f.clip(f.clean(text), width - 14), "$dim"))
        for name, text in one.more
    ]


def _head(one: EvaluationPage, look: Look, names: int, more: str) -> Content:
    step = f", step {one.step:,}" if one.step is not None else ""
    name = f.clip(f"{f.clean(one.job)}{step}", max(0, names - 10 - len(more)))
    start = title("Result", look, (name, "$dim"), (more, "$dim"))
    heads = [f.right("base", NUMBER), f.right("tuned", NUMBER), f.right("difference", DIFFERENCE)]
    return fit(start, names) + line(("".join(heads) + f.right("95 % between", INTERVAL), "$dim"))


def _score(score: ScoreLine, main: bool, names: int) -> Content:
    cells = "".join(f.right(text, NUMBER) for text in (score.base, score.tuned))
    return line(
        f" {f.left(f.clean(score.label), names - 1)}", cells, (f.right(score.difference, DIFFERENCE), "bold" if main else ""),
        (f.right(score.interval, INTERVAL), "$dim"), "  ", (f.clean(score.verdict), VERDICTS.get(score.verdict, "$dim")),
    )  # fmt: skip


def _none(state: AfterState, one: EvaluationPage) -> str:
    """Why there are no scores."""
    if one.status in ACTIVE:
        return f"{state.page.total:,} rows so far; the scores come at the end"
    return f"it {f.clean(one.status)} before its end: the scores come at the end, r lets it go on"


def _about(state: AfterState, one: EvaluationPage, width: int) -> list[Content]:
    """What it forgot, what a judge said, and on what it was measured, a line each."""
    rows: list[Content] = []
    for name, text in (("forgetting", one.forgetting), ("judge", one.judged)):
        if text:
            rows.append(line((f" {name:<12}", "$dim"), f.clip(f.clean(text), width - 14)))
    count = one.rows if one.rows is not None else state.page.total
    held = {True: " held out", False: ", which were trained on", None: ""}[one.held_out]
    took = f"   took {f.duration(one.seconds)}" if one.seconds is not None else ""
    data = f" of {f.model_name(one.data)}" if one.data else ""
    warn = "$warn" if one.held_out is False else "$dim"
    rows.append(
        line((" on          ", "$dim"), (f"{count:,} row{'' if count == 1 else 's'}{held}{data}", warn), (took, "$dim"))
    )
    return rows


def _empty(state: AfterState, look: Look) -> list[Content]:
    """That there is nothing yet, what Enter does, and about what it takes."""
    work = [job for job in state.page.at_work if job.kind == "eval"]
    rows = [title("Result", look)]
    wrap = min(96, look.width - 2)
    if work:
        return [
            *rows,
            line(""),
            *(line(" ", part) for part in f.wrap(WHY, wrap, 4)),
            line(""),
            work_line(work[0], look.width),
        ]
    rows += [line(f" {text}") for text in f.wrap(WHY, wrap, 4)]
    if state.page.problem:
        return [*rows, line(""), *_wrapped(state.page.problem, wrap, "$warn")]
    prepared = state.prepared
    if prepared is None:
        return [*rows, line(""), line((" looking at the rows …", "$dim"))]
    if prepared.problem:
        return [*rows, line(""), *_wrapped(prepared.problem, wrap, "$warn")]
    lines = _sentences(prepared.lines, wrap)
    return [*rows, line(""), line((" Enter", "$accent"), " starts it:"), *lines]


def _sentences(texts: Sequence[str], width: int) -> list[Content]:
    return [row for text in texts for row in _wrapped(text, width)]


def _wrapped(text: str, width: int, style: str = "") -> list[Content]:
    return [line((f" {part}", style)) for part in f.wrap(f.clean(text), width, 4)]


def work_line(job: JobLine, width: int) -> Content:
    """` eval-2  asking the tuned model  ━━━━────  12 of 64`."""
    start: list[Part] = [
        f" {f.clean(job.job)}  ",
        (f.clip(f.clean(job.phase or job.status), max(8, width // 2)), "$dim"),
    ]
    if job.total and job.done is not None:
        count = f"{job.done:,} of {job.total:,}"
        used = line(*start).cell_length + len(count) + 5
        if width - used >= 6:
            start += ["  ", share(job.done, job.total, min(40, width - used))]
        start += [f"  {count}"]
    return fit(line(*start), width)


def verdict_line(state: AfterState | None, width: int) -> Content:
    """The one sentence that matters; where there is not room for it all, without its interval."""
    page = state.page if state is not None else None
    if page is None:
        return line("")
    said = page.evaluation.verdict if page.evaluation is not None else ""
    if not said and page.at_work and not page.problem:
        return work_line(page.at_work[0], width)
    if not said:
        return line((f" {f.clip(f.clean(page.problem) or NONE_YET, width - 2)}", "$warn" if page.problem else "$dim"))
    text = f.clean(said)
    if len(text) > width - 2 and ", a difference of" in text:
        text = text.partition(", a difference of")[0] + "."
    return line((f" {f.clip(text, width - 2)}", "bold"))
