"""Runs that were trained by another program and imported: there is a record of them, but nothing to go on from."""

from collections.abc import Mapping
from typing import Any

from engine.errors import RunError
from engine.text import clean


def refuse_imported(run: Mapping[str, Any], what: str) -> None:
    """Raises RunError if the run was imported: it has no specification, and its files are not ours. `what`: resumed, ..."""
    if run["spec"]:
        return
    came = clean(f"from {run['source']}" if run.get("source") else "from elsewhere", False)
    raise RunError(
        "The run was not trained by TuneDeck",
        f"{clean(run['name'], False)} was imported {came}: its record is here, its specification is not, so it cannot be {what}.",
        "Start a new run with its settings: tunedeck show names them.",
    )
