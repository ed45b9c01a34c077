"""Short jobs that need torch or transformers: a child process that prints one JSON document."""

import json
import os
import subprocess
import sys
from typing import Any

from engine.errors import TuneDeckError
from engine.text import clean

SECONDS = 600
OFFLINE = {"CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
"""For jobs that need neither GPU nor network: they must not take memory from a run."""


def job(module: str, arguments: list[str], what: str, environment: dict[str, str] | None = None) -> dict[str, Any]:
    """What `python -m MODULE ARGUMENTS` prints. `what` is the job's name in error messages, `environment` is added to ours.

    Raises TuneDeckError for the error that it prints, if it dies, and after SECONDS.
    """
    command = [sys.executable, "-P", "-m", module, *arguments]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS,
            env=os.environ | (environment or {}), check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise TuneDeckError(f"{what} took too long", f"It was ended after {SECONDS} s.", "Go on without it.") from None
    return answer(done, what)


def answer(done: subprocess.CompletedProcess[str], what: str) -> dict[str, Any]:
    """The child's document. Raises TuneDeckError for its error, or for its last words where there is no document."""
    try:
        document = dict(json.loads(done.stdout))
    except (ValueError, TypeError):
        last = clean((done.stderr.strip() or f"exit code {done.returncode}").split("\n")[-1], False)[:300]
        raise TuneDeckError(f"{what} failed", last, "Is torch installed? See tunedeck doctor.") from None
    if done.returncode:
        raise TuneDeckError(str(document.get("title")), str(document.get("message")), str(document.get("hint", "")))
    return document
