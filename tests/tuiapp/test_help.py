"""The help and the palette: what the screen is for, all of its keys, and every place."""

import pytest

from tests.tuiapp.conftest import Driver, running
from tests.tuiapp.fakes import FakeServices
from tuiapp.commands import DeckCommands
from tuiapp.screens.base import DeckScreen
from tuiapp.screens.help import HelpPage, Section, by_action, found, sections

Size = tuple[int, int]


async def helped(deck: Driver, *keys: str) -> None:
    """The help of a screen."""
    await deck.shows("support-")
    await deck.press(*keys, "question_mark")
    await deck.until(lambda: deck.place == "HelpScreen")


async def test_it_explains_the_screen_and_what_had_the_focus(size: Size) -> None:
    async with running(size=size) as deck:
        await helped(deck)
        await deck.shows("Help: Runs", "The list, where you were", "This screen", "Everywhere", "next pane or field")
        await deck.shows("open the run under the", "up, down")


async def test_on_live_it_speaks_of_the_pane(size: Size) -> None:
    async with running(size=size) as deck:
        await helped(deck, "enter")
        await deck.shows("Help: Live run", "Loss, where you were")
        assert "▌" not in deck.screen()


async def test_every_key_that_does_something_is_there() -> None:
    async with running(size=(160, 60)) as deck:
        await deck.shows("support-lora-r16")
        await deck.press("enter")
        await deck.until(lambda: deck.place == "LiveScreen" and "step 262" in deck.screen())
        live = deck.app.screen
        assert isinstance(live, DeckScreen)
        rows = by_action([one for one in live.deck_bindings() if one.tooltip and live.allows(one)])
        assert len(rows) > 12
        await deck.press("question_mark")
        await deck.until(lambda: deck.place == "HelpScreen")
        for _, about in rows:
            await deck.shows(about[:30])


async def test_it_is_searched_as_one_types_and_esc_goes_out_one_layer_at_a_time(size: Size) -> None:
    async with running(size=size) as deck:
        await helped(deck)
        await deck.press("slash", *"order")
        await deck.shows("order by the next column", "turn the order round")
        assert "quit" not in deck.text("#help-text")
        await deck.press("enter")
        await deck.shows("search order")
        await deck.press("escape")
        await deck.shows("quit")
        assert deck.place == "HelpScreen"
        await deck.press("slash", *"zzz")
        await deck.shows("Nothing here has the words zzz.")
        await deck.press("escape")
        await deck.press("escape")
        await deck.until(lambda: deck.place == "HomeScreen")


async def test_where_it_is_longer_than_the_screen_it_scrolls() -> None:
    async with running(size=(60, 16)) as deck:
        await helped(deck)
        await deck.shows("1–13 of")
        await deck.press("j")
        await deck.shows("2–14 of")
        await deck.press("pagedown", "g")
        await deck.shows("1–13 of")
        await deck.press("tab")
        await deck.until(
            lambda: deck.text("#help-text").lstrip().startswith("Everywhere") or "quit at once" in deck.screen()
        )
        await deck.press("G")
        await deck.shows("quit at once; runs go on")


def test_a_section_keeps_what_has_the_words() -> None:
    section = Section(
        "This screen", "Every run of this database.", [("n", "a new run"), ("o", "order by the next column")]
    )
    assert found(section, "new RUN") == Section("This screen", "", [("n", "a new run")])
    assert found(section, "database") == Section("This screen", "Every run of this database.", [])
    assert found(section, "nothing") is None


def test_a_screen_without_a_pane_has_no_section_for_it() -> None:
    here, everywhere = sections(HelpPage("Runs", "All runs.", "", "", [], []))
    assert [one.title for one in (*here, *everywhere)] == ["This screen", "Everywhere"]


@pytest.fixture
def palette() -> type[DeckCommands]:
    """What the palette asks."""
    return DeckCommands


async def test_the_palette_has_every_action_of_the_screen_the_places_and_the_themes(
    palette: type[DeckCommands],
) -> None:
    async with running() as deck:
        await deck.shows("support-lora-r16")
        for keys in ((), ("enter",)):
            await deck.press(*keys)
            await deck.until(lambda: "support-lora-r16" in deck.screen())
            screen = deck.app.screen
            assert isinstance(screen, DeckScreen)
            names = [name.casefold() for name, _, _ in palette(screen).commands()]
            for one in screen.deck_bindings():
                if one.tooltip and screen.allows(one):
                    assert one.tooltip.casefold() in names
            for place in ("runs", "new run", "machine", "what fits", "look at data"):
                assert f"go to {place}" in names
            assert [name for name in names if name.startswith("theme: ")] == [
                "theme: dark",
                "theme: light",
                "theme: high",
            ]
            assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("words", "place"),
    [("go to what fits", "PlanModelScreen"), ("go to machine", "MachineScreen"), ("go to look at", "DataFileScreen"),
     ("go to new run", "GoalStep"), ("go to runs", "HomeScreen"), ("open dolly-qlora", "LiveScreen")],
)  # fmt: skip
async def test_the_palette_goes_anywhere(words: str, place: str) -> None:
    async with running(FakeServices()) as deck:
        await deck.shows("support-lora-r16")
        await deck.press("enter")
        await deck.until(lambda: deck.place == "LiveScreen")
        await deck.press("ctrl+p")
        await deck.until(lambda: deck.place == "CommandPalette")
        await deck.press(*("space" if one == " " else one for one in words))
        await deck.until(lambda: words.split()[-1].casefold() in deck.screen().split("\n")[2].casefold())
        await deck.press("enter")
        await deck.until(lambda: deck.place == place)


async def test_a_theme_from_the_palette() -> None:
    async with running() as deck:
        await deck.shows("support-lora-r16")
        await deck.press("ctrl+p")
        await deck.until(lambda: deck.place == "CommandPalette")
        await deck.press(*"light")
        await deck.shows("Theme: light")
        await deck.press("enter")
        await deck.until(lambda: deck.app.theme == "light")
