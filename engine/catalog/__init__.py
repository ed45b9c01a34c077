"""Facts about well-known cards (gpus.toml) and base models (models.toml), each with its source."""

import functools
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FIRST_BF16 = (8, 0)  # Ampere; older cards compute in fp16
# Words in a device's name that say nothing about which chip it is. "PCIe" is judged apart: some boards are slower with it.
NEUTRAL = re.compile(
    r"\b(nvidia|geforce|tesla|generation|workstation|edition|blackwell|pcie|sxm\d?|hbm\d\w?|\d+ ?g(i?b)?)\b"
)


@dataclass(frozen=True)
class Card:
    """A GPU: total memory in GiB as NVML shows it (CUDA offers 0.3 to 0.9 GiB less), bandwidth in GB/s, and the dense
    bf16 tensor rate in TFLOPS (fp16 where `bf16` is False)."""

    key: str
    name: str
    memory: float
    bandwidth: float
    tflops: float
    bf16: bool
    capability: tuple[int, int]
    source: str


@dataclass(frozen=True)
class CatalogModel:
    """A base model: context in tokens, `config` as in config.json (do not change it), `template` for a chat template."""

    id: str
    licence: str
    context: int
    parameters: int
    template: bool
    gated: bool
    source: str
    config: dict[str, Any]


def _read(name: str) -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name(name).read_text(encoding="utf-8"))


@functools.cache
def cards() -> dict[str, Card]:
    """The cards by key (`rtx4090`, `a100-80gb`)."""
    table = _read("gpus.toml")
    return {
        key: Card(
            key=key, name=row["name"], memory=row["mib"] / 1024, bandwidth=row["bandwidth"], tflops=row["tflops"],
            bf16=tuple(row["capability"]) >= FIRST_BF16, capability=(row["capability"][0], row["capability"][1]),
            source=table["sources"][row["source"]],
        )
        for key, row in table["cards"].items()
    }  # fmt: skip


@functools.cache
def models() -> dict[str, CatalogModel]:
    """The models by hub id."""
    found: dict[str, CatalogModel] = {}
    for row in _read("models.toml")["models"]:
        base = found.get(row.pop("same_as", ""))
        if base:
            row = {**row, "parameters": base.parameters, "config": base.config | row.get("config", {})}
        found[row["id"]] = CatalogModel(**row)
    return found


def find_model(name: str) -> CatalogModel | None:
    """The model with this hub id or its last part, in any case, also without `Meta-` or `-hf`; None if none or several."""
    wanted = _model_name(name)
    found = [model for model in models().values() if wanted in (_model_name(model.id), _model_name(model.id)[1:])]
    return found[0] if len(found) == 1 else None


def _model_name(name: str) -> tuple[str, ...]:
    *organisation, last = name.strip().lower().split("/")
    return (*organisation, last.removeprefix("meta-").removesuffix("-hf"))


def find_card(name: str, memory: float | None = None) -> Card | None:
    """The card that a device name means, as NVML shows it ("NVIDIA A100-SXM4-80GB") or as people write it ("4090").

    Among cards that differ in memory alone the one nearest to `memory` (GiB; else to the size in the name; else the
    smallest). None for laptop chips, MIG slices and cards that the catalog lacks.
    """
    chip, size = _chip(name), memory or stated_size(name) or 0.0
    same = [c for c in cards().values() if {chip, f"rtx{chip}"} & {_chip(c.key), _chip(c.name)}]
    pcie = "pcie" in name.lower()
    return min(same, key=lambda c: (("pcie" in c.name.lower()) != pcie, abs(c.memory - size)), default=None)


def stated_size(name: str) -> float | None:
    """The memory that a device name carries, in GB: 80 for "A100-SXM4-80GB"."""
    found = re.search(r"\b(\d+) ?gi?b\b", name.lower())
    return float(found[1]) if found else None


def _chip(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", NEUTRAL.sub(" ", name.lower()))
