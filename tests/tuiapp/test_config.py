"""The user's config in the app: keys, looks, what is wrong with it; and what is said when a run ends."""

import argparse
import importlib
import pkgutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from textual.binding import Binding
from textual.widget import Widget

import tuiapp.screens
import tuiapp.widgets
from engine import config
from engine.keys import ACTION_OF, ACTIONS, EVERYWHERE, character_key
from tests.tuiapp.conftest import Driver, running
from tests.tuiapp.fakes import NOW, FakeServices, run, runs
from tuiapp.app import TuneDeckApp
from tuiapp.ended import ended, sentence
from tuiapp.run import make_app
from tuiapp.screens.base import DeckScreen
from tuiapp.screens.wizard import WizardStep
from tuiapp.snapshot import RunLine, Snapshot
from tuiapp.widgets.keys import changed, first_key

PLACES = {
    "HomeScreen": "Home", "LiveScreen": "Live", "DataScreen": "Data", "DataFileScreen": "Data", "PlanScreen": "Plan",
    "PlanModelScreen": "Plan", "MachineScreen": "Machine", "LineageScreen": "Lineage", "CompareScreen": "Compare",
    "HelpScreen": "Help", "ChatScreen": "Chat", "AfterScreen": "After",
}  # fmt: skip
"""What the table of actions calls the screens."""


def all_bindings() -> Iterator[tuple[type[Widget], Binding]]:
    """Every binding of every screen and widget that is part of the user's keymap."""
    seen = set()
    for package in (tuiapp.screens, tuiapp.widgets):
        for module in pkgutil.iter_modules(package.__path__):
            for one in vars(importlib.import_module(f"{package.__name__}.{module.name}")).values():
                if isinstance(one, type) and issubclass(one, Widget) and "BINDINGS" in vars(one) and one not in seen:
                    seen.add(one)
                    yield from (
                        (one, binding) for binding in one.BINDINGS if isinstance(binding, Binding) and binding.id
                    )


def test_every_key_of_every_screen_is_an_action_that_the_table_has_there() -> None:
    found = list(all_bindings())
    assert len(found) > 150
    for owner, binding in found:
        about = ACTIONS[binding.id or ""]
        assert set(binding.key.split(",")) <= set(about.keys), (owner, binding)
        place = "Wizard" if issubclass(owner, WizardStep) else PLACES.get(owner.__name__, "")
        assert EVERYWHERE in about.screens or place in about.screens, (owner.__name__, binding.id)


def test_no_key_of_a_screen_is_outside_the_keymap() -> None:
    screens = {owner for owner, _ in all_bindings() if issubclass(owner, DeckScreen)}
    assert len(screens) >= 11
    for screen in screens:
        assert [one for one in screen.BINDINGS if isinstance(one, Binding) and one.id is None] == []
    assert [one for one in TuneDeckApp.BINDINGS if isinstance(one, Binding) and one.id not in ACTIONS] == []


def test_a_key_has_one_action() -> None:
    assert len(ACTION_OF) == sum(len(about.keys) for about in ACTIONS.values())


def test_keys_are_named_as_textual_names_them() -> None:
    from textual.keys import _character_to_key

    for character in "?/+-:;[]{}*=_,.#'\"!$%&()<>@\\^`|~aZ9öß":
        assert character_key(character) == _character_to_key(character)


async def opened(deck: Driver) -> None:
    """The first run, live."""
    await deck.shows("support-lora-r16")
    await deck.press("enter")
    await deck.until(lambda: deck.place == "LiveScreen" and "step 262" in deck.screen())


async def test_changed_keys_do_it_and_the_old_ones_no_longer() -> None:
    keys = {"stop": ("S",), "zoom": ("f5", "Z")}
    async with running(keys=keys) as deck:
        await opened(deck)
        assert "S stop+save" in deck.text("#keys")
        await deck.press("s")
        await deck.press("f5")
        await deck.until(lambda: deck.widget("#loss").size.height > 15)
        assert deck.place == "LiveScreen"
        await deck.press("Z")
        await deck.until(lambda: deck.widget("#loss").size.height < 15)
        await deck.press("S")
        await deck.until(lambda: deck.place == "AskScreen")


async def test_two_keys_can_change_places() -> None:
    async with running(keys={"zoom": ("s",), "stop": ("z",)}) as deck:
        await opened(deck)
        await deck.press("s")
        await deck.until(lambda: deck.widget("#loss").size.height > 15)
        await deck.press("z")
        await deck.until(lambda: deck.place == "AskScreen")


async def test_back_can_be_another_key_and_escape_stays() -> None:
    async with running(keys={"back": ("x",), "x-axis": ("X",)}) as deck:
        await opened(deck)
        await deck.press("q")
        await deck.pilot.pause()
        assert deck.place == "LiveScreen"
        await deck.press("escape")
        await deck.until(lambda: deck.place == "HomeScreen")
        await deck.press("enter")
        await deck.until(lambda: deck.place == "LiveScreen")
        await deck.press("x")
        await deck.until(lambda: deck.place == "HomeScreen")


async def test_moving_in_lists_and_help_follow_the_keymap() -> None:
    async with running(keys={"down": ("w",), "help": ("f8",), "checkpoint": ("W",)}) as deck:
        await deck.shows("support-lora-r16")
        await deck.press("w")
        await deck.until(lambda: "mbx4aa" in deck.text("#preview"))
        await deck.press("question_mark")
        await deck.press("f8")
        await deck.until(lambda: deck.place == "HelpScreen")
        await deck.shows("F8", "down")
        assert "F8 help" in deck.app.screen_stack[0].query_one("#keys").text  # type: ignore[attr-defined]
        await deck.press("f8")
        await deck.until(lambda: deck.place == "HomeScreen")


async def test_the_palette_names_the_users_keys() -> None:
    async with running(keys={"stop": ("S",), "palette": ("f9",)}) as deck:
        await opened(deck)
        await deck.press("f9")
        await deck.shows("what do you want to do?")
        await deck.press(*"stop")
        await deck.shows("key S   Stop")


def test_a_pair_is_shown_with_both_keys() -> None:
    pair = [
        Binding("left_square_bracket", "turn(-1)", "run", id="previous", key_display="[ ]"),
        Binding("right_square_bracket", "turn(1)", "next", id="next", show=False),
    ]
    assert first_key(changed(pair, {"next": "n"})[0]) == "[ n"
    assert first_key(changed(pair, {"previous": "comma,b", "next": "full_stop"})[0]) == ", ."
    assert first_key(changed(pair, {})[0]) == "[ ]"


def options(**flags: object) -> argparse.Namespace:
    """What was said on the command line."""
    return argparse.Namespace(**{"ascii": None, "theme": None, "charts": None, **flags})


def test_flags_count_more_than_the_config_and_the_config_more_than_what_is_usual() -> None:
    mine = config.Config(Path("c.yaml"), theme="light", ascii=True, charts="blocks", bell=False)
    usual = make_app(FakeServices(), options(), config.Config(Path("c.yaml")))
    assert (usual.theme, usual.ascii, usual.charts) == ("dark", False, "braille")
    app = make_app(FakeServices(), options(), mine)
    assert (app.theme, app.ascii, app.charts) == ("light", True, "ascii")
    app = make_app(FakeServices(), options(theme="high", ascii=False), mine)
    assert (app.theme, app.ascii, app.charts) == ("high", False, "blocks")


async def test_a_broken_config_is_a_sentence_and_the_app_works() -> None:
    said = "Your config has a problem: theem is not a known key"
    async with running(check_config=lambda: said) as deck:
        await deck.shows(said, "support-lora-r16")
        await deck.press("j")
        await deck.until(lambda: said not in deck.screen())


def test_wrong_defaults_are_found_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "config.yaml"
    monkeypatch.setenv("TUNEDECK_CONFIG", str(file))
    file.write_text("defaults: {training.epochz: 3}")
    app = make_app(FakeServices(), options(), config.read())
    assert "training.epochs" in app._check_config()
    file.write_text("defaults: {training.epochs: 3}")
    assert make_app(FakeServices(), options(), config.read())._check_config() == ""


def snapshot(*lines: RunLine) -> Snapshot:
    """One moment with these runs."""
    return Snapshot(FakeServices().machine, "db", NOW, lines)


def test_what_has_ended_between_two_moments() -> None:
    before = runs()
    now = (replace(before[0], status="finished", ended_at=NOW), replace(before[1], status="failed"), *before[2:])
    assert ended(None, snapshot(*now)) == []
    assert ended(snapshot(*before), snapshot(*before)) == []
    assert ended(snapshot(*before), snapshot(*now)) == list(now[:2])
    assert ended(snapshot(*now), snapshot(*now[2:])) == []
    new = run("new", "new", "failed", 0.01)
    assert ended(snapshot(*before), snapshot(new, *before)) == [], (
        "one that ended before it was seen at work is no news"
    )


def test_what_one_stopped_oneself_is_no_news_but_that_it_failed_is() -> None:
    before = runs()
    stopped, failed = replace(before[0], status="stopped"), replace(before[0], status="failed")
    asked = {before[0].id}
    assert ended(snapshot(*before), snapshot(stopped), asked) == []
    assert ended(snapshot(*before), snapshot(failed), asked) == [failed]
    assert ended(snapshot(*before), snapshot(stopped)) == [stopped]


def test_the_sentence() -> None:
    one = replace(runs()[2], name="a")
    assert sentence([one], NOW) == "✓ a finished after 54 min, best eval 1.131"
    assert sentence([replace(one, status="failed")], NOW) == "✗ a failed after 54 min"
    assert sentence([replace(one, started_at=None, status="stopped")], NOW) == "■ a stopped"
    many = sentence([replace(one, name=f"run{i}") for i in range(5)], NOW)
    assert many == "5 runs ended: ✓ run0, ✓ run1, ✓ run2 …"


async def rung(deck: Driver, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The bells from now on."""
    bells: list[str] = []
    monkeypatch.setattr(deck.app, "bell", lambda: bells.append("bell"))
    await deck.shows("support-lora-r16")
    return bells


async def test_a_run_that_ends_rings_and_is_said_wherever_one_is(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running() as deck:
        bells = await rung(deck, monkeypatch)
        await deck.press("j", "j", "enter")
        await deck.until(lambda: deck.place == "LiveScreen")
        first, *rest = deck.services.lines
        deck.services.lines = (replace(first, status="failed", ended_at=NOW), *rest)
        await deck.shows("✗ support-lora-r16 failed after")
        assert bells == ["bell"]
        await deck.press("j")
        await deck.pilot.pause()
        await deck.shows("✗ support-lora-r16 failed after")
        assert bells == ["bell"]


async def test_under_a_dialog_it_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running() as deck:
        bells = await rung(deck, monkeypatch)
        await deck.press("s")
        await deck.until(lambda: deck.place == "AskScreen")
        first, *rest = deck.services.lines
        deck.services.lines = (replace(first, status="finished", ended_at=NOW), *rest)
        await deck.until(lambda: bells)
        await deck.press("escape")
        await deck.shows("✓ support-lora-r16 finished after")


async def test_ones_own_stop_does_not_ring(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running() as deck:
        bells = await rung(deck, monkeypatch)
        await deck.press("s")
        await deck.until(lambda: deck.place == "AskScreen")
        await deck.press("s")
        await deck.until(lambda: ("stop", "mbx3q7", False) in deck.services.calls)
        first, *rest = deck.services.lines
        deck.services.lines = (replace(first, status="stopped", ended_at=NOW), *rest)
        await deck.shows("■ stopped   support-lora-r16")
        assert bells == []
        assert "stopped after" not in deck.screen()


async def test_without_the_bell_it_is_only_said(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(bell=False) as deck:
        bells = await rung(deck, monkeypatch)
        first, *rest = deck.services.lines
        deck.services.lines = (replace(first, status="oom", ended_at=NOW), *rest)
        await deck.shows("▲ support-lora-r16 oom after")
        assert bells == []
