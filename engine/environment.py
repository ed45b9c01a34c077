"""Where and from what a run was started: command, git, machine, data. Taken when the run is created; never torch.

What its worker finds (package versions, the cards it trains on) is added when it starts: `engine.ingest`.
"""

import os
import platform
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from engine.hardware import Hardware, probe

DIFF_BYTES = 256 << 10
"""Of a diff that is longer only the beginning is kept, and that it was cut is said."""
GIT_SECONDS = 10.0
REDACTED = "[redacted]"
_KEY = re.compile(
    r"hf_[A-Za-z0-9]{20,}|\bsk-(?=[A-Za-z0-9_-]{0,60}\d)[A-Za-z0-9_-]{16,}|(?:AKIA|ASIA)[0-9A-Z]{16}"
    r"|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}|glpat-[A-Za-z0-9_-]{16,}|xox[abeoprs]-[A-Za-z0-9-]{10,}"
    r"|AIza[0-9A-Za-z_-]{35}|\beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}"
)
"""Keys that are known by their looks: Hugging Face, OpenAI and others, AWS, GitHub, GitLab, Slack, Google, a JWT."""
_BLOCK = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.S)
_NAMED = re.compile(
    r"""((?:key|token|secret|passwd|password|credentials?)["']?\s*[:=]\s*)"""
    r"""(?:(["'])[\w+/=.~!@#$%^&*-]{8,}+\2|(?=[\w+/=-]{0,200}\d)[\w+/=-]{12,}+(?=\s|$))""",
    re.I | re.A,
)
"""A name that says so, and a text or a long word with a digit in it: `api_key = "..."`, `WANDB_API_KEY=...`."""
_URL = re.compile(r"(://[^\s/:@]*:)[^\s/@]+@")


def redacted(text: str) -> str:
    """The text without what looks like a key, a token or a password, and as every encoding and SQLite's JSON take it."""
    text = text.encode("utf-8", errors="replace").decode("utf-8").replace("\0", "")
    text = _KEY.sub(REDACTED, _BLOCK.sub(REDACTED, text))
    return _URL.sub(rf"\1{REDACTED}@", _NAMED.sub(rf"\1{REDACTED}", text))


def capture(data_sha256: str, seed: int, hardware: Hardware | None = None) -> dict[str, Any]:
    """What is known now, for the column `environment` of the run. Nothing that is missing is an error."""
    try:
        here = Path.cwd()
    except OSError:  # it was removed
        here = Path("/")
    return {
        "command": [redacted(part) for part in sys.argv],
        "directory": redacted(str(here)),
        "git": git_state(here),
        "machine": machine(hardware or probe()),
        "data_sha256": data_sha256,
        "seed": seed,
    }


def machine(hardware: Hardware) -> dict[str, Any]:
    """Memory in GiB."""
    return {
        "host": hardware.host, "system": platform.platform(), "python": platform.python_version(), "cpu": hardware.cpu,
        "cores": hardware.cores, "ram_gib": round(hardware.ram_total, 1), "driver": hardware.driver, "cuda": hardware.cuda,
        "cards": [{"index": g.index, "uuid": g.uuid, "name": g.name, "memory_gib": g.memory_total} for g in hardware.gpus],
    }  # fmt: skip


def git_state(directory: Path) -> dict[str, Any] | None:
    """The repository that the directory is in: root, commit, branch, dirty, diff; None if there is none, or no git.

    The diff is of tracked files against the commit; files that git does not track are not in it.
    """
    root = _line(directory, "rev-parse", "--show-toplevel")
    if not root:
        return None
    commit = _line(directory, "rev-parse", "--verify", "HEAD")
    diff = _git(directory, "diff", "--no-ext-diff", "--no-textconv", "--no-color", "HEAD") if commit else b""
    return {
        "root": root,
        "commit": commit,
        "branch": _line(directory, "symbolic-ref", "--short", "-q", "HEAD"),
        "dirty": None if diff is None else bool(diff),
        "diff": None if diff is None else _text(diff),
        "diff_cut": diff is not None and len(diff) > DIFF_BYTES,
    }


def _text(diff: bytes) -> str:
    """At most DIFF_BYTES of it, in whole lines, without secrets."""
    kept = diff if len(diff) <= DIFF_BYTES else diff[:DIFF_BYTES].rpartition(b"\n")[0]
    return redacted(kept.decode("utf-8", errors="replace"))


def _line(directory: Path, *arguments: str) -> str | None:
    """The one line that git prints; None if there is none."""
    return (_git(directory, *arguments) or b"").decode("utf-8", errors="replace").strip() or None


def _git(directory: Path, *arguments: str) -> bytes | None:
    """What git prints, at most a little more than DIFF_BYTES; None if it fails, is not there, or takes too long.

    No program that the repository names is run, and its index is not touched.
    """
    command = ["git", "-c", "core.fsmonitor=false", "-C", str(directory), *arguments]
    environment = os.environ | {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
        )
    except OSError:
        return None
    late = threading.Timer(GIT_SECONDS, process.kill)
    late.start()
    with process:
        found = process.stdout.read(DIFF_BYTES + 1) if process.stdout else b""
        if len(found) > DIFF_BYTES:  # the rest is not wanted
            process.kill()
    late.cancel()
    return found if process.returncode == 0 or len(found) > DIFF_BYTES else None
