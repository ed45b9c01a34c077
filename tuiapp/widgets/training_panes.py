"""The panes of the Training step: the preset, the fields, what one of them means, the schedule, time and disk, memory."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from textual.content import Content

from tuiapp import format as f
from tuiapp import training_values as values
from tuiapp.glyphs import CURSOR
from tuiapp.schedule import curve
from tuiapp.training_fields import BY_PATH, FIELDS, SECTIONS, elsewhere, section_of
from tuiapp.training_layout import MARK, Columns, columns, first_row
from tuiapp.training_snapshot import TrainingPage
from tuiapp.training_values import Preset
from tuiapp.widgets import memory_bar
from tuiapp.widgets.chart import Axes, Series, chart
from tuiapp.widgets.pane import Look, title
from tuiapp.widgets.rows import Part, fit, line, spread

PRESET = ""
"""The cursor's place on the line of presets."""


@dataclass(frozen=True)
class TrainingState:
    """What the step shows now. `page` may be a moment behind `changed`; fields are by path."""

    page: TrainingPage
    changed: Mapping[str, Any]
    paths: tuple[str, ...]
    """The fields that are listed."""
    at: str = PRESET
    whole: bool = False
    presets: tuple[Preset, ...] = ()
    parent: Mapping[str, Any] = field(default_factory=dict)
    """What the parent has."""
    fork: bool = False
    given: Mapping[str, str] = field(default_factory=dict)
    """Where values come from that the planner was given."""
    refused: str = ""
    """Why what was typed is no value."""
    problem: str = ""
    """Why `page` is without what was changed: no plan can be made of that."""

    def value(self, path: str) -> Any:
        """A field's value now; what was opened again is what the planner makes of it."""
        changed = self.changed.get(path)
        return self.page.values[path] if changed is None else changed

    @property
    def preset(self) -> Preset:
        """The one that is on."""
        return values.preset_of(self.presets, self.changed)


def lines_of(state: TrainingState) -> list[str]:
    """What stands below each other: paths, and among all fields a heading (with a dot behind it) for each section."""
    if not state.whole:
        return list(state.paths)
    found = []
    for section in SECTIONS:
        found += [f"{section}.", *(path for path in state.paths if section_of(path) == section)]
    return found


def row_of(state: TrainingState, path: str, room: int) -> int | None:
    """The line of a field in its pane, whose heading is line 0; None where it is not in view."""
    found = lines_of(state)
    if path not in found:
        return None
    top = first_row(len(found), found.index(state.at) if state.at in found else 0, room)
    row = found.index(path) - top
    return row + 1 if 0 <= row < room else None


def preset_pane(state: TrainingState, look: Look) -> list[Content]:
    """The preset, and how many of the fields are shown."""
    here = state.at == PRESET
    name, arrows = state.preset.name, "$accent" if here else "$dim"
    more = len(state.changed) - len(state.preset.changes)
    start = line(
        (f"{CURSOR}" if here else " ", "$accent"), ("Preset  ", "$dim"), ("‹ ", arrows),
        (name, "reverse" if here else ""), (" ›", arrows),
        (f"  and {more} of your own" if more else f"  {state.preset.about}" if look.width >= 110 else "", "$dim"),
    )  # fmt: skip
    shown = len(FIELDS) if state.whole else len(state.paths)
    end = line((f"{shown} of {len(FIELDS)} fields shown   v {'less' if state.whole else 'all'} ", "$dim"))
    return [spread(start, end, look.width)]


def fields_pane(state: TrainingState, look: Look) -> list[Content]:
    """A heading and a line for each field, the cursor's in view."""
    cols = columns(look.width, whole=state.whole, fork=state.fork)
    found = lines_of(state)
    heading = look.height > 3
    room = look.height - heading
    top = first_row(len(found), found.index(state.at) if state.at in found else 0, room)
    rows = [_heading(state, look, cols)] if heading else []
    return rows + [fit(_row(state, path, cols, look), look.width) for path in found[top : top + room]]


def _heading(state: TrainingState, look: Look, cols: Columns) -> Content:
    row = fit(title("All fields" if state.whole else "Field", look), cols.value + 2) + line(("Value", "$dim"))
    for at, word in (
        (cols.usual, "Usual"),
        (cols.parent, "Parent" if cols.why > cols.parent else ""),
        (cols.why, "Why"),
    ):
        if word and at < look.width:
            row = fit(row, at) + line((word, "$dim"))
    return fit(row, look.width)


def _row(state: TrainingState, path: str, cols: Columns, look: Look) -> Content:
    if path.endswith("."):
        return line((f" {path[:-1]}", "bold"))
    here, page = path == state.at, state.page
    name = values.label(path) if state.whole else BY_PATH[path].name
    row = fit(line((f" {CURSOR} " if here else " " * MARK, "$accent"), (name, "" if here else "$dim")), cols.value)
    row = row + _value(state, path, here, cols.usual - cols.value - 1)
    if cols.usual >= look.width:
        return row
    row = fit(row, cols.usual) + line((f.left(_usual(page, path), cols.parent - cols.usual - 1), "$dim"))
    if cols.why > cols.parent and _differs(state, path):
        row = fit(row, cols.parent) + line(
            (f.clip(values.shown(page, path, state.parent[path]), cols.why - cols.parent - 1), "$baseline")
        )
    return fit(row, cols.why) + why_words(state, path, cols, look.width)


def _value(state: TrainingState, path: str, here: bool, room: int) -> Content:
    """`‹ 1e-4 ›*` under the cursor, else the value alone; a star says that it was changed."""
    text = values.shown(state.page, path, state.value(path))
    star = ("*", "$warn") if path in state.changed else ""
    text = f.clip(text, room - 5 if here else room - 3)
    role = "$dim" if elsewhere(path) else ""
    if here:
        return line(("‹ ", "$accent"), (text, "reverse"), (" ›", "$accent"), star)
    return line("  ", (text, role), star)


def _usual(page: TrainingPage, path: str) -> str:
    step = BY_PATH[path].step
    return f"step {step + 1}" if elsewhere(path) else values.usual(page, path)


def _differs(state: TrainingState, path: str) -> bool:
    return path in state.parent and not values.same(state.parent[path], state.value(path))


def why_words(state: TrainingState, path: str, cols: Columns, width: int) -> Content:
    """The reason in the last column: whose the value is, what is odd, or why it is recommended."""
    page = state.page
    odd = values.caution(page, path)
    beside = _differs(state, path) and cols.why == cols.parent
    if path in state.changed:
        # how often follows from the steps: what it would be now is not what it was
        was = "parent" if beside else "else" if path in values.EVERY else "was"
        before = state.parent[path] if beside else page.recommended[path]
        shown = values.shown(page, path, before)
        said = odd or (f"{was} {shown}" if shown != f.DASH else "")
        return line((f"yours; {said}" if said else "yours", "$warn"))
    if odd:
        return line((odd, "$warn"))
    if beside:
        return line((f"parent {values.shown(page, path, state.parent[path])}", "$baseline"))
    return line((values.in_short(values.why(page, path, state.given), width - cols.why), "$dim"))


def about_pane(state: TrainingState, look: Look) -> list[Content]:
    """What the field under the cursor does, why it is as it is, and what can be done."""
    if state.at == PRESET:
        rows, texts = [_ruled("presets", "", look.width)], [_presets_words(state)]
    else:
        rows, texts = [_ruled(BY_PATH[state.at].name, state.at, look.width)], about_words(state)
    for i, text in enumerate(f.wrap(f.clean(in_the_way(state)), look.width - 4, look.height - 2)):
        rows.append(line((f" {'✗' if i == 0 else ' '} {text}", "$bad")))
    room = look.height - len(rows)
    while len(texts) > 1 and len(f.wrap(" ".join(texts), look.width - 2, 99)) > room:
        texts = texts[:-1]
    return [*rows, *(line(f" {text}") for text in f.wrap(" ".join(texts), look.width - 2, room))][: look.height]


def in_the_way(state: TrainingState) -> str:
    """Why one cannot go on like this; empty if one can."""
    return state.refused or state.problem or state.page.obstacle


def _ruled(name: str, path: str, width: int) -> Content:
    start = line((f" {name} ", "bold"), (f"  {path} " if path and width >= 60 else "", "$dim"))
    return start + line(("─" * max(0, width - start.cell_length - 1), "$dim"))


def _presets_words(state: TrainingState) -> str:
    preset = state.preset
    what = changes_words(state, preset.changes)
    changes = f" It sets {what}." if what else ""
    return f"{preset.name}: {preset.about}.{changes} ←→ takes another, u takes it back."


def presets_pane(state: TrainingState, look: Look) -> list[Content]:
    """Each preset and what it changes."""
    rows = [line((" Presets", "bold"), ("   what each changes", "$dim"))]
    for one in state.presets:
        what = changes_words(state, one.changes) or one.about
        texts = f.wrap(what, look.width - 18, 2)
        heads = [one.name, *[""] * (len(texts) - 1)]
        rows += [line(f" {head:<15} ", (text, "$dim")) for head, text in zip(heads, texts, strict=True)]
    return rows[: look.height]


def changes_words(state: TrainingState, changes: Mapping[str, Any]) -> str:
    """`learning rate 1e-4, epochs 6`."""
    found = (
        (BY_PATH[path].name, "open" if one is None else values.shown(state.page, path, one).partition(",")[0])
        for path, one in changes.items()
    )
    return ", ".join(f"{name} {words}" for name, words in found)


def about_words(state: TrainingState) -> list[str]:
    """Sentences about the field under the cursor, the most important first."""
    path, page = state.at, state.page
    field_line, best = BY_PATH[path], page.recommended.get(path)
    reason, shown = values.why(page, path, state.given), values.shown(page, path, best)
    found = [field_line.help]
    if odd := values.caution(page, path):
        found.append(f"Here: {odd}.")
    if said := elsewhere(path):
        return [*found, said]
    if shown == f.DASH:
        found.append(f"Open: {reason}." if reason else "It may stay open.")
    elif path in state.changed or reason:
        found.append(
            f"{'As its parent' if state.fork and path in state.parent else 'Recommended'} {shown}{_because(reason)}."
        )
    own = page.own.get(path)
    if state.fork and path in state.parent and not values.same(own, best):
        found.append(f"Without a parent {values.shown(page, path, own)} would be recommended.")
    turn = "←→ the next usual one, " if values.candidates(page, path) else ""
    back = f", = {'takes it back' if shown == f.DASH else f'back to {shown}'}" if path in state.changed else ""
    return [*found, f"{turn}Space to type one{back}."]


def _because(reason: str) -> str:
    return f": {reason}" if reason and reason != "as its parent" else ""


def everything(state: TrainingState) -> list[tuple[str, str]]:
    """All that is known of the field under the cursor, as (what, words)."""
    path, page = state.at, state.page
    field_line, best = BY_PATH[path], page.recommended.get(path)
    options = ", ".join(values.shown(page, path, one) for one in page.options.get(path, ()))
    pairs = [
        ("what it does", field_line.help),
        ("now", f"{values.shown(page, path, state.value(path))}{' (changed by you)' if path in state.changed else ''}"),
        ("recommended", f"{values.shown(page, path, best)}{_because(values.why(page, path, state.given))}"),
        ("parent", values.shown(page, path, state.parent[path]) if path in state.parent else ""),
        ("without a parent", values.shown(page, path, page.own.get(path)) if state.fork else ""),
        ("usual", values.usual(page, path)),
        ("from", field_line.source),
        ("one of", options),
        ("odd", values.caution(page, path)),
        ("on the command line", f"--set {path}={values.typed(path, state.value(path)) or '...'}"),
    ]
    return [(what, words) for what, words in pairs if words]


def everything_lines(state: TrainingState, room: int) -> list[Content]:
    """The same beside each other, or below each other where there is little room."""
    rows: list[Content] = []
    label = 22 if room >= 50 else 0
    for what, words in everything(state):
        texts = f.wrap(f.clean(words), room - label, 40)
        if label:
            rows += [line((f"{what if i == 0 else '':<{label}}", "$dim"), text) for i, text in enumerate(texts)]
        else:
            rows += [line((what, "$dim")), *(line(text) for text in texts)]
    return rows


def schedule_pane(state: TrainingState, look: Look) -> list[Content]:
    """The learning rate over the steps, with the parent's under it where it is another."""
    page = state.page
    name = page.values["training.schedule"]
    points = _curve(page, page.values)
    head = line(
        (" Learning rate", "bold"), (f"   {name} over {page.steps:,} steps" if page.steps else f"   {name}", "$dim")
    )
    if not points or page.values["extra.trainer"].get("lr_scheduler_kwargs"):
        reason = "how many steps there will be" if page.steps is None else f"how {name} goes"
        return [head, line((f" {reason} is not known beforehand", "$dim"))]
    series = [Series(points, "$train")]
    parent = dict(page.values) | {path: one for path, one in state.parent.items() if path in BY_PATH}
    if (before := _curve(page, parent)) and before != points:
        head = head + line(("   · parent", "$baseline"))
        series.insert(0, Series(before, "$baseline", mark="·", dotted=True))
    axes = Axes(zero=True, x_unit="step", y_text=f.rate)
    return [head, *chart(series, look.width, look.height - 1, axes, look.charts)]


def _curve(page: TrainingPage, of: Mapping[str, Any]) -> tuple[tuple[float, float], ...]:
    rate, warmup = of["training.learning_rate"], of["training.warmup"]
    return curve(of["training.schedule"], page.steps or 0, warmup or 0.0, rate) if rate else ()


def cost_pane(state: TrainingState, look: Look) -> list[Content]:
    """Time, steps and disk, each beside what it was where the changes made it another."""
    page, now, before = state.page, state.page.choice, state.page.before
    evaluations = values.times(page, page.values[values.EVALUATE]) if page.values["data.validation"] else 0
    samples = values.times(page, page.values[values.SAMPLES]) if page.values["evaluation.prompts"] != [] else 0
    time = f.duration(now.seconds)
    if now.seconds and before.seconds and f.duration(before.seconds) != time:
        time = f"{f.duration(before.seconds)} → {time}"
    epoch = f"{page.epoch_steps:,.0f} an epoch" if page.epoch_steps else ""
    rows = f"{page.rows:,} rows" + (f" + {page.held_out:,} held out" if page.held_out else "") if page.rows else ""
    pairs = (
        ("time", f"about {time}" if now.seconds else f.DASH, f"{f.duration(now.seconds_per_epoch)} an epoch"),
        ("steps", f"{f.count(page.steps)} of {page.rows_a_step} rows", epoch),
        ("tokens", f.short(page.tokens), rows),
        ("evaluated", _often(evaluations), f"samples {_often(samples)}"),
        ("checkpoints", values.shown(page, values.KEEP, page.values[values.KEEP]), _each(page)),
        ("disk", f"about {f.gib(page.disk)} GiB", "the model included"),
    )
    room = max(10, look.width - 16 - 26)
    shown = [
        line((f" {what:<13}", "$dim"), f.left(text, 24), (f"  {f.clip(more, room)}", "$dim"))
        for what, text, more in pairs
    ]
    return [line((" Time and disk", "bold")), *shown][: look.height]


def _often(count: int | None) -> str:
    return f.DASH if count is None else "never" if count == 0 else "once" if count == 1 else f"{count} times"


def _each(page: TrainingPage) -> str:
    return f"{f.size(page.checkpoint * 2**30)} each" if page.checkpoint else ""


def peak_pane(state: TrainingState, look: Look) -> list[Content]:
    """How the memory adds up, where there is a card."""
    choice, card = state.page.choice, state.page.plan.card_gib
    if not choice.parts:
        return []
    ascii_only = look.charts == "ascii"
    head = spread(line((" At the peak", "bold")), line(("GiB of one card ", "$dim")), look.width)
    rows = memory_bar.waterfall(choice, card, look.width - 1, ascii_only)
    if len(rows) > look.height - 1:
        rows = memory_bar.part_rows(choice, look.width, ascii_only)
    return [head, *rows][: look.height]


def so_far(page: TrainingPage, width: int) -> list[Part]:
    """What is trained, in how many steps, and what it takes."""
    choice, plan = page.choice, page.plan
    fits = f.of_total(choice.device_gib, plan.card_gib) if choice.device_gib is not None else plan.card_name
    parts: list[Part] = [choice.name]
    parts.append(f"   {page.steps:,} steps of {page.rows_a_step} rows" if page.steps else f"   {f.DASH} steps")
    parts += [f"   {fits}", f"   {f.duration(choice.seconds)}"]
    return [*parts, f"   {f.gib(page.disk)} GiB of disk"] if width >= 90 and page.disk is not None else parts


def status(state: TrainingState, fork: str) -> Content:
    """What stands in the way, else how much was changed and what that does."""
    page = state.page
    if page.obstacle:
        return line((f" ✗ {f.clean(page.obstacle)}", "$bad"))
    count = len(state.changed)
    if not count:
        words = f"As its parent, {f.clean(fork)}" if fork else "Everything as recommended"
        return line((f" {words}. ←→ changes a field, Enter goes on.", "$dim"))
    much = f"* changed by you: {count} field{'' if count == 1 else 's'}."
    return line(("  ".join(part for part in (f" {much}", values.consequences(page)) if part), "$dim"))
