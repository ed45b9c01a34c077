"""Which base model it was: a hash of its files that is cheap to take, and whether the base is still that one. No torch."""

import dataclasses
import functools
import hashlib
import json
import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from engine import catalog
from engine.after.trained import ADAPTER, Trained
from engine.errors import ModelError, RunError, TuneDeckError
from engine.events import Base
from engine.files import read_records
from engine.models import cached_snapshot, inspect_model
from engine.spec import read_yaml
from engine.text import clean

SMALL = (
    "config.json", "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "vocab.txt", "merges.txt", "spiece.model", "chat_template.jinja", "chat_template.json",
    "model.safetensors.index.json",
)  # fmt: skip
"""Files that are hashed whole: what a model of these weights computes, and from which tokens."""
END = 1 << 20
GGUF_BEGIN = 16 << 20
"""A GGUF file begins with its tokenizer."""
SAMPLE, SAMPLES = 64 << 10, 128
HEADER = 100 << 20
"""A safetensors header is not larger (the format's own limit)."""

_LAYER = re.compile(r"^base_model\.model\.(?:model|transformer)\.(?:layers|h)\.(\d+)\.")

Shapes = dict[str, tuple[int, ...]]


def fingerprint(path: str | os.PathLike[str]) -> str:
    """SHA-256 over what tells a model's files from others: a directory, a snapshot of the hub's cache, or a `.gguf` file.

    Of the configuration, the tokenizer and the index all bytes; of each weights file its name, size, header (names, shapes
    and types of the tensors), first and last MiB, and 64 KiB at 128 places spread over all the weights: a fraction of a
    second for 140 GB. Training moves every weight, so other weights are seen; what is not seen is a change of the same
    length between the samples (a few single weights, a bit flipped on a disk), and the generation settings. Where the files
    lie, and when they were written, does not count. Raises OSError.
    """
    place = Path(path)
    files = [place] if place.is_file() else _files(place)
    return _hashed(tuple((str(file), *_state(file)) for file in files))


def _files(place: Path) -> list[Path]:
    weights = [file for file in sorted(place.glob("*.safetensors")) if not file.name.startswith("adapter_")]
    gguf = [] if weights else sorted(place.glob("*.gguf"))
    found = [place / name for name in SMALL if (place / name).is_file()] + weights + gguf
    if not found:
        raise FileNotFoundError(f"{place} holds no model")
    return found


def _state(file: Path) -> tuple[int, int]:
    stat = file.stat()
    return stat.st_size, stat.st_mtime_ns


@functools.lru_cache(maxsize=64)
def _hashed(files: tuple[tuple[str, int, int], ...]) -> str:
    """Of files with their sizes and times, so that the points of a sweep do not read the same model again."""
    digest = hashlib.sha256()
    total = sum(size for name, size, _ in files if _is_weights(name)) or 1
    for name, size, _ in files:
        digest.update(json.dumps([Path(name).name if not name.endswith(".gguf") else "gguf", size]).encode())
        with open(name, "rb") as file:
            for start, length in _parts(Path(name), size, total):
                file.seek(start)
                digest.update(file.read(length))
    return digest.hexdigest()


def _is_weights(name: str) -> bool:
    return name.endswith((".safetensors", ".gguf"))


def _parts(file: Path, size: int, total: int) -> Iterator[tuple[int, int]]:
    """Where to read a file, and how much: of weights the header, both ends, and the file's share of the samples."""
    if not _is_weights(file.name) or size <= 4 * END:
        yield 0, size
        return
    begin = GGUF_BEGIN if file.suffix == ".gguf" else END
    if file.suffix == ".safetensors":
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
        begin = max(begin, 8 + min(length, HEADER))
    yield 0, begin
    count = max(1, SAMPLES * size // total)
    for i in range(count):
        yield begin + (size - begin) * i // count, SAMPLE
    yield max(0, size - END), END


def place_of(model: str, revision: str | None = None) -> Path | None:
    """Where the files of a model lie (a directory, a `.gguf` file, a hub id, a name of the catalog), None if not here.

    The network is not asked.
    """
    local = Path(model).expanduser()
    if local.exists():
        return local.absolute()
    known = catalog.find_model(model)
    return cached_snapshot(known.id if known else model, revision)


def identity(model: str, revision: str | None = None) -> dict[str, str] | None:
    """`{"path", "sha256"}` of a base model, as it is kept in a run's environment; None if it is not here or unreadable."""
    place = place_of(model, revision)
    try:
        return {"path": str(place), "sha256": fingerprint(place)} if place else None
    except OSError:
        return None


def recorded(run_dir: Path) -> dict[str, str] | None:
    """What was kept of the base when the run began, or when it had been downloaded; None for runs before there was that."""
    try:
        found = json.loads((run_dir / "environment.json").read_text(encoding="utf-8")).get("base")
    except (OSError, ValueError, AttributeError):
        found = None
    if isinstance(found, dict) and found.get("sha256"):
        return found
    said = [record.event for record in read_records(run_dir / "events.jsonl") if isinstance(record.event, Base)]
    return {"path": said[-1].path, "sha256": said[-1].sha256} if said else None


def at(trained: Trained, base: str | None) -> Trained:
    """The same with its base in another place (`--base PATH`): `check_base` then says whether it is that base. Raises RunError."""
    if base is None:
        return trained
    place = Path(base).expanduser().absolute()
    if not place.exists():
        raise RunError("The base model is not there", f"There is no {clean(str(place), False)}.", "Check --base.")
    model = trained.spec.model.model_copy(update={"path": str(place), "revision": None})
    return dataclasses.replace(trained, spec=trained.spec.model_copy(update={"model": model}))


def check_base(trained: Trained, anyway: bool = False) -> list[str]:
    """Whether the base model is there and still the one that the run was trained on, and the adapter one for it.

    `trained` as `engine.after.trained` gives it, or with its base elsewhere: `check_base(at(trained, options.base),
    options.anyway)`. Looks at files only, in well under a second. Returns sentences for what is not known, and, with
    `anyway`, for what differs. Raises RunError where the base is gone, where it has changed since training or the adapter
    names another base (both pass with `anyway`), and where the adapter's shapes do not fit (nothing lets that pass).
    """
    model, name = trained.spec.model, clean(trained.name, False)
    place, then = place_of(model.path, model.revision), recorded(trained.run_dir)
    if place is None:
        return [_gone(trained, then)]
    notes = []
    try:
        now = fingerprint(place)
    except OSError as error:
        raise RunError(
            "The base model cannot be read", f"{place}: {error}.", "Put it back, or use --base PATH."
        ) from None
    if then is None:
        notes.append(
            f"Whether {place.name} has changed since {name} was trained is not known: the run kept no hash of it."
        )
    elif then["sha256"] != now:
        notes += _allowed(_changed(place, now, then, name), anyway)
    if trained.adapter:
        notes += _allowed(_another_base(trained, place, then), anyway)
        _fits(trained, place)
    return notes


def _allowed(problem: RunError | None, anyway: bool) -> list[str]:
    """The problem as a sentence where the user wants to go on anyway. Raises it otherwise."""
    if problem is None:
        return []
    if not anyway:
        raise problem
    return [f"{problem.title}, and --anyway goes on. {problem.message}"]


def _gone(trained: Trained, then: dict[str, str] | None) -> str:
    """Raises RunError for a path; a model of the hub can be fetched again, which the sentence says."""
    path = trained.spec.model.path
    by_path = path.startswith(("/", ".", "~")) or path.count("/") != 1
    if not by_path and not os.environ.get("HF_HUB_OFFLINE"):
        return f"{clean(path, False)} is not on this machine: it is fetched from the hub again, and may have changed there."
    known = f" Its hash was {then['sha256'][:12]}." if then else ""
    raise RunError(
        "The base model is gone",
        f"{clean(trained.name, False)} was trained on {clean(path, False)}, which is not there any more.{known}",
        "Put it back, or name its new place with --base PATH.",
    )


def _changed(place: Path, now: str, then: dict[str, str], name: str) -> RunError:
    message = f"{place} is not what {name} was trained on: its hash is {now[:12]}, it was {then['sha256'][:12]}."
    old = Path(then["path"])
    try:
        kept = old != place and old.exists() and fingerprint(old) == then["sha256"]
    except OSError:
        kept = False
    hint = f"The files of then are still in {old}: use --base {old}" if kept else (
        "Put the old files back, name a copy of them with --base PATH, or go on with --anyway.")  # fmt: skip
    return RunError("The base model has changed since training", message, hint)


def _another_base(trained: Trained, place: Path, then: dict[str, str] | None) -> RunError | None:
    """What is wrong if the adapter's own configuration names another base than the run's."""
    try:
        config = json.loads((trained.path / ADAPTER).read_text(encoding="utf-8"))
        named = str(config.get("base_model_name_or_path") or "")
    except (OSError, ValueError, AttributeError) as error:
        return RunError(
            "The adapter cannot be read", f"{trained.path / ADAPTER}: {error}", "Use a checkpoint: --step N"
        )
    mine = [str(place), trained.spec.model.path, *([then["path"]] if then else []), *_at_first(trained.run_dir)]
    if not named or any(_same_model(named, one) for one in mine):
        return None
    other = identity(named)
    if other and then and other["sha256"] == then["sha256"]:
        return None
    return RunError(
        "The adapter belongs to another base model",
        f"{trained.path} was trained on {clean(named, False)}, the run {clean(trained.name, False)} on {clean(mine[1], False)}.",
        "Put the run's own adapter back; if both are the same model under two names, go on with --anyway.",
    )


def _at_first(run_dir: Path) -> list[str]:
    """The base that the run's specification names, wherever it is now."""
    try:
        return [str(read_yaml(run_dir / "spec.yaml")["model"]["path"])]
    except (OSError, TuneDeckError, KeyError, TypeError):  # then only the other names count
        return []


def _same_model(named: str, mine: str) -> bool:
    """Whether an adapter's name for its base means this path or id: itself, a link, its snapshot, its dequantised copy."""
    known = catalog.find_model(mine)
    ids = {mine, known.id if known else mine}
    path, own = Path(named), Path(mine).expanduser()
    if named in ids or any(f"models--{one.replace('/', '--')}" in path.parts for one in ids):
        return True
    if own.suffix == ".gguf":
        return path.parent.name == "dequantised" and path.name.rpartition("-")[0] == own.stem
    return own.exists() and path.exists() and own.resolve() == path.resolve()


def header(file: Path) -> dict[str, Any]:
    """The header of a safetensors file: dtype, shape and data_offsets by name. Raises OSError, ValueError."""
    with file.open("rb") as stream:
        try:
            (length,) = struct.unpack("<Q", stream.read(8))
            found = json.loads(stream.read(min(length, HEADER)))
            return {name: about for name, about in found.items() if name != "__metadata__"}
        except (struct.error, AttributeError):
            raise ValueError(f"{file} is no safetensors file") from None


def _shapes(files: Iterator[Path]) -> Shapes:
    """Names and shapes of the tensors that are plain numbers: packed ones say nothing of the weight's own shape."""
    return {
        name: tuple(about["shape"])
        for file in files
        for name, about in header(file).items()
        if about["dtype"] in ("F32", "F16", "BF16", "F64")
    }


def _fits(trained: Trained, place: Path) -> None:
    """Raises RunError if factors of the adapter have shapes that the base's weights have not; others are not looked at."""
    try:
        adapter = _shapes(trained.path.glob("adapter_model*.safetensors"))
        base = _shapes(place.glob("*.safetensors")) if place.is_dir() else {}
        layers, hidden = _size(place)
    except (OSError, ValueError, KeyError, TypeError, ModelError):
        return  # whoever loads it says more
    for name, shape in adapter.items():
        module, _, factor = name.removeprefix("base_model.model.").rpartition(".lora_")
        layer = _LAYER.search(name)
        if layer and int(layer[1]) >= layers:
            _misfit(
                trained, place, f"the model has {layers} layers, the adapter has one for number {int(layer[1]) + 1}"
            )
        if factor not in ("A.weight", "B.weight") or len(shape) != 2:
            continue
        width = shape[1] if factor == "A.weight" else shape[0]
        weight = _weight(base, module)
        if weight is None and not base and factor == "A.weight" and module.endswith(("q_proj", "gate_proj")):
            weight = (hidden, hidden)  # all that a GGUF file tells without a map of its names
        if weight is not None and width not in weight:
            _misfit(trained, place, f"{module} is {' x '.join(map(str, weight))}, the adapter's factor is for {width}")


def _size(place: Path) -> tuple[int, int]:
    """Layers and width. Raises ModelError."""
    facts = inspect_model(str(place))
    return facts.layers, facts.hidden


def _weight(base: Shapes, module: str) -> tuple[int, ...] | None:
    """The shape of a module's weight; some files leave the name of the body out."""
    for name in (f"{module}.weight", f"{module.partition('.')[2]}.weight"):
        if name in base:
            return base[name]
    return None


def _misfit(trained: Trained, place: Path, what: str) -> NoReturn:
    raise RunError(
        "The adapter does not fit the base model",
        f"{trained.path.name} of {clean(trained.name, False)} and {place}: {clean(what, False)}.",
        "It is the adapter of another model: put the run's own back, or name its base with --base PATH.",
    )
