"""What one ticks and turns on the data page: words for the findings, their remedies, and what a key makes of them."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tuiapp.data_snapshot import DataCounts, DataPage, FindingLine
from tuiapp.snapshot import NewRun

DUPLICATES, REFUSALS, LEAKS = (f"data.filters.{name}" for name in ("duplicates", "refusals", "leaks"))
MAX_LENGTH, LONG_ROWS = "training.max_length", "training.long_rows"
REMEDIES: dict[str, tuple[str, Any]] = {
    "duplicates": (DUPLICATES, "exact"),
    "near_duplicates": (DUPLICATES, "near"),
    "refusals": (REFUSALS, True),
    "leak": (LEAKS, True),
}
"""The field of the specification that takes care of a finding, and its value."""
TOO_LONG = ("cut", "split")
"""The kinds that `training.long_rows` decides about."""
STEP, SHORTEST = 64, 64
PAGE = 10
"""Rows that are made visible at once."""
WORDS = {
    "none_short": "none is short enough",
    "prompt_differs": "prompt ends unlike",
    "unparsable": "cannot be parsed",
    "not_an_object": "no JSON objects",
    "encoding": "not UTF-8",
    "too_deep": "nested too deeply",
    "too_big": "over 64 MiB",
    "columns": "fields unlike header",
    "no_format": "unknown columns",
    "mixed_formats": "another format",
    "no_rows": "no row is left",
    "nan": "NaN or Infinity",
    "surrogate": "half characters",
    "duplicate_key": "fields named twice",
    "utf16": "UTF-16, not UTF-8",
    "json_lines": "JSON lines in .json",
    "not_text": "bytes, no text",
    "missing_field": "lack a field",
    "empty_field": "empty field",
    "no_assistant": "no answer",
    "tool_arguments": "calls are no JSON",
    "no_difference": "chosen is rejected",
    "role_order": "turns out of order",
    "unanswered": "open question at end",
    "near_duplicates": "nearly duplicates",
    "conflicting": "answered otherwise",
    "leak": "in validation too",
    "placeholders": "open placeholders",
    "too_short": "very short answer",
    "too_long": "very long",
    "mojibake": "wrongly decoded",
    "one_class": "unbalanced classes",
    "classes": "answers are classes",
    "no_template": "no chat template",
    "template_refuses": "template refuses",
    "last_answer_only": "last answer only",
    "stop_untrained": "stop is not learned",
    "stop_split": "end is no token",
    "lost_end": "lose the end token",
    "long_prompt": "prompt fills it all",
    "nothing_trained": "nothing to train on",
    "double_bos": "two start tokens",
    "pad_is_end": "padding is the end",
    "unknown_tokens": "unknown characters",
}
"""Findings in a few words; the others are called as they are."""
FINE = (
    ("rows", "every row can be read",
     "unparsable not_an_object encoding too_deep too_big columns no_format mixed_formats nan surrogate duplicate_key not_text"),
    ("kept", "nothing is missing or out of order",
     "missing_field empty_field unknown_role no_assistant tool_arguments role_order no_format"),
    ("kept", "no control characters, nothing was decoded wrongly", "control_characters mojibake no_format"),
    ("kept", "no row is there twice", "duplicates near_duplicates no_format"),
    ("tokenized", "one start token, no unknown tokens", "double_bos unknown_tokens"),
    ("tokenized", "what is trained goes to its end token", "stop_untrained stop_split nothing_trained lost_end last_answer_only"),
)  # fmt: skip
"""What is well if nothing of that was found, and of how many rows that is known."""


def words(finding: FindingLine, max_length: int | None) -> str:
    """A finding in a few words."""
    if finding.kind in TOO_LONG and max_length:
        return f"over {max_length:,} tokens"
    return WORDS.get(finding.kind, finding.kind.replace("_", " "))


def subject(finding: FindingLine) -> str:
    """What a finding is about: rows that are too long stay so, whatever becomes of them."""
    return TOO_LONG[0] if finding.kind in TOO_LONG else finding.kind


def arranged(findings: Sequence[FindingLine], order: list[str]) -> tuple[FindingLine, ...]:
    """The findings in the order in which they came up, which is kept in `order`: no row moves away under the cursor."""
    order += [name for name in dict.fromkeys(subject(one) for one in findings) if name not in order]
    return tuple(sorted(findings, key=lambda one: (one.severity != "fatal", order.index(subject(one)))))


def fine(page: DataPage, counts: DataCounts) -> list[tuple[str, int]]:
    """What is well, each with the number of rows for which that is known."""
    found = {one.kind for one in counts.findings}
    known = {"rows": page.rows, "kept": page.kept, "tokenized": page.tokenized}
    return [(text, known[of]) for of, text, kinds in FINE if known[of] and not found & set(kinds.split())]


def remedy(finding: FindingLine, page: DataPage, chosen: Mapping[str, Any]) -> tuple[str, bool | None]:
    """What can be done about a finding and whether that is ticked, None where it is one of several; empty if nothing."""
    if finding.kind in TOO_LONG:
        return chosen.get(LONG_ROWS, page.long_rows), None
    if finding.kind not in REMEDIES:
        return "", None
    path, value = REMEDIES[finding.kind]
    now = chosen.get(path)
    return "drop", now == value or (value == "exact" and now == "near")


def ticked(finding: FindingLine, page: DataPage, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """What is chosen after Space on a finding."""
    if finding.kind in TOO_LONG:
        options = ("drop", "cut") if page.objective == "dpo" else ("drop", "cut", "split")
        now = chosen.get(LONG_ROWS, page.long_rows)
        return _with(chosen, LONG_ROWS, options[(options.index(now) + 1) % len(options)], page.long_rows)
    if finding.kind not in REMEDIES:
        return dict(chosen)
    path, value = REMEDIES[finding.kind]
    _, on = remedy(finding, page, chosen)
    if not on:
        return {**chosen, path: value}
    # nearly the same without exactly the same makes no sense: first the one goes, then the other
    return _with(chosen, path, "exact" if value == "near" else None, None)


def usual_ticks(findings: Sequence[FindingLine], page: DataPage) -> dict[str, Any]:
    """What nearly everybody would tick: a row twice counts twice, and one in the validation too makes that too good."""
    chosen: dict[str, Any] = {}
    for one in findings:
        if one.kind in ("duplicates", "leak"):
            chosen = ticked(one, page, chosen)
    return chosen


def turned(page: DataPage, chosen: Mapping[str, Any], by: int) -> dict[str, Any]:
    """What is chosen with the next smaller or larger length."""
    now = length_of(page, chosen)
    if now is None:
        return dict(chosen)
    value = (now // STEP + 1) * STEP if by > 0 else (now - 1) // STEP * STEP
    value = max(SHORTEST, min(max(page.most_length, SHORTEST), value))
    return _with(chosen, MAX_LENGTH, value, page.max_length)


def length_of(page: DataPage, chosen: Mapping[str, Any]) -> int | None:
    """The length now; None where tokens are not counted."""
    return chosen.get(MAX_LENGTH, page.max_length) if page.max_length is not None else None


def _with(chosen: Mapping[str, Any], path: str, value: Any, usual: Any) -> dict[str, Any]:
    """The same with another value; what is as usual need not be chosen."""
    rest = {name: one for name, one in chosen.items() if name != path}
    return rest if value == usual else {**rest, path: value}


def obstacle(page: DataPage, counts: DataCounts) -> str:
    """Why a run cannot start with this data; empty if it can."""
    worst = next((one for one in counts.findings if one.severity == "fatal"), None)
    if worst is None:
        return ""
    return f"It cannot start: {worst.message}{f': {worst.where}' if worst.where else ''}."


def scale_end(page: DataPage, max_length: int | None) -> int:
    """Where the axis of the lengths ends: it shows nearly all rows and the limit, and stays when the limit moves a little."""
    lengths = page.lengths
    if not lengths:
        return max_length or 1
    nearly_all = lengths[int(0.99 * (len(lengths) - 1))]
    usual = max(nearly_all, round(1.25 * (page.max_length or 0)))
    end = lengths[-1] if lengths[-1] <= 1.5 * usual else usual
    return max(end, max_length or 0, 1)


def columns(lengths: Sequence[int], end: int, cells: int) -> list[int]:
    """How many of the lengths lie in each cell of an axis from 0 to `end`; what is longer is in none."""
    edges = [bisect_right(lengths, end * (i + 1) / cells) for i in range(cells)]
    return [after - before for before, after in zip([0, *edges], edges, strict=False)]


@dataclass
class DataDraft:
    """What was chosen on the page, by path, kept by who opened the page for when it is opened again."""

    form: NewRun | None = None
    chosen: dict[str, Any] = field(default_factory=dict)

    def open(self, form: NewRun) -> None:
        """Go on with what was chosen for the same data and, as far as that matters, the same model; else begin anew."""
        self.chosen, self.form = dict(self.pairs(form)), form

    def pairs(self, form: NewRun) -> tuple[tuple[str, Any], ...]:
        """What was chosen for a form."""
        if self.form is None or self.form.data != form.data:
            return ()
        same = self.form.model == form.model
        return tuple((path, value) for path, value in self.chosen.items() if same or path.startswith("data."))

    @property
    def filters(self) -> tuple[tuple[str, Any], ...]:
        """What changes the rows themselves, so that they have to be looked at again."""
        return tuple((path, value) for path, value in self.chosen.items() if path.startswith("data."))
