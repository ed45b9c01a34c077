"""What differs between runs: their settings, data, environment and code, and whether their results are like with like. Pure."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from engine.compared import Kind, Setting, SettingCell
from engine.lineage import plain
from engine.nested import flatten
from engine.report import short
from engine.short import number
from engine.text import clean

Row = dict[str, Any]
ABOUT = ("run.", "report_to")
"""What a run is called and where it is told of: no parameter that matters."""
OPEN = ("extra.", "data.columns.", "method.quantization.", "method.quantization")
"""Sections that may hold anything or nothing: what is not there is not set."""
SPLIT = ("data.validation", "data.split", "data.split_by", "data.max_rows")
DASH = "–"


class Missing:
    """What is not known of a run."""

    def __repr__(self) -> str:
        return "not known"


UNKNOWN = Missing()


@dataclass(frozen=True)
class Facts:
    """A run as it was read: its row (`latest` and `progress` in it), and what its worker said of the data."""

    run: Row
    data: Row
    known: Mapping[str, str | None] = field(default_factory=dict)
    """Settings of a run without a specification, as they are stored."""
    speed: float | None = None
    size: int | None = None
    seconds: float | None = None
    """Seconds of work, without the time in which nothing of it ran."""
    train_mean: float | None = None
    averaged: int = 0
    """Points of the train loss, its last ones, whose mean that is."""

    @cached_property
    def environment(self) -> Row:
        return self.run["environment"] or {}

    @cached_property
    def machine(self) -> Row:
        return self.environment.get("machine") or {}

    @cached_property
    def plan(self) -> Row:
        return self.run["plan"] or {}

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The specification, flattened, without what says nothing of how it trains."""
        flat = flatten(self.run["spec"] or {}) or {path: plain(value) for path, value in self.known.items()}
        unquantised = self.run["method"] in ("full", "lora") or flat.get("method.quantization", "") is None
        return {
            path: value
            for path, value in flat.items()
            if not path.startswith(ABOUT) and not (unquantised and path.startswith("method.quantization"))
        }

    def setting(self, path: str) -> Any:
        """A parameter, None where it is not set, UNKNOWN where that is not known."""
        if path in self.settings:
            return self.settings[path]
        return None if path.startswith(OPEN) and self.run["spec"] else UNKNOWN

    @cached_property
    def sha256(self) -> str | None:
        return self.environment.get("data_sha256") or self.data.get("sha256")

    @property
    def of_known_rows(self) -> bool:
        """Whether it can be told on which rows it was evaluated."""
        return bool(self.sha256 or self.settings.get("data.path"))

    @cached_property
    def seed(self) -> Any:
        return self.environment.get("seed", self.settings.get("training.seed"))

    @cached_property
    def cards(self) -> str:
        """What it trained on: `2 x NVIDIA H200`, `AMD Ryzen 9`; "" if that is not known."""
        device = self.environment.get("device")
        names = [str(card.get("name") or card) if isinstance(card, dict) else str(card)
                 for card in self.environment.get("gpus") or ([] if device else self.machine.get("cards") or [])]  # fmt: skip
        if names and device != "cpu":
            counts = {name: names.count(name) for name in names}
            return ", ".join(name if count == 1 else f"{count} x {name}" for name, count in counts.items())
        return str(self.machine.get("cpu") or "CPU") if device == "cpu" else ""


def written(value: Any) -> str:
    """A value as people write it; a dash for nothing."""
    if value is UNKNOWN or value is None or value in ("", [], {}):
        return DASH
    if isinstance(value, float):
        return number(value) if value - value == 0 else str(value)
    if isinstance(value, str):
        return clean(value, keep_lines=False)
    return clean(json.dumps(value, ensure_ascii=False, default=str), keep_lines=False)


def settings(found: Sequence[Facts]) -> tuple[Setting, ...]:
    """Every parameter in the specification's order, then what is known of data, environment and code."""
    rows = [
        _row(path, path, "setting", [one.setting(path) for one in found])
        for path in _in_order(one.settings for one in sorted(found, key=lambda one: not one.run["spec"]))
    ]
    facts = [_facts(one) for one in found]
    for path, (kind, name) in {path: about[:2] for one in facts for path, about in one.items()}.items():
        values = [one[path][2] if path in one else UNKNOWN for one in facts]
        texts = [one[path][3] if path in one else DASH for one in facts]
        rows.append(_row(path, name, kind, values, texts))
    rank = {"setting": 0, "data": 1, "environment": 2, "code": 3}
    return tuple(sorted(rows, key=lambda row: rank[row.kind]))


def _in_order(paths: Iterable[Iterable[str]]) -> list[str]:
    """All paths, each behind the one that it stands behind where it was first seen."""
    order: list[str] = []
    for some in paths:
        at = 0
        for path in some:
            if path in order:
                at = order.index(path) + 1
            else:
                order.insert(at, path)
                at += 1
    return order


def _row(path: str, name: str, kind: Kind, values: list[Any], texts: list[str] | None = None) -> Setting:
    texts = texts or [written(value) for value in values]
    cells = tuple(
        SettingCell(text, value is not UNKNOWN, i > 0 and value is not UNKNOWN and _same(value, values[0]))
        for i, (value, text) in enumerate(zip(values, texts, strict=True))
    )
    known = [value for value in values if value is not UNKNOWN]
    return Setting(path, name, kind, cells, any(not _same(value, known[0]) for value in known))


def _same(one: Any, other: Any) -> bool:
    return one is other or (type(one) is not bool and type(other) is not bool and one == other) or (
        isinstance(one, bool) and isinstance(other, bool) and one == other
    )  # fmt: skip


Fact = tuple[Kind, str, Any, str]
"""kind, name, value, text"""


def _facts(one: Facts) -> dict[str, Fact]:
    """What is known of a run besides its settings, by path."""
    found: dict[str, Fact] = {}

    def add(kind: Kind, path: str, name: str, value: Any, text: str = "") -> None:
        if value not in (None, ""):
            found[path] = (kind, name, value, text or written(value))

    add("data", "data.sha256", "data, sha256", one.sha256, (one.sha256 or "")[:12])
    for key, name in (("train", "rows trained on"), ("validation", "rows held out"), ("tokens", "tokens of an epoch")):
        add("data", f"data.{key}", name, one.data.get(key), short(one.data.get(key)))
    add("environment", "device", "trained on", one.cards)
    add("environment", "host", "host", one.machine.get("host") or one.run["host"])
    add("environment", "driver", "driver", one.machine.get("driver"))
    for package, version in (one.environment.get("versions") or {}).items():
        add("environment", f"versions.{package}", clean(package, False), version)
    base = (one.environment.get("base") or {}).get("sha256")
    add("environment", "base.sha256", "base model, sha256", base, (base or "")[:12])
    git = one.environment.get("git") or {}
    add("code", "git.commit", "git commit", git.get("commit"), (git.get("commit") or "")[:12])
    if git.get("dirty") is not None:
        add("code", "git.diff", "changes not committed", git.get("diff") or "none", _diff_text(git.get("diff") or ""))
    return found


def _diff_text(diff: str) -> str:
    """`17 lines, 3f2a`: how many changed, and which change it is."""
    changed = sum(line.startswith(("+", "-")) and not line.startswith(("+++", "---")) for line in diff.split("\n"))
    return f"{changed} lines, {hashlib.sha256(diff.encode()).hexdigest()[:4]}" if diff else "none"


def unlike(one: Facts, base: Facts) -> tuple[str, tuple[str, ...]]:
    """Why the eval losses of two runs cannot be compared, and the settings that make it so; ("", ()) if they can."""
    if _differ(one, base, "objective"):
        return "another objective has another loss", ("objective",)
    if found := _other_rows(one, base):
        return found
    held = one.data.get("validation"), base.data.get("validation")
    if None not in held and held[0] != held[1]:
        return f"evaluated on {held[0]:,} rows, not {held[1]:,}", ("data.validation",)
    if paths := [path for path in ("data.template", "data.system") if _differ(one, base, path)]:
        return "the same rows are written in another way", tuple(paths)
    return _other_tokens(one, base)


def _differ(one: Facts, base: Facts, path: str) -> bool:
    a, b = one.setting(path), base.setting(path)
    return UNKNOWN not in (a, b) and not _same(a, b)


def _other_rows(one: Facts, base: Facts) -> tuple[str, tuple[str, ...]] | None:
    """Why other rows were held out; None if the same were."""
    held = one.setting("data.validation"), base.setting("data.validation")
    if isinstance(held[0], str) or isinstance(held[1], str):
        return None if held[0] == held[1] else ("evaluated on another file", ("data.validation",))
    if other := _other_data(one, base):
        return other
    paths = [
        path
        for path in (*SPLIT, *(p for p in one.settings if p.startswith("data.filters.")))
        if _differ(one, base, path)
    ]
    if paths:
        return "other rows were held out", tuple(paths)
    if None not in (one.seed, base.seed) and one.seed != base.seed:
        return "another seed holds out other rows", ("training.seed",)
    return None


def _other_data(one: Facts, base: Facts) -> tuple[str, tuple[str, ...]] | None:
    if one.sha256 and base.sha256:
        return None if one.sha256 == base.sha256 else ("evaluated on other data", ("data.path", "data.sha256"))
    paths = one.settings.get("data.path"), base.settings.get("data.path")
    if None not in paths:
        return None if paths[0] == paths[1] else ("evaluated on other data", ("data.path",))
    told = [(run["project"], run["dataset"], bool(run["source"])) for run in (one.run, base.run)]
    return None if told[0] == told[1] else ("it is not known on which rows it was evaluated", ("data.path",))


def _other_tokens(one: Facts, base: Facts) -> tuple[str, tuple[str, ...]]:
    """A loss is per token: of another tokenizer it is another thing."""
    tokens = one.data.get("tokens"), base.data.get("tokens")
    if None not in tokens and tokens[0] == tokens[1]:
        return "", ()
    models = [run.settings.get("model.path") or run.run["model"] for run in (one, base)]
    if models[0] != models[1]:
        return "another model may count tokens in another way", ("model.path",)
    lengths = [path for path in ("training.max_length", "training.long_rows") if _differ(one, base, path)]
    return ("its rows are cut at another length", tuple(lengths)) if lengths and None not in tokens else ("", ())


def other_machine(one: Facts, base: Facts) -> str:
    """Why time, speed and memory of two runs cannot be compared; "" if they can."""
    if not one.cards or not base.cards or one.cards == base.cards:
        return ""
    return f"trained on {one.cards}, not {base.cards}"
