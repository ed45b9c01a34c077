"""A plan for people, as text: the verdict, a memory bar, what is chosen and why, the alternatives."""

from engine.planner.disk import disk_needed
from engine.planner.memory import GIB, Memory
from engine.planner.plan import Choice, Plan, cost_of, method_name
from engine.report import duration, table
from engine.text import clean

PARTS = (
    ("weights", "█"), ("adapter", "▓"), ("gradients", "▓"), ("optimizer", "▓"), ("activations", "▒"), ("logits", "▒"),
    ("runtime", "░"),
)  # fmt: skip
NAMES = {"logits": "logits and loss", "runtime": "CUDA and slack"}
VERDICTS = {"yes": "Fits", "close": "Fits closely", "no": "Does not fit", "unknown": "Only a trace can tell (--exact)"}


def plan_page(plan: Plan, width: int = 80, others: list[tuple[str, Choice]] | None = None) -> str:
    """The whole page. `others` are the best choices on other cards, by their description."""
    r, choice = plan.request, plan.choice
    size = r.shape.parameters if r.shape else r.facts.parameters
    about = f"{r.facts.label}   {size / 1e9:.2f} B parameters   from {r.facts.source}" if size else r.facts.label
    parts = [
        about,
        _headline(plan),
        *([_bar(choice.memory, r.cards.memory if r.cards else None, width)] if choice.memory else []),
    ]
    if choice.memory:
        parts += ["", _components(choice)]
    parts += [
        "",
        table(["choice", "value", "why"], [[x.field, str(x.value)[:24], x.why] for x in choice.reasons if x.why]),
    ]
    if plan.alternatives:
        parts += ["", _alternatives(plan)]
    if others:
        parts += ["", _others(others)]
    parts += (
        [""] * bool(plan.problems or plan.notes)
        + [f"! {text}" for text in plan.problems]
        + [f"· {text}" for text in plan.notes]
    )
    parts.append(
        f"· Disk: about {disk_needed(choice.spec, r.facts) / GIB:.1f} GiB for {choice.spec.saving.keep} checkpoints and the result."
    )
    parts += ["", f"· {choice.speed.basis[:1].upper()}{choice.speed.basis[1:]}."] if choice.speed.basis else []
    if plan.basis:
        parts.append(f"· Memory: {plan.basis}")
    return clean("\n".join(parts))


def _headline(plan: Plan) -> str:
    choice, cards = plan.choice, plan.request.cards
    words = ["No GPU to plan for" if cards is None else VERDICTS[choice.fits]]
    if choice.memory:
        need = choice.memory.device / GIB
        words.append(f"{need:.1f} of {cards.memory:.1f} GiB on {cards.description.rpartition(',')[0]}" if cards
                     else f"one would need {need:.1f} GiB")  # fmt: skip
        if cards:
            left = cards.memory - need
            words.append(f"{left:.1f} free" if left >= 0 else f"{-left:.1f} too many")
    if choice.speed.seconds_total is not None:
        words.append(f"about {duration(choice.speed.seconds_total)}")
    if (price := cost_of(plan)) is not None:
        words.append(f"about {price:.2f} at {plan.request.price:g} an hour and card")
    if choice.speed.tokens_per_second:
        words.append(f"about {choice.speed.tokens_per_second:,.0f} tok/s")
    return "   ".join(words)


def _bar(memory: Memory, card: float | None, width: int) -> str:
    """The parts in proportion; a │ where the card ends."""
    total = max(card or 0.0, memory.device / GIB)
    cells = max(10, width - 2)
    scale = cells / total
    bar, at, filled = "", 0.0, 0
    for name, glyph in PARTS:
        at += memory.components()[name] * scale
        bar += glyph * (round(at) - filled)
        filled = round(at)
    bar = bar.ljust(cells, "·")
    if card:
        end = min(len(bar), round(card * scale))
        bar = bar[:end] + "│" + bar[end:].rstrip("·")
    return bar


def _components(choice: Choice) -> str:
    memory = choice.memory
    assert memory is not None
    glyphs = dict(PARTS)
    rows = [[f"{glyphs[name]} {NAMES.get(name, name)}", f"{gib:.2f}"] for name, gib in memory.components().items()]
    rows += [["allocator peak", f"{memory.peak / GIB:.2f}"], ["device total", f"{memory.device / GIB:.2f}"]]
    trained = f"{memory.trained:,} of {memory.parameters:,} parameters are trained ({100 * memory.trained / memory.parameters:.2f} %)"
    return (
        table([f"at the peak ({memory.phase})", "GiB"], rows, right=(1,))
        + f"\n{trained}; main memory about {memory.host / GIB:.0f} GiB"
    )


def _row(choice: Choice) -> list[str]:
    t = choice.spec.training
    gib = f"{choice.device_gib:.1f}" if choice.device_gib is not None else "–"
    batch = f"{t.micro_batch} x {t.accumulation}"
    return [method_name(choice.spec), batch, f"{t.max_length:,}", "on" if t.checkpointing else "off", t.optimizer or "–", gib,
            choice.fits, duration(choice.speed.seconds_total)]  # fmt: skip


def _alternatives(plan: Plan) -> str:
    head = ["else, best first", "batch", "length", "ckpt", "optimizer", "GiB", "fits", "time"]
    return table(head, [_row(one) for one in plan.alternatives], right=(2, 5, 7))


def _others(others: list[tuple[str, Choice]]) -> str:
    rows = [[name, *_row(one)[:1], _row(one)[5], _row(one)[6], _row(one)[7]] for name, one in others]
    return table(["on other cards", "best that fits", "GiB", "fits", "time"], rows, right=(2, 4))
