"""The panes that are text: samples, log, events, checkpoints and what the run is made of."""

from textual.content import Content

from tuiapp import format as f
from tuiapp.glyphs import LEVEL_ROLES, LEVELS
from tuiapp.snapshot import RunDetail, Sample
from tuiapp.widgets.curves import LiveState
from tuiapp.widgets.head import method_name
from tuiapp.widgets.pane import Look, title
from tuiapp.widgets.rows import line, spread


def window(rows: list[Content], look: Look) -> list[Content]:
    """The title and the rows that the scrolling leaves in view."""
    room = max(0, look.height - 1)
    top = max(0, min(look.scroll, len(rows) - 1 - room))
    return [rows[0], *rows[1 + top : 1 + top + room]]


def sample_length(state: LiveState) -> int:
    """Lines of all samples, about."""
    return 4 * len(state.detail.samples)


def samples_pane(state: LiveState, look: Look) -> list[Content]:
    """What the model answers: in two lines the newest, with room the same prompt at every step."""
    samples = state.detail.samples
    if not samples:
        return [title("Sample", look, ("none yet", "$dim"))]
    newest = samples[-1]
    prompts = list(dict.fromkeys(sample.prompt for sample in samples))
    place = f"prompt {prompts.index(newest.prompt) + 1} of {len(prompts)}"
    room = max(10, look.width - 9)
    if look.height <= 3:
        head = f"step {newest.step}, {place}: {f.clean(newest.prompt)}"
        answer = f.wrap(f.clean(newest.text), room - 1, max(1, look.height - 1))
        first = title("Sample", look, (f.clip(head, look.width - 11), "$dim"))
        return [first, *(line(" " * 10, text) for text in answer)]
    return window(_by_step(samples, newest.prompt, place, look), look)


def _by_step(samples: tuple[Sample, ...], prompt: str, place: str, look: Look) -> list[Content]:
    head = f.clip(f"{place}: {f.clean(prompt)}", look.width - 12)
    rows = [title("Samples", look, (head, "$dim"))]
    same = [sample for sample in samples if sample.prompt == prompt]
    lines_each = max(1, (look.height - 1) // max(1, len(same)))
    for sample in reversed(same):
        for i, text in enumerate(f.wrap(f.clean(sample.text), max(10, look.width - 13), lines_each) or [f.DASH]):
            label = f" step {sample.step:>5,}  " if i == 0 else " " * 13
            rows.append(line((label, "$dim"), text))
    return rows


def log_length(state: LiveState) -> int:
    """Lines of the log."""
    return len(state.detail.log)


def log_pane(state: LiveState, look: Look) -> list[Content]:
    """The last lines of output.log; scrolling goes up from the end."""
    log = state.detail.log
    room = max(1, look.height - 1)
    end = len(log) - max(0, min(look.scroll, len(log) - room))
    following = "output.log" if end == len(log) else f"output.log, {len(log) - end} lines up"
    rows = [title("Log", look, (following, "$dim"))]
    if not log:
        empty = "nothing was written yet" if state.detail.run.ended_at is None else "its files are not here"
        return [*rows, line((f" {empty}", "$dim"))]
    return rows + [line(f" {f.clean(text)}") for text in log[max(0, end - room) : end]]


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
    for point in reversed(points):
        star = "*" if best is not None and point.eval_loss == best else " "
        about = "removed" if not point.kept else _age(state.now - point.time)
        size = point.gib if point.kept else None
        digits = 2 if size is None or size >= 0.095 else 3
        numbers = f"{f.right(f.number(point.eval_loss), 9)} {f.right(f.number(size, digits), 7)} "
        rows.append(spread(line(f" {star} {point.step:>6,}   ", (about, "$dim")), line(numbers), look.width))
    if not points:
        rows.append(line((" none yet", "$dim")))
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
    rows = [title("Run", look, (f.clean(detail.run.id), "$dim"))]
    rows += [line((f" {name:<9} ", "$dim"), f.clip(value, look.width - 12)) for name, value in facts]
    if look.height > len(rows) + 8 and detail.spec:
        rows += [line(""), *_spec_rows(detail, look)]
    return window(rows, look)


def _spec_rows(detail: RunDetail, look: Look) -> list[Content]:
    rows = []
    room = max(8, look.width - 29)
    for path, value in detail.spec.items():
        text, why = f.plain(value), f.clean(detail.reasons.get(path, ""))
        reason = f.clip(why, room - len(text) - 2) if why and len(text) + 8 < room else ""
        name = f" {f.left(f.clean(path), 26)}  "
        rows.append(line((name, "$dim"), f.clip(text, room), (f"  {reason}" if reason else "", "$dim")))
    return rows


def fact_length(state: LiveState) -> int:
    """Lines of everything known."""
    return len(fact_rows(state.detail)) + 2 + len(state.detail.spec)
