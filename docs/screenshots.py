"""`python -m docs.screenshots`: the README's pictures, made by the app itself on experiments.db.example."""

import asyncio
import shutil
import tempfile
from pathlib import Path

from engine.demo import write_data
from tuiapp.app import TuneDeckApp
from tuiapp.services import Services
from tuiapp.snapshot import Snapshot

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs" / "screenshots"
RUN = "captain-lora-r16"


async def picture(
    database: Path, name: str, size: tuple[int, int], keys: tuple[str, ...], typed: tuple[str, ...] = ()
) -> None:
    """Open the app, press keys, wait until the screen shows the newest snapshot, save it as SVG."""
    app = TuneDeckApp(Services(database))
    async with app.run_test(size=size) as pilot:
        await _settled(app)
        await pilot.press(*keys)
        for text in typed:
            await pilot.press(*text, "enter")
        for _ in range(30):  # the form checks what was typed, the live screen gets its first details
            await pilot.pause(0.1)
        FOLDER.mkdir(parents=True, exist_ok=True)
        (FOLDER / f"{name}.svg").write_text(app.export_screenshot(title="tunedeck"), encoding="utf-8")
        print(f"docs/screenshots/{name}.svg")


async def _settled(app: TuneDeckApp) -> None:
    while not (isinstance(app.last, Snapshot) and app.last.runs):
        await asyncio.sleep(0.05)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="tunedeck-") as directory:
        database = Path(directory) / "experiments.db"
        shutil.copy(ROOT / "experiments.db.example", database)
        data = write_data(database)
        model = Services(database).models()[-1]
        for size in ((80, 24), (160, 48)):
            asyncio.run(picture(database, f"home-{size[0]}x{size[1]}", size, ()))
            asyncio.run(picture(database, f"live-{size[0]}x{size[1]}", size, ("enter",)))
        asyncio.run(picture(database, "new-80x24", (80, 24), ("n",), (model, str(data))))


if __name__ == "__main__":
    main()
