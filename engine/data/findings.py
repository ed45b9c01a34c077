"""What can be wrong with data: every kind, how bad it is, what it means and what to do about it."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

Severity = Literal["fatal", "warning", "note"]
SHOWN = 20
"""Line numbers that are kept of each kind."""


class Kind(NamedTuple):
    """`means` follows the number of rows in a sentence; `dropped` says that such rows cannot be trained on."""

    severity: Severity
    means: str
    hint: str
    dropped: bool = False


KINDS: dict[str, Kind] = {
    # the file
    "unparsable": Kind("fatal", "cannot be parsed", "Mend the lines named: each must be one JSON object (or CSV row).", True),
    "not_an_object": Kind("fatal", "hold no JSON object", "Each row must be an object with named fields.", True),
    "encoding": Kind("fatal", "are not UTF-8", "Convert the file: iconv -f latin1 -t utf-8 FILE", True),
    "too_deep": Kind("fatal", "are nested too deeply to be read", "Mend the lines named.", True),
    "too_big": Kind("fatal", "are too big to be one row (64 MiB)", "Split them: no model reads a row of that size.", True),
    "columns": Kind("fatal", "have more or fewer fields than the header", "Quote fields that hold the separator.", True),
    "no_format": Kind("fatal", "have columns of no known format", "Map them: --set data.columns='{instruction: ..., output: ...}'", True),
    "mixed_formats": Kind("fatal", "are in another format than the rest", "Split the file by format: data.path takes a list.", True),
    "no_rows": Kind("fatal", "no row is left to train on", "Mend the rows named."),
    "none_short": Kind("fatal", "no row is short enough to train on",
                       "Raise training.max_length, or set training.long_rows to cut or split."),
    "nan": Kind("warning", "hold NaN or Infinity, which is no JSON; they count as missing", "Write null instead."),
    "surrogate": Kind("warning", "hold half a character (a lone surrogate), now \ufffd", "Write the text again as UTF-8."),
    "duplicate_key": Kind("warning", "name a field twice; the last one counts", "Mend the lines named."),
    "utf16": Kind("note", "the file is UTF-16 and was read as such", "Other tools will want UTF-8: iconv -f utf-16 -t utf-8"),
    "json_lines": Kind("note", "the file holds JSON lines under the name .json and was read as such", "Name it .jsonl."),
    "not_text": Kind("warning", "hold bytes where text is expected", "Export the column as text."),
    # the rows
    "missing_field": Kind("warning", "lack a field, or it is no text", "Mend or leave out these rows.", True),
    "empty_field": Kind("warning", "have nothing in a field that is needed", "Mend or leave out these rows.", True),
    "unknown_role": Kind("warning", "have a role that nobody knows", "Use system, user, assistant and tool.", True),
    "no_assistant": Kind("warning", "have no answer to learn from", "Each conversation needs an assistant's turn.", True),
    "tool_arguments": Kind("warning", "have tool calls that are not JSON", "Arguments must be a JSON object.", True),
    "no_difference": Kind("warning", "have the same chosen and rejected answer: nothing to prefer", "Leave these rows out.", True),
    "role_order": Kind("warning", "have turns in a wrong order", "Turns go user, assistant, user, ...; tools between."),
    "unanswered": Kind("note", "end with a question that nobody answers", "The last turn is context without a use: cut it."),
    "duplicates": Kind("warning", "repeat an earlier row exactly", "Drop them: --set data.filters.duplicates=exact"),
    "near_duplicates": Kind("note", "are nearly the same as an earlier row", "Drop them: --set data.filters.duplicates=near"),
    "conflicting": Kind("note", "give another answer to a question asked before", "See whether both are meant."),
    "leak": Kind("warning", "are in the validation rows too", "They flatter eval_loss: --set data.filters.leaks=true drops them."),
    "refusals": Kind("note", "refuse to answer", "Drop them if you do not want refusals: --set data.filters.refusals=true"),
    "boilerplate": Kind("note", "hold boilerplate (\"as an AI language model\", lorem ipsum)", "Drop or mend them: data.filters.exclude takes patterns."),
    "placeholders": Kind("warning", "hold placeholders that were never filled in", "Fill them in, or the model will learn to write them."),
    "too_short": Kind("note", "have an answer of one or two characters", "See whether that is meant."),
    "too_long": Kind("note", "are longer than 100,000 characters", "No model here reads that much: split them."),
    "control_characters": Kind("warning", "hold control characters", "Remove them: terminals obey them and models learn them."),
    "mojibake": Kind("warning", "hold text that was decoded wrongly (Ã©, â€™, \ufffd)", "Export the data again as UTF-8."),
    "one_class": Kind("warning", "answers are classes, and badly balanced", "Balance them, or judge by F1 and not by accuracy."),
    "classes": Kind("note", "answers are classes", "Accuracy and F1 tell more than the loss."),
    # against the model
    "no_template": Kind("fatal", "the model has no chat template", "Choose one: --set data.template=chatml (or alpaca, or a file), or take the -Instruct model."),
    "template_refuses": Kind("warning", "are refused by the chat template", "Mend the order of the turns, or name another data.template.", True),
    "content_lost": Kind("fatal", "lose content in the chat template", "Name a template that writes everything: --set data.template=chatml"),
    "thoughts_lost": Kind("warning", "lose reasoning in the chat template", "Made so by the template: the model forgets its thoughts. Fine if that is meant."),
    "last_answer_only": Kind("warning", "train on the last answer only: generation markers could not be added to the template", "Name a template with {% generation %} markers, or chatml."),
    "stop_untrained": Kind("warning", "the template writes nothing behind an answer: the model would never learn to stop", "Name another data.template."),
    "stop_split": Kind("warning", "the template's end of a turn is no token of this model", "Generation will not stop there by itself: name another data.template."),
    "cut": Kind("warning", "are longer than max_length", "Raise training.max_length, or set training.long_rows to drop, cut or split."),
    "split": Kind(
        "note", "are longer than max_length; what is over makes rows of its own", "Pieces that hold nothing of an answer are left out; training.long_rows decides."
    ),
    "lost_end": Kind("warning", "are cut before the end token: the model would not learn to stop", "Raise training.max_length or drop them: --set training.long_rows=drop"),
    "long_prompt": Kind("warning", "have a prompt that alone fills max_length: nothing of the answer is left", "Raise training.max_length.", True),
    "nothing_trained": Kind("warning", "have nothing left to train on", "Look at one: tunedeck data show", True),
    "double_bos": Kind("warning", "begin with two start tokens", "The text holds one already: remove it."),
    "pad_is_end": Kind("note", "the padding token is the end token", "Harmless here: labels say what is trained. Other tools mask both."),
    "prompt_differs": Kind(
        "warning", "have a prompt that ends in other tokens once its answer follows: training and use would differ",
        "End prompts on a whole word, without a space; or take a template that writes the prompt the same way.",
    ),
    "unknown_tokens": Kind("warning", "hold characters that the tokenizer does not know", "The model sees only <unk> there."),
}  # fmt: skip


@dataclass
class Finding:
    """One kind, over all rows: how many, the first lines, and the particulars of the first."""

    kind: str
    count: int = 0
    lines: list[int] = field(default_factory=list)
    text: str = ""
    severity: Severity = "note"
    unit: str = "line"
    file: str = ""

    @property
    def message(self) -> str:
        """A sentence."""
        means = KINDS[self.kind].means
        rows = f"{self.count:,} {'row' if self.count == 1 else 'rows'} "
        sentence = means if self.kind in ALONE else rows + (_singular(means) if self.count == 1 else means)
        return f"{sentence} ({self.text})" if self.text else sentence

    @property
    def where(self) -> str:
        """`line 3`, `rows 1, 2, 3, 4, 5 …`, with the first one's file if there are several; "" for none in particular."""
        if not self.lines:
            return ""
        some = ", ".join(f"{n:,}" for n in self.lines[:5]) + (" …" if self.count > 5 else "")
        return f"{self.unit}{'' if self.count == 1 else 's'} {some}" + (
            f", the first in {self.file}" if self.file else ""
        )

    @property
    def hint(self) -> str:
        return KINDS[self.kind].hint

    def as_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "severity": self.severity, "count": self.count, "lines": self.lines,
                "message": self.message, "hint": self.hint}  # fmt: skip


ALONE = {"none_short", "no_rows", "utf16", "json_lines", "no_template", "stop_untrained", "stop_split", "pad_is_end", "one_class", "classes"}  # fmt: skip
"""Kinds that are about the whole: their sentence does not begin with a number of rows."""


def _singular(means: str) -> str:
    verb, _, rest = means.partition(" ")
    verbs = {"are": "is", "have": "has", "hold": "holds", "lack": "lacks", "cannot": "cannot", "name": "names",
             "repeat": "repeats", "give": "gives", "refuse": "refuses", "lose": "loses", "train": "trains", "begin": "begins", "end": "ends"}  # fmt: skip
    return f"{verbs.get(verb, verb)} {rest}"


class Findings:
    """Collects them while the rows go by."""

    def __init__(self) -> None:
        self._found: dict[str, Finding] = {}
        self._unit, self._file = "line", ""

    def at(self, unit: str, file: str) -> None:
        """What the line numbers mean from here on."""
        self._unit, self._file = unit, file

    def add(self, kind: str, line: int = 0, text: str = "", count: int = 1) -> None:
        """One more row of that kind; `line` 0 is none in particular."""
        found = self._found.get(kind)
        if found is None:
            found = self._found[kind] = Finding(
                kind, text=text, severity=KINDS[kind].severity, unit=self._unit, file=self._file
            )
        found.count += count
        if line and len(found.lines) < SHOWN and line not in found.lines[-1:]:
            found.lines.append(line)

    def scale(self, factor: float) -> None:
        """Counts of a sample as counts of all."""
        for one in self._found.values():
            one.count = round(one.count * factor) if factor > 1 else one.count

    def forget(self, kind: str) -> None:
        """Take back all of that kind."""
        self._found.pop(kind, None)

    def lines(self, kind: str) -> list[int]:
        return self._found[kind].lines if kind in self._found else []

    def count(self, kind: str) -> int:
        return self._found[kind].count if kind in self._found else 0

    def ranked(self) -> list[Finding]:
        """As the function of the same name has them."""
        return ranked(self._found.values())


def ranked(findings: Iterable[Finding]) -> list[Finding]:
    """Fatal ones first, then by number."""
    order = ["fatal", "warning", "note"]
    return sorted(findings, key=lambda f: (order.index(f.severity), -f.count))
