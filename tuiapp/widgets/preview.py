"""The run under the cursor of Home: six lines under the list, or a pane at its right."""

from dataclasses import dataclass

from textual.content import Content

from tuiapp import format as f
from tuiapp.glyphs import BROKEN
from tuiapp.grouping import Group
from tuiapp.list_snapshot import NOTHING, Listing
from tuiapp.snapshot import RunDetail, RunLine
from tuiapp.widgets.bars import share
from tuiapp.widgets.chart import Axes, Series, chart
from tuiapp.widgets.curves import best, last
from tuiapp.widgets.group_preview import group_preview
from tuiapp.widgets.head import fraction, steps, when
from tuiapp.widgets.head import state as status
from tuiapp.widgets.health_pane import health_line, severity, troubles
from tuiapp.widgets.pane import Look
from tuiapp.widgets.rows import Part, fit, line, spread
from tuiapp.widgets.texts import fact_rows

TALL = 16


@dataclass(frozen=True)
class PreviewState:
    """The run under the cursor; its detail arrives a moment later."""

    run: RunLine | None
    detail: RunDetail | None
    now: float
    baseline: RunDetail | None = None
    """The run that others are compared with."""
    group: Group | None = None
    """The group, where the cursor is on one."""
    listing: Listing = NOTHING


def preview(state: PreviewState, look: Look) -> list[Content]:
    """For the room there is."""
    if state.group is not None:
        rows = group_preview(state.group, state.listing, look, look.height >= TALL)
        return [fit(row, look.width) for row in rows[: look.height]]
    if state.run is None:
        return [line(("", "$dim"))]
    detail = state.detail or RunDetail(run=state.run)
    rows = _tall(detail, state, look) if look.height >= TALL else _low(detail, state.now, look)
    if state.listing.found is not None and state.listing.found[0] == state.run.id:
        rows = _with_found(rows, state.listing.found[1], look)
    return [fit(row, look.width) for row in rows[: look.height]]


def _with_found(rows: list[Content], piece: str, look: Look) -> list[Content]:
    """What a search of the filter found, where it is seen: below the state, or in place of what is made of what."""
    if look.height >= TALL:
        found = [line((text, "$eval")) for text in f.wrap(piece, look.width - 1, 4)]
        return [*rows[:2], line(""), line(("Found", "bold")), *found, *rows[2:]]
    return [*rows[:3], line(" ", ("found ", "$dim"), (f.clip(piece, look.width - 8), "$eval")), *rows[4:]]


def _low(detail: RunDetail, now: float, look: Look) -> list[Content]:
    run = detail.run
    start = line(" ", (f.clip(f.clean(run.name), 40), "bold"), (f"   {f.clean(run.id)} ", "$dim"))
    start = start + _against_base(detail)
    rule = line(("─" * max(0, look.width - start.cell_length - 1), "$dim"))
    body = _error(detail, look.width, 2) if run.status in BROKEN else []
    if not body:
        body = [_progress(detail, now, look.width), _numbers(detail)]
    facts = dict(fact_rows(detail))
    about = [facts.get(name, "") for name in ("model", "method", "batch", "schedule")]
    made = ""
    for part in about:
        if len(made) + len(part) + 5 <= look.width:
            made += f"   {part}" if made else part
    data = "   ".join(part for part in (facts.get("data", ""), facts.get("note", "")) if part)
    health = health_line(detail, look.width - 1)
    last_row = [line(" ") + health] if health is not None else []
    return [start + rule, *body, line(f" {made}"), line((f" {data}", "$dim")), *last_row]


AGAINST = {
    "better": ("better than its base", "$good"),
    "worse": ("worse than its base", "$bad"),
    "noise": ("no better than its base", "$dim"),
}
"""What an evaluation came to."""


def _against_base(detail: RunDetail) -> Content:
    words = AGAINST.get(detail.evaluated[0])
    return line(("── ", "$dim"), words, " ") if words is not None else line("")


def _judged(detail: RunDetail, width: int) -> list[Content]:
    """What the newest evaluation against the base said."""
    text = detail.evaluated[1]
    if not text:
        return []
    return [line(""), line(("Against its base", "bold")), *(line(part) for part in f.wrap(f.clean(text), width - 1, 4))]


def _tall(detail: RunDetail, state: PreviewState, look: Look) -> list[Content]:
    run, now = detail.run, state.now
    name = f.clip(f.clean(run.name), look.width - 10)
    rows = [
        spread(line((name, "bold")), line((f.clean(run.id), "$dim"), " "), look.width),
        line(status(run.status)),
    ]
    rows += [line(""), *_error(detail, look.width, 6)] if run.status in BROKEN else []
    rows += [line(""), *_steps(detail, now, look.width), line("")]
    rows.append(line(("Loss", "bold"), "   ", _losses(detail)))
    loss, evals = detail.curves.get("loss", ()), detail.curves.get("eval_loss", ())
    if loss or evals:
        axes = Axes(float(run.total_steps) if run.total_steps else None)
        room = max(6, min(12, look.height // 3))
        other = (
            state.baseline.curves.get("loss", ())
            if state.baseline is not None and state.baseline.run.id != run.id
            else ()
        )
        series = [
            Series(other, "$baseline", ":" if look.charts == "ascii" else "·", dotted=True),
            Series(loss, "$train"),
            Series(evals, "$eval", "o"),
        ]
        rows += chart(series, look.width - 1, room, axes, look.charts)
    rows += [
        line(""),
        *_memory(detail, look.width),
        *_health(detail, look.width),
        *_judged(detail, look.width),
        *_differs(state, look.width),
        line(""),
    ]
    rows += [line((f"{name:<9} ", "$dim"), f.clip(value, look.width - 11)) for name, value in fact_rows(detail)]
    if detail.samples:
        rows += [line(""), *_sample(detail, look.width)]
    return rows


def _progress(detail: RunDetail, now: float, width: int) -> Content:
    run = detail.run
    done = fraction(run)
    word, value = when(detail, now)
    if run.step is None:
        phase = f.clean(detail.phase) if run.ended_at is None else ""
        return line(f" {phase or f.clean(run.status)}", (f"   {word}{value}", "$dim"))
    left = ""
    if run.ended_at is None and detail.ends_at is not None:
        left = f"{f.duration(detail.ends_at - now)} left, "
    bar = max(4, min(40, width - 52))
    text = f"  {f.right(f.percent(None if done is None else int(done * 100)), 5)}"
    return line(f" {steps(run)}  ", share(done, 1.0, bar), f"{text}   ", (f"{left}{word}", "$dim"), (value, "bold"))


def _losses(detail: RunDetail, with_step: bool = False) -> Content:
    loss, evals = detail.curves.get("loss", ()), detail.curves.get("eval_loss", ())
    train = last(loss) if loss else detail.run.loss
    parts: list[Part] = [("train ", "$dim"), (f.number(train), "bold"), ("   eval ", "$dim")]
    top = best(evals)
    if top is not None:
        at = f" (step {f.count(top[0])})" if with_step else ""
        parts += [(f.number(top[1]), "$eval"), (f" best{at}", "$dim")]
    else:
        parts.append(f.number(detail.run.best_eval))
    return line(*parts)


def _numbers(detail: RunDetail) -> Content:
    run = detail.run
    rate = last(detail.curves.get("learning_rate", ()))
    return line(
        " ",
        _losses(detail, with_step=True),
        f"   {f.count(run.tokens_per_second)}",
        (" tok/s   lr ", "$dim"),
        f.rate(rate if rate is not None else run.learning_rate),
    )


def _steps(detail: RunDetail, now: float, width: int) -> list[Content]:
    run = detail.run
    word, value = when(detail, now)
    if run.step is None:
        return [line(f.clean(detail.phase) if run.ended_at is None else "", (f"   {word}{value}".rstrip(), "$dim"))]
    done = fraction(run)
    bar = line(share(done, 1.0, max(4, width - 9)), f.right(f.percent(None if done is None else int(done * 100)), 7))
    return [spread(line(steps(run)), line((word, "$dim"), (value, "bold"), " "), width), bar]


def _memory(detail: RunDetail, width: int) -> list[Content]:
    label = f.clean(detail.memory_label)
    peak = detail.memory_peak if detail.memory_peak is not None else detail.run.peak_gib
    end = line(f"peak {f.of_total(peak, detail.memory_total)} ")
    return [
        spread(line(("Memory", "bold"), (f" {label}", "$dim")), end, width),
        share(peak, detail.memory_total, width - 1),
    ]


def _health(detail: RunDetail, width: int) -> list[Content]:
    """The worst two findings, and that the rest is well."""
    if not detail.health:
        return []
    rows = [line(""), line(("Health", "bold"))]
    found = troubles(detail)
    well = sum(1 for one in detail.health if one.severity == "ok")
    for finding in found[:2]:
        for i, text in enumerate(f.wrap(f.clean(finding.text), width - 9, 2)):
            rows.append(line(*([severity(finding), "  "] if i == 0 else [" " * 8]), text))
    more = f"{len(found) - 2} more, " if len(found) > 2 else ""
    return [*rows, line((f"{more}{well} looked at and well", "$dim"))] if well or more else rows


def _differs(state: PreviewState, width: int) -> list[Content]:
    """What the run has otherwise than the baseline, and what came of it."""
    detail, other = state.detail, state.baseline
    if detail is None or other is None or detail.run.id == other.run.id or not detail.spec:
        return []
    skipped = ("run.", "data.validation", "compute.")
    paths = [path for path in sorted({*detail.spec, *other.spec}) if not path.startswith(skipped)]
    changed = [path for path in paths if detail.spec.get(path) != other.spec.get(path)]
    rows = [line(""), line(("Differs from B", "bold"), f"   {f.clip(f.clean(other.run.name), width - 18)}")]
    for path in changed[:5]:
        before, after = (f.plain(one.spec.get(path, "")) or f.DASH for one in (other, detail))
        rows.append(
            spread(line((f.clean(path), "$dim")), line(f"{f.clip(before, 12)}  →  {f.clip(after, 12)} "), width)
        )
    if len(changed) > 5:
        rows.append(line((f"and {len(changed) - 5} more", "$dim")))
    if f.known(other.run.best_eval) and f.known(detail.run.best_eval):
        losses = f"{f.number(other.run.best_eval)}  →  {f.number(detail.run.best_eval)} "
        rows.append(spread(line(("best eval loss", "$dim")), line(losses), width))
    return rows


def _sample(detail: RunDetail, width: int) -> list[Content]:
    sample = detail.samples[-1]
    head = spread(line(("Last sample", "bold")), line((f"step {f.count(sample.step)} ", "$dim")), width)
    asked = [line((f"> {text}", "$dim")) for text in f.wrap(f.clean(sample.prompt), width - 3, 2)]
    return [head, *asked, *(line(f"  {text}") for text in f.wrap(f.clean(sample.text), width - 3, 4))]


def _error(detail: RunDetail, width: int, rows: int) -> list[Content]:
    if not detail.error_title:
        return []
    text = " ".join(part for part in (detail.error_message, detail.error_hint) if part)
    indent = 1 if width > 60 else 0
    head = line(" " * indent, (f"✗ {f.clean(detail.error_title)}", "$bad"))
    return [head, *(line(" " * indent, part) for part in f.wrap(f.clean(text), width - 2, rows - 1))]
