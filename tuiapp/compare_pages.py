"""Everything known of what a pane of a comparison shows, as pages of words and as text to copy: pure functions."""

import math
from collections.abc import Callable

from textual.content import Content

from engine.report_compare import differences, legend, results
from tuiapp import format as f
from tuiapp.compare_values import CompareState
from tuiapp.widgets.compare_chart import curve_name
from tuiapp.widgets.compare_table import style_of
from tuiapp.widgets.curves import metric
from tuiapp.widgets.rows import line

Page = tuple[str, Callable[[int], list[Content]]]


def page_of(pane: str, state: CompareState, key: str) -> Page | None:
    """What `i` shows: a title and lines for a width. None where there is nothing more than stands there."""
    c = state.comparison
    if pane == "differs" and (setting := next((one for one in c.settings if one.path == key), None)) is not None:
        values = [cell.text if cell.known else "not known" for cell in setting.cells]
        return setting.name, lambda room: _by_run(state, values, room, setting.warning)
    if pane == "result" and (measure := c.measure(key)) is not None:
        texts = [f"{cell.text}{'*' if cell.best else ''}   {cell.difference_text}" for cell in measure.cells]
        unlike = [run.unlike or run.other_machine for run in c.runs]
        texts = [f"{text}   ! {why}" if not cell.like and why else text
                 for text, cell, why in zip(texts, measure.cells, unlike, strict=True)]  # fmt: skip
        return measure.name, lambda room: _by_run(state, texts, room)
    if pane in ("chart", "curves"):
        return f"The curves of {curve_name(state.page.key)}", lambda room: _numbers(state)
    if pane == "samples" and c.prompts:
        return "What the models answer", lambda room: _answers(state, room)
    if pane in ("differs", "narrow"):
        return "The runs", lambda room: _by_run(state, [_about(state, i) for i in range(len(c.runs))], room)
    return None


def _by_run(state: CompareState, texts: list[str], room: int, warning: str = "") -> list[Content]:
    rows = []
    for i, (run, text) in enumerate(zip(state.comparison.runs, texts, strict=True)):
        for k, part in enumerate(f.wrap(f.clean(text), max(10, room - 30), 8) or [f.DASH]):
            name = line((f"{f.left(run.letter, 3)}", style_of(i)), f.left(run.name, 25)) if k == 0 else line(" " * 28)
            rows.append(line(name, "  ", part))
    return [*rows, *([line(""), line(("! ", "$warn"), warning)] if warning else [])]


def _about(state: CompareState, place: int) -> str:
    run = state.comparison.runs[place]
    return "   ".join(part for part in (run.id, run.status, run.model, run.method, run.host, run.exit_reason) if part)


def _numbers(state: CompareState) -> list[Content]:
    """Of each curve that is drawn the last, the least and the greatest value."""
    text = metric(state.page.key.removeprefix("eval_")).text
    rows = [line((f"{'':<28}{'last':>10}{'least':>10}{'most':>10}{'points':>12}", "$dim"))]
    for i, run in enumerate(state.comparison.runs):
        curve = state.page.curves.get(run.id)
        if curve is None or not curve.points:
            continue
        finite = [value for _, _, value in curve.points if math.isfinite(value)]
        numbers = (curve.points[-1][2], min(finite, default=None), max(finite, default=None))
        rows.append(line((f.left(run.letter, 3), style_of(i)), f.left(run.name, 25),
                         "".join(f"{text(value):>10}" for value in numbers), (f"{curve.stored:>12,}", "$dim")))  # fmt: skip
    return rows


def _answers(state: CompareState, room: int) -> list[Content]:
    """Every answer of every run to the prompt, in order of step."""
    prompts = state.comparison.prompts
    prompt = prompts[state.prompt % len(prompts)]
    rows = [line((text, "$accent")) for text in f.wrap(f.clean(prompt.text), room, 10)]
    for i, answers in enumerate(prompt.answers):
        run = state.comparison.runs[i]
        rows += [line(""), line((f"{run.letter} ", style_of(i)), run.name)]
        for answer in answers:
            label = "base" if answer.step == 0 else f"step {answer.step:,}"
            for k, text in enumerate(f.wrap(f.clean(answer.text), max(10, room - 12), 40) or [f.DASH]):
                rows.append(line((f"{label if k == 0 else '':>10}  ", "$dim"), text))
        rows += [] if answers else [line(("            not asked", "$dim"))]
    return rows


def copied(pane: str, state: CompareState, shown: str) -> str:
    """What `Y` copies of a pane: of the tables all columns, whatever is in view."""
    c = state.comparison
    if pane == "differs":
        return "\n\n".join([legend(c), *differences(c, None, state.everything)])
    if pane == "result":
        return "\n\n".join([legend(c), *results(c, None)])
    page = page_of(pane, state, "") if pane in ("samples", "chart") else None
    return "\n".join([page[0], *(row.plain.rstrip() for row in page[1](100))]) if page else shown
