"""`python -m bench.health_runs [NAME...]`: real runs with a known trouble, and healthy ones, recorded for the health rules.

Each is trained on the CPU as `tunedeck train` would, with data that is made here from what is installed; what the rules look at is
written to tests/engine/health_runs/NAME.json. Without a name: the list. `all`: every one, about an hour on two cores.
"""

import argparse
import contextlib
import dataclasses
import json
import math
import os
import pydoc
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from engine import demo, diagnose, launch, paths
from engine.errors import SpecError
from engine.health import Point, Streams
from engine.health import diagnose as diagnose_streams
from engine.reconcile import reconcile
from engine.spec import apply_sets, parse
from engine.store import runs
from engine.store.connection import open_database

HERE = Path(__file__).parent.parent
OUT = HERE / "tests" / "engine" / "health_runs"
DIGITS = 5
MODULES = ("argparse ast asyncio base64 bisect calendar collections configparser contextlib csv dataclasses datetime decimal "
           "difflib email enum fileinput fnmatch fractions functools getpass glob gzip hashlib heapq html http imaplib inspect "
           "ipaddress itertools json logging mailbox math mimetypes operator os pathlib pickle platform pprint queue random re "
           "sched secrets shelve shlex shutil smtplib socket sqlite3 ssl statistics string struct subprocess tarfile tempfile "
           "textwrap threading time timeit tokenize traceback types typing unittest urllib uuid warnings wave weakref zipfile")  # fmt: skip
"""Of the standard library: their documentation is real English that is on every machine."""
Row = dict[str, Any]


def captain() -> list[Row]:
    """The demo's rows."""
    return list(demo.rows())


def documented() -> list[tuple[str, str]]:
    """(name, first paragraph of its documentation) of some 1,500 functions and classes of the standard library."""
    found: dict[str, str] = {}
    for module in MODULES.split():
        thing = __import__(module)
        for name in sorted(vars(thing)):
            text = pydoc.getdoc(getattr(thing, name)).strip().split("\n\n")[0]
            if not name.startswith("_") and 40 < len(text) < 400 and text not in found.values():
                found[f"{module}.{name}"] = " ".join(text.split())
    return sorted(found.items())


def questions(count: int, seed: int) -> list[Row]:
    """What a function of Python does."""
    picked = random.Random(seed).sample(documented(), count)
    return [{"instruction": f"What is {name} in Python?", "output": text} for name, text in picked]


def sums(count: int, seed: int) -> list[Row]:
    """Additions in words: short rows, all alike."""
    draw = random.Random(seed)
    pairs = [(draw.randint(10, 99), draw.randint(10, 99)) for _ in range(count)]
    return [{"instruction": f"Add {a} and {b}.", "output": f"{a} and {b} make {a + b}."} for a, b in pairs]


def prose(count: int, seed: int) -> list[Row]:
    """Paragraphs of Python's language reference."""
    from pydoc_data.topics import topics

    parts = [" ".join(part.split()) for _, text in sorted(topics.items()) for part in text.split("\n\n")]
    return [{"text": part} for part in random.Random(seed).sample([p for p in parts if 150 < len(p) < 900], count)]


def preferences(count: int, seed: int) -> list[Row]:
    """A true answer before the same one shouted."""
    picked = random.Random(seed).sample(documented(), count)
    return [
        {"prompt": f"What is {name} in Python?", "chosen": text, "rejected": text.upper() + "!!!"}
        for name, text in picked
    ]


class Recipe(NamedTuple):
    """A run: its data, its settings, and what is wrong with it (a kind of `engine.health`, "" for a healthy one)."""

    trouble: str
    data: Callable[[], list[Row]]
    sets: dict[str, Any]
    model: str = "smollm2"


LORA: dict[str, Any] = {
    "method.kind": "lora", "method.rank": 8, "training.micro_batch": 4, "training.accumulation": 1, "training.max_length": 256,
    "training.max_steps": 40, "evaluation.every": 10, "data.validation": 16,
}  # fmt: skip
FULL: dict[str, Any] = {"method.kind": "full", "training.micro_batch": 4, "training.accumulation": 1, "training.max_length": 256,
                        "training.max_steps": 30, "evaluation.every": 10, "data.validation": 16}  # fmt: skip
TINY: dict[str, Any] = {"training.max_steps": 200, "evaluation.every": 25, "training.learning_rate": 5e-3}
GENERAL = {"evaluation.general": True}
WILD: dict[str, Any] = {"training.learning_rate": 0.9, "method.alpha": 1e20, "training.max_grad_norm": 0}

RECIPES: dict[str, Recipe] = {
    "rate-x100": Recipe("rate_high", captain, LORA | {"training.learning_rate": 5e-2}),
    "rate-x100-full": Recipe("rate_high", lambda: questions(400, 1), FULL | {"training.learning_rate": 1e-2}),
    "rate-x0.001": Recipe("rate_low", captain, LORA | {"training.learning_rate": 5e-7}),
    "rate-x0.001-full": Recipe("rate_low", lambda: questions(400, 1), FULL | {"training.learning_rate": 1e-7}),
    "overfit-20": Recipe("over_fitting", lambda: questions(36, 2), LORA | {
        "training.learning_rate": 1e-3, "training.max_steps": 80, "method.dropout": 0.0}),
    "frozen": Recipe("frozen", captain, LORA | {"training.learning_rate": 1e-30, "training.max_steps": 30}),
    "warmup-without-end": Recipe("rate_low", captain, LORA | {"training.warmup": 1e6, "training.max_steps": 30}),
    "frozen-alpha": Recipe("frozen", captain, LORA | {"method.alpha": 1e-12, "training.max_steps": 30}),
    "frozen-clipped": Recipe("frozen", captain, LORA | {"training.max_grad_norm": 1e-20, "training.max_steps": 30}),
    "rate-x1000-tiny": Recipe("rate_high", lambda: sums(400, 1), LORA | TINY | {"training.learning_rate": 0.9}, "tiny"),
    "nan": Recipe("nonfinite", captain, LORA | WILD),
    "nan-skipped": Recipe("nonfinite", lambda: sums(400, 1), LORA | TINY | WILD | {"training.nonfinite": "skip"}, "tiny"),
    "tuning-lora": Recipe("", captain, LORA),
    "tuning-full": Recipe("", lambda: questions(400, 3), FULL),
    "tuning-text": Recipe("", lambda: prose(200, 3), LORA),
    "flat-dpo": Recipe(
        "flat", lambda: preferences(200, 3), LORA | {"training.micro_batch": 2, "training.max_steps": 30}
    ),
    "tuning-dpo": Recipe("", lambda: preferences(200, 3), LORA | {
        "training.micro_batch": 2, "training.max_steps": 30, "training.learning_rate": 1e-4}),
    "tuning-qlora": Recipe("", captain, LORA | GENERAL | {"method.kind": "qlora", "training.max_steps": 30}),
    "tuning-open": Recipe("", lambda: questions(120, 4), {"training.max_length": 128, "training.max_steps": 40}),
    "tuning-tiny": Recipe("", lambda: sums(400, 3), LORA | TINY, "tiny"),
    "tuning-tiny-long": Recipe("", lambda: prose(900, 4), FULL | GENERAL | {
        "training.max_steps": 900, "evaluation.every": 100, "training.learning_rate": 1e-3}, "tiny"),
}  # fmt: skip


def healthy(data: Callable[[], list[Row]], seed: int, model: str = "smollm2", **sets: Any) -> Recipe:
    """Sound settings: the planner's learning rate, evaluation on rows that are held out."""
    named = {name.replace("__", "."): value for name, value in sets.items()}
    return Recipe("", data, {"training.max_length": 256, "training.max_steps": 30, "evaluation.every": 10, "data.validation": 16,
                             "training.micro_batch": 4, "training.accumulation": 1, "training.seed": seed} | named, model)  # fmt: skip


RECIPES |= {
    "healthy-lora": healthy(captain, 11, method__kind="lora", method__rank=16, training__max_steps=40),
    "healthy-lora-questions": healthy(lambda: questions(300, 12), 12, method__kind="lora", method__rank=8, training__accumulation=2),
    "healthy-lora-text": healthy(lambda: prose(200, 13), 13, method__kind="lora", method__rank=4, evaluation__general=True),
    "healthy-qlora": healthy(lambda: questions(200, 14), 14, method__kind="qlora", method__rank=8, training__micro_batch=2),
    "healthy-dpo": healthy(lambda: preferences(150, 15), 15, method__kind="lora", training__micro_batch=2, training__learning_rate=1e-4),
    "healthy-full": healthy(lambda: sums(300, 16), 16, method__kind="full", evaluation__general=True),
    "healthy-full-text": healthy(lambda: prose(200, 17), 17, method__kind="full", training__micro_batch=2),
    "healthy-all-open": Recipe("", captain, {"training.seed": 18}),
    "healthy-tiny-lora": healthy(lambda: sums(400, 19), 19, "tiny", method__kind="lora", training__max_steps=300,
                                 evaluation__every=50, training__learning_rate=5e-3),
    "healthy-tiny-full": healthy(lambda: prose(600, 20), 20, "tiny", method__kind="full", training__max_steps=600,
                                 training__micro_batch=1, evaluation__every=100, training__learning_rate=1e-3),
    "healthy-tiny-dpo": healthy(lambda: preferences(200, 21), 21, "tiny", method__kind="full", training__max_steps=100,
                                evaluation__every=25, training__learning_rate=3e-4),
    "healthy-tiny-constant": healthy(lambda: questions(300, 22), 22, "tiny", method__kind="full", training__max_steps=200,
                                     evaluation__every=50, training__learning_rate=1e-3, training__schedule="constant"),
}  # fmt: skip
"""Recorded after the thresholds were frozen: nothing may be set by them."""
COMMON = {"compute.devices": "cpu", "evaluation.prompts": "[]", "saving.every": 0}


def record(name: str, recipe: Recipe, place: Path) -> Streams:
    """Train it in a place of its own; what the rules would see of it. Raises TuneDeckError."""
    data = place / f"{name}.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in recipe.data()))
    model = demo.demo_model() if recipe.model == "smollm2" else str(tiny(place))
    sets = [f"{path}={value if isinstance(value, str) else json.dumps(value)}" for path, value in
            (COMMON | {"run.name": name} | recipe.sets).items()]  # fmt: skip
    spec = parse(apply_sets({"model": {"path": model}, "data": {"path": str(data)}}, sets))
    database = place / "experiments.db"
    run_id = launch.create(database, launch.prepare(spec))
    with contextlib.closing(open_database(database)) as db:
        while runs.one(db, run_id)["status"] in runs.ACTIVE:
            reconcile(db, database)
            time.sleep(0.5)
        run = runs.one(db, run_id)
        print(f"{name}: {run['status']}, {run['exit_reason']}; {paths.run_directory(database, run_id)}", flush=True)
        return diagnose.streams(db, run)


def tiny(place: Path) -> Path:
    """The tests' tiny model."""
    if not (place / "tiny").exists():
        subprocess.run([sys.executable, "-m", "tests.tiny", str(place / "tiny")], check=True, cwd=HERE)
    return place / "tiny"


OF_THE_PLACE = ("path", "run.", "model.", "columns", "report_to")
UNUSED = ("memory_allocated_gib", "memory_reserved_gib")
"""Of a CPU nothing is said about memory."""
ENDS = {"tokens_per_second": 60, "data_wait": 60, "padding": 60}
"""Curves of which so many last points are kept: more is not looked at."""


def as_json(recipe: Recipe, streams: Streams) -> dict[str, Any]:
    """Small enough to be kept: five digits, no times and no paths, only settings that say something."""
    curves = {
        key: packed(curve[-ENDS.get(key, len(curve)) :]) for key, curve in streams.curves.items() if key not in UNUSED
    }
    settings = {path: value for path, value in streams.spec.items()
                if value not in (None, "", [], False) and not any(part in path for part in OF_THE_PLACE)}  # fmt: skip
    fields = {field.name: getattr(streams, field.name) for field in dataclasses.fields(streams)}
    return {"trouble": recipe.trouble, "model": recipe.model,
            "streams": fields | {"curves": curves, "spec": settings, "usual_speeds": []}}  # fmt: skip


def packed(curve: Sequence[Point]) -> dict[str, Any]:
    """`steps`: the first one if they follow one another, else all; `values`."""
    steps, values = [step for step, _, _ in curve], [short(value) for _, _, value in curve]
    one_by_one = bool(steps) and steps == list(range(steps[0], steps[0] + len(steps)))
    return {"steps": steps[0] if one_by_one else steps, "values": values}


def short(value: float) -> float | str:
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else str(value)


def read(path: Path) -> tuple[str, Streams]:
    """What is wrong with a recorded run, and its streams, a second to each step."""
    raw = json.loads(path.read_text())
    curves = {}
    for key, curve in raw["streams"]["curves"].items():
        first, values = curve["steps"], curve["values"]
        steps = range(first, first + len(values)) if isinstance(first, int) else first
        curves[key] = [(step, float(step), float(value)) for step, value in zip(steps, values, strict=True)]
    return raw["trouble"], Streams(**{**raw["streams"], "curves": curves})


def write(path: Path, made: dict[str, Any]) -> int:
    """A line to each curve; how many characters."""
    return path.write_text(json.dumps(made).replace("]}, ", "]},\n") + "\n")


def chosen(names: list[str]) -> Iterator[tuple[str, Recipe]]:
    for name in RECIPES if names == ["all"] else names:
        if name not in RECIPES:
            raise SpecError("There is no such recipe", f"{name} is none of {', '.join(RECIPES)}.", "")
        yield name, RECIPES[name]


def seconds(steps: int) -> float:
    """What the rules take of the processor for a run of so many steps, made up."""
    draw = random.Random(0)
    keys = ("loss", "grad_norm", "learning_rate", "weight_change", "tokens_per_second", "data_wait", "padding")
    curves = {key: [(i, float(i), 1 + math.exp(-i / steps) + draw.gauss(0, 0.1)) for i in range(steps)] for key in keys}
    settings = {"method.kind": "lora", "objective": "sft", "training.learning_rate": 2e-4}
    began = time.process_time()
    diagnose_streams(Streams(curves=curves, spec=settings, step=steps, total=steps))
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--speed", action="store_true", help="how long the rules take on 10,000 steps")
    options = parser.parse_args()
    if options.speed:
        print(f"{1000 * min(seconds(10_000) for _ in range(5)):.0f} ms for 10,000 steps")
    elif not options.names:
        print("\n".join(f"{name:<20} {recipe.trouble or 'healthy'}" for name, recipe in RECIPES.items()))
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="tunedeck-health-") as directory:
        os.environ.setdefault("TUNEDECK_LOCKS", directory)
        for name, recipe in chosen(options.names):
            began = time.monotonic()
            made = as_json(recipe, record(name, recipe, Path(directory)))
            size = write(options.out / f"{name}.json", made)
            print(f"{name}: {time.monotonic() - began:.0f} s, {size / 1000:.0f} KB", flush=True)


if __name__ == "__main__":
    main()
