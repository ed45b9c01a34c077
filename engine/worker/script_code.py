"""Python as text: calls with their arguments, and the fields of a configuration as one would write them."""

import dataclasses
import enum
import re
from pathlib import Path
from typing import Any

from engine.spec import RunSpec


class Code(str):
    """A value that is written into the script as it stands."""

    __repr__ = str.__str__


def reward_modules(spec: RunSpec) -> dict[str, str]:
    """The user's files of reward functions, and what their copies beside the script are called."""
    files = dict.fromkeys(named.rpartition(":")[0] for named in spec.objective_options.rewards)
    stems = [re.sub(r"\W", "_", Path(file).stem) for file in files]
    return {
        file: f"reward_{stem}" + (f"_{i}" if stem in stems[:i] else "")
        for i, (file, stem) in enumerate(zip(files, stems, strict=True))
    }


def uses(body: str, name: str) -> bool:
    return re.search(rf"\b{name}\b", body) is not None


def call(name: str, arguments: dict[str, Any], indent: str = "", first: str = "") -> Code:
    """`name(first, a=1, b=2)`: in one line where that is short, else an argument a line."""
    parts = [first] * bool(first) + [f"{key}={value!r}" for key, value in arguments.items()]
    line = f"{name}({', '.join(parts)})"
    if len(indent + line) < 90 and "\n" not in line:
        return Code(line)
    return Code(f"{name}(\n" + "".join(f"{indent}    {part},\n" for part in parts) + f"{indent})")


def differing(made: Any) -> dict[str, Any]:
    """The fields of a dataclass that are not at their default, as one would write them."""
    found = {}
    for field in dataclasses.fields(made):
        factory = field.default_factory
        default = field.default if factory is dataclasses.MISSING else factory()
        value = getattr(made, field.name)
        if field.init and value != default and field.name not in ("peft_type", "peft_version"):
            found[field.name] = _written(value)
    return found


def _written(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        return value.value
    return sorted(value) if isinstance(value, set) else value


def bitsandbytes_arguments(settings: dict[str, Any]) -> dict[str, Any]:
    """The arguments of BitsAndBytesConfig: its dictionary has more."""
    return {
        key: value
        for key, value in settings.items()
        if key in ("load_in_4bit", "load_in_8bit") or key.startswith(("bnb_", "llm_"))
    }


def read_template(name: str) -> str:
    return f'tokenizer.chat_template = (HERE / "{name}").read_text(encoding="utf-8")'
