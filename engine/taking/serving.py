"""How vLLM serves a tuned model: command lines for an adapter on its base and for merged weights, and the page that says so."""

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.text import clean

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The values that vLLM takes for --max-lora-rank (vllm/config/lora.py)."""
TEMPLATE = "chat_template.jinja"


@dataclass(frozen=True)
class Served:
    """`name`: what a request calls the model. `base`: directory or hub id of the base; `dtype` what it was trained in."""

    name: str
    base: str
    revision: str | None = None
    dtype: str = "bfloat16"
    template: bool = True
    context: int | None = None


def slug(name: str) -> str:
    """A name that shells, files and requests take."""
    return re.sub(r"[^\w.-]+", "-", clean(name, False), flags=re.ASCII).strip("-.") or "model"


def refusals(config: Mapping[str, Any]) -> list[str]:
    """Why vLLM does not serve an adapter of this adapter_config.json; empty if it does."""
    found = []
    if config.get("peft_type") != "LORA":
        return [f"it serves LoRA adapters only, not {config.get('peft_type')}"]
    if config.get("use_dora"):
        found.append("it does not know DoRA")
    if config.get("modules_to_save"):
        found.append("it takes no whole modules (modules_to_save)")
    if config.get("bias") not in (None, "none") or config.get("lora_bias"):
        found.append("it takes no biases")
    if config.get("trainable_token_indices"):
        found.append("it takes no tokens that were trained")
    if rank(config) > RANKS[-1]:
        found.append(f"its largest rank is {RANKS[-1]}")
    return found


def rank(config: Mapping[str, Any]) -> int:
    """The largest rank of an adapter."""
    return max([int(config.get("r") or 0), *(int(r) for r in (config.get("rank_pattern") or {}).values())])


def lora_command(served: Served, adapter: str, config: Mapping[str, Any], quantized: str = "") -> list[str]:
    """The adapter beside its base: requests name one or the other."""
    most = next((r for r in RANKS if r >= rank(config)), RANKS[-1])
    return ["vllm", "serve", served.base, *_common(served), *_quantized(quantized), "--enable-lora", "--lora-modules",
            f"{served.name}={adapter}", "--max-lora-rank", str(most)]  # fmt: skip


def merged_command(served: Served, model: str, quantized: str = "") -> list[str]:
    """Weights that need no adapter."""
    return [
        "vllm",
        "serve",
        model,
        "--served-model-name",
        served.name,
        *_common(served, merged=True),
        *_quantized(quantized),
    ]


def _common(served: Served, merged: bool = False) -> list[str]:
    found = ["--dtype", served.dtype]
    if served.template:
        found += ["--chat-template", TEMPLATE]
    if served.revision and not merged:
        found += ["--revision", served.revision, "--tokenizer-revision", served.revision]
    return found


def _quantized(kind: str) -> list[str]:
    return ["--quantization", kind] if kind else []


def script(command: list[str]) -> str:
    """A shell script beside its files that serves; more options may follow."""
    return f'#!/bin/sh\nset -e\ncd "$(dirname "$0")"\nexec {shlex.join(command)} "$@"\n'


def request(name: str, prompt: str, port: int = 8000, chat: bool = True) -> str:
    """A curl that asks the server."""
    body: dict[str, Any] = {"model": name, "temperature": 0, "max_tokens": 64}
    body |= {"messages": [{"role": "user", "content": prompt}]} if chat else {"prompt": prompt}
    path = "chat/completions" if chat else "completions"
    return f"curl http://localhost:{port}/v1/{path} -H 'Content-Type: application/json' -d {shlex.quote(json.dumps(body, ensure_ascii=False))}"


def readme(
    title: str, served: Served, commands: Mapping[str, list[str]], notes: list[str], prompt: str, tried: str
) -> str:
    """The page beside the scripts: `commands` by what they are for."""
    parts = [f"# {clean(title, False)}, served by vLLM", "Start it here, in this directory:"]
    for about, command in commands.items():
        parts += [f"{about}:", f"```sh\n{shlex.join(command)}\n```"]
    parts += ["Ask it:", f"```sh\n{request(served.name, prompt, chat=served.template)}\n```"]
    parts += [f"- {note}" for note in notes]
    return "\n\n".join([*parts, tried]) + "\n"


def installed(which: Any, importable: Any) -> list[str] | None:
    """The beginning of vLLM's command line if it is there: `which` finds a program, `importable` a package."""
    import sys

    if found := which("vllm"):
        return [found]
    return [sys.executable, "-m", "vllm.entrypoints.cli.main"] if importable("vllm") else None


def adapter_config(folder: Path) -> dict[str, Any]:
    """adapter_config.json, {} for a whole model. Raises OSError, ValueError."""
    file = folder / "adapter_config.json"
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}
