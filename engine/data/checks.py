"""What is wrong with rows by themselves, without a model."""

from collections import Counter

from engine.data.duplicates import Exact, Near, fingerprint
from engine.data.findings import Findings
from engine.data.formats import split_text, turns_of, whole_text
from engine.data.prepare import Outside, mark
from engine.data.quality import CONTROL, MOJIBAKE, PLACEHOLDER, boilerplate, refuses
from engine.data.rows import Bad, Row
from engine.data.turns import order_problem
from engine.text import clean

LONG, SHORT = 100_000, 2
"""Characters of a row and of an answer."""
MOST_CLASSES, CLASS_LENGTH, CLASS_ROWS = 20, 40, 50
"""Answers are taken for classes if there are so few different ones, so short, among at least so many rows."""
MAJORITY = 0.8


class Checks:
    """Looks at one row after the other."""

    def __init__(self, findings: Findings, held_out: list[Row]) -> None:
        self.findings = findings
        self._exact, self._near, self._asked = Exact(), Near(), Exact()
        self._outside = Outside(held_out)
        self._answers: Counter[str] | None = Counter()
        self._labels: Counter[bool] = Counter()
        self._rows = 0

    def bad(self, bad: Bad) -> None:
        """A row that cannot be used, or was mended."""
        self.findings.add(bad.kind, bad.line, bad.text)

    def row(self, row: Row) -> None:
        """All checks of a usable row."""
        (asked, answer), text = split_text(row.value), whole_text(row.value)
        self._rows += 1
        self._text(row, text, answer)
        if asked and len(answer.strip()) <= SHORT:
            self.findings.add("too_short", row.line)
        self._order(row)
        self._repeated(row, asked, answer, text)
        self._classes(row, asked, answer)

    def _text(self, row: Row, text: str, answer: str) -> None:
        add = self.findings.add
        if found := CONTROL.search(text):
            add("control_characters", row.line, f"the first is {ord(found[0]):#04x}")
        if not text.isascii() and (found := MOJIBAKE.search(text)):
            add("mojibake", row.line, f"the first is {clean(found[0], False)}")
        if ("{{" in text or "[" in text or "<" in text) and (found := PLACEHOLDER.search(text)):
            add("placeholders", row.line, f"the first is {clean(found[0], False)}")
        if refuses(answer):
            add("refusals", row.line)
        elif found := boilerplate(answer):
            add("boilerplate", row.line, f"the first is {clean(found[0], False)}")
        if len(text) > LONG:
            add("too_long", row.line, f"the first has {len(text):,}")

    def _order(self, row: Row) -> None:
        turns = turns_of(row.value)
        if turns and (problem := order_problem(turns)):
            self.findings.add("role_order", row.line, f"the first has {problem}")
        if "messages" in row.value and turns[-1]["role"] != "assistant":
            self.findings.add("unanswered", row.line)

    def _repeated(self, row: Row, asked: str, answer: str, text: str) -> None:
        sign, add = mark(row), self.findings.add
        if self._outside.has(row, text):
            add("leak", row.line)
        earlier = self._exact.earlier(sign, row.line)
        if earlier is not None:
            add("duplicates", row.line, f"{row.place.unit} {row.line} is {row.place.unit} {earlier}")
            return
        near = self._near.earlier(text, row.line)
        if near is not None:
            add("near_duplicates", row.line, f"{row.place.unit} {row.line} is like {row.place.unit} {near}")
        elif asked and not {"label", "rejected"} & row.value.keys():  # those have several answers to a question
            first = self._asked.earlier(fingerprint(asked), row.line)
            if first is not None:
                add("conflicting", row.line, f"{row.place.unit} {row.line} asks what {row.place.unit} {first} asks")

    def _classes(self, row: Row, asked: str, answer: str) -> None:
        if "label" in row.value:
            self._labels[row.value["label"]] += 1
        if self._answers is None or not asked:
            return
        self._answers[answer.strip()] += 1
        if len(self._answers) > MOST_CLASSES or len(answer) > CLASS_LENGTH:
            self._answers = None

    def finish(self) -> None:
        """What only all rows together tell."""
        counts: Counter[str] = (
            Counter({str(k).lower(): n for k, n in self._labels.items()}) or self._answers or Counter()
        )
        enough = self._rows >= CLASS_ROWS and len(counts) * 5 <= self._rows
        if not counts or not enough:
            return
        if not self._labels:
            self.findings.forget("too_short")  # classes are short
        named = ", ".join(f"{clean(name, False)[:20]} {n:,}" for name, n in counts.most_common(6))
        most = counts.most_common(1)[0][1]
        unbalanced = most > MAJORITY * self._rows or min(counts.values()) < 5 or len(counts) < 2
        if unbalanced or not self._labels:
            self.findings.add("one_class" if unbalanced else "classes", 0, named, self._rows)
