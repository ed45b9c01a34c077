"""What stands at the right of a comparison, and the samples: hints, memory, time to the baseline, lineage, a sentence."""

from collections.abc import Sequence

from textual.content import Content

from engine.compare_hints import FEW, signed
from engine.compare_results import words
from tuiapp import format as f
from tuiapp.compare_values import CompareState
from tuiapp.glyphs import FULL, REST
from tuiapp.widgets.bars import share
from tuiapp.widgets.compare_table import style_of
from tuiapp.widgets.curves import loss_text
from tuiapp.widgets.pane import Look, title
from tuiapp.widgets.rows import line, spread
from tuiapp.widgets.texts import window

LINE = 90
"""Characters of an answer that have room in a line."""


def hints_length(state: CompareState) -> int:
    """Lines of the correlations."""
    found = state.comparison.correlations
    return len(found) + 2 if found else 0


def hints_pane(state: CompareState, look: Look) -> list[Content]:
    """Rank correlations as bars, those that go with a better metric as plus, and how little that proves."""
    c = state.comparison
    side = "higher" if c.better == "more" else "lower"
    rows = [title(f.clip(f"What goes with a {side} {words(c.metric)}", look.width - 1), look)]
    names = min(16, look.width // 2 - 4)
    room = max(4, look.width - names - 10)
    sign = 1 if c.better == "more" else -1
    for one in c.correlations:
        bar = FULL * round(abs(one.rho) * room)
        rho = sign * one.rho
        rows.append(
            line(f" {f.left(one.name, names)} ", f"{signed(rho):>6}  ", (bar, "$accent" if rho > 0 else "$dim"))
        )
    most = max((one.runs for one in c.correlations), default=0)
    rows.append(line((f" rank correlation over {most} runs: a hint", "$dim")))
    rows.append(line((" and no cause" + (f"; {most} runs are too few" if most < FEW else ""), "$dim")))
    return window(rows, look)


def memory_length(state: CompareState) -> int:
    """Lines of the memory."""
    return len(state.comparison.runs) if state.comparison.measure("memory") else 0


def memory_pane(state: CompareState, look: Look) -> list[Content]:
    """The peak of each run beside what there is."""
    c = state.comparison
    found = c.measure("memory")
    totals = [run.memory_total for run in c.runs if run.memory_total]
    total = max(totals, default=None)
    peaks = [cell.value for cell in found.cells] if found else []
    of = f"of {f.gib(total)}" if total and len(set(totals)) == 1 else ""
    rows = [title("Memory, GiB", look, end=line((f"{of} ", "$dim")))]
    rows += _bars(state, peaks, [cell.text for cell in found.cells] if found else [], look.width, total or _most(peaks))
    return window(rows, look)


def reached_length(state: CompareState) -> int:
    """Lines of the time to the baseline's best; none where nobody else came to it."""
    return len(state.comparison.runs) if any(state.comparison.reached[1:]) else 0


def reached_pane(state: CompareState, look: Look) -> list[Content]:
    """How long each run took to be as good as the baseline at its best; in tokens where the chart goes along them."""
    c = state.comparison
    by_tokens = state.x == "tokens"
    values = [None if one is None else one.tokens if by_tokens else one.seconds for one in c.reached]
    known = [value for value in values if value is not None]
    texts = [(f.short(value) if by_tokens else f.duration(value)) for value in values]
    least = min(known, default=None) if len(known) > 1 else None
    texts = [
        f"{text}{'*' if value is not None and value == least else ''}"
        for text, value in zip(texts, values, strict=True)
    ]
    what = f"{'Tokens' if by_tokens else 'Time'} to {words(c.metric)} {loss_text(c.target)}"
    return window([title(what, look), *_bars(state, values, texts, look.width, _most(values))], look)


def _most(values: Sequence[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _bars(
    state: CompareState, values: Sequence[float | None], texts: Sequence[str], width: int, total: float | None
) -> list[Content]:
    room = max(4, width - 14)
    rows = []
    for i, (run, value, text) in enumerate(zip(state.comparison.runs, values, texts, strict=True)):
        end = line(f"{text if text.endswith('*') else text + ' '}")
        bar = share(value, total, room, style_of(i)) if value is not None else line((REST * room, "$dim"))
        rows.append(spread(line((f" {f.left(run.letter, 2)} ", style_of(i)), bar), end, width))
    return rows


def lineage_length(state: CompareState) -> int:
    """Lines of the trees."""
    return len(state.page.lineage)


def lineage_pane(state: CompareState, look: Look) -> list[Content]:
    """Which run comes from which, with what changed; those that are compared by their letters."""
    letters = {run.id: (run.letter, style_of(i)) for i, run in enumerate(state.comparison.runs)}
    rows = [title("Lineage", look)]
    for one in state.page.lineage:
        letter, style = letters.get(one.node.id, ("", ""))
        if one.attempt is not None:
            rows.append(line((f" {one.lead}", "$dim"), (f.clean(one.attempt.text), "$dim")))
            continue
        said = one.node.text if one.lead else one.node.name
        name = "" if letter and one.lead and said else f.clean(one.node.name) if one.lead else ""
        text = "  ".join(part for part in (name, f.clean(said)) if part)
        rows.append(line((f" {one.lead}", "$dim"), (f"{letter} " if letter else "", style), f.clip(text, look.width)))
    return window(rows, look)


def said_length(state: CompareState) -> int:
    """Lines of the sentence, about."""
    return len(state.comparison.sentence) // 34 + 1 + sum(len(note) // 32 + 1 for note in state.comparison.notes)


def said_pane(state: CompareState, look: Look) -> list[Content]:
    """What came of it, and what has to be known to read the numbers."""
    rows = [title("Say it in one line", look)]
    rows += [line(f" {text}") for text in f.wrap(state.comparison.sentence, look.width - 2, 20)]
    for note in state.comparison.notes:
        for i, text in enumerate(f.wrap(note, look.width - 4, 6)):
            rows.append(line((" ! " if i == 0 else "   ", "$warn"), (text, "$dim")))
    return window(rows, look)


def samples_length(state: CompareState) -> int:
    """Lines of the samples, about: for each run that was asked one, for a long answer two."""
    prompts = state.comparison.prompts
    asked = [answers for answers in prompts[state.prompt % len(prompts)].answers if answers] if prompts else []
    return sum(1 + (len(answers[-1].text) > LINE) for answers in asked)


def lines_of_each(wanted: Sequence[int], room: int) -> list[int]:
    """How many lines each gets: one, and more, one by one in turn, while there is room."""
    kept = [1] * len(wanted)
    while sum(kept) < room and (more := [i for i, most in enumerate(wanted) if kept[i] < most]):
        for i in more[: room - sum(kept)]:
            kept[i] += 1
    return kept


def most_steps(state: CompareState) -> int:
    """At how many steps the prompt was answered, by the run that was asked most often."""
    prompts = state.comparison.prompts
    return max(len(answers) for answers in prompts[state.prompt % len(prompts)].answers) if prompts else 0


def samples_pane(state: CompareState, look: Look) -> list[Content]:
    """What the runs answer to the same prompt, at their last step or so many steps before it."""
    prompts = state.comparison.prompts
    if not prompts:
        return [title("Sample", look, ("none: no prompts were asked", "$dim"))]
    place = state.prompt % len(prompts)
    prompt = prompts[place]
    keys = "[ ] other prompt" if len(prompts) > 1 else ""
    if look.focused and most_steps(state) > 1:
        keys = f"{keys}   ←→ step".strip()
    end = line((f"{keys} ", "$dim"))
    head = f"prompt {place + 1} of {len(prompts)}: {f.clean(prompt.text)}"
    rows = [title("Sample", look, f.clip(head, look.width - 12 - end.cell_length), end=end)]
    asked = [(i, answers[max(0, len(answers) - 1 - state.back)]) for i, answers in enumerate(prompt.answers) if answers]
    texts = [f.wrap(f.clean(answer.text), max(10, look.width - 17), 8) or [f.DASH] for _, answer in asked]
    kept = lines_of_each([len(text) for text in texts], look.height - 1)
    for (i, answer), text, most in zip(asked, texts, kept, strict=True):
        label = f"{f.left(state.comparison.runs[i].letter, 2)} "
        step = ("base" if answer.step == 0 else f"step {answer.step:,}") if look.width >= 60 else ""
        shown = text if most >= len(text) else f.wrap(" ".join(text), max(10, look.width - 17), most)
        for k, part in enumerate(shown):
            start = line(
                (label if k == 0 else " " * len(label), style_of(i)), (f"{step if k == 0 else '':<10} ", "$dim")
            )
            rows.append(line("   ", start, part))
    return window(rows, look)
