"""Runs of a damaged database, put together from what is left: their rows, their parameters, what the search has of them."""

import json
import time
from typing import Any

from engine.store.runs import ACTIVE

Row = dict[str, Any]
STATUSES = (*ACTIVE, "finished", "stopped", "failed", "crashed", "oom")
EPOCH = 1577836800
"""As in `engine.launch`: ids count the seconds from then on."""
LOST = "a part of what the database had of this run was lost when it was damaged"


def mended(row: Row, params: dict[str, Any] | None = None, text: str | None = None) -> Row | None:
    """A run's row as the program can read it, None if nothing tells its specification.

    `params` are its parameters by path, as stored; `text` is what the search has of its name, note and tags. A specification
    that is put together of its parameters has no empty sections, and the row says so: `of_params`.
    """
    own = _is_json(row.get("spec"), dict)
    spec = row.get("spec") if own else spec_of(params or {})
    if spec is None:
        return None
    name, note, tags = parts_of(text) if text is not None else (None, None, None)
    whole = row.get("status") in STATUSES
    mine = {
        "spec": spec,
        "name": row.get("name") or name or row["id"],
        "project": row.get("project") or "default",
        "tags": row["tags"] if _is_json(row.get("tags"), list) else tags or "[]",
        "note": row.get("note") or note or "",
        "status": row["status"] if whole else "crashed",
        "created_at": row.get("created_at") or created(row["id"]),
        "archived": int(row.get("archived") == 1),
    }
    mine |= {part: row.get(part) if _is_json(row.get(part), dict | None) else None for part in ("plan", "environment")}
    mine |= {"starred": int(row["starred"] == 1)} if "starred" in row else {}
    return row | mine | ({} if whole else {"exit_reason": LOST}) | ({} if own else {"of_params": True})


def created(run_id: str) -> float:
    """When a run was made, unix seconds, as its id says it; 0 if it does not."""
    if not run_id.isalnum() or not run_id.isascii() or len(run_id) > 8:
        return 0.0
    moment = EPOCH + int(run_id, 36)
    return float(moment) if moment <= time.time() + 86400 else 0.0


def made_up(run_id: str, params: dict[str, Any], text: str | None) -> Row | None:
    """A run of which the row is gone."""
    row = {"id": run_id, "project": params.get("run.project"),
           "method": params.get("method.kind"), "model": _last(params.get("model.path")), "dataset": _last(params.get("data.path"))}  # fmt: skip
    return mended(row, params, text)


def _last(path: Any) -> str | None:
    return path.rstrip("/").rsplit("/", 1)[-1] if isinstance(path, str) else None


def spec_of(params: dict[str, Any]) -> str | None:
    """The specification that was flattened into these parameters, as JSON; None if there are none."""
    spec: Row = {}
    for path, value in sorted(params.items()):
        *sections, name = path.split(".")
        place = spec
        for section in sections:
            inner = place.setdefault(section, {})
            if not isinstance(inner, dict):
                return None
            place = inner
        place[name] = _value(value)
    return json.dumps(spec) if spec else None


def _value(text: Any) -> Any:
    """Texts are stored as they are, everything else as JSON."""
    try:
        found = json.loads(text)
    except (TypeError, ValueError):
        return text
    return text if isinstance(found, str | dict) else found


def parts_of(text: str) -> tuple[str | None, str | None, str | None]:
    """Name, note and tags as the search has them, line by line; the reason why the run ended comes last."""
    lines = text.split("\n")
    at = next((i for i in reversed(range(1, len(lines))) if _is_json(lines[i], list)), None)
    return (None, None, None) if at is None else (lines[0], "\n".join(lines[1:at]), lines[at])


def _is_json(text: Any, kind: Any) -> bool:
    if text is None:
        return kind is not dict and kind is not list
    try:
        return isinstance(json.loads(text), kind)
    except (TypeError, ValueError):
        return False
