"""Is this machine ready to train, and what is missing."""

import contextlib
import importlib.metadata
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from engine.errors import RunError, TuneDeckError
from engine.hardware import Hardware, probe, ram_used
from engine.models import known_models
from engine.paths import runs_directory
from engine.store import upkeep
from engine.store.connection import DatabaseError, explained, look_into, writable
from engine.store.copies import mib
from engine.store.migrations import VERSION
from engine.store.place import place_of
from engine.taking import converter

PACKAGES = ("torch", "transformers", "trl", "peft", "datasets", "accelerate", "bitsandbytes")
TESTED = {"torch": "2.13", "transformers": "5.23", "trl": "1.16", "peft": "0.21"}


@dataclass(frozen=True)
class Check:
    """One finding; `level` is ok, note or fatal."""

    name: str
    level: str
    text: str
    hint: str = ""


def examine(database: Path) -> list[Check]:
    """Look at packages, hardware, disk, models and the database. Writes nothing."""
    hardware = probe()
    return [_python(), *(_package(name) for name in PACKAGES), *_gpus(hardware), _ram(hardware), _disk(database),
            _models(), _converter(), _database(database)]  # fmt: skip


def _python() -> Check:
    return Check("python", "ok", sys.version.split()[0])


def _package(name: str) -> Check:
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Check(name, "fatal", "not installed", f"pip install {name}")
    tested = TESTED.get(name)
    if tested and not version.startswith(tested + "."):
        return Check(name, "note", version, f"tested with {tested}; see constraints.txt")
    return Check(name, "ok", version)


def _gpus(hardware: Hardware) -> list[Check]:
    if not hardware.gpus:
        return [Check("GPU", "note", hardware.problem or "none", "Training runs on the CPU: small models only.")]
    return [
        Check(f"GPU {g.index}", "ok", f"{g.name}, {g.memory_total:.1f} GiB, driver {hardware.driver or '–'}")
        if g.memory_total
        else Check(f"GPU {g.index}", "note", g.name, "It gives no memory figure, so it is not used.")
        for g in hardware.gpus
    ]


def _converter() -> Check:
    """What an export to GGUF needs."""
    try:
        found = converter.find()
    except RunError as error:
        return Check("GGUF", "note", error.message, error.hint)
    return Check("GGUF", "ok", f"llama.cpp's converter: {found.command[-1]}")


def _ram(hardware: Hardware) -> Check:
    free = hardware.ram_total - ram_used()
    text = f"{free:.1f} of {hardware.ram_total:.1f} GiB free"
    return (
        Check("RAM", "ok", text)
        if free > 4
        else Check("RAM", "note", text, "Loading a model needs twice its size for a moment.")
    )


def _disk(database: Path) -> Check:
    place = next(p for p in (database.parent, *database.parent.parents) if p.exists())
    free = shutil.disk_usage(place).free / 2**30
    text = f"{free:.0f} GiB free at {place}"
    return (
        Check("disk", "ok", text)
        if free > 5
        else Check("disk", "note", text, "Checkpoints of full fine-tuning need 12 B a parameter.")
    )


def _models() -> Check:
    models = known_models()
    return Check("models", "ok", f"{len(models)} in the hub cache" + (f": {', '.join(models[:3])}" if models else ""))


def _database(database: Path) -> Check:
    """What there is of it, without changing anything: `tunedeck db check` looks closer."""
    if not database.exists():
        return _no_database(database)
    place = place_of(database)
    where = f"{database} on {place.kind}" if place.kind else str(database)
    try:
        with contextlib.closing(look_into(database, patience=1.0)) as db:
            facts = upkeep.facts(db)
    except (TuneDeckError, DatabaseError) as error:
        found = explained(database, error)
        return Check("database", "fatal", f"{where}: {found.title.lower()}. {found.message}", found.hint)
    older = (
        ""
        if facts.version == VERSION
        else f", schema {facts.version}: brought up to {VERSION} when it is opened, a copy is kept"
    )
    text = f"{where}, {facts.runs:,} runs, {mib(facts.size)}{older}"
    if not writable(database):
        return Check(
            "database", "note", f"{text}, read only", "Looking works; to start runs, name another place with --db."
        )
    if place.network:
        return Check("database", "note", f"{text}, a network file system: a rollback journal instead of the write-ahead log",
                     "It works, more slowly; on a local disk it is faster.")  # fmt: skip
    return Check("database", "ok", text)


def _no_database(database: Path) -> Check:
    lost = len(list(runs_directory(database).glob("*/spec.yaml")))
    if lost:
        return Check("database", "note", f"{database} does not exist, but {lost:,} runs lie beside where it would be",
                     "Make it from them: tunedeck db rebuild")  # fmt: skip
    return Check("database", "ok", f"{database} will be made by the first run")
