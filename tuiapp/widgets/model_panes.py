"""The panes below the list of the second step: all about one model, what fits as bars, and hints."""

from collections.abc import Sequence
from dataclasses import dataclass

from textual.content import Content

from tuiapp import format as f
from tuiapp import model_values as values
from tuiapp.glyphs import FULL
from tuiapp.goals import goal_of
from tuiapp.model_values import Fit, ModelLine, ModelPage
from tuiapp.snapshot import RunLine
from tuiapp.widgets.model_list import ModelState, card_head, short
from tuiapp.widgets.pane import Look, title
from tuiapp.widgets.rows import Part, fit, line, spread

FITS = {"yes": ("yes", "$good"), "close": ("close", "$warn"), "no": ("no", "$bad"), "unknown": (f.DASH, "$dim")}
LABEL = 11
UNTOLD = "only a trace of the real step can tell: e in step 4"
FREE, LIMIT, OVER = "·", "│", "+"


def about_pane(state: ModelState, look: Look) -> list[Content]:
    """All about the model under the cursor, what matters most where there is little room."""
    one = state.line
    if one is None:
        return []
    name = f.clip_left(f.clean(one.name), look.width - 8)
    rule = "─" * max(0, look.width - len(name) - 3)
    head = line(" ", (name, "bold"), " ", (rule, "$dim"))
    kept = facts(state, one, bars=state.bars, wide=look.width >= 120)
    while sum(len(_fact_lines(fact, look.width)) for fact in kept) > max(0, look.height - 1) and len(kept) > 1:
        kept.remove(max(kept, key=lambda fact: fact.rank))
    return [head, *(row for fact in kept for row in _fact_lines(fact, look.width))][: look.height]


@dataclass(frozen=True)
class Fact:
    """A line about a model; those of a low `rank` are shown first where there is little room."""

    label: str
    text: str
    rank: int
    role: str = ""


def _fact_lines(fact: Fact, width: int) -> list[Content]:
    """What stands in the way is told whole."""
    room = width - LABEL - 1
    parts = f.wrap(fact.text, room, 3) if fact.rank == 0 else [f.clip(fact.text, room)]
    return [
        line((f" {fact.label if i == 0 else '':<{LABEL - 1}}", "$dim"), (part, fact.role))
        for i, part in enumerate(parts)
    ]


def facts(state: ModelState, one: ModelLine, *, bars: bool = False, wide: bool = True) -> list[Fact]:
    """What is known of a model, in the order in which it is shown; `bars` show what fits already."""
    if not one.known:
        return [Fact("", "looking …", 0, "$dim")]
    found = [Fact("problem", one.problem, 0, "$bad")] if one.problem else []
    found += [_code(state)] if one.own_code else []
    if one.quantised:
        found.append(
            Fact("weights", f"quantised already ({one.quantised}): whether it trains shows when it loads", 1, "$warn")
        )
    if one.where == values.HUB:
        return [*found, Fact("source", one.source or f.DASH, 2)]
    found.append(_size(state.page, one, wide))
    if one.layers:
        found.append(Fact("shape", shape_words(one), 9))
    if not bars and not one.problem:
        found.append(Fact("fits", fits_words(state.page, one), 3))
    found.append(Fact("licence", values.licence_words(one), 5))
    if one.where in ("hub cache", values.DOWNLOAD):
        found.append(Fact("access", access_words(one), 4 if one.gated and not one.is_here else 8))
    found.append(Fact("template", template_words(one), 4, "" if one.template is not False else "$warn"))
    revision = f"   revision {f.clip(f.clean(one.revision), 8)[:7]}" if one.revision else ""
    found.append(Fact("source", f"{f.clean(one.source)}{revision}", 10))
    return [*found, Fact("runs", runs_words(one, state.runs), 6)]


def _code(state: ModelState) -> Fact:
    if state.trusted:
        text = "its own Python code runs here when it is loaded, with all that you may do; C forbids it"
    else:
        text = "it brings Python code of its own, which does not run: C lets it, if you trust its authors"
    return Fact("code", text, 0, "$warn")


def _size(page: ModelPage, one: ModelLine, wide: bool) -> Fact:
    weights = values.weights_gib(one)
    count = f"{one.parameters:,} parameters, " if one.parameters and wide else ""
    text = f"{count}{f.gib(weights)} GiB in bf16" if weights else ""
    if one.is_here:
        place = "the hub's cache" if one.where == "hub cache" else f.clean(one.place)
        inside = f" in {place}" if place != f.clean(one.name) else ""
        return Fact("size", f"{text}{', ' if text else ''}{f.size(one.size)} on disk{inside}", 2)
    if one.where != values.DOWNLOAD:
        return Fact("size", text, 2)
    free, short = page.disk_free, weights is not None and page.disk_free is not None and weights > page.disk_free
    return Fact("size", f"{text} to download; {f.gib(free)} GiB are free on the disk", 2, "$warn" if short else "")


def shape_words(one: ModelLine) -> str:
    """Layers, hidden size, heads, vocabulary."""
    heads = f"{f.count(one.heads)} heads"
    if one.kv_heads and one.kv_heads != one.heads:
        heads += f" and {one.kv_heads} key-value heads"
    experts = f", {one.experts} experts" if one.experts else ""
    return (
        f"{f.count(one.layers)} layers, hidden {f.count(one.hidden)}, {heads}, "
        f"vocabulary {f.count(one.vocab)}{experts}, context {f.count(one.context)}"
    )


def fits_words(page: ModelPage, one: ModelLine) -> str:
    """`LoRA 16.9  QLoRA 7.0  full no, needs 124  of 24.0 GiB  ~2,021 tok/s`."""
    if not one.fits:
        return f"{f.DASH}   {UNTOLD}"
    order = ("LoRA", "QLoRA", "full")
    shown = sorted(one.fits[0], key=lambda fit: (fit.cards, order.index(fit.method)))
    parts = [_fit_words(fit) for fit in shown]
    card = page.cards[0]
    best = values.verdict(one)
    pace = f"  ~{f.count(best.tokens_per_second)} tok/s" if best is not None and best.tokens_per_second else ""
    memory = " RAM" if page.cpu else ""
    return f"{'  '.join(parts)}  of {f.gib(card.gib)} GiB{memory}{pace}"


def _fit_words(one: Fit) -> str:
    several = f" x {one.cards}" if one.cards > 1 else ""
    if one.gib is None:
        return f"{one.method}{several} {f.DASH}"
    if one.fits == "no":
        return f"{one.method}{several} no, needs {short(one.gib)}"
    return f"{one.method} {f.gib(one.gib)}{several}{' close' if one.fits == 'close' else ''}"


def access_words(one: ModelLine) -> str:
    """Whether the hub gives it to everyone."""
    if one.is_here:
        return (
            "gated on the hub; the copy on this disk is complete" if one.gated else "its copy on this disk is complete"
        )
    return "gated: ask for it on the hub's page, then hf auth login" if one.gated else "free to download from the hub"


def template_words(one: ModelLine) -> str:
    """Whether it can be talked to as it is."""
    if one.template is None:
        return f.DASH
    if one.template:
        return "a chat template of its own"
    return "none (base model): conversations need one, say chatml"


def runs_of(one: ModelLine, runs: Sequence[RunLine]) -> list[RunLine]:
    """Runs that began with this model."""
    return [run for run in runs if run.model in (one.path, one.name)]


def runs_words(one: ModelLine, runs: Sequence[RunLine]) -> str:
    """`9 here, best eval loss 1.131 on support_alpaca.json (support-lora-r32)`."""
    found = runs_of(one, runs)
    if not found:
        return "none here yet"
    evaluated = [run for run in found if f.known(run.best_eval)]
    best = min(evaluated, key=lambda run: run.best_eval or 0.0, default=None)
    if best is None:
        return f"{len(found)} here, none with an eval loss"
    return f"{len(found)} here, best eval loss {f.number(best.best_eval)} on {f.clean(best.dataset)} ({f.clean(best.name)})"


def fits_pane(state: ModelState, look: Look) -> list[Content]:
    """Each way to train as a bar against each card."""
    cards = state.page.cards[:2] if look.width >= 130 else state.page.cards[:1]
    name, number, pace = 22, 9, 9
    room = (look.width - name - number - pace - 2) // max(1, len(cards))
    bar = max(8, min(40, room - 9))
    head = line((f"{'GiB':>{number - 2}}  ", "$dim"))
    for card in cards:
        head = head + line((f.left(f"{card_head(card)}", bar + 9), "$dim"))
    rows = [fit(title("What fits", look), name) + head + line((f"{'tok/s':>{pace - 2}}", "$dim"))]
    if not state.rows:
        known = state.line is not None and state.line.known
        rows.append(line((f" {f.DASH}   {UNTOLD if known else 'looking …'}", "$dim")))
    for one in state.rows:
        first = next((fit for fit in one.fits if fit.gib is not None), None)
        row = line(f" {f.left(one.name, name - 1)}", f"{f.gib(first.gib if first else None):>{number - 2}}  ")
        for fit_, card in zip(one.fits, cards, strict=False):
            row = row + _bar(fit_, card.gib, bar)
        best = one.fits[0]
        rows.append(row + line((f"{_pace_words(best):>{pace - 2}}", "" if best.fits in ("yes", "close") else "$dim")))
    return rows[: look.height]


def _pace_words(one: Fit) -> str:
    return f.count(one.tokens_per_second) if one.fits in ("yes", "close") else f.DASH


def _bar(one: Fit, total: float, width: int) -> Content:
    """`━━━━━━━━·····│  yes`; what goes past the card's end is a `+`."""
    word, role = FITS[one.fits]
    if one.gib is None or not total:
        return line((f"{f.DASH:<{width + 9}}", "$dim"))
    over = one.gib > total
    cells = width if over else max(1, min(width, round(one.gib / total * width)))
    end: tuple[str, str] = (OVER, "$bad") if over else (LIMIT, "$dim")
    drawn = line((FULL * cells, "$bad" if over else "$accent"), (FREE * (width - cells), "$dim"), end)
    return drawn + line("  ", (f"{word:<6}", role))


def hints_pane(state: ModelState, look: Look) -> list[Content]:
    """What one would ask next, with the numbers of the model under the cursor."""
    one = state.line
    if one is None:
        return []
    rows = []
    for head, text in hints(state, one):
        rows.append(line((f" {head:<20}", "bold"), (f.clip(text, look.width - 22), "$dim")))
    return rows[: look.height]


def hints(state: ModelState, one: ModelLine) -> list[tuple[str, str]]:
    """(question, answer)."""
    found = [("Base or instruct?", base_words(state, one))]
    if pair := values.smaller(state.page, one):
        other, ratio = pair
        fit_ = values.verdict(other)
        span = f.duration(values.seconds_for(fit_.tokens_per_second if fit_ else None))
        where = "here already" if other.is_here else f"{f.gib(values.weights_gib(other))} GiB to download"
        found.append(
            (
                "Smaller first?",
                f"{f.model_name(other.name)} ({where}) trains {ratio:.1f} times as fast: 1,000 rows of 300 tokens in about {span}.",
            )
        )
    text = "A hub id, a directory or a GGUF file may be typed in full. Nothing is downloaded in this step."
    return [*found, ("Not listed?", text)]


def base_words(state: ModelState, one: ModelLine) -> str:
    """What this kind of model needs, and the other kind of the same."""
    rows = goal_of(state.goal).rows if state.goal else ""
    other = values.sibling(state.page, one)
    name = f.model_name(other.name) if other else ""
    if one.template is None:
        return "A base model learns how to answer from the data; an instruct model can already."
    if one.template:
        more = f" Its base is {name}." if other else ""
        return (
            f"This one answers already: fewer than a base model's {rows} rows do, but it may keep its own manner.{more}"
        )
    more = f" {name} answers already." if other else ""
    return f"This is a base model: it learns how to answer from the data, from about {rows} rows.{more}"


def status_words(state: ModelState, typed: ModelLine | None) -> tuple[str, str]:
    """The line above the keys, and its colour."""
    one = state.line
    if state.looking:
        return "looking for models on this machine …", "$dim"
    if one is None:
        return values.obstacle(None), "$dim"
    if one.problem:
        return f"✗ {one.problem}", "$bad"
    if one.own_code and not state.trusted:
        return "It brings Python code of its own: C lets it run, if you trust its authors.", "$warn"
    if one.where == values.HUB:
        return f"{f.clean(one.name)}: {one.source}", "$dim"
    if typed is not None and typed.where == values.HUB and not typed.problem and typed is not one:
        return f"The last row takes {f.clean(typed.name)} as it is typed, from the hub.", "$dim"
    if not state.chosen and one is state.first and len(state.lines) == len(state.page.lines):
        return values.suggestion_words(one, state.page.cpu), "$dim"
    return "A hub id or a directory that is not listed may be typed in full.", "$dim"


def status_line(state: ModelState, typed: ModelLine | None, width: int) -> Content:
    """With the signs of the bars at the right, where they are shown."""
    text, role = status_words(state, typed)
    parts: list[Part] = (
        [(f"{OVER} over the card   {LIMIT} end of the card ", "$dim")] if state.bars and width >= 120 else []
    )
    return spread(line((f" {text}", role)), line(*parts), width)


def inspect_lines(state: ModelState, room: int) -> list[Content]:
    """Everything that is known of the model under the cursor."""
    one = state.line
    if one is None:
        return []
    more = [
        Fact("path", f.clean(one.path), 0),
        Fact("where", f"{one.where}{f', {f.clean(one.place)}' if one.place else ''}", 0),
        Fact("class", f.clean(one.architecture) or f.DASH, 0),
        Fact("stored as", f.clean(one.dtype) or f.DASH, 0),
        Fact("revision", f.clean(one.revision) or f.DASH, 0),
    ]
    rows: list[Content] = []
    for fact in [*facts(state, one, bars=True), *more]:
        for i, part in enumerate(f.wrap(fact.text, room - LABEL - 1, 6) or [f.DASH]):
            rows.append(line((f"{fact.label if i == 0 else '':<{LABEL}}", "$dim"), (part, fact.role)))
    if state.rows:
        bars = fits_pane(state, Look(room, len(state.rows) + 1))
        rows += [
            line(""),
            *(row[1:] for row in bars),
            line(("One row of 1,024 tokens at a time, with checkpointing.", "$dim")),
        ]
    for run in runs_of(one, state.runs)[:10]:
        loss = f.number(run.best_eval)
        words = f"{f.clean(run.method)}, eval loss {loss}, {f.clean(run.status)}, {f.clean(run.dataset)}"
        rows.append(line((f"{'run':<{LABEL}}", "$dim"), f.clip(f"{f.clean(run.name)}   {words}", room - LABEL)))
    return rows
