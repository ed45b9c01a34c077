"""The verbs `data check` and `data show`."""

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import DataError
from engine.jobs import OFFLINE, job
from engine.models import ModelFacts, inspect_model
from engine.spec import RunSpec, apply_sets, parse, to_yaml

if TYPE_CHECKING:
    from engine.data.scan import Report

Options = argparse.Namespace


def add_verbs(verbs: Any, common: argparse.ArgumentParser) -> None:
    """`data` with its two verbs."""
    text = "look at data before anything is trained on it"
    kinds = verbs.add_parser("data", help=text, description=text, parents=[common]).add_subparsers(
        metavar="VERB", required=True
    )
    for name, function, text in (
        ("check", check, "format, findings with lines and remedies, lengths; with --model as the model will see it"),
        ("show", show, "rows token by token: what the model sees, and what it is trained on"),
    ):
        one = kinds.add_parser(name, help=text, description=text, parents=[common])
        one.set_defaults(verb=function)
        one.add_argument("data", metavar="FILE", help="a file, a directory, or a data set of the hub")
        one.add_argument("--model", metavar="M", required=name == "show", help="a directory, a .gguf file or a hub id")
        one.add_argument("--max-length", type=int, metavar="N", help="tokens; recommended if open")
        one.add_argument(
            "--set", dest="sets", action="append", default=[], metavar="a.b=c", help="any field of the specification"
        )
        one.add_argument("--json", action="store_true", help="one JSON document on standard output")
        if name == "show":
            one.add_argument("-n", type=int, default=1, metavar="N", help="how many rows")
            one.add_argument("--row", type=int, default=1, metavar="R", help="the first of them, from 1")


def spec_of(options: Options) -> RunSpec:
    """What the flags describe. Raises SpecError."""
    raw: dict[str, Any] = {"model": {"path": options.model or "none"}, "data": {"path": options.data}}
    if options.max_length:
        raw["training"] = {"max_length": options.max_length}
    return parse(apply_sets(raw, options.sets))


def check(options: Options) -> int:
    """Exit code 2 if there are fatal findings."""
    from engine.data.examine import examine
    from engine.data.scan import as_json, at_length, packing
    from engine.report_data import check_page

    spec = spec_of(options)
    facts = inspect_model(spec.model.path, spec.model.revision, weights=False) if options.model else None
    report = examine(spec.data, facts, spec.model)
    found = None
    if facts and report.measured:
        spec = recommended(spec, facts, report)
        report, found = at_length(report, spec.training.max_length or 1024, spec.training.long_rows or "drop")
    if options.json:
        from engine.cli import emit

        emit(as_json(report, found))
    else:
        saved = packing(report, spec.training.max_length or 1024, spec.training.long_rows or "drop") if found else None
        print(check_page(report, found, spec.training, saved))
    return 2 if report.fatal else 0


def recommended(spec: RunSpec, facts: ModelFacts, report: "Report") -> RunSpec:
    """The specification with the length, packing and all that the planner would choose for this data, on a CPU if open."""
    from engine.planner.ask import request_for
    from engine.planner.recommend import recommend

    if not report.kept:
        return spec
    return recommend(request_for(spec, facts, report, None)).choice.spec


def show(options: Options) -> int:
    from engine.cli import emit
    from engine.data.examine import examine
    from engine.report_data import show_page

    spec = spec_of(options)
    facts = inspect_model(spec.model.path, spec.model.revision, weights=False)
    report = examine(spec.data, facts, spec.model)
    if not report.kept:
        raise DataError("There is no row to show", f"{options.data}: {report.evidence}.", "See: tunedeck data check")
    shown = peek(recommended(spec, facts, report), facts, options.row - 1, options.n)
    if options.json:
        emit(shown)
    else:
        colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        print(show_page(shown, _width(), colour))
    return 0


def peek(spec: RunSpec, facts: ModelFacts, first: int, rows: int) -> dict[str, Any]:
    """Rows as engine.worker.peek shows them, from `first` on (0). `spec` has to be complete. Raises TuneDeckError."""
    from engine.data.hub import ready_tokens, tokenizer_directory

    ready_tokens(facts, spec.model, spec.data.template)
    directory = tokenizer_directory(facts, spec.model)
    with tempfile.TemporaryDirectory(prefix="tunedeck-") as folder:
        file = Path(folder) / "spec.yaml"
        file.write_text(to_yaml(spec), encoding="utf-8")
        arguments = [str(file), str(directory), f"--from={max(0, first)}", "-n", str(max(1, rows))]
        return job("engine.worker.peek", arguments, "Showing the data", OFFLINE)


def _width() -> int:
    return min(120, shutil.get_terminal_size().columns)
