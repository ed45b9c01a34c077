"""The verbs `export` and `import`: runs out to other tools, and their files in."""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from engine.errors import SpaceError
from engine.files import write_private
from engine.store import runs
from engine.text import clean

Options = argparse.Namespace
TOOLS = ("trl", "axolotl")


def add_verbs(verb: Any) -> None:
    """`verb` adds one: name, function and description."""
    export_ = verb("export", export, "a run as a script or a file of another tool, which reproduces it")
    export_.add_argument("run", metavar="RUN", help="id, unique beginning of one, or name")
    export_.add_argument(
        "--to", required=True, choices=TOOLS, help="trl: a script that needs no TuneDeck; axolotl: a YAML file"
    )
    export_.add_argument("target", type=Path, metavar="DIR", help="a new or empty directory, for the file and its data")
    import_ = verb("import", import_file, "a YAML file of Axolotl or TRL as a specification")
    import_.add_argument("file", type=Path, metavar="FILE", help="an Axolotl file, or one for trl sft --config")
    import_.add_argument("--out", type=Path, metavar="SPEC.yaml", help="where to write it; standard output if open")


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


def export(options: Options) -> int:
    from engine import cli
    from engine.exchange.to_axolotl import to_axolotl
    from engine.exchange.to_trl import to_trl

    db = cli.opened(options)
    run = runs.find(db, options.run)
    target = Path(os.path.abspath(options.target.expanduser()))
    made = (to_trl if options.to == "trl" else to_axolotl)(cli.database(options), run, target)
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
