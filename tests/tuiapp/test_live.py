"""One run, live: the curve and its numbers, keys, dialogs, the error panel."""

from dataclasses import replace

import pytest

from engine.errors import RunError
from tests.tuiapp.conftest import Driver, running
from tests.tuiapp.fakes import NOW, FakeServices, run, runs
from tuiapp.screens.live import LiveScreen
from tuiapp.widgets import chart_pane

Size = tuple[int, int]
BRAILLE = range(0x2801, 0x2900)


@pytest.fixture(autouse=True)
def _charts_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """How seldom charts are drawn is tested by itself."""
    monkeypatch.setattr(chart_pane, "CELLS_A_SECOND", 10**9)


async def opened(deck: Driver) -> LiveScreen:
    """Home's first run, with its detail."""
    await deck.press("enter")
    await deck.until(lambda: deck.place == "LiveScreen")
    await deck.shows("train 0.926")
    assert isinstance(deck.app.screen, LiveScreen)
    return deck.app.screen


def braille(text: str) -> int:
    """How many cells of a braille line there are."""
    return sum(ord(character) in BRAILLE for character in text)


async def test_the_curve_and_the_numbers(size: Size) -> None:
    async with running(size=size) as deck:
        await opened(deck)
        await deck.shows("Runs › support-lora-r16", "● running", "gpubox", "step 262 of 414", "63 %", "epoch 1.90 of 3")
        await deck.shows("ends ", "eval 1.106 best", "19.3", "24.0", "5.9e-5", "414 step")
        assert braille(deck.text("#loss")) > 20
        assert "o" in deck.text("#loss").split("best")[1]


async def test_panes_by_size() -> None:
    async with running(size=(80, 24)) as deck:
        await opened(deck)
        await deck.shows("Sample", "Keep the kettle", "Health  · note  4.7 GiB unused", "Memory")
        assert "Checkpoints" not in deck.screen()
        assert "output.log" not in deck.screen()
    async with running(size=(160, 48)) as deck:
        await opened(deck)
        await deck.shows(
            "Gradient norm",
            "Learning rate",
            "Speed",
            "Samples",
            "Log",
            "Events",
            "Checkpoints",
            "Run   mbx3q7",
        )
        await deck.shows("* ", "removed", "supervisor pid 41199: closing this window changes nothing")


async def test_a_new_snapshot_is_drawn_and_the_focus_stays(size: Size) -> None:
    async with running(size=size) as deck:
        await opened(deck)
        await deck.press("tab")
        focused = deck.app.focused
        assert focused is not None
        before = braille(deck.text("#loss"))
        first, *others = deck.services.lines
        deck.services.lines = (replace(first, step=400), *others)
        deck.services.now = NOW + 60
        await deck.shows("step 400 of 414", "96 %")
        assert braille(deck.text("#loss")) > before
        assert deck.app.focused is focused
        assert "▌" in deck.text(f"#{focused.id}")


async def test_stop_asks_first_and_saves(size: Size) -> None:
    async with running(size=size) as deck:
        await opened(deck)
        await deck.press("s")
        await deck.shows("Stop support-lora-r16?", "▸ Keep running", "Stop and save", "checkpoint at step 262")
        await deck.shows("(0.5 GiB)", "support-lora-r64 waits in the queue")
        await deck.press("enter")
        await deck.until(lambda: deck.place == "LiveScreen")
        assert deck.services.calls == []
        await deck.press("s")
        await deck.until(lambda: deck.place == "AskScreen")
        await deck.press("right", "enter")
        await deck.until(lambda: ("stop", "mbx3q7", False) in deck.services.calls)
        await deck.shows("asked to stop; it saves a checkpoint first")


async def test_stop_now_saves_nothing() -> None:
    async with running() as deck:
        await opened(deck)
        await deck.press("s")
        await deck.until(lambda: deck.place == "AskScreen")
        await deck.press("right", "right", "enter")
        await deck.until(lambda: ("stop", "mbx3q7", True) in deck.services.calls)


async def test_s_in_the_dialog_stops_and_saves() -> None:
    async with running() as deck:
        await opened(deck)
        await deck.press("s")
        await deck.until(lambda: deck.place == "AskScreen")
        await deck.press("s")
        await deck.until(lambda: ("stop", "mbx3q7", False) in deck.services.calls)


async def test_a_refused_stop_is_a_dialog_in_words() -> None:
    class Refusing(FakeServices):
        def stop(self, run_id: str, now: bool = False) -> None:
            raise RunError("The run is not running", "It ended a moment ago.", "r resumes it.")

    async with running(Refusing()) as deck:
        await opened(deck)
        await deck.press("s")
        await deck.until(lambda: deck.place == "AskScreen")
        await deck.press("s")
        await deck.shows("The run is not running", "It ended a moment ago. r resumes it.", "Close")
        await deck.press("enter")
        await deck.until(lambda: deck.place == "LiveScreen")


async def test_the_screen_stands_still_under_a_dialog() -> None:
    async with running() as deck:
        live = await opened(deck)
        await deck.press("s")
        await deck.until(lambda: deck.place == "AskScreen")
        before, shown = deck.app.last, live.snapshot
        first, *others = deck.services.lines
        deck.services.lines = (replace(first, step=300), *others)
        await deck.until(lambda: deck.app.last is not before)
        await deck.pilot.pause()
        assert live.snapshot is shown
        await deck.press("escape")
        await deck.shows("step 300 of 414")


async def test_resume_is_offered_where_it_helps(size: Size) -> None:
    async with running(FakeServices(lines=runs()[-1:]), size) as deck:
        await deck.press("enter")
        await deck.until(lambda: deck.place == "LiveScreen")
        await deck.until(lambda: "r resume" in deck.text("#keys"))
        assert "s stop" not in deck.text("#keys")
        await deck.press("r")
        await deck.until(lambda: ("resume", "mbw8d4") in deck.services.calls)
        await deck.shows("asked to go on from the last checkpoint")


async def test_a_failed_run_has_a_panel_and_no_traceback(size: Size) -> None:
    failed = next(one for one in runs() if one.status == "failed")
    async with running(FakeServices(lines=(failed,)), size) as deck:
        await deck.press("enter")
        await deck.shows("✗ The model could not be downloaded", "The hub answered 403", "What helps", "hf auth login")
        await deck.shows("Last words", "GatedRepoError", "✗ failed")
        await deck.until(lambda: deck.app.focused is not None and deck.app.focused.id == "error")


async def test_a_crashed_run_still_has_its_curves() -> None:
    crashed = next(one for one in runs() if one.status == "crashed")
    async with running(FakeServices(lines=(crashed,))) as deck:
        await deck.press("enter")
        await deck.shows("The training process ended without a word")
        await deck.press("v")
        await deck.shows("Loss   train", "view: loss")
        assert braille(deck.text("#loss")) > 20


async def test_zoom_gives_one_pane_the_room_and_back(size: Size) -> None:
    async with running(size=size) as deck:
        await opened(deck)
        await deck.until(lambda: deck.app.focused is not None)
        await deck.press("z")
        await deck.until(lambda: deck.widget("#loss").size.width == size[0])
        assert not deck.widget("#memory").display
        await deck.press("escape")
        await deck.until(lambda: deck.widget("#memory").display)
        assert deck.place == "LiveScreen"


async def test_the_log_scrolls_when_zoomed() -> None:
    async with running() as deck:
        await opened(deck)
        await deck.until(lambda: deck.app.focused is not None)
        await deck.press("4")  # it has no room beside the others here
        await deck.until(lambda: deck.widget("#log").size.height > 10)
        await deck.until(lambda: "step 262" in deck.text("#log"))
        await deck.press("g")
        await deck.until(lambda: "step 2.0" in deck.text("#log"))


async def test_view_goes_through_the_curves() -> None:
    async with running() as deck:
        await opened(deck)
        names = ("Learning rate", "Gradient norm", "Speed, tokens a second", "GPU utilisation, percent", "GPU power, W",
                 "GPU temperature, °C", "MFU, percent", "Waiting for data", "Loss")  # fmt: skip
        for name in names:
            await deck.press("v")
            await deck.until(lambda name=name: name in deck.text("#loss").splitlines()[0])  # type: ignore[misc]


async def test_log_axis_and_smoothing_are_said() -> None:
    async with running() as deck:
        await opened(deck)
        await deck.press("y")
        await deck.shows("y axis: logarithmic")
        await deck.press("plus")
        await deck.shows("smoothing 0.6")
        await deck.press("y")
        await deck.shows("y axis: linear", "smoothed 0.6")
        await deck.press("minus", "minus")
        await deck.shows("no smoothing")


async def test_brackets_go_through_the_runs_of_the_list() -> None:
    async with running() as deck:
        await opened(deck)
        await deck.press("left_square_bracket")
        await deck.shows("this is the first run of the list")
        await deck.press("right_square_bracket", "right_square_bracket")
        await deck.shows("Runs › support-lora-r32", "took ")
        await deck.press("q")
        await deck.until(lambda: deck.place == "HomeScreen")
        await deck.shows("▸  ✓ finished  support-lora-r32")


async def test_a_queued_run_waits_with_dashes(size: Size) -> None:
    async with running(FakeServices(lines=runs()[1:2]), size) as deck:
        await deck.press("enter")
        await deck.shows("○ queued", "no points yet", "looked at after the first steps", "not begun")


async def test_gaps_are_marked(size: Size, monkeypatch: pytest.MonkeyPatch) -> None:
    nan = float("nan")

    class WithNan(FakeServices):
        def snapshot(self, selected: str | None, baseline: str | None = None):  # type: ignore[no-untyped-def]
            shown = super().snapshot(selected, baseline)
            if shown.detail is None:
                return shown
            curves = dict(shown.detail.curves)
            curves["loss"] = (*curves["loss"][:60], (124.0, nan), *curves["loss"][61:])
            return replace(shown, detail=replace(shown.detail, curves=curves))

    async with running(WithNan(), size) as deck:
        await opened(deck)
        await deck.until(lambda: "x" in deck.text("#loss").splitlines()[-1])


async def test_open_run_starts_with_the_live_screen() -> None:
    async with running(open_run="mbx3q7") as deck:
        await deck.until(lambda: deck.place == "LiveScreen")
        await deck.shows("train 0.926")
        await deck.press("escape")
        await deck.until(lambda: deck.place == "HomeScreen")
        await deck.shows("support-lora-r64")


async def test_a_run_that_does_not_exist_is_a_sentence() -> None:
    async with running(open_run="nope") as deck:
        await deck.shows("No run nope in ~/ft/experiments.db")


async def test_40x12_and_one_line() -> None:
    async with running(size=(40, 12)) as deck:
        await deck.press("enter")
        await deck.shows("support-lora-r16", "● running", "train 0.926", "19.3 of 24.0 GiB", "tok/s", "q back")
        await deck.pilot.resize_terminal(20, 5)
        await deck.until(lambda: deck.screen().startswith("● 63 %  19.3  "))


async def test_samples_and_logs_are_harmless(size: Size) -> None:
    class Evil(FakeServices):
        def snapshot(self, selected: str | None, baseline: str | None = None):  # type: ignore[no-untyped-def]
            shown = super().snapshot(selected, baseline)
            if shown.detail is None:
                return shown
            sample = replace(shown.detail.samples[-1], text="\x1b[2J[red]boo[/red] [/] \x9b5n")
            log = ("\x1b]52;c;AAAA\x07[link=x]log", "plain")
            return replace(shown, detail=replace(shown.detail, samples=(sample,), log=log))

    async with running(Evil(), size) as deck:
        await opened(deck)
        await deck.shows("[red]boo[/red] [/]")
        if size == (80, 24):
            await deck.press("4")
        await deck.shows("[link=x]log")
        shown = deck.screen()
        assert all(character.isprintable() or character == "\n" for character in shown)


async def test_help_lists_only_keys_that_exist_here(size: Size) -> None:
    async with running(size=size) as deck:
        await opened(deck)
        await deck.until(lambda: deck.app.focused is not None)
        await deck.press("question_mark")
        await deck.shows(
            "Help: Live run",
            "How wrong the model is",
            "stop, saved first",
            "palette: all commands",
        )
        assert "resume, try again" not in deck.screen()
        if size == (160, 48):
            await deck.shows("smoother, rougher", "a baseline underneath")
        await deck.press("escape")
        await deck.until(lambda: deck.place == "LiveScreen")


async def test_the_palette_runs_commands_and_opens_runs() -> None:
    async with running() as deck:
        await deck.shows("support-lora-r16")
        await deck.press("ctrl+p")
        await deck.until(lambda: deck.place == "CommandPalette")
        await deck.press(*"tools")
        await deck.press("escape", "ctrl+p")
        await deck.until(lambda: deck.place == "CommandPalette")
        await deck.press(*"open dolly-lora")
        await deck.shows("Open dolly-lora-r16")
        await deck.press("enter")
        await deck.until(lambda: deck.place == "LiveScreen")
        await deck.shows("Runs › dolly-lora-r16")


@pytest.mark.parametrize("theme", ["dark", "light", "high"])
async def test_themes(theme: str) -> None:
    async with running(theme=theme) as deck:
        await deck.shows("● running")
        assert deck.app.theme == theme


async def test_several_cards_and_a_silent_driver() -> None:
    services = FakeServices()
    card = services.machine.gpus[0]
    cards = tuple(replace(card, index=i, name="NVIDIA H100 80GB HBM3") for i in range(8))
    services.machine = replace(services.machine, gpus=cards)
    async with running(services) as deck:
        await deck.shows("8 x H100", "154 of 192 GiB", "3.2 kW")
        services.machine = replace(services.machine, gpus=(), gpu_problem="NVML does not answer: driver 580.65")
        await deck.shows("GPU    –", "NVML does not answer")
        services.machine = replace(services.machine, gpus=(card, replace(card, index=1, utilization=None)))
        await deck.shows("RTX 4090  0 ", " 1 ", "–")


async def test_quitting_does_not_wait_for_a_slow_snapshot() -> None:
    import threading
    import time

    release = threading.Event()

    class Slow(FakeServices):
        def snapshot(self, selected: str | None, baseline: str | None = None):  # type: ignore[no-untyped-def]
            if selected == "mbx4aa":
                release.wait(20)
            return super().snapshot(selected, baseline)

    async with running(Slow(lines=(run("a", "first"), runs()[1]))) as deck:
        await deck.press("j")
        begun = time.monotonic()
        await deck.press("ctrl+q")
        await deck.until(lambda: not deck.app.is_running)
    assert time.monotonic() - begun < 1.5
    release.set()
