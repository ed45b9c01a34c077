"""Templates to a page that loads nothing: every text cleaned and escaped, style and script named by their hashes."""

import base64
import functools
import hashlib
import importlib.metadata
import time
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from engine.text import clean

TEMPLATES = Path(__file__).parent / "templates"
RUNS = 28
"""Of so many runs each curve can be hidden."""
SHOWN = "\n".join(f"body:has(#run{i}:not(:checked)) .plot .r{i} {{ display: none; }}" for i in range(RUNS)) + "\n"


def render(template: str, **values: Any) -> str:
    """The page. A value that is None becomes a dash; a name that a template lacks is an error."""
    css, js = _file("page.css") + SHOWN, _file("page.js")
    policy = f"default-src 'none'; img-src data:; style-src {_hash(css)}; script-src {_hash(js)}; base-uri 'none'; form-action 'none'"
    version = importlib.metadata.version("tunedeck")
    common = {"policy": policy, "css": Markup(css), "js": Markup(js), "version": version, "now": when(time.time())}
    return _environment().get_template(template).render(**common, **values)


def when(seconds: float | None) -> str | None:
    """A moment, the same wherever it is read: `2026-11-22 05:50 UTC`."""
    return None if seconds is None else time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))


@functools.cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, finalize=_shown, trim_blocks=True
    )  # fmt: skip


def _shown(value: Any) -> Any:
    """What is written for an expression: foreign text without control and direction characters, a dash for what is not known."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return clean(value)
    return "–" if value is None else value


@functools.cache
def _file(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
