"""A run that was trained elsewhere: shown like any other, with dashes, and never continued or forked."""

import json
import re
import shutil
from pathlib import Path

import pytest

from engine.errors import RunError
from engine.imports import bring, find
from engine.store.connection import open_database
from tests.tuiapp.conftest import running
from tuiapp.services import Services

Size = tuple[int, int]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Two imported runs of which little is known: one that reached its end, and one that did not."""
    entries = [{"step": step, "loss": 3 - step / 20, "epoch": step / 20} for step in range(1, 31)]
    for name, total in (("whole", 30), ("half", 60)):
        place = tmp_path / name
        place.mkdir()
        state = {"log_history": entries, "global_step": 30, "max_steps": total, "epoch": 1.5}
        (place / "trainer_state.json").write_text(json.dumps(state))
    path = tmp_path / "home" / "experiments.db"
    db = open_database(path)
    for source in find.sources(tmp_path).sources:
        bring.bring(db, source, {})
    db.close()
    shutil.rmtree(tmp_path / "whole")  # where it came from need not be there any more
    return path


async def test_it_is_shown_and_offers_nothing_that_it_cannot_do(database: Path, size: Size) -> None:
    async with running(Services(database), size=size) as deck:  # type: ignore[arg-type]
        await deck.shows("whole", "half", "stopped", "finished")
        for name, status in (("half", "stopped"), ("whole", "finished")):
            at = re.compile(f"▸.*{name}")
            await deck.press("g")
            for _ in range(2):
                if at.search(deck.screen()):
                    break
                await deck.press("j")
            await deck.until(lambda at=at: bool(at.search(deck.screen())))  # type: ignore[misc]
            assert "r resume" not in deck.text("#keys")
            await deck.press("enter")
            await deck.until(lambda: deck.place == "LiveScreen")
            await deck.shows("train 1.500", status, "step 30")
            keys = deck.text("#keys")
            assert "r resume" not in keys
            assert "f fork" not in keys
            await deck.press("r", "f", "e", "w", "s")
            await deck.pilot.pause()
            assert deck.place == "LiveScreen"
            await deck.press("q")
            await deck.until(lambda: deck.place == "HomeScreen")


def test_the_engine_refuses_too(database: Path) -> None:
    services = Services(database)
    for ask in (services.fork, services.resume):
        with pytest.raises(RunError, match="was imported from output_dir"):
            ask("half")
