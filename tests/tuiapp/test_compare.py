"""The screen that compares runs, on real runs and real rows, as a person drives it."""

import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from engine.compare_curves import MOST
from engine.store import metrics, runs
from engine.store.connection import open_database
from tests.engine.real_runs import copied, make_nasty
from tests.engine.test_compare import BEGAN, make
from tests.tuiapp.conftest import Driver, running
from tests.tuiapp.fakes import FakeServices
from tuiapp.compare_layout import compare_places
from tuiapp.compare_values import DRAWN, ComparePage, CompareQuestion, CompareState, drawn_of
from tuiapp.comparing import Desk
from tuiapp.messages import CompareAsked
from tuiapp.screens import compare as screen_of
from tuiapp.screens.compare import CompareScreen
from tuiapp.services import Services
from tuiapp.widgets.compare_chart import chart_pane, is_log, last_values
from tuiapp.widgets.compare_side import lines_of_each
from tuiapp.widgets.compare_table import columns, first_for, short_names
from tuiapp.widgets.pane import Look

Size = tuple[int, int]
NAMES = ("captain-lora-r16", "captain-lora-r8", "captain-full")


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example's runs at today's schema."""
    path, db = copied(tmp_path_factory.mktemp("example"))
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    return path


@pytest.fixture
def database(example: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(example, tmp_path / "experiments.db"))


class Counting(Services):
    """The real services, and what was asked of them."""

    def __init__(self, database: Path) -> None:
        super().__init__(database)
        self.asked: list[CompareQuestion] = []

    def compare(self, asked: CompareQuestion) -> ComparePage:
        self.asked.append(asked)
        return super().compare(asked)


def ids_of(database: Path, names: tuple[str, ...]) -> tuple[str, ...]:
    db = open_database(database)
    found = tuple(runs.find(db, name)["id"] for name in names)
    db.close()
    return found


@asynccontextmanager
async def comparing(
    database: Path,
    names: tuple[str, ...] = NAMES,
    size: Size = (80, 24),
    services: Services | None = None,
    **options: Any,
) -> AsyncIterator[Driver]:
    """The app with the comparison of these runs in front, read and drawn."""
    ids = ids_of(database, names)
    async with running(cast(FakeServices, services or Services(database)), size, **options) as deck:
        await deck.until(lambda: deck.app.last is not None and deck.app.last.runs)
        deck.app.post_message(CompareAsked(ids))
        await deck.until(lambda: deck.place == "CompareScreen" and page_of(deck) is not None)
        yield deck


def page_of(deck: Driver) -> ComparePage | None:
    assert isinstance(deck.app.screen, CompareScreen)
    return deck.app.screen._page


async def test_everything_stands_there(database: Path, size: Size) -> None:
    async with comparing(database, size=size) as deck:
        await deck.shows("Runs › Compare 3", "Differs 7 of 41", "method.rank", "lora-r16", "full", "peak memory, GiB")
        await deck.shows(
            "0.189*", "+0.730", "Eval loss   D ends 0.161 above B", "20 step", "* best", "3 runs", "? help  q back"
        )
        shown = deck.screen()
        assert "B is best, 0.161 below D." in " ".join(shown.split())
        assert "training.epochs" not in shown
        wide = (
            "What goes with a lower eval loss",
            "▸ eval loss",
            "Say it in one line",
            "Memory, GiB ",
            "Sample   prompt 1 of 2",
        )
        assert [text in shown for text in wide] == [size[0] > 80] * len(wide)


async def test_wide_shows_the_rest(database: Path) -> None:
    async with comparing(database, size=(160, 48)) as deck:
        await deck.shows("34 parameters the same: v", "nothing else differs that is known", "3 runs are too few")
        await deck.shows("step 20    Ahoy, matey! Boil it until it is soft. Fair winds!", "[ ] other prompt")
        await deck.press("right_square_bracket")
        await deck.shows("prompt 2 of 2: What is the capital of Italy?")


async def test_narrow_is_a_row_a_run(database: Path) -> None:
    async with comparing(database, size=(40, 12)) as deck:
        await deck.shows(
            "best eval loss   to B", "▸B ✓ captain-lora-r16    0.189*", "C ■ captain-lora-r8", "+0.730", "q back"
        )
        assert max(len(line) for line in deck.screen().split("\n")) <= 40
        await deck.press("down", "enter")
        await deck.until(lambda: deck.place == "LiveScreen")
        await deck.shows("captain-full")
    async with comparing(database, size=(20, 4)) as deck:
        assert "Compare" in deck.screen()


async def test_same_parameters_too(database: Path, size: Size) -> None:
    async with comparing(database, size=size) as deck:
        await deck.press("v", "z")
        await deck.shows("model.revision")
        await deck.press("G")
        await deck.shows("compute.devices", "34 parameters the same")
        await deck.press("v")
        await deck.until(lambda: "compute.devices" not in deck.screen())


async def test_the_column_of_another_run_becomes_the_baseline(database: Path, size: Size) -> None:
    async with comparing(database, size=size) as deck:
        await deck.press("right", "right")
        await deck.until(lambda: "▸D" in deck.text("#differs"))
        await deck.press("p")
        await deck.shows("–0.161")
        await deck.until(lambda: deck.app.baseline == ids_of(database, ("captain-full",))[0])
        page = page_of(deck)
        assert page is not None
        assert [(run.letter, run.name) for run in page.comparison.runs] == list(
            zip("BCD", reversed(NAMES), strict=True)
        )
        assert "D is best, 0.161 below B" in " ".join(deck.screen().split())


async def test_enter_opens_the_run_of_the_column_and_q_comes_back(database: Path) -> None:
    async with comparing(database) as deck:
        await deck.press("right", "enter")
        await deck.until(lambda: deck.place == "LiveScreen")
        await deck.shows("captain-lora-r8")
        await deck.press("q")
        await deck.until(lambda: deck.place == "CompareScreen")
        await deck.press("q")
        await deck.until(lambda: deck.place == "HomeScreen")


async def test_any_curve_along_any_axis(database: Path, size: Size) -> None:
    async with comparing(database, size=size) as deck:
        await deck.press("3", "right")
        await deck.shows("Train loss")
        await deck.press("left", "left")
        page = page_of(deck)
        assert page is not None
        last = page.comparison.metrics[-1].replace("_", " ")
        await deck.shows(last[:1].upper() + last[1:])
        along = (
            ("x: tokens", "tokens"),
            ("x: epoch", "1.43 epoch"),
            ("x: time since the start", " s"),
            ("x: time of day", ":"),
        )
        for texts in along:
            await deck.press("x")
            await deck.shows(*texts)
        await deck.press("x")
        await deck.shows("x: step", "20 step")


async def test_log_and_smoothing(database: Path) -> None:
    async with comparing(database, size=(160, 48)) as deck:
        await deck.shows("y: linear")
        before = deck.text("#chart")
        await deck.press("y")
        await deck.shows("y axis: logarithmic", "y: log")
        assert deck.text("#chart") != before
        await deck.press("y", "plus", "plus")
        await deck.shows("smoothed 0.9", "smoothing 0.9")
        await deck.press("minus", "minus", "minus")
        await deck.shows("no smoothing: every spike is there")


async def test_the_list_of_curves_chooses(database: Path) -> None:
    async with comparing(database, size=(160, 48)) as deck:
        await deck.press("5", "down", "down")
        await deck.shows("▸ learning rate", "Learning rate   ")


async def test_zoom_and_panes_by_number(database: Path) -> None:
    async with comparing(database) as deck:
        await deck.press("4")
        await deck.shows("Sample   prompt 1 of 2", "C  step 10    Ahoy, matey! Ahoy, matey!")
        assert not deck.widget("#differs").display
        await deck.press("left")
        await deck.shows("C  step 5")
        await deck.press("escape")
        await deck.until(lambda: deck.widget("#differs").display)
        assert deck.place == "CompareScreen"
        await deck.press("3", "z")
        await deck.shows("C captain-lora-r8")
        assert deck.widget("#chart").size.height > 15


async def test_the_whole_of_a_row(database: Path) -> None:
    async with comparing(database, size=(160, 48)) as deck:
        await deck.press("down", "down", "i")
        await deck.until(lambda: deck.place == "WordsScreen")
        await deck.shows("method.rank", "C  captain-lora-r8")
        await deck.press("q")
        await deck.until(lambda: deck.place == "CompareScreen")


async def test_what_is_copied_is_all_columns(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with comparing(database, (*NAMES, "captain-qlora-r16", "captain-lora-attention")) as deck:
        taken: list[str] = []
        monkeypatch.setattr(deck.app, "copy_to_clipboard", taken.append)
        await deck.press("Y")
        await deck.shows("copied ")
        assert "captain-lora-attention" in taken[0]
        assert "method.targets" in taken[0]
        assert "method.targets" not in deck.screen()


async def test_one_more_run(database: Path) -> None:
    async with comparing(database) as deck:
        await deck.press("c")
        await deck.until(lambda: deck.place == "PickScreen")
        await deck.press(*"attention", "enter")
        await deck.shows("Compare 4", "4 runs")


async def test_many_runs_move_under_the_baseline_which_stays(database: Path, size: Size) -> None:
    db = open_database(database)
    names = tuple(f"run-m{i:02}" for i in range(30))
    for i in range(30):
        make(db, f"m{i:02}", [1.5 - i / 100], method__rank=i + 1)
    db.close()
    async with comparing(database, names, size) as deck:
        await deck.shows("B run-m00", "C run-m01", "30 runs")
        await deck.press(*["right"] * 29)
        await deck.shows("B run-m00", "▸f run-m29")
        assert "C run-m01" not in deck.text("#differs")
        page = page_of(deck)
        assert page is not None
        await deck.until(lambda: "m29" in (page_of(deck) or page).curves)
        assert len((page_of(deck) or page).curves) == DRAWN
        assert f"{DRAWN} of 30 runs" in deck.text("#chart")


async def test_a_failed_run_and_none_with_a_result(database: Path) -> None:
    async with comparing(database, ("captain-too-long", "captain-lora-r2")) as deck:
        await deck.shows("✗ failed", "Only C has an eval loss that can be compared: 2.494. B failed.")
    db = open_database(database)
    make(db, "x1", status="failed", step=0)
    make(db, "x2", status="oom", step=0)
    db.close()
    async with comparing(database, ("run-x1", "run-x2")) as deck:
        await deck.shows("None of these runs has a result.", "nothing was measured")
        for key in ("x", "y", "plus", "right_square_bracket", "z", "z", "4", "5", "6", "7", "i"):
            await deck.press(key)
        assert deck.app.screen_stack


async def test_other_rows_are_marked(database: Path, size: Size) -> None:
    db = open_database(database)
    make(db, "u1", [1.2])
    make(db, "u2", [0.3], training__seed=7)
    db.close()
    async with comparing(database, ("run-u1", "run-u2"), size) as deck:
        await deck.shows("! training.seed", "0.300!", "! C", "! not like with like")
        assert "0.300*" not in deck.screen()


async def test_a_run_at_work_is_read_again_only_when_it_changed(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(screen_of, "AGAIN", 0.0)
    db = open_database(database)
    make(db, "w1", [1.2])
    make(db, "w2", [1.3], status="running", step=10)  # on another host: nobody here looks after it
    services = Counting(database)
    async with comparing(database, ("run-w1", "run-w2"), (160, 48), services) as deck:
        await deck.shows("1.300")
        snapshots = deck.app.last
        await deck.until(lambda: deck.app.last is not snapshots)
        before = len(services.asked)
        for _ in range(5):
            last = deck.app.last
            await deck.until(lambda last=last: deck.app.last is not last)
        assert len(services.asked) == before
        metrics.add(db, "w2", "eval_loss", [(20, 1, BEGAN + 120, 1.1)])
        db.execute("UPDATE progress SET step = 20 WHERE run_id = 'w2'")
        await deck.shows("1.100*", "C is best")
        assert len(services.asked) > before
    db.close()


async def test_a_database_that_cannot_be_read_is_a_sentence(database: Path) -> None:
    class Refusing(Services):
        def compare(self, asked: CompareQuestion) -> ComparePage:
            raise sqlite3.OperationalError("database is locked")

    async with running(cast(FakeServices, Refusing(database))) as deck:
        await deck.until(lambda: deck.app.last is not None and deck.app.last.runs)
        deck.app.post_message(CompareAsked(ids_of(database, NAMES)))
        await deck.shows("database is locked", "q back")
        for key in ("right", "v", "x", "p", "enter", "i", "E", "1"):
            await deck.press(key)
        await deck.press("q")
        await deck.until(lambda: deck.place == "HomeScreen")


async def test_live_compares_with_the_baseline(database: Path) -> None:
    first, other = ids_of(database, ("captain-lora-r16", "captain-full"))
    async with running(cast(FakeServices, Services(database))) as deck:
        await deck.until(lambda: deck.app.last is not None and deck.app.last.runs)
        deck.app.baseline = other
        await deck.press("enter")
        await deck.until(lambda: deck.place == "LiveScreen")
        await deck.until(lambda: deck.app.screen.detail is not None)  # type: ignore[attr-defined]
        await deck.press("c")
        await deck.until(lambda: deck.place == "CompareScreen")
        await deck.shows("B captain-full", "C captain-lora-r16")
        assert deck.app.screen._ids == (other, first)  # type: ignore[attr-defined]


async def test_export_writes_a_new_file_each_time(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with comparing(database) as deck:
        for expected in ("compare-*.csv", "compare-*-2.csv"):
            await deck.press("E")
            await deck.until(lambda: deck.place == "PickScreen")
            await deck.press(*"csv", "enter")
            await deck.until(lambda expected=expected: list(tmp_path.glob(expected)))
            await deck.until(lambda: deck.place == "CompareScreen")
            await deck.shows("written: ")
        await deck.press("E", *"html", "enter")
        await deck.until(lambda: list(tmp_path.glob("compare-*.html")))
    rows = next(iter(sorted(tmp_path.glob("compare-*.csv")))).read_text(encoding="utf-8").splitlines()
    assert rows[0] == "run_id,run,key,step,attempt,time,value"
    assert {row.split(",")[1] for row in rows[1:]} == set(NAMES)
    assert "captain-full" in next(tmp_path.glob("*.html")).read_text(encoding="utf-8")


async def test_hostile_names_and_ascii(database: Path, size: Size) -> None:
    db = open_database(database)
    nasty = make_nasty(db, "captain-full")
    name = db.execute("SELECT name FROM runs WHERE id = ?", (nasty,)).fetchone()[0]
    db.close()
    async with comparing(database, ("captain-lora-r16", name), size, ascii=True) as deck:
        await deck.shows("Compare 2", "0.189*")
        for key in ("3", "right", "4", "z", "escape", "1", "i"):
            await deck.press(key)
        shown = deck.screen()
        assert shown.isascii()
        assert "\x1b" not in shown


async def test_help_says_what_each_pane_is(database: Path) -> None:
    async with comparing(database) as deck:
        await deck.press("question_mark")
        await deck.shows("Help: Compare", "Differs, where you were")


def test_every_size_has_a_place_for_what_matters() -> None:
    lines = dict.fromkeys(
        ("differs", "result", "samples", "curves", "hints", "memory", "reached", "lineage", "said"), 6
    )
    for width in range(1, 200, 7):
        for height in range(1, 70, 3):
            for zoom in (None, "chart"):
                places = compare_places(width, height, lines, zoom)
                for region in places.values():
                    assert region.x >= 0
                    assert region.right <= width
                    assert region.y >= 0
                    assert region.bottom <= max(height, 1)
                shown = [region for name, region in places.items() if name not in ("head", "rule")]
                assert not any(a.overlaps(b) for i, a in enumerate(shown) for b in shown[i + 1 :])


def test_columns_keep_the_baseline_and_the_run_in_view() -> None:
    for count in (1, 2, 5, 40):
        for width in (60, 80, 119, 200):
            first = 1
            for column in (*range(count), *reversed(range(count))):
                first = first_for(column, first, count, width)
                at = columns(count, first, width)
                assert at.shown[0] == 0
                assert column in at.shown or len(at.shown) == 1
                assert at.names + at.width * len(at.shown) <= width


def test_names_lose_what_they_all_begin_with_only_where_they_must() -> None:
    assert short_names(["ab-x", "ab-y"], 10) == ["ab-x", "ab-y"]
    assert short_names(["captain-lora-r16", "captain-lora-r8"], 10) == ["…r16", "…r8"]
    assert short_names(["abcdefgh", "abcdefgi"], 4) == ["abcdefgh", "abcdefgi"]


def _state(tmp_path: Path, count: int, points: int) -> CompareState:
    db = open_database(tmp_path / "experiments.db")
    ids = tuple(make(db, f"r{i}", method__rank=i + 1) for i in range(count))
    for i, run_id in enumerate(ids):
        values = [
            (n, 1, BEGAN + n, 40.0 if n == points // 3 + points // 10 * i else 1.0 + i / 10)
            for n in range(1, points + 1)
        ]
        metrics.add(db, run_id, "loss", values)
    return CompareState(Desk().page(db, CompareQuestion(ids, "loss", ids)))


def test_spikes_of_long_curves_are_seen_and_little_is_read(tmp_path: Path) -> None:
    state = _state(tmp_path, 3, 20_000)
    assert all(len(one.points) <= 2 * MOST for one in state.page.curves.values())
    rows = [row.plain for row in chart_pane(replace(state, log=False), Look(100, 16))]
    assert "of 60,000 points" in rows[0]
    assert rows[2].startswith(" 40")
    spikes = [i for i, character in enumerate(rows[4]) if character not in " "]
    assert len(spikes) == 3  # one of each run, each in a column of its own


def test_the_run_of_the_column_is_drawn_over_the_others_and_letters_do_not_hide_each_other(tmp_path: Path) -> None:
    state = _state(tmp_path, 3, 50)
    flat = replace(state, page=replace(state.page, curves={
        run_id: replace(one, points=((1, BEGAN, 1.0), (50, BEGAN, 1.0))) for run_id, one in state.page.curves.items()
    }))  # fmt: skip
    text = "\n".join(row.plain for row in chart_pane(flat, Look(60, 9))[1:])
    assert all(letter in text for letter in "BCD")
    assert last_values(flat) == {0: 1.0, 1: 1.0, 2: 1.0}


def test_one_run_far_off_makes_the_axis_logarithmic(tmp_path: Path) -> None:
    state = _state(tmp_path, 2, 50)
    assert is_log(state)
    assert not is_log(replace(state, log=False))


def test_the_best_and_the_run_of_the_column_are_always_drawn(tmp_path: Path) -> None:
    db = open_database(tmp_path / "experiments.db")
    ids = tuple(make(db, f"r{i:02}", [2.0 - i / 100], method__rank=i + 1) for i in range(40))
    c = Desk().page(db, CompareQuestion(ids, "", ids[:1])).comparison
    drawn = drawn_of(c, (0, 1, 2), 20)
    assert {0, 1, 2, 20, 39} <= set(drawn)
    assert len(drawn) == DRAWN


def test_only_what_may_have_changed_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    db = open_database(tmp_path / "experiments.db")
    make(db, "b", [1.2])
    make(db, "c", [1.3], status="running")
    desk, read = Desk(), list[tuple[str, str]]()
    thinned = metrics.thinned

    def counted(db: sqlite3.Connection, run_id: str, key: str, most: int) -> Any:
        read.append((run_id, key))
        return thinned(db, run_id, key, most)

    monkeypatch.setattr(metrics, "thinned", counted)
    ids = ("b", "c")
    first = desk.page(db, CompareQuestion(ids, "eval_loss", ids, 1))
    assert ("b", "eval_loss") in read
    read.clear()
    same = desk.page(db, CompareQuestion(ids, "eval_loss", ids, 1))
    assert (read, same.comparison is first.comparison) == ([], True)
    metrics.add(db, "c", "eval_loss", [(50, 1, BEGAN + 300, 1.0)])
    later = desk.page(db, CompareQuestion(ids, "eval_loss", ids, 2))
    assert later.curves["c"].points[-1] == (50, BEGAN + 300, 1.0)
    assert {run_id for run_id, key in read if key == "eval_loss"} == {"c"}


async def test_related_runs_are_a_tree(tmp_path: Path) -> None:
    db = open_database(tmp_path / "experiments.db")
    make(db, "p1", [1.2])
    make(db, "p2", [1.1], method__rank=16, run__parent="p1")
    db.close()
    async with comparing(tmp_path / "experiments.db", ("run-p1", "run-p2"), (160, 48)) as deck:
        await deck.shows("Lineage", "B run-p1", "└ C rank 8 → 16")


def test_long_answers_get_the_lines_that_are_over() -> None:
    assert lines_of_each([1, 5, 1, 3], 4) == [1, 1, 1, 1]
    assert lines_of_each([1, 5, 1, 3], 7) == [1, 3, 1, 2]
    assert lines_of_each([1, 5, 1, 3], 40) == [1, 5, 1, 3]
