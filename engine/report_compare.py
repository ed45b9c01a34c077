"""What `diff` and `compare` print: tables no wider than the terminal, in blocks of columns or with a row a run. Pure."""

import math

from engine.compare_hints import FEW, joined, signed
from engine.compare_results import words
from engine.compared import Cell, Comparison, Setting
from engine.report import GLYPHS, duration, number, short, table
from engine.text import cells, clean

LONGEST = 36
"""Characters of a value; of a longer one the end is kept where it is a path, else the beginning."""
MANY = 12
"""Runs from which on each gets a row where the width is not known."""
ANSWER = 200
"""Characters of an answer."""
Rows = list[list[str]]


def diff_page(c: Comparison, width: int | None, everything: bool = False) -> str:
    """Which runs, and what differs between them."""
    return "\n\n".join([legend(c, width), *differences(c, width, everything), *_notes(c, width)])


def compare_page(c: Comparison, width: int | None, everything: bool = False) -> str:
    """The whole comparison."""
    return "\n\n".join([
        "\n".join(wrapped(c.sentence, width)), legend(c, width), *differences(c, width, everything), *_notes(c, width), *results(c, width),
        *_hints(c), *_samples(c, width),
    ])  # fmt: skip


def legend(c: Comparison, width: int | None = None) -> str:
    """Which letter is which run."""
    room = max(12, (width or 200) - 40)
    return table(
        ["", "run", "id", "status", ""],
        [
            [run.letter, cut(run.name, room), run.id, _status(c, i), "baseline" if i == 0 else ""]
            for i, run in enumerate(c.runs)
        ],
    )


def _status(c: Comparison, place: int) -> str:
    run = c.runs[place]
    share = f" {100 * run.share:.0f} %" if run.active and run.share is not None else ""
    return f"{GLYPHS.get(run.status, ' ')} {run.status}{share}"


def differences(c: Comparison, width: int | None, everything: bool) -> list[str]:
    """What differs, in the specification's order, and how much is the same."""
    shown = c.settings if everything else c.differing
    words = [f"{c.same} parameters the same" + ("" if everything else " (--all shows them)")]
    words += [f"{c.unknown} not known of every run"] if c.unknown else []
    if not any(one.kind != "setting" for one in c.differing):
        known = {one.kind for one in c.settings}
        words.append("data, environment and code the same" if "data" in known else "nothing else differs that is known")
    last = "\n".join(wrapped("; ".join(words), width))
    if not shown:
        return [f"No setting differs. {last[:1].upper()}{last[1:]}."]
    room = max(8, min(LONGEST, ((width or 200) - LONGEST) // 2 - 2))
    rows = [[_name(one), *(_setting(one, i, room) for i in range(len(c.runs)))] for one in shown]
    return [
        *_blocks(["differs" if not everything else "setting", *(run.letter for run in c.runs)], rows, 2, width),
        last,
    ]


def _name(one: Setting) -> str:
    return f"{cut(one.name, LONGEST - 4)} !" if one.warning else cut(one.name, LONGEST - 4)


def _setting(one: Setting, place: int, room: int) -> str:
    cell = one.cells[place]
    return "=" if cell.same else cut(cell.text, room)


def cut(text: str, most: int = LONGEST) -> str:
    """What matters of a long value: the end of a path, the beginning of anything else."""
    if cells(text) <= most:
        return text
    of_path = "/" in text and " " not in text
    while text and cells(text) >= most:
        text = text[1:] if of_path else text[:-1]
    return f"…{text}" if of_path else f"{text}…"


def wrapped(text: str, width: int | None, indent: int = 0) -> list[str]:
    """A text in lines of at most 100 cells, or less; the later ones indented."""
    room = max(10, min(width or 100, 100))
    lines = [""]
    for word in clean(text, keep_lines=False).split():
        while word:
            gap = " " if lines[-1].strip() else ""
            if cells(lines[-1] + gap + word) <= room:
                lines[-1] += gap + word
                break
            if not lines[-1].strip():  # a word that has no room in any line
                part = next(word[:n] for n in range(len(word), 0, -1) if n == 1 or cells(lines[-1] + word[:n]) <= room)
                lines[-1] += part
                word = word[len(part) :]
            if word:
                lines.append(" " * indent)
    return lines


def results(c: Comparison, width: int | None) -> list[str]:
    """The table of results: a column a run, or a row where the columns have no room."""
    rows = [[("  " if one.sub else "") + cut(one.name), *(_result(cell) for cell in one.cells)] for one in c.measures]
    if not rows:
        return []
    head = ["result", *(run.letter for run in c.runs)]
    whole = table(head, rows)
    signs = "* best, = as B, – not known" + (", ! not like with like" if c.notes else "")
    if len(c.runs) <= MANY and (width is None or _widest(whole) <= width):
        return [whole, signs]
    return [*_by_run(c, width), signs]


def _widest(text: str) -> int:
    return max(cells(line) for line in text.split("\n"))


def _result(cell: Cell) -> str:
    mark = "*" if cell.best else " !" if not cell.like and cell.value is not None else ""
    return f"{cell.text}{mark}  {cell.difference_text}".rstrip()


def _by_run(c: Comparison, width: int | None) -> list[str]:
    """A row for each run, the best first, with the difference to the baseline for the first column alone."""
    columns = [[one.name, "to B"] if i == 0 else [one.head] for i, one in enumerate(c.measures)]
    rows = []
    for place in ranking(c):
        row = [c.runs[place].letter, cut(c.runs[place].name, 24)]
        for i, one in enumerate(c.measures):
            cell = one.cells[place]
            row += [_plain(cell), cell.difference_text] if i == 0 else [_plain(cell)]
        rows.append(row)
    return _blocks(["", "run", *(name for column in columns for name in column)], rows, 2, width, right=True)


def ranking(c: Comparison) -> list[int]:
    """Places of the runs, the best first, then those that cannot be compared and those without a result."""
    sign = -1 if c.better == "more" else 1

    def key(place: int) -> tuple[int, float]:
        cell = c.measures[0].cells[place] if c.measures else None
        if cell is None or cell.value is None or not math.isfinite(cell.value):
            return 2, 0.0
        return int(not cell.like), sign * cell.value

    return sorted(range(len(c.runs)), key=key)


def _plain(cell: Cell) -> str:
    return f"{cell.text}{'*' if cell.best else ' !' if not cell.like and cell.value is not None else ''}"


def _blocks(head: list[str], rows: Rows, kept: int, width: int | None, right: bool = False) -> list[str]:
    """One table, or several below each other that each begin with the first `kept` columns."""
    found = [head, *([clean(text, keep_lines=False) for text in row] for row in rows)]
    widths = [max(cells(row[i]) for row in found) for i in range(len(head))]
    blocks: list[list[int]] = [[]]
    used = start = sum(widths[:kept]) + 2 * kept
    for i in range(kept, len(head)):
        if width is not None and blocks[-1] and used + widths[i] > width:
            blocks.append([])
            used = start
        blocks[-1].append(i)
        used += widths[i] + 2
    made = []
    for block in blocks:
        places = [*range(min(kept, len(head))), *block]
        made.append(table([head[i] for i in places], [[row[i] for i in places] for row in rows],
                           tuple(range(kept, len(places))) if right else ()))  # fmt: skip
    return made


def _notes(c: Comparison, width: int | None) -> list[str]:
    """Why results are not like with like."""
    return ["\n".join("\n".join(wrapped(f"! {note}", width, 2)) for note in c.notes)] if c.notes else []


def _hints(c: Comparison) -> list[str]:
    """Time to the baseline's best, what goes with the metric, and the spread between seeds."""
    parts = []
    if c.target is not None:
        parts.append(_reached(c))
    if c.correlations:
        head = f"goes with a {'higher' if c.better == 'more' else 'lower'} {words(c.metric)}"
        sign = 1 if c.better == "more" else -1
        rows = [[cut(one.name), signed(sign * one.rho), f"{one.runs} runs"] for one in c.correlations]
        few = "; so few runs say little" if max(one.runs for one in c.correlations) < FEW else ""
        parts.append(table([head, "", ""], rows, (1,)) + f"\nrank correlation: a hint and no cause{few}")
    if c.repeats:
        rows = [[joined(one.letters), number(one.spread), "each seed held out other rows" if one.other_rows else ""]
                for one in c.repeats]  # fmt: skip
        parts.append(table(["the same but for the seed", "apart", ""], rows, (1,)))
    return parts


def _reached(c: Comparison) -> str:
    """When each run was as good as the baseline at its best."""
    what = f"{words(c.metric)} {number(c.target)}"
    if not any(c.reached[1:]):
        return f"none of the others came to B's {what}"
    rows = [
        [run.letter, "–", "–", "–"]
        if one is None
        else [run.letter, f"{one.step:,}", duration(one.seconds), short(one.tokens and round(one.tokens))]
        for run, one in zip(c.runs, c.reached, strict=True)
    ]
    return table([f"came to {what}", "at step", "after", "tokens"], rows, (1, 2, 3))


def _samples(c: Comparison, width: int | None) -> list[str]:
    """The newest answer of each run to each prompt."""
    parts = []
    for prompt in c.prompts:
        lines = wrapped(f"> {cut(clean(prompt.text, keep_lines=False), ANSWER)}", width, 2)
        for run, answers in zip(c.runs, prompt.answers, strict=True):
            if answers:
                text = " ".join(clean(answers[-1].text, keep_lines=False).split())[:ANSWER] or "(nothing)"
                lines += [
                    f"  {run.letter:<3}{line[5:]}" if i == 0 else line
                    for i, line in enumerate(wrapped(f"{'.' * 5}{text}", width, 5))
                ]
        parts.append("\n".join(lines))
    return parts
