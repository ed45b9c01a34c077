"""The model step's view of the engine: which models there are, and what of each fits, as the frozen values that screens draw."""

import contextlib
import dataclasses
import functools
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from engine import catalog, demo
from engine.cards import Cards, own_cards
from engine.catalog import CatalogModel
from engine.errors import ModelError, TuneDeckError
from engine.hardware import Gpu, Hardware
from engine.models import ModelFacts, cached_snapshot, hub_cache, inspect_model, known_models
from engine.planner.ask import NO_DATA, known_shape
from engine.planner.calibrate import PastRun
from engine.planner.complete import FP32_BELOW, complete
from engine.planner.costs import what_if
from engine.planner.decide import Tier, decided, known_of
from engine.planner.memory import GIB, Memory
from engine.planner.plan import HEADROOM, Request
from engine.planner.shape import Shape
from engine.spec import RunSpec, Sharding, parse
from tuiapp.format import clean
from tuiapp.model_values import DOWNLOAD, HUB, CardColumn, Fit, FitRow, ModelLine, ModelPage, typed_kind
from tuiapp.widgets.strip import short_name

METHODS = {"full": "full", "lora": "LoRA", "qlora": "QLoRA"}
"""In the order of quality, as the list names them."""
RANK, HIGH_RANK = 16, 64
LIBRARIES = round(0.6 * GIB)
"""Main memory of Python with torch and transformers beside what the closed form counts, on a CPU: SmolLM2-135M with 1,024
tokens took 1.80 GiB with LoRA, 1.86 with QLoRA and 3.38 full, where this gives 1.8, 1.6 and 3.8."""
MOST_ENTRIES = 500
"""Entries of a directory that are looked at."""
MOST_COLUMNS = 3
_LICENCE = re.compile(r"^license:\s*[\"']?([\w.+-]+)", re.MULTILINE)
_LICENCE_NAME = re.compile(r"^license_name:\s*[\"']?([\w.+-]+)", re.MULTILINE)


@dataclass
class Shelf:
    """What models are judged by on this machine, and what was read of each; kept as long as the app runs."""

    hardware: Hardware
    history: tuple[PastRun, ...] = ()
    known: dict[str, tuple[ModelFacts, Shape | None]] = field(default_factory=dict)
    specs: dict[tuple[object, ...], RunSpec] = field(default_factory=dict)
    fits: dict[tuple[Shape, int | None], tuple[tuple[Fit, ...], ...]] = field(default_factory=dict)

    @property
    def groups(self) -> tuple[Cards | None, ...]:
        """Equal cards together, the largest first; None for the CPU where there is no card."""
        found: list[Cards | None] = []
        rest = self.hardware.gpus
        while len(found) < MOST_COLUMNS and (cards := own_cards(rest)):
            found.append(cards)
            rest = tuple(one for one in rest if not _belongs(one, cards))
        return tuple(found) or (None,)


def _belongs(gpu: Gpu, cards: Cards) -> bool:
    return gpu.name == cards.name and round(gpu.memory_total or 0) == round(cards.memory)


def places(database: Path) -> list[Path]:
    """Directories in which models may lie: the working directory, that of the database, and `models` in either."""
    found = [root / name for root in (Path.cwd(), database.parent.absolute()) for name in ("models", "")]
    return [one for one in dict.fromkeys(found) if one.is_dir()]


def local_models(database: Path) -> list[Path]:
    """Directories with a model's config.json, and GGUF files; in `models` also one level deeper."""
    found: list[Path] = []
    for root in places(database):
        for path in _entries(root):
            if _is_model(path):
                found.append(path)
            elif root.name == "models" and path.is_dir():
                found += [one for one in _entries(path) if _is_model(one)]
    return list(dict.fromkeys(found))


def _entries(root: Path) -> list[Path]:
    try:
        names = sorted(one.name for one in os.scandir(root) if not one.name.startswith("."))
    except OSError:
        return []
    return [root / name for name in names[:MOST_ENTRIES]]


def _is_model(path: Path) -> bool:
    """A GGUF file, or a directory whose config.json is that of a model: other programs have such files too."""
    if path.suffix == ".gguf":
        return path.is_file()
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and bool(config.get("model_type") or config.get("architectures"))


def _found(database: Path) -> Iterator[ModelLine]:
    """Every model by name and place: those of this machine, then the catalog's that are not here."""
    for path in local_models(database):
        yield ModelLine(str(path), short_path(path), "file" if path.suffix == ".gguf" else "directory", known=False)
    with contextlib.suppress(TuneDeckError):
        model = demo.demo_model()
        if model.endswith(".gguf"):
            yield ModelLine(model, clean(Path(model).stem), "package", known=False)
    cached = known_models()
    for name in cached:
        if cached_snapshot(name):
            yield ModelLine(name, clean(name), "hub cache", known=False)
    here = {name.casefold() for name in cached}
    for name in catalog.models():
        if name.casefold() not in here:
            yield ModelLine(name, name, DOWNLOAD, known=False)


def names(database: Path) -> tuple[ModelLine, ...]:
    """The models by name alone, for the moment until they are looked at."""
    return tuple(_found(database))


def page_of(shelf: Shelf, database: Path, chosen: str = "") -> ModelPage:
    """All models with their facts and verdicts; `chosen` too where it is none of them. Reads files of this machine only."""
    lines = [look(shelf, one) for one in _found(database)]
    if chosen and all(chosen != one.path for one in lines):
        lines.append(about(shelf, chosen))
    columns = tuple(_column(one, shelf.hardware) for one in shelf.groups)
    return ModelPage(tuple(lines), columns, shelf.groups[0] is None, _disk_free())


def _column(cards: Cards | None, hardware: Hardware) -> CardColumn:
    if cards is None:
        return CardColumn("this CPU", hardware.ram_total)
    return CardColumn(short_name(cards.name), cards.memory, cards.count)


def _disk_free() -> float | None:
    """GiB free where the hub's cache is, or will be."""
    cache = hub_cache()
    for place in (cache, *cache.parents):
        with contextlib.suppress(OSError):
            return shutil.disk_usage(place).free / GIB
    return None


def about(shelf: Shelf, text: str) -> ModelLine:
    """What is known of a model that is typed: a path, a hub id, or a name of the catalog. Never asks the network."""
    text = text.strip()
    path = Path(text).expanduser()
    if typed_kind(text) == "path" or path.exists():
        path = Path(os.path.abspath(path))
        where = "file" if path.suffix == ".gguf" else "directory"
        return look(shelf, ModelLine(str(path), short_path(path), where))
    known = catalog.find_model(text)
    name = known.id if known else text
    if cached_snapshot(name):
        return look(shelf, ModelLine(name, clean(name), "hub cache"))
    if known:
        return look(shelf, ModelLine(name, name, DOWNLOAD))
    if typed_kind(text) == HUB:
        return ModelLine(text, clean(text), HUB, source="not on this machine: the hub is asked when it starts")
    return ModelLine(text, clean(text), HUB, problem="A hub id looks like organisation/name, a directory like ./name.")


def look(shelf: Shelf, line: ModelLine) -> ModelLine:
    """A line with everything that its files or the catalog say."""
    name = demo.HUB_MODEL if line.where == "package" else line.path
    known = catalog.find_model(name) if line.where in ("hub cache", DOWNLOAD, "package") else None
    files = cached_snapshot(line.path) if line.where == "hub cache" else None
    try:
        facts, problem = _facts(line, files)
        shape = known_shape(facts)
    except ModelError as error:
        return dataclasses.replace(line, known=True, problem=_sentence(error, str(files or line.path)))
    except (OSError, ValueError) as error:  # a directory that may not be read
        return dataclasses.replace(line, known=True, problem=clean(str(error)))
    shelf.known[line.path] = facts, shape
    fits = _all_fits(shelf, facts, shape) if shape else ()
    told = dataclasses.replace(_told(line, facts, shape, known, files), known=True, fits=fits, problem=problem)
    if problem and line.where == "hub cache" and known and "Finish" in problem:  # the rest can still be fetched
        return dataclasses.replace(told, where=DOWNLOAD, problem="")
    return told


def _facts(line: ModelLine, files: Path | None) -> tuple[ModelFacts, str]:
    """The facts, and what is the matter with the weights. Raises ModelError."""
    if line.where == DOWNLOAD:
        return inspect_model(line.path, weights=False), ""
    place = str(files) if files else line.path
    try:
        return inspect_model(place), ""
    except ModelError as error:
        return inspect_model(place, weights=False), _sentence(error, place)


def _sentence(error: TuneDeckError, path: str) -> str:
    """The error in a sentence, with `it` for the path, which stands beside it."""
    said = " ".join(part for part in (f"{error.title}: {error.message}", error.hint) if part)
    return clean(said.replace(path, "it"))


def _told(
    line: ModelLine, facts: ModelFacts, shape: Shape | None, known: CatalogModel | None, files: Path | None
) -> ModelLine:
    config = facts.config
    quantised = config.get("quantization_config")
    directory = files or (Path(line.path) if line.where in ("directory", "file") else None)
    return dataclasses.replace(
        line,
        parameters=shape.parameters if shape else facts.parameters,
        context=facts.context if isinstance(facts.context, int) else None,
        licence=known.licence if known else _licence(directory) if directory else "",
        template=facts.has_template,
        gated=known.gated if known else False,
        size=facts.size,
        architecture=clean(facts.architecture),
        layers=facts.layers, hidden=facts.hidden, heads=facts.heads, kv_heads=facts.kv_heads, vocab=facts.vocab,
        experts=shape.experts if shape else 0,
        dtype=clean(str(facts.dtype or "")),
        revision=files.name if files else "",
        source=_source(line, known),
        place=short_path(directory) if directory else _package(line),
        quantised=clean(str(quantised.get("quant_method") or "yes")) if isinstance(quantised, dict) else "",
        own_code=bool(config.get("auto_map")) and shape is None,
    )  # fmt: skip


def _package(line: ModelLine) -> str:
    return f"the package {clean(Path(line.path).parent.name)}" if line.where == "package" else ""


def _source(line: ModelLine, known: CatalogModel | None) -> str:
    if line.where == DOWNLOAD:
        return f"the catalog, from {known.source}" if known else "the catalog"
    return "the file's own header" if line.path.endswith(".gguf") else "config.json on this disk"


def _licence(directory: Path) -> str:
    """As the model card beside the weights says it: the head of README.md, in the hub's words."""
    try:
        with (directory / "README.md").open(encoding="utf-8", errors="replace") as file:
            head = file.read(4000)
    except OSError:
        return ""
    found = _LICENCE.search(head)
    if found and found[1] == "other":
        found = _LICENCE_NAME.search(head) or found
    return clean(found[1]) if found else ""


def short_path(path: Path) -> str:
    """A path as people write it: from the working directory or from home."""
    for root, start in ((Path.cwd(), "."), (Path.home(), "~")):
        if path.is_relative_to(root) and path != root:
            return clean(f"{start}/{path.relative_to(root)}")
    return clean(str(path))


def _all_fits(shelf: Shelf, facts: ModelFacts, shape: Shape) -> tuple[tuple[Fit, ...], ...]:
    """By card; models of one shape share them."""
    key = shape, facts.context
    if key not in shelf.fits:
        shelf.fits[key] = tuple(_fits(shelf, facts, shape, cards) for cards in shelf.groups)
    return shelf.fits[key]


def _fits(shelf: Shelf, facts: ModelFacts, shape: Shape | None, cards: Cards | None) -> tuple[Fit, ...]:
    """The usual three on one card; where none fits and there are several, on all of them."""
    found = [_fit(shelf, facts, shape, cards, kind) for kind in METHODS]
    if cards and cards.count > 1 and all(one.fits == "no" for one in found):
        found += [_fit(shelf, facts, shape, cards, kind, shared=True) for kind in METHODS]
    return tuple(found)


def _fit(
    shelf: Shelf, facts: ModelFacts, shape: Shape | None, cards: Cards | None, kind: str,
    *, rank: int = RANK, shared: bool = False,
) -> Fit:  # fmt: skip
    """One method at a micro-batch of one row of 1,024 tokens with checkpointing, on one card or shared out by FSDP."""
    count = cards.count if cards and shared else 1
    request = Request(_asked(kind, rank), facts, shape, dataclasses.replace(cards, count=count) if cards else None)
    choice = what_if(request, _complete(shelf, request, kind, count), shelf.history)
    pace, memory = choice.speed.tokens_per_second, choice.memory
    if cards is not None or memory is None:
        return Fit(METHODS[kind], choice.fits, choice.device_gib, pace, count)
    need = main_memory(memory) / GIB
    return Fit(METHODS[kind], _in_main_memory(need, shelf.hardware.ram_total), need, pace)


def main_memory(memory: Memory) -> int:
    """Bytes of main memory for training on a CPU (estimate): what would be on the card, and the libraries."""
    return memory.peak + LIBRARIES


def _in_main_memory(need: float, total: float) -> str:
    """The system and the app need some too."""
    if not total:
        return "unknown"
    return "yes" if need <= total * (1 - HEADROOM) else "no"


@functools.cache
def _asked(kind: str, rank: int) -> RunSpec:
    """What is given: the method alone."""
    method = {"kind": kind} if kind == "full" else {"kind": kind, "rank": rank}
    return parse({"model": {"path": "any"}, "data": {"path": NO_DATA}, "objective": "sft", "method": method})


def _complete(shelf: Shelf, request: Request, kind: str, count: int) -> RunSpec:
    """The specification as the planner completes it; made once for all models of which it is the same."""
    known, shape = known_of(request), request.shape
    small = known.parameters < FP32_BELOW
    sdpa, experts = (shape.family.sdpa, bool(shape.experts)) if shape else (True, False)
    key = (kind, request.spec.method.rank, count, known.gpu, known.gpu or known.vocab, small, sdpa, experts,
           min(1024, known.context), shape.model_type if shape else "")  # fmt: skip
    if key not in shelf.specs:
        tier = Tier(kind, None if kind != "full" else "bf16" if experts else "mixed")
        sharding: Sharding = "fsdp" if count > 1 else "ddp"
        shelf.specs[key] = complete(request.spec, known, decided(request, known, tier, 1, True, count, sharding))[0]
    return shelf.specs[key]


ROWS: tuple[tuple[str, int], ...] = (
    ("lora", RANK),
    ("lora", HIGH_RANK),
    ("qlora", RANK),
    ("qlora", HIGH_RANK),
    ("full", 0),
)
"""What the detail shows: method and rank."""


def fit_rows(shelf: Shelf, path: str) -> tuple[FitRow, ...]:
    """The usual ways to train a model that was looked at, each on all cards; some milliseconds, no file is read."""
    if path not in shelf.known:
        return ()
    facts, shape = shelf.known[path]
    if shape is None:
        return ()
    rows = [
        FitRow(
            _row_name(kind, rank, shape),
            tuple(_fit(shelf, facts, shape, cards, kind, rank=rank or RANK) for cards in shelf.groups),
        )
        for kind, rank in ROWS
    ]
    most = max((one.count for one in shelf.groups if one), default=1)
    if most > 1:
        rows.append(
            FitRow(f"full, {most} cards, FSDP", tuple(_shared(shelf, facts, shape, one) for one in shelf.groups))
        )
    return tuple(rows)


def _shared(shelf: Shelf, facts: ModelFacts, shape: Shape, cards: Cards | None) -> Fit:
    if cards is None or cards.count == 1:
        return Fit(METHODS["full"], "unknown")
    return _fit(shelf, facts, shape, cards, "full", shared=True)


def _row_name(kind: str, rank: int, shape: Shape) -> str:
    if kind == "full":
        return "full, bf16 weights" if shape.experts else "full, fp32 masters"
    return f"{METHODS[kind]} r{rank}, {'bf16' if kind == 'lora' else 'nf4'}"
