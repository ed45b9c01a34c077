"""Files of an export: which a model has, and their hashes."""

import hashlib
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

MODEL_FILES = (
    "adapter_config.json", "adapter_model.safetensors", "config.json", "generation_config.json", "model.safetensors",
    "model-*.safetensors", "model.safetensors.index.json", "tokenizer*", "special_tokens_map.json", "added_tokens.json",
    "vocab.*", "merges.txt", "spiece.model", "chat_template.jinja", "additional_chat_templates/*.jinja", "preprocessor_config.json",
    "processor_config.json",
)  # fmt: skip
"""What a saved model consists of; optimizer states, random states and training arguments stay with the run."""
SUMS = "SHA256SUMS"


def model_files(folder: Path) -> list[Path]:
    """The files of a saved adapter or model, sorted."""
    found = {path for pattern in MODEL_FILES for path in folder.glob(pattern) if path.is_file()}
    return sorted(found)


def total(files: Iterable[Path]) -> int:
    return sum(path.stat().st_size for path in files)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def artifacts(kind: str, made: Path, target: Path) -> list[dict[str, Any]]:
    """Every file of an export with its hash, by the name that it will have."""
    files = [made] if made.is_file() else sorted(path for path in made.rglob("*") if path.is_file())
    return [{"kind": kind, "path": str(target / path.relative_to(made)) if made.is_dir() else str(target),
             "bytes": path.stat().st_size, "sha256": sha256(path)} for path in files]  # fmt: skip


def sums(folder: Path) -> str:
    """The hashes of a directory's files as `sha256sum -c` reads them."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != SUMS)
    return "".join(f"{sha256(path)}  {path.relative_to(folder)}\n" for path in files)


def copied(source: Path, folder: Path) -> None:
    """Copy a saved adapter or model, and nothing else that lies beside it."""
    for path in model_files(source):
        place = folder / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
