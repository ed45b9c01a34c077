"""Who may import whom: each module of ours is imported alone, and what came with it is looked at."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
HEAVY = {"torch", "transformers", "trl", "peft", "datasets", "accelerate", "bitsandbytes", "pandas", "pyarrow"}
PROGRAM = """
import importlib, json, sys
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
print(json.dumps(sorted({m.partition('.')[0] for m in sys.modules})))
"""


def modules(package: str) -> list[str]:
    names = []
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return names


def imported_by(names: list[str]) -> set[str]:
    output = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(names)], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return set(json.loads(output.stdout))


def test_the_engine_without_its_worker_imports_neither_torch_nor_the_app() -> None:
    names = [n for n in modules("engine") if not n.startswith("engine.worker")]
    assert len(names) > 15
    assert not imported_by(names) & (HEAVY | {"textual", "tuiapp"})


def test_the_app_imports_no_torch() -> None:
    names = [n for n in modules("tuiapp") if n != "tuiapp.__main__"]
    assert len(names) > 10
    assert not imported_by(names) & HEAVY


def test_the_first_paint_waits_for_no_database() -> None:
    assert not imported_by(["tuiapp.app"]) & (HEAVY | {"sqlite3", "sqlite_utils", "pynvml", "psutil"})


def test_the_first_look_waits_for_no_specification() -> None:
    assert not imported_by(["tuiapp.looking"]) & (HEAVY | {"pydantic", "yaml", "sqlite_utils"})


@pytest.mark.parametrize("package", ["engine", "tuiapp"])
def test_no_module_has_the_name_of_one_in_the_standard_library(package: str) -> None:
    ours = {name.rpartition(".")[2] for name in modules(package)} - {"__main__"}
    assert not ours & sys.stdlib_module_names
