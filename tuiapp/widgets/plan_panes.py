"""The panes of the plan page: the verdict, what one chooses with its reasons, the memory, the alternatives, other cards."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from textual.content import Content

from tuiapp import format as f
from tuiapp.glyphs import CURSOR
from tuiapp.plan_values import FIELDS, LABELS, in_words, is_full, rows_a_step, shown
from tuiapp.snapshot import CardPlan, PlanChoice, PlanPage, Traced
from tuiapp.widgets import memory_bar
from tuiapp.widgets.pane import Look, title
from tuiapp.widgets.rows import Part, fit, line, spread
from tuiapp.widgets.strip import short_name

VERDICTS = {
    "yes": ("Fits", "$good"),
    "close": ("Fits closely", "$warn"),
    "no": ("Does not fit", "$bad"),
    "unknown": ("Not known", "$warn"),
}
FITS = {"yes": ("yes", "$good"), "close": ("close", "$warn"), "no": ("no", "$bad"), "unknown": (f.DASH, "$dim")}
WIDE = 68
LABEL, VALUE = 16, 25


@dataclass(frozen=True)
class PlanState:
    """What the page shows now. `row` is the cursor among the fields, `at` that among the alternatives."""

    page: PlanPage
    choice: PlanChoice
    row: int = 0
    at: int = 0
    near: PlanChoice | None = None
    """The nearest that fits, where the choice does not."""
    hint: str = ""
    """What the values beside that under the cursor would take."""
    others: tuple[CardPlan, ...] | None = None
    traced: Traced | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    """Names of runs by id."""

    @property
    def field(self) -> str:
        """The field under the cursor."""
        return FIELDS[self.row]


def rows_of(state: PlanState) -> list[tuple[str, PlanChoice]]:
    """The table of alternatives with what each is: the recommended one first, then the nearest that fits."""
    near = [("nearest", state.near)] if state.near else []
    others = [one for one in state.page.alternatives if not state.near or one.values != state.near.values]
    return [("recommended", state.page.recommended), *near, *(("", one) for one in others)]


def card_words(page: PlanPage) -> str:
    """The card that the numbers are for, and whether it is here."""
    if page.card_gib is None:
        return page.card_name
    return f"{short_name(page.card_name)}{'' if page.here else ', not here'}"


def verdict_pane(state: PlanState, look: Look) -> list[Content]:
    """The verdict with the one number, the bar, and with room its legend."""
    choice, page = state.choice, state.page
    ascii_only = look.charts == "ascii"
    bar = memory_bar.bar(choice, page.card_gib, look.width - 2, ascii_only)
    rows = [_headline(state, look.width), line(" ", bar)]
    return [*rows, memory_bar.legend(choice, page.card_gib, look.width, ascii_only)][: look.height]


def _headline(state: PlanState, width: int) -> Content:
    choice, page = state.choice, state.page
    word, role = VERDICTS[choice.fits]
    if page.card_gib is None:
        start = line((" On this CPU", "bold"), ("   memory is predicted for cards only", "$dim"))
        return spread(start, _pace(state, width), width)
    parts: list[Part] = [" ", (word, f"bold {role}"), "   "]
    if choice.device_gib is None:
        parts += [(f"{f.DASH} of {f.gib(page.card_gib)} GiB", "bold")]
    else:
        parts += [(f.of_total(choice.device_gib, page.card_gib), "bold")]
    if width >= 60:
        parts += [(" on ", "$dim"), card_words(page)]
    if choice.device_gib is not None and width >= 60:
        free = page.card_gib - choice.device_gib
        parts.append((f"   {f.gib(abs(free))} {'free' if free >= 0 else 'over'}", "$dim"))
    return spread(line(*parts), _pace(state, width) if width >= 60 else line(""), width)


def _pace(state: PlanState, width: int) -> Content:
    """How long and how fast; at the right."""
    choice = state.choice
    parts: list[Part] = []
    if choice.fits == "no":  # how fast is no question then
        return line("")
    if choice.seconds is not None:
        parts += [("about ", "$dim"), (f.duration(choice.seconds), "bold")]
    if choice.tokens_per_second is not None and (not parts or width >= 120):
        parts += [f"   about {f.count(choice.tokens_per_second)}", (" tok/s", "$dim")]
    if choice.seconds_per_epoch is not None and width >= 120:
        parts += [f"   {f.duration(choice.seconds_per_epoch)}", (" an epoch", "$dim")]
    return line(*parts, " ")


def value_text(state: PlanState, name: str) -> str:
    """A field's value as it stands on the page."""
    page, values = state.page, state.choice.values
    if name == "card":
        return card_words(page)
    if name in ("rank", "targets") and is_full(values):
        return f"{f.DASH}   all weights train"
    if name == "micro_batch":
        cards = f" x {page.processes}" if page.processes > 1 else ""
        equal = ", about" if values.packing else " ="
        return f"{values.micro_batch} x {values.accumulation}{cards}{equal} {rows_a_step(page, values)} rows"
    return f.clean(shown(name, getattr(values, name)))


def is_changed(state: PlanState, name: str) -> bool:
    """Whether a field is not as recommended."""
    return name != "card" and getattr(state.choice.values, name) != getattr(state.page.recommended.values, name)


def choice_pane(state: PlanState, look: Look) -> list[Content]:
    """The fields; with room each beside what is recommended and why."""
    if look.width >= WIDE:
        return _wide_choice(state, look)
    rows = [title("Choice", look)] if look.height > len(FIELDS) else []
    rows += [_field_row(state, look, i) for i in range(len(FIELDS))]
    if len(rows) > look.height:  # the cursor stays in view
        start = max(0, min(state.row - look.height // 2, len(rows) - look.height))
        return rows[start : start + look.height]
    return rows


def _field_row(state: PlanState, look: Look, i: int) -> Content:
    name = FIELDS[i]
    here = i == state.row
    start = line(
        (f" {CURSOR} " if here else "   ", "$accent"), (f"{LABELS.get(name, name):<14}", "" if here else "$dim")
    )
    value = _value(state, name, here and look.focused)
    if is_changed(state, name) and not (is_full(state.choice.values) and name in ("rank", "targets")):
        value = value + line((f"  not {shown(name, getattr(state.page.recommended.values, name))}", "$warn"))
    return fit(start + value, look.width - 1)


def _value(state: PlanState, name: str, here: bool) -> Content:
    text = value_text(state, name)
    return line(("‹ ", "$accent"), (text, "reverse"), (" ›", "$accent")) if here else line("  ", text)


def _wide_choice(state: PlanState, look: Look) -> list[Content]:
    """Label, value and why; below them what follows from the fields."""
    head = line((f"{'Value':<{VALUE}}Why", "$dim"))
    rows = [fit(title("Choice", look), LABEL + 2) + head]
    for i, name in enumerate(FIELDS):
        here = i == state.row
        label = line((f" {CURSOR} " if here else "   ", "$accent"), (LABELS.get(name, name), "" if here else "$dim"))
        value = fit(_value(state, name, here and look.focused), VALUE + 2)
        rows.append(
            fit(label, LABEL) + value + line((why(state, name), "$warn" if is_changed(state, name) else "$dim"))
        )
    if look.height > len(rows) + 1:
        rows += [line(""), *(_follows_row(state, path, text) for path, text in state.choice.follows)]
    return [fit(row, look.width - 1) for row in rows[: look.height]]


def _follows_row(state: PlanState, path: str, text: str) -> Content:
    value = f.plain(text) or f.DASH
    reason = f.clean(state.choice.reasons.get(path, "")) if value != f.DASH else ""
    label = path.rpartition(".")[2].replace("_", " ")
    return line((f"   {f.left(label, LABEL - 3)}  {f.left(value, VALUE)}{reason}", "$dim"))


def why(state: PlanState, name: str) -> str:
    """The reason for a value, or what is recommended in its place and why."""
    page, best = state.page, state.page.recommended
    if name == "card":
        return "" if page.here else "a plan only: no such card is in this machine"
    if is_full(state.choice.values) and name in ("rank", "targets"):
        return "no adapter: the weights themselves are trained"
    if not is_changed(state, name):
        return f.clean(state.choice.reasons.get(name) or best.reasons.get(name, ""))
    reason = f.clean(best.reasons.get(name, ""))
    value = shown(name, getattr(best.values, name))
    return f"recommended {value}{f': {reason}' if reason else ''}"


def why_pane(state: PlanState, look: Look) -> list[Content]:
    """What stands in the way; else why this value, and in the rows left what the values beside it would take."""
    choice = state.choice
    if choice.fits == "no":
        near = f"Space takes the nearest that fits: {in_words(state.near)}." if state.near else ""
        return _told("In the way", "$bad", (near, *choice.problems[1:]), look)
    reason = why(state, state.field)
    reason = f"{reason[:1].upper()}{reason[1:]}." if reason else ""
    texts = (reason, state.hint, *choice.problems)
    if choice.device_gib is None:
        texts = (*choice.problems, reason)
    if state.field == "card":
        texts = (*choice.problems, *state.page.notes, f"{state.page.model}: {state.page.about}.", reason)
    head = LABELS.get(state.field, state.field)
    return _told(head[:1].upper() + head[1:], "", texts, look)


def _told(head: str, role: str, texts: Iterable[str], look: Look) -> list[Content]:
    """Sentences below each other, as far as there is room."""
    first = 16
    rows: list[str] = []
    for text in texts:
        rows += f.wrap(f.clean(text), look.width - first - 1, look.height - len(rows))
    heads = [(f" {head:<{first - 1}}", f"bold {role}".strip()), *[(" " * first, "")] * len(rows)]
    return [line(start, row) for start, row in zip(heads, rows or [""], strict=False)]


def peak_pane(state: PlanState, look: Look) -> list[Content]:
    """What is on the card at the peak: a list, or with room how it adds up."""
    choice, ascii_only = state.choice, look.charts == "ascii"
    if not choice.parts:
        return []
    if look.width < 56:
        return [
            spread(line((" At the peak", "bold")), line(("GiB ", "$dim")), look.width),
            *memory_bar.part_rows(choice, look.width, ascii_only),
        ][: look.height]
    head = spread(
        line((" At the peak", "bold"), (f"   {f.clean(choice.phase)}", "$dim")),
        line(("GiB of one card ", "$dim")),
        look.width,
    )
    rows = [head, *memory_bar.waterfall(choice, state.page.card_gib, look.width - 1, ascii_only)]
    if choice.trained and choice.parameters:
        share = 100 * choice.trained / choice.parameters
        text = f" {choice.trained:,} of {choice.parameters:,} parameters train, {share:.3g} %"
        rows += [line(""), line((text, "$dim"))]
    rows.append(line((f" {traced_words(state) or 'e traces the real step: about 20 s, no GPU needed'}", "$dim")))
    return rows[: look.height]


def traced_words(state: PlanState) -> str:
    """The traced step beside the closed form; empty if it was not traced with these values."""
    traced, peak = state.traced, state.choice.peak_gib
    if traced is None:
        return ""
    text = f"traced allocator peak {traced.allocated:.2f} GiB"
    return f"{text}, closed form {peak:.2f} ({100 * (peak / traced.allocated - 1):+.1f} %)" if peak else text


def status_line(state: PlanState, changed: set[str], width: int) -> Content:
    """What the numbers rest on, and how many fields are not as recommended."""
    count = len(changed - {"accumulation"})  # it follows from others
    end = f"{count} field{'' if count == 1 else 's'} changed" if count else "as recommended"
    words = traced_words(state) or f.clean(state.page.basis)
    start = line((f" {words[:1].upper()}{words[1:]}" if width >= 60 else "", "$dim"))
    return spread(start, line((f"  {end} ", "$dim")), width)


def cost_words(choice: PlanChoice, state: PlanState) -> str:
    """What an alternative costs against the recommended one."""
    best, card = state.page.recommended, state.page.card_gib
    left = card - choice.device_gib if card is not None and choice.device_gib is not None else 0.0
    if choice.fits == "no":
        return f"{-left:.1f} over"
    parts = [f"{left:.1f} left"] if choice.fits == "close" else []
    if choice.tokens_per_second and best.tokens_per_second and choice is not best:
        ratio = choice.tokens_per_second / best.tokens_per_second
        percent = f"{abs(100 * (ratio - 1)):.0f} %"
        parts.append("as fast" if 0.99 < ratio < 1.01 else f"{percent} {'faster' if ratio > 1 else 'slower'}")
    return ", ".join(parts)


def else_pane(state: PlanState, look: Look) -> list[Content]:
    """The table of alternatives, or in little room the best of them in a line or two."""
    if look.height < 5:
        return _else_lines(state, look)
    time = "Time" if state.page.rows else "tok/s"
    checkpointing = f"{'Ckpt':<5}" if look.width >= 90 else ""
    length = f"{'Length':>8}" if look.width >= 76 else ""
    head = f"   {'Method':<19}{'Batch':>7}{length}  {checkpointing}{'GiB':>5}  {'Fits':<5}{time:>7}  Costs"
    end = line(("Space takes one ", "$dim")) if look.focused else line("")
    rows = [spread(title("Else, best first", look), end, look.width), fit(line((head, "$dim")), look.width)]
    found = rows_of(state)
    room = look.height - len(rows)
    start = max(0, min(state.at - room + 1, len(found) - room))
    for i, (what, one) in enumerate(found[start : start + room], start):
        rows.append(_else_row(state, look, i, what, one))
    return rows


def _else_row(state: PlanState, look: Look, i: int, what: str, one: PlanChoice) -> Content:
    v, here = one.values, i == state.at and look.focused
    pace = f.duration(one.seconds) if state.page.rows else f.count(one.tokens_per_second)
    words = ", ".join(part for part in (what, _unusual(state, one), cost_words(one, state)) if part)
    mark = CURSOR if here else "=" if one.values == state.choice.values else " "
    checkpointing = f"{'on' if v.checkpointing else 'off':<5}" if look.width >= 90 else ""
    batch, length = f"{v.micro_batch} x {v.accumulation}", f"{v.max_length:>8,}" if look.width >= 76 else ""
    cells = f"{f.left(one.name, 19)}{batch:>7}{length}  {checkpointing}{f.gib(one.device_gib):>5}  "
    fits, role = FITS[one.fits]
    row = line((f" {mark} ", "$accent"), cells, (f"{fits:<5}", role), f"{pace:>7}  ", (words, "$dim"))
    row = fit(row, look.width - 1)
    return row.stylize("reverse") if here else row


def _unusual(state: PlanState, one: PlanChoice) -> str:
    """What the columns do not show and the recommended choice does not have."""
    best, v = state.page.recommended.values, one.values
    optimizer = {"adamw_8bit": "8-bit Adam", "paged_adamw_8bit": "paged 8-bit Adam"}.get(v.optimizer, v.optimizer)
    parts = [optimizer] if v.optimizer != best.optimizer else []
    return ", ".join([*parts, *(["packed"] if v.packing and not best.packing else [])])


def _else_lines(state: PlanState, look: Look) -> list[Content]:
    """As many of those that fit as there is room for; the table has all."""
    first, more = 16, "v: the table"
    rows = [""]
    for one in (one for one in state.page.alternatives if one.fits in ("yes", "close")):
        text = f"{_brief(one, state)} {f.gib(one.device_gib)} GiB {_time(one)}".rstrip()
        last = len(more) + 3 if len(rows) == look.height else 0
        if len(rows[-1]) + len(text) + 3 + last <= look.width - first - 1:
            rows[-1] += f"{text}   "
        elif len(rows) < look.height:
            rows.append(f"{text}   ")
        else:
            break
    if len(rows[-1]) + len(more) > look.width - first - 1 and len(rows) < look.height:
        rows.append("")
    rows[-1] += more
    heads = [line((f" {'Else':<{first - 1}}", "bold")), *[line(" " * first)] * (len(rows) - 1)]
    return [head + line((row, "$dim")) for head, row in zip(heads, rows, strict=True)]


def _brief(one: PlanChoice, state: PlanState) -> str:
    best, v = state.page.recommended, one.values
    parts = [one.name]
    if one.name == best.name and v.micro_batch != best.values.micro_batch:
        parts.append(f"{v.micro_batch} x {v.accumulation}")
    if v.max_length != best.values.max_length:
        parts.append(f"{v.max_length:,} long")
    return " ".join(parts)


def _time(one: PlanChoice) -> str:
    return f.duration(one.seconds) if one.seconds is not None else ""


def cards_pane(state: PlanState, look: Look) -> list[Content]:
    """The best that fits on common cards."""
    name = max(12, min(22, look.width - 43))
    room = min(20, look.width - name - 22)
    time = "time" if state.page.rows else "tok/s"
    head = fit(line((" On other cards", "bold")), name + 2) + line(
        (f"{'GiB':>4}  {'best that fits':<{room}}{'GiB':>5}{time:>8}", "$dim")
    )
    rows = [fit(head, look.width)]
    if state.others is None:
        return [*rows, line((" looking …", "$dim"))]
    for card in state.others:
        best = card.best
        text = f"{best.name}{f', {best.layout}' if best.layout else ''}" if best else "nothing"
        pace = f.DASH
        if best is not None:
            pace = f.duration(best.seconds) if state.page.rows else f.count(best.tokens_per_second)
        start = f" {f.left(f.clean(card.name), name)} "
        gib = f.gib(best.device_gib if best else None)
        rows.append(line(start, (f"{card.gib:>4.0f}  ", "$dim"), f"{f.left(text, room)}{gib:>5}{pace:>8}"))
    return [*rows, line((" Cards of the catalog; times are estimates.", "$dim"))][: look.height]


def past_pane(state: PlanState, look: Look) -> list[Content]:
    """How good the numbers were on this machine."""
    past = state.page.past
    rows = [
        line((" How good these numbers were here", "bold"), ("   memory of the card, GiB, the newest runs", "$dim"))
    ]
    most = max((max(one.predicted, one.measured) for one in past), default=1.0)
    for one in past:
        name = f.clean(state.names.get(one.run_id, one.run_id))
        rows.append(memory_bar.past_row(name, one.predicted, one.measured, most, look.width))
    return rows[: look.height]
