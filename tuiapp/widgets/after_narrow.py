"""The screen "After training" in very little room: 40x12, or a single line."""

from textual.content import Content

from tuiapp import format as f
from tuiapp.after_values import AfterState
from tuiapp.widgets.after_result import NONE_YET, VERDICTS, work_line
from tuiapp.widgets.head import state as status
from tuiapp.widgets.rows import fit, line, spread


def narrow_after(state: AfterState, width: int, height: int) -> list[Content]:
    """As many of the lines as fit, the most important first."""
    page, one = state.page, state.page.evaluation
    score = one.scores[0] if one is not None and one.scores else None
    if width < 24 or height < 3:
        text = f"{score.base} → {score.tuned}  {f.clean(score.verdict)}" if score is not None else NONE_YET
        return [fit(line(text), width)]
    rows = [spread(line(f.clean(page.name)), line(status(page.status)), width)]
    said = f.clean(one.verdict) if one is not None else f.clean(page.problem) or NONE_YET
    said = said.partition(", a difference of")[0]
    rows += [line((text, "bold" if one is not None else "")) for text in f.wrap(said, width, 3)]
    rows.append(line(""))
    for one_score in one.scores[:4] if one is not None else ():
        end = line(
            f"{one_score.base} → {one_score.tuned}",
            "  ",
            (f"{f.clean(one_score.verdict):<6}", VERDICTS.get(one_score.verdict, "$dim")),
        )
        rows.append(spread(line((f.clean(one_score.label), "$dim")), end, width))
    if one is None and state.prepared is not None:
        words = state.prepared.problem or " ".join(state.prepared.lines)
        rows += [line((text, "$dim")) for text in f.wrap(f.clean(words), width, 5)]
    work = [work_line(job, width) for job in page.at_work[:2]]
    return [*rows[: height - len(work)], *work][:height]
