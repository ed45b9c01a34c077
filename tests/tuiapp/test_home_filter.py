"""The filter of Home on a real database: the language, mistakes, completion, the bin, what a search found, values of fields."""

import shutil
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from engine.store import changes, metrics, query, runs
from engine.store.connection import open_database
from tests.tuiapp.conftest import Driver
from tests.tuiapp.fakes import FakeServices
from tests.tuiapp.test_table import SPEC
from tuiapp.app import TuneDeckApp
from tuiapp.completing import STATES, STATUSES, completion
from tuiapp.home_status import ListState, field_help, status_line
from tuiapp.list_snapshot import Asked, Listing, Mistake
from tuiapp.listing import Lister
from tuiapp.screens import filtering
from tuiapp.services import Services
from tuiapp.table import Table
from tuiapp.views import View

Size = tuple[int, int]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with six runs that have ended."""
    path = tmp_path_factory.mktemp("made") / "experiments.db"
    db = open_database(path)
    for number in range(6):
        add(db, number)
    changes.change_tags(db, "run3", ["keep", "two words"], [])
    changes.set_note(db, "run2", "the tokenizer was broken here, start again")
    db.close()
    return path


def add(db: sqlite3.Connection, number: int) -> None:
    """A run that has ended, with a curve; the even ones have LoRA of rank 8, the odd ones of 16."""
    method = SPEC.method.model_copy(update={"rank": 8 if number % 2 == 0 else 16})
    named = SPEC.run.model_copy(update={"name": f"name-{number}"})
    runs.insert(
        db, f"run{number}", SPEC.model_copy(update={"run": named, "method": method}), {}, "host", 1000.0 + number
    )
    runs.set_fields(
        db, f"run{number}", status="finished" if number else "failed", started_at=1000.0, ended_at=1060.0 + number
    )
    metrics.add(db, f"run{number}", "loss", [(step, 1, 1000.0 + step, 2.0 / (step + number + 1)) for step in range(5)])
    metrics.add(db, f"run{number}", "grad_norm", [(step, 1, 1000.0 + step, number + step / 10) for step in range(5)])


@pytest.fixture
def database(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(made, tmp_path / "experiments.db"))


@asynccontextmanager
async def opened(database: Path, size: Size = (80, 24)) -> AsyncIterator[Driver]:
    """The app on a real database."""
    app = TuneDeckApp(Services(database))
    async with app.run_test(size=size) as pilot:
        deck = Driver(app, pilot, FakeServices())
        await deck.shows("name-5", "of 6")
        yield deck


def keys(text: str) -> list[str]:
    """To be typed."""
    return ["space" if character == " " else character for character in text]


async def test_the_language_filters_as_one_types_and_enter_goes_to_the_list(database: Path, size: Size) -> None:
    async with opened(database, size) as deck:
        await deck.press("slash", *keys("status:finished method.rank:16"))
        await deck.until(lambda: len(deck.text("#table").splitlines()) == 4)
        await deck.press("enter")
        await deck.shows("filter status:finished method.rank:16", "1–3 of 3")
        assert deck.app.focused is deck.widget("#table")
        await deck.press("escape")
        await deck.shows("no filter", "of 6")


async def test_a_mistake_is_pointed_at_and_the_last_good_list_stays(database: Path, size: Size) -> None:
    async with opened(database, size) as deck:
        await deck.press("slash", *keys("tag:keep"))
        await deck.until(lambda: "name-3" in deck.text("#table") and len(deck.text("#table").splitlines()) == 2)
        await deck.press(*keys(" <3"))  # at no moment is it another filter that is none
        await deck.shows("filter tag:keep <3", "^ The name of a field is missing")
        line = deck.screen().splitlines()
        assert line[-1].index("^") == line[-2].index("<3"), "it points at the place"
        assert "name-3" in deck.text("#table")
        await deck.press("enter")
        await deck.shows("filter tag:keep <3", "The name of a field")
        assert "name-3" in deck.text("#table")
        await deck.press("slash", "backspace", "backspace")
        await deck.until(lambda: "^" not in deck.text("#keys"))


async def test_what_esc_left_does_not_come_back(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filtering, "PAUSE", 0.3)
    async with opened(database) as deck:
        await deck.press("slash", *"tag", "escape", "j")
        await deck.shows("no filter")
        before = deck.app.last
        assert before is not None
        await deck.until(lambda: deck.app.last is not None and deck.app.last.now > before.now + 0.5)
        assert deck.app.views.now.filter == ""


async def test_tab_completes_names_and_values(database: Path) -> None:
    async with opened(database) as deck:
        await deck.press("slash")
        await deck.shows("status:finished lr<1e-3")
        await deck.press(*"meth")
        await deck.shows("method.alpha")
        await deck.press(*"od.r", "tab")
        await deck.until(lambda: deck.widget("#filter").value == "method.rank")  # type: ignore[attr-defined]
        await deck.press(*":8 tag:two", "tab")
        await deck.until(lambda: deck.widget("#filter").value.endswith('tag:"two words"'))  # type: ignore[attr-defined]


async def test_what_a_search_found_stands_in_the_preview(database: Path, size: Size) -> None:
    async with opened(database, size) as deck:
        await deck.press("slash", *keys("text:broken"), "enter")
        await deck.shows("1–1 of 1", "name-2")
        await deck.until(lambda: "the tokenizer was broken" in deck.text("#preview"))
        await deck.press("escape")
        await deck.until(lambda: "ound" not in deck.text("#preview"))


async def test_into_the_bin_out_of_it_and_for_good(database: Path, size: Size) -> None:
    directory = database.parent / "runs" / "run5"
    directory.mkdir(parents=True)
    (directory / "output.log").write_bytes(b"x" * (3 << 20))
    async with opened(database, size) as deck:
        await deck.press("D")
        await deck.shows("Delete name-5?", "3.0 MiB")
        await deck.press("D")
        await deck.shows("name-5 in the bin")
        await deck.until(lambda: "name-5" not in deck.text("#table"))
        await deck.press("u")
        await deck.shows("name-5: back in the list")
        await deck.until(lambda: "name-5" in deck.text("#table"))
        await deck.press("g", "D")
        await deck.until(lambda: deck.place == "AskScreen")
        await deck.press("D")
        await deck.until(lambda: "name-5" not in deck.text("#table"))
        await deck.press("slash", *keys("is:deleted"), "enter")
        await deck.shows("1–1 of 1", "name-5")
        assert directory.exists()
        await deck.press("D")
        await deck.shows("Delete name-5 for good?", "3.0 MiB", "Nothing brings them back")
        await deck.press("right", "enter")
        await deck.shows("gone for good")
        await deck.until(lambda: not directory.exists())
    db = open_database(database)
    assert db.execute("SELECT count(*) FROM runs WHERE id = 'run5'").fetchone()[0] == 0


async def test_archived_runs_are_there_for_who_asks(database: Path) -> None:
    async with opened(database) as deck:
        await deck.press("A")
        await deck.until(lambda: "name-5" not in deck.text("#table"))
        await deck.press("slash", *keys("is:archived"), "enter")
        await deck.shows("name-5", "1–1 of 1")
        await deck.press("A")
        await deck.shows("back in the list")
        await deck.until(lambda: "name-5" not in deck.text("#table"))


async def test_any_field_is_a_column_in_which_each_run_has_its_value(database: Path) -> None:
    async with opened(database) as deck:
        await deck.press("v")
        await deck.until(lambda: deck.place == "ColumnsScreen")
        await deck.shows("Columns", "name-5")
        await deck.press(*"grad_norm.max", "space", "O")
        await deck.shows("5.400")
        await deck.press("enter")
        await deck.until(lambda: deck.place == "HomeScreen" and "5.400" in deck.text("#table"))
        rows = deck.text("#table").splitlines()
        assert [row.split()[2] for row in rows[1:4]] == ["name-0", "name-1", "name-2"]
        assert "↑grad_norm max" in rows[0]


@pytest.fixture
def db(database: Path) -> Iterator[sqlite3.Connection]:
    connection = open_database(database)
    yield connection
    connection.close()


class Reading:
    """What the collector does, look by look."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.db, self.table, self.lister = db, Table(), Lister()

    def look(self, asked: Asked, selected: str | None = None) -> Listing:
        self.table.read(self.db)
        return self.lister.read(self.db, self.db.total_changes, self.table, asked, selected)


def test_nothing_is_asked_of_the_database_while_nothing_changed(
    db: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, asked = Reading(db), Asked("tag:keep", ("method.rank", "absent.field"), ("run1", "run2"))
    first = reading.look(asked)
    assert first.ids == {"run3"}
    assert first.fields == ("method.rank",), "what there is not is left out"
    assert first.values["run1"] == (16,)
    assert first.widths == {"method.rank": 2}
    assert [path for path, _ in first.differs] == ["method.rank"]
    for name in ("select", "values"):
        monkeypatch.setattr(query, name, lambda *_, **__: pytest.fail("asked again"))
    monkeypatch.setattr(runs, "varied", lambda *_: pytest.fail("asked again"))
    reading.table.read = lambda _: ()  # type: ignore[assignment]  # as the reader does while the version is the same
    assert reading.look(asked) is first


def test_what_changes_is_asked_of_that_run_alone(db: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    reading, asked = Reading(db), Asked("", ("note", "grad_norm.max"))
    reading.look(asked)
    reading.look(asked)
    wanted: list[object] = []
    real = query.values

    def noted(db: sqlite3.Connection, names: object, ids: object = None) -> object:
        wanted.append(ids)
        return real(db, names, ids)  # type: ignore[arg-type]

    monkeypatch.setattr(query, "values", noted)
    runs.set_fields(db, "run1", note="new")
    assert reading.look(asked).values["run1"] == ("new", 1.4)
    assert wanted == [["run1"]]
    add(db, 7)
    assert reading.look(asked).values["run7"] == (None, 7.4)


def test_a_filter_with_a_mistake_keeps_what_the_last_one_let_through(db: sqlite3.Connection) -> None:
    reading = Reading(db)
    reading.look(Asked("tag:keep"))
    found = reading.look(Asked("tag:"))
    assert found.ids == {"run3"}
    assert found.filter == "tag:keep"
    assert found.mistake is not None
    assert (found.mistake.filter, found.mistake.column) == ("tag:", 5)
    assert reading.look(Asked("")).ids is None
    assert reading.look(Asked("")).mistake is None


def test_a_run_that_is_gone_has_no_values(db: sqlite3.Connection) -> None:
    reading, asked = Reading(db), Asked("", ("note",))
    reading.look(asked)
    db.execute("DELETE FROM runs WHERE id = 'run1'")
    assert "run1" not in reading.look(asked).values


def test_what_is_offered_is_what_the_language_has() -> None:
    assert STATUSES == query.STATUSES
    assert set(STATES) == {*query.STATES, *query.STATUSES}


NAMES = ("status", "started", "eval_loss", "method.rank", "training.learning_rate", "tag")
VALUES = {"tag": ["keep", "two words", 'a"b'], "status": list(STATUSES)}


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("stat", "status"),
        ("sta", "sta"),
        ("-eva", "-eval_loss"),
        ("(lr<3 OR rank", "(lr<3 OR method.rank"),
        ("status:fin", "status:finished"),
        ("status:finished,cr", "status:finished,crashed"),
        ("tag:tw", 'tag:"two words"'),
        ('tag:"tw', 'tag:"two words"'),
        ('text:"a b" stat', 'text:"a b" status'),
        ("tag:a", r'tag:"a\"b"'),
        ("zzz", "zzz"),
        ("", ""),
    ],
)
def test_tab_takes_what_all_agree_on(text: str, taken: str) -> None:
    found = completion(text, len(text), NAMES, lambda name: VALUES.get(name, ()))
    assert found.taken(text, len(text)) == (taken, len(taken))


def test_the_status_line_gives_up_what_matters_least_first() -> None:
    state = ListState(
        "9,904 runs and 60 sweeps   1 running, 1 queued", View(filter="tag:keep lr<1e-3"), (1, 10, 904), 2
    )
    for width in (40, 60, 80, 100, 160):
        text = status_line(state, width).plain
        assert len(text) == width
        assert "tag:keep" in text
        assert "1–10 of 904" in text
    assert "2 marked" in status_line(state, 80).plain
    assert "1 queued" in status_line(state, 160).plain


@pytest.mark.parametrize("column", [1, 8, 40, 70])
def test_a_mistake_is_pointed_at_wherever_it_is(column: int) -> None:
    text = "x" * 75
    shown = field_help(
        8, text, Mistake(text, "That is nothing", column, "Leave it out."), completion("", 0, (), lambda _: ()), 80
    )
    assert shown.plain.index("^") == 8 + column - 1
    assert "That is" in shown.plain
