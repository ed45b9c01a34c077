"""`export RUN --to adapter|gguf|ollama|vllm|hub TARGET`: a trained run as what other tools load. Jobs of the kind "export"."""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from engine.errors import RunError
from engine.text import clean

Options = argparse.Namespace
FORMATS = ("adapter", "gguf", "ollama", "vllm", "hub")
HELP = (
    "adapter DIR: the adapter (or the model) with tokenizer, template and card; gguf FILE or DIR: for llama.cpp; "
    "ollama DIR: the same with a Modelfile; vllm DIR: with scripts that serve it; hub USER/NAME: an upload, after asking; "
    "script DIR: as trl"
)
FLAGS = ("quantization", "step", "merged", "gguf", "base", "anyway", "detach", "public", "yes", "dry_run")
OF = {"quantization": ("gguf", "ollama"), "merged": ("gguf", "ollama", "vllm", "hub"), "gguf": ("ollama", "hub"),
      "public": ("hub",), "yes": ("hub",), "dry_run": ("hub",), "base": ("gguf", "ollama", "vllm"),
      "anyway": ("gguf", "ollama", "vllm")}  # fmt: skip
"""The formats that a flag goes with; the others go with all of ours."""


def add_flags(parser: Any) -> None:
    """Those of trained models alone."""
    group = parser.add_argument_group("trained models (--to adapter, gguf, ollama, vllm, hub)")
    group.add_argument(
        "--quantization",
        metavar="Q",
        help="of gguf and ollama: f16 (if none is named), bf16, f32, q8_0; q4_k_m and others with llama-quantize",
    )
    group.add_argument("--step", type=int, metavar="N", help="of a checkpoint; else what the run saved at its end")
    group.add_argument(
        "--merged",
        metavar="DIR",
        help="a directory that `tunedeck merge` made; else the job merges first, where it must",
    )
    group.add_argument(
        "--gguf", metavar="FILE", help="of ollama: this file instead of a new one; of hub: upload it too"
    )
    group.add_argument("--base", metavar="PATH", help="where the base model is now, if it has moved")
    group.add_argument("--anyway", action="store_true", help="go on though the base model is not what was trained on")
    group.add_argument("--detach", action="store_true", help="return at once; the job goes on")
    group.add_argument("--public", action="store_true", help="of hub: for everybody to read; else private")
    group.add_argument("--yes", action="store_true", help="of hub: upload without asking")
    group.add_argument(
        "--dry-run", action="store_true", help="of hub: show what would be uploaded, and the card, and do nothing"
    )


def refuse_flags(options: Options) -> None:
    """Raises RunError if a flag is given that the format has no use for."""
    given = [name for name in FLAGS if getattr(options, name) not in (None, False)]
    wrong = [name for name in given if options.to not in OF.get(name, FORMATS)]
    if wrong:
        flag = wrong[0]
        raise RunError("That flag goes with another format", f"--to {options.to} does not take --{flag.replace('_', '-')}.",
                       f"It goes with --to {', '.join(OF.get(flag, FORMATS))}.")  # fmt: skip


def export(options: Options, named: str) -> int:
    """Make the job and follow it. `named`: the run. Raises TuneDeckError."""
    from engine import cli
    from engine.cli_after import follow
    from engine.elsewhere import refuse_imported
    from engine.store import runs
    from engine.taking import ask as asking

    db, database = cli.opened(options), cli.database(options)
    run = runs.find(db, named)
    refuse_imported(run, "exported as a model")
    ask, ready = asking.asked(database, run, _asked(options))
    if options.to == "hub" and (ended := _agreed(options, db, run, ask, ready.trained)) is not None:
        return ended
    job = asking.create(db, database, run, ask)
    return follow(options, db, run["id"], job, show)


def _asked(options: Options) -> dict[str, Any]:
    target = str(options.target) if options.to == "hub" else _absolute(str(options.target))
    return {
        "to": options.to, "target": target, "quantization": options.quantization, "step": options.step,
        "merged": options.merged and _absolute(options.merged), "gguf": options.gguf and _absolute(options.gguf),
        "base": options.base and _absolute(options.base), "anyway": options.anyway,
    }  # fmt: skip


def _absolute(path: str) -> str:
    return os.path.abspath(Path(path).expanduser())


def _agreed(options: Options, db: Any, run: dict[str, Any], ask: dict[str, Any], trained: Any) -> int | None:
    """Show what would be uploaded, and ask; None if somebody said yes, else the exit code. Completes the ask."""
    from engine import card, cli, dossier
    from engine.taking import hub
    from engine.taking.ask import card as card_of

    base = card.base_model(dossier.read(db, run["id"]))
    what = hub.upload_of(trained, ask["target"], options.public, ask["merged"], ask["gguf"], base)
    ask |= {"public": options.public, "hub_base": base, "agreed": True}
    text = card_of(db, run["id"])
    if options.dry_run and options.json:
        cli.emit({"repo": what.repo, "public": what.public, "files": {n: str(p) for n, p in what.files.items()},
                  "bytes": what.bytes, "notes": what.notes, "card": text})  # fmt: skip
        return 0
    out = sys.stderr if options.json else sys.stdout
    print(clean(_preview(what)), file=out)
    if options.dry_run:
        print(f"\nREADME.md:\n\n{clean(text)}")
        return 0
    hub.need_token()
    if options.yes:
        return None
    if not sys.stdin.isatty() or options.json:
        raise RunError(
            "Nobody was asked",
            "Uploading needs a yes, and there is no terminal to ask in.",
            "Give --yes if you mean it; --dry-run shows what it would be.",
        )
    print("Upload this? [y/N] ", end="", file=out, flush=True)
    if sys.stdin.readline().strip().lower() in ("y", "yes"):
        return None
    print("Nothing was uploaded.", file=out)
    return 1


def _preview(what: Any) -> str:
    from engine.after.target import size

    seen = "everybody can read it" if what.public else "private"
    lines = [f"To the hub: {what.repo} ({seen}), {len(what.files) + 1} files, {size(what.bytes)}"]
    lines += [f"  {path.stat().st_size:>15,} bytes  {name}  from {path}" for name, path in what.files.items()]
    lines += [f"{'':>24}README.md  the model card", *(f"  {note}" for note in what.notes)]
    return "\n".join(lines)


def show(row: dict[str, Any]) -> None:
    """What came of a job that finished."""
    summary = row["summary"]
    print(clean(f"{row['job']}: {row['reason']}", False))
    for note in summary.get("notes", []):
        print(clean(f"  {note}", False))
    for one in summary["artifacts"]:
        print(clean(f"  {one['sha256'][:12]}  {one['bytes']:>13,} bytes  {one['path']}", False))
    if next_ := _next(summary):
        print(clean(f"  Next: {next_}", False))


def _next(summary: dict[str, Any]) -> str:
    """What somebody would do with it."""
    target = summary["target"]
    return {
        "gguf": f"llama-cli -m {target}",
        "ollama": f"cd {target} && ollama create NAME -f Modelfile",
        "vllm": f"{target}/serve.sh" if any(p["path"].endswith("/serve.sh") for p in summary["artifacts"]) else f"{target}/README.md",
        "hub": str(summary.get("url", "")),
    }.get(summary["to"], "")  # fmt: skip
