"""What `data check` and `data show` print."""

from itertools import groupby
from typing import Any

from engine.data.findings import Finding
from engine.data.lengths import Lengths
from engine.data.model_checks import Fate
from engine.data.scan import Packing, Report
from engine.report import table
from engine.spec import TrainingSpec
from engine.text import cells, clean

MARKS = {"fatal": "✗", "warning": "!", "note": "·"}
TRAINED, MASKED, EDGE, LINE_END = "┃", "·", "┊", "↵"
BOLD, DIM, PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[0m"
BARS = " ▁▂▃▄▅▆▇█"


def check_page(report: Report, found: Fate | None, training: TrainingSpec, saved: Packing | None) -> str:
    """The whole report on a page."""
    lines = [f"{_names(report)}   {report.size / 2**20:,.1f} MiB   {report.rows:,} rows"]
    if report.format:
        lines.append(f"{report.format}   {clean(report.evidence, False)}   for objective {report.objective}")
    lines += ["", *_findings(report), "", *_rows(report)]
    lengths = report.lengths if report.measured else report.characters
    if lengths:
        lines += ["", *_lengths(report, lengths, training.max_length if found else None)]
    if found:
        lines += ["", *_training(report, found, training, saved)]
    return "\n".join(lines)


def _names(report: Report) -> str:
    return clean(", ".join(str(source.path) for source in report.sources), False)


def _findings(report: Report) -> list[str]:
    if not report.findings:
        return ["✓ nothing found"]
    lines = []
    for one in report.findings:
        lines.append(f"{MARKS[one.severity]} {one.severity:<8}{clean(one.message, False)}{_where(one)}")
        lines.append(f"           {one.hint}")
    return lines


def _where(one: Finding) -> str:
    return f"   {one.where}" if one.where else ""


def _rows(report: Report) -> list[str]:
    rows = [["in the file", f"{report.rows:,}"]]
    rows += [[reason.replace("_", " "), f"–{one.count:,}"] for reason, one in report.dropped.items()]
    rows.append(["used", f"{report.kept:,}"])
    return [table(["rows", ""], rows, right=(1,))]


def _lengths(report: Report, lengths: Lengths, limit: int | None) -> list[str]:
    unit = "tokens, template included" if report.measured else "characters; --model counts tokens"
    shares = [("min", lengths.tokens[0]), ("half", lengths.quantile(0.5)), ("95 %", lengths.quantile(0.95)),
              ("99 %", lengths.quantile(0.99)), ("max", lengths.longest)]  # fmt: skip
    top = max(limit or 0, lengths.quantile(0.99))
    bars = histogram(lengths.tokens, top, 40)
    note = f"   of {report.tokenized:,} rows" if 0 < report.tokenized < report.kept else ""
    return [f"length in {unit}{note}", f"  {bars}  0 to {top:,}{' = max_length' if top == limit else ''}",
            "  " + "   ".join(f"{name} {n:,}" for name, n in shares)]  # fmt: skip


def histogram(values: tuple[int, ...], top: int, cells: int) -> str:
    """Values up to `top` as one row of bars; a cell with any value shows at least the lowest bar."""
    counts = [0] * cells
    for value in values:
        if value <= top:
            counts[min(cells - 1, value * cells // max(1, top))] += 1
    most = max(counts) or 1
    return "".join(BARS[0 if not n else max(1, round(n / most * 8))] for n in counts)


def _training(report: Report, found: Fate, training: TrainingSpec, saved: Packing | None) -> list[str]:
    scale = report.scale()
    tokens, trained = found.tokens * scale, found.trained * scale
    about = "about " if report.tokenized < report.kept else ""
    lines = [f"at max_length {training.max_length:,}: {about}{tokens:,.0f} tokens an epoch, {trained:,.0f} of them trained "
             f"({100 * trained / max(1, tokens):.0f} %)"]  # fmt: skip
    if saved and training.packing is not None and report.form != "preference":
        lines.append(f"packed: {saved.packed_rows:,} rows, {100 * saved.full:.1f} % full; not packed, {100 * saved.padding:.0f} % "
                     "of a batch of 8 would be padding (estimate)")  # fmt: skip
    return lines


def show_page(shown: dict[str, Any], width: int, colour: bool) -> str:
    """Rows token by token; what is trained is marked at the left, and bold where there is colour."""
    lines = [f"{TRAINED} trained   {MASKED} not trained   {EDGE} token edge   {LINE_END} line end"]
    for row in shown["rows"]:
        for sequence in row["sequences"]:
            lines += ["", _heading(row, sequence, shown)]
            lines += [_styled(trained, text, colour) for trained, text in token_lines(sequence, width - 8)]
        if row["problem"]:
            lines.append(f"{row['unit']} {row['line']:,} is left out: {clean(row['problem'].replace('_', ' '), False)}")
        lines += _neighbours(row, width, colour)
    return "\n".join(lines)


def _heading(row: dict[str, Any], sequence: dict[str, Any], shown: dict[str, Any]) -> str:
    trained = sum(label != -100 for label in sequence["labels"])
    name = f"   {sequence['name']}" if sequence["name"] else ""
    return (f"{row['unit']} {row['line']:,}{name}   {len(sequence['ids']):,} tokens, {trained:,} trained   max_length {shown['max_length']:,}   "
            f"{row['number']:,} of {shown['total']:,}")  # fmt: skip


def _neighbours(row: dict[str, Any], width: int, colour: bool) -> list[str]:
    """The rows that share a packed row with it."""
    packed = row.get("packed")
    if not packed:
        return []
    lines = [
        "",
        f"in the same packed row, {packed['tokens']:,} of {packed['size']:,} tokens; attention does not reach across",
    ]
    for one in packed["sequences"]:
        lines.append(f"from token {one['start'] + 1:,}{'   this row' if one['this'] else ''}")
        if not one["this"]:
            lines += [_styled(trained, text, colour) for trained, text in token_lines(one, width - 8)[:3]]
    return lines


def _styled(trained: bool | None, text: str, colour: bool) -> str:
    if trained is None:
        return f"────────── {text}"
    style = BOLD if trained else DIM
    return (
        f"{TRAINED if trained else MASKED} {style}{text}{PLAIN}"
        if colour
        else f"{TRAINED if trained else MASKED} {text}"
    )


def token_lines(sequence: dict[str, Any], width: int) -> list[tuple[bool | None, str]]:
    """The tokens in rows of at most `width` characters, each all trained or all not, with the number of its first token.

    A row without a state is the place where the sequence is cut.
    """
    texts = [visible(text) for text in sequence["texts"]]
    flags = [label != -100 for label in sequence["labels"]]
    cut = sequence.get("cut")
    found: list[tuple[bool | None, str]] = []
    for trained, group in groupby(range(len(texts)), key=lambda i: (flags[i], cut is not None and i >= cut)):
        if trained[1] and not any(state is None for state, _ in found):
            found.append((None, f"cut here: max_length {cut:,}"))
        found += [(trained[0], row) for row in _wrapped(list(group), texts, width)]
    return found


def _wrapped(numbers: list[int], texts: list[str], width: int) -> list[str]:
    rows, start, line = [], numbers[0], ""
    for i in numbers:
        piece = texts[i] if i == start else EDGE + texts[i]
        if line and cells(line) + cells(piece) > width - 6:
            rows.append(f"{start + 1:>5} {line}")
            start, line, piece = i, "", texts[i]
        line += piece
        if texts[i].endswith(LINE_END):
            rows.append(f"{start + 1:>5} {line}")
            start, line = i + 1, ""
    if line:
        rows.append(f"{start + 1:>5} {line}")
    return rows


def visible(text: str) -> str:
    """A token's text with line ends and control characters as signs."""
    signs = {"\n": LINE_END, "\t": "⇥", "\r": "␍"}
    marked = "".join(signs.get(c) or (f"^{chr(ord(c) + 64)}" if ord(c) < 32 else c) for c in text)
    return clean(marked, False) if marked else ""
