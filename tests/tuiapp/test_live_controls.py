"""The live screen's keys: what is asked of the engine, what is changed in the picture, and what is never asked by accident."""

from dataclasses import replace

import pytest

from engine.health import Finding
from tests.tuiapp.conftest import Driver, running
from tests.tuiapp.fakes import FakeServices, detail, run, runs
from tuiapp.app import TuneDeckApp
from tuiapp.messages import ForkAsked, OpenRun
from tuiapp.screens import live as live_module
from tuiapp.snapshot import RunDetail, Snapshot

Size = tuple[int, int]


async def opened(deck: Driver) -> None:
    """Home's first run, with its detail."""
    await deck.press("enter")
    await deck.until(lambda: deck.place == "LiveScreen")
    await deck.shows("train 0.926")


class Changed(FakeServices):
    """Services whose selected run is otherwise than the fakes have it."""

    def changed(self, shown: RunDetail) -> RunDetail:
        return shown

    def snapshot(self, selected: str | None, baseline: str | None = None) -> Snapshot:
        found = super().snapshot(selected, baseline)
        return replace(found, detail=self.changed(found.detail)) if found.detail is not None else found


async def test_checkpoint_and_evaluate_now(size: Size) -> None:
    async with running(size=size) as deck:
        await opened(deck)
        assert "w checkpoint  e evaluate" in deck.text("#keys")
        await deck.press("w")
        await deck.until(lambda: ("checkpoint", "mbx3q7") in deck.services.calls)
        await deck.shows("asked for a checkpoint")
        await deck.press("e")
        await deck.until(lambda: ("evaluate", "mbx3q7") in deck.services.calls)
        await deck.shows("asked for an evaluation")


async def test_nothing_is_evaluated_where_nothing_is_held_out() -> None:
    class NoneHeld(Changed):
        def changed(self, shown: RunDetail) -> RunDetail:
            return replace(shown, held_out=False)

    async with running(NoneHeld()) as deck:
        await opened(deck)
        assert "e evaluate" not in deck.text("#keys")
        await deck.press("e", "w")
        await deck.until(lambda: ("checkpoint", "mbx3q7") in deck.services.calls)
        assert ("evaluate", "mbx3q7") not in deck.services.calls


@pytest.mark.parametrize("status", ["finished", "stopped", "failed", "queued", "stopping"])
async def test_a_run_that_does_not_train_cannot_be_asked(status: str) -> None:
    line = run("a", "one", status, step=100, ended_at=None if status in ("queued", "stopping") else 1.79e9)
    async with running(FakeServices(lines=(line,))) as deck:
        await deck.press("enter")
        await deck.until(lambda: deck.place == "LiveScreen")
        await deck.press("w", "e")
        await deck.pilot.pause()
        assert not [call for call in deck.services.calls if call[0] in ("checkpoint", "evaluate")]


async def test_a_database_that_is_read_only_offers_no_controls() -> None:
    class ReadOnly(FakeServices):
        def snapshot(self, selected: str | None, baseline: str | None = None) -> Snapshot:
            return replace(super().snapshot(selected, baseline), read_only=True)

    async with running(ReadOnly()) as deck:
        await opened(deck)
        for key in ("stop", "checkpoint", "evaluate", "fork"):
            assert key not in deck.text("#keys")
        await deck.press("s", "w", "e", "f")
        await deck.pilot.pause()
        assert deck.place == "LiveScreen"
        assert deck.services.calls == []


async def asked_by(deck: Driver, monkeypatch: pytest.MonkeyPatch, *keys: str) -> ForkAsked:
    """What the screen posts when these keys are pressed."""
    heard: list[ForkAsked] = []
    monkeypatch.setattr(TuneDeckApp, "on_fork_asked", lambda self, message: heard.append(message))
    await deck.press(*keys)
    await deck.until(lambda: heard)
    return heard[0]


async def test_f_on_a_finding_forks_with_its_remedy(size: Size, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(size=size) as deck:
        await opened(deck)
        asked = await asked_by(deck, monkeypatch, "6", "f")
        assert asked.run_id == "mbx3q7"
        assert asked.changes == (("training.micro_batch", 8), ("training.accumulation", 2))


async def test_f_elsewhere_forks_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running() as deck:
        await opened(deck)
        assert (await asked_by(deck, monkeypatch, "1", "f")).changes == ()


async def test_f_on_what_is_well_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running() as deck:
        await opened(deck)
        assert (await asked_by(deck, monkeypatch, "6", "down", "f")).changes == ()


async def test_a_finding_says_what_it_means_and_forks(size: Size, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(size=size) as deck:
        await opened(deck)
        await deck.press("6", "i")
        await deck.shows(
            "What it means",
            "How it is known",
            "19.3 of 24.0 GiB",
            "What helps",
            "training.micro_batch",
            "f fork with it",
        )
        await deck.press("escape")
        await deck.until(lambda: deck.place == "LiveScreen")
        await deck.press("enter")
        await deck.until(lambda: deck.place == "WordsScreen")
        assert (await asked_by(deck, monkeypatch, "f")).changes[0] == ("training.micro_batch", 8)


async def test_the_cursor_of_health_goes_through_all_findings() -> None:
    async with running() as deck:
        await opened(deck)
        await deck.press("6")
        await deck.shows("1 of 6")
        await deck.press("G")
        await deck.shows("6 of 6", "forgetting: no general texts are read")
        await deck.press("k", "i")
        await deck.shows("GPU waited for data 0 % of the time", "The training waits until rows are read")


async def test_a_baseline_is_pinned_in_the_list_and_drawn_underneath(size: Size) -> None:
    async with running(size=size) as deck:
        await deck.shows("support-lora-r32")
        await deck.press("j", "j", "p")
        await deck.shows("▸B ✓ finished", "this run's curve stands under the others now")
        await deck.press("k", "k")
        await opened(deck)
        await deck.shows("B 1.100")
        await deck.until(lambda: deck.text("#loss").count("·") >= 5)
        await deck.press("p")
        await deck.shows("none", "no baseline")
        await deck.press("enter")
        await deck.until(lambda: deck.place == "LiveScreen" and "B 1.100" not in deck.text("#loss"))


async def test_a_run_is_not_its_own_baseline() -> None:
    async with running() as deck:
        await deck.shows("support-lora-r16")
        await deck.press("p")
        await deck.shows("▸B ● running")
        await opened(deck)
        assert "B 1." not in deck.text("#loss").splitlines()[0]


async def test_the_baseline_is_found_by_typing() -> None:
    async with running() as deck:
        await opened(deck)
        await deck.press("p")
        await deck.until(lambda: deck.place == "PickScreen")
        await deck.press(*"qlora dolly")
        await deck.shows("1 of 6", "dolly-qlora-r16")
        await deck.press("backspace", *"x")
        await deck.shows("nothing has these words")
        await deck.press("enter")
        assert deck.place == "PickScreen"
        await deck.press(*["backspace"] * 12, *"lora-r8", "enter")
        await deck.until(lambda: deck.app.baseline == "mbx1z0")
        await deck.shows("B 1.100")


async def test_the_x_axis_goes_through_what_the_run_knows() -> None:
    async with running() as deck:
        await opened(deck)
        for words, end in (("x axis: tokens", "6.7M tokens"), ("x axis: time", "53 min"), ("x axis: epoch", "3 epoch")):
            await deck.press("x")
            await deck.shows(words, end)
        await deck.press("x")
        await deck.until(lambda: deck.text("#loss").endswith("414 step"))


async def test_other_prompts_with_the_arrows(size: Size) -> None:
    async with running(size=size) as deck:
        await opened(deck)
        await deck.shows("prompt 1 of 2: My kettle", "Keep the kettle")
        await deck.press("right")
        await deck.shows("prompt 2 of 2: Where is my order?", "Let me look.")
        await deck.press("left")
        await deck.shows("prompt 1 of 2")


async def test_wide_samples_begin_before_the_training() -> None:
    async with running(size=(160, 48)) as deck:
        await opened(deck)
        rows = deck.text("#samples").splitlines()
        assert rows[1].split()[0] == "base"
        assert "Cracked lids are common" in rows[1]
        assert "230" in rows[-1]


@pytest.mark.parametrize(
    ("digit", "pane"), [("4", "log"), ("2", "curves"), ("7", "checkpoints"), ("8", "events"), ("9", "facts")]
)
async def test_a_pane_without_room_gets_the_whole_screen(digit: str, pane: str) -> None:
    async with running() as deck:
        await opened(deck)
        await deck.press(digit)
        await deck.until(lambda: deck.widget(f"#{pane}").size.width == 80 and deck.widget(f"#{pane}").has_focus)
        assert not deck.widget("#loss").display
        await deck.press("escape")
        await deck.until(lambda: deck.widget("#loss").display)
        assert deck.place == "LiveScreen"


async def test_a_pane_alone_at_40x12() -> None:
    async with running(size=(40, 12)) as deck:
        await deck.press("enter")
        await deck.shows("health   1 note: 4.7 GiB")
        await deck.press("4")
        await deck.shows("Log   output.log, following", "step 262.0")
        await deck.press("1")
        await deck.shows("Loss", "0.926")
        await deck.press("escape")
        await deck.shows("memory   19.3 of 24.0 GiB     plan 19.2")


async def test_the_log_is_searched_backwards() -> None:
    async with running() as deck:
        await opened(deck)
        await deck.press("slash")
        await deck.until(lambda: deck.widget("#search").has_focus)
        await deck.press(*"step 2")
        await deck.shows("lines with step 2")
        await deck.press(*"0.0")
        await deck.shows("1 line with step 20.0", "step 20.0  loss")
        await deck.press("enter")
        await deck.until(lambda: deck.widget("#log").has_focus)
        assert "step 262.0" not in deck.text("#log")
        await deck.press("escape")
        await deck.press("G")
        await deck.shows("output.log, following", "step 262.0")


async def test_a_log_that_is_scrolled_stands_still_while_lines_come() -> None:
    class Grows(Changed):
        more: tuple[str, ...] = ()

        def changed(self, shown: RunDetail) -> RunDetail:
            return replace(shown, log=shown.log + self.more)

    services = Grows()
    async with running(services) as deck:
        await opened(deck)
        await deck.press("4", "pageup", "pageup")
        await deck.until(lambda: "lines further on" in deck.text("#log"))
        before = deck.text("#log").splitlines()[1:]
        services.more = ("new line one", "new line two")
        last = deck.app.last
        await deck.until(lambda: deck.app.last is not last)
        await deck.pilot.pause()
        assert deck.text("#log").splitlines()[1:] == before
        await deck.press("G")
        await deck.shows("new line two")


async def test_copying_goes_to_the_clipboard_of_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[str] = []
    monkeypatch.setattr(TuneDeckApp, "copy_to_clipboard", lambda self, text: copied.append(text))
    async with running() as deck:
        await opened(deck)
        await deck.press("4", "Y")
        await deck.shows("copied 131 lines")
        assert copied[0].splitlines()[0].startswith("step 2.0")
        await deck.press("6", "Y")
        await deck.until(lambda: len(copied) == 2)
        assert "How it is known" in copied[1]


async def test_everything_known_of_the_curves_and_the_run() -> None:
    async with running() as deck:
        await opened(deck)
        await deck.press("1", "i")
        await deck.shows("Every curve of this run", "learning_rate", "least", "131")
        await deck.press("escape")
        await deck.until(lambda: deck.place == "LiveScreen")
        await deck.press("9", "i")
        await deck.shows("training.micro_batch", "LoRA default")


async def test_what_helps_a_failed_run(size: Size, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = next(one for one in runs() if one.status == "failed")
    async with running(FakeServices(lines=(failed,)), size) as deck:
        await deck.press("enter")
        await deck.shows("▸ try again", "change, retry", "whole log", "Enter do it  r try again  f change, retry")
        await deck.press("down")
        await deck.shows("▸ change, retry")
        assert (await asked_by(deck, monkeypatch, "enter")).run_id == failed.id
        await deck.press("up", "enter")
        await deck.until(lambda: ("resume", failed.id) in deck.services.calls)
        await deck.press("i")
        await deck.until(lambda: deck.widget("#log").size.width == size[0])
        assert "GatedRepoError" in deck.text("#log")


async def test_a_finding_with_a_remedy_helps_first(monkeypatch: pytest.MonkeyPatch) -> None:
    class Nan(Changed):
        def changed(self, shown: RunDetail) -> RunDetail:
            finding = Finding(
                "nonfinite", "warning", "loss is NaN", "", "Lower it.", (("training.learning_rate", 2e-5),)
            )
            return replace(
                shown, health=(finding,), error_kind="nonfinite", error_title="The loss is no longer a number"
            )

    failed = next(one for one in runs() if one.status == "failed")
    async with running(Nan(lines=(failed,))) as deck:
        await deck.press("enter")
        await deck.shows("▸ fork with       learning_rate 2e-5: Lower it.")
        assert (await asked_by(deck, monkeypatch, "f")).changes == (("training.learning_rate", 2e-5),)


async def test_turning_to_another_run_never_shows_an_empty_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_module, "PATIENCE", 60.0)
    lines = tuple(one for one in runs() if one.status in ("running", "finished"))
    async with running(FakeServices(lines=lines)) as deck:
        await opened(deck)
        seen: list[str] = []
        show = type(deck.widget("#loss")).show

        def noting(self, lines):  # type: ignore[no-untyped-def]
            show(self, lines)
            seen.append(self.text)

        monkeypatch.setattr(type(deck.widget("#loss")), "show", noting)
        await deck.press("right_square_bracket", "right_square_bracket")
        await deck.shows("Runs › support-qlora-r16", "train 0.953")
        assert seen
        assert not [text for text in seen if "no points" in text]


async def test_a_run_that_cannot_be_read_at_once_shows_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stuck(FakeServices):
        def snapshot(self, selected: str | None, baseline: str | None = None) -> Snapshot:
            found = super().snapshot(selected, baseline)
            return replace(found, detail=None) if selected == "mbx2k1" else found

    async with running(Stuck()) as deck:
        await opened(deck)
        await deck.press("right_square_bracket", "right_square_bracket")
        await deck.shows("Runs › support-lora-r32", "no points were recorded")


async def test_a_key_acts_on_the_run_that_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the next run is still being read, the one on screen is the one that is meant."""
    monkeypatch.setattr(live_module, "PATIENCE", 60.0)

    class Stuck(FakeServices):
        def snapshot(self, selected: str | None, baseline: str | None = None) -> Snapshot:
            found = super().snapshot(selected, baseline)
            return replace(found, detail=None) if selected == "mbx4aa" else found

    async with running(Stuck()) as deck:
        await opened(deck)
        await deck.press("right_square_bracket", "w")
        await deck.until(lambda: ("checkpoint", "mbx3q7") in deck.services.calls)


def test_the_fakes_have_what_these_tests_need() -> None:
    shown = detail(runs()[0])
    assert shown.health[0].changes
    assert len({sample.prompt for sample in shown.samples}) == 2


SIZES = [(80, 24), (100, 30), (120, 30), (160, 48), (200, 60), (60, 20), (40, 12), (24, 6), (20, 5), (5, 2), (1, 1)]
KEYS = ("z", "z", "v", "x", "y", "plus", "1", "4", "6", "G", "9", "i", "escape", "slash", "a", "escape")


@pytest.mark.parametrize("size", SIZES)
async def test_every_size_and_every_key(size: Size) -> None:
    kinds = tuple(one for one in runs() if one.id in ("mbx3q7", "mbx1b2"))
    async with running(FakeServices(lines=kinds), size=size, open_run="mbx3q7") as deck:
        for kind in kinds:
            deck.app.post_message(OpenRun(kind.id))
            await deck.until(lambda: deck.place == "LiveScreen")
            await deck.press(*KEYS)
        await deck.pilot.resize_terminal(80, 24)
        await deck.pilot.resize_terminal(*size)
        await deck.until(lambda: deck.app.screen.size == size)
