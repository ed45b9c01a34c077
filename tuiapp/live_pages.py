"""Everything known of what a pane shows, as pages of words and as text to copy: pure functions of the run."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from textual.content import Content

from engine.health import Finding
from tuiapp import format as f
from tuiapp.meanings import MEANINGS
from tuiapp.remedies import change_words
from tuiapp.snapshot import Points, RunDetail
from tuiapp.widgets.curves import metric, views
from tuiapp.widgets.error_panel import error_text
from tuiapp.widgets.health_pane import severity
from tuiapp.widgets.live_state import LiveState
from tuiapp.widgets.rows import line
from tuiapp.widgets.texts import fact_rows, prompts_of, spec_rows


@dataclass(frozen=True)
class Page:
    """A title, its lines for a width, and keys (with their words) that close it and mean something."""

    title: str
    build: Callable[[int], list[Content]]
    keys: tuple[tuple[str, str], ...] = ()


def page_of(pane: str, state: LiveState, place: int) -> Page | None:
    """What `i` shows; `place` is the cursor of the pane. None where there is nothing more than stands there."""
    detail = state.detail
    if pane == "health" and detail.health:
        return finding_page(detail.health[min(place, len(detail.health) - 1)])
    if pane == "samples" and detail.samples:
        return Page("What the model answered", lambda room: _answers(detail, room))
    if pane == "facts":
        return Page(f"{detail.run.name}   {detail.run.id}", lambda room: _facts(detail, room))
    if pane in ("loss", "curves", "memory"):
        return Page("Every curve of this run", lambda room: _numbers(detail, room))
    return None


def finding_page(finding: Finding) -> Page:
    """What a finding means, how it is known, and what helps."""
    keys = (("f", "fork with it"),) if finding.changes else ()

    def build(room: int) -> list[Content]:
        parts = [("What it means", MEANINGS.get(finding.kind, "")), ("How it is known", finding.evidence),
                 ("What helps", finding.remedy)]  # fmt: skip
        rows = [line(severity(finding), "  ", f.clean(finding.kind.replace("_", " "))), line("")]
        for head, text in parts:
            rows += _paragraph(head, text, room)
        if finding.changes:
            rows += [line(("A fork would have", "$dim")), *(line(f"  {part}") for part in changes_of(finding))]
        return rows[:-1] if not rows[-1].plain else rows

    return Page(finding.text, build, keys)


def changes_of(finding: Finding) -> list[str]:
    """The remedy as fields: `training.micro_batch  8`."""
    return [f"{f.left(path, 28)} {change_words(((path, value),)).partition(' ')[2]}" for path, value in finding.changes]


def _paragraph(head: str, text: str, room: int) -> list[Content]:
    if not text:
        return []
    return [line((head, "$dim")), *(line(f"  {part}") for part in f.wrap(f.clean(text), room - 2, 40)), line("")]


def _answers(detail: RunDetail, room: int) -> list[Content]:
    rows: list[Content] = []
    for prompt in prompts_of(detail):
        rows += [line((text, "$accent")) for text in f.wrap(f.clean(prompt), room, 10)]
        for sample in (one for one in detail.samples if one.prompt == prompt):
            label = "base" if sample.step == 0 else f"step {sample.step:,}"
            for i, text in enumerate(f.wrap(f.clean(sample.text), max(10, room - 12), 40) or [f.DASH]):
                rows.append(line((f"{label if i == 0 else '':>10}  ", "$dim"), text))
        rows.append(line(""))
    return rows[:-1]


def _facts(detail: RunDetail, room: int) -> list[Content]:
    rows = [line((f" {name:<9} ", "$dim"), value) for name, value in fact_rows(detail)]
    return [*rows, line(""), *spec_rows(detail, room)]


def _numbers(detail: RunDetail, room: int) -> list[Content]:
    wide = max(12, min(36, room - 44))
    rows = [line((f"{'':<{wide}}{'last':>10}{'least':>10}{'most':>10}{'points':>12}", "$dim"))]
    curves = {**detail.curves, **detail.gpu}
    shown = [key for one in views(detail) for key in (one, f"eval_{one}") if curves.get(key)]
    for key in dict.fromkeys([*shown, *sorted(curves)]):
        text = metric(key.removeprefix("eval_")).text
        numbers = "".join(f"{text(value):>10}" for value in _summary(curves[key]))
        points = max(detail.stored.get(key, 0), len(curves[key]))
        rows.append(line((f.left(f.clean(key), wide), "$dim"), numbers, (f"{points:>12,}", "$dim")))
    return rows


def _summary(points: Points) -> tuple[float | None, float | None, float | None]:
    finite = [value for _, value in points if math.isfinite(value)]
    return points[-1][1], min(finite, default=None), max(finite, default=None)


def copied(pane: str, state: LiveState, place: int, shown: str) -> str:
    """What `Y` copies of a pane: more than is in view where there is more."""
    detail = state.detail
    if pane == "error":
        return error_text(detail)
    if pane == "log":
        return "\n".join(f.clean(text) for text in detail.log)
    page = page_of(pane, state, place) if pane in ("health", "samples") else None
    return "\n".join([page.title, *(row.plain.rstrip() for row in page.build(100))]) if page else shown
