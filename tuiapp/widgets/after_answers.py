"""The row under the cursor: question and reference, what base and tuned answered beside each other, what a judge said."""

from textual.content import Content

from engine import text as text_of
from tuiapp import format as f
from tuiapp.after_values import AfterState, AnswerLine, Side
from tuiapp.widgets.pane import Look, title
from tuiapp.widgets.rows import Part, fit, line, spread
from tuiapp.widgets.texts import window

BESIDE = 60
"""From here on both answers stand beside each other."""
LABEL = 12
WINNERS = {"tuned": "the tuned answer is better", "base": "the base's answer is better", "tie": "neither is better"}


def answers_length(state: AfterState) -> int:
    """Lines of the row at its longest: how many really depends on the width."""
    row = state.row
    if row is None:
        return 1
    texts = (row.question, row.reference, row.base.answer or "", row.tuned.answer or "")
    return 12 + sum(len(text) // 24 + text.count("\n") + 1 for text in texts)


def answers_pane(state: AfterState, look: Look) -> list[Content]:
    """In little room what fits, the answers' beginnings; else all of it, which scrolls."""
    row = state.row
    if row is None:
        words = "reading …" if state.page.total else "no rows yet"
        return [title("Row", look, (words, "$dim"))]
    head = title(f.clean(row.place).capitalize() or f"Row {row.row}", look)
    if look.height < 10:
        return _low(row, look, head)
    rows = [
        spread(head, line((f"{state.at + 1:,} of {state.page.total:,} ", "$dim")), look.width),
        *_labelled("question", row.question, look.width), *_labelled("reference", row.reference, look.width),
        *_judge(row, look.width), line(""),
        *(_beside(row, look.width) if look.width >= BESIDE else _below(row, look.width)),
    ]  # fmt: skip
    return window([fit(one, look.width) for one in rows], look)


def _low(row: AnswerLine, look: Look, head: Content) -> list[Content]:
    """Question and reference in a line each, then as much of the answers as there is room for."""
    asked = f.clip(f.clean(row.question), max(0, look.width - head.cell_length - 4))
    rows = [
        line(head, "   ", asked),
        line((f" {'reference':<{LABEL}}", "$dim"), f.clip(f.clean(row.reference), look.width - LABEL - 2)),
    ]
    judge = _judge(row, look.width)[:1] if look.height >= 7 else []
    sides = _beside(row, look.width, False) if look.width >= BESIDE else _below(row, look.width, False)
    room = max(0, look.height - len(rows) - len(judge))
    return [fit(one, look.width) for one in [*rows, *sides[:room], *judge][: look.height]]


def _labelled(name: str, text: str, width: int) -> list[Content]:
    parts = paragraphs(text, width - LABEL - 2) or [f.DASH]
    return [line((f" {name if i == 0 else '':<{LABEL}}", "$dim"), part) for i, part in enumerate(parts)]


def paragraphs(text: str, width: int) -> list[str]:
    """Its lines, wrapped; blank ones between stay."""
    found: list[str] = []
    for part in text_of.clean(text).strip().split("\n"):
        found += _wrap(part, max(8, width)) or [""]
    return found if any(found) else []


def _wrap(text: str, width: int) -> list[str]:
    """Words longer than a line are cut, so that nothing of an answer is lost."""
    words: list[str] = []
    for word in text.split():
        while len(word) > width:
            words.append(word[: width // 2])
            word = word[width // 2 :]
        words.append(word)
    return f.wrap(" ".join(words), width, len(words) + 1)


def _beside(row: AnswerLine, width: int, scores: bool = True) -> list[Content]:
    half = (width - 3) // 2
    left, right = _side("Base", row.base, half, scores), _side("Tuned", row.tuned, half, scores)
    blank, bar = line(""), (" │ ", "$dim")
    count = max(len(left), len(right))
    pairs = [(left[i] if i < len(left) else blank, right[i] if i < len(right) else blank) for i in range(count)]
    return [line(fit(a, half), bar, fit(b, half)) for a, b in pairs]


def _below(row: AnswerLine, width: int, scores: bool = True) -> list[Content]:
    return [*_side("Base", row.base, width, scores), line(""), *_side("Tuned", row.tuned, width, scores)]


def _side(name: str, side: Side, width: int, scores: bool) -> list[Content]:
    """Its name, how long the answer is and how it ended; the answer; its scores."""
    end = {True: "", False: ", cut at the limit", None: ""}[side.stopped]
    about = f"   {side.tokens:,} token{'' if side.tokens == 1 else 's'}{end}" if side.tokens is not None else ""
    rows = [line((f" {name}", "bold"), (f.clip(about, width - len(name) - 2), "$dim"))]
    answer = "(nothing)" if side.answer == "" else side.answer or f.DASH
    dim = "" if side.answer else "$dim"
    rows += [line((f" {part}", dim)) for part in paragraphs(answer, width - 2) or [f.DASH]]
    return rows + [line((f" {part}", "$dim")) for part in _scores(side, width - 2) if scores]


def _scores(side: Side, width: int) -> list[str]:
    """`loss 1.204   exact match 0.0 %`, none of them torn apart."""
    rows = [""]
    for name, value in side.scores:
        one = f"{f.clean(name)} {value}"
        if rows[-1] and len(rows[-1]) + 3 + len(one) > width:
            rows.append(one)
        else:
            rows[-1] += f"   {one}" if rows[-1] else one
    return ["", *rows] if rows[0] else []


def _judge(row: AnswerLine, width: int) -> list[Content]:
    one = row.opinion
    if one is None:
        return []
    words = WINNERS.get(one.winner, f.clean(one.winner) or "said nothing that could be used")
    marks = [f"{name} {value:g}" for name, value in (("base", one.base), ("tuned", one.tuned)) if value is not None]
    order = "" if one.agreed is not False else "asked in the other order it said otherwise"
    said = "   ".join(part for part in (words, f"{', '.join(marks)} of 10" if marks else "", order) if part)
    parts: list[Part] = [(f" {'judge':<{LABEL}}", "$dim"), f.clip(said, width - LABEL - 2)]
    rows = [line(*parts)]
    for reason in one.reasons:
        rows += [line((f" {'':<{LABEL}}", ""), (part, "$dim")) for part in paragraphs(reason, width - LABEL - 2)]
    return rows
