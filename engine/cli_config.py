"""The verb `config`: where the config file is, what it sets, and the names of the actions with their keys."""

import argparse
import json
from typing import Any

from engine import config
from engine.defaults import problems
from engine.keys import ACTIONS, effective, written
from engine.report import table
from engine.text import clean

EXAMPLE = "theme: light\nkeys: {Stop: S, Zoom: [z, f5]}\ndefaults: {training.epochs: 2}"


def add_verb(verb: Any) -> None:
    """`verb` as in `engine.cli.build_parser`."""
    verb("config", show, "the config file: where it is, what it sets, and the keys that it can change")


def show(options: argparse.Namespace) -> int:
    found = config.read()
    bad = (*found.problems, *problems(found.defaults))
    if options.json:
        print(json.dumps(_document(found, bad), ensure_ascii=False, indent=2, default=str))
    else:
        print(clean(_page(found)))
    if bad and not options.json:
        raise config.error(found, bad)
    return 2 if bad else 0


def _set(found: config.Config) -> dict[str, Any]:
    """What the file sets. The text of on_end may hold a secret, and this output is for showing to others."""
    values = {name: getattr(found, name) for name in found.given}
    if "on_end" in values:
        values["on_end"] = "a command, not shown"
    if "keys" in values:
        values["keys"] = {
            ACTIONS[action].name: [written(key) for key in keys] for action, keys in values["keys"].items()
        }
    return values


def _document(found: config.Config, bad: tuple[str, ...]) -> dict[str, Any]:
    keys = effective(found.keys)
    actions = [
        {"id": action, "name": about.name, "keys": keys[action], "usual": about.keys, "screens": about.screens}
        for action, about in ACTIONS.items()
    ]
    there = found.path.exists()
    return {"path": str(found.path), "exists": there, "set": _set(found), "problems": bad, "actions": actions}


def _page(found: config.Config) -> str:
    values = _set(found)
    there = found.path.exists()
    lines = [str(found.path) if there else f"{found.path} does not exist. It may say, for example:"]
    if not there:
        lines += [f"  {line}" for line in EXAMPLE.splitlines()]
    settings = {name: value for name, value in values.items() if not isinstance(value, dict)}
    rows = [[name, str(value).lower() if isinstance(value, bool) else str(value)] for name, value in settings.items()]
    rows += [[path, json.dumps(value, ensure_ascii=False, default=str)] for path, value in found.defaults.items()]
    if rows:
        lines += ["", table(["set", "value"], rows)]
    keys = effective(found.keys)
    rows = [
        [
            about.name,
            " ".join(map(written, keys[action])),
            "changed" if action in found.keys else "",
            ", ".join(about.screens),
        ]
        for action, about in ACTIONS.items()
    ]
    return "\n".join([*lines, "", table(["action", "keys", "", "screens"], rows)])
