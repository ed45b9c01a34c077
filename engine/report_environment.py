"""What a run was started from, as `show` prints it: the whole of it is in `show --json`."""

import shlex
from typing import Any

from engine.report import number, table


def environment_table(found: dict[str, Any] | None) -> str:
    """A line each for command, directory, commit, machine, cards, versions and data; "" if nothing is known."""
    found = found or {}
    rows = [
        ["command", shlex.join(found.get("command") or [])],
        ["directory", found.get("directory") or ""],
        ["git", _git(found.get("git"))],
        ["machine", _machine(found.get("machine") or {})],
        ["GPUs", _cards(found.get("machine") or {})],
        ["versions", ", ".join(f"{name} {version}" for name, version in (found.get("versions") or {}).items())],
        ["base model", f"sha256 {found['base']['sha256'][:16]}" if (found.get("base") or {}).get("sha256") else ""],
        ["data", f"sha256 {found['data_sha256'][:16]}" if found.get("data_sha256") else ""],
    ]
    known = [[name, text[:200]] for name, text in rows if text]
    return table(["started from", ""], known) if known else ""


def _git(state: dict[str, Any] | None) -> str:
    if not state:
        return ""
    text = f"{(state.get('commit') or 'no commit yet')[:12]} on {state.get('branch') or 'no branch'}"
    diff = state.get("diff") or ""
    changed = sum(line.startswith(("+", "-")) and not line.startswith(("+++", "---")) for line in diff.split("\n"))
    if not state.get("dirty"):
        return text if state.get("dirty") is False else f"{text}, its changes are not known"
    return f"{text}, with {'more than ' if state.get('diff_cut') else ''}{changed} changed lines"


def _machine(machine: dict[str, Any]) -> str:
    if not machine:
        return ""
    return (
        f"{machine.get('host')}, {machine.get('cpu')}, {machine.get('cores')} cores, {number(machine.get('ram_gib'), 1)} GiB RAM, "
        f"Python {machine.get('python')}, {machine.get('system')}"
    )


def _cards(machine: dict[str, Any]) -> str:
    cards = [
        f"{card['index']}: {card['name']} {number(card.get('memory_gib'), 1)} GiB"
        for card in machine.get("cards") or []
    ]
    driver = [f"driver {machine['driver']}"] if machine.get("driver") else []
    return ", ".join([*cards, *driver, *([f"CUDA {machine['cuda']}"] if machine.get("cuda") else [])])
