"""vLLM: a directory with the adapter or the model, scripts that serve it, and a trial where vLLM is installed."""

import gc
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx

from engine import catalog
from engine.after.trained import Trained
from engine.processes import die_with_parent
from engine.taking.ask import template_source
from engine.taking.files import copied
from engine.taking.serving import (
    TEMPLATE,
    Served,
    adapter_config,
    installed,
    lora_command,
    merged_command,
    readme,
    refusals,
    script,
    slug,
)  # fmt: skip
from engine.text import clean, tail
from engine.worker.job import Job

READY_SECONDS = float(os.environ.get("TUNEDECK_VLLM_SECONDS") or 900)
"""How long vLLM may take until it serves: it compiles."""
TOKENS = 24
Summary = dict[str, Any]


def vllm(job: Job, trained: Trained, folder: Path, out: Path) -> Summary:
    """The directory; `check` tells of the trial."""
    job.reporter.phase("copy", "the adapter" if trained.adapter else "the model")
    out.mkdir()
    part = out / ("adapter" if trained.adapter else "model")
    part.mkdir()
    copied(trained.path, part)
    source = template_source(trained.path)
    if source:
        (out / TEMPLATE).write_text(source, encoding="utf-8")
    config = adapter_config(trained.path)
    served = _served(trained, config, bool(source))
    commands, notes = _commands(job, trained, served, config)
    for name, command in commands.items():
        if name in SCRIPTS:
            file = out / SCRIPTS[name]
            file.write_text(script(command), encoding="utf-8")
            file.chmod(0o755)
    prompt = next(iter(trained.spec.evaluation.prompts or []), "What is the capital of France?")
    start = commands.get(LORA) or commands.get(WHOLE) or commands.get(MERGED)
    check = tried(job, trained, out, start, served, prompt) if start else {"served": False, "said": "nothing to try"}
    text = readme(trained.name, served, commands, notes, prompt,
                  f"Tried when this was written: {check['said']}.")  # fmt: skip
    (out / "README.md").write_text(text, encoding="utf-8")
    return {"commands": commands, "check": check, "notes": notes, "name": served.name}


LORA, WHOLE, MERGED = "The adapter on its base", "The model", "The merged model"
SCRIPTS = {LORA: "serve.sh", WHOLE: "serve.sh", MERGED: "serve-merged.sh"}


def _served(trained: Trained, config: dict[str, Any], template: bool) -> Served:
    spec = trained.spec
    known = catalog.find_model(spec.model.path)
    base, revision = known.id if known else spec.model.path, spec.model.revision
    local = Path(base).expanduser()
    if local.is_file():  # vLLM takes an adapter on a directory only: the file's dequantised copy, which was trained on
        base, revision = str(config.get("base_model_name_or_path") or base), None
    elif local.is_dir():
        base, revision = str(local.absolute()), None
    dtype = "float32" if spec.training.precision == "fp32" else "bfloat16"
    return Served(slug(trained.name), base, revision, dtype, template)


def _commands(
    job: Job, trained: Trained, served: Served, config: dict[str, Any]
) -> tuple[dict[str, list[str]], list[str]]:
    """Command lines by what they are for, and what should be known of them."""
    found: dict[str, list[str]] = {}
    notes: list[str] = []
    if not trained.adapter:
        found[WHOLE] = merged_command(served, "model")
        found |= {f"{WHOLE}, in {what}": merged_command(served, "model", kind) for what, kind in QUANTIZED.items()}
        return found, notes
    if why := refusals(config):
        notes.append(
            f"vLLM does not serve this adapter as it is: {'; '.join(why)}. Merge it: tunedeck merge {trained.run_id} DIR"
        )
    else:
        found[LORA] = lora_command(served, "adapter", config)
        found |= {
            f"{LORA}, the base in {what}": lora_command(served, "adapter", config, kind)
            for what, kind in QUANTIZED.items()
        }
    merged = str(Path(job.ask["merged"]).absolute()) if job.ask.get("merged") else "MERGED"
    if merged == "MERGED":
        notes.append(f"MERGED is a directory that `tunedeck merge {trained.run_id} MERGED` makes.")
        found["The merged model, once there is one"] = merged_command(served, merged)
    else:
        found[MERGED] = merged_command(served, merged)
        found |= {f"{MERGED}, in {what}": merged_command(served, merged, kind) for what, kind in QUANTIZED.items()}
    return found, notes


QUANTIZED = {"8 bits on the way in (cards from Ada and Hopper on)": "fp8", "4 bits on the way in": "bitsandbytes"}


def tried(job: Job, trained: Trained, out: Path, command: list[str], served: Served, prompt: str) -> Summary:
    """Start the server, ask it, compare its answer with ours, and stop it; what came of it. vLLM may be missing."""
    start = installed(shutil.which, importlib.util.find_spec)
    if start is None:
        return {"served": False, "said": "vLLM is not installed here, so nothing was served"}
    port = _free_port()
    log = job.folder / "vllm.log"
    job.reporter.phase("check", "vLLM starts")
    with log.open("wb") as output:
        server = subprocess.Popen(
            [*start, *command[1:], "--host", "127.0.0.1", "--port", str(port)], stdin=subprocess.DEVNULL, stdout=output,
            stderr=subprocess.STDOUT, cwd=out, start_new_session=True, preexec_fn=die_with_parent,
        )  # fmt: skip
        try:
            theirs = _asked(job, server, f"http://127.0.0.1:{port}/v1", served, prompt)
        except (httpx.HTTPError, ValueError, KeyError, OSError) as error:
            words = tail(log.read_text(encoding="utf-8", errors="replace"), 1)
            why = clean(f"{error}; its last words: {words[0] if words else 'none'}", False)
            return {"served": False, "said": f"vLLM is installed but did not answer: {why[:300]}"}
        finally:
            _end(server)
    job.reporter.phase("check", "our own answer")  # now that the card is free again
    ours = our_answer(job, trained, prompt)
    same = theirs.strip() == ours.strip()
    said = (
        "vLLM served it and answered as TuneDeck does"
        if same
        else "vLLM served it and answered in other words than TuneDeck"
    )
    return {"served": True, "same_answer": same, "prompt": prompt, "ours": ours, "theirs": theirs, "said": said}


def our_answer(job: Job, trained: Trained, prompt: str) -> str:
    """The tuned model's greedy answer."""
    from engine.worker.generate import answers, precision
    from engine.worker.tuned import Pair

    pair = Pair(trained.spec, trained.path, job.reporter)
    text = prompt
    if pair.tokenizer.chat_template:
        messages = [{"role": "user", "content": prompt}]
        text = pair.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    ids = pair.tokenizer(text, add_special_tokens=not pair.tokenizer.chat_template).input_ids
    with pair.tuned() as model, precision(trained.spec, pair.device):
        found = answers(model, pair.tokenizer, [ids], TOKENS)[0].text
    del pair
    gc.collect()
    return found


def _asked(job: Job, server: "subprocess.Popen[bytes]", url: str, served: Served, prompt: str) -> str:
    """The server's answer, once it is up. Raises ValueError, httpx.HTTPError, KeyError."""
    with httpx.Client(timeout=120) as client:
        deadline = time.monotonic() + READY_SECONDS
        while True:
            job.stop()
            if server.poll() is not None:
                raise ValueError(f"it ended with exit code {server.returncode}")
            if time.monotonic() > deadline:
                raise ValueError(f"it was not ready in {READY_SECONDS:.0f} s")
            try:
                models = client.get(f"{url}/models", timeout=5).raise_for_status().json()
                break
            except httpx.HTTPError:
                time.sleep(0.5)
        names = [one["id"] for one in models["data"]]
        if served.name not in names:
            raise ValueError(f"it serves {', '.join(names)}, not {served.name}")
        job.reporter.phase("check", "vLLM answers")
        body: dict[str, Any] = {"model": served.name, "temperature": 0, "max_tokens": TOKENS}
        if served.template:
            body["messages"] = [{"role": "user", "content": prompt}]
            made = client.post(f"{url}/chat/completions", json=body).raise_for_status().json()
            return str(made["choices"][0]["message"]["content"])
        made = client.post(f"{url}/completions", json=body | {"prompt": prompt}).raise_for_status().json()
        return str(made["choices"][0]["text"])


def _end(server: "subprocess.Popen[bytes]") -> None:
    """Stop the server and all that it started."""
    for number, patience in ((signal.SIGTERM, 20.0), (signal.SIGKILL, 20.0)):
        try:
            os.killpg(server.pid, number)
            server.wait(patience)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
