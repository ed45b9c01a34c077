"""The data page's view of the engine: its report, what a length makes of it, and its rows token by token, as frozen values."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.cards import own_cards
from engine.cli_data import peek
from engine.data.examine import examine
from engine.data.findings import ALONE, KINDS, Finding
from engine.data.formats import split_text
from engine.data.lengths import Lengths
from engine.data.scan import Report, at_length, packing
from engine.errors import TuneDeckError
from engine.hardware import Hardware
from engine.models import ModelFacts, inspect_model
from engine.planner.ask import request_for
from engine.planner.calibrate import PastRun
from engine.planner.steps import validation_rows
from engine.spec import RunSpec
from engine.text import clean
from tuiapp.data_snapshot import (
    DataCounts,
    DataPage,
    FindingLine,
    Packed,
    Quantiles,
    RowsSeen,
    RowView,
    TokenSequence,
)
from tuiapp.data_values import PAGE
from tuiapp.planning import alone_first
from tuiapp.snapshot import NewRun

TEXT = 300
"""Characters of a row that are remembered to be shown."""
USUAL_CONTEXT = 8192


@dataclass(frozen=True)
class Desk:
    """A question and what the engine found: what the page's further questions are asked of. `spec` is as complete as it can
    be."""

    form: NewRun
    spec: RunSpec
    facts: ModelFacts | None
    report: Report
    seconds: float = 0.0
    no_tokens: str = ""


def open_desk(form: NewRun, spec: RunSpec, hardware: Hardware, history: Sequence[PastRun] = ()) -> Desk:
    """Look at the data of a specification, whose model may be open. Raises TuneDeckError for data that cannot be read."""
    start = time.perf_counter()
    facts, why = _facts(form)
    try:
        report = examine(spec.data, facts, spec.model)
    except TuneDeckError as error:
        if facts is None:
            raise
        report = examine(spec.data, None)  # if it was the data, that raises again
        why = f"{error.title}: {error.message}"
    if facts and report.kept:
        request = request_for(spec, facts, report, own_cards(hardware.gpus), form.goal)
        spec = alone_first(request, history).choice.spec
    if facts and report.kept and not report.measured and not why:
        bare = any(one.kind == "no_template" for one in report.findings)
        why = "the model has no chat template" if bare else "the model's tokenizer is not to be had"
    return Desk(form, spec, facts, report, time.perf_counter() - start, why)


def _facts(form: NewRun) -> tuple[ModelFacts | None, str]:
    """The model, or why there are no tokens."""
    if not form.model:
        return None, "no model is named"
    try:
        return inspect_model(form.model, None, weights=False), ""
    except TuneDeckError as error:
        return None, f"{error.title}: {error.message}"


def page_of(desk: Desk) -> DataPage:
    """The page that a desk opens with."""
    report, spec = desk.report, desk.spec
    lengths = report.lengths if report.measured else report.characters
    return DataPage(
        form=desk.form,
        file=desk.form.data,
        size=report.size,
        rows=report.rows,
        format=report.format or "",
        evidence=report.evidence,
        objective=report.objective if report.form else "",
        unit="tokens" if report.measured else "characters",
        lengths=lengths.tokens if lengths else (),
        quantiles=_quantiles(report, lengths),
        tokenized=report.tokenized,
        kept=report.kept,
        validation=validation_rows(spec.data.validation, report.kept) if report.kept else 0,
        max_length=(spec.training.max_length or 1024) if report.measured else None,
        most_length=(desk.facts.context if desk.facts else None) or USUAL_CONTEXT,
        long_rows=spec.training.long_rows or "drop",
        packing=bool(spec.training.packing),
        no_tokens=desk.no_tokens,
        counted=report.first[0].place.unit if report.first else "line",
        seconds=desk.seconds,
        texts=_texts(report),
    )


def _quantiles(report: Report, lengths: Lengths | None) -> tuple[Quantiles, ...]:
    if not lengths:
        return ()
    found = [_quantile("whole row", lengths.tokens)]
    if report.measured:
        found.append(_quantile("prompt", sorted(m.prompt for m in report.measured)))
        found.append(_quantile("trained", sorted(m.trained for m in report.measured)))
    return tuple(found)


def _quantile(name: str, lengths: Sequence[int]) -> Quantiles:
    of = Lengths(len(lengths), tuple(lengths), True)
    low, half, high, higher = (of.quantile(share) for share in (0.05, 0.5, 0.95, 0.99))
    return Quantiles(name, lengths[0], low, half, high, higher, lengths[-1], of.mean)


def _texts(report: Report) -> dict[int, str]:
    """The beginning of the first rows by line; of several files a line says nothing."""
    return {row.line: _text(row.value) for row in report.first if not row.place.file}


def _text(value: dict[str, Any]) -> str:
    asked, answer = split_text(value)
    return clean(f"{asked[:TEXT]} → {answer[:TEXT]}" if asked else answer[:TEXT], keep_lines=False)[:TEXT]


def counts_of(desk: Desk, max_length: int | None, long_rows: str) -> DataCounts:
    """What a length makes of the data; without tokens it makes nothing of it."""
    report = desk.report
    if max_length is None or not report.measured:
        return DataCounts(None, long_rows, report.kept, _dropped(report), _lines(report.findings))
    now, fate = at_length(report, max_length, long_rows)
    saved = packing(report, max_length, long_rows)
    return DataCounts(
        max_length=max_length,
        long_rows=long_rows,
        kept=now.kept,
        dropped=_dropped(now),
        findings=_lines(now.findings),
        tokens=round(fate.tokens * report.scale()),
        trained=round(fate.trained * report.scale()),
        packed_rows=saved.packed_rows if saved else None,
        full=saved.full if saved else None,
        padding=saved.padding if saved else None,
    )


def _dropped(report: Report) -> tuple[tuple[str, int], ...]:
    return tuple((reason.replace("_", " "), one.count) for reason, one in report.dropped.items())


def _lines(findings: Sequence[Finding]) -> tuple[FindingLine, ...]:
    """The worst first; what a remedy takes care of stays where it was without."""
    ranks = ("fatal", "warning", "note")
    worst = sorted(
        findings, key=lambda one: (min(map(ranks.index, (one.severity, KINDS[one.kind].severity))), -one.count)
    )
    return tuple(_line(one) for one in worst)


def _line(one: Finding) -> FindingLine:
    means = f"{KINDS[one.kind].means} ({one.text})" if one.text else KINDS[one.kind].means
    count = None if one.kind in ALONE else one.count
    return FindingLine(
        one.kind, one.severity, count, tuple(one.lines), one.unit, one.where, means, one.message, one.hint
    )


def see(desk: Desk, max_length: int | None, long_rows: str, first: int) -> RowsSeen:
    """Rows from `first` on as the trainer makes them, in a child process of some seconds. Raises TuneDeckError."""
    if desk.facts is None:
        raise TuneDeckError("There are no tokens", desk.no_tokens, "Name a model.")
    training = desk.spec.training.model_copy(update={"max_length": max_length, "long_rows": long_rows})
    spec = desk.spec.model_copy(update={"training": training})
    return rows_seen(peek(spec, desk.facts, first, PAGE))


def rows_seen(shown: Mapping[str, Any]) -> RowsSeen:
    """What engine.worker.peek says, as the page draws it."""
    return RowsSeen(shown["total"], tuple(_row(one) for one in shown["rows"]))


def _row(one: Mapping[str, Any]) -> RowView:
    packed = one.get("packed")
    sequences = tuple(_sequence(sequence) for sequence in one["sequences"])
    return RowView(one["number"], one["line"], one["problem"], sequences, _packed(packed) if packed else None)


def _packed(packed: Mapping[str, Any]) -> Packed:
    parts = tuple((part["start"], None if part["this"] else _sequence(part)) for part in packed["sequences"])
    return Packed(packed["tokens"], packed["size"], parts)


def _sequence(one: Mapping[str, Any]) -> TokenSequence:
    trained = tuple(label != -100 for label in one["labels"])
    return TokenSequence(tuple(one["ids"]), tuple(one["texts"]), trained, one.get("name", ""), one.get("cut"))
