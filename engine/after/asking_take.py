"""A merge and an export as a form asks for them."""

import sqlite3
from pathlib import Path
from typing import Any

from engine.after.asked import Asked, Field, Values
from engine.after.target import size
from engine.after.trained import Trained, trained
from engine.store import afterwards, runs
from engine.text import clean

FORMS = (
    ("gguf", "GGUF, for llama.cpp"), ("ollama", "Ollama: GGUF and Modelfile"), ("vllm", "vLLM: scripts that serve it"),
    ("adapter", "as it was saved, with its card"),
)  # fmt: skip
OWN = "own"
DTYPES = ((OWN, "16 bit, as the base has it"), ("bfloat16", "bfloat16"), ("float16", "float16"))


def merge_fields(db: sqlite3.Connection, of: Trained) -> tuple[Field, ...]:
    """Where to, and in which precision."""
    return (
        Field("target", "directory", path=True, hint=_short(_free(of, "merged"))),
        Field("dtype", "weights", OWN, DTYPES),
    )


def export_fields(db: sqlite3.Connection, of: Trained) -> tuple[Field, ...]:
    """What for, where to, and how small."""
    from engine.taking.converter import DIRECT, QUANTIZED, find_quantize

    named = list(DIRECT)
    try:
        find_quantize()
        named += [one for one in QUANTIZED if one.startswith("q")]
    except Exception:  # without it there are only those that the converter writes itself
        named = list(DIRECT)
    return (
        Field("to", "for", "gguf", FORMS),
        Field("quantization", "weights", "q8_0", tuple((one, one) for one in named)),
        Field("target", "file or directory", path=True, hint="a new one here"),
    )


def _slug(of: Trained) -> str:
    from engine.taking.serving import slug

    return slug(of.name)


def _free(of: Trained, what: str, suffix: str = "") -> Path:
    """A name in the working directory that nothing has yet."""
    names = (Path.cwd() / f"{_slug(of)}-{what}{number}{suffix}" for number in ["", *(f"-{i}" for i in range(2, 1000))])
    return next(name for name in names if not name.exists())


def _short(path: Path) -> str:
    """As people write it from here."""
    return f"./{path.name}" if path.parent == Path.cwd() else str(path)


def _target(values: Values, usual: Path) -> Path:
    text = values.get("target", "").strip()
    return Path(text).expanduser().absolute() if text else usual


def prepare_export(db: sqlite3.Connection, database: Path, run: runs.Row, values: Values) -> Asked:
    """As `tunedeck export RUN --to ...` asks for it."""
    from engine.taking import ask as taking

    to, quantization = values.get("to", "gguf"), values.get("quantization") or taking.DEFAULT
    found = trained(database, run)
    quantized = to in ("gguf", "ollama")
    usual = _free(found, quantization, ".gguf") if to == "gguf" else _free(found, to)
    merged = _merged(db, found) if to in ("gguf", "ollama") else None
    wishes = {"to": to, "target": str(_target(values, usual)), "quantization": quantization if quantized else None,
              "merged": merged}  # fmt: skip
    ask, ready = taking.asked(database, run, wishes)
    lines = [f"{dict(FORMS)[to]}: {clean(ask['target'], False)}"]
    if need := taking.need(ready.trained, ask):
        lines.append(f"About {size(need)} on the disk, as far as is known.")
    if merged:
        lines.append(f"Made of the merged model in {clean(merged, False)}.")
    elif taking.merges(ready.trained, ask):
        lines.append("Base and adapter are merged first, in 16 bit; that is not kept.")
    if to == "vllm" and not taking.vllm_there():
        lines.append("vLLM is not installed here: the scripts are written, and not tried.")
    return Asked(ask, (*lines, *ready.notes))


def _merged(db: sqlite3.Connection, of: Trained) -> str | None:
    """What a merge of the same weights has left, if it still lies there."""
    for job in afterwards.of_run(db, of.run_id, "merge"):
        target = Path(str(job["summary"].get("target") or "-"))
        if job["status"] == "finished" and job["ask"].get("step") == of.step and (target / "config.json").is_file():
            return str(target)
    return None


def prepare_merge(db: sqlite3.Connection, database: Path, run: runs.Row, values: Values) -> Asked:
    """As `tunedeck merge RUN DIR` asks for it."""
    from engine.after import merging
    from engine.after.target import check_room, check_target
    from engine.fingerprint import check_base
    from engine.models import inspect_model

    found = trained(database, run)
    merging.refuse(found)
    target, notes = _target(values, _free(found, "merged")), check_base(found)
    facts = inspect_model(found.spec.model.path, found.spec.model.revision)
    merging.check_plain(facts)
    check_target(target)
    check_room(target, merging.room(facts), "The merged model takes")
    chosen = values.get("dtype", OWN)
    dtype = merging.own_type(facts) if chosen == OWN else chosen
    ask: dict[str, Any] = {
        "target": str(target),
        "dtype": dtype,
        "step": found.step,
        "base": None,
        "anyway": False,
        "by_shards": False,
    }
    lines = (f"One model of base and adapter, {dtype}: {clean(str(target), False)}.",
             f"Needs up to {size(merging.room(facts))} on the disk; compared with the adapter on its base before it gets its name.")  # fmt: skip
    return Asked(ask, (*lines, *notes))
