"""The form: typing, completion, what is said before anything starts, and the way into the live screen."""

from textual import events

from engine.errors import DataError
from tests.tuiapp.conftest import Driver, running
from tests.tuiapp.fakes import FakeServices
from tuiapp.snapshot import FormCheck, NewRun
from tuiapp.widgets.fields import Field

Size = tuple[int, int]


async def form(deck: Driver) -> None:
    """Open the form."""
    await deck.press("n")
    await deck.until(lambda: deck.place == "NewRunScreen")
    await deck.until(lambda: deck.app.focused is not None and deck.app.focused.id == "model")


def started(services: FakeServices) -> list[object]:
    """The forms that were started."""
    return [call[1] for call in services.calls if call[0] == "start"]


async def test_from_the_form_to_the_running_job(size: Size) -> None:
    async with running(size=size) as deck:
        await form(deck)
        await deck.press(*"SmolLM2-135M", "enter", *"data/tiny.jsonl", "enter")
        await deck.shows("✓ SmolLM2-135M, 134.5 M parameters", "✓ 200 rows", "What will be chosen", "usual for LoRA")
        await deck.press("right", "enter", *"mine", "enter", *"20", "enter")
        await deck.shows("▸ Start", "Ready")
        await deck.press("enter")
        await deck.until(lambda: deck.place == "LiveScreen")
        await deck.shows("Runs › mine", "starting")
        assert started(deck.services) == [NewRun("SmolLM2-135M", "data/tiny.jsonl", "qlora", "mine", 20)]
        await deck.press("q")
        await deck.until(lambda: deck.place == "HomeScreen")


async def test_what_is_wrong_is_said_at_the_field(size: Size) -> None:
    async with running(size=size) as deck:
        await form(deck)
        await deck.shows("Type a model")
        await deck.press(*"nope", "tab", *"rows.txt")
        await deck.shows("✗ There is no such directory.", "✗ No such file.", "The model cannot be used")
        assert started(deck.services) == []


async def test_start_says_why_it_cannot() -> None:
    async with running() as deck:
        await form(deck)
        await deck.press(*"SmolLM2-135M", "enter", *"rows.txt", "enter", "enter", "enter", "enter")
        await deck.shows("The data cannot be used")
        await deck.press("enter")
        await deck.pilot.pause()
        assert deck.place == "NewRunScreen"
        assert started(deck.services) == []


async def test_steps_have_to_be_a_number() -> None:
    async with running() as deck:
        await form(deck)
        await deck.press(*"SmolLM2-135M", "enter", *"data/tiny.jsonl", "enter", "enter", "enter", *"many")
        await deck.shows("Steps has to be a whole number")


async def test_tab_completes_paths_and_models() -> None:
    async with running() as deck:
        await form(deck)
        model, data = deck.widget("#model"), deck.widget("#data")
        assert isinstance(model, Field)
        assert isinstance(data, Field)
        await deck.until(lambda: deck.app.screen._models)  # type: ignore[attr-defined]
        await deck.press("S")
        await deck.until(lambda: model._suggestion == "SmolLM2-135M")
        await deck.press("tab")
        assert model.value == "SmolLM2-135M"
        await deck.press("tab", "d")
        await deck.until(lambda: data._suggestion == "data/t")
        await deck.shows("2 match: train.jsonl  tiny.jsonl")
        await deck.press("tab", "i")
        await deck.until(lambda: data._suggestion == "data/tiny.jsonl")
        await deck.press("right")
        assert data.value == "data/tiny.jsonl"


async def test_letters_are_text_in_the_form() -> None:
    async with running() as deck:
        await form(deck)
        await deck.press(*"q?ns:")
        assert deck.place == "NewRunScreen"
        assert deck.widget("#model").value == "q?ns:"  # type: ignore[attr-defined]
        await deck.press("f1")
        await deck.shows("Help: New run", "Tab completes")


async def test_escape_leaves_and_starts_nothing() -> None:
    async with running() as deck:
        await form(deck)
        await deck.press(*"abc", "escape")
        await deck.until(lambda: deck.place == "HomeScreen")
        assert started(deck.services) == []


async def test_a_start_that_fails_is_a_dialog_and_the_form_stays() -> None:
    class Failing(FakeServices):
        def start(self, form: NewRun) -> str:
            raise DataError("The data cannot be read", "line 3 is no JSON.", "Repair the line.")

    async with running(Failing()) as deck:
        await form(deck)
        await deck.press(*"SmolLM2-135M", "enter", *"data/tiny.jsonl", "enter", "enter", "enter", "enter")
        await deck.shows("Ready")
        await deck.press("enter")
        await deck.shows("The data cannot be read", "line 3 is no JSON. Repair the line.")
        await deck.press("enter")
        await deck.until(lambda: deck.place == "NewRunScreen")
        assert deck.widget("#model").value == "SmolLM2-135M"  # type: ignore[attr-defined]


async def test_a_check_that_fails_is_a_sentence() -> None:
    class Failing(FakeServices):
        def check(self, form: NewRun) -> FormCheck:
            raise OSError("disk gone")

    async with running(Failing()) as deck:
        await form(deck)
        await deck.press(*"Smol", "tab", *"x")
        await deck.shows("OSError: disk gone")


async def test_the_form_at_40x12() -> None:
    async with running(size=(40, 12)) as deck:
        await form(deck)
        await deck.shows("New run", "Model", "Data", "Method", "Name", "Steps", "Start")


async def test_typing_ahead_reaches_the_next_field() -> None:
    async with running() as deck:
        await form(deck)
        keys = [events.Key(key, key) for key in "ab"]
        for key in (*keys, events.Key("enter", "\r"), *(events.Key(key, key) for key in "xyz")):
            deck.app.post_message(key)  # all at once, as a slow line delivers them
        await deck.until(lambda: deck.widget("#data").value == "xyz")  # type: ignore[attr-defined]
        assert deck.widget("#model").value == "ab"  # type: ignore[attr-defined]


async def test_a_long_finding_is_readable_in_full() -> None:
    class Wordy(FakeServices):
        def check(self, form: NewRun) -> FormCheck:
            return FormCheck("long " * 30 + "and its end", False, "", True)

    async with running(Wordy()) as deck:
        await form(deck)
        await deck.press("x")
        await deck.shows("In the way", "and its end")
