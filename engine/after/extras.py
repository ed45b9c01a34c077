"""Libraries that an evaluation can use and that are not installed with TuneDeck: whether they are there."""

import importlib.util
from pathlib import Path
from typing import Any

from engine.errors import RunError
from engine.text import clean

PACKAGES = {"lm_eval": "lm_eval", "bertscore": "bert_score"}
"""What of a job's `ask` needs which module, which is also the name that pip knows."""


def check(ask: dict[str, Any]) -> None:
    """Raises RunError if something is asked for that is not installed, or a directory of tasks holds none."""
    for name, module in PACKAGES.items():
        if ask.get(name) and importlib.util.find_spec(module) is None:
            raise RunError(
                f"{module} is not installed", f"--{name.replace('_', '-')} needs it.", f"pip install {module}"
            )
    for task in ask.get("lm_eval") or []:
        if looks_like_path(task) and not task_files(task):
            raise RunError(
                "There are no such tasks", f"{clean(task, False)} holds no task (a .yaml file).", "Check --lm-eval."
            )


def looks_like_path(task: str) -> bool:
    return "/" in task or task.startswith((".", "~")) or task.endswith((".yaml", ".yml")) or Path(task).is_dir()


def task_files(task: str) -> list[Path]:
    """The task files of lm-eval at a path: itself, or those in a directory; those that only others include begin with `_`."""
    path = Path(task).expanduser()
    if path.is_file():
        return [path]
    return [file for file in sorted(path.rglob("*.y*ml")) if not file.name.startswith("_")]
