"""A run that there is as the beginning of a new one: its settings as the wizard's draft."""

from typing import Any

from engine.elsewhere import refuse_imported
from engine.errors import RunError
from engine.spec import flatten, parse
from engine.store import runs
from tuiapp.draft import REVIEW, RunDraft
from tuiapp.planning import settings_of, values_of

OWN = ("model.path", "data.path", "run.name", "run.parent")
"""What the draft has fields for."""


def draft_of(run: runs.Row) -> RunDraft:
    """A draft in which everything is as in the run, open at its last step. Raises RunError."""
    refuse_imported(run, "forked")
    spec = parse(run["spec"])
    if not isinstance(spec.data.path, str):
        raise RunError("This run mixes several data sets", f"{run['name']} reads {len(spec.data.path)} of them.",
                       f"Fork it with: tunedeck fork {run['id']} --set ...")  # fmt: skip
    settled = dict(settings_of(spec))
    fields: dict[str, Any] = flatten(run["spec"])
    given = {
        path: value
        for path, value in fields.items()
        if path not in OWN and value is not None and (path not in settled or path == "method.kind")
    }
    return RunDraft(
        goal=(run["plan"] or {}).get("goal", "instructions"),
        model=spec.model.path,
        data=spec.data.path,
        name=run["name"],
        parent=run["id"],
        given=given,
        plan=vars(values_of(spec)).copy(),
        settled=settled,
        step=REVIEW,
        passed=list(range(REVIEW)),
    )
