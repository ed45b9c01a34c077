"""What must not break it: any size, pasted garbage, a database that is locked or gone, terminals of all kinds."""

import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from textual import events
from textual.widgets import Input

from bench.terminal import Terminal
from tests.helpers import Deck, wait_for
from tests.tuiapp.conftest import Driver, running
from tests.tuiapp.fakes import RTX_4090, FakeServices, Planner
from tests.tuiapp.wizard import LLAMA, kept, write_rows
from tuiapp.draft import STEPS
from tuiapp.looking import LOCKED
from tuiapp.services import Services
from tuiapp.snapshot import Snapshot

EXAMPLE = Path(__file__).parent.parent.parent / "experiments.db.example"
SIZES = [(20, 5), (1, 1), (40, 12), (300, 1)]
BEFORE = (80, 24)

PLACES: dict[str, tuple[str, ...]] = {
    "HomeScreen": (),
    "LiveScreen": ("enter",),
    "MachineScreen": ("m",),
    "ChatScreen": ("down", "down", "t"),
    "PlanModelScreen": ("f2",),
    "DataFileScreen": ("f3",),
    "HelpScreen": ("question_mark",),
    "AskScreen": ("s",),
    "CommandPalette": ("ctrl+p",),
    "filter": ("slash", "l", "o"),
    **{f"{name}Step": ("n",) for name in STEPS},
}
"""Every screen with the keys to it from Runs."""


@contextmanager
def draft(name: str, folder: Path, services: FakeServices) -> Iterator[FakeServices]:
    """With a kept draft that the wizard opens at this step."""
    step = next((i for i, one in enumerate(STEPS) if name == f"{one}Step"), 0)
    yield kept(services, model=LLAMA, data=str(write_rows(folder)), step=step, passed=list(range(step)))


async def at(deck: Driver, name: str) -> None:
    """Go there."""
    await deck.shows("support-lora-r16")
    await deck.press(*PLACES[name])
    await deck.until(lambda: name in (deck.place, "filter"))
    await deck.pilot.pause()


def fits(deck: Driver, size: tuple[int, int]) -> bool:
    """Whether what is drawn is as large as the terminal."""
    width, height = size
    lines = deck.screen().split("\n")
    return deck.app.size == size and len(lines) <= height and all(len(line) <= width for line in lines)


@pytest.mark.parametrize("name", PLACES)
async def test_any_screen_at_any_size_and_back(name: str, tmp_path: Path) -> None:
    with draft(name, tmp_path, FakeServices(planner=Planner(RTX_4090))) as services:
        async with running(services, BEFORE) as deck:
            await at(deck, name)
            keys = "#help-keys" if name == "HelpScreen" else "#dialog-keys" if name == "AskScreen" else "#keys"
            for size in SIZES:
                await deck.pilot.resize_terminal(*size)
                await deck.until(lambda size=size: fits(deck, size))  # type: ignore[misc]
                await deck.press("tab", "j", "k")
            await deck.pilot.resize_terminal(*BEFORE)
            if name not in ("CommandPalette", "filter"):
                await deck.until(lambda: deck.text(keys).strip())
            assert deck.app.is_running


GARBAGE = {
    "control characters": "".join(map(chr, range(32))) + "\x7f\x9b31m\x1b[2J\x1b]0;owned\x07\u202eabc\u200b",
    "many lines": "a line\n" * 5000,
    "only line ends": "\r\n\n\r",
    "wide and combined": "模型\U0001f600e\u0301" * 50,
    "half a pair": "\ud83d",
    "markup": "[bold]x[/] [$x] {y} %s \\",
}


@pytest.mark.parametrize("name", PLACES)
async def test_pasted_garbage_harms_no_screen_and_no_field(name: str, tmp_path: Path) -> None:
    with draft(name, tmp_path, FakeServices(planner=Planner(RTX_4090))) as services:
        async with running(services, BEFORE) as deck:
            await at(deck, name)
            for text in GARBAGE.values():
                deck.app.post_message(events.Paste(text))
                await deck.pilot.pause()
                shown = deck.screen()
                assert all(one.isprintable() or one == "\n" for one in shown), repr(shown)
                field = deck.app.focused
                if isinstance(field, Input):
                    assert field.value.isprintable() or not field.value
            await deck.press("ctrl+l")
            assert fits(deck, BEFORE)
            assert [call[0] for call in services.calls if call[0] in ("start", "stop", "resume")] == []


async def test_a_megabyte_is_cut_where_nothing_is_that_long(tmp_path: Path) -> None:
    async with running(FakeServices(planner=Planner(RTX_4090))) as deck:
        for place in ("filter", "PlanModelScreen"):
            await at(deck, place)
            deck.app.post_message(events.Paste("x" * (1 << 20)))
            field = deck.app.focused
            assert isinstance(field, Input)
            await deck.until(lambda field=field: "xxx" in field.value)  # type: ignore[misc]
            assert len(field.value) <= 4100
            await deck.press("escape")


@pytest.mark.parametrize("name", PLACES)
async def test_ascii_has_no_other_character_on_any_screen(name: str, tmp_path: Path) -> None:
    for size in ((160, 48), (40, 12)):
        with draft(name, tmp_path, FakeServices(planner=Planner(RTX_4090))) as services:
            async with running(services, size, ascii=True) as deck:
                await deck.until(lambda: "support-lora-r16" in deck.screen())
                await deck.press(*PLACES[name])
                await deck.until(lambda: name in (deck.place, "filter"))
                await deck.until(lambda: deck.screen().isascii())


# The database


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """A copy of the example."""
    return Path(shutil.copy(EXAMPLE, tmp_path / "experiments.db"))


@contextmanager
def held(database: Path, statement: str) -> Iterator[None]:
    """Another process holds the database."""
    program = (
        "import sqlite3, sys; db = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        f"{statement}\nprint('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(database)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        yield
        other.kill()


EXCLUSIVE = "db.execute('BEGIN EXCLUSIVE')"


def until(services: Services, good: Callable[[Snapshot], bool]) -> Snapshot:
    """The first look that is so."""
    found: list[Snapshot] = []

    def look() -> bool:
        found.append(services.snapshot(None))
        return good(found[-1])

    wait_for(look, 60)
    return found[-1]


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything lies on a network file system: a database stays in journal mode DELETE, where who writes keeps readers out."""
    (tmp_path / "mountinfo").write_text("27 1 0:50 / / rw - nfs4 server:/x rw\n")
    monkeypatch.setattr("engine.store.place.MOUNTS", tmp_path / "mountinfo")


@pytest.mark.usefixtures("network")
def test_a_database_in_a_journal_that_another_process_holds(example: Path) -> None:
    services = Services(example)
    before = services.snapshot(None)
    assert len(before.runs) == 8
    with held(example, EXCLUSIVE):
        assert until(services, lambda look: bool(look.problem)).problem == LOCKED
        assert Services(example).snapshot(None).problem == LOCKED, "one that is opened meanwhile says so too"
    assert until(services, lambda look: not look.problem).runs == before.runs


def test_a_writer_keeps_no_reader_out(example: Path) -> None:
    with sqlite3.connect(example) as db:
        db.execute("PRAGMA journal_mode = WAL")
    db.close()
    services = Services(example)
    before = services.snapshot(None).runs
    with held(example, EXCLUSIVE):
        look = services.snapshot(None)
        assert (look.problem, look.runs) == (None, before)


@pytest.mark.usefixtures("network")
async def test_the_app_says_that_it_is_locked_keeps_what_it_shows_and_recovers(example: Path) -> None:
    async with running(Services(example)) as deck:  # type: ignore[arg-type]
        await deck.shows("captain-lora-r16")
        with held(example, EXCLUSIVE):
            await deck.shows("Another program holds the database", "captain-lora-r16")
            await deck.press("j", "enter")
            await deck.shows("Runs › captain-lora-r8", "Another program holds")
            await deck.press("q")
        await deck.shows("8 runs", "newest first")


async def test_a_database_that_is_deleted_and_another_in_its_place(example: Path, tmp_path: Path) -> None:
    other = Path(shutil.copy(EXAMPLE, tmp_path / "other.db"))
    with sqlite3.connect(other) as db:
        db.execute("UPDATE runs SET name = 'other-' || name")
    db.close()
    async with running(Services(example)) as deck:  # type: ignore[arg-type]
        await deck.shows("captain-lora-r16")
        example.unlink()
        await deck.shows("The database is gone, moved or deleted", "captain-lora-r16")
        assert not example.exists(), "looking makes none"
        shutil.copy(other, example)
        await deck.shows("other-captain-lora-r16", "8 runs")


def test_a_database_that_can_only_be_read(example: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # root may write everywhere, so the question is answered as for others; the connection is really read-only
    monkeypatch.setattr("tuiapp.looking.writable", lambda _: False)
    monkeypatch.setattr("engine.store.connection.writable", lambda _: False)
    before = example.read_bytes()
    look = Services(example).snapshot(None)
    assert look.read_only
    assert len(look.runs) == 8
    assert example.read_bytes() == before
    assert sorted(one.name for one in example.parent.iterdir()) == ["experiments.db"]


# Real terminals


@contextmanager
def app_on(database: Path, *flags: str, shows: str, **environment: str) -> Iterator[Terminal]:
    """The app in a pseudo-terminal."""
    terminal = Terminal([sys.executable, "-m", "tuiapp", "--db", str(database), *flags], BEFORE, **environment)
    try:
        terminal.until(shows)
        yield terminal
    finally:
        terminal.close()


@pytest.mark.parametrize(
    ("environment", "flags"),
    [({"TERM": "xterm-16color"}, ("--theme", "light")), ({"TERM": "linux"}, ("--ascii",)),
     ({"NO_COLOR": "1"}, ()), ({"TERM": "xterm-256color", "LANG": "C", "LC_ALL": "C"}, ("--theme", "high"))],
    ids=["16 colours", "console", "NO_COLOR", "C"],
)  # fmt: skip
def test_terminals_of_all_kinds(example: Path, environment: dict[str, str], flags: tuple[str, ...]) -> None:
    with app_on(example, *flags, shows="captain-lora-r16", **environment) as terminal:
        terminal.send("\r")
        terminal.until("step 20 of 20")
        terminal.send("q")
        terminal.quiet()
        terminal.send("q")
        wait_for(lambda: terminal.ended() or (terminal.read(0.1) and False), 20)
        assert terminal.code == 0


def test_a_dumb_terminal_is_told_of_the_verbs(example: Path) -> None:
    with app_on(example, shows="here only the verbs work", TERM="dumb") as terminal:
        wait_for(terminal.ended, 20)
        assert terminal.code == 2
        assert b"\x1b[" not in terminal.seen


def test_no_color_sends_none(example: Path) -> None:
    with app_on(example, shows="captain-lora-r16", NO_COLOR="1") as terminal:
        terminal.quiet(0.5)
        assert b"\x1b[7;" in terminal.seen, "the cursor is set off all the same"
        assert not any(sign in terminal.seen for sign in (b"38;5", b"48;5", b"38;2", b"48;2"))


def test_closing_the_terminal_leaves_the_run_alone(deck: Deck, tiny_model: Path, rows: Path) -> None:
    # under nohup it is ignored, and the app would inherit that
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    sets = ("training.max_steps=800", "evaluation.every=0", "data.validation=0", "training.epochs=99", "run.name=alone")
    run = deck.start(tiny_model, rows, *sets)
    wait_for(lambda: run.step() > 0, 120)
    for closed in (False, True):
        with app_on(deck.database, shows="alone") as terminal:
            terminal.send("\r")
            terminal.until("step ")
            if closed:
                terminal.hang_up()
                wait_for(terminal.ended, 20)
            else:
                terminal.process.send_signal(signal.SIGHUP)
                wait_for(lambda: terminal.ended() or (terminal.read(0.1) and False), 20)
                assert b"Traceback" not in terminal.seen
        step = run.step()
        wait_for(lambda step=step: run.step() > step or run.row()["status"] == "finished", 60)  # type: ignore[misc]
        assert run.row()["status"] in ("running", "finished")
