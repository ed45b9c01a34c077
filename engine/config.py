"""The one config file of the user: how the app looks, its keys, what happens when a run ends, what every run starts with.

`$TUNEDECK_CONFIG`, else `config.yaml` in the user's config directory. Light to import, and a file that does not exist costs
nothing more: the app's first paint waits for it. What `defaults` may hold is checked in `engine.defaults`, which knows runs.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine import keys as k
from engine.errors import ConfigError
from engine.paths import config_file

THEMES = ("dark", "light", "high")
CHARTS = ("braille", "blocks", "ascii")
HINT = "Mend the file; tunedeck config shows what is understood, and the names of the keys."


@dataclass(frozen=True)
class Config:
    """What the file says, checked; what it leaves open is as it is without a file."""

    path: Path
    theme: str = "dark"
    ascii: bool = False
    charts: str = "braille"
    bell: bool = True
    on_end: str = field(default="", repr=False)
    """A shell command for the end of every run. It may hold a secret: it is stored and shown nowhere else."""
    keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The keys of actions (ids of `engine.keys.ACTIONS`) that are not the usual ones."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Values of the specification by path: training.learning_rate to 1e-4."""
    given: tuple[str, ...] = ()
    """What the file names."""
    problems: tuple[str, ...] = ()
    """What is wrong with the file, each in a sentence; the rest of it is good."""

    @property
    def problem(self) -> str:
        """One sentence for all, empty where all is well."""
        if not self.problems:
            return ""
        first = self.problems[0].rstrip(".")
        if len(self.problems) == 1:
            return f"Your config has a problem: {first}. See tunedeck config."
        return f"Your config has {len(self.problems)} problems, see tunedeck config; the first: {first}."


def read() -> Config:
    """The config, the good part of a broken one. Never raises."""
    path = config_file()
    if not os.path.exists(path):  # False too where the directory may not be looked into
        return Config(path)
    try:
        raw = _parsed(path)
    except ValueError as error:
        return Config(path, problems=(str(error),))
    return checked(path, raw)


def required() -> Config:
    """The config. Raises ConfigError with all of its problems."""
    config = read()
    if config.problems:
        raise error(config, config.problems)
    return config


def error(config: Config, problems: tuple[str, ...]) -> ConfigError:
    """What is said of a broken file."""
    title = "Your config has a problem" if len(problems) == 1 else "Your config has problems"
    return ConfigError(title, f"{config.path}: {'; '.join(problems)}", HINT)


def _parsed(path: Path) -> dict[str, Any]:
    """The file as a mapping. Raises ValueError, saying why not."""
    import yaml  # 10 ms that only those pay who have a file

    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"it cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text") from None
    try:
        raw = yaml.safe_load(text)  # in Python: the parser in C dies of deep nesting
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # PyYAML lets ValueError out for 2026-13-45
        raise ValueError("it is not YAML: " + _where(error)) from None
    if raw is not None and not isinstance(raw, dict):
        raise ValueError("it holds no mapping, as in theme: light")
    return raw or {}


def _where(error: Exception) -> str:
    """What is wrong with a file that is not YAML, and its line where that is known."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if mark is not None and problem:
        return f"line {mark.line + 1}: {problem}"
    return "too deeply nested" if isinstance(error, RecursionError) else " ".join(str(error).split())[:200]


def checked(path: Path, raw: Mapping[Any, Any]) -> Config:
    """What is good of a file's content, and sentences about the rest."""
    problems: list[str] = []
    good: dict[str, Any] = {}
    for name, value in raw.items():
        check = CHECKS.get(str(name))
        if check is None:
            problems.append(f"{name} is not a known key{_near(str(name), CHECKS)}")
        elif value is not None:  # an empty line sets nothing
            found = check(value, problems)
            if found is not None:
                good[str(name)] = found
    return Config(path, **good, given=tuple(good), problems=tuple(problems))


def _one_of(name: str, choices: tuple[str, ...]) -> Callable[[Any, list[str]], Any]:
    def check(value: Any, problems: list[str]) -> Any:
        if value in choices:
            return value
        problems.append(f"{name} must be one of {', '.join(choices)}, not {_shown(value)}")
        return None

    return check


def _switch(name: str) -> Callable[[Any, list[str]], Any]:
    def check(value: Any, problems: list[str]) -> Any:
        if isinstance(value, bool):
            return value
        problems.append(f"{name} must be true or false, not {_shown(value)}")
        return None

    return check


def _command(value: Any, problems: list[str]) -> Any:
    if isinstance(value, str) and "\0" not in value:
        return value.strip()
    problems.append("on_end must be a shell command in one text")
    return None


def _defaults(value: Any, problems: list[str]) -> Any:
    if not isinstance(value, dict) or not all(isinstance(path, str) for path in value):
        problems.append("defaults must be fields and their values, as in training.epochs: 2")
        return None
    return dict(value)


def _keys(value: Any, problems: list[str]) -> Any:
    """The good ones; of those that mean two things on a screen none."""
    if not isinstance(value, dict):
        problems.append("keys must be actions and their keys, as in Stop: S")
        return None
    changed: dict[str, tuple[str, ...]] = {}
    for name, given in value.items():
        action = k.IDS.get(k.folded(str(name)))
        if action is None:
            names = [about.name for about in k.ACTIONS.values()]
            problems.append(f"keys: {name} is no action{_near(str(name), names)}")
        elif action in changed:
            problems.append(f"keys: {k.ACTIONS[action].name} is there twice")
        elif (found := _keys_of(action, given, problems)) is not None:
            changed[action] = found
    return _without_conflicts(changed, problems)


def _keys_of(action: str, given: Any, problems: list[str]) -> tuple[str, ...] | None:
    about = k.ACTIONS[action]
    found = []
    for one in given if isinstance(given, list) else [given]:
        if isinstance(one, bool) or not isinstance(one, str | int) or one == "":
            problems.append(f"keys: {about.name} must be a key or a list of keys, in quotes if it is one like 'y'")
            return None
        try:
            key = k.key_of(str(one))
        except ValueError as error:
            problems.append(f"keys: {about.name}: {_shown(one)} {error}")
            return None
        if about.typed and k.writes(key):
            problems.append(f"keys: {about.name} works while one types too, so {_shown(one)} cannot be its key")
            return None
        found.append(key)
    if not found:
        problems.append(f"keys: {about.name} has no key left")
    return tuple(dict.fromkeys(found)) or None


def _without_conflicts(changed: dict[str, tuple[str, ...]], problems: list[str]) -> dict[str, tuple[str, ...]]:
    """Taking one change back can make another conflict, so again until there is none."""
    while found := k.conflicts(changed):
        for key, one, other in found:
            problems.append(f"keys: {key} is both {k.ACTIONS[one].name} and {k.ACTIONS[other].name}")
            changed.pop(one, None)
            changed.pop(other, None)
    return changed


def _near(name: str, names: Any) -> str:
    import difflib

    near = difflib.get_close_matches(name.casefold(), [one.casefold() for one in names], 1, 0.4)
    return f"; did you mean {next(one for one in names if one.casefold() == near[0])}?" if near else ""


def _shown(value: Any) -> str:
    return repr(value)[:40]


CHECKS: dict[str, Callable[[Any, list[str]], Any]] = {
    "theme": _one_of("theme", THEMES),
    "ascii": _switch("ascii"),
    "charts": _one_of("charts", CHARTS),
    "bell": _switch("bell"),
    "on_end": _command,
    "keys": _keys,
    "defaults": _defaults,
}
"""What the file may name, and how that is checked: the value, or None with a sentence among the problems."""
