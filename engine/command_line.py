"""A run as one would start it from the shell: the fewest `--set` that make it, or the whole of it as a file with reasons.

Pure, but for what is passed in.
"""

import json
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

import yaml

from engine.errors import TuneDeckError
from engine.planner.rules import Goal
from engine.short import number
from engine.spec import RunSpec, apply_sets, flatten
from engine.text import clean

USUAL_GOAL: Goal = "instructions"
"""What `tunedeck train` takes without `--goal`."""
KEPT = ("data.", "method.kind")
"""What is always said where it is not as recommended: other data would cost another look at all of it, and one wants to read
which method it is even where a rank says that it has adapters."""
_UNREADABLE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff\ufffe\uffff]")
"""What JSON leaves as it is and YAML refuses to read, or takes for the end of a line."""
_WORD = re.compile(r"[A-Za-z][\w./-]*")


def differences(spec: RunSpec, base: RunSpec) -> dict[str, tuple[Any, Any]]:
    """By path (value in `base`, value in `spec`) where the two differ; None where one of them has no such field."""
    now, before = flatten(spec.model_dump(mode="json")), flatten(base.model_dump(mode="json"))
    paths = [*now, *(path for path in before if path not in now)]
    return {path: (before.get(path), now.get(path)) for path in paths if now.get(path) != before.get(path)}


def fewest(
    chosen: Collection[str], target: RunSpec, base: RunSpec | None, make: Callable[[Mapping[str, Any]], RunSpec]
) -> dict[str, Any] | None:
    """The values, by path, that have to be given so that `make` gives `target`; None if those of `chosen` do not do it.

    `chosen` are paths of which some may be as recommended or follow from others; `base` is what `make` gives for none,
    None where it gives nothing.
    """

    def same(sets: Mapping[str, Any]) -> bool:
        try:
            return make(sets) == target
        except TuneDeckError:  # half of what was chosen may be impossible
            return False

    values = flatten(target.model_dump(mode="json"))
    given = {path: values[path] for path in chosen if path in values}
    differ = differences(target, base) if base else given
    sets = {path: value for path, value in given.items() if path in differ}
    if not same(sets):
        sets = given
        if not same(sets):
            return None
    for path in reversed([*sets]):
        without = {name: value for name, value in sets.items() if name != path}
        if not path.startswith(KEPT) and same(without):
            sets = without
    return sets


def arguments(spec: RunSpec, sets: Mapping[str, Any], goal: Goal = USUAL_GOAL) -> list[str]:
    """`tunedeck train ...` for a specification, of which `sets` has to be given besides the model and the data."""
    found = ["tunedeck", "train", "--model", spec.model.path]
    if isinstance(spec.data.path, str):
        found += ["--data", spec.data.path]
    else:
        sets = {"data.path": spec.model_dump(mode="json")["data"]["path"]} | dict(sets)
    found += ["--goal", goal] if goal != USUAL_GOAL else []
    return found + [part for path, value in sets.items() for part in ("--set", set_text(path, value))]


def set_text(path: str, value: Any) -> str:
    """`training.learning_rate=1e-4`: what `--set` reads as this value."""
    if isinstance(value, float):
        return f"{path}={number(value)}"
    if isinstance(value, str) and not _reads_back(value):
        return f"{path}={_quoted(value)}"
    return f"{path}={value if isinstance(value, str) else _flow(value)}"


def _reads_back(text: str) -> bool:
    """Whether a text is read as itself, and not as a number, a list or a comment."""
    try:
        read: Any = apply_sets({}, [f"x={text}"])["x"]
    except TuneDeckError:
        return False
    return isinstance(read, str) and read == text


def _flow(value: Any) -> str:
    """A value as YAML in one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_quoted(str(name))}: {_flow(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if isinstance(value, str):
        return value if _is_plain(value) else _quoted(value)
    if isinstance(value, float):  # YAML 1.1 reads 1e-05 as text
        return re.sub(r"^(-?\d+)e", r"\1.0e", repr(value))
    return json.dumps(value)


def _is_plain(text: str) -> bool:
    """Whether a word needs no quotes."""
    return _WORD.fullmatch(text) is not None and yaml.safe_load(text) == text


def _quoted(text: str) -> str:
    """A text in quotes, in one line."""
    return _UNREADABLE.sub(lambda found: f"\\u{ord(found.group()):04x}", json.dumps(text, ensure_ascii=False))


def commented(spec: RunSpec, comments: Mapping[str, str], head: str = "") -> str:
    """The whole specification as YAML with comments by path, and `head` above it."""
    lines = [f"# {clean(line)}".rstrip() for line in head.splitlines()]
    return "\n".join([*lines, *_mapping(spec.model_dump(mode="json"), comments, "", "")]) + "\n"


def _mapping(values: Mapping[str, Any], comments: Mapping[str, str], path: str, indent: str) -> list[str]:
    lines = []
    for name, value in values.items():
        comment = clean(" ".join(comments.get(path + name, "").split()), keep_lines=False)
        if isinstance(value, dict) and value and _is_plain(name):
            lines += [f"{indent}# {comment}"] if comment else []
            lines += [f"{indent}{name}:", *_mapping(value, comments, f"{path}{name}.", indent + "  ")]
            continue
        text = _dumped({name: value})
        if "\n" not in text:
            lines.append(f"{indent}{text}  # {comment}" if comment else indent + text)
            continue
        lines += [f"{indent}# {comment}"] if comment else []
        lines += [indent + line for line in text.split("\n")]
    return lines


def _dumped(value: Mapping[str, Any]) -> str:
    """As YAML with letters as they are, but for those that PyYAML writes and does not read back."""
    text = yaml.safe_dump(value, allow_unicode=True, sort_keys=False, width=10**6)
    if _UNREADABLE.search(text):
        text = yaml.safe_dump(value, sort_keys=False, width=10**6)
    return text.removesuffix("\n")
