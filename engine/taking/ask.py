"""What an export is asked for, and whether it can be done: looked at before a job is made, and again when the job begins."""

import json
import shutil
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from engine.after import job as jobs
from engine.after.merging import refuse
from engine.after.target import NOTE, check_room, check_target
from engine.after.trained import ADAPTER, Trained, trained
from engine.data.template import environment
from engine.errors import ModelError, RunError, TuneDeckError
from engine.files import write_private
from engine.fingerprint import at, check_base
from engine.models import inspect_model
from engine.store import metrics
from engine.taking import converter
from engine.taking.files import model_files, total
from engine.taking.serving import slug
from engine.text import clean

FORMATS = ("adapter", "gguf", "ollama", "vllm", "hub")
"""Those that a job makes. `script` is what engine.exchange.to_trl writes."""
CARD = "card.md"
"""The model card, in the job's directory: whoever makes the job has the database, the process that does it has not."""
DEFAULT = "f16"


@dataclass(frozen=True)
class Ready:
    """The model, where its export goes, and sentences that belong beside it."""

    trained: Trained
    target: Path
    notes: tuple[str, ...] = ()


def create(db: sqlite3.Connection, database: Path, run: dict[str, Any], ask: dict[str, Any]) -> str:
    """Make a job of an ask that `check` let through; its name. Raises TuneDeckError."""
    text = card(db, run["id"])
    job = jobs.create(database, run["id"], "export", ask)
    write_private(jobs.directory(database, run["id"], job) / CARD, text)
    return job


def card(db: sqlite3.Connection, run_id: str) -> str:
    """The model card of a run."""
    from engine import card, dossier

    return card.card(dossier.read(db, run_id), metrics.sparks(db, [run_id], width=30).get(run_id, ()))


def asked(database: Path, run: dict[str, Any], ask: dict[str, Any]) -> tuple[dict[str, Any], Ready]:
    """The ask with what it left open: the checkpoint that is the last one, the file's name in a directory. Raises TuneDeckError."""
    found = trained(database, run, ask.get("step"))
    complete = (
        {"quantization": None, "merged": None, "gguf": None, "base": None, "anyway": False} | ask | {"step": found.step}
    )
    to = complete["to"]
    if to in ("gguf", "ollama") and not complete["gguf"]:
        complete["quantization"] = str(complete["quantization"] or DEFAULT).lower()
    if to == "gguf":
        complete["target"] = str(named(Path(complete["target"]), found.name, complete["quantization"]))
    return complete, check(found, complete)


def named(target: Path, run: str, quantization: str) -> Path:
    """The file: the target itself if it ends in .gguf, else one in it."""
    return target if target.suffix.lower() == ".gguf" else target / f"{slug(run)}-{quantization}.gguf"


def check(found: Trained, ask: dict[str, Any], looked: bool = True) -> Ready:
    """Whether it can be done at all. `looked`: also at the target and the room there. Raises TuneDeckError."""
    to, target = ask["to"], Path(ask["target"])
    found = at(found, ask.get("base"))
    notes: list[str] = []
    if to in ("gguf", "ollama", "vllm") and found.spec.objective == "reward":
        raise RunError("A reward model writes nothing", f"There is no {to} of a model that gives answers a score.",
                       "Take it away as it is: --to adapter DIR")  # fmt: skip
    if ask.get("merged"):
        check_merged(Path(ask["merged"]), found, bool(ask.get("anyway")))
    if ask.get("gguf") and not Path(ask["gguf"]).is_file():
        raise RunError(
            "The GGUF file is not there", f"{clean(ask['gguf'], False)} is no file.", "Make one: --to gguf FILE"
        )
    if converts(ask):
        converter.check(ask["quantization"])
    if merges(found, ask):
        refuse(found)
    if found.adapter and (merges(found, ask) or to == "vllm"):
        notes = check_base(found, bool(ask.get("anyway")))
    if to in ("gguf", "ollama", "vllm"):
        check_template(found)
    if looked and to != "hub":
        check_target(target)
        check_room(target, need(found, ask), "It takes")
    return Ready(found, target, tuple(notes))


def converts(ask: dict[str, Any]) -> bool:
    """Whether a GGUF file has to be made."""
    return ask["to"] in ("gguf", "ollama") and not ask.get("gguf")


def merges(found: Trained, ask: dict[str, Any]) -> bool:
    """Whether the adapter has to be merged first."""
    return converts(ask) and found.adapter and not ask.get("merged")


def check_merged(folder: Path, found: Trained, anyway: bool) -> None:
    """Raises RunError unless it holds a whole model; one that says that it is of another run, or step, passes with `anyway`."""
    place, hint = clean(str(folder), False), f"Make one: tunedeck merge {found.run_id} DIR"
    if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
        raise RunError("That is no merged model", f"{place} has no config.json with weights.", hint)
    if (folder / ADAPTER).is_file():
        raise RunError("That is an adapter, not a merged model", f"{place} holds an adapter.", hint)
    try:
        note = json.loads((folder / NOTE).read_text(encoding="utf-8"))
        of = (note["run"], note["step"])
    except (OSError, ValueError, KeyError, TypeError):  # made by something else: then it is what somebody says it is
        return
    if of != (found.run_id, found.step) and not anyway:
        raise RunError("That model was merged of something else", f"{place} is of {_of(*of)}, not of {_of(found.run_id, found.step)}.",
                       f"{hint}, or go on with --anyway.")  # fmt: skip


def _of(run: str, step: int | None) -> str:
    return clean(f"{run} at step {step}" if step is not None else str(run), False)


def check_template(found: Trained) -> None:
    """Raises RunError where conversations were trained on and the template that wrote them is not with the model."""
    if found.spec.objective == "text" or template_source(found.path):
        return
    if found.spec.data.template or _knows_template(found):
        raise RunError("The chat template is missing", f"{found.path} has none, though the run was trained with one.",
                       "Put chat_template.jinja back there, from another checkpoint or from the base model.")  # fmt: skip


def _knows_template(found: Trained) -> bool:
    try:
        return inspect_model(found.spec.model.path, found.spec.model.revision).has_template
    except TuneDeckError:
        return False


def template_source(folder: Path) -> str:
    """The chat template that was saved with a model, "" if there is none. Raises ModelError for one that is no text."""
    from engine.data.tokens import load_tokens

    try:
        source = load_tokens(folder, None).source
    except ModelError:
        file = folder / "chat_template.jinja"
        source = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
    if source:
        _compiles(source, folder)
    return source


def _compiles(source: str, folder: Path) -> None:
    try:
        environment().from_string(source)
    except TemplateError as error:
        raise ModelError("The chat template is broken", f"{folder}: {clean(str(error), False)[:200]}.",
                         "Put chat_template.jinja back there.") from None  # fmt: skip


def need(found: Trained, ask: dict[str, Any]) -> int:
    """Bytes that it takes on the target's disk, at most as far as that is known."""
    own = total(model_files(found.path))
    if ask["to"] == "ollama" and ask.get("gguf"):
        return Path(ask["gguf"]).stat().st_size
    if not converts(ask):
        return own
    parameters = weights(found, ask)
    return converter.size(parameters, ask["quantization"]) + (2 * parameters if merges(found, ask) else 0)


def weights(found: Trained, ask: dict[str, Any]) -> int:
    """Parameters of the whole model: of the merged directory, the trained one, or the base. 0 if nobody knows."""
    if ask.get("merged") or not found.adapter:
        return total(model_files(Path(ask["merged"]) if ask.get("merged") else found.path)) // 2
    try:
        return inspect_model(found.spec.model.path, found.spec.model.revision).parameters or 0
    except TuneDeckError:
        return 0


def vllm_there() -> bool:
    """Whether vLLM is installed here."""
    import importlib.util

    return bool(shutil.which("vllm") or importlib.util.find_spec("vllm"))
