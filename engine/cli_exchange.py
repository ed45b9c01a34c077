"""The verbs `export` and `import`: runs out to other tools, and their files in."""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from engine import cli_import, cli_points, cli_report, cli_take
from engine.elsewhere import refuse_imported
from engine.errors import RunError, SpaceError
from engine.files import write_private
from engine.store import runs
from engine.text import clean

Options = argparse.Namespace
TOOLS = ("trl", "script", "axolotl")
"""`script` is another name for trl."""
FORMATS = (*cli_take.FORMATS, *TOOLS, *cli_points.FORMATS, *cli_report.FORMATS)
TO_HELP = f"{cli_take.HELP}; trl DIR: a script that needs no TuneDeck; axolotl DIR: a YAML file; {cli_points.HELP}; {cli_report.HELP}"


class Destination(argparse.Action):
    """`--to FORMAT TARGET`: both in one, so that any number of runs may stand before it."""

    def __call__(self, parser: argparse.ArgumentParser, options: Options, values: Any, flag: str | None = None) -> None:
        if values[0] not in FORMATS:
            parser.error(f"argument --to: invalid choice: {values[0]!r} (choose from {', '.join(FORMATS)})")
        options.to, options.target = values[0], Path(values[1])


def add_verbs(verb: Any) -> None:
    """`verb` adds one: name, function and description."""
    export_ = verb(
        "export",
        export,
        "a run taken away: its model for other tools, a script that reproduces it, its points, a report",
    )
    export_.add_argument("run", nargs="*", metavar="RUN", help="id, unique beginning of one, or name")
    export_.add_argument("--to", required=True, nargs=2, action=Destination, metavar=("FORMAT", "TARGET"), help=TO_HELP)
    cli_points.add_flags(export_)
    cli_report.add_flags(export_)
    cli_take.add_flags(export_)
    cli_import.add_verb(verb, import_file)


def import_file(options: Options) -> int:
    """The specification on standard output or in a file; what was not carried over on standard error."""
    from engine.cli import emit
    from engine.exchange.imported import read_foreign

    made = read_foreign(options.file)
    text = made.text(options.file.name)
    if options.out:
        _write(options.out, text)
    if options.json:
        left = [vars(one) for one in made.left]
        out = str(options.out) if options.out else None
        emit({"tool": made.tool, "spec": made.raw, "not_carried": left, "file": out})
        return 0
    if not options.out:
        print(clean(text), end="")
    said = f"{made.tool} file" + (f", as a specification in {options.out}" if options.out else "")
    print(f"{said}; not carried over: {len(made.left) or 'nothing'}", file=sys.stderr)
    for one in made.left:
        print(clean(f"  {one.key}: {str(one.value)[:60]}  ({one.why})", False), file=sys.stderr)
    return 0


def _write(path: Path, text: str) -> None:
    """A file that is there already is not overwritten. Raises SpaceError."""
    if path.exists():
        raise SpaceError("The file is there already", f"{path} exists.", "Name another with --out.")
    try:
        write_private(path, text)
    except OSError as error:
        raise SpaceError("The file cannot be written", f"{path}: {error.strerror}.", "Name another place.") from None


def only_one(options: Options) -> str:
    """The run that was named. Raises RunError for several, which only some formats take, and for none."""
    if not options.run:
        raise RunError("Which run?", "None is named.", f"tunedeck export RUN --to {options.to} ...")
    if len(options.run) > 1:
        raise RunError(
            "One run at a time", f"{options.to} takes one run, not {len(options.run)}.", "Export them one by one."
        )
    return str(options.run[0])


def export(options: Options) -> int:
    cli_take.refuse_flags(options)
    if options.to in cli_points.FORMATS:
        return cli_points.export(options)
    cli_points.refuse_flags(options)
    if options.to in cli_take.FORMATS:
        return cli_take.export(options, only_one(options))
    if options.to in cli_report.FORMATS:
        return cli_report.export(options)
    from engine import cli
    from engine.exchange.to_axolotl import to_axolotl
    from engine.exchange.to_trl import to_trl

    db = cli.opened(options)
    run = runs.find(db, only_one(options))
    refuse_imported(run, "exported as one that could be started")
    target = Path(os.path.abspath(options.target.expanduser()))
    made = (to_axolotl if options.to == "axolotl" else to_trl)(cli.database(options), run, target)
    if options.json:
        cli.emit({"run": run["id"], "to": options.to, "directory": str(target), "start": made.start, "files": made.files,
                  "rows": made.rows, "not_carried": [vars(one) for one in made.left], "notes": made.notes})  # fmt: skip
        return 0
    print(clean(f"{run['name']}  {run['id']}  in {target}: {', '.join(made.files)}"))
    print(f"  {made.rows:,} rows.  Start it there: {made.start}")
    for note in made.notes:
        print(clean(f"  {note}"))
    for one in made.left:
        print(clean(f"  not carried over: {one.key}: {str(one.value)[:60]}  ({one.why})", False), file=sys.stderr)
    return 0
