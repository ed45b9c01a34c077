"""The panes of the last step: the run in numbers, what is not as recommended, the command that does the same, what to do."""

from collections.abc import Sequence
from dataclasses import dataclass

from textual.content import Content

from tuiapp import format as f
from tuiapp.draft import STEPS
from tuiapp.glyphs import CURSOR, LEVEL_ROLES, LEVELS
from tuiapp.review_values import COPY, LABELS, QUEUE, SAVE, START, Change, ReviewPage, choices, command_of, wrapped
from tuiapp.widgets import memory_bar
from tuiapp.widgets.bars import share
from tuiapp.widgets.pane import Look, title
from tuiapp.widgets.rows import Part, fit, line, spread
from tuiapp.widgets.strip import short_name

NARROW = 60
LABEL = 9
BAR = 24
MOST_COMMAND = 8
"""Lines of the command that are shown."""
LONG_VALUE = 24


@dataclass(frozen=True)
class ReviewState:
    """What the step shows now. `at` is the choice under the cursor, `now` unix seconds, `width` that of the details."""

    page: ReviewPage
    at: int = 0
    now: float = 0.0
    width: int = 80
    naming: bool = False
    saving: bool = False

    @property
    def choice(self) -> str:
        """What Enter does; empty where there is nothing to do."""
        found = choices(self.page)
        return found[min(self.at, len(found) - 1)] if found else ""


def facts_pane(state: ReviewState, look: Look) -> list[Content]:
    """The name and where it trains, memory, time, disk and rows; with little room the first of them."""
    page, narrow = state.page, look.width < NARROW
    facts = [_memory(page, look), _time(state, narrow), _disk(page), _data(page)]
    rows = [_headline(state, look.width), *(_fact(*one) for one in facts)]
    if narrow and (look.height > len(rows) or not page.waits.free):
        rows.insert(1, line(" ", *where_words(state)))
    return [fit(row, look.width - 1) for row in rows][: look.height]


def _headline(state: ReviewState, width: int) -> Content:
    page = state.page
    if state.naming and width >= NARROW:
        return line((" Name", "bold"))
    start = line((" Ready", "bold $good"), "   ", (f.clean(page.name), "bold"))
    return start if width < NARROW else start + line("   ", *where_words(state))


def where_words(state: ReviewState) -> list[Part]:
    """`on GPU 0, RTX 4090, free now`, or what it waits for."""
    page, waits = state.page, state.page.waits
    if page.on_cpu:
        here: list[Part] = [("on ", "$dim"), f.clean(page.card)]
        return (
            here
            if waits.free
            else [*here, (f"   {f.clean(waits.reason).removesuffix(' to end')} trains there now", "$warn")]
        )
    card = short_name(f.clean(page.card))
    if waits.free:
        return [("on ", "$dim"), f"{waits.card}, {card}" if waits.card else card, (", free now", "$dim")]
    starts = f", about {f.clock(waits.starts)}" if waits.starts is not None else ""
    return [card, (f"   waits for {f.clean(waits.reason)}{starts}", "$warn")]


def _fact(label: str, value: Content) -> Content:
    return line((f" {label:<{LABEL - 1}}", "$dim")) + value


def _memory(page: ReviewPage, look: Look) -> tuple[str, Content]:
    gib = page.choice.device_gib if page.choice else None
    if page.on_cpu or gib is None:
        return "memory", line(
            f.DASH, ("   predicted for cards only" if page.on_cpu else "   not known for this model", "$dim")
        )
    number = line((f.of_total(gib, page.card_gib), "bold"))
    if look.width < NARROW:
        return "memory", number
    role = "$warn" if page.choice is not None and page.choice.fits == "close" else "$accent"
    within = f"   within {page.band * gib:.1f} GiB here" if page.band else ""
    return "memory", share(gib, page.card_gib, BAR, role) + "  " + number + line((within, "$dim"))


def _time(state: ReviewState, narrow: bool) -> tuple[str, Content]:
    page, waits = state.page, state.page.waits
    seconds = page.choice.seconds if page.choice else None
    steps: Part = f"{page.steps:,} step{'' if page.steps == 1 else 's'}" if page.steps else ""
    if seconds is None:
        return "time", line(f.DASH, "   ", steps)
    each = f" at {seconds / page.steps:.2g} s" if page.steps else ""
    at_once = waits.free or (page.on_cpu and state.choice != QUEUE)
    begins = state.now if at_once else waits.starts
    ends = line(("   ends about ", "$dim"), f.clock(begins + seconds)) if begins is not None else line("")
    number = line(("about ", "$dim"), (f.duration(seconds), "bold"))
    return "time", number + ends if narrow else number + line(", ", steps, (each, "$dim")) + ends


def _disk(page: ReviewPage) -> tuple[str, Content]:
    parts = [f"{page.keep} checkpoint{'' if page.keep == 1 else 's'}"] if page.keep else ["no checkpoints"]
    if page.model_bytes is not None:
        parts.append(f"{'adapter' if page.is_adapter else 'model'} {f.size(page.model_bytes)}")
    free = (f" of {f.size(page.disk_free)} free", "$dim")
    return "disk", line(f"{f.size(page.disk_needed)}", free, (f"   {', '.join(parts)}", "$dim"))


def _data(page: ReviewPage) -> tuple[str, Content]:
    held = f" + {page.validation:,}" if page.validation else ""
    file = f", validation from {f.clean(page.validation_file)}" if page.validation_file else ""
    gone = sum(count for _, count in page.dropped)
    why = ", ".join(f"{count:,} {f.clean(reason)}" for reason, count in page.dropped)
    left = f"   {gone:,} left out: {why}" if gone else ""
    return "data", line(f"{page.train:,}{held}", (f" rows of {page.rows:,}{file}{left}", "$dim"))


def details_pane(state: ReviewState, look: Look) -> list[Content]:
    """What is not as recommended, then the rest that has to be known, scrolled."""
    (head, beside), rows = _details(state)
    more = len(rows) - (look.height - 1)
    end = (
        line((f"↑↓ {more - min(look.scroll, more)} more " if more > look.scroll else "↑↓ ", "$dim"))
        if more > 0
        else line("")
    )
    start = min(look.scroll, max(0, more))
    shown = [fit(row, look.width - 1) for row in rows[start : start + look.height - 1]]
    return [title(head, look, *beside, end=end), *shown]


def details_length(state: ReviewState) -> int:
    """Lines below the title."""
    return len(_details(state)[1])


def _details(state: ReviewState) -> tuple[tuple[str, list[Part]], list[Content]]:
    """The title, what stands beside it, and everything under it, the most telling first."""
    page, width = state.page, state.width
    chosen = [one for one in page.changes if one.chosen]
    follow = [one for one in page.changes if not one.chosen]
    if not page.recommended:
        head, beside = (
            "Chosen",
            list[Part]([(f"{len(chosen)} of {page.fields}; nothing can be recommended here", "$dim")]),
        )
    elif not page.changes:
        head, beside = "As recommended", [(f"all {page.fields} fields", "$dim")]
    else:
        more = f", {len(follow)} follow" if follow else ""
        head, beside = "Not as recommended", [f"{len(chosen)}", (f" of {page.fields}{more}", "$dim")]
    rows = _change_rows([*chosen, *follow], width)
    if page.parent:
        many = len(page.parent_changes)
        words = line(
            (" Differs from parent", "bold"),
            f"   {f.clean(page.parent)}",
            (f"   {many}" if many else "   in nothing", "$dim"),
        )
        rows += [line(""), words, *_change_rows(page.parent_changes, width)]
    if page.warnings:
        rows += [line(""), line((" To know", "bold"))]
        for severity, text in page.warnings:
            rows += _sentence(severity, text, width)
    if page.dropped:
        rows += [
            line(""),
            line((" Rows left out", "bold"), (f"   {sum(n for _, n in page.dropped):,} of {page.rows:,}", "$dim")),
        ]
        rows += [line(f"   {count:>9,}", (f"  {f.clean(reason)}", "$dim")) for reason, count in page.dropped]
    return (head, beside), rows[1:] if rows and not rows[0].plain else rows


def _change_rows(changes: Sequence[Change], width: int) -> list[Content]:
    """`training.learning_rate    2e-4  →  1e-4     why it was`, in columns."""
    if not changes:
        return []
    before, after = (
        [value_words(text) for text in texts] for texts in zip(*((c.before, c.after) for c in changes), strict=True)
    )
    name = min(max(len(one.path) for one in changes), 30)
    left, right = max(map(len, before)), max(map(len, after))
    rows = []
    for one, was, now in zip(changes, before, after, strict=True):
        why = f.clean(one.why) if one.chosen else f"follows{': ' if one.why else ''}{f.clean(one.why)}"
        style = "" if one.chosen else "$dim"
        parts: list[Part] = [
            (f"   {f.left(one.path, name)}  ", style),
            (f.right(was, left), "$dim"),
            ("  →  ", "$dim"),
            (f.left(now, right), style),
        ]
        rows.append(fit(line(*parts, (f"   {why}", "$dim")), width - 1))
    return rows


def value_words(text: str) -> str:
    """A value as people write it, not too long; what is none is a dash."""
    return f.clip(f.plain(text), LONG_VALUE) or f.DASH


def _sentence(severity: str, text: str, width: int) -> list[Content]:
    """A sentence with its sign, in as many lines as it takes."""
    sign = (f"   {LEVELS.get(severity, '·')} ", LEVEL_ROLES.get(severity, "$dim"))
    return [line(sign if i == 0 else "     ", words) for i, words in enumerate(f.wrap(f.clean(text), width - 7, 9))]


def command_pane(state: ReviewState, look: Look) -> list[Content]:
    """The command that does the same."""
    if not state.page.command:
        return [line((" Same as", "bold"), ("   no command makes exactly this; the YAML does", "$dim"))]
    lines = wrapped(command_of(state.page, state.choice), look.width - 4, min(MOST_COMMAND, look.height - 1))
    return [line((" Same as", "bold")), *(line(f"   {f.clip(f.clean(text), look.width - 4)}") for text in lines)]


def choices_pane(state: ReviewState, look: Look) -> list[Content]:
    """What can be done, in a row; where there is no room only what Enter does."""
    if state.saving:
        return [line((" Save as", "bold"))]
    found, parts = choices(state.page), list[Part]()
    for one in found:
        here = one == state.choice
        parts += [(f" {CURSOR} " if here else "   ", "$accent"), (LABELS[one], "reverse" if here else "")]
    row = line(*parts)
    if row.cell_length <= look.width or not found:
        return [row]
    at = f"  {found.index(state.choice) + 1} of {len(found)}"
    return [line((" ‹ ", "$accent"), (LABELS[state.choice], "reverse"), (" ›", "$accent"), (at, "$dim"))]


def peak_rows(page: ReviewPage) -> int:
    """Rows that the memory takes with its title."""
    return len([part for part in page.choice.parts if part.gib > 0]) + 4 if page.choice and page.choice.parts else 0


def peak_pane(state: ReviewState, look: Look) -> list[Content]:
    """How the memory adds up on the card."""
    choice = state.page.choice
    if choice is None or not choice.parts:
        return []
    head = spread(
        line((" At the peak", "bold"), (f"   {f.clean(choice.phase)}", "$dim")),
        line(("GiB of one card ", "$dim")),
        look.width,
    )
    return [head, *memory_bar.waterfall(choice, state.page.card_gib, look.width - 1, look.charts == "ascii")][
        : look.height
    ]


def yaml_lines(state: ReviewState) -> list[str]:
    """The specification's lines."""
    return state.page.yaml.split("\n")[:-1]


def yaml_length(state: ReviewState) -> int:
    """How many."""
    return len(yaml_lines(state))


def yaml_pane(state: ReviewState, look: Look) -> list[Content]:
    """The whole specification, its comments dim, scrolled."""
    lines, room = yaml_lines(state), look.height - 1
    start = min(look.scroll, max(0, len(lines) - room))
    at = f"{start + 1}–{min(len(lines), start + room)} of {len(lines)} lines " if len(lines) > room else ""
    changed = {one.path for one in state.page.changes if one.chosen}
    rows = [_yaml_row(text, path in changed, look.width) for text, path in zip(lines, _paths(lines), strict=True)]
    return [title("The whole specification", look, end=line((at, "$dim"))), *rows[start : start + room]]


def _paths(lines: Sequence[str]) -> list[str]:
    """The field that each line is of; empty for comments."""
    found, sections = [], dict[int, str]()
    for text in lines:
        bare = text.lstrip()
        indent = len(text) - len(bare)
        name, colon, _ = bare.partition(":")
        if bare.startswith(("#", "-")) or not colon or not name.replace("_", "").isalnum():
            found.append("")
            continue
        sections = {at: one for at, one in sections.items() if at < indent} | {indent: name}
        found.append(".".join(sections[at] for at in sorted(sections)))
    return found


def _yaml_row(text: str, changed: bool, width: int) -> Content:
    shown, sign, comment = f.clip(f.clean(text.lstrip(" ")), width - 3), "", ""
    if "  # " in shown:
        shown, sign, comment = shown.partition("  # ")
    indent = " " * (1 + len(text) - len(text.lstrip(" ")))
    if shown.startswith("#"):
        return line((f"{indent}{shown}", "$dim"))
    return fit(line(indent, (shown, "$warn" if changed else ""), (sign + comment, "$dim")), width - 1)


def problem_pane(state: ReviewState, look: Look) -> list[Content]:
    """Why it cannot start, in full, and what helps."""
    problem = state.page.problem
    if problem is None:
        return []
    wide = look.width >= NARROW
    rows = [line((f" ✗ {f.clean(problem.title)}", "bold $bad")), *([line("")] if wide else [])]
    rows += [line(f"   {text}") for text in f.wrap(f.clean(problem.message), look.width - 5, 8)]
    helps = f.wrap(f.clean(problem.hint), look.width - 7, 6)
    if problem.step is not None:
        helps.append(f"{problem.step + 1} goes to {STEPS[problem.step]}, where it can be changed.")
    if helps:
        rows += [*([line("")] if wide else []), line(("   What helps", "bold" if wide else "$dim"))]
        rows += [line(f"     {text}") for text in helps]
    return [*rows, *([line("")] if wide else []), line(("   Nothing was started. The draft is kept.", "$dim"))][
        : look.height
    ]


def warning_line(page: ReviewPage, width: int) -> Content | None:
    """The first warning, and how many more there are; None where all is well."""
    found = [text for severity, text in page.warnings if severity == "warning"]
    if not found:
        return None
    more = line((f" and {len(found) - 1} more ", "$dim")) if len(found) > 1 else line(" ")
    return spread(line((" Warning  ", "$warn"), f.clean(found[0])), more, width)


def status_words(state: ReviewState) -> str:
    """What Enter would do."""
    page, waits = state.page, state.page.waits
    if state.saving:
        return "Enter writes the file; Esc leaves it. → completes."
    if state.naming:
        return "Enter takes the name; an empty one is chosen for you. Esc leaves it as it is."
    if state.choice == START and page.on_cpu and not waits.free:
        return "It would train beside what trains now, and make both slower."
    if state.choice == START:
        return "Goes on without this window. Draft kept until it starts."
    if state.choice == QUEUE and page.on_cpu and waits.free:
        return "It waits while another run trains on the CPU; none does now."
    if state.choice == QUEUE:
        when = f" about {f.clock(waits.starts)}" if waits.starts is not None else " by itself"
        return f"Waits for {f.clean(waits.reason)}; it starts{when}, without this window."
    if state.choice == SAVE:
        return "A file that makes this run: tunedeck train FILE. Each value has its reason."
    return "One line, through the terminal's clipboard." if state.choice == COPY else ""
