"""What every new run starts with by the user's config: laid beneath what the user says for the run."""

import difflib
from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel

from engine import config
from engine.errors import SpecError
from engine.planner.rules import Reason
from engine.runnable import check_runnable
from engine.spec import RunSpec, flatten, number, parse

WHY = "your config"
_ANY = {"model.path": "any", "data.path": "any"}
"""So that a specification without a model or data can be checked."""


def of_config() -> dict[str, Any]:
    """The defaults of the config, by path. Raises ConfigError if anything in the file is wrong."""
    found = config.required()
    if bad := problems(found.defaults):
        raise config.error(found, bad)
    return _flat(found.defaults)


def problems(defaults: Mapping[str, Any]) -> tuple[str, ...]:
    """What is wrong with defaults by themselves, each in a sentence."""
    known = _paths(RunSpec)
    flat = _flat(defaults)
    unknown = [path for path in flat if not any(path == one or path.startswith(one + ".") for one in known)]
    said = [f"defaults: {path} is not a field of the specification{_near(path, known)}" for path in unknown]
    rest = {path: value for path, value in flat.items() if path not in unknown}
    try:
        _checked(rest)
    except SpecError as error:
        said.append(f"defaults: {error.message}")
    return tuple(said)


def beneath(raw: Mapping[str, Any], defaults: Mapping[str, Any]) -> tuple[dict[str, Any], list[Reason]]:
    """`raw` with the defaults where it leaves fields open, and why they have their values.

    A default that does not go with what the user says is left out, and the reason says so. Where `raw` is wrong by itself
    it comes back as it is: whoever parses it says why. A fork does too: it has what its parent has.
    """
    laid, reasons = dict(raw), list[Reason]()
    if _says(raw, "run.parent"):
        return laid, reasons
    for path, value in _flat(defaults).items():
        if _says(raw, path):
            continue
        more = _put(laid, path.split("."), value)
        if _good(more):
            laid = more
            reasons.append(Reason(path, value, WHY))
        elif _good(laid):
            reasons.append(Reason(path, None, f"{WHY} has {value}, which does not go with the rest"))
    return laid, reasons


def _flat(defaults: Mapping[str, Any]) -> dict[str, Any]:
    """By path, sections taken apart; 2e-4 is a number, which YAML 1.1 does not know. What is empty sets nothing."""
    values = flatten(dict(defaults)).items()
    return {path: number(value) if isinstance(value, str) else value for path, value in values if value is not None}


def _checked(flat: Mapping[str, Any]) -> None:
    """Raises SpecError."""
    raw: dict[str, Any] = {}
    for path, value in flat.items():
        raw = _put(raw, path.split("."), value)
    check_runnable(parse(_whole(raw)))


def _good(raw: Mapping[str, Any]) -> bool:
    try:
        check_runnable(parse(_whole(raw)))
    except SpecError:
        return False
    return True


def _whole(raw: Mapping[str, Any]) -> dict[str, Any]:
    whole = dict(raw)
    for path, value in _ANY.items():
        if not _says(whole, path):
            whole = _put(whole, path.split("."), value)
    return whole


def _says(raw: Mapping[str, Any], path: str) -> bool:
    """Whether a nested mapping has a value there, or one in place of the section."""
    node: Any = raw
    for name in path.split("."):
        if not isinstance(node, Mapping):
            return True
        node = node.get(name)
        if node is None:
            return False
    return True


def _put(node: Mapping[str, Any], names: list[str], value: Any) -> dict[str, Any]:
    """A copy with a value at a path; sections that are missing are made."""
    if len(names) == 1:
        return {**node, names[0]: value}
    child = node.get(names[0])
    return {**node, names[0]: _put(child if isinstance(child, Mapping) else {}, names[1:], value)}


def _paths(section: type[BaseModel], prefix: str = "") -> list[str]:
    """The fields of the specification by path; a field that takes any keys is one."""
    found: list[str] = []
    for name, about in section.model_fields.items():
        kinds = [about.annotation, *get_args(about.annotation)]
        inner = next((one for one in kinds if isinstance(one, type) and issubclass(one, BaseModel)), None)
        found += _paths(inner, f"{prefix}{name}.") if inner else [prefix + name]
    return found


def _near(path: str, known: list[str]) -> str:
    names = [*known, *(one.rpartition(".")[2] for one in known)]
    near = difflib.get_close_matches(path, names, 1) or difflib.get_close_matches(path.rpartition(".")[2], names, 1)
    whole = [one for one in known if near and (one == near[0] or one.endswith("." + near[0]))]
    return f"; did you mean {whole[0]}?" if whole else ""
