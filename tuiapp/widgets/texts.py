"""The panes that are text: samples, log, events, checkpoints and what the run is made of."""

from textual.content import Content

from tuiapp import format as f
from tuiapp.glyphs import LEVEL_ROLES, LEVELS
from tuiapp.snapshot import RunDetail, Sample
from tuiapp.widgets.curves import loss_text
from tuiapp.widgets.head import method_name
from tuiapp.widgets.live_state import LiveState
from tuiapp.widgets.pane import Look, title
from tuiapp.widgets.rows import line, spread


def window(rows: list[Content], look: Look) -> list[Content]:
    """The title and the rows that the scrolling leaves in view."""
    room = max(0, look.height - 1)
    top = max(0, min(look.scroll, len(rows) - 1 - room))
    return [rows[0], *rows[1 + top : 1 + top + room]]


def prompts_of(detail: RunDetail) -> list[str]:
    """What is asked, each prompt once."""
    return list(dict.fromkeys(sample.prompt for sample in detail.samples))


def samples_pane(state: LiveState, look: Look) -> list[Content]:
    """What the model answers: in two lines the newest, with room the same prompt at every step, before training first."""
    samples, asked = state.detail.samples, prompts_of(state.detail)
    if not asked:
        return [title("Sample", look, ("none yet", "$dim"))]
    prompt = asked[state.prompt % len(asked)]
    place = f"prompt {state.prompt % len(asked) + 1} of {len(asked)}"
    same = [sample for sample in samples if sample.prompt == prompt]
    keys = (
        line("←→", (" other prompt ", "$dim")) if len(asked) > 1 and (look.width >= 100 or look.focused) else line("")
    )
    if look.height <= 3:
        newest = same[-1]
        head = f"{_when(newest)}, {place}: {f.clean(prompt)}"
        answer = f.wrap(f.clean(newest.text), look.width - 10, max(1, look.height - 1)) or [f.DASH]
        first = title("Sample", look, (f.clip(head, look.width - 11 - keys.cell_length), "$dim"), end=keys)
        return [first, *(line(" " * 9, text) for text in answer)]
    head = f.clip(f"{place}: {f.clean(prompt)}", look.width - 14 - keys.cell_length)
    return [title("Samples", look, (head, "$dim"), end=keys), *_answers(same, look.width, look.height - 1)]


def _when(sample: Sample) -> str:
    return "before training" if sample.step == 0 else f"step {sample.step:,}"


def _answers(same: list[Sample], width: int, room: int) -> list[Content]:
    """The answer before training, then the latest ones below each other, each in as many lines as there is room for."""
    shown = same if len(same) <= room else ([same[0]] if room > 1 else []) + same[-max(1, room - 1) :]
    each = max(1, room // max(1, len(shown)))
    if len(same) > len(shown) or each == 1:
        each = 1 if len(shown) >= room else each
    rows = []
    for sample in shown:
        for i, text in enumerate(f.wrap(f.clean(sample.text), max(10, width - 13), each) or [f.DASH]):
            label = ("base" if sample.step == 0 else f"step {sample.step:>5,}") if i == 0 else ""
            rows.append(line((f" {label:<11} ", "$dim"), text))
    return rows


def event_length(state: LiveState) -> int:
    """Lines of the history."""
    return len(state.detail.events)


def events_pane(state: LiveState, look: Look) -> list[Content]:
    """What happened, the newest first."""
    rows = [title("Events", look)]
    for event in reversed(state.detail.events):
        glyph = LEVELS.get(event.level, "·")
        role = LEVEL_ROLES.get(event.level, "$dim")
        text = f.clean(event.text) or f.clean(event.type)
        rows.append(line((f" {f.clock(event.time, with_seconds=True)}  ", "$dim"), (f"{glyph} ", role), text))
    return window(rows, look)


def checkpoint_length(state: LiveState) -> int:
    """Lines of the checkpoints."""
    return len(state.detail.checkpoints)


def checkpoints_pane(state: LiveState, look: Look) -> list[Content]:
    """The checkpoints, the newest first; `*` is the one with the smallest eval loss."""
    points = state.detail.checkpoints
    losses = [point.eval_loss for point in points if point.eval_loss is not None]
    best = min(losses, default=None)
    rows = [title("Checkpoints", look, end=line(("eval loss     GiB ", "$dim")))]
    keep = f.plain(state.detail.spec.get("saving.keep", ""))
    for point in reversed(points):
        is_best = best is not None and point.eval_loss == best
        about = _age(state.now - point.time) if point.kept else f"removed, keep is {keep}" if keep else "removed"
        about = f"best, {about}" if is_best else about
        size = point.gib if point.kept else None
        digits = 2 if size is None or size >= 0.095 else 3
        numbers = f"{f.right(loss_text(point.eval_loss), 9)} {f.right(f.number(size, digits), 7)} "
        start = line(f" {'*' if is_best else ' '} {point.step:>6,}   ", (about, "$dim"))
        rows.append(spread(start, line(numbers), look.width))
    if not points:
        rows.append(line((" none yet" if state.detail.run.ended_at is None else " none were saved", "$dim")))
    return window(rows, look)


def _age(seconds: float) -> str:
    text = f.age(seconds)
    return text if text == "now" else f"{text} ago"


def fact_rows(detail: RunDetail) -> list[tuple[str, str]]:
    """What the run is made of, in the words of the specification; only what is known."""
    run = detail.run

    def get(path: str) -> str:
        return f.plain(detail.spec.get(path, ""))

    rank = f"alpha {get('method.alpha')}" if get("method.alpha") else ""
    rows = get("training.micro_batch")
    batch = f"{rows} x {get('training.accumulation') or 1} rows" if rows else ""
    length = f"of {get('training.max_length')} tokens" if get("training.max_length") else ""
    rate, schedule = get("training.learning_rate"), get("training.schedule")
    steps = get("training.max_steps")
    span = f"{steps} steps" if steps else ""
    epochs = f"{get('training.epochs')} epochs" if get("training.epochs") and not span else span
    facts = [
        ("model", ", ".join(part for part in (f.model_name(run.model), get("training.precision")) if part)),
        (
            "method",
            "  ".join(part for part in (method_name(run), rank, get("method.targets")) if part),
        ),
        ("batch", " ".join(part for part in (batch, length) if part)),
        ("schedule", "  ".join(part for part in (f"lr {rate}" if rate else "", schedule, epochs) if part)),
        ("data", f.clean(run.dataset)),
        ("parent", f.clean(detail.parent)),
        ("attempt", str(detail.attempt) if detail.attempt > 1 else ""),
        ("tags", ", ".join(f.clean(tag) for tag in detail.tags)),
        ("note", f.clean(detail.note)),
        ("kept in", f.clean(detail.directory)),
    ]
    return [(name, value) for name, value in facts if value]


def facts_pane(state: LiveState, look: Look) -> list[Content]:
    """What the run is made of; with room, every value of the specification with its reason."""
    detail = state.detail
    facts = fact_rows(detail)
    keys = line("i", (" everything ", "$dim")) if look.focused else line("")
    rows = [title("Run", look, (f.clean(detail.run.id), "$dim"), end=keys)]
    rows += [line((f" {name:<9} ", "$dim"), f.clip(value, look.width - 12)) for name, value in facts]
    if look.height > len(rows) + 8 and detail.spec:
        rows += [line(""), *spec_rows(detail, look.width)]
    return window(rows, look)


def spec_rows(detail: RunDetail, width: int) -> list[Content]:
    """Every field of the specification, with the reason of what the program chose."""
    rows = []
    room = max(8, width - 29)
    for path, value in detail.spec.items():
        text, why = f.plain(value), f.clean(detail.reasons.get(path, ""))
        reason = f.clip(why, room - len(text) - 2) if why and len(text) + 8 < room else ""
        name = f" {f.left(f.clean(path), 26)}  "
        rows.append(line((name, "$dim"), f.clip(text, room), (f"  {reason}" if reason else "", "$dim")))
    return rows


def fact_length(state: LiveState) -> int:
    """Lines of everything known."""
    return len(fact_rows(state.detail)) + 2 + len(state.detail.spec)
