"""A job of kind merge: the adapter of a run in the weights of its base, as a model of its own that needs no peft.

On the CPU, in 16 bit; by shards (engine.worker.merge_shards) where memory would not hold the model. Checked against the
adapter on the base before it gets its name; written as engine.after.target says.
"""

import contextlib
import gc
import hashlib
import json
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer

from engine.after import target as targets
from engine.after.merging import KEPT, adapter_files, check_plain, memory, refuse, room, way
from engine.after.trained import Trained, of_directory
from engine.errors import RunError, SpaceError
from engine.events import Done, Notice
from engine.fingerprint import at, check_base, identity, place_of
from engine.hardware import ram_free
from engine.models import ModelFacts
from engine.worker import merge_check, merge_shards
from engine.worker.job import Job, main
from engine.worker.load import ready_model
from engine.worker.merge_check import ROUNDOFF, Check
from engine.worker.merge_load import adapted, base_call, merged_in_memory
from engine.worker.merge_shards import NotByShards, Shards
from engine.worker.training import quiet

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
SHARD = "5GB"
FREE: Callable[[], float] = ram_free
"""GiB of RAM that are free; a test says otherwise."""


@dataclass(frozen=True)
class Merge:
    """One merge: what, where to, and how. `wide`: memory holds the model in 32 bits, in which the check computes then;
    `loads`: it holds it in 16 bits at least."""

    job: Job
    trained: Trained
    facts: ModelFacts
    tokenizer: Any
    dtype: torch.dtype
    by: str
    why: str
    wide: bool
    loads: bool
    anyway: bool

    def say(self, level: str, text: str, hint: str = "") -> None:
        self.job.reporter.say(Notice(level, text, hint))


def merge(job: Job) -> Done:
    """Raises RunError, ModelError, SpaceError."""
    quiet()
    ask, target, began = job.ask, Path(job.ask["target"]), time.monotonic()
    trained = at(of_directory(job.run_dir, ask.get("step")), ask.get("base"))
    refuse(trained)
    for note in check_base(trained, bool(ask.get("anyway"))):
        job.reporter.say(Notice("warning", note))
    with targets.claimed(target) as folder:
        try:
            one = _planned(job, trained)
            targets.check_room(target, room(one.facts), "The merged model takes")
            check = _made(one, folder)
            files = _noted(one, folder, check)
            job.stop()
            targets.finish(folder, target)
        except BaseException as error:
            _left_behind(folder)
            if not isinstance(error, SpaceError) and targets.no_room(error, target.parent):
                raise _full(target, error) from error
            raise
    return _done(one, target, check, files, time.monotonic() - began)


def _planned(job: Job, trained: Trained) -> Merge:
    facts = ready_model(trained.spec, job.reporter)
    check_plain(facts)
    dtype, free = DTYPES[job.ask["dtype"]], FREE()
    by, why = way(facts, free, bool(job.ask.get("by_shards")))
    tokenizer = AutoTokenizer.from_pretrained(trained.path)
    wide = memory(facts, width=4) <= free
    loads = wide or memory(facts) <= free
    return Merge(job, trained, facts, tokenizer, dtype, by, why, wide, loads, bool(job.ask.get("anyway")))


def _made(one: Merge, folder: Path) -> dict[str, Any]:
    """Write the model into the directory and check it; what the check found. Raises RunError if it does not hold."""
    shards = _shards(one) if one.by == "shards" else None
    one.say("note", f"merges {one.why}")
    ids = merge_check.prompts(one.trained.spec, one.tokenizer)
    before = _asked(one, ids) if one.loads else None
    one.job.stop()
    if shards:
        _by_shards(one, shards, folder, probe=before is None)
    else:
        _in_memory(one, folder)
    one.tokenizer.save_pretrained(folder)
    _own_code(one, folder)
    one.job.stop()
    if before is None:
        return _by_weights(one, shards, folder)
    one.job.reporter.phase("check", "compares its logits with the adapter's on the base")
    tuned, base = before
    merged = merge_check.logits(_load(one, folder), ids)
    check = merge_check.compare(tuned, merged, base, one.dtype, one.facts.layers)
    _judge(one, check)
    return check.as_json()


def _shards(one: Merge) -> Shards | None:
    """None if it has to be done in memory after all. Raises RunError if it cannot."""
    try:
        return merge_shards.prepared(one.trained, one.facts, one.dtype, one.tokenizer)
    except NotByShards as error:
        if one.job.ask.get("by_shards"):
            raise RunError(
                "It cannot be merged by shards", f"It cannot, because {error}.", "Leave --by-shards out."
            ) from None
        raise RunError(
            "There is not enough memory", f"It is merged {one.why}, but it cannot be, because {error}.",
            "Use a machine with more memory, or take the adapter away as it is: tunedeck export",
        ) from None  # fmt: skip


def _asked(one: Merge, ids: list[list[int]]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """The logits of the adapter on the base, and of the base alone."""
    one.job.reporter.phase("ask", "asks the adapter on its base")
    model = adapted(one.trained, one.facts, one.dtype, one.tokenizer)
    if one.wide:
        model = model.float()
    tuned = merge_check.logits(model, ids)
    with model.disable_adapter():
        base = merge_check.logits(model, ids)
    del model
    gc.collect()
    return tuned, base


def _load(one: Merge, folder: Path) -> Any:
    """What was written, loaded as anybody would."""
    kind, options = base_call(one.trained, one.facts, torch.float32 if one.wide else one.dtype)
    return kind.from_pretrained(folder, **(options | {"revision": None})).eval()


def _in_memory(one: Merge, folder: Path) -> None:
    one.job.reporter.phase("load", f"loads {one.facts.label}")
    targets.emptied(folder)
    targets.write_mark(folder, {"v": 1, "run": one.trained.run_id})
    model = adapted(one.trained, one.facts, one.dtype, one.tokenizer)
    one.job.stop()
    one.job.reporter.phase("merge", "merges in memory")
    merged = merged_in_memory(model, one.dtype)
    one.job.stop()
    one.job.reporter.phase("save", f"saves into {folder}")
    merged.save_pretrained(folder, max_shard_size=SHARD)
    del model, merged
    gc.collect()


def _by_shards(one: Merge, shards: Shards, folder: Path, probe: bool) -> None:
    """One file after the other; those that an interrupted merge of the same finished are taken over."""
    key = _key(one)
    mark = targets.read_mark(folder)
    done: dict[str, str] = mark.get("done", {}) if mark.get("key") == key and not probe else {}
    done = {file: sha for file, sha in done.items() if (folder / file).is_file() and sha256(folder / file) == sha}
    targets.emptied(folder, frozenset(done))
    targets.write_mark(folder, {"v": 1, "run": one.trained.run_id, "key": key, "done": done})
    sizes = {file: (Path(one.facts.path) / file).stat().st_size for file in shards.files}
    total, written = sum(sizes.values()), 0
    for number, file in enumerate(shards.files, 1):
        one.job.reporter.phase("merge", f"merges file {number} of {len(shards.files)}")
        if file not in done:
            said = [written]

            def tick(count: int, said: list[int] = said) -> None:
                one.job.stop()
                said[0] += count
                one.job.progress(min(said[0], total) >> 20, total >> 20)

            done[file] = merge_shards.write(shards, file, folder, probe, tick)
            targets.write_mark(folder, {"v": 1, "run": one.trained.run_id, "key": key, "done": done})
        written += sizes[file]
    merge_shards.write_index(shards, folder)
    shards.model.config.architectures = [type(shards.model).__name__]
    shards.model.config.save_pretrained(folder)
    if shards.model.can_generate():
        shards.model.generation_config.save_pretrained(folder)


def _key(one: Merge) -> str:
    """What a half merge has to agree in to be gone on with."""
    adapter = [sha256(file) for file in adapter_files(one.trained.path)]
    base = identity(one.facts.path) or {}
    return hashlib.sha256(json.dumps([base.get("sha256"), adapter, str(one.dtype)]).encode()).hexdigest()


def _by_weights(one: Merge, shards: Shards | None, folder: Path) -> dict[str, Any]:
    """The check where memory holds not even one model: every merged weight by itself, and the files read again."""
    assert shards is not None  # without room for a model it is merged by shards, or not at all
    one.job.reporter.phase("check", "checks each merged weight by itself")
    done = targets.read_mark(folder)["done"]
    if broken := [file for file, sha in done.items() if sha256(folder / file) != sha]:
        raise RunError(
            "The merged model is damaged", f"{broken[0]} is not what was written.", "Check the disk, merge again."
        )
    allowed = 4 * ROUNDOFF[one.dtype]
    if not shards.worst <= allowed:
        raise RunError("The merged model is not what was trained",
                       f"A merged weight gives results {shards.worst:.2g} off, {allowed:.2g} is allowed.", "See output.log.")  # fmt: skip
    one.say(
        "note",
        f"memory holds no whole model: each merged weight was checked by itself, the worst is {shards.worst:.2g} off",
    )
    return {"by": "weights", "max_difference": shards.worst, "tolerance": allowed}


def _judge(one: Merge, check: Check) -> None:
    """Raises RunError if the merged model is another than the tuned one, or has too little of it."""
    if not check.close:
        raise RunError(
            "The merged model is not what was trained",
            f"Its logits are {check.mean_difference:.3g} off on the mean and {check.max_difference:.3g} at most; for "
            f"{str(one.dtype).removeprefix('torch.')} {check.mean_tolerance:.3g} and {check.tolerance:.3g} are allowed.",
            "Nothing was kept. " + ("Try --dtype float16, which rounds eight times finer, or take" if one.dtype is torch.bfloat16
                                    else "Take") + " the adapter away as it is: tunedeck export",
        )  # fmt: skip
    if check.kept is None or check.kept > KEPT:
        return
    text = f"{max(0.0, check.kept):.0%} of what the adapter changes is left: the rest is smaller than {one.job.ask['dtype']} can hold"
    hint = "--dtype float16 keeps more" if one.dtype is torch.bfloat16 else "The adapter on its base keeps all of it"
    if check.lost and not one.anyway:
        raise RunError("The merge loses what was trained", f"Only {text}.", f"{hint}; --anyway merges all the same.")
    one.say("warning", f"in the merged model {text}", hint)


def _own_code(one: Merge, folder: Path) -> None:
    """The base's own Python files, where the run trusts them: without them the model does not load."""
    if one.trained.spec.model.trust_remote_code:
        for file in Path(one.facts.path).glob("*.py"):
            shutil.copyfile(file, folder / file.name)


def _noted(one: Merge, folder: Path, check: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Hash the files and write down where they come from; the files."""
    one.job.reporter.phase("hash", "hashes the files")
    known = targets.read_mark(folder).get("done", {})
    (folder / targets.NOTE).unlink(missing_ok=True)
    files = {}
    for file in sorted(p for p in folder.rglob("*") if p.is_file() and p.name != targets.MARK):
        one.job.stop()
        name = str(file.relative_to(folder))
        files[name] = {"bytes": file.stat().st_size, "sha256": known.get(name) or sha256(file)}
    place, model = place_of(one.trained.spec.model.path, one.trained.spec.model.revision), one.trained.spec.model
    note = {
        "v": 1, "what": "merged model", "made_at": time.time(), "run": one.trained.run_id, "name": one.trained.name,
        "step": one.trained.step, "method": one.trained.spec.method.kind, "dtype": one.job.ask["dtype"], "merged": one.why,
        "base": {"model": model.path, "revision": model.revision, **((place and identity(str(place))) or {})},
        "adapter": {file.name: sha256(file) for file in adapter_files(one.trained.path)}, "check": check, "files": files,
    }  # fmt: skip
    (folder / targets.NOTE).write_text(json.dumps(note, indent=1) + "\n", encoding="utf-8")
    return files


def sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _left_behind(folder: Path) -> None:
    """After a failure nothing is left but finished shards, which the next attempt takes over."""
    with contextlib.suppress(OSError):
        done = targets.read_mark(folder).get("done", {})
        if done:
            targets.emptied(folder, frozenset([*done, targets.MARK]))
        else:
            shutil.rmtree(folder)


def _full(target: Path, error: BaseException) -> SpaceError:
    free = targets.size(shutil.disk_usage(target.parent).free)
    return SpaceError("The disk is full", f"{target.parent} has {free} left, and the merge was not done.",
                      "Free some, then let it go on: tunedeck jobs RUN --resume JOB")  # fmt: skip


def _done(one: Merge, target: Path, check: dict[str, Any], files: dict[str, dict[str, Any]], seconds: float) -> Done:
    size = sum(about["bytes"] for about in files.values())
    weights = "".join(about["sha256"] for name, about in files.items() if name.endswith(".safetensors"))
    artifacts = [{"kind": "merged", "path": str(target / name), **about} for name, about in files.items()]
    summary = {
        "target": str(target), "dtype": one.job.ask["dtype"], "way": one.by, "why": one.why, "files": files, "bytes": size,
        "sha256": hashlib.sha256(weights.encode()).hexdigest(), "check": check, "seconds": round(seconds, 1),
        "artifacts": artifacts,
    }  # fmt: skip
    return Done(summary, f"merged into {target}, {targets.size(size)}")


if __name__ == "__main__":
    sys.exit(main(merge))
