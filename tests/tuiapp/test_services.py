"""The real services: on the example database, and from the form to a finished run."""

import shutil
from pathlib import Path

import pytest

from tests.helpers import Deck, kill_everything
from tests.tuiapp.conftest import Driver
from tests.tuiapp.fakes import FakeServices
from tuiapp.app import TuneDeckApp
from tuiapp.services import Services

EXAMPLE = Path(__file__).parent.parent.parent / "experiments.db.example"


@pytest.fixture
def example(tmp_path: Path) -> Path:
    return Path(shutil.copy(EXAMPLE, tmp_path / "experiments.db"))


def test_a_snapshot_of_the_example(example: Path) -> None:
    services = Services(example)
    snapshot = services.snapshot(None)
    best = next(run for run in snapshot.runs if run.name == "captain-lora-r16")
    assert (best.status, best.method, best.rank, best.step, best.total_steps) == ("finished", "lora", 16, 20, 20)
    assert best.best_eval is not None
    assert best.spark[0] > best.spark[-1]
    detail = services.snapshot(best.id).detail
    assert detail is not None
    assert [step for step, _ in detail.curves["loss"]] == [float(i) for i in range(1, 21)]
    assert detail.samples[0].step == 0
    assert detail.samples[-1].text.startswith("Ahoy")
    assert "2 x rank" in detail.reasons["method.alpha"]
    assert detail.memory_peak is not None
    assert detail.memory_total is not None
    assert 0 < detail.memory_peak < detail.memory_total


def test_a_failed_run_tells_why(example: Path) -> None:
    services = Services(example)
    failed = next(run for run in services.snapshot(None).runs if run.status == "failed")
    detail = services.snapshot(failed.id).detail
    assert detail is not None
    assert detail.error_title == "The data cannot be trained on"
    assert "16 tokens" in detail.error_message
    assert "max_length" in detail.error_hint


def test_a_database_that_cannot_be_read_is_a_sentence(tmp_path: Path) -> None:
    broken = tmp_path / "experiments.db"
    broken.write_text("this is no database, and long enough not to be taken for an empty one")
    snapshot = Services(broken).snapshot(None)
    assert snapshot.runs == ()
    assert "is damaged" in (snapshot.problem or "")
    assert broken.read_text().startswith("this is no database")


def test_no_database_is_no_problem_and_none_is_made(tmp_path: Path) -> None:
    snapshot = Services(tmp_path / "experiments.db").snapshot(None)
    assert (snapshot.runs, snapshot.problem) == ((), None)
    assert snapshot.machine.ram_total is not None
    assert list(tmp_path.iterdir()) == []


def test_paths_are_completed(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").touch()
    (tmp_path / "runs").mkdir()
    (tmp_path / ".hidden").touch()
    assert Services(tmp_path / "x.db").complete_path(f"{tmp_path}/r") == [f"{tmp_path}/rows.jsonl", f"{tmp_path}/runs/"]
    assert Services(tmp_path / "x.db").complete_path("/absent/r") == []


@pytest.mark.slow
async def test_eight_keys_from_opening_the_app_to_a_run(
    tiny_model: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside the paths that are typed."""
    monkeypatch.setenv("TUNEDECK_LOCKS", str(tmp_path / "locks"))  # whoever else trains here
    home = tmp_path / "home"
    home.mkdir()
    app = TuneDeckApp(Services(home / "experiments.db"))
    way = (
        ("n", "What should change?"),
        ("enter", "best that fits first"),
        (str(tiny_model), "1 of"),
        ("enter", "▸3 Data"),
        (str(rows), "Enter reads and checks it."),
        ("enter", "What the model sees   row 1 of"),
        ("enter", "On this CPU"),
        ("enter", "learning rate"),
        ("enter", "Ready"),
    )
    try:
        async with app.run_test(size=(80, 24)) as pilot:
            deck = Driver(app, pilot, FakeServices())
            await deck.shows("No runs yet")
            pressed = 0
            for keys, shown in way:
                await pilot.press(*([keys] if keys in ("n", "enter") else keys))
                pressed += keys in ("n", "enter")
                await deck.shows(shown, seconds=60)
            await deck.until(lambda: "Enter start" in deck.screen())
            while deck.place == "ReviewStep":  # it takes Enter half a second after its numbers are there
                await pilot.press("enter")
                await pilot.pause(0.3)
            assert pressed + 1 == 8
            await deck.shows("running", seconds=60)
            await deck.shows("✓ finished", seconds=240)
    finally:
        kill_everything(home)
    (run,) = Deck(home / "experiments.db").json("runs")
    assert run["status"] == "finished"
    assert run["latest"]["loss"]["step"] > 1
    assert not (home / "drafts" / "new.json").exists()
