"""`python -m docs.screenshots`: the README's pictures, made by the app itself.

The runs are those of experiments.db.example; the live screen shows the demo's run while it really trains, and After
training what it came to (some minutes together).
"""

import asyncio
import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from engine import demo, launch
from engine.after import asking
from engine.store import afterwards, runs
from engine.store.connection import open_database
from tuiapp import draft as drafts
from tuiapp.app import TuneDeckApp
from tuiapp.draft import GOAL, MODEL, REVIEW, TRAINING, RunDraft
from tuiapp.services import Services
from tuiapp.views import FILE as VIEWS

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs" / "screenshots"
SECONDS = 300


async def picture(
    database: Path, name: str, size: tuple[int, int], keys: tuple[str, ...], shown: Callable[[str], bool]
) -> None:
    """Open the app, press keys, wait until the screen shows what is wanted, save it as SVG."""
    app = TuneDeckApp(Services(database))
    async with app.run_test(size=size) as pilot:
        while app.last is None or not app.last.runs:
            await pilot.pause(0.05)
        await pilot.press(*keys)
        for _ in range(SECONDS * 10):
            await pilot.pause(0.1)
            if shown(_text(app)):
                break
        else:
            raise SystemExit(f"{name}: the screen never showed what it should:\n{_text(app)}")
        FOLDER.mkdir(parents=True, exist_ok=True)
        (FOLDER / f"{name}.svg").write_text(app.export_screenshot(title="tunedeck"), encoding="utf-8")
        print(f"docs/screenshots/{name}.svg", flush=True)


def _text(app: TuneDeckApp) -> str:
    return "\n".join("".join(segment.text for segment in strip) for strip in app.screen._compositor.render_strips())


def _is_planned(text: str) -> bool:
    """The plan page, in the wide form with the other cards."""
    return "At the peak" in text and "looking …" not in text


def _is_looked_at(text: str) -> bool:
    """The data page with a row as the trainer made it."""
    return "What the model sees   row 1 of" in text


def flawed_data(clean: Path) -> Path:
    """The demo's rows with what is usually wrong with rows."""
    rows = [json.loads(line) for line in clean.read_text(encoding="utf-8").splitlines()]
    said = [row["output"] for row in rows]
    stories = [" ".join(said[i : i + 2 + i * i % 11]) for i in range(48)]
    answers = [
        *stories,
        " ".join(said),
        "I'm sorry, but I can't help with that.",
        "Ahoy! A caf\u00c3\u00a9, matey.",
        "",
    ]
    more = [{"instruction": f"And what of {i} knots?", "input": "", "output": text} for i, text in enumerate(answers)]
    made = [*rows, *rows[3:9], *more]
    path = clean.with_name("captain-raw.jsonl")
    path.write_text("".join(json.dumps(row) + "\n" for row in made), encoding="utf-8")
    return path


@contextmanager
def place() -> Iterator[Path]:
    """A directory with a short name, which is seen in the pictures; it is gone afterwards."""
    directory = Path(tempfile.gettempdir()) / "ft"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


async def wizard_pictures(database: Path, model: str, data: Path) -> None:
    """The steps of a new run for the demo's rows."""
    file = database.parent / "drafts" / "new.json"
    draft = RunDraft(model=model, data=str(data), training={"training.learning_rate": 1e-4})
    shown: dict[str, tuple[int, Callable[[str], bool]]] = {
        "goal": (GOAL, lambda text: "Is fine-tuning the right tool" in text),
        "model": (MODEL, lambda text: "licence" in text and "best that fits first" in text),
        "training": (TRAINING, lambda text: "learning rate" in text and "Usual" in text),
        "review": (REVIEW, lambda text: "Ready" in text and "tunedeck train" in text),
    }
    for name, (step, is_there) in shown.items():
        for width, height in ((80, 24), (160, 48)):
            draft.step, draft.passed = step, list(range(step))
            drafts.save(file, draft)
            await picture(database, f"{name}-{width}x{height}", (width, height), ("n",), is_there)
    drafts.drop(file)


async def compare_pictures(database: Path) -> None:
    """Four runs of the example side by side, that of QLoRA as the baseline."""
    full_qlora_attention = ("down", "down", "down", "space", "down", "p", "space", "down", "space")
    for width, height in ((80, 24), (160, 48)):
        keys = (*full_qlora_attention, "g", "space", "c")
        await picture(
            database,
            f"compare-{width}x{height}",
            (width, height),
            keys,
            lambda text: "0.189*" in text and "Compare 4" in text,
        )
        (database.parent / VIEWS).unlink(missing_ok=True)  # the next picture begins without a baseline


async def after_pictures(database: Path, run_id: str) -> None:
    """A finished run, really evaluated against its base: some minutes."""
    db = open_database(database)
    run = runs.find(db, run_id)
    asking.begin(db, database, run, "eval", asking.prepare(db, database, run, "eval", {}).ask)
    while afterwards.active(db):
        await asyncio.sleep(0.5)
    for width, height in ((80, 24), (160, 48)):
        await picture(
            database,
            f"after-{width}x{height}",
            (width, height),
            ("e",),
            lambda text: "forgetting" in text and "worst first" in text,
        )


async def chat_pictures(database: Path) -> None:
    """The newest run, which has ended, and its base, asked the same; the question is typed while the model loads."""
    asked = (*("space" if one == " " else one for one in "What is the capital of France"), "question_mark", "enter")
    for width, height in ((80, 24), (160, 48)):
        await picture(
            database,
            f"chat-{width}x{height}",
            (width, height),
            ("g", "t", *asked),
            lambda text: text.count("tok/s") == 2 and "Esc back" in text,
        )


async def main() -> None:
    with place() as directory:
        database = directory / "experiments.db"
        shutil.copy(ROOT / "experiments.db.example", database)
        data, model = demo.write_data(database), str(directory / "SmolLM2-135M-Instruct.gguf")
        Path(model).symlink_to(demo.demo_model())
        for width, height in ((80, 24), (160, 48)):
            await picture(
                database, f"home-{width}x{height}", (width, height), (), lambda text: "captain-lora-r16   " in text
            )
        await compare_pictures(database)
        await wizard_pictures(database, model, data)
        for width, height in ((80, 24), (160, 48)):
            planned = ("f2", *"meta-llama/Llama-3.1-8B", "f2")
            await picture(database, f"plan-{width}x{height}", (width, height), planned, _is_planned)
        looked_at = ("f3", *str(flawed_data(data)), "enter", *model, "f3")
        for width, height in ((80, 24), (160, 48)):
            await picture(database, f"data-{width}x{height}", (width, height), looked_at, _is_looked_at)
        run_id = launch.create(database, launch.prepare(demo.specs(data, model)[0]))
        for width, height in ((80, 24), (160, 48)):
            await picture(
                database,
                f"live-{width}x{height}",
                (width, height),
                ("enter",),
                lambda text: bool(re.search("step 1[3-9] of", text)),
            )
        while runs.find(open_database(database), run_id)["status"] in runs.ACTIVE:
            await asyncio.sleep(0.5)
        await after_pictures(database, run_id)
        await chat_pictures(database)


if __name__ == "__main__":
    asyncio.run(main())
