"""GGUF files by llama.cpp's converter, looked at again; and Ollama's Modelfile beside one."""

import dataclasses
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from engine.after.merging import own_type
from engine.after.target import size
from engine.after.trained import Trained
from engine.data.formats import turns_of
from engine.data.rows import Row, rows_of, sources
from engine.data.tokens import load_tokens
from engine.errors import RunError, TuneDeckError
from engine.gguf_header import Header, read_header
from engine.processes import die_with_parent
from engine.taking import converter
from engine.taking.ask import template_source
from engine.taking.files import model_files, total
from engine.taking.modelfile import Translated, holds, modelfile, translate
from engine.taking.serving import slug
from engine.text import tail
from engine.worker.job import Job

MERGED = "merged"
TICK = 0.2
READ = 500
"""Rows that are looked at for a system prompt which all of them share."""
Summary = dict[str, Any]


def gguf(job: Job, trained: Trained, folder: Path, out: Path) -> Summary:
    """One file, checked."""
    return made_file(job, trained, whole_model(job, trained, folder), out, folder)


def made_file(job: Job, trained: Trained, model: Path, file: Path, folder: Path) -> Summary:
    """A file of a model's directory, checked."""
    quantization = job.ask["quantization"]
    convert(job, model, file, quantization, folder)
    check = checked(job, trained, model, file, quantization)
    return {"quantization": quantization, "check": check, "notes": check.pop("notes")}


def whole_model(job: Job, trained: Trained, folder: Path) -> Path:
    """A directory with all weights in 16 bit: the one that was named, what was trained, or the adapter merged."""
    if job.ask.get("merged"):
        return Path(job.ask["merged"])
    if not trained.adapter:
        return trained.path
    merged = folder / MERGED
    if not merged.exists():
        _merge(job, trained, merged)
    return merged


def _merge(job: Job, trained: Trained, target: Path) -> None:
    """As the verb merge does it, checked and all, under the name that it has until the export is done."""
    from engine.worker.load import ready_model
    from engine.worker.merge import merge

    job.reporter.phase("merge", "the adapter into its base")
    dtype = own_type(ready_model(trained.spec, job.reporter))
    ask = {"target": str(target), "dtype": dtype} | {name: job.ask.get(name) for name in ("step", "base", "anyway")}
    merge(dataclasses.replace(job, ask=ask))


def convert(job: Job, model: Path, file: Path, quantization: str, folder: Path) -> None:
    """Write the file. Raises RunError with what the tool said last."""
    direct = quantization in converter.DIRECT
    first = file if direct else folder / "f16.gguf"
    expected = int(total(model_files(model)) / 2 * converter.BYTES["f16" if not direct else quantization])
    found = converter.find()
    job.reporter.phase("convert", f"to {quantization if direct else 'f16'}, about {size(expected)}")
    named = model if model.parent != folder else _called(model, folder, slug(job.run_dir.name))
    call = found.call(named, first, quantization if direct else "f16")
    run_tool(job, call, found.environment, first, expected)
    if not direct:
        job.reporter.phase("quantise", f"to {quantization}")
        run_tool(job, [converter.find_quantize(), str(first), str(file), quantization.upper()], {}, file, expected // 2)
        first.unlink()


def _called(model: Path, folder: Path, name: str) -> Path:
    """The directory under another name: the converter writes it into the file."""
    link = folder / name
    link.unlink(missing_ok=True)
    link.symlink_to(model.name, target_is_directory=True)
    return link


def run_tool(job: Job, command: list[str], environment: dict[str, str], file: Path, expected: int) -> None:
    """Run one of llama.cpp's tools, with the growing file as progress. Raises RunError; StopAsked ends the tool."""
    log = job.folder / "tool.log"
    with log.open("wb") as output:
        tool = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, cwd=file.parent,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1", **environment}, preexec_fn=die_with_parent,
        )  # fmt: skip
        try:
            while tool.poll() is None:
                job.stop()
                if file.exists() and expected:
                    job.progress(min(100, int(100 * file.stat().st_size / expected)), 100)
                time.sleep(TICK)
        finally:
            tool.kill()
            tool.wait()
    job.progress(0, 0)
    said = log.read_text(encoding="utf-8", errors="replace")
    print("\n".join(tail(said, 200)), flush=True)
    if tool.returncode or not file.is_file():
        raise converter.refusal("\n".join(tail(said, 200)), job.run_dir.name)


def checked(job: Job, trained: Trained, model: Path, file: Path, quantization: str) -> Summary:
    """The file read again: its header, its template, its answers against the model's that it was made of. Raises RunError."""
    from engine.worker.export_check import check_answers  # torch: 5 s, and not for a file that is given

    job.reporter.phase("check", "the file is read again")
    header = read(file)
    template = has_template(header, template_source(model), "llama.cpp's converter wrote another one, or none.")
    found = {"tensors": len(header.tensors), "parameters": sum(header.tensors.values()), "template": bool(template),
             "architecture": header.values.get("general.architecture")}  # fmt: skip
    return found | check_answers(job, trained, model, file, quantization in converter.EXACT)


def has_template(header: Header, source: str, why: str) -> str:
    """The file's chat template. Raises RunError if it is not the one of training."""
    template = str(header.values.get("tokenizer.chat_template") or "")
    if source and template != source:
        raise RunError("The GGUF file has not the training template", why, "Make it anew: --to gguf FILE")
    return template


def read(file: Path) -> Header:
    """The header of a whole file. Raises RunError."""
    try:
        header = read_header(file)
    except (OSError, ValueError) as error:
        raise RunError("That is no GGUF file", f"{file}: {error}.", "Make it again.") from None
    if not header.tensors or header.end > file.stat().st_size:
        raise RunError("The GGUF file is cut off", f"{file} ends before its tensors do.", "Make it again.")
    return header


def ollama(job: Job, trained: Trained, folder: Path, out: Path) -> Summary:
    """A directory to run `ollama create` in."""
    given = job.ask.get("gguf")
    if given:
        file, model = Path(given), trained.path
        has_template(read(file), template_source(model), "It is the file of another model.")
        summary: Summary = {"gguf": given, "notes": []}
    else:
        file = folder / f"{slug(trained.name)}-{job.ask['quantization']}.gguf"
        made = translated(trained, None)  # before the long work: a template that cannot be told is known at once
        refuse_untold(made)
        model = whole_model(job, trained, folder)
        summary = made_file(job, trained, model, file, folder)
    made = translated(trained, read(file))
    refuse_untold(made)
    system, notes = system_prompt(trained)
    if not holds(system):
        system = ""
        notes.append("The system prompt has three quotes in a row, which a Modelfile cannot hold: it is left out.")
    out.mkdir()
    place = out / file.name
    shutil.copyfile(file, place) if given else file.rename(place)
    title = f"{trained.name} ({trained.run_id}), by TuneDeck. ollama create {slug(trained.name).lower()} -f Modelfile"
    (out / "Modelfile").write_text(modelfile(title, file.name, made, system, _generation(model)), encoding="utf-8")
    return summary | {"template": made.template, "stops": list(made.stops), "system": system,
                      "notes": [*summary["notes"], *made.notes, *notes]}  # fmt: skip


def refuse_untold(made: Translated) -> None:
    """Raises RunError for a template that Ollama cannot render."""
    if made.template is None:
        raise RunError("The chat template cannot be written for Ollama", f"Of the training template: {made.reason}.",
                       "Take the GGUF alone (--to gguf): llama.cpp's own server renders the template that is in it.")  # fmt: skip


def translated(trained: Trained, header: Header | None) -> Translated:
    """The training template for Ollama; whether llama.cpp puts the first token there is said by the file."""
    if header is None:
        return translate(load_tokens(trained.path, None), False)
    spm = header.values.get("tokenizer.ggml.model") == "llama"
    adds = bool(header.values.get("tokenizer.ggml.add_bos_token", spm))
    return translate(load_tokens(trained.path, None), adds)


def _generation(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else {}
    except (OSError, ValueError):
        return {}


def system_prompt(trained: Trained) -> tuple[str, list[str]]:
    """The system prompt that all rows share, "" if there is none; what is to be said of it."""
    try:
        prompts = _system_prompts(trained)
    except TuneDeckError as error:
        return trained.spec.data.system or "", [f"Whether the data had a system prompt is not known. {error.title}."]
    if len(prompts) == 1:
        return next(iter(prompts)), []
    return "", ["The rows had several system prompts: SYSTEM is not set."] if prompts - {""} else []


def _system_prompts(trained: Trained) -> set[str]:
    data = trained.spec.data
    found: set[str] = set()
    rows = 0
    for row in rows_of(sources(data), data):
        if isinstance(row, Row):
            turns = turns_of(row.value)
            found.add(turns[0]["content"] if turns and turns[0]["role"] == "system" else "")
            rows += 1
        if rows >= READ or len(found) > 2:
            break
    return found
