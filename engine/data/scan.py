"""One pass over the data: what it is, what is wrong with it, and what a model would see of it. Bounded memory."""

import bisect
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from engine.data.checks import Checks
from engine.data.findings import KINDS, Finding, Findings, ranked
from engine.data.formats import OBJECTIVES, split_text
from engine.data.lengths import Lengths, estimated
from engine.data.model_checks import ALL, EVERY, Fate, Measured, ModelChecks, add_fate, fate
from engine.data.prepare import Dropped, Drops, Filter
from engine.data.rows import Bad, Row, Source, content_hash, form_of, rows_of, sources, validation_source
from engine.data.tokens import Tokens
from engine.errors import DataError
from engine.spec import DataSpec
from engine.text import clean

REMEDIED = {
    "duplicates": ("duplicates",),
    "near_duplicates": ("duplicates",),
    "refusals": ("refusals",),
    "leak": ("leaks",),
}
"""Findings that a filter takes care of."""
KEPT = 200
"""Rows that are kept to look at."""


@dataclass(frozen=True)
class Report:
    """What is known of a data set. `rows` counts those of the files, `kept` those that would be used; `tokenized` says of how
    many the tokens were counted (0: no tokenizer). `dropped` has every row that is left out, by reason; `usable` is `kept` before a
    length was set."""

    sources: list[Source]
    data: DataSpec
    form: str
    rows: int
    kept: int
    usable: int
    findings: list[Finding]
    dropped: Drops
    lengths: Lengths | None
    characters: Lengths | None
    measured: list[Measured] = field(repr=False)
    tokenized: int
    weight: float
    digest: str
    size: int
    first: list[Row] = field(repr=False)

    @property
    def objective(self) -> str:
        return OBJECTIVES.get(self.form, "sft")

    @property
    def format(self) -> str | None:
        """The format of the first source."""
        return self.sources[0].detected.format

    @property
    def evidence(self) -> str:
        return "; ".join(s.detected.evidence for s in self.sources)

    @property
    def fatal(self) -> list[Finding]:
        return [one for one in self.findings if one.severity == "fatal"]

    @property
    def acceptable(self) -> bool:
        """Whether one can go on in spite of the fatal findings."""
        return self.kept > 0 and all(one.kind != "no_template" for one in self.fatal)

    @property
    def warnings(self) -> list[Finding]:
        return [one for one in self.findings if one.severity == "warning"]

    def scale(self) -> float:
        """Rows for each that was tokenized."""
        return self.usable / len(self.measured) if self.measured else 0.0


def scan(data: DataSpec, tokens: Tokens | None = None) -> Report:
    """Look at every row. Without `tokens` lengths are in characters. Raises DataError for what cannot be read at all."""
    found, findings = sources(data), Findings()
    form_of([*found, *validation_source(data)])  # raises: one run has one objective
    held_out = _held_out(data, findings)
    checks, sieve = Checks(findings, held_out), Filter(data.filters, held_out)
    model = ModelChecks(tokens, findings) if tokens else None
    dropped, sizes, first, rows, kept = Drops(), list[tuple[int, int]](), list[Row](), 0, 0
    weight = 0.0
    for source in found:
        if source.detected.format is None and source.detected.columns:  # its rows are counted below
            findings.add("no_format", 0, source.detected.evidence + _mapping(source.detected.suggestion), count=0)
    for item in _noting(rows_of(found, data), findings, checks, dropped):
        if isinstance(item, Bad):
            rows += item.lost
            continue
        rows += 1
        checks.row(item)
        reason = sieve.reason(item)
        if not reason and model:
            reason = model.row(item)
        if reason:
            dropped.setdefault(reason, Dropped()).add(item.line)
            continue
        kept += 1
        weight += found[item.source].weight
        if kept <= ALL or kept % EVERY == 0:
            sizes.append((len("".join(split_text(item.value))), estimated(item.value)))
        if len(first) < KEPT:
            first.append(item)
    checks.finish()
    if model:
        model.finish()
    if not kept:
        findings.add("no_rows", 0, f"{rows:,} in the file")
    usable = min(kept, data.max_rows or kept)
    lengths = _lengths(kept, model.measured if model else [], sizes)
    return Report(
        sources=found, data=data, form=form_of(found), rows=rows, kept=usable, usable=usable,
        findings=_remedied(findings, data), dropped=dropped, lengths=lengths,
        characters=Lengths(kept, tuple(sorted(n for n, _ in sizes)), False) if sizes else None, measured=model.measured if model else [],
        tokenized=len(model.measured) if model else 0, weight=weight / kept if kept else 1.0, digest=content_hash([*found, *validation_source(data)]), size=_size(found), first=first,
    )  # fmt: skip


def _held_out(data: DataSpec, findings: Findings) -> list[Row]:
    """The rows of the validation file; what is wrong with it is noted, too."""
    found = []
    for item in rows_of(validation_source(data), data):
        if isinstance(item, Row):
            found.append(item)
        else:
            findings.at(item.place.unit, "the validation file")
            findings.add(item.kind, item.line, item.text)
    return found


def _noting(items: Iterator[Row | Bad], findings: Findings, checks: Checks, dropped: Drops) -> Iterator[Row | Bad]:
    """The same rows; the bad ones are noted. A file that breaks off in the middle has said all that it has to say."""
    for item in items:
        findings.at(*item.place)
        if isinstance(item, Bad):
            checks.bad(item)
            if item.lost:
                dropped.setdefault(item.kind, Dropped()).add(item.line)
        yield item


def _lengths(kept: int, measured: list[Measured], sizes: list[tuple[int, int]]) -> Lengths | None:
    if not kept or not sizes:
        return None
    if measured:
        return Lengths(kept, tuple(sorted(m.tokens for m in measured)), True)
    return Lengths(kept, tuple(sorted(tokens for _, tokens in sizes)), False)


def _mapping(suggestion: dict[str, str]) -> str:
    pairs = ", ".join(f"{ours}: {clean(theirs, False)}" for ours, theirs in suggestion.items())
    return f"; perhaps --set data.columns='{{{pairs}}}'" if pairs else ""


def _size(found: list[Source]) -> int:
    from engine.data.read import files

    return sum(file.stat().st_size for source in found for file in files(source.path))


def _remedied(findings: Findings, data: DataSpec) -> list[Finding]:
    """What a filter of the specification takes care of is only a note."""
    on = {name for name in ("duplicates", "refusals", "leaks") if getattr(data.filters, name)}
    made = []
    for one in findings.ranked():
        done = set(REMEDIED.get(one.kind, ())) & on
        if one.kind == "near_duplicates" and data.filters.duplicates != "near":
            done = set()
        made.append(replace(one, severity="note", text=_join(one.text, "dropped, as you asked")) if done else one)
    return ranked(made)


def _join(*texts: str) -> str:
    return "; ".join(text for text in texts if text)


def at_length(report: Report, max_length: int, long_rows: str) -> tuple[Report, Fate]:
    """The report with what the length does: rows too long, what they lose. `long_rows` is drop, cut or split."""
    found = fate(report.measured, max_length, long_rows)
    more, dropped = Findings(), dict(report.dropped)
    more.at("row" if any({".json", ".parquet"} & set(s.path.suffixes) for s in report.sources) else "line", "")
    add_fate(more, found, max_length, long_rows)
    more.scale(report.scale())
    gone = found.too_long if long_rows == "drop" else found.no_answer
    if gone:
        reason = f"longer than {max_length} tokens" if long_rows == "drop" else "the prompt alone fills max_length"
        dropped[reason] = Dropped(round(len(gone) * report.scale()), gone[:20])
    kept = report.kept - round(len(gone) * report.scale())
    if report.measured and not kept and report.kept:
        more.add("none_short", 0, f"max_length is {max_length:,}")
    return replace(report, findings=ranked([*report.findings, *more.ranked()]), dropped=dropped, kept=kept), found


@dataclass(frozen=True)
class Packing:
    """Rows packed best-fit-decreasing into rows of max_length, against rows padded to the longest of a batch of 8."""

    packed_rows: int
    full: float
    padding: float


def packing(report: Report, max_length: int, long_rows: str) -> Packing | None:
    """An estimate of what packing saves: shares of 1. TRL packs as this does (`bfd_split`)."""
    lengths = [piece for m in report.measured for piece in _pieces(m, max_length, long_rows)]
    if not lengths:
        return None
    rows = _best_fit(lengths, max_length)
    batches = [lengths[i : i + 8] for i in range(0, len(lengths), 8)]
    padded = sum(max(batch) * len(batch) for batch in batches)
    saved = 1 - sum(lengths) / padded if padded else 0.0
    return Packing(math.ceil(rows * report.scale()), sum(lengths) / (rows * max_length), saved)


def _pieces(row: Measured, max_length: int, long_rows: str) -> list[int]:
    """The lengths in which a row is trained on; none if it is dropped."""
    if row.tokens <= max_length:
        return [row.tokens]
    if long_rows == "split":
        return [max_length] * (row.tokens // max_length) + [row.tokens % max_length] * (row.tokens % max_length > 0)
    return [max_length] if long_rows == "cut" and row.prompt < max_length else []


def _best_fit(lengths: list[int], size: int) -> int:
    """How many rows of `size` best-fit-decreasing needs."""
    rooms: list[int] = []  # what is left in each row, sorted
    for length in sorted(lengths, reverse=True):
        best = bisect.bisect_left(rooms, length)
        room = rooms.pop(best) if best < len(rooms) else size
        bisect.insort(rooms, room - length)
    return len(rooms)


def as_json(report: Report, found: Fate | None = None) -> dict[str, Any]:
    """`data check --json`, and what is stored with a run."""
    scale, lengths = report.scale(), report.lengths if report.measured else report.characters
    quantiles = {f"{q:g}": lengths.quantile(q) for q in (0.05, 0.5, 0.95, 0.99)} if lengths else {}
    trained = sum(m.trained for m in report.measured) if found is None else found.trained
    return {
        "path": report.data.path if isinstance(report.data.path, str) else [s.path for s in report.data.path],
        "format": report.format,
        "evidence": report.evidence,
        "objective": report.objective if report.form else None,
        "rows": report.rows,
        "kept": report.kept,
        "bytes": report.size,
        "sha256": report.digest,
        "lengths": {"unit": "tokens" if report.measured else "characters", "min": lengths.tokens[0], "max": lengths.longest,
                    "mean": round(lengths.mean, 1), "quantiles": quantiles} if lengths else None,
        "findings": [one.as_json() for one in report.findings],
        "tokenized": report.tokenized,
        "tokens": round(found.tokens * scale) if found else None,
        "trained_tokens": round(trained * scale) if report.measured else None,
        "dropped": {reason: one.count for reason, one in report.dropped.items()},
    }  # fmt: skip


def refuse(report: Report) -> None:
    """Raises DataError if there are fatal findings; where no row is left, with why each was left out."""
    if not report.fatal:
        return
    reasons = [one for one in report.findings if one in report.fatal or (not report.kept and KINDS[one.kind].dropped)]
    reasons.sort(key=lambda one: one.kind == "no_rows")
    said = "; ".join(f"{one.message}{_where(one)}" for one in reasons[:4])
    gone = all(KINDS[one.kind].dropped for one in report.fatal)
    accept = " Or go on without these rows: --accept" if gone else " Or train on them as they are: --accept"
    hint = reasons[0].hint + (accept if report.acceptable else "")
    raise DataError("The data cannot be trained on as it is", f"{_name(report)}: {said}.", hint)


def _where(one: Finding) -> str:
    return f" ({one.where})" if one.where else ""


def _name(report: Report) -> str:
    return ", ".join(source.path.name for source in report.sources)
