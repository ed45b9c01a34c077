"""The screen "After training" over real databases: what was measured, its rows page by page, jobs, files, and starting them."""

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from engine.after import job as jobs
from engine.events import Done, Exit, Phase, Progress
from engine.files import EventFile
from engine.launch import try_lock
from engine.store import afterwards
from engine.store.connection import open_database
from tests.tuiapp.after_runs import Trained, answered
from tests.tuiapp.conftest import Driver, running
from tests.tuiapp.fakes import FakeServices
from tuiapp.after_services import After
from tuiapp.after_values import Prepared
from tuiapp.messages import ChatAsked
from tuiapp.screens.after import AfterScreen
from tuiapp.screens.home import HomeScreen
from tuiapp.services import Services
from tuiapp.widgets.after_rows import RowList

Size = tuple[int, int]


class Starting(After):
    """Makes jobs and holds their locks, so that they stay at work: no process is started."""

    def __init__(self, database: Path) -> None:
        super().__init__(database, lambda: None)
        self.locks: list[int] = []
        self.went_on: list[str] = []

    def begin(self, run_id: str, prepared: Prepared) -> str:
        job = jobs.create(self._database, run_id, prepared.kind, dict(prepared.ask))
        self.hold(run_id, job)
        return job

    def go_on(self, run_id: str, job: str) -> None:
        self.went_on.append(job)

    def hold(self, run_id: str, job: str) -> None:
        lock = try_lock(jobs.directory(self._database, run_id, job))
        assert lock is not None
        self.locks.append(lock)


@pytest.fixture
def trained(tmp_path: Path) -> Trained:
    return Trained(tmp_path)


@pytest.fixture
def starting(trained: Trained) -> Iterator[Starting]:
    found = Starting(trained.database)
    yield found
    for lock in found.locks:
        os.close(lock)


@asynccontextmanager
async def opened(
    trained: Trained, size: Size = (80, 24), starting: Starting | None = None, **options: object
) -> AsyncIterator[Driver]:
    """The app on the real database, at the screen of its run."""
    services = Services(trained.database)
    if starting is not None:
        services.after = starting
    async with running(services, size, **options) as deck:  # type: ignore[arg-type]
        home = deck.app.screen
        assert isinstance(home, HomeScreen)
        await deck.until(lambda: home.table.current is not None)
        await deck.press("e")
        await deck.until(lambda: deck.place == "AfterScreen")
        await deck.until(lambda: screen(deck).page is not None)
        yield deck


def screen(deck: Driver) -> AfterScreen:
    found = deck.app.screen
    assert isinstance(found, AfterScreen)
    return found


def at(deck: Driver) -> int | None:
    """The number of the row under the cursor."""
    state = screen(deck).state
    return state.row.row if state is not None and state.row is not None else None


async def test_what_was_measured(size: Size, trained: Trained) -> None:
    trained.judged(trained.evaluated(64))
    async with opened(trained, size) as deck:
        await deck.shows("Better than the base: loss", "captain › After", "base", "tuned", "difference", "95 % between")
        assert "better" in deck.text("#result")
        assert "No sign of forgetting" in deck.text("#result")
        assert "The judge prefers the tuned model" in deck.text("#result")
        assert "line 64" in deck.text("#rows").split("\n")[1], "the worst answer stands first"
        answers = deck.text("#answers")
        assert "Base" in answers
        assert "Tuned" in answers
        assert "│" in answers, "beside each other"
        assert "reference" in answers
        assert all(len(row) <= size[0] for row in deck.screen().split("\n"))


async def test_in_a_wide_terminal_all_of_it(trained: Trained) -> None:
    trained.judged(trained.evaluated(64))
    trained.exported()
    async with opened(trained, (160, 48)) as deck:
        await deck.shows("ROUGE-L", "64 rows held out of captain.jsonl", "took 41 s")
        await deck.shows("✓ export-1", "captain-q8_0.gguf", "1a2b3c4d", "1.9 MiB", "M  Merge")
        assert "the tuned answer is better" in deck.text("#answers")
        assert "It answers like a sailor" in deck.text("#answers")


async def test_nothing_measured_says_what_enter_does_and_enter_does_it(
    size: Size, trained: Trained, starting: Starting
) -> None:
    async with opened(trained, size, starting) as deck:
        await deck.shows(
            "Nothing was measured yet", "Enter starts it", "8 held-out rows of captain.jsonl", "An estimate"
        )
        await deck.press("enter")
        await deck.shows("eval-1")
        db = open_database(trained.database)
        ask = afterwards.find(db, "r1", "eval-1")["ask"]
        assert ask["rows"] == 100
        assert ask["data"] is None
        await deck.until(lambda: bool(screen(deck).page and screen(deck).page.at_work))  # type: ignore[union-attr]
        await deck.press("enter")
        assert [job["job"] for job in afterwards.of_run(db, "r1")] == ["eval-1"], "Enter again starts no second one"


async def test_what_is_in_the_way_is_said_and_nothing_starts(trained: Trained, starting: Starting) -> None:
    (trained.home / "captain.jsonl").unlink()
    async with opened(trained, (80, 24), starting) as deck:
        await deck.until(lambda: "not found" in deck.screen() or "does not exist" in deck.screen())
        await deck.press("enter")
        await deck.press("e")
        await deck.shows("Evaluate captain against its base")
        await deck.press("enter")
        await deck.pilot.pause()
        assert afterwards.of_run(open_database(trained.database), "r1") == []


async def test_a_job_at_work_shows_how_far_it_is_and_then_what_came_of_it(
    trained: Trained, starting: Starting, size: Size
) -> None:
    async with opened(trained, size, starting) as deck:
        await deck.shows("Enter starts it")
        await deck.press("enter")
        await deck.shows("eval-1")
        folder = jobs.directory(trained.database, "r1", "eval-1")
        events = EventFile(folder / jobs.EVENTS)
        events.append(Phase("evaluate", "16 rows, base and tuned"))
        events.append(Progress(4, 16))
        trained.read("eval-1")
        await deck.shows("16 rows, base and tuned", "4 of 16")
        rows = [answered(i) for i in range(1, 17)]
        trained.write_rows("eval-1", rows)
        events.append(Done({**trained.summary(rows), "artifacts": []}, "done"))
        EventFile(folder / jobs.RUNNER_EVENTS).append(Exit("finished", "finished", 0))
        trained.read("eval-1")
        await deck.shows("Better than the base", "worst first", "of 16")


async def test_an_evaluation_is_asked_for_in_a_dialog(size: Size, trained: Trained, starting: Starting) -> None:
    trained.evaluated(8)
    async with opened(trained, size, starting) as deck:
        await deck.press("e")
        await deck.shows("Evaluate captain against its base", "8 held-out rows")
        await deck.press("backspace", "backspace", "backspace", "5")
        await deck.shows("5 of 8 held-out rows", "going by eval-1 of captain")
        await deck.press("down", "down", "right")
        await deck.shows("‹ no ›", "5 of 8")
        await deck.press("enter")
        await deck.until(lambda: deck.place == "AfterScreen")
        await deck.until(lambda: len(screen(deck).page.jobs) == 2)  # type: ignore[union-attr]
    ask = afterwards.find(open_database(trained.database), "r1", "eval-2")["ask"]
    assert (ask["rows"], ask["general"]) == (5, False)


async def test_a_dialog_that_is_left_starts_nothing(trained: Trained, starting: Starting) -> None:
    trained.evaluated(8)
    async with opened(trained, (80, 24), starting) as deck:
        await deck.press("e")
        await deck.shows("held-out rows")
        await deck.press("escape")
        await deck.until(lambda: deck.place == "AfterScreen")
        assert len(afterwards.of_run(open_database(trained.database), "r1")) == 1


async def test_what_is_typed_wrong_is_said(trained: Trained, starting: Starting) -> None:
    trained.evaluated(8)
    async with opened(trained, (80, 24), starting) as deck:
        await deck.press("e")
        await deck.shows("held-out rows")
        await deck.press("x")
        await deck.shows("That is no number")
        await deck.press("enter")
        await deck.pilot.pause()
        assert deck.place == "FormScreen"


async def test_the_judge_is_named_with_what_it_costs_and_that_there_is_no_key(
    trained: Trained, starting: Starting, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TUNEDECK_JUDGE_KEY", "OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TUNEDECK_JUDGE_URL", "http://localhost:9/v1")
    trained.evaluated(8)
    async with opened(trained, (160, 48), starting) as deck:
        await deck.press("a")
        await deck.shows("Let a model judge the answers of captain", "http://localhost:9/v1")
        await deck.press("down", *"gauge-1")
        await deck.shows("gauge-1 at http://localhost:9/v1", "16 calls", "No key is sent")
        await deck.press("enter")
        await deck.until(lambda: deck.place == "AfterScreen")
        await deck.shows("judge-1")
    ask = afterwards.find(open_database(trained.database), "r1", "judge-1")["ask"]
    assert (ask["eval"], ask["model"], ask["keyed"]) == ("eval-1", "gauge-1", False)


async def test_orders(trained: Trained) -> None:
    trained.evaluated(64)
    async with opened(trained) as deck:
        await deck.shows("worst first")
        assert at(deck) == 64
        await deck.press("o")
        await deck.shows("lost most against the base first")
        db = open_database(trained.database)
        lost = afterwards.rows(db, "r1", "eval-1", "lost", 1)[0]["row"]
        await deck.until(lambda: at(deck) == lost)
        await deck.press("o", "o")
        await deck.shows("as they come")
        await deck.until(lambda: at(deck) == 1)


async def test_thousands_of_rows_are_read_a_window_at_a_time(trained: Trained, size: Size) -> None:
    trained.evaluated(3000, quick=True)
    async with opened(trained, size) as deck:
        await deck.shows("of 3,000")
        page = screen(deck).page
        assert page is not None
        assert len(page.rows) < 200
        await deck.press("2", "G")
        await deck.until(lambda: at(deck) == 1)
        assert "line 1 " in deck.text("#rows")
        assert "3,000 of 3,000" in deck.screen() or "–3,000 of 3,000" in deck.screen()
        page = screen(deck).page
        assert page is not None
        assert len(page.rows) < 200
        await deck.press("g")
        await deck.until(lambda: at(deck) == 3000)
        rows = deck.app.screen.query_one("#rows", RowList)
        for _ in range(12):
            await deck.press("pagedown")
        room = rows.size.height - 2
        await deck.until(lambda: at(deck) == 3000 - 12 * max(1, room))


async def test_enter_shows_a_row_whole_and_esc_leads_back(size: Size, trained: Trained) -> None:
    trained.evaluated(64)
    async with opened(trained, size) as deck:
        await deck.press("2", "j", "enter")
        await deck.shows("Line 63", "2 of 64", "question", "exact match")
        assert "Result" not in deck.screen()
        await deck.press("right")
        await deck.shows("Line 62", "3 of 64")
        await deck.press("escape")
        await deck.shows("Result", "worst first")
        assert at(deck) == 62
        await deck.press("q")
        await deck.until(lambda: deck.place == "HomeScreen")


async def test_evaluations_one_after_the_other(trained: Trained) -> None:
    trained.evaluated(8)
    trained.evaluated(16)
    async with opened(trained) as deck:
        await deck.shows("eval-2", "of 16")
        await deck.press("left_square_bracket")
        await deck.shows("eval-1", "of 8")
        await deck.press("left_square_bracket")
        await deck.shows("this is the first evaluation")


async def test_jobs_are_stopped_and_let_go_on(trained: Trained, starting: Starting) -> None:
    name = trained.job("eval", {"data": None, "rows": 8}, [], None, progress=(1, 8))
    starting.hold("r1", name)
    trained.job("merge", {"target": "/nowhere"}, [], None, status="failed", reason="The disk is full.")
    async with opened(trained, (160, 48), starting) as deck:
        await deck.shows("● eval-1", "1 of 8", "✗ merge-1", "The disk is full.")
        await deck.press("s")
        await deck.shows("asked to stop")
        assert (jobs.directory(trained.database, "r1", name) / jobs.STOP).exists()
        await deck.press("4", "G")
        await deck.press("r")
        await deck.until(lambda: starting.went_on == ["merge-1"])
        await deck.press("enter")
        await deck.shows("merge-1 of captain", "failed", "asked: target")


async def test_files_tell_their_hash(trained: Trained) -> None:
    trained.evaluated(8)
    file = trained.exported()
    async with opened(trained) as deck:
        await deck.press("4", "G")
        await deck.shows("Files", "1a2b3c4d")
        await deck.press("enter")
        await deck.shows("1a2b3c4d" * 4, "2,000,004 bytes")
        await deck.press("escape")
        file.unlink()
        await deck.shows("gone")


async def test_what_can_be_done_is_done_with_enter_too(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []
    async with opened(trained, (160, 48)) as deck:
        await deck.press("5")
        await deck.press("j")
        await deck.press("enter")
        await deck.shows("judge: needs an evaluation")
        front = screen(deck)
        real = front.post_message

        def post(message: object) -> bool:
            if isinstance(message, ChatAsked):
                asked.append(message.run_ids)
                return True
            return real(message)  # type: ignore[arg-type]

        monkeypatch.setattr(front, "post_message", post)
        await deck.press("j", "enter")
        await deck.until(lambda: asked == [("r1",)])
        await deck.press("t")
        await deck.until(lambda: len(asked) == 2)


async def test_a_run_without_weights_says_so(trained: Trained) -> None:
    for file in (trained.run_dir / "model").iterdir():
        file.unlink()
    async with opened(trained) as deck:
        await deck.shows("The run has nothing to use")
        await deck.press("e", "E", "M", "enter")
        await deck.pilot.pause()
        assert deck.place == "AfterScreen"


async def test_in_ascii_and_in_very_little_room(trained: Trained) -> None:
    trained.judged(trained.evaluated(16), 16)
    trained.exported()
    for size in [(80, 24), (60, 20), (40, 12), (24, 6), (20, 4), (1, 1)]:
        async with opened(trained, size, ascii=True) as deck:
            await deck.press("j", "o", "4", "escape", "enter")
            await deck.pilot.pause()
            assert deck.screen().isascii()


async def test_narrow_tells_the_verdict(trained: Trained) -> None:
    trained.evaluated(16)
    async with opened(trained, (40, 12)) as deck:
        await deck.shows("captain", "✓ finished", "Better than the base", "loss", "→", "better")


async def test_home_tells_what_came_of_it(size: Size, trained: Trained) -> None:
    trained.evaluated(16)
    async with running(Services(trained.database), size) as deck:  # type: ignore[arg-type]
        await deck.until(lambda: "better than its base" in deck.screen() or "Better than the base" in deck.screen())


async def test_it_opens_from_live_once_the_run_has_ended(size: Size) -> None:
    services = FakeServices()
    async with running(services, size) as deck:
        await deck.shows("support-lora-r16")
        await deck.press("enter")
        await deck.until(lambda: deck.place == "LiveScreen" and "step 262" in deck.screen())
        await deck.press("e")
        await deck.until(lambda: ("evaluate", "mbx3q7") in services.calls)
        assert deck.place == "LiveScreen", "on a run at work e still means evaluate now"
        await deck.press("q", "down", "down")
        await deck.until(lambda: deck.place == "HomeScreen")
        await deck.press("enter")
        await deck.until(lambda: deck.place == "LiveScreen" and "support-lora-r32" in deck.screen())
        await deck.press("e")
        await deck.until(lambda: deck.place == "AfterScreen")
        await deck.until(lambda: services.followed is not None and services.followed.run_id == "mbx2k1")
        await deck.press("q")
        await deck.until(lambda: deck.place == "LiveScreen")
        await deck.until(lambda: services.followed is None)
