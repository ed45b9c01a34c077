"""The last step: what it says of a run is what would start, and only a person's Enter starts it, once."""

import shlex
import string
import subprocess
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from engine.errors import RunError
from engine.hardware import Gpu
from engine.tickets import Lease, Ticket
from engine.waiting import Place
from tests.tuiapp import reviewed
from tests.tuiapp.conftest import Driver, running
from tests.tuiapp.fakes import NOW, RTX_4090, FakeServices, Planner
from tests.tuiapp.wizard import LLAMA, at_step, draft_of, kept, until_kept
from tuiapp.draft import PLAN, REVIEW, TRAINING
from tuiapp.review_layout import review_places
from tuiapp.review_values import (
    COPY,
    QUEUE,
    SAVE,
    START,
    Problem,
    ReviewPage,
    Waits,
    bad_name,
    choices,
    command_of,
    home_shortened,
    wrapped,
)
from tuiapp.screens import review_step
from tuiapp.snapshot import NewRun
from tuiapp.widgets.fields import Field
from tuiapp.widgets.review_panes import _paths

Size = tuple[int, int]
FORM = NewRun(LLAMA, "data/train.jsonl", "")
BUSY = Waits(False, "GPU 0", "mistral-full to end", NOW + 1800)
NO_FIT = Problem("The run does not fit", "It needs 63.1 GiB; the card has 24.0.", "The nearest: LoRA r16.", PLAN)


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Enter counts at once, but in the test that is about the pause."""
    monkeypatch.setattr(review_step, "PAUSE", 0.0)


def box(page: Callable[[NewRun], ReviewPage] = reviewed.page, **draft: object) -> FakeServices:
    """A machine with a card, and a draft that has come to its last step."""
    services = FakeServices(planner=Planner(RTX_4090), reviewed=page)
    fields = {"model": LLAMA, "data": "data/train.jsonl", "step": REVIEW, "passed": [0, 1, 2, 3, 4]}
    return kept(services, **(fields | draft))


async def opened(deck: Driver) -> None:
    """At the step, with its numbers."""
    await deck.press("n")
    await at_step(deck, REVIEW)
    await deck.until(lambda: "checking …" not in deck.screen())


def asked(services: FakeServices, what: str) -> list[NewRun]:
    return [call[1] for call in services.calls if call[0] == what]  # type: ignore[misc]


async def test_the_run_is_shown_with_what_is_not_as_recommended(size: Size) -> None:
    services = box(training={"method.rank": 8}, name="mine", parent="mbx2k1")
    async with running(services, size=size) as deck:
        await opened(deck)
        await deck.shows(
            "Ready   mine   on GPU 0, RTX 4090, free now", "19.2 of 24.0 GiB   within 0.4 GiB here", "about 52 min, 414 steps",
            "1.1 GiB of 212.0 GiB free", "9,120 + 480 rows of 9,846   246 left out: 118 duplicate", "Not as recommended   2 of 67",
            "training.learning_rate  2e-4  →  1e-4   LoRA default", "method.rank", "Differs from parent   support-lora-r16   1",
            "--set training.learning_rate=1e-4", "▸ Start now", "Warning  41 rows are longer", "fork of support-lora-r32",
        )  # fmt: skip
        await deck.press("end")
        await deck.shows("87  empty")


async def test_enter_starts_it_once_and_the_draft_is_forgotten(size: Size) -> None:
    services = box(name="mine")
    go, start = threading.Event(), services.start

    def slow(form: NewRun, queue: bool = False) -> str:
        go.wait(20)
        return start(form, queue)

    services.start = slow  # type: ignore[method-assign]
    async with running(services, size=size) as deck:
        await opened(deck)
        await deck.press("enter", "enter", "ctrl+o", "q")
        await deck.shows("starting …")
        assert deck.place == "ReviewStep"
        go.set()
        await deck.until(lambda: deck.place == "LiveScreen")
        assert [form.name for form in asked(services, "start")] == ["mine"]
        assert draft_of(services) is None


async def test_enters_typed_before_the_numbers_stand_start_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(review_step, "PAUSE", 3600.0)
    known = threading.Event()

    def slow(form: NewRun) -> ReviewPage:
        known.wait(20)
        return reviewed.page(form)

    services = box(slow)
    async with running(services) as deck:
        await deck.press("n")
        await at_step(deck, REVIEW)
        await deck.shows("checking …")
        await deck.press("enter")
        known.set()
        await deck.shows("Ready")
        await deck.press("enter", "enter")
        await deck.shows("The numbers have just come: Enter once more.")
        assert not asked(services, "start")
        monkeypatch.setattr(review_step, "PAUSE", 0.0)
        await deck.press("ctrl+o")
        await at_step(deck, TRAINING)
        await deck.press("ctrl+r")
        await deck.shows("Ready")
        await deck.press("enter")
        await deck.until(lambda: asked(services, "start"))


async def test_a_change_of_what_enter_does_has_to_stand_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(review_step, "LOOK_EVERY", 0.05)
    now = [Waits(True, "GPU 0")]
    services = box(lambda form: reviewed.page(form, now[0]))
    async with running(services) as deck:
        await opened(deck)
        await deck.shows("▸ Start now")
        monkeypatch.setattr(review_step, "PAUSE", 3600.0)
        now[0] = BUSY
        await deck.shows("▸ Put in the queue", "waits for mistral-full to end", "it starts about")
        await deck.press("enter")
        await deck.shows("Enter once more")
        assert not asked(services, "queue")


async def test_a_busy_card_means_the_queue(size: Size) -> None:
    services = box(lambda form: reviewed.page(form, BUSY))
    async with running(services, size=size) as deck:
        await opened(deck)
        await deck.shows("RTX 4090   waits for mistral-full to end", "▸ Put in the queue   Save as YAML")
        assert "Start now" not in deck.screen()
        await deck.press("enter")
        await deck.until(lambda: deck.place == "LiveScreen")
        assert asked(services, "queue")


async def test_on_a_cpu_one_may_start_or_wait() -> None:
    services = box(reviewed.on_cpu)
    async with running(services) as deck:
        await opened(deck)
        await deck.shows("on this CPU", "predicted for cards only", "▸ Start now   Put in the queue")
        assert "--queue" not in deck.screen()
        await deck.press("l")
        await deck.shows("▸ Put in the queue", "--queue --detach", "It waits while another run trains on the CPU")
        await deck.press("enter")
        await deck.until(lambda: asked(services, "queue"))


async def test_what_cannot_start_is_said_in_full(size: Size) -> None:
    services = box(lambda form: ReviewPage(form, NO_FIT))
    async with running(services, size=size) as deck:
        await opened(deck)
        await deck.shows(
            "✗ The run does not fit", "It needs 63.1 GiB", "What helps", "The nearest: LoRA r16.", "4 goes to Plan"
        )
        await deck.press("enter", "left", "v")
        assert not asked(services, "start")
        services.reviewed = reviewed.page
        await deck.press("e")
        await deck.shows("Ready")
        await deck.press("4")
        await at_step(deck, PLAN)


async def test_an_engine_that_breaks_is_a_sentence() -> None:
    def broken(form: NewRun) -> ReviewPage:
        raise ValueError("\x1b[2Jsomething")

    services = box(broken)
    async with running(services) as deck:
        await opened(deck)
        await deck.shows("✗ That did not work", "ValueError: something")
        await deck.press("enter")
        assert not asked(services, "start")


@pytest.mark.parametrize(
    ("draft", "words"), [({"model": ""}, "There is no model yet"), ({"data": ""}, "There is no data yet")]
)
async def test_without_model_or_data_nothing_is_asked(draft: dict[str, object], words: str) -> None:
    services = box(**draft)
    async with running(services) as deck:
        await opened(deck)
        await deck.shows(words, "goes to")
        await deck.press("enter")
        assert not [call for call in services.calls if call[0] in ("review", "start")]


async def test_a_start_that_fails_keeps_the_draft() -> None:
    services = box(name="mine")
    good = services.start

    def bad(form: NewRun, queue: bool = False) -> str:
        raise RunError("The run could not be started", "The disk is gone.", "Find it.")

    services.start = bad  # type: ignore[method-assign]
    async with running(services) as deck:
        await opened(deck)
        await deck.press("enter")
        await deck.shows("The run could not be started", "The disk is gone. Find it.")
        await deck.press("enter")
        await deck.shows("▸ Start now")
        draft = draft_of(services)
        assert draft is not None
        assert draft.name == "mine"
        services.start = good  # type: ignore[method-assign]
        await deck.press("enter")
        await deck.until(lambda: asked(services, "start"))


async def test_a_database_that_has_become_read_only_starts_nothing() -> None:
    services = box()
    seen = services.snapshot
    async with running(services) as deck:
        await opened(deck)
        services.snapshot = lambda *which: replace(seen(*which), read_only=True)  # type: ignore[method-assign]
        await deck.until(lambda: deck.app.last is not None and deck.app.last.read_only)
        await deck.press("enter")
        await deck.shows("The database can only be read")
        assert not asked(services, "start")


async def test_it_is_given_another_name(size: Size) -> None:
    services = box()

    async def name(text: str) -> None:
        await deck.press("R")
        await deck.until(lambda: deck.app.focused is not None and deck.app.focused.id == "name")
        field = deck.widget("#name")
        assert isinstance(field, Field)
        field.value = text
        await deck.press("enter")

    async with running(services, size=size) as deck:
        await opened(deck)
        await name("second try")
        await deck.shows("Ready   second try")
        await until_kept(deck, name="second try")
        await name("x" * 90)
        await deck.shows("at most 80 characters")
        await deck.press("escape")
        await deck.shows("Ready   second try")
        await name("")
        await deck.shows("Ready   llama-3.1-8b-lora-r16")
        await until_kept(deck, name="")


async def test_keys_of_the_step_are_letters_in_a_field() -> None:
    services = box()
    async with running(services) as deck:
        await opened(deck)
        await deck.press("R", *"Yqv1D", "enter")
        await deck.shows("Ready   Yqv1D")


async def test_it_is_saved_and_nothing_is_written_over_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    services = box(name="a/b")
    async with running(services) as deck:
        await opened(deck)
        await deck.press("right", "enter")
        await deck.shows("Save as", "a-b.yaml")
        await deck.press("escape")
        await deck.shows("▸ Save as YAML")
        await deck.press("enter", "enter")
        await deck.shows("Saved. It starts with: tunedeck train")
        assert (tmp_path / "a-b.yaml").read_text() == reviewed.YAML
        (tmp_path / "a-b.yaml").write_text("mine")
        await deck.press("enter", "enter")
        await deck.shows("Replace the file?", "a-b.yaml is there already")
        await deck.press("enter")
        assert (tmp_path / "a-b.yaml").read_text() == "mine"
        await deck.press("enter")
        await deck.shows("Replace the file?")
        await deck.press("r")
        await deck.shows("Saved.")
        assert (tmp_path / "a-b.yaml").read_text() == reviewed.YAML
        await deck.press("enter", *["backspace"] * 8, *"no/such/place.yaml", "enter")
        await deck.shows("The file could not be written", "No such file or directory")
        assert not asked(services, "start")


async def test_the_command_is_copied() -> None:
    services = box()
    async with running(services) as deck:
        await opened(deck)
        await deck.press("Y")
        await deck.shows("Copied, if the terminal lets it: tunedeck train")
        copied = deck.app.clipboard
        assert shlex.split(copied) == [*reviewed.page(FORM).command, "--detach"]
        await deck.press("left")
        await deck.shows("▸ Copy the command")
        await deck.press("enter")
        await deck.shows("Copied")
        assert not asked(services, "start")


async def test_without_a_command_there_is_the_file() -> None:
    services = box(lambda form: replace(reviewed.page(form), command=()))
    async with running(services) as deck:
        await opened(deck)
        await deck.shows("no command makes exactly this; the YAML does")
        assert "Copy the command" not in deck.screen()


async def test_the_whole_specification_is_there() -> None:
    services = box()
    async with running(services, size=(160, 48)) as deck:
        await opened(deck)
        await deck.shows("The whole specification", "learning_rate: 0.0001  # chosen", "At the peak", "allocator peak")
    async with running(box(), size=(80, 24)) as deck:
        await opened(deck)
        assert "The whole specification" not in deck.screen()
        await deck.press("v")
        await deck.shows("The whole specification", "1–8 of 10 lines", "path: meta-llama/Llama-3.1-8B")
        await deck.press("G")
        await deck.shows("3–10 of 10 lines", "epochs: 3.0")
        await deck.press("v")
        await deck.shows("Not as recommended")


async def test_coming_back_asks_for_the_same_form_again() -> None:
    services = box(training={"training.epochs": 2})
    async with running(services) as deck:
        await opened(deck)
        await deck.press("ctrl+o")
        await at_step(deck, TRAINING)
        await deck.press("6")
        await at_step(deck, REVIEW)
        await deck.shows("Ready")
        forms = asked(services, "review")
        assert len(forms) >= 2
        assert set(map(repr, forms)) == {repr(forms[0])}
        assert dict(forms[0].chosen)["training.epochs"] == 2


async def test_nothing_from_outside_reaches_the_terminal_as_it_is(size: Size) -> None:
    evil = "\x1b[2J\x07\u202e"

    def page(form: NewRun) -> ReviewPage:
        made = reviewed.page(form, Waits(False, "GPU 0", f"{evil}other to end"))
        command = tuple(f"{word}{evil}" for word in made.command)
        return replace(made, name=f"{evil}n", parent=f"{evil}p", warnings=(("warning", f"{evil}w"),), yaml=f"a: {evil}b\n",
                       command=command, dropped=((f"{evil}d", 3),), validation_file=f"{evil}f")  # fmt: skip

    async with running(box(page), size=size) as deck:
        await opened(deck)
        await deck.shows("Ready   n")
        assert not {"\x1b", "\x07", "\u202e"} & set(deck.screen())


@pytest.mark.parametrize("which", ["gpu", "cpu", "problem"])
async def test_any_size_will_do(which: str) -> None:
    pages = {
        "gpu": lambda form: reviewed.page(form, BUSY), "cpu": reviewed.on_cpu, "problem": lambda form: ReviewPage(form, NO_FIT),
    }  # fmt: skip
    async with running(box(pages[which])) as deck:
        await opened(deck)
        for small in ((300, 90), (119, 20), (60, 20), (59, 24), (40, 12), (24, 6), (20, 5), (8, 2), (1, 1)):
            await deck.pilot.resize_terminal(*small)
            for key in ("right", "R", "escape", "v", "v", "G"):
                await deck.press(key)
            lines = deck.screen().splitlines()
            assert len(lines) <= small[1]
            assert all(cell_len(one) <= small[0] for one in lines)
        await deck.pilot.resize_terminal(80, 24)
        await deck.shows("The run does not fit" if which == "problem" else "▸ ", "6 Review")


async def test_ascii_is_ascii(size: Size) -> None:
    async with running(box(lambda form: reviewed.page(form, BUSY)), size=size, ascii=True) as deck:
        await opened(deck)
        await deck.shows("> Put in the queue")
        assert deck.screen().isascii()


def test_what_can_be_done() -> None:
    free, busy = reviewed.page(FORM), reviewed.page(FORM, BUSY)
    assert choices(free) == (START, SAVE, COPY)
    assert choices(busy) == (QUEUE, SAVE, COPY)
    assert choices(reviewed.on_cpu(FORM)) == (START, QUEUE, SAVE, COPY)
    assert choices(reviewed.on_cpu(FORM, replace(BUSY, card="CPU"))) == (QUEUE, START, SAVE, COPY)
    assert choices(replace(free, command=())) == (START, SAVE)
    assert choices(ReviewPage(FORM, NO_FIT)) == ()
    assert command_of(busy, QUEUE)[-1] == "--detach"
    assert "--queue" not in command_of(busy, QUEUE)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text(string.printable + "üλ中"), max_size=8), st.integers(20, 200))
def test_a_command_in_lines_is_the_same_command(values: list[str], width: int) -> None:
    command = ["--model", "m", *(part for value in values for part in ("--set", value)), "--detach"]
    lines = wrapped(["tunedeck", "train", *command], width, 999)
    shell = 'tunedeck() { printf "%s\\0" "$@"; }\n' + "\n".join(lines)
    read = subprocess.run(["bash", "-c", shell], capture_output=True, check=True).stdout.decode().split("\0")[:-1]
    assert read == ["train", *command]


def test_a_command_without_room_ends_in_an_ellipsis() -> None:
    lines = wrapped([f"--{i}" * 10 for i in range(9)], 40, 3)
    assert len(lines) == 3
    assert lines[-1] == "  …"


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("/home/me/a b.json", "~/'a b.json'"),
        ("/home/me/a.json", "~/a.json"),
        ("/home/mean/a", "/home/mean/a"),
        ("a b", "'a b'"),
    ],
)
def test_the_own_directory_is_short(word: str, text: str) -> None:
    assert home_shortened(word, "/home/me") == text


def test_names() -> None:
    assert bad_name("support-lora") == ""
    assert bad_name("") == ""
    assert bad_name("a\nb")
    assert bad_name("x" * 81)


def test_the_fields_of_yaml_lines() -> None:
    lines = [
        "# head",
        "data:",
        "  # yours",
        "  filters:",
        "    duplicates: exact",
        "  columns: {}",
        "run:",
        "  tags:",
        "  - a: b",
    ]
    assert _paths(lines) == [
        "",
        "data",
        "",
        "data.filters",
        "data.filters.duplicates",
        "data.columns",
        "run",
        "run.tags",
        "",
    ]


@settings(deadline=None)
@given(
    st.integers(1, 320), st.integers(1, 100), st.integers(0, 9), st.sampled_from([0, 12]), st.booleans(), st.booleans(),
    st.booleans(), st.booleans(),
)  # fmt: skip
def test_panes_stay_on_the_screen_and_apart(
    width: int, height: int, command: int, peak: int, problem: bool, whole: bool, naming: bool, saving: bool
) -> None:
    places = review_places(
        width, height, command=command, peak=peak, problem=problem, whole=whole, naming=naming, saving=saving
    )
    fields = {"name", "path"}  # they lie over what they change
    panes = [region for name, region in places.items() if name not in fields]
    for region in places.values():
        assert region.x >= 0
        assert region.right <= width
        assert region.bottom <= max(height, 1)
    for i, one in enumerate(panes):
        assert not any(one.overlaps(other) for other in panes[i + 1 :] if one.area and other.area)


CARDS = (Gpu(0, "GPU-a", "X", 24.0), Gpu(1, "GPU-b", "X", 24.0))


def waits(tickets: list[Ticket], places: list[Place], processes: int = 1, held: tuple[Lease, ...] = ()) -> Waits:
    """What a run of 19 GiB on one or two cards of a box with two would find at time 1,000."""
    from types import SimpleNamespace

    from engine.hardware import Hardware
    from engine.spec import parse
    from tuiapp.reviewing import waits_of

    spec = parse({"model": {"path": "m"}, "data": {"path": "d"}, "compute": {"processes": processes}})
    choice = SimpleNamespace(device_gib=19.0, speed=SimpleNamespace(seconds_total=600.0))
    prepared = SimpleNamespace(spec=spec, plan=SimpleNamespace(choice=choice))
    machine = Hardware("box", CARDS, None, None, "cpu", 8, 64.0)
    return waits_of(prepared, machine, tickets, places, held, 1000.0)  # type: ignore[arg-type]


def place(gpu: Gpu, used: float = 0.4, **more: object) -> Place:
    return Place(gpu.uuid, f"GPU {gpu.index}", gpu.memory_total, used, **more)  # type: ignore[arg-type]


def test_a_free_card_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert waits([], [place(CARDS[0]), place(CARDS[1])]) == Waits(True, "GPU 0")
    assert waits([], [place(CARDS[0]), place(CARDS[1])], 2) == Waits(True, "GPU 0 and 1")
    lease = Lease("r1", "mistral", "", ("GPU-a",), 500.0, 900.0)
    taken = place(CARDS[0], 20.0, leased=True, runs=("mistral",))
    assert waits([], [taken, place(CARDS[1])], held=(lease,)) == Waits(True, "GPU 1")
    both = waits([], [taken, place(CARDS[1])], 2, (lease,))
    assert (both.free, both.reason, both.starts) == (False, "a second free card", 1400.0)


def test_whoever_waits_already_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    first = Ticket("k", 5000.0, "r2", "first", "", ("GPU-a", "GPU-b"), 2, 10.0, 100.0)
    assert not waits([first], [place(CARDS[0]), place(CARDS[1])]).free
    assert waits([first], [place(CARDS[0]), place(CARDS[1])]).reason == "its turn behind first"
    held = waits([], [place(CARDS[0], held="alice"), place(CARDS[1], held="alice")])
    assert (held.free, held.starts) == (False, None)
