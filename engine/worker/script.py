"""`python -m engine.worker.script SPEC.yaml DIR ABOUT.json`: a run as a script of its own, with TRL and without TuneDeck."""

import argparse
import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from engine.spec import RunSpec, parse, read_yaml
from engine.worker import load
from engine.worker.child import say
from engine.worker.script_code import reward_modules
from engine.worker.script_rows import write_rows
from engine.worker.script_text import Script


def main() -> int:
    parser = argparse.ArgumentParser(prog="engine.worker.script")
    parser.add_argument("spec", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("about", type=Path, help="title, run, script (its file name), versions")
    options = parser.parse_args()
    about = json.loads(options.about.read_text(encoding="utf-8"))
    return say("Exporting the run", lambda: export(parse(read_yaml(options.spec)), options.folder, about))


def export(spec: RunSpec, folder: Path, about: dict[str, Any]) -> dict[str, Any]:
    """Write script, rows and what else they need into the folder; what was written."""
    silent: Any = SimpleNamespace(phase=lambda *_: None, say=lambda *_: None)
    facts = load.ready_model(spec, silent)
    tokenizer = load.load_tokenizer(spec, facts)
    rows = write_rows(spec, tokenizer, folder)
    if not rows.validation:
        (folder / "validation.jsonl").unlink()
    script = Script(spec, rows, tokenizer, facts.config, about)
    for name, text in script.files().items():
        (folder / name).write_text(text, encoding="utf-8")
    for file, module in reward_modules(spec).items():
        shutil.copyfile(file, folder / f"{module}.py")
    files = sorted(path.name for path in folder.iterdir())
    return {"files": files, "rows": rows.train, "validation": rows.validation, "ids": rows.why_ids if rows.ids else ""}


if __name__ == "__main__":
    sys.exit(main())
