"""`python -m bench.compatibility`: what goes with what, each cell from a run of a tiny model; writes the engine's table.

A cell is "" where the run learned (its loss fell, on a batch that it saw again and again), changed nothing but what it should,
and gave the same logits when its saved output was loaded with plain transformers and peft; else the reason.
"""

import contextlib
import importlib.metadata
import io
import json
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

from engine.compatibility import COLUMNS, TABLE, VARIANTS
from engine.methods import METHODS, VIRTUAL
from tests.runs import complete, tiny
from tests.train import trained

NOT_TRIED = {
    "full": dict.fromkeys(("nf4", "fp4", "int8"), "a quantised weight cannot be trained"),
    **{name: {"merge": "learned tokens are no change of the weights",
              "packing": "the learned tokens would stand once before several rows"} for name in VIRTUAL},
}  # fmt: skip
"""What no run can show, as it runs and does something else than it should."""


def cell(name: str, column: str, place: Path) -> str:
    """Run it; why it does not go, or ""."""
    if reason := NOT_TRIED.get(name, {}).get(column):
        return reason
    if name == "full" and column == "merge":
        return ""
    try:
        return attempt(name, column, place)
    except Exception as error:
        detail = getattr(error, "message", None) or str(error).strip().split("\n")[0].split(". ")[0]
        return f"peft or TRL fails with it ({type(error).__name__}: {detail[:120]})"


def attempt(name: str, column: str, place: Path) -> str:
    from tests.verify import merged_error, verdict

    spec = complete(name, column, place)
    run = trained(spec, Path(tempfile.mkdtemp(dir=place)) / "run")
    values = run.series("loss")
    if column != "grpo" and not sum(values[-3:]) < sum(values[:3]):
        return f"it does not learn: the loss goes from {values[0]:.3f} to {values[-1]:.3f}"
    found = verdict(run, spec)
    if found.moved <= 1e-3:
        return "nothing was trained"
    if not found.good:
        return f"what is saved answers otherwise: its logits are off by {found.error:.2g}, of {found.moved:.2g} learned"
    if column == "merge" and (error := merged_error(run, spec)) > found.rounding * found.moved:
        return f"merged, the logits are off by {error:.2g}, of {found.moved:.2g} learned"
    return ""


def main() -> None:
    names = sys.argv[1:] or [*(name for name in METHODS if name != "qlora"), *VARIANTS]
    warnings.simplefilter("ignore")
    written = json.loads(TABLE.read_text(encoding="utf-8")) if TABLE.exists() else {"methods": {}}
    with tempfile.TemporaryDirectory(prefix="tunedeck-") as folder:
        place = tiny(Path(folder))
        for name in names:
            with contextlib.redirect_stdout(io.StringIO()):
                row: dict[str, Any] = {column: cell(name, column, place) for column in COLUMNS}
            written["methods"][name] = row
            print(
                f"{name:10}", " ".join(column if not why else f"[{column}]" for column, why in row.items()), flush=True
            )
            for column, why in row.items():
                if why and not NOT_TRIED.get(name, {}).get(column):
                    print(f"{'':10} {column}: {why}", flush=True)
    packages = ("torch", "transformers", "trl", "peft", "bitsandbytes")
    written["versions"] = {package: importlib.metadata.version(package) for package in packages}
    TABLE.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
