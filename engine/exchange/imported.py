"""`tunedeck import`: which tool a file is of, what it says as a specification, and what could not be carried over."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from engine.errors import SpecError
from engine.exchange.from_axolotl import from_axolotl
from engine.exchange.from_trl import from_trl
from engine.exchange.reading import Left
from engine.spec import RunSpec, parse, read_yaml


@dataclass(frozen=True)
class Imported:
    """`tool` is axolotl or trl; `raw` holds what was carried over, and is accepted as a specification."""

    tool: str
    raw: dict[str, Any]
    left: list[Left]

    def text(self, source: str) -> str:
        """The specification as YAML, with where it comes from."""
        order = {name: i for i, name in enumerate(RunSpec.model_fields)}
        ordered = dict(sorted(self.raw.items(), key=lambda item: order[item[0]]))
        return f"# From {source} ({self.tool}) by tunedeck import\n" + yaml.safe_dump(ordered, sort_keys=False)


def read_foreign(path: Path) -> Imported:
    """Read a YAML file of Axolotl or TRL. Raises SpecError for any other, or if what it says is no specification."""
    raw = read_yaml(path)
    tool = tool_of(raw)
    if tool is None:
        ours = isinstance(raw.get("model"), dict)
        raise SpecError(
            "It is a specification of TuneDeck's already" if ours else "The file is of no tool that is known here",
            f"{path} has model.path."
            if ours
            else f"{path} has neither base_model (Axolotl) nor model_name_or_path (TRL).",
            f"Start it: tunedeck train {path}"
            if ours
            else "Import reads YAML files of Axolotl and of trl sft --config.",
        )
    try:
        reading = (from_axolotl if tool == "axolotl" else from_trl)(raw, path.parent)
    except (TypeError, ValueError, AttributeError, KeyError) as error:  # a list where a number should be, and the like
        raise SpecError("The file has a value of another kind than expected", f"{path}: {error}.",
                        f"Is it a file that {tool} takes?") from error  # fmt: skip
    if not reading.has("data.path"):
        name = "datasets" if tool == "axolotl" else "dataset_name"
        raise SpecError("The file names no data", f"{path} has no {name} that could be read.", f"Add {name} to it.")
    parse(reading.spec)
    return Imported(tool, reading.spec, reading.left)


def tool_of(raw: dict[str, Any]) -> str | None:
    """By the name that each gives to the base model."""
    return "axolotl" if "base_model" in raw else "trl" if "model_name_or_path" in raw else None
