"""The verb `methods`: what there is, what goes with what, and why not."""

import argparse
import json
from typing import Any

from engine.compatibility import COLUMNS, VARIANTS, table
from engine.methods import METHODS
from engine.report import table as laid_out

FIRST = COLUMNS.index("sft")
TITLES = {"dora": "LoRA with the direction apart from the size (Liu et al. 2024)", "rslora": "LoRA scaled by the root of the rank (2023)",
          "pissa": "LoRA that begins with the largest singular values (2024)", "lora+": "LoRA with a faster B (Hayou et al. 2024)"}  # fmt: skip


def add_verb(verb: Any) -> None:
    """`verb` as in `engine.cli.build_parser`."""
    parser = verb("methods", methods, "the methods of fine-tuning, and what each goes with; each cell is from a run")
    parser.add_argument("name", nargs="?", choices=sorted(table()), metavar="METHOD", help="why this one does not go")


def methods(options: argparse.Namespace) -> int:
    if options.json:
        print(json.dumps(table()))
    elif options.name:
        print(title(options.name))
        print(
            "\n".join(f"  {column}: {why}" for column, why in table()[options.name].items() if why)
            or "  It goes with everything."
        )
    else:
        print(overview())
    return 0


def title(name: str) -> str:
    return f"{name}: {TITLES.get(name) or METHODS[name].title}"


def overview() -> str:
    """A row for each method: a tick where it goes, and the objectives that it is not for."""
    head = ["method", *COLUMNS[:FIRST], "objectives"]
    rows = []
    for name, row in table().items():
        not_for = [column for column in COLUMNS[FIRST:] if row[column]]
        rows.append([name, *("no" if row[c] else "yes" for c in COLUMNS[:FIRST]),
                     f"all but {', '.join(not_for)}" if not_for else "all"])  # fmt: skip
    return (
        laid_out(head, rows)
        + f"\n\n{', '.join(VARIANTS)} are method.variant of lora and qlora; qlora is lora on nf4, fp4 or int8."
    )
