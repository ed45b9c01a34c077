"""`python -P -m engine.worker.export JOB_DIR`: a trained run as what other tools load.

Everything is made in `<target>.unfinished` beside the target (engine.after.target) and gets its name in the end; a merged
model that was made on the way stays there until then, so that a job that goes on need not merge again.
"""

import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.after.target import MARK, NOTE, claimed, emptied, flush, read_mark, unfinished, write_mark
from engine.after.trained import Trained, of_directory
from engine.errors import RunError
from engine.events import Done, Notice
from engine.files import write_private
from engine.taking import ask as asking
from engine.taking.files import SUMS, artifacts, copied, sums
from engine.taking.serving import slug
from engine.worker.job import Job, main

MADE = "made.json"
"""In the job's directory: the summary of an export that has its final name, or is about to get it."""
OUT, MERGED = "out", "merged"
Summary = dict[str, Any]


def export(job: Job) -> Done:
    """The whole job. Raises TuneDeckError."""
    began, ask = time.monotonic(), job.ask
    if ask["to"] == "hub":
        from engine.worker.export_hub import upload

        return upload(job)
    target = Path(ask["target"])
    if (kept := _made(job)) and target.exists():  # it was ended between the renaming and the last event
        return Done(kept, said(kept))
    found = asking.check(of_directory(job.run_dir, ask.get("step")), ask, looked=False)
    with claimed(target) as folder:
        _begin(job, folder)
        try:
            summary = _exported(job, found, folder)
        except BaseException:
            if not (folder / MERGED).exists():  # merging is what a job that goes on need not do again
                shutil.rmtree(folder, ignore_errors=True)
            raise
        shutil.rmtree(folder)
    summary["seconds"] = round(time.monotonic() - began, 1)
    return Done(summary, said(summary))


def _exported(job: Job, found: asking.Ready, folder: Path) -> Summary:
    """Make it, and give it its name."""
    ask, target, out = job.ask, found.target, folder / OUT
    asking.check(found.trained, ask)
    summary = _way(ask["to"])(job, found.trained, folder, out)
    summary = {"to": ask["to"], "target": str(target), "notes": [*found.notes, *summary.pop("notes", [])], **summary}
    if out.is_dir():
        _finish_directory(job, summary, out)
    job.reporter.phase("hash", "the files")
    made = artifacts(ask["to"], out, target)
    summary |= {"files": [Path(one["path"]).name for one in made], "bytes": sum(one["bytes"] for one in made),
                "step": ask.get("step"), "artifacts": made}  # fmt: skip
    for note in summary["notes"]:
        job.reporter.say(Notice("note", note))
    job.stop()
    _place(job, summary, out, target)
    return summary


def said(summary: Summary) -> str:
    """What came of it, in a sentence."""
    check = summary.get("check") or {}
    more = f"; {check['said']}" if check.get("said") else ""
    return f"{summary['to']} in {summary['target']}, {total_text(summary['bytes'])}{more}"


def total_text(count: int) -> str:
    from engine.after.target import size

    return size(count)


def _way(to: str) -> Callable[[Job, Trained, Path, Path], Summary]:
    """What makes it. Imports torch only where it is needed."""
    if to == "adapter":
        return adapter
    if to == "vllm":
        from engine.worker.export_vllm import vllm

        return vllm
    from engine.worker.export_gguf import gguf, ollama

    return {"gguf": gguf, "ollama": ollama}[to]


def _made(job: Job) -> Summary | None:
    try:
        return dict(json.loads((job.folder / MADE).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None


def _begin(job: Job, folder: Path) -> None:
    """Take over what an interrupted job of the same weights merged, and nothing else."""
    mark = {"run": job.run_dir.name, "step": job.ask.get("step"), "base": job.ask.get("base"), "kind": "export"}
    same = {name: read_mark(folder).get(name) for name in mark} == mark
    emptied(folder, frozenset({MARK, MERGED, unfinished(Path(MERGED)).name}) if same else frozenset())
    write_mark(folder, mark)


def adapter(job: Job, trained: Trained, folder: Path, out: Path) -> Summary:
    """The adapter, or the fully trained model, with its tokenizer, template and card."""
    job.reporter.phase("copy", "the adapter" if trained.adapter else "the model")
    out.mkdir()
    copied(trained.path, out)
    return {"adapter": trained.adapter, "template": bool(asking.template_source(out))}


def card(job: Job) -> str:
    """The model card that was written when the job was made. Raises RunError."""
    try:
        return (job.folder / asking.CARD).read_text(encoding="utf-8")
    except OSError as error:
        raise RunError(
            "The model card is gone", f"{job.folder / asking.CARD}: {error.strerror}.", "Start a new export."
        ) from None


def _finish_directory(job: Job, summary: Summary, out: Path) -> None:
    """The card, where the files come from, and their hashes."""
    if not (out / "README.md").exists():
        (out / "README.md").write_text(card(job), encoding="utf-8")
    about = {"run": job.run_dir.name, "job": job.folder.name, "to": summary["to"], "step": job.ask.get("step"),
             "check": summary.get("check")}  # fmt: skip
    (out / NOTE).write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (out / SUMS).write_text(sums(out), encoding="utf-8")


def _place(job: Job, summary: Summary, out: Path, target: Path) -> None:
    """Give it its name, whole and on the disk. Raises RunError if somebody has taken that meanwhile."""
    for path in [*out.rglob("*"), out]:
        flush(path)
    write_private(job.folder / MADE, json.dumps(summary))
    try:
        if out.is_file() and target.exists():
            raise FileExistsError(target)
        out.rename(target)
    except OSError:
        (job.folder / MADE).unlink()
        if target.exists():
            raise RunError(
                "The place is taken", f"{target} has been filled meanwhile.", "Start a new export."
            ) from None
        raise
    flush(target.parent)


def name_of(trained: Trained) -> str:
    """The name that other tools give it."""
    return slug(trained.name)


if __name__ == "__main__":
    sys.exit(main(export))
