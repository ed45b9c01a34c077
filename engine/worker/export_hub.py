"""The upload to the hub, after somebody has said yes."""

import json
import time
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError

from engine.after.trained import of_directory
from engine.errors import RunError, SpaceError
from engine.events import Done
from engine.taking.files import sha256
from engine.taking.hub import CARD, Upload, need_token, upload_of
from engine.text import clean
from engine.worker.job import Job

NETWORK = HfHubHTTPError.__bases__
"""OSError, and the errors of whichever HTTP library huggingface_hub uses."""
URL = "url.json"
"""In the job's directory: what was uploaded, once it was."""


def upload(job: Job) -> Done:
    """One commit of all files: on the hub there is all of it, or nothing. Raises RunError."""
    from engine.worker.export import card

    began, ask = time.monotonic(), job.ask
    trained = of_directory(job.run_dir, ask.get("step"))
    what = upload_of(
        trained, ask["target"], bool(ask.get("public")), ask.get("merged"), ask.get("gguf"), ask.get("hub_base") or ""
    )
    if not ask.get("agreed"):
        raise RunError(
            "Nobody has agreed to the upload",
            "It is asked for before the job is made.",
            "Use the verb: tunedeck export",
        )
    need_token()
    text = card(job)
    job.reporter.phase("hash", f"{len(what.files) + 1} files")
    made = [{"kind": "hub", "path": f"{what.repo}/{name}", "bytes": path.stat().st_size, "sha256": sha256(path)}
            for name, path in what.files.items()]  # fmt: skip
    job.stop()
    job.reporter.phase("upload", f"to {what.repo}")
    try:
        url = _commit(what, text, trained.name)
    except HfHubHTTPError as error:
        raise RunError("The hub refused the upload", clean(str(error.server_message or error).split("\n")[0], False)[:300],
                       "Check the name, and that the token may write there.") from None  # fmt: skip
    except NETWORK as error:
        raise SpaceError(
            "The hub was not reached",
            clean(str(error).split("\n")[0], False)[:300],
            "Let it go on later: tunedeck jobs RUN --resume JOB",
        ) from None
    (job.folder / URL).write_text(json.dumps({"url": url}), encoding="utf-8")
    summary: dict[str, Any] = {"to": "hub", "target": what.repo, "url": url, "private": not what.public, "step": ask.get("step"),
               "files": [*what.files, CARD], "bytes": what.bytes, "notes": list(what.notes),
               "seconds": round(time.monotonic() - began, 1), "artifacts": made}  # fmt: skip
    return Done(summary, f"uploaded to {what.repo}: {len(made) + 1} files")


def _commit(what: Upload, text: str, name: str) -> str:
    """Where it can be seen. Raises RunError for a repository that everybody can read though a private one was asked for."""
    api = HfApi()
    api.create_repo(what.repo, private=not what.public, exist_ok=True)
    if not what.public and not api.repo_info(what.repo).private:
        raise RunError("The repository is public", f"{what.repo} is there already and everybody can read it.",
                       "Make it private on the hub, name another, or agree with --public.")  # fmt: skip
    adds = [CommitOperationAdd(path_in_repo=place, path_or_fileobj=str(path)) for place, path in what.files.items()]
    adds.append(CommitOperationAdd(path_in_repo=CARD, path_or_fileobj=text.encode()))
    api.create_commit(what.repo, adds, commit_message=f"{name}, by TuneDeck")
    return str(Path(api.endpoint) / what.repo) if "://" not in api.endpoint else f"{api.endpoint}/{what.repo}"
